//! The plain interpreter: **the** definition of what a program computes.
//!
//! Slow and obvious on purpose. Kernels, generated code and emulated boards equal it bit for bit: integers exactly, and
//! floats because sums run in a stated order (kernel rows, then columns, then channels) without fused multiply-add, and
//! functions are those of `kdc_kernels::math`, which are the same bits everywhere. The sign of a not-a-number, which
//! processors choose in different ways, decides nothing on the way; a result that is one is `f32::NAN`.

mod floats;
mod movement;

pub use floats::apply;
pub use movement::transpose;

use super::multiplier::round_shift;
use super::{
    AddParams, AverageParams, Buffer, BufferId, Constant, Element, Kernel, LayerNormParams, Linear, MatMulParams,
    MulParams, Port, Program, RawTables, Step, Window,
};
use crate::quant::{dequantize, quantize};
use floats::step_f32;
use kdc_kernels::math;
use kdc_kernels::port::real;
use movement::{concat, embedding, pad, view};

/// What goes in.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The network's own inputs, each in its own layout, one after the other, of one sample; tokens by their numbers.
    F32(&'a [f32]),
    /// Raw bytes: of images `[height][width][channels]`.
    Raw(&'a [u8]),
    /// As the program stores it; `i8` programs only.
    Stored(&'a [i8]),
}

/// The elements of a buffer.
#[derive(Clone, Debug, PartialEq)]
pub enum Activation {
    I8(Vec<i8>),
    F32(Vec<f32>),
    Tokens(Vec<u32>),
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
    let initial = |b: &Buffer| match &b.constant {
        Some(Constant::Int8(v)) => Activation::I8(v.clone()),
        Some(Constant::F32(v)) => Activation::F32(v.clone()),
        None => Activation::F32(vec![]),
    };
    let mut buffers: Vec<Activation> = program.buffers.iter().map(initial).collect();
    for (port, entered) in program.inputs.iter().zip(enter(program, input)?) {
        buffers[port.buffer.index()] = entered;
    }
    for step in &program.steps {
        let operands: Vec<&Activation> = step.inputs.iter().map(|id| &buffers[id.index()]).collect();
        buffers[step.output.index()] = self::step(program, step, &operands);
    }
    let last = &mut buffers[program.output.buffer.index()];
    if let Activation::F32(values) = last {
        values.iter_mut().for_each(|v| *v = real(*v));
    }
    let output = leave(program, last);
    Ok(Run { buffers, output, output_buffer: program.output.buffer })
}

/// What one step makes of its operands.
pub fn step(program: &Program, step: &Step, operands: &[&Activation]) -> Activation {
    match operands {
        // Tokens are only renamed, or looked up.
        [Activation::Tokens(tokens), rest @ ..] => match rest {
            [Activation::I8(table)] => Activation::I8(embedding(&step.kernel, tokens, table)),
            [Activation::F32(table)] => Activation::F32(embedding(&step.kernel, tokens, table)),
            _ => Activation::Tokens(tokens.clone()),
        },
        [Activation::I8(_), ..] => {
            Activation::I8(step_i8(program, step, &operands.iter().map(|a| a.i8()).collect::<Vec<_>>()))
        }
        _ => Activation::F32(step_f32(program, step, &operands.iter().map(|a| a.f32()).collect::<Vec<_>>())),
    }
}

impl Activation {
    fn i8(&self) -> &[i8] {
        match self {
            Activation::I8(v) => v,
            Activation::F32(_) | Activation::Tokens(_) => &[],
        }
    }

    fn f32(&self) -> &[f32] {
        match self {
            Activation::F32(v) => v,
            Activation::I8(_) | Activation::Tokens(_) => &[],
        }
    }
}

/// The contents of the input buffers.
fn enter(program: &Program, input: &Input) -> Result<Vec<Activation>, Error> {
    let names = || program.inputs.iter().map(|port| port.name.as_str()).collect::<Vec<_>>().join("', '");
    let wanted = program.input_len();
    let length = |given: usize| match given == wanted {
        true => Ok(()),
        false => Err(Error::Length { port: names(), wanted, given }),
    };
    let form = |form| Err(Error::Form { port: names(), form });
    match (input, &program.raw_input) {
        (Input::F32(values), _) => {
            length(values.len())?;
            let mut rest = *values;
            let one = |port: &Port| {
                let (own, others) = rest.split_at(program.buffer(port.buffer).len());
                rest = others;
                enter_one(program, port, own)
            };
            Ok(program.inputs.iter().map(one).collect())
        }
        (Input::Raw(bytes), Some(raw)) => {
            length(bytes.len())?;
            let moved = program.inputs.first().and_then(|port| raw.permutation(port));
            Ok(vec![match &raw.tables {
                RawTables::Int8(tables) => Activation::I8(looked_up(tables, moved, bytes)),
                RawTables::F32(tables) => Activation::F32(looked_up(tables, moved, bytes)),
            }])
        }
        (Input::Raw(_), None) => form("raw bytes: the program knows no preprocessing"),
        (Input::Stored(values), _) => match &program.inputs[..] {
            [port] if program.buffer(port.buffer).quant.is_some() => {
                length(values.len())?;
                Ok(vec![Activation::I8(values.to_vec())])
            }
            [_] => form("stored integers: the program computes in f32"),
            _ => form("stored integers: the program has several inputs"),
        },
    }
}

/// What bytes stand for, by channel, in the order of the buffer.
fn looked_up<T: Copy>(tables: &[[T; 256]], moved: Option<(Vec<usize>, Vec<usize>)>, bytes: &[u8]) -> Vec<T> {
    let values: Vec<T> = bytes.iter().enumerate().map(|(i, &b)| tables[i % tables.len()][usize::from(b)]).collect();
    match moved {
        Some((extents, perm)) => transpose(&extents, &perm, &values),
        None => values,
    }
}

fn enter_one(program: &Program, port: &Port, values: &[f32]) -> Activation {
    let buffer = program.buffer(port.buffer);
    let values = permuted(port, &buffer.shape, values, false);
    match (buffer.element, buffer.quant) {
        // Negative numbers and NaN become token 0.
        (Element::Token, _) => Activation::Tokens(values.iter().map(|&v| v as u32).collect()),
        (_, Some(q)) => {
            let store = |v: &f32| quantize(*v, q.scale, q.zero_point.into(), -128, 127) as i8;
            Activation::I8(values.iter().map(store).collect())
        }
        (_, None) => Activation::F32(values),
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
                let stored = requant[count.max(1) - 1].apply(sum) + i64::from(*output_zero);
                out.push(stored.clamp(-128, 127) as i8);
            });
        }
        Kernel::Add(AddParams::Int8 { a_zero, b_zero, a_gain, b_gain, shift, output_zero, min, max }) => {
            for (&p, &q) in a.iter().zip(x[1].iter().cycle()) {
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
                let stored = requant.apply(product) + i64::from(*output_zero);
                out.push(stored.clamp((*min).into(), (*max).into()) as i8);
            }
        }
        Kernel::Div(MulParams::Int8 { a_zero, b_zero, output_zero, requant, min, max }) => {
            for (&p, &q) in a.iter().zip(x[1]) {
                let (p, q) = (i128::from(p) - i128::from(*a_zero), i128::from(q) - i128::from(*b_zero));
                let p = p * q.signum() * i128::from(requant.mantissa);
                let divisor = q.abs() << requant.shift;
                // Half up: ⌊p / d + 1/2⌋. By zero, the sign decides.
                let quotient = match divisor {
                    0 => (i128::from(a[out.len()]) - i128::from(*a_zero)).signum() * 512,
                    d => (2 * p + d).div_euclid(2 * d),
                };
                let stored = quotient + i128::from(*output_zero);
                out.push(stored.clamp((*min).into(), (*max).into()) as i8);
            }
        }
        Kernel::MatMul { batch, rows, inner, columns, params } => {
            let MatMulParams::Int8 { a_zero, b_zero, output_zero, requant } = params else { return out };
            each_product([*batch, *rows, *inner, *columns], x[1].len(), |pairs| {
                let term = |(p, q): (usize, usize)| {
                    (i32::from(a[p]) - i32::from(*a_zero)) * (i32::from(x[1][q]) - i32::from(*b_zero))
                };
                let sum = pairs.map(term).fold(0i32, i32::wrapping_add);
                out.push((requant.apply(sum) + i64::from(*output_zero)).clamp(-128, 127) as i8);
            });
        }
        Kernel::LayerNorm { len, params, .. } => {
            let LayerNormParams::Int8 { scale, bias, epsilon, output_zero } = params else { return out };
            let n = *len as i64;
            for row in a.chunks(*len) {
                let sum: i64 = row.iter().map(|&v| i64::from(v)).sum();
                let squares: i64 = row.iter().map(|&v| i64::from(v) * i64::from(v)).sum();
                let factor = math::rsqrt((n * squares - sum * sum) as f32 + epsilon);
                for ((&v, scale), bias) in row.iter().zip(scale).zip(bias) {
                    let real = (n * i64::from(v) - sum) as f32 * factor * scale + bias;
                    out.push(quantize(real, 1.0, (*output_zero).into(), -128, 127) as i8);
                }
            }
        }
        Kernel::Softmax { len, exp: Some(exp), .. } if x.len() == 2 => {
            for (row, mask) in a.chunks(*len).zip(x[1].chunks(*len).cycle()) {
                let kept: Vec<i8> = row.iter().zip(mask).filter(|(_, m)| **m != 0).map(|(&v, _)| v).collect();
                let max = kept.iter().copied().max().unwrap_or(i8::MIN);
                let power = |v: i8| u64::from(exp[usize::from(max.abs_diff(v))]);
                let sum: u64 = kept.iter().map(|&v| power(v)).sum();
                for (&v, &m) in row.iter().zip(mask) {
                    let share = if m == 0 { 0 } else { (power(v) * 255 + sum / 2) / sum };
                    out.push((share as i64 - 128) as i8);
                }
            }
        }
        Kernel::View { offset, shape, strides } => out = view(*offset, shape, strides, a),
        Kernel::Lookup { table } => out.extend(a.iter().map(|&v| table[(i16::from(v) + 128) as usize])),
        Kernel::Softmax { len, exp: Some(exp), .. } => {
            for row in a.chunks(*len) {
                let max = row.iter().copied().max().unwrap_or(i8::MIN);
                let power = |v: i8| u64::from(exp[usize::from(max.abs_diff(v))]);
                let sum: u64 = row.iter().map(|&v| power(v)).sum();
                out.extend(row.iter().map(|&v| (((power(v) * 255 + sum / 2) / sum) as i64 - 128) as i8));
            }
        }
        Kernel::Pad { input, pads, stored, .. } => pad(*input, *pads, *stored, a, &mut out),
        Kernel::Concat { outer, inner } => concat(*outer, inner, x, &mut out),
        Kernel::Transpose { shape, perm } => out = transpose(shape, perm, a),
        Kernel::Reshape => out.extend_from_slice(a),
        // Kernels of float programs have no i8 operands, and tables no tokens among them.
        Kernel::Add(_)
        | Kernel::Mul { .. }
        | Kernel::Div(_)
        | Kernel::Choose { .. }
        | Kernel::Map(_)
        | Kernel::Softmax { .. }
        | Kernel::Embedding { .. } => (),
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
    let stored = requant[channel].apply(sum) + i64::from(*output_zero);
    stored.clamp((*min).into(), (*max).into()) as i8
}

/// Calls `f` for each element of a product of matrices, with the positions in both operands of the factors it sums.
fn each_product(
    [batch, rows, inner, columns]: [usize; 4],
    b_len: usize,
    mut f: impl FnMut(&mut dyn Iterator<Item = (usize, usize)>),
) {
    for matrix in 0..batch {
        for row in 0..rows {
            for column in 0..columns {
                let (a, b) = ((matrix * rows + row) * inner, matrix * inner * columns % b_len + column);
                f(&mut (0..inner).map(|k| (a + k, b + k * columns)));
            }
        }
    }
}
