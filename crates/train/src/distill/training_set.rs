//! What a student is trained on: samples, their split, and whom it learns from.

use super::TeacherSource;
use crate::data::{Dataset, Task};

/// What a student is trained on.
#[derive(Clone)]
pub struct TrainingSet<'a> {
    pub samples: &'a dyn Dataset,
    /// Indices of the samples to learn from.
    pub train: &'a [usize],
    /// Indices of the samples that choose the best epoch: the last that is not worse than another by more than their
    /// standard error. Where empty, the last epoch is taken.
    pub validation: &'a [usize],
    /// Whom terms may learn from; the first is meant where a term names none.
    pub teachers: Vec<TeacherSource<'a>>,
    /// What answers stand for.
    pub answers: &'a Task,
}
