//! Batch norm by the batch's own statistics (Ioffe and Szegedy 2015), with a ReLU fused in where one follows.
//!
//! One pass reads the input for its mean, one for its variance, one writes the output; nothing in between is stored.
//! The backward pass computes again which outputs the ReLU cut off, which costs less than reading the output.

mod kernels;
#[cfg(test)]
mod tests;

use super::{CpuTensor, f32_slice, on_cpu};
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, AutodiffBackend, Backend, Dispatch, Flex, TensorData, backend_extension};
use burn::tensor::{Tensor, activation, module};
use kernels::{Channel, GradientSums, InputGradient, Moment, Normalise};
use rayon::prelude::*;

/// What batch norm in training returns.
pub struct BatchNorm {
    /// `[batch, channels, height, width]`
    pub output: Tensor<4>,
    /// The batch's mean per channel. No gradient flows through it.
    pub mean: Tensor<1>,
    /// The batch's biased variance per channel. No gradient flows through it.
    pub variance: Tensor<1>,
}

/// Normalises `[batch, channels, height, width]`, and a ReLU if wanted.
pub fn batch_norm_train(x: Tensor<4>, scale: Tensor<1>, bias: Tensor<1>, epsilon: f64, relu: bool) -> BatchNorm {
    let x = x.into_dispatch();
    if on_cpu(&x) {
        let (scale, bias) = (scale.into_dispatch(), bias.into_dispatch());
        let (output, mean, variance) = <Dispatch as Normalisation>::normalise(x, scale, bias, epsilon, relu);
        let [mean, variance] = [mean, variance].map(Tensor::from_dispatch);
        return BatchNorm { output: Tensor::from_dispatch(output), mean, variance };
    }
    let result = module::batch_norm_train(Tensor::<4>::from_dispatch(x), scale, bias, epsilon);
    let output = if relu { activation::relu(result.output) } else { result.output };
    BatchNorm { output, mean: result.mean, variance: result.variance }
}

/// The operator that burn dispatches.
#[backend_extension(Flex, Autodiff)]
pub trait Normalisation: Backend {
    /// Output, mean, variance.
    fn normalise(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
        relu: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// Forward and backward by backend; what autodiff is built on.
pub trait NormalisationKernels: Backend {
    /// Output, mean, variance.
    fn forward(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        form: Form,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);

    /// Gradients of input, scale and bias.
    fn backward(saved: Saved<FloatTensor<Self>>, gradient: FloatTensor<Self>) -> [FloatTensor<Self>; 3];
}

/// What an operator of a network fixes.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    epsilon: f32,
    relu: bool,
}

/// What the backward pass needs.
#[derive(Clone, Debug)]
pub struct Saved<T> {
    x: T,
    scale: T,
    bias: T,
    mean: T,
    variance: T,
    form: Form,
}

impl Normalisation for Flex {
    fn normalise(
        x: CpuTensor,
        scale: CpuTensor,
        bias: CpuTensor,
        epsilon: f64,
        relu: bool,
    ) -> (CpuTensor, CpuTensor, CpuTensor) {
        <Flex as NormalisationKernels>::forward(x, scale, bias, Form { epsilon: epsilon as f32, relu })
    }
}

/// The numbers of a tensor that [`batch_norm_train`] was given; networks are f32 throughout.
fn numbers(tensor: &CpuTensor) -> &[f32] {
    f32_slice(tensor).expect("batch norm is computed in f32")
}

impl NormalisationKernels for Flex {
    fn forward(x: CpuTensor, scale: CpuTensor, bias: CpuTensor, form: Form) -> (CpuTensor, CpuTensor, CpuTensor) {
        let [x, scale, bias] = [x, scale, bias].map(|t| t.to_contiguous());
        let shape: [usize; 4] = x.layout().shape().dims();
        let channels = shape[1];
        let (y, mean, variance) = forward(numbers(&x), shape, numbers(&scale), numbers(&bias), form);
        let vector = |values| CpuTensor::from_data(TensorData::new(values, [channels]));
        (CpuTensor::from_data(TensorData::new(y, shape)), vector(mean), vector(variance))
    }

