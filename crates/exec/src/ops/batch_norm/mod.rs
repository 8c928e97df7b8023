//! Batch norm by the batch's own statistics (Ioffe and Szegedy 2015), with the addition of a skip connection and a ReLU
//! fused in where they follow.
//!
//! One pass reads the input for its moments, one writes the output; nothing in between is stored. The backward pass
//! computes again which outputs the ReLU cut off, which costs less than reading the output.

mod kernels;
#[cfg(test)]
mod tests;

use super::buffer::Room;
use super::kernel::{self, Kernel, Saved, apply_shared};
use super::{CpuTensor, numbers, tensor};
use burn::tensor::{Tensor, activation, module};
use kernels::{Channel, GradientSums, InputGradient, Masked, Normalise, ShiftedSums};
use rayon::prelude::*;
use std::sync::{Arc, OnceLock};

/// A batch's statistics, by channel. No gradient flows through them.
#[derive(Clone, Debug, Default)]
pub struct Statistics {
    pub mean: Vec<f32>,
    /// Biased: over the number of elements.
    pub variance: Vec<f32>,
}

/// What an operator of a network fixes.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    pub epsilon: f32,
    pub relu: bool,
}

/// Normalises `[batch, channels, height, width]`.
pub fn batch_norm_train(x: Tensor<4>, scale: Tensor<1>, bias: Tensor<1>, form: Form) -> (Tensor<4>, Statistics) {
    let operands = [x.into_dispatch(), scale.into_dispatch(), bias.into_dispatch()];
    if kernel::takes(&operands) {
        let kernel = Arc::new(BatchNorm { form, statistics: OnceLock::new() });
        let output = Tensor::from_dispatch(apply_shared(kernel.clone(), operands));
        return (output, kernel.statistics.get().cloned().unwrap_or_default());
    }
    let [x, scale, bias] = operands;
    let [scale, bias] = [scale, bias].map(Tensor::<1>::from_dispatch);
    let result = module::batch_norm_train(Tensor::<4>::from_dispatch(x), scale, bias, f64::from(form.epsilon));
    let output = if form.relu { activation::relu(result.output) } else { result.output };
    let [mean, variance] = [result.mean, result.variance].map(|t| t.inner().into_data().iter::<f32>().collect());
    (output, Statistics { mean, variance })
}

#[derive(Debug)]
struct BatchNorm {
    form: Form,
    statistics: OnceLock<Statistics>,
}

impl Kernel for BatchNorm {
    fn forward(&self, inputs: Vec<CpuTensor>) -> (CpuTensor, Vec<CpuTensor>) {
        let [x, scale, bias] = [0, 1, 2].map(|i| inputs[i].to_contiguous());
        let shape = x.layout().shape().dims();
        let statistics = Moments::statistics(&moments(numbers(&x), shape));
        let norm = Norm::new(statistics, numbers(&scale), numbers(&bias), self.form);
        let y = norm.output(numbers(&x), None, shape);
        _ = self.statistics.set(norm.statistics);
        (tensor(y, shape), vec![])
    }

    fn backward(&self, saved: Saved, gradient: CpuTensor, wanted: &[bool]) -> Vec<Option<CpuTensor>> {
        let [x, scale, bias] = [0, 1, 2].map(|i| saved.inputs[i].to_contiguous());
        let (gradient, shape) = (gradient.to_contiguous(), x.layout().shape().dims::<4>());
        let statistics = self.statistics.get().cloned().unwrap_or_default();
        let norm = Norm::new(statistics, numbers(&scale), numbers(&bias), self.form);
        let slopes = norm.slopes(numbers(&x), numbers(&gradient), shape);
        let [_, channels, h, w] = shape;
        let dx = || {
            let mut dx = Room::new(numbers(&x).len());
            dx.blocks(channels * h * w).enumerate().for_each(|(image, dx)| {
                for (channel, out) in dx.chunks_exact_mut(h * w).enumerate() {
                    slopes.input_gradient(image, channel, out);
                }
            });
            tensor(dx.full(), shape)
        };
        let [by_scale, by_bias] = slopes.parameters();
        let [by_scale, by_bias] = [by_scale, by_bias].map(|values| tensor(values, [channels]));
        vec![wanted[0].then(dx), wanted[1].then_some(by_scale), wanted[2].then_some(by_bias)]
    }
}

/// Count, mean and squared deviations of a part of a channel, to be merged exactly (Chan, Golub, LeVeque 1979).
#[derive(Clone, Copy, Debug, Default)]
pub struct Moments {
    count: f64,
    mean: f64,
    /// `Σ (x − mean)²`
    squares: f64,
}

impl Moments {
    /// Takes in more elements. Sums are of differences to one of them: with a mean far from zero the square of the mean
    /// would hide the variance.
    pub fn add(&mut self, x: &[f32]) {
        let Some(&shift) = x.first() else { return };
        let [plain, squares] = ShiftedSums { x, shift }.run();
        let count = x.len() as f64;
        let part = Moments { count, mean: f64::from(shift) + plain / count, squares: squares - plain * plain / count };
        *self = self.with(part);
    }

    pub fn merged(parts: impl Iterator<Item = Moments>) -> Moments {
        parts.fold(Moments::default(), Moments::with)
    }

