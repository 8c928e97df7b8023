//! `hard-label`: cross-entropy with the true class, the baseline every distillation is held against.

use super::labelled;
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

    fn parts(&self, values: &StepValues) -> Vec<(&'static str, Tensor<1>)> {
        vec![("labels", labelled(values, None).mean())]
    }
}
