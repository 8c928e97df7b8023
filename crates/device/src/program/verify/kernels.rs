//! What the steps of a program are checked for, kernel by kernel.

use super::{Buffer, Checked, Element, Kernel, Precision, Program, Step, ensure, is_permutation};
use crate::program::numbers::MOST_SHIFTED;
use crate::program::{
    AddParams, AverageParams, LONGEST_SUM, LayerNormParams, Linear, MatMulParams, MulParams, Multiplier, Quant, Window,
};

/// A step and its buffers.
struct Work<'a> {
    inputs: Vec<&'a Buffer>,
    output: &'a Buffer,
    precision: Precision,
}

pub(super) fn check(program: &Program, step: &Step) -> Checked {
    let work = Work {
        inputs: step.inputs.iter().map(|&id| program.buffer(id)).collect(),
        output: program.buffer(step.output),
        precision: program.precision,
    };
    ensure(work.output.constant.is_none(), "it writes a constant")?;
    match &step.kernel {
        Kernel::Softmax { .. } => ensure((1..=2).contains(&work.inputs.len()), "it takes one operand, or two")?,
        Kernel::Concat { inner, .. } => ensure(work.inputs.len() == inner.len(), "its operands are not as many")?,
        kernel => {
            let pairs = matches!(
                kernel,
                Kernel::Add(_)
                    | Kernel::Mul { .. }
                    | Kernel::Div(_)
                    | Kernel::Choose { .. }
                    | Kernel::MatMul { .. }
                    | Kernel::Embedding { .. }
            );
            let wanted = 1 + usize::from(pairs);
            ensure(work.inputs.len() == wanted, format!("it takes {wanted} operands, not {}", work.inputs.len()))?;
        }
    }
    if !matches!(step.kernel, Kernel::Embedding { .. } | Kernel::Reshape) {
        let real = |b: &&Buffer| b.element == Element::Real;
        ensure(work.inputs.iter().all(real) && real(&work.output), "it computes with the numbers of tokens")?;
    }
    work.kernel(&step.kernel)
}

