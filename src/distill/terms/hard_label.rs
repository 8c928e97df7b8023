//! `hard-label`: cross-entropy with the true class, the baseline every distillation is held against.

use super::cross_entropy;
use crate::distill::objective::{Reads, StepValues, Term};
use burn::tensor::Tensor;

/// `CE(y, z_s)`
#[derive(Clone, Copy, Debug, Default)]
pub struct HardLabel;

impl Term for HardLabel {
    fn name(&self) -> &'static str {
        "hard-label"
    }

    fn reads(&self) -> Reads {
        Reads { labels: true, teacher_logits: false }
    }

    fn loss(&self, values: &StepValues) -> Tensor<1> {
        cross_entropy(values.student_logits.clone(), values.labels.clone()).mean()
    }
}
