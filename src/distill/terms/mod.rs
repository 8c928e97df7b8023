//! The methods, one file each.

mod hard_label;
mod soft_label;

pub use hard_label::HardLabel;
pub use soft_label::SoftLabel;

use burn::tensor::{Int, Tensor, activation};

/// Cross-entropy per sample, `[B]`: `−log softmax(z)[y]`.
fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
    let [batch, _] = logits.dims();
    activation::log_softmax(logits, 1).gather(1, labels.reshape([batch, 1])).neg().reshape([batch])
}