impl Work<'_> {
    fn kernel(&self, kernel: &Kernel) -> Checked {
        match kernel {
            Kernel::Conv2d { window, in_channels, out_channels, groups, linear } => {
                let grouped = *groups > 0 && in_channels % groups == 0 && out_channels % groups == 0;
                ensure(grouped, "its channels are no multiple of its groups")?;
                self.window(window, *in_channels, *out_channels)?;
                let run = window.kernel[0] * window.kernel[1] * (in_channels / groups);
                self.linear(linear, *out_channels, run, &|i| i / run)
            }
            Kernel::DepthwiseConv2d { window, channels, linear } => {
                self.window(window, *channels, *channels)?;
                self.linear(linear, *channels, window.kernel[0] * window.kernel[1], &|i| i % channels)
            }
            Kernel::FullyConnected { rows, in_features, out_features, linear } => {
                self.lengths(&[rows * in_features], rows * out_features)?;
                self.linear(linear, *out_features, *in_features, &|i| i / in_features)
            }
            Kernel::MaxPool { window, channels } => {
                self.window(window, *channels, *channels)?;
                self.alike()
            }
            Kernel::AveragePool { window, channels, params, .. } => {
                self.window(window, *channels, *channels)?;
                let AverageParams::Int8 { input_zero, output_zero, requant } = params else {
                    return self.precision(Precision::F32);
                };
                let count = window.kernel[0] * window.kernel[1];
                ensure(requant.len() == count, format!("{} multipliers for {count} elements", requant.len()))?;
                ensure(count <= i32::MAX as usize / 255, "its sum of elements leaves 32 bits")?;
                self.zeros(&[*input_zero], *output_zero)?;
                multipliers(requant)
            }
            Kernel::Add(params) => {
                self.pair(true)?;
                let AddParams::Int8 { a_zero, b_zero, shift, output_zero, min, max, .. } = params else {
                    return self.precision(Precision::F32);
                };
                ensure((1..=50).contains(shift), format!("its shift is {shift}"))?;
                ensure(min <= max, "its bounds are empty")?;
                self.zeros(&[*a_zero, *b_zero], *output_zero)
            }
            Kernel::Mul { params, broadcast } => {
                self.pair(*broadcast)?;
                self.product(params, 62)
            }
            Kernel::Div(params) => {
                self.pair(false)?;
                self.product(params, MOST_SHIFTED as u8)
            }
            Kernel::Choose { .. } => {
                self.precision(Precision::F32)?;
                self.pair(false)
            }
            Kernel::Lookup { .. } => {
                self.precision(Precision::Int8)?;
                self.lengths(&[self.output.len()], self.output.len())
            }
            Kernel::Map(_) => {
                self.precision(Precision::F32)?;
                self.lengths(&[self.output.len()], self.output.len())
            }
            Kernel::Softmax { rows, len, exp } => {
                let whole = rows * len;
                let mask = self.inputs.get(1).map_or(*len, |mask| mask.len());
                ensure(
                    mask.is_multiple_of(*len) && whole.is_multiple_of(mask),
                    format!("its mask has {mask} elements"),
                )?;
                ensure(self.inputs[0].len() == whole && self.output.len() == whole, "its rows are not its operand's")?;
                let Some(exp) = exp else {
                    ensure(self.inputs.len() == 1, "in f32 it takes no mask")?;
                    return self.precision(Precision::F32);
                };
                self.precision(Precision::Int8)?;
                ensure(exp[0] > 0 && exp.windows(2).all(|pair| pair[0] >= pair[1]), "its table does not fall")?;
                let stored = Some(Quant { scale: 1.0 / 255.0, zero_point: -128 });
                ensure(self.output.quant == stored, "its result is not stored in 255ths")
            }
            Kernel::MatMul { batch, rows, inner, columns, params } => {
                let matrix = inner * columns;
                let b = self.inputs[1].len();
                ensure(b == matrix || b == batch * matrix, format!("its second operand has {b} elements"))?;
                self.lengths(&[batch * rows * inner, b], batch * rows * columns)?;
                let MatMulParams::Int8 { a_zero, b_zero, output_zero, requant } = params else {
                    return self.precision(Precision::F32);
                };
                ensure(*inner <= LONGEST_SUM, "its sums can leave 32 bits")?;
                self.zeros(&[*a_zero, *b_zero], *output_zero)?;
                multipliers(&[*requant])
            }
            Kernel::LayerNorm { rows, len, params } => {
                self.lengths(&[rows * len], rows * len)?;
                let (LayerNormParams::Int8 { scale, bias, epsilon, .. }
                | LayerNormParams::F32 { scale, bias, epsilon }) = params;
                ensure(scale.len() == *len && bias.len() == *len, "its scale and bias are of another length")?;
                match params {
                    LayerNormParams::F32 { .. } => self.precision(Precision::F32),
                    LayerNormParams::Int8 { output_zero, .. } => {
                        let finite = scale.iter().chain(bias).chain([epsilon]).all(|v| v.is_finite());
                        ensure(finite, "its numbers are not finite")?;
                        self.zeros(&[], *output_zero)
                    }
                }
            }
            Kernel::Embedding { width } => {
                let [tokens, table] = self.inputs[..] else { return Err("it takes two operands".into()) };
                ensure(tokens.element == Element::Token, "its first operand is not of tokens")?;
                ensure(table.constant.is_some() && table.len() % width == 0, "its table is no constant of such rows")?;
                ensure(tokens.len() * width == self.output.len(), "its rows are not its result's")?;
                ensure(table.quant == self.output.quant, "its table is stored in another way than its result")
            }
            Kernel::View { offset, shape, strides } => {
                ensure(shape.len() == strides.len(), "its extents and strides are not as many")?;
                let last = shape.iter().zip(strides).map(|(n, stride)| n.saturating_sub(1) * stride).sum::<usize>();
                let inside = offset + last < self.inputs[0].len();
                ensure(
                    inside && shape.iter().product::<usize>() == self.output.len(),
                    "it reaches beyond its operand",
                )?;
                self.alike()
            }
            Kernel::Pad { input: [h, w, c], pads: [top, left, bottom, right], .. } => {
                self.lengths(&[h * w * c], (h + top + bottom) * (w + left + right) * c)?;
                self.alike()
            }
            Kernel::Concat { outer, inner } => {
                let lengths: Vec<usize> = inner.iter().map(|n| outer * n).collect();
                self.lengths(&lengths, lengths.iter().sum())?;
                self.alike()
            }
            Kernel::Transpose { shape, perm } => {
                ensure(is_permutation(perm) && perm.len() == shape.len(), "its axes are no permutation")?;
                self.lengths(&[shape.iter().product()], self.inputs[0].len())?;
                self.alike()
            }
            Kernel::Reshape => {
                self.lengths(&[self.output.len()], self.output.len())?;
                ensure(self.inputs[0].element == self.output.element, "tokens and real numbers are mixed up")?;
                self.alike()
            }
        }
    }

    fn precision(&self, precision: Precision) -> Checked {
        ensure(self.precision == precision, format!("it is of a program in {}", precision.dtype()))
    }

    fn lengths(&self, inputs: &[usize], output: usize) -> Checked {
        let found: Vec<usize> = self.inputs.iter().map(|b| b.len()).collect();
        ensure(found == inputs, format!("its operands have {found:?} elements, not {inputs:?}"))?;
        let found = self.output.len();
        ensure(found == output, format!("its result has {found} elements, not {output}"))
    }

    /// The first operand is as long as the result, the second as well or repeated over it.
    fn pair(&self, repeated: bool) -> Checked {
        let (a, b, out) = (self.inputs[0].len(), self.inputs[1].len(), self.output.len());
        let fits = a == out && (a == b || repeated && a % b == 0);
        ensure(fits, format!("its operands have {a} and {b} elements, its result {out}"))
    }

    /// Operands are stored as the result is.
    fn alike(&self) -> Checked {
        let wrong = self.inputs.iter().find(|b| b.quant != self.output.quant);
        let what =
            |b: &&Buffer| format!("'{}' is stored as {:?}, its result as {:?}", b.name, b.quant, self.output.quant);
        wrong.map_or(Ok(()), |b| Err(what(b)))
    }

    /// The zero points that a kernel takes off and puts on are those of its buffers.
    fn zeros(&self, inputs: &[i8], output: i8) -> Checked {
        self.precision(Precision::Int8)?;
        let zero = |b: &Buffer| b.quant.map(|q| q.zero_point);
        let operands = inputs.iter().zip(&self.inputs).all(|(&given, b)| zero(b) == Some(given));
        ensure(operands && zero(self.output) == Some(output), "its zero points are not those of its buffers")
    }

    fn product(&self, params: &MulParams, most_shifted: u8) -> Checked {
        let MulParams::Int8 { a_zero, b_zero, output_zero, requant, min, max } = params else {
            return self.precision(Precision::F32);
        };
        ensure(min <= max, "its bounds are empty")?;
        ensure(requant.shift <= most_shifted, format!("its shift is {}", requant.shift))?;
        self.zeros(&[*a_zero, *b_zero], *output_zero)?;
        multipliers(&[*requant])
    }

    fn window(&self, window: &Window, from: usize, to: usize) -> Checked {
        let sizes = [window.input, window.output, window.kernel, window.strides, window.dilations];
        ensure(sizes.as_flattened().iter().all(|&n| n > 0), format!("its window is {window:?}"))?;
        let [input, output] = [window.input, window.output].map(|n| n[0] * n[1]);
        self.lengths(&[input * from], output * to)
    }

    /// The numbers of a linear operator with `run` weights for each output channel; `channel`: that of a weight.
    fn linear(&self, linear: &Linear, channels: usize, run: usize, channel: &dyn Fn(usize) -> usize) -> Checked {
        let counted = |weights: usize, bias: usize| {
            let what = format!("{weights} weights and {bias} biases for {channels} channels of {run}");
            ensure(weights == channels * run && bias == channels, what)
        };
        let Linear::Int8 { weights, bias, requant, input_zero, output_zero, min, max } = linear else {
            let Linear::F32 { weights, bias, .. } = linear else { return Ok(()) };
            self.precision(Precision::F32)?;
            return counted(weights.len(), bias.len());
        };
        counted(weights.len(), bias.len())?;
        ensure(requant.len() == channels, format!("{} multipliers for {channels} channels", requant.len()))?;
        ensure(min <= max, "its bounds are empty")?;
        self.zeros(&[*input_zero], *output_zero)?;
        // A stored operand is at most so far from its zero point.
        let reach = i64::from(127 - i32::from(*input_zero)).max(i64::from(i32::from(*input_zero) + 128));
        let mut sums: Vec<i64> = bias.iter().map(|b| i64::from(*b).abs()).collect();
        weights.iter().enumerate().for_each(|(i, w)| sums[channel(i)] += reach * i64::from(*w).abs());
        let over = sums.iter().position(|&sum| sum > i64::from(i32::MAX));
        over.map_or(Ok(()), |c| Err(format!("the sum of channel {c} can leave 32 bits")))?;
        multipliers(requant)
    }
}

fn multipliers(all: &[Multiplier]) -> Checked {
    let wrong = all.iter().find(|m| !m.is_sound());
    wrong.map_or(Ok(()), |m| Err(format!("{m:?} is no multiplier")))
}
