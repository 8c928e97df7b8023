//! The methods, one file each.

mod hard_label;
mod soft_label;

pub use hard_label::HardLabel;
pub use soft_label::SoftLabel;

use super::objective::StepValues;
use burn::tensor::{Int, Tensor, TensorData, activation};

/// Cross-entropy with the labels per sample, `[B]`, times what its label counts, times `factors` where there are some.
fn labelled(values: &StepValues, factors: Option<Vec<f32>>) -> Tensor<1> {
    let mut each = cross_entropy(values.student_logits.clone(), values.labels.clone());
    if let Some(weights) = &values.weights {
        each = each * weights.clone();
    }
    let Some(factors) = factors else { return each };
    let count = factors.len();
    let factors = Tensor::<1>::from_data(TensorData::new(factors, [count]), &each.device());
    each * factors
}

/// Cross-entropy per sample, `[B]`: `−log softmax(z)[y]`.
fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
    let [batch, _] = logits.dims();
    activation::log_softmax(logits, 1).gather(1, labels.reshape([batch, 1])).neg().reshape([batch])
}
