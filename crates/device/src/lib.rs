//! From trained networks to programs of a board.
//!
//! Modules in the order in which they build on each other: [`quant`] (calibration, integers), [`program`] (the IR of
//! devices: lowering, reference interpreter, memory planner), [`target`] (boards, cost model, toolchains), [`emit`]
//! (generated crates), [`bench`] (measuring).

pub mod bench;
pub mod emit;
pub mod program;
pub mod quant;
pub mod target;
