//! Two-dimensional convolution, forward and backward.

mod geometry;
mod kernels;
#[cfg(test)]
mod tests;

use super::{CpuTensor, f32_slice, on_cpu};
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::ModuleOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorData, backend_extension};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, module};
use geometry::{Geometry, OVERRUN};
use kernels::{Convolve, Correlate, rows};
use rayon::prelude::*;

/// Convolution of `[batch, in, height, width]` with `[out, in / groups, kernel height, kernel width]`.
pub fn conv2d(x: Tensor<4>, weights: Tensor<4>, options: ConvOptions<2>) -> Tensor<4> {
    let (x, weights) = (x.into_dispatch(), weights.into_dispatch());
    if on_cpu(&x) {
        return Tensor::from_dispatch(<Dispatch as Convolution>::convolve(x, weights, options));
    }
    module::conv2d(Tensor::from_dispatch(x), Tensor::<4>::from_dispatch(weights), None, options)
}

/// The operator that burn dispatches.
#[backend_extension(Flex, Autodiff)]
pub trait Convolution: Backend {
    fn convolve(x: FloatTensor<Self>, weights: FloatTensor<Self>, options: ConvOptions<2>) -> FloatTensor<Self>;
}

/// Forward and backward by backend; what autodiff is built on. The defaults are burn's own.
pub trait ConvolutionKernels: Backend {
    fn forward(x: FloatTensor<Self>, weights: FloatTensor<Self>, options: ConvOptions<2>) -> FloatTensor<Self> {
        Self::conv2d(x, weights, None, options)
    }

    /// Gradients of the input and of the weights, those that are wanted.
    fn backward(
        x: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        options: ConvOptions<2>,
        wanted: [bool; 2],
    ) -> [Option<FloatTensor<Self>>; 2] {
        let by_input =
            wanted[0].then(|| Self::conv2d_x_backward(x.clone(), weights.clone(), gradient.clone(), options.clone()));
        let by_weights = wanted[1].then(|| Self::conv2d_weight_backward(x, weights, gradient, options));
        [by_input, by_weights]
    }
}

impl Convolution for Flex {
    fn convolve(x: CpuTensor, weights: CpuTensor, options: ConvOptions<2>) -> CpuTensor {
        <Flex as ConvolutionKernels>::forward(x, weights, options)
    }
}

impl ConvolutionKernels for Flex {
    fn forward(x: CpuTensor, weights: CpuTensor, options: ConvOptions<2>) -> CpuTensor {
        let (x, weights) = (x.to_contiguous(), weights.to_contiguous());
        let (Some(xs), Some(ws)) = (f32_slice(&x), f32_slice(&weights)) else {
            return Flex::conv2d(x, weights, None, options);
        };
        let geometry = Geometry::new(x.layout().shape().dims(), weights.layout().shape().dims(), &options);
        let [channels, h, w] = geometry.output;
        tensor(forward(xs, ws, &geometry), [geometry.images, channels, h, w])
    }

    fn backward(
        x: CpuTensor,
        weights: CpuTensor,
        gradient: CpuTensor,
        options: ConvOptions<2>,
        wanted: [bool; 2],
    ) -> [Option<CpuTensor>; 2] {
        let (x, weights, gradient) = (x.to_contiguous(), weights.to_contiguous(), gradient.to_contiguous());
        let (Some(xs), Some(ws), Some(gs)) = (f32_slice(&x), f32_slice(&weights), f32_slice(&gradient)) else {
            let by_input = wanted[0]
                .then(|| Flex::conv2d_x_backward(x.clone(), weights.clone(), gradient.clone(), options.clone()));
            let by_weights = wanted[1].then(|| Flex::conv2d_weight_backward(x, weights, gradient, options));
            return [by_input, by_weights];
        };
        let (x_shape, w_shape) = (x.layout().shape().dims(), weights.layout().shape().dims());
        let geometry = Geometry::new(x_shape, w_shape, &options);
        let by_input = wanted[0].then(|| tensor(input_gradient(ws, gs, &geometry), x_shape));
        let by_weights = wanted[1].then(|| tensor(weight_gradient(xs, gs, &geometry), w_shape));
        [by_input, by_weights]
    }
}

fn tensor(values: Vec<f32>, shape: [usize; 4]) -> CpuTensor {
    CpuTensor::from_data(TensorData::new(values, shape))
}

/// The node of the gradient graph.
#[derive(Debug)]
struct ConvolutionBackward;

