//! Whom a student learns from: teachers as a run is given them, and those of them that run at every step.

mod engine;
mod live;
mod source;

pub use engine::Engine;
pub use live::LiveTeacher;
pub use source::{TeacherLogits, TeacherSource};
