//! Whom a student learns from, and those of them that are asked at every step.

mod engine;
mod live;
mod source;

pub use engine::Engine;
pub use live::Asked;
pub use source::{Source, TeacherLogits};