impl<B: ConvolutionKernels> Backward<B, 2> for ConvolutionBackward {
    type State = (NodeId, NodeId, ConvOptions<2>);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (x, weights, options) = ops.state;
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
        let weights = checkpointer.retrieve_node_output::<FloatTensor<B>>(weights);
        let wanted = [ops.parents[0].is_some(), ops.parents[1].is_some()];
        let made = B::backward(x, weights, gradient, options, wanted);
        for (node, gradient) in ops.parents.into_iter().zip(made) {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: ConvolutionKernels, C: CheckpointStrategy> Convolution for Autodiff<B, C> {
    fn convolve(x: FloatTensor<Self>, weights: FloatTensor<Self>, options: ConvOptions<2>) -> FloatTensor<Self> {
        match ConvolutionBackward.prepare::<C>([x.node(), weights.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut tracked) => {
                let state = (tracked.checkpoint(&x), tracked.checkpoint(&weights), options.clone());
                tracked.finish(state, B::forward(x.into_primitive(), weights.into_primitive(), options))
            }
            OpsKind::UnTracked(plain) => {
                plain.finish(B::forward(x.into_primitive(), weights.into_primitive(), options))
            }
        }
    }
}

/// Weights in the order in which a kernel reads them.
struct Packed {
    rows: kernels::Rows,
    weights: Vec<f32>,
}

/// Packs `weight(row, channel, tap)` as `[channels][taps][rows]`, block of rows by block of rows.
fn pack(count: usize, channels: usize, taps: usize, weight: impl Fn(usize, usize, usize) -> f32) -> Vec<Packed> {
    let one = |rows: kernels::Rows| {
        let mut weights = Vec::with_capacity(channels * taps * rows.computed);
        for channel in 0..channels {
            for tap in 0..taps {
                let row = |j| if j < rows.used { weight(rows.first + j, channel, tap) } else { 0.0 };
                weights.extend((0..rows.computed).map(row));
            }
        }
        Packed { rows, weights }
    };
    rows(count).map(one).collect()
}

/// `y[n][o] = Σ over c, t: w[o][c][t] · x[n][c]`, shifted by tap t.
fn forward(x: &[f32], weights: &[f32], g: &Geometry) -> Vec<f32> {
    let [in_channels, in_h, in_w] = g.input;
    let [out_channels, out_h, out_w] = g.output;
    let (ins, outs, taps) = (in_channels / g.groups, out_channels / g.groups, g.taps.len());
    let packed: Vec<Vec<Packed>> = (0..g.groups)
        .map(|group| pack(outs, ins, taps, |o, c, t| weights[((group * outs + o) * ins + c) * taps + t]))
        .collect();
    let offsets = g.offsets();
    let (in_image, out_plane) = (in_channels * in_h * in_w, out_h * out_w);
    let mut y = vec![0.0; g.images * out_channels * out_plane];
    let blocks = y.par_chunks_mut(g.block * out_channels * out_plane).zip(x.par_chunks(g.block * in_image));
    blocks.for_each(|(y, x)| {
        let images = x.len() / in_image;
        let scratch = g.load_input(x);
        let out_pitch = g.block * g.area() + OVERRUN;
        let mut out = vec![0.0; kernels::most_rows() * out_pitch];
        for (group, blocks) in packed.iter().enumerate() {
            for Packed { rows, weights } in blocks {
                Convolve {
                    source: &scratch[group * ins * g.input_pitch()..],
                    pitch: g.input_pitch(),
                    offsets: &offsets,
                    weights,
                    out: &mut out,
                    out_pitch,
                    len: images * g.area(),
                    rows: rows.computed,
                }
                .run();
                for j in 0..rows.used {
                    for image in 0..images {
                        let at = image * out_channels + group * outs + rows.first + j;
                        g.store_output(&out[j * out_pitch..], image, &mut y[at * out_plane..][..out_plane]);
                    }
                }
            }
        }
    });
    y
}

/// `dx[n][c] = Σ over o, t: w[o][c][t] · dy[n][o]`, shifted back by tap t: per stride phase a convolution again.
fn input_gradient(weights: &[f32], gradient: &[f32], g: &Geometry) -> Vec<f32> {
    let [in_channels, in_h, in_w] = g.input;
    let [out_channels, out_h, out_w] = g.output;
    let (ins, outs, taps) = (in_channels / g.groups, out_channels / g.groups, g.taps.len());
    let of_phase = |phase: usize| (0..taps).filter(move |&t| g.taps[t].0 == phase);
    // By group and phase.
    let packed: Vec<Vec<Vec<Packed>>> = (0..g.groups)
        .map(|group| {
            let one = |phase| {
                let taps_here: Vec<usize> = of_phase(phase).collect();
                let weight = |c, o, t: usize| weights[((group * outs + o) * ins + c) * taps + taps_here[t]];
                pack(ins, outs, taps_here.len(), weight)
            };
            (0..g.phase_count()).map(one).collect()
        })
        .collect();
    let offsets: Vec<Vec<usize>> =
        (0..g.phase_count()).map(|phase| of_phase(phase).map(|t| g.lead() - g.taps[t].1).collect()).collect();
    let (in_plane, out_image) = (in_h * in_w, out_channels * out_h * out_w);
    let mut dx = vec![0.0; g.images * in_channels * in_plane];
    let blocks = dx.par_chunks_mut(g.block * in_channels * in_plane).zip(gradient.par_chunks(g.block * out_image));
    blocks.for_each(|(dx, gradient)| {
        let images = gradient.len() / out_image;
        let scratch = g.load_gradient(gradient);
        let phase_pitch = g.block * g.area() + OVERRUN;
        let out_pitch = g.phase_count() * phase_pitch;
        let mut out = vec![0.0; kernels::most_rows() * out_pitch];
        for (group, phases) in packed.iter().enumerate() {
            for block in 0..phases[0].len() {
                let mut done = None;
                for (phase, blocks) in phases.iter().enumerate() {
                    let Packed { rows, weights } = &blocks[block];
                    done = Some(*rows);
                    Convolve {
                        source: &scratch[group * outs * g.gradient_pitch()..],
                        pitch: g.gradient_pitch(),
                        offsets: &offsets[phase],
                        weights,
                        out: &mut out[phase * phase_pitch..],
                        out_pitch,
                        len: images * g.area(),
                        rows: rows.computed,
                    }
                    .run();
                }
                let Some(rows) = done else { continue };
                for j in 0..rows.used {
                    for image in 0..images {
                        let at = image * in_channels + group * ins + rows.first + j;
                        let dx = &mut dx[at * in_plane..][..in_plane];
                        g.store_input(&out[j * out_pitch..], phase_pitch, image, dx);
                    }
                }
            }
        }
    });
    dx
}

/// `dw[o][c][t] = Σ over n, q: dy[n][o][q] · x[n][c][q shifted by tap t]`.
fn weight_gradient(x: &[f32], gradient: &[f32], g: &Geometry) -> Vec<f32> {
    let [in_channels, in_h, in_w] = g.input;
    let [out_channels, out_h, out_w] = g.output;
    let (ins, outs, taps) = (in_channels / g.groups, out_channels / g.groups, g.taps.len());
    let offsets = g.offsets();
    let (in_image, out_image) = (in_channels * in_h * in_w, out_channels * out_h * out_w);
    let parts: Vec<Vec<f32>> = x
        .par_chunks(g.block * in_image)
        .zip(gradient.par_chunks(g.block * out_image))
        .map(|(x, gradient)| {
            let images = x.len() / in_image;
            let (source, gradient) = (g.load_input(x), g.load_gradient(gradient));
            let mut dw = vec![0.0; out_channels * ins * taps];
            let mut sums = vec![0.0; kernels::most_rows() * taps];
            for group in 0..g.groups {
                for rows in exact_rows(outs) {
                    let first = group * outs + rows.first;
                    for channel in 0..ins {
                        sums.fill(0.0);
                        Correlate {
                            gradient: &gradient[g.lead() + first * g.gradient_pitch()..],
                            pitch: g.gradient_pitch(),
                            source: &source[(group * ins + channel) * g.input_pitch()..],
                            offsets: &offsets,
                            len: images * g.area(),
                            rows: rows.used,
                            sums: &mut sums,
                        }
                        .run();
                        for (j, sums) in sums.chunks_exact(taps).take(rows.used).enumerate() {
                            dw[((first + j) * ins + channel) * taps..][..taps].copy_from_slice(sums);
                        }
                    }
                }
            }
            dw
        })
        .collect();
    // In the order of the blocks, whoever computed them.
    let mut parts = parts.into_iter();
    let mut sum = parts.next().unwrap_or_else(|| vec![0.0; out_channels * ins * taps]);
    for part in parts {
        sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
    }
    sum
}

/// Blocks whose size is a power of two, so that none reads channels that are not there.
fn exact_rows(count: usize) -> impl Iterator<Item = kernels::Rows> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let used = match count - first {
            0 => return None,
            left => kernels::most_rows().min(1 << left.ilog2()),
        };
        let rows = kernels::Rows { first, used, computed: used };
        first += used;
        Some(rows)
    })
}
