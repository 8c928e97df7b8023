//! Steps of float programs.

use super::movement::{concat, pad, transpose, view};
use super::{Taps, each_output, each_product, window};
use crate::program::{AddParams, Function, Kernel, LayerNormParams, Linear, MulParams, Program, Step};
use kdc_kernels::math;

pub(super) fn step_f32(program: &Program, step: &Step, x: &[&[f32]]) -> Vec<f32> {
    let a = x[0];
    let mut out = Vec::with_capacity(program.buffer(step.output).len());
    match &step.kernel {
        Kernel::Conv2d { window: w, in_channels, out_channels, groups, linear } => {
            let (per_group, out_per_group) = (in_channels / groups, out_channels / groups);
            each_output(w, *out_channels, |oy, ox, o| {
                let first = o / out_per_group * per_group;
                let taps = |dot: &mut dyn FnMut(usize, f32)| {
                    window(w, oy, ox, |ky, kx, pixel| {
                        let Some(pixel) = pixel else { return };
                        for i in 0..per_group {
                            let weight = ((o * w.kernel[0] + ky) * w.kernel[1] + kx) * per_group + i;
                            dot(weight, a[pixel * in_channels + first + i]);
                        }
                    });
                };
                out.push(linear_f32(linear, o, &taps));
            });
        }
        Kernel::DepthwiseConv2d { window: w, channels, linear } => each_output(w, *channels, |oy, ox, c| {
            let taps = |dot: &mut dyn FnMut(usize, f32)| {
                window(w, oy, ox, |ky, kx, pixel| {
                    let Some(pixel) = pixel else { return };
                    dot((ky * w.kernel[1] + kx) * channels + c, a[pixel * channels + c]);
                });
            };
            out.push(linear_f32(linear, c, &taps));
        }),
        Kernel::FullyConnected { in_features, out_features, linear, .. } => {
            for row in a.chunks(*in_features) {
                for o in 0..*out_features {
                    let taps = |dot: &mut dyn FnMut(usize, f32)| {
                        row.iter().enumerate().for_each(|(i, &v)| dot(o * in_features + i, v));
                    };
                    out.push(linear_f32(linear, o, &taps));
                }
            }
        }
        Kernel::MaxPool { window: w, channels } => each_output(w, *channels, |oy, ox, c| {
            let mut max = f32::NEG_INFINITY;
            window(w, oy, ox, |_, _, pixel| {
                max = math::larger(max, pixel.map_or(f32::NEG_INFINITY, |p| a[p * channels + c]));
            });
            out.push(max);
        }),
        Kernel::AveragePool { window: w, channels, count_pads, .. } => each_output(w, *channels, |oy, ox, c| {
            let (mut sum, mut count) = (0.0, 0usize);
            window(w, oy, ox, |_, _, pixel| {
                if let Some(p) = pixel {
                    sum += a[p * channels + c];
                }
                count += usize::from(pixel.is_some() || *count_pads);
            });
            out.push(sum / count.max(1) as f32);
        }),
        Kernel::Add(AddParams::F32 { min, max }) => {
            out.extend(a.iter().zip(x[1].iter().cycle()).map(|(p, q)| math::clamp(p + q, *min, *max)));
        }
        Kernel::Mul { params: MulParams::F32 { min, max }, .. } => {
            out.extend(a.iter().enumerate().map(|(i, p)| math::clamp(p * x[1][i % x[1].len()], *min, *max)));
        }
        Kernel::Div(MulParams::F32 { min, max }) => {
            out.extend(a.iter().zip(x[1]).map(|(p, q)| math::clamp(p / q, *min, *max)));
        }
        Kernel::Choose { number, when } => {
            let chosen = |(test, other): (&f32, &f32)| if (*test != 0.0) == *when { *number } else { *other };
            out.extend(a.iter().zip(x[1]).map(chosen));
        }
        Kernel::MatMul { batch, rows, inner, columns, .. } => {
            each_product([*batch, *rows, *inner, *columns], x[1].len(), |pairs| {
                out.push(pairs.fold(0.0, |sum, (p, q)| sum + a[p] * x[1][q]));
            });
        }
        Kernel::LayerNorm { len, params: LayerNormParams::F32 { scale, bias, epsilon }, .. } => {
            for row in a.chunks(*len) {
                let mean = row.iter().fold(0.0, |sum, v| sum + v) / *len as f32;
                let variance = row.iter().fold(0.0, |sum, v| sum + (v - mean) * (v - mean)) / *len as f32;
                let factor = math::rsqrt(variance + epsilon);
                out.extend(row.iter().zip(scale).zip(bias).map(|((v, s), b)| (v - mean) * factor * s + b));
            }
        }
        Kernel::View { offset, shape, strides } => out = view(*offset, shape, strides, a),
        Kernel::Map(function) => out.extend(a.iter().map(|&v| apply(*function, v))),
        Kernel::Softmax { len, .. } => {
            for row in a.chunks(*len) {
                let max = row.iter().fold(f32::NEG_INFINITY, |m, &v| math::larger(m, v));
                if max == f32::NEG_INFINITY {
                    out.extend(row.iter().map(|_| 0.0));
                    continue;
                }
                let powers: Vec<f32> = row.iter().map(|v| math::exp(v - max)).collect();
                let sum = powers.iter().fold(0.0, |s, p| s + p);
                out.extend(powers.iter().map(|p| p / sum));
            }
        }
        Kernel::Pad { input, pads, value, .. } => pad(*input, *pads, *value, a, &mut out),
        Kernel::Concat { outer, inner } => concat(*outer, inner, x, &mut out),
        Kernel::Transpose { shape, perm } => out = transpose(shape, perm, a),
        Kernel::Reshape => out.extend_from_slice(a),
        // Kernels of integer programs have no float operands, and tables no tokens among them.
        Kernel::Add(_)
        | Kernel::Mul { .. }
        | Kernel::Div(_)
        | Kernel::LayerNorm { .. }
        | Kernel::Lookup { .. }
        | Kernel::Embedding { .. } => (),
    }
    out
}

fn linear_f32(linear: &Linear, channel: usize, taps: Taps<f32>) -> f32 {
    let Linear::F32 { weights, bias, min, max } = linear else { return 0.0 };
    let mut sum = bias[channel];
    taps(&mut |weight, x| sum += x * weights[weight]);
    math::clamp(sum, *min, *max)
}

/// A function of one variable, as float programs compute it.
pub fn apply(function: Function, x: f32) -> f32 {
    match function {
        Function::Clip { min, max } => math::clamp(x, min, max),
        Function::LeakyRelu { alpha } => {
            if x < 0.0 {
                x * alpha
            } else {
                x
            }
        }
        Function::Sigmoid => math::sigmoid(x),
        Function::Tanh => math::tanh(x),
        Function::HardSwish => x * math::clamp(x * (1.0 / 6.0) + 0.5, 0.0, 1.0),
        Function::HardSigmoid { alpha, beta } => math::clamp(x * alpha + beta, 0.0, 1.0),
        Function::Affine { gain, offset } => x * gain + offset,
        Function::Abs => x.abs(),
        Function::Exp => math::exp(x),
        Function::Sqrt => math::sqrt(x),
        Function::Reciprocal => 1.0 / x,
        Function::Erf => math::erf(x),
        Function::Gelu => math::gelu(x),
        Function::GeluTanh => math::gelu_tanh(x),
        Function::Select { yes, no } => {
            if x != 0.0 {
                yes
            } else {
                no
            }
        }
    }
}