    fn backward(saved: Saved<CpuTensor>, gradient: CpuTensor) -> [CpuTensor; 3] {
        let Saved { x, scale, bias, mean, variance, form } = saved;
        let [x, scale, bias, mean, variance, gradient] =
            [x, scale, bias, mean, variance, gradient].map(|t| t.to_contiguous());
        let shape: [usize; 4] = x.layout().shape().dims();
        let channels = channels_of(numbers(&scale), numbers(&bias), numbers(&mean), numbers(&variance), form);
        let (dx, dscale, dbias) = backward(numbers(&x), numbers(&gradient), shape, &channels, numbers(&variance), form);
        let vector = |values| CpuTensor::from_data(TensorData::new(values, [shape[1]]));
        [CpuTensor::from_data(TensorData::new(dx, shape)), vector(dscale), vector(dbias)]
    }
}

/// The node of the gradient graph.
#[derive(Debug)]
struct NormalisationBackward;

impl<B: NormalisationKernels> Backward<B, 3> for NormalisationBackward {
    type State = ([NodeId; 3], FloatTensor<B>, FloatTensor<B>, Form);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (nodes, mean, variance, form) = ops.state;
        let [x, scale, bias] = nodes.map(|node| checkpointer.retrieve_node_output::<FloatTensor<B>>(node));
        let made = B::backward(Saved { x, scale, bias, mean, variance, form }, gradient);
        for (node, gradient) in ops.parents.into_iter().zip(made) {
            if let Some(node) = node {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: NormalisationKernels, C: CheckpointStrategy> Normalisation for Autodiff<B, C> {
    fn normalise(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        epsilon: f64,
        relu: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let form = Form { epsilon: epsilon as f32, relu };
        let compute = |x: FloatTensor<Self>, scale: FloatTensor<Self>, bias: FloatTensor<Self>| {
            B::forward(x.into_primitive(), scale.into_primitive(), bias.into_primitive(), form)
        };
        let (output, mean, variance) = match NormalisationBackward
            .prepare::<C>([x.node(), scale.node(), bias.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(mut tracked) => {
                let nodes = [tracked.checkpoint(&x), tracked.checkpoint(&scale), tracked.checkpoint(&bias)];
                let (output, mean, variance) = compute(x, scale, bias);
                (tracked.finish((nodes, mean.clone(), variance.clone(), form), output), mean, variance)
            }
            OpsKind::UnTracked(plain) => {
                let (output, mean, variance) = compute(x, scale, bias);
                (plain.finish(output), mean, variance)
            }
        };
        (output, Self::from_inner(mean), Self::from_inner(variance))
    }
}

/// Output, mean and variance.
fn forward(x: &[f32], shape: [usize; 4], scale: &[f32], bias: &[f32], form: Form) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let [images, channels, h, w] = shape;
    let count = (images * h * w) as f64;
    let planes = |channel: usize| (0..images).map(move |image| &x[(image * channels + channel) * h * w..][..h * w]);
    let moments = |channel: usize| {
        // The variance around the mean, not as a difference of sums: with a mean far from zero that loses all digits.
        let moment =
            |mean: f32, squared| planes(channel).map(|x| Moment { x, mean, squared }.run()).sum::<f64>() / count;
        let mean = moment(0.0, false) as f32;
        (mean, moment(mean, true) as f32)
    };
    let (mean, variance): (Vec<f32>, Vec<f32>) = (0..channels).into_par_iter().map(moments).unzip();
    let by_channel = channels_of(scale, bias, &mean, &variance, form);
    let mut y = vec![0.0; x.len()];
    let images = y.par_chunks_mut(channels * h * w).zip(x.par_chunks(channels * h * w));
    images.for_each(|(y, x)| {
        let planes = y.chunks_exact_mut(h * w).zip(x.chunks_exact(h * w));
        planes.zip(&by_channel).for_each(|((y, x), &channel)| Normalise { x, channel, y }.run());
    });
    (y, mean, variance)
}

fn channels_of(scale: &[f32], bias: &[f32], mean: &[f32], variance: &[f32], form: Form) -> Vec<Channel> {
    let floor = if form.relu { 0.0 } else { f32::NEG_INFINITY };
    let one = |c: usize| {
        let scale = scale[c] / (variance[c] + form.epsilon).sqrt();
        Channel { mean: mean[c], scale, bias: bias[c], floor }
    };
    (0..mean.len()).map(one).collect()
}

/// Gradients of input, scale and bias:
/// `dβ = Σ g`, `dγ = Σ g · x̂`, `dx = γ/σ · (g − dβ/count − x̂ · dγ/count)` with `x̂ = (x − μ)/σ`.
fn backward(
    x: &[f32],
    gradient: &[f32],
    [images, channels, h, w]: [usize; 4],
    by_channel: &[Channel],
    variance: &[f32],
    form: Form,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let count = (images * h * w) as f32;
    let sums = |c: usize| {
        let mut sums = [0.0; 2];
        for image in 0..images {
            let at = (image * channels + c) * h * w;
            let (x, gradient) = (&x[at..][..h * w], &gradient[at..][..h * w]);
            let [plain, weighted] = GradientSums { x, gradient, channel: by_channel[c] }.run();
            sums = [sums[0] + plain, sums[1] + weighted];
        }
        sums.map(|sum| sum as f32)
    };
    let sums: Vec<[f32; 2]> = (0..channels).into_par_iter().map(sums).collect();
    let mut dx = vec![0.0; x.len()];
    let image = channels * h * w;
    let images = dx.par_chunks_mut(image).zip(x.par_chunks(image)).zip(gradient.par_chunks(image));
    images.for_each(|((dx, x), gradient)| {
        let planes = dx.chunks_exact_mut(h * w).zip(x.chunks_exact(h * w)).zip(gradient.chunks_exact(h * w));
        for (c, ((out, x), gradient)) in planes.enumerate() {
            let [plain, weighted] = sums[c];
            let slope = weighted / (count * (variance[c] + form.epsilon));
            let mean_gradient = plain / count;
            InputGradient { x, gradient, channel: by_channel[c], mean_gradient, slope, out }.run();
        }
    });
    let dscale = (0..channels).map(|c| sums[c][1] / (variance[c] + form.epsilon).sqrt()).collect();
    (dx, dscale, sums.iter().map(|sums| sums[0]).collect())
}