    fn with(self, other: Moments) -> Moments {
        let count = self.count + other.count;
        if count == 0.0 {
            return self;
        }
        let apart = other.mean - self.mean;
        let mean = self.mean + apart * other.count / count;
        let between = apart * apart * self.count * other.count / count;
        Moments { count, mean, squares: self.squares + other.squares + between }
    }

    pub fn statistics(channels: &[Moments]) -> Statistics {
        Statistics {
            mean: channels.iter().map(|m| m.mean as f32).collect(),
            variance: channels.iter().map(|m| (m.squares / m.count).max(0.0) as f32).collect(),
        }
    }
}

/// Of each channel of `[images, channels, height, width]`.
fn moments(x: &[f32], [images, channels, h, w]: [usize; 4]) -> Vec<Moments> {
    let of_channel = |channel: usize| {
        let mut all = Moments::default();
        (0..images).for_each(|image| all.add(&x[(image * channels + channel) * h * w..][..h * w]));
        all
    };
    (0..channels).into_par_iter().map(of_channel).collect()
}

/// A batch norm with its numbers.
#[derive(Debug)]
pub struct Norm {
    pub statistics: Statistics,
    channels: Vec<Channel>,
    form: Form,
}

impl Norm {
    pub fn new(statistics: Statistics, scale: &[f32], bias: &[f32], form: Form) -> Norm {
        let floor = if form.relu { 0.0 } else { f32::NEG_INFINITY };
        let one = |c: usize| {
            let scale = scale[c] / (statistics.variance[c] + form.epsilon).sqrt();
            Channel { mean: statistics.mean[c], scale, bias: bias[c], floor }
        };
        let channels = (0..scale.len()).map(one).collect();
        Norm { statistics, channels, form }
    }

    /// The normalised elements, plus `skip`.
    pub fn output(&self, x: &[f32], skip: Option<&[f32]>, [_, channels, h, w]: [usize; 4]) -> Vec<f32> {
        let mut y = Room::new(x.len());
        let (image, plane) = (channels * h * w, h * w);
        y.blocks(image).enumerate().for_each(|(index, y)| {
            for (c, y) in y.chunks_exact_mut(plane).enumerate() {
                let at = index * image + c * plane;
                let skip = skip.map(|skip| &skip[at..][..plane]);
                Normalise { x: &x[at..][..plane], skip, channel: self.channels[c], y }.run();
            }
        });
        y.full()
    }

    /// The backward pass as far as sums over the batch go.
    pub fn slopes<'a>(&self, x: &'a [f32], gradient: &'a [f32], shape: [usize; 4]) -> Slopes<'a> {
        let [images, channels, h, w] = shape;
        let sums = |c: usize| {
            let mut sums = [0.0; 2];
            for image in 0..images {
                let at = (image * channels + c) * h * w;
                let (x, gradient) = (&x[at..][..h * w], &gradient[at..][..h * w]);
                let [plain, weighted] = GradientSums { x, gradient, channel: self.channels[c] }.run();
                sums = [sums[0] + plain, sums[1] + weighted];
            }
            sums.map(|sum| sum as f32)
        };
        let count = (images * h * w) as f32;
        let one = |c: usize| {
            let (channel, [plain, weighted]) = (self.channels[c], sums(c));
            let variance = self.statistics.variance[c] + self.form.epsilon;
            let (mean_gradient, slope) = (plain / count, weighted / (count * variance));
            Slope { channel, mean_gradient, slope, by_scale: weighted / variance.sqrt(), by_bias: plain }
        };
        Slopes { x, gradient, shape, channels: (0..channels).into_par_iter().map(one).collect() }
    }
}

/// A channel's part of the backward pass.
#[derive(Clone, Copy, Debug)]
struct Slope {
    channel: Channel,
    mean_gradient: f32,
    slope: f32,
    by_scale: f32,
    by_bias: f32,
}

/// Gradients of input, scale and bias:
/// `dβ = Σ g`, `dγ = Σ g · x̂`, `dx = γ/σ · (g − dβ/count − x̂ · dγ/count)` with `x̂ = (x − μ)/σ`.
#[derive(Debug)]
pub struct Slopes<'a> {
    x: &'a [f32],
    gradient: &'a [f32],
    shape: [usize; 4],
    channels: Vec<Slope>,
}

impl Slopes<'_> {
    /// Writes the input's gradient of one channel of one image.
    pub fn input_gradient(&self, image: usize, channel: usize, out: &mut [f32]) {
        let [_, channels, h, w] = self.shape;
        let at = (image * channels + channel) * h * w;
        let (x, gradient) = (&self.x[at..][..h * w], &self.gradient[at..][..h * w]);
        let Slope { channel, mean_gradient, slope, .. } = self.channels[channel];
        InputGradient { x, gradient, channel, mean_gradient, slope, out }.run();
    }

    /// Gradients of scale and bias.
    pub fn parameters(&self) -> [Vec<f32>; 2] {
        let of = |f: fn(&Slope) -> f32| self.channels.iter().map(f).collect();
        [of(|c| c.by_scale), of(|c| c.by_bias)]
    }
}

/// The gradient that passes a ReLU with output `y`.
pub fn masked(y: &[f32], gradient: &[f32]) -> Vec<f32> {
    const PART: usize = 16 * 1024;
    let mut out = Room::new(y.len());
    let parts = out.blocks(PART).zip(y.par_chunks(PART)).zip(gradient.par_chunks(PART));
    parts.for_each(|((out, y), gradient)| Masked { y, gradient, out }.run());
    out.full()
}
