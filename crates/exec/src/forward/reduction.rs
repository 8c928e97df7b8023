//! What is computed of all elements along axes.

use super::Value;
use burn::backend::Dispatch;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::Tensor;
use kdc_ir::graph::Reduction;

/// The mean along axes, which keep an extent of 1.
pub(super) fn mean(x: Value, axes: &[usize]) -> Value {
    axes.iter().fold(x, |x, &axis| x.map(|t| Dispatch::float_mean_dim(t, axis)))
}

/// Reduces along axes; the result has the extents of the others, in order.
pub(super) fn reduce(x: Value, reduction: Reduction, axes: &[usize]) -> Value {
    let shape = x.shape();
    let kept: Vec<usize> = (0..shape.len()).filter(|d| !axes.contains(d)).collect();
    let perm: Vec<usize> = kept.iter().chain(axes).copied().collect();
    let count = axes.iter().map(|&d| shape[d]).product();
    let x = x.map(|t| Dispatch::float_permute(t, &perm)).rows(count);
    let y = match reduction {
        Reduction::Sum => x.sum_dim(1),
        Reduction::Max => x.max_dim(1),
        Reduction::Min => x.min_dim(1),
        Reduction::Prod => product(x),
        Reduction::L1 => x.abs().sum_dim(1),
        Reduction::L2 => (x.clone() * x).sum_dim(1).sqrt(),
        Reduction::LogSum => x.sum_dim(1).log(),
        Reduction::LogSumExp => {
            // The largest is a constant here: its gradient would cancel.
            let largest = x.clone().detach().max_dim(1);
            (x - largest.clone()).exp().sum_dim(1).log() + largest
        }
        Reduction::SumSquare => (x.clone() * x).sum_dim(1),
    };
    let extents: Vec<usize> = kept.iter().map(|&d| shape[d]).collect();
    Value::from_tensor(y).reshape(&extents)
}

/// By halves: burn's own goes through logarithms, which negative numbers do not have.
fn product(mut x: Tensor<2>) -> Tensor<2> {
    while x.dims()[1] > 1 {
        let [_, n] = x.dims();
        let half = n / 2;
        let pairs = x.clone().narrow(1, 0, half) * x.clone().narrow(1, half, half);
        x = if n % 2 == 1 { Tensor::cat(vec![pairs, x.narrow(1, n - 1, 1)], 1) } else { pairs };
    }
    x
}

/// Running sums along an axis.
pub(super) fn cumulated(x: Value, axis: usize, exclusive: bool, reverse: bool) -> Value {
    let shape = x.shape();
    let x = x.around(axis);
    let turned = |x: Tensor<3>| if reverse { x.flip([1]) } else { x };
    let sums = turned(turned(x.clone()).cumsum(1));
    Value::from_tensor(if exclusive { sums - x } else { sums }).reshape(&shape)
}
