//! The plain interpreter: **the** definition of what a program computes.
//!
//! Slow and obvious on purpose. Kernels, generated code and emulated boards equal it bit for bit: integers exactly, and
//! floats because sums run in a stated order (kernel rows, then columns, then channels) without fused multiply-add, and
//! functions are those of `kdc_kernels::math`, which are the same bits everywhere.

use super::multiplier::round_shift;
use super::{
    AddParams, AverageParams, Buffer, BufferId, Function, Kernel, Linear, MulParams, Port, Program, RawInput, Step,
    Window,
};
use crate::quant::{dequantize, quantize};
use kdc_kernels::math;

/// What goes in.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The network's own input, in its own layout, one sample.
    F32(&'a [f32]),
    /// Raw bytes, `[height][width][channels]`.
    Raw(&'a [u8]),
    /// As the program stores it; `i8` programs only.
    Stored(&'a [i8]),
}

/// The elements of a buffer.
#[derive(Clone, Debug, PartialEq)]
pub enum Activation {
    I8(Vec<i8>),
    F32(Vec<f32>),
}

/// Everything a run computed.
#[derive(Clone, Debug)]
pub struct Run {
    /// By buffer.
    pub buffers: Vec<Activation>,
    output: Vec<f32>,
    output_buffer: BufferId,
}

impl Run {
    /// The network's output, in its own layout.
    pub fn output_f32(&self) -> Vec<f32> {
        self.output.clone()
    }

    /// The output as the program stores it.
    pub fn stored_output(&self) -> &Activation {
        &self.buffers[self.output_buffer.index()]
    }
}

/// Why a program cannot be run on some input.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the input '{port}' takes {wanted} elements, {given} were given")]
    Length { port: String, wanted: usize, given: usize },
    #[error("the input '{port}' cannot be given as {form}")]
    Form { port: String, form: &'static str },
}

/// Runs a program on one sample.
///
/// # Errors
/// When the input does not fit.
pub fn run(program: &Program, input: &Input) -> Result<Run, Error> {
    let empty = |b: &Buffer| if b.quant.is_some() { Activation::I8(vec![]) } else { Activation::F32(vec![]) };
    let mut buffers: Vec<Activation> = program.buffers.iter().map(empty).collect();
    buffers[program.input.buffer.index()] = enter(program, input)?;
    for step in &program.steps {
        let operands: Vec<&Activation> = step.inputs.iter().map(|id| &buffers[id.index()]).collect();
        let result = match &operands[..] {
            [Activation::I8(_), ..] => {
                Activation::I8(step_i8(program, step, &operands.iter().map(|a| a.i8()).collect::<Vec<_>>()))
            }
            _ => Activation::F32(step_f32(program, step, &operands.iter().map(|a| a.f32()).collect::<Vec<_>>())),
        };
        buffers[step.output.index()] = result;
    }
    let output = leave(program, &buffers[program.output.buffer.index()]);
    Ok(Run { buffers, output, output_buffer: program.output.buffer })
}

impl Activation {
    fn i8(&self) -> &[i8] {
        match self {
            Activation::I8(v) => v,
            Activation::F32(_) => &[],
        }
    }

    fn f32(&self) -> &[f32] {
        match self {
            Activation::F32(v) => v,
            Activation::I8(_) => &[],
        }
    }
}

fn enter(program: &Program, input: &Input) -> Result<Activation, Error> {
    let port = &program.input;
    let buffer = program.buffer(port.buffer);
    let length = |given: usize| match given == buffer.len() {
        true => Ok(()),
        false => Err(Error::Length { port: port.name.clone(), wanted: buffer.len(), given }),
    };
    let form = |form| Err(Error::Form { port: port.name.clone(), form });
    match (input, &program.raw_input, buffer.quant) {
        (Input::F32(values), _, quant) => {
            length(values.len())?;
            let values = permuted(port, &buffer.shape, values, false);
            Ok(match quant {
                Some(q) => {
                    let store = |v: &f32| quantize(*v, q.scale, q.zero_point.into(), -128, 127) as i8;
                    Activation::I8(values.iter().map(store).collect())
                }
                None => Activation::F32(values),
            })
        }
        (Input::Raw(bytes), Some(RawInput::Int8(tables)), _) => {
            length(bytes.len())?;
            let channels = tables.len();
            Ok(Activation::I8(bytes.iter().enumerate().map(|(i, &b)| tables[i % channels][usize::from(b)]).collect()))
        }
        (Input::Raw(bytes), Some(RawInput::F32(tables)), _) => {
            length(bytes.len())?;
            let channels = tables.len();
            Ok(Activation::F32(bytes.iter().enumerate().map(|(i, &b)| tables[i % channels][usize::from(b)]).collect()))
        }
        (Input::Raw(_), None, _) => form("raw bytes: the program knows no preprocessing"),
        (Input::Stored(values), _, Some(_)) => {
            length(values.len())?;
            Ok(Activation::I8(values.to_vec()))
        }
        (Input::Stored(_), _, None) => form("stored integers: the program computes in f32"),
    }
}

fn leave(program: &Program, stored: &Activation) -> Vec<f32> {
    let buffer = program.buffer(program.output.buffer);
    let real: Vec<f32> = match (stored, buffer.quant) {
        (Activation::I8(v), Some(q)) => v.iter().map(|&x| dequantize(x.into(), q.scale, q.zero_point.into())).collect(),
        (other, _) => other.f32().to_vec(),
    };
    permuted(&program.output, &buffer.shape, &real, true)
}

/// Moves the caller's elements to the buffer's order, or back. Axis `i` of the buffer is axis `perm[i]` of the caller's.
fn permuted(port: &Port, shape: &[usize], values: &[f32], back: bool) -> Vec<f32> {
    let Some(perm) = &port.perm else { return values.to_vec() };
    let mut theirs = vec![0; shape.len()];
    perm.iter().zip(shape).for_each(|(&p, &n)| theirs[p] = n);
    if back {
        let mut inverse = vec![0; perm.len()];
        perm.iter().enumerate().for_each(|(i, &p)| inverse[p] = i);
        transpose(shape, &inverse, values)
    } else {
        transpose(&theirs, perm, values)
    }
}

/// Axis `i` of the result is axis `perm[i]` of the operand.
pub(super) fn transpose<T: Copy>(shape: &[usize], perm: &[usize], x: &[T]) -> Vec<T> {
    let stride = |axis: usize| shape[axis + 1..].iter().product::<usize>();
    let out: Vec<usize> = perm.iter().map(|&p| shape[p]).collect();
    let strides: Vec<usize> = perm.iter().map(|&p| stride(p)).collect();
    (0..x.len())
        .map(|mut i| {
            let mut at = 0;
            for d in (0..out.len()).rev() {
                at += i % out[d] * strides[d];
                i /= out[d];
            }
            x[at]
        })
        .collect()
}

/// The operand's element that output `o` meets at kernel position `k` along one axis; `None` in the padding.
fn meets(w: &Window, axis: usize, o: usize, k: usize) -> Option<usize> {
    (o * w.strides[axis] + k * w.dilations[axis]).checked_sub(w.pads[axis]).filter(|&i| i < w.input[axis])
}

/// Calls `f(kernel row, kernel column, pixel)` for each kernel position of an output pixel, in order; the pixel is `None`
/// in the padding.
fn window(w: &Window, oy: usize, ox: usize, mut f: impl FnMut(usize, usize, Option<usize>)) {
    for ky in 0..w.kernel[0] {
        for kx in 0..w.kernel[1] {
            let pixel = meets(w, 0, oy, ky).zip(meets(w, 1, ox, kx)).map(|(y, x)| y * w.input[1] + x);
            f(ky, kx, pixel);
        }
    }
}

/// One pixel of a window: output position, channel, and the sum's function.
fn each_output(w: &Window, channels: usize, mut f: impl FnMut(usize, usize, usize)) {
    for oy in 0..w.output[0] {
        for ox in 0..w.output[1] {
            (0..channels).for_each(|c| f(oy, ox, c));
        }
    }
}

fn step_i8(program: &Program, step: &Step, x: &[&[i8]]) -> Vec<i8> {
    let a = x[0];
    let mut out = Vec::with_capacity(program.buffer(step.output).len());
    match &step.kernel {
        Kernel::Conv2d { window: w, in_channels, out_channels, groups, linear } => {
            let (per_group, out_per_group) = (in_channels / groups, out_channels / groups);
            each_output(w, *out_channels, |oy, ox, o| {
                let first = o / out_per_group * per_group;
                let taps = |dot: &mut dyn FnMut(usize, i32)| {
                    window(w, oy, ox, |ky, kx, pixel| {
                        let Some(pixel) = pixel else { return };
                        for i in 0..per_group {
                            let weight = ((o * w.kernel[0] + ky) * w.kernel[1] + kx) * per_group + i;
                            dot(weight, a[pixel * in_channels + first + i].into());
                        }
                    });
                };
                out.push(linear_i8(linear, o, &taps));
            });
        }
        Kernel::DepthwiseConv2d { window: w, channels, linear } => each_output(w, *channels, |oy, ox, c| {
            let taps = |dot: &mut dyn FnMut(usize, i32)| {
                window(w, oy, ox, |ky, kx, pixel| {
                    let Some(pixel) = pixel else { return };
                    dot((ky * w.kernel[1] + kx) * channels + c, a[pixel * channels + c].into());
                });
            };
            out.push(linear_i8(linear, c, &taps));
        }),
        Kernel::FullyConnected { in_features, out_features, linear, .. } => {
            for row in a.chunks(*in_features) {
                for o in 0..*out_features {
                    let taps = |dot: &mut dyn FnMut(usize, i32)| {
                        row.iter().enumerate().for_each(|(i, &v)| dot(o * in_features + i, v.into()));
                    };
                    out.push(linear_i8(linear, o, &taps));
                }
            }
        }
        Kernel::MaxPool { window: w, channels } => each_output(w, *channels, |oy, ox, c| {
            let mut max = i8::MIN;
            window(w, oy, ox, |_, _, pixel| max = pixel.map_or(max, |p| max.max(a[p * channels + c])));
            out.push(max);
        }),
        Kernel::AveragePool { window: w, channels, count_pads, params } => {
            let AverageParams::Int8 { input_zero, output_zero, requant } = params else { return out };
            each_output(w, *channels, |oy, ox, c| {
                let (mut sum, mut count) = (0i32, 0usize);
                window(w, oy, ox, |_, _, pixel| {
                    sum += pixel.map_or(0, |p| i32::from(a[p * channels + c]) - i32::from(*input_zero));
                    count += usize::from(pixel.is_some() || *count_pads);
                });
                let stored = requant[count.max(1) - 1].apply(sum) + i32::from(*output_zero);
                out.push(stored.clamp(-128, 127) as i8);
            });
        }
        Kernel::Add(AddParams::Int8 { a_zero, b_zero, a_gain, b_gain, shift, output_zero, min, max }) => {
            for (&p, &q) in a.iter().zip(x[1]) {
                let term = |v: i8, zero: i8, gain: i32| (i64::from(v) - i64::from(zero)) * i64::from(gain);
                let sum = term(p, *a_zero, *a_gain) + term(q, *b_zero, *b_gain);
                let stored = round_shift(sum, *shift) + i64::from(*output_zero);
                out.push(stored.clamp((*min).into(), (*max).into()) as i8);
            }
        }
        Kernel::Mul { params: MulParams::Int8 { a_zero, b_zero, output_zero, requant, min, max }, .. } => {
            for (i, &p) in a.iter().enumerate() {
                let q = x[1][i % x[1].len()];
                let product = (i32::from(p) - i32::from(*a_zero)) * (i32::from(q) - i32::from(*b_zero));
                let stored = requant.apply(product) + i32::from(*output_zero);
                out.push(stored.clamp((*min).into(), (*max).into()) as i8);
            }
        }
        Kernel::Lookup { table } => out.extend(a.iter().map(|&v| table[(i16::from(v) + 128) as usize])),
        Kernel::Softmax { len, exp: Some(exp), .. } => {
            for row in a.chunks(*len) {
                let max = row.iter().copied().max().unwrap_or(i8::MIN);
                let power = |v: i8| u64::from(exp[usize::from(max.abs_diff(v))]);
                let sum: u64 = row.iter().map(|&v| power(v)).sum();
                out.extend(
                    row.iter().map(|&v| ((power(v) * 256 + sum / 2) / sum) as i64 - 128).map(|v| v.min(127) as i8),
                );
            }
        }
        Kernel::Pad { input, pads, stored, .. } => pad(*input, *pads, *stored, a, &mut out),
        Kernel::Concat { outer, inner } => concat(*outer, inner, x, &mut out),
        Kernel::Transpose { shape, perm } => out = transpose(shape, perm, a),
        Kernel::Reshape => out.extend_from_slice(a),
        // Kernels of float programs have no i8 operands.
        Kernel::Add(_) | Kernel::Mul { .. } | Kernel::Map(_) | Kernel::Softmax { .. } => (),
    }
    out
}

/// Shows every tap of a window to a function: the index of the weight, and the element it is multiplied by.
type Taps<'a, T> = &'a dyn Fn(&mut dyn FnMut(usize, T));

/// `bias + Σ (x − zero) · w`, requantized and clamped.
fn linear_i8(linear: &Linear, channel: usize, taps: Taps<i32>) -> i8 {
    let Linear::Int8 { weights, bias, requant, input_zero, output_zero, min, max } = linear else { return 0 };
    let mut sum = bias[channel];
    taps(&mut |weight, x| sum = sum.wrapping_add((x - i32::from(*input_zero)) * i32::from(weights[weight])));
    let stored = requant[channel].apply(sum).saturating_add((*output_zero).into());
    stored.clamp((*min).into(), (*max).into()) as i8
}

fn step_f32(program: &Program, step: &Step, x: &[&[f32]]) -> Vec<f32> {
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
                let v = pixel.map_or(f32::NEG_INFINITY, |p| a[p * channels + c]);
                max = if v > max { v } else { max };
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
            out.extend(a.iter().zip(x[1]).map(|(p, q)| math::clamp(p + q, *min, *max)));
        }
        Kernel::Mul { params: MulParams::F32 { min, max }, .. } => {
            out.extend(a.iter().enumerate().map(|(i, p)| math::clamp(p * x[1][i % x[1].len()], *min, *max)));
        }
        Kernel::Map(function) => out.extend(a.iter().map(|&v| apply(*function, v))),
        Kernel::Softmax { len, .. } => {
            for row in a.chunks(*len) {
                let max = row.iter().fold(f32::NEG_INFINITY, |m, &v| if v > m { v } else { m });
                let powers: Vec<f32> = row.iter().map(|v| math::exp(v - max)).collect();
                let sum = powers.iter().fold(0.0, |s, p| s + p);
                out.extend(powers.iter().map(|p| p / sum));
            }
        }
        Kernel::Pad { input, pads, value, .. } => pad(*input, *pads, *value, a, &mut out),
        Kernel::Concat { outer, inner } => concat(*outer, inner, x, &mut out),
        Kernel::Transpose { shape, perm } => out = transpose(shape, perm, a),
        Kernel::Reshape => out.extend_from_slice(a),
        // Kernels of integer programs have no float operands.
        Kernel::Add(_) | Kernel::Mul { .. } | Kernel::Lookup { .. } => (),
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
    }
}

fn pad<T: Copy>([h, w, c]: [usize; 3], [top, left, bottom, right]: [usize; 4], value: T, x: &[T], out: &mut Vec<T>) {
    for y in 0..h + top + bottom {
        for column in 0..w + left + right {
            let inside = y.checked_sub(top).filter(|&y| y < h).zip(column.checked_sub(left).filter(|&i| i < w));
            match inside {
                Some((y, i)) => out.extend_from_slice(&x[(y * w + i) * c..][..c]),
                None => out.extend(std::iter::repeat_n(value, c)),
            }
        }
    }
}

fn concat<T: Copy>(outer: usize, inner: &[usize], x: &[&[T]], out: &mut Vec<T>) {
    for row in 0..outer {
        for (part, &n) in x.iter().zip(inner) {
            out.extend_from_slice(&part[row * n..][..n]);
        }
    }
}
