//! Two-dimensional convolution, forward and backward, alone or with what follows it in a network that trains.

mod geometry;
mod kernels;
mod norm;
mod passes;
#[cfg(test)]
mod tests;

use super::kernel::{self, Kernel, Saved, apply};
use super::{CpuTensor, numbers, tensor};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, module};
use geometry::Geometry;
pub use norm::{ConvNorm, conv_norm};

/// Convolution of `[batch, in, height, width]` with `[out, in / groups, kernel height, kernel width]`.
pub fn conv2d(x: Tensor<4>, weights: Tensor<4>, options: ConvOptions<2>) -> Tensor<4> {
    let operands = [x.into_dispatch(), weights.into_dispatch()];
    if kernel::takes(&operands) {
        return Tensor::from_dispatch(apply(Conv { options }, operands));
    }
    let [x, weights] = operands.map(Tensor::<4>::from_dispatch);
    module::conv2d(x, weights, None, options)
}

#[derive(Debug)]
struct Conv {
    options: ConvOptions<2>,
}

impl Kernel for Conv {
    fn forward(&self, inputs: Vec<CpuTensor>) -> (CpuTensor, Vec<CpuTensor>) {
        let [x, weights] = [0, 1].map(|i| inputs[i].to_contiguous());
        let g = geometry(&x, &weights, &self.options);
        let (y, _) = passes::forward(numbers(&x), numbers(&weights), &g, false);
        (tensor(y, result_shape(&g)), vec![])
    }

    fn backward(&self, saved: Saved, gradient: CpuTensor, wanted: &[bool]) -> Vec<Option<CpuTensor>> {
        let [x, weights] = [0, 1].map(|i| saved.inputs[i].to_contiguous());
        let (g, gradient) = (geometry(&x, &weights, &self.options), gradient.to_contiguous());
        let (gradient, [channels, h, w]) = (numbers(&gradient), g.output);
        let plane = |image: usize, channel: usize, out: &mut [f32]| {
            out.copy_from_slice(&gradient[(image * channels + channel) * h * w..][..h * w]);
        };
        let made = passes::backward(numbers(&x), numbers(&weights), &g, plane, [wanted[0], wanted[1]]);
        let shaped = |(made, like): (Option<Vec<f32>>, &CpuTensor)| Some(tensor(made?, like.layout().shape().clone()));
        made.into_iter().zip([&x, &weights]).map(shaped).collect()
    }
}

fn geometry(x: &CpuTensor, weights: &CpuTensor, options: &ConvOptions<2>) -> Geometry {
    Geometry::new(x.layout().shape().dims(), weights.layout().shape().dims(), options)
}

fn result_shape(g: &Geometry) -> [usize; 4] {
    let [channels, h, w] = g.output;
    [g.images, channels, h, w]
}
