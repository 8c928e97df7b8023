//! A linear layer: rows times weights, plus a bias. One operator, so that the bias costs no pass of its own, and none of
//! the three products copies an operand that is long.

use super::kernel::{Kernel, Saved, apply};
use super::matmul::{Matrix, Start, correlate, matrix_at, multiplied};
use super::{CpuTensor, numbers, tensor};
use burn::backend::DispatchTensor;

/// `x · weights + bias` of `[.., k]`, `[k, n]` and `[n]`. The weights may be a transposed view.
pub fn linear(x: DispatchTensor, weights: DispatchTensor, bias: Option<DispatchTensor>) -> DispatchTensor {
    apply(Linear, [Some(x), Some(weights), bias].into_iter().flatten())
}

#[derive(Debug)]
struct Linear;

impl Kernel for Linear {
    fn forward(&self, inputs: Vec<CpuTensor>) -> (CpuTensor, Vec<CpuTensor>) {
        let (x, weights) = (inputs[0].to_contiguous(), matrix_at(&inputs[1], 0));
        let bias = inputs.get(2).map(CpuTensor::to_contiguous);
        let [k, n] = weights.shape;
        let x_rows = Matrix::rows(numbers(&x), k);
        let start = bias.as_ref().map_or(Start::Zero, |bias| Start::Row(numbers(bias)));
        let y = multiplied(x_rows, weights, start);
        let mut shape = x.layout().shape().to_vec();
        *shape.last_mut().expect("x has rows") = n;
        (tensor(y, shape), vec![])
    }

    fn keeps(&self, input: usize) -> bool {
        input < 2
    }

    fn backward(&self, saved: Saved, gradient: CpuTensor, wanted: &[bool]) -> Vec<Option<CpuTensor>> {
        let (x, weights, gradient) = (saved.inputs[0].to_contiguous(), &saved.inputs[1], gradient.to_contiguous());
        let weights = matrix_at(weights, 0);
        let [k, n] = weights.shape;
        let (x_rows, g) = (Matrix::rows(numbers(&x), k), Matrix::rows(numbers(&gradient), n));
        let by_input = wanted[0].then(|| {
            let dx = multiplied(g, weights.transposed(), Start::Zero);
            tensor(dx, x.layout().shape().clone())
        });
        let bias = wanted.get(2).is_some_and(|&bias| bias);
        let (mut by_weights, mut by_bias) = (None, None);
        if wanted[1] || bias {
            // In the order in which the weights lie, so that no one need turn it.
            let straight = weights.strides[1] == 1;
            let (a, b) = if straight { (x_rows, g) } else { (g, x_rows) };
            let a = if wanted[1] { a } else { Matrix { shape: [a.shape[0], 0], ..a } };
            let (dw, sums) = correlate(a, b, bias.then_some(g));
            by_bias = bias.then(|| tensor(sums, [n]));
            by_weights = wanted[1].then(|| match straight {
                true => tensor(dw, [k, n]),
                false => tensor(dw, [n, k]).transpose(0, 1),
            });
        }
        [by_input, by_weights, by_bias].into_iter().take(wanted.len()).collect()
    }
}
