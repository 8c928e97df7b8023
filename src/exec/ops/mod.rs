//! Operators of our own.

use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, activation, module};

/// What batch norm in training returns.
pub struct BatchNorm {
    /// `[batch, channels, height, width]`
    pub output: Tensor<4>,
    /// The batch's mean per channel.
    pub mean: Tensor<1>,
    /// The batch's biased variance per channel.
    pub variance: Tensor<1>,
}

/// Convolution of `[batch, in, h, w]` with `[out, in / groups, kh, kw]`.
pub fn conv2d(x: Tensor<4>, weights: Tensor<4>, options: ConvOptions<2>) -> Tensor<4> {
    module::conv2d(x, weights, None, options)
}

/// Batch norm by the batch's own statistics, and a ReLU if wanted.
pub fn batch_norm_train(x: Tensor<4>, scale: Tensor<1>, bias: Tensor<1>, epsilon: f64, relu: bool) -> BatchNorm {
    let result = module::batch_norm_train(x, scale, bias, epsilon);
    let output = if relu { activation::relu(result.output) } else { result.output };
    BatchNorm { output, mean: result.mean, variance: result.variance }
}
