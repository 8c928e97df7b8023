//! Data, teachers, and students that learn from them.
//!
//! Modules in the order in which they build on each other: [`data`] (samples), [`teacher`] (running a teacher and keeping its
//! outputs), [`student`] (deriving a student under budgets), [`distill`] (training it).

pub mod data;
pub mod distill;
pub mod student;
pub mod teacher;
