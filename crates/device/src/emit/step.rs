//! One step of a program as the body of a function.

use std::ops::Range;

use kdc_kernels::pack;

use super::Error;
use super::places::Places;
use super::text::float;
use super::weights::Numbers;
use crate::program::{
    AddParams, AverageParams, BufferId, Constant, Function, Kernel, LayerNormParams, Linear, MatMulParams, MulParams,
    Multiplier, Precision, Program, Step, Tile, Window,
};

/// The body of the step's function; `None` where there is nothing to do.
pub fn body(places: &Places<'_>, index: usize, step: &Step, numbers: &mut Numbers) -> Result<Option<String>, Error> {
    let operands = Operands::new(places, step, numbers)?;
    let writer =
        Writer { index, step, operands, program: places.program, precision: places.program.precision, numbers };
    writer.body()
}

/// Where the step's operands and its result lie, and what the function calls them.
struct Operands {
    /// What the operands are called, in order.
    inputs: Vec<String>,
    /// The parts of the arena, and how they are bound.
    parts: Vec<(String, Range<usize>)>,
    /// The result has the place of this operand.
    in_place: Option<String>,
}

/// What a part of the arena is called: `a`, `b`, `c`, and by number where a concatenation has many.
fn part_name(index: usize) -> String {
    match u8::try_from(index) {
        Ok(letter @ 0..8) => char::from(b'a' + letter).into(),
        _ => format!("part_{index}"),
    }
}

impl Operands {
    fn new(places: &Places<'_>, step: &Step, numbers: &mut Numbers) -> Result<Operands, Error> {
        let output = places.of(step.output)?;
        let mut operands = Operands { inputs: Vec::new(), parts: Vec::new(), in_place: None };
        for &id in &step.inputs {
            if let Some(constant) = &places.program.buffer(id).constant {
                let name = format!("CONSTANT_{}", id.0);
                operands.inputs.push(match constant {
                    Constant::Int8(values) => numbers.push(&name, values, &[]),
                    Constant::F32(values) => numbers.push(&name, values, &[]),
                });
                continue;
            }
            let range = places.of(id)?;
            let known = operands.parts.iter().find(|(_, part)| *part == range).map(|(name, _)| name.clone());
            let is_new = known.is_none();
            let name = known.unwrap_or_else(|| part_name(operands.parts.len()));
            if range == output {
                operands.in_place = Some(name.clone());
            } else if range.start < output.end && output.start < range.end {
                return Err(overlap(places, step, id));
            }
            if is_new {
                operands.parts.push((name.clone(), range));
            }
            operands.inputs.push(name);
        }
        if operands.in_place.is_some() && !step.kernel.in_place() && step.kernel != Kernel::Reshape {
            return Err(overlap(places, step, step.output));
        }
        if operands.in_place.is_none() {
            operands.parts.push(("output".into(), output));
        }
        Ok(operands)
    }

    /// `let [a, output] = parts(…);`
    fn binding(&self) -> String {
        let names: Vec<&str> = self.parts.iter().map(|(name, _)| name.as_str()).collect();
        let ranges: Vec<String> = self.parts.iter().map(|(_, range)| format!("{range:?}")).collect();
        format!("    let [{}] = parts(&mut arena.0, [{}]);\n", names.join(", "), ranges.join(", "))
    }
}

fn overlap(places: &Places<'_>, step: &Step, id: BufferId) -> Error {
    Error::Overlap { step: step.name.clone(), buffer: places.program.buffer(id).name.clone() }
}

struct Writer<'a> {
    index: usize,
    step: &'a Step,
    operands: Operands,
    program: &'a Program,
    precision: Precision,
    numbers: &'a mut Numbers,
}

impl Writer<'_> {
    fn body(mut self) -> Result<Option<String>, Error> {
        let step = self.step;
        let call = match &step.kernel {
            Kernel::Conv2d { window, in_channels, out_channels, groups, linear } => {
                self.conv2d(window, *in_channels, *out_channels, *groups, linear)?
            }
            Kernel::DepthwiseConv2d { window, channels, linear } => self.depthwise(window, *channels, linear)?,
            Kernel::FullyConnected { rows, in_features, out_features, linear } => {
                let lanes = Tile::fully_connected(*out_features).lanes;
                let linear = self.linear(linear, 1, *out_features, [1, *in_features], lanes)?;
                format!(
                    "const SHAPE: fully_connected::Shape =\n        fully_connected::Shape {{ rows: {rows}, \
                     in_features: {in_features}, out_features: {out_features} }};\n    {linear}\n    \
                     fully_connected::<{}, _>(SHAPE, &LINEAR, a, output);",
                    lanes / 4
                )
            }
            Kernel::MaxPool { window, channels } => {
                let kind = if self.precision == Precision::Int8 { "MaxInt8" } else { "MaxFloat" };
                self.pool(window, *channels, kind)
            }
            Kernel::AveragePool { window, channels, count_pads, params } => {
                let all = window.kernel.iter().product::<usize>();
                let count = if *count_pads { format!("Some({all})") } else { "None".into() };
                let kind = match params {
                    AverageParams::F32 => format!("AverageFloat {{ count: {count} }}"),
                    AverageParams::Int8 { input_zero, output_zero, requant } => {
                        let requant: Vec<String> = requant.iter().map(multiplier).collect();
                        format!(
                            "AverageInt8 {{ input_zero: {input_zero}, output_zero: {output_zero}, count: {count}, requant: &[{}] }}",
                            requant.join(", ")
                        )
                    }
                };
                self.pool(window, *channels, &kind)
            }
            Kernel::Add(params) => self.binary(
                match *params {
                    AddParams::F32 { min, max } => format!("clamp(a + b, {}, {})", float(min), float(max)),
                    AddParams::Int8 { a_zero, b_zero, a_gain, b_gain, shift, output_zero, min, max } => format!(
                        "AddInt8 {{ a_zero: {a_zero}, b_zero: {b_zero}, a_gain: {a_gain}, b_gain: {b_gain}, shift: {shift}, \
                         output_zero: {output_zero}, min: {min}, max: {max} }}.apply(a, b)"
                    ),
                },
                self.repeats(),
            )?,
            Kernel::Mul { params, broadcast } => self.binary(
                match params {
                    MulParams::F32 { min, max } => format!("clamp(a * b, {}, {})", float(*min), float(*max)),
                    MulParams::Int8 { a_zero, b_zero, output_zero, requant, min, max } => format!(
                        "MulInt8 {{ a_zero: {a_zero}, b_zero: {b_zero}, output_zero: {output_zero}, requant: {}, \
                         min: {min}, max: {max} }}.apply(a, b)",
                        multiplier(requant)
                    ),
                },
                *broadcast,
            )?,
            Kernel::Div(params) => self.binary(
                match params {
                    MulParams::F32 { min, max } => format!("clamp(a / b, {}, {})", float(*min), float(*max)),
                    MulParams::Int8 { a_zero, b_zero, output_zero, requant, min, max } => format!(
                        "DivInt8 {{ a_zero: {a_zero}, b_zero: {b_zero}, output_zero: {output_zero}, requant: {}, \
                         min: {min}, max: {max} }}.apply(a, b)",
                        multiplier(requant)
                    ),
                },
                false,
            )?,
            Kernel::Choose { number, when } => {
                self.binary(format!("if (a != 0.0) == {when} {{ {} }} else {{ b }}", float(*number)), false)?
            }
            Kernel::MatMul { batch, rows, inner, columns, params } => {
                let product = match params {
                    MatMulParams::F32 => "matmul::Float".to_string(),
                    MatMulParams::Int8 { a_zero, b_zero, output_zero, requant } => format!(
                        "matmul::Int8 {{ a_zero: {a_zero}, b_zero: {b_zero}, output_zero: {output_zero}, requant: {} }}",
                        multiplier(requant)
                    ),
                };
                let [a, b] = self.two()?;
                format!(
                    "matmul(\n        matmul::Shape {{ batch: {batch}, rows: {rows}, inner: {inner}, columns: {columns} \
                     }},\n        {product},\n        {a},\n        {b},\n        output,\n    );"
                )
            }
            Kernel::LayerNorm { len, params, .. } => {
                let (LayerNormParams::Int8 { scale, bias, .. } | LayerNormParams::F32 { scale, bias, .. }) = params;
                self.check([(scale.len(), *len), (bias.len(), *len)])?;
                let (scale, bias) = (self.push("SCALE", scale, &[]), self.push("BIAS", bias, &[]));
                match params {
                    LayerNormParams::F32 { epsilon, .. } => {
                        format!("layer_norm_f32({scale}, {bias}, {}, a, output);", float(*epsilon))
                    }
                    LayerNormParams::Int8 { epsilon, output_zero, .. } => {
                        format!("layer_norm_i8({scale}, {bias}, {}, {output_zero}, a, output);", float(*epsilon))
                    }
                }
            }
            Kernel::Embedding { width } => {
                let [tokens, table] = self.two()?;
                format!("embedding({width}, {table}, {tokens}, output);")
            }
            Kernel::View { offset, shape, strides } => {
                let from = self.operands.inputs.first().map_or("a", String::as_str);
                format!("view({offset}, {shape:?}, {strides:?}, {from}, output);")
            }
            Kernel::Lookup { table } => {
                let table = self.push("TABLE", &table[..], &[]);
                self.unary(&format!("elementwise::lookup({table}, x)"))
            }
            Kernel::Map(function) => self.unary(&format!("{}.apply(x)", function_text(function))),
            Kernel::Softmax { len, exp, .. } => match exp {
                None => format!("softmax_f32({len}, a, output);"),
                Some(table) => {
                    let table = self.push("EXP", &table[..], &[]);
                    match self.operands.inputs.len() {
                        1 => format!("softmax_i8({len}, {table}, a, output);"),
                        _ => {
                            let [a, mask] = self.two()?;
                            format!("masked_softmax_i8({len}, {table}, {a}, {mask}, output);")
                        }
                    }
                }
            },
            Kernel::Pad { input, pads, value, stored } => {
                let value = if self.precision == Precision::Int8 { stored.to_string() } else { float(*value) };
                format!("pad({input:?}, {pads:?}, {value}, a, output);")
            }
            Kernel::Concat { inner, .. } => {
                let inputs: Vec<String> = self.operands.inputs.iter().map(|name| format!("&*{name}")).collect();
                format!("concat({inner:?}, [{}], output);", inputs.join(", "))
            }
            Kernel::Transpose { shape, perm } => format!("transpose({shape:?}, {perm:?}, a, output);"),
            Kernel::Reshape if self.operands.in_place.is_some() => return Ok(None),
            Kernel::Reshape => "output.copy_from_slice(a);".into(),
        };
        Ok(Some(format!("{}    {call}\n", self.operands.binding())))
    }

    fn conv2d(
        &mut self,
        window: &Window,
        in_channels: usize,
        out_channels: usize,
        groups: usize,
        linear: &Linear,
    ) -> Result<String, Error> {
        let Tile { lanes, pixels } = Tile::conv2d(self.precision, window, out_channels / groups.max(1));
        let taps = window.kernel[0] * window.kernel[1];
        let inputs = in_channels / groups.max(1);
        let linear = self.linear(linear, groups, out_channels, [taps, inputs], lanes)?;
        Ok(format!(
            "const SHAPE: conv2d::Shape = conv2d::Shape {{\n        window: {},\n        in_channels: {in_channels},\n        \
             out_channels: {out_channels},\n        groups: {groups},\n    }};\n    {linear}\n    \
             conv2d::<{}, {pixels}, _>(SHAPE, &LINEAR, a, output);",
            window_text(window),
            lanes / 4,
        ))
    }

    /// The numbers of a convolution or matrix product with `[out][taps][inputs]` weights, packed.
    fn linear(
        &mut self,
        linear: &Linear,
        groups: usize,
        out: usize,
        [taps, inputs]: [usize; 2],
        lanes: usize,
    ) -> Result<String, Error> {
        let run = taps * inputs;
        if groups == 0 || out == 0 || !out.is_multiple_of(groups) {
            return Err(self.malformed("its output channels are no multiple of its groups"));
        }
        match linear {
            Linear::Int8 { weights, bias, requant, input_zero, output_zero, min, max } => {
                self.check([(weights.len(), out * run), (bias.len(), out), (requant.len(), out)])?;
                let folded = pack::bias(bias, weights, *input_zero);
                let mantissa: Vec<i32> = requant.iter().map(|r| r.mantissa).collect();
                let shift: Vec<u8> = requant.iter().map(|r| r.shift).collect();
                let full_range = weights.contains(&i8::MIN);
                let weights =
                    self.push("WEIGHTS", &pack::int8_weights(weights, groups, out, taps, lanes), &[lanes / 4, 16]);
                let bias = self.push("BIAS", &pack::channels(&folded, groups, lanes, 0), &[lanes / 4, 4]);
                let mantissa = self.push("MANTISSA", &pack::channels(&mantissa, groups, lanes, 0), &[lanes / 4, 4]);
                let shift = self.push("SHIFT", &pack::channels(&shift, groups, lanes, 1), &[lanes / 4, 4]);
                Ok(constant(
                    "LINEAR",
                    &format!("linear::Int8<'_, {}>", lanes / 4),
                    &[
                        ("weights", weights),
                        ("bias", bias),
                        ("mantissa", mantissa),
                        ("shift", shift),
                        ("padding", format!("&[{input_zero}; {inputs}]")),
                        ("output_zero", output_zero.to_string()),
                        ("min", min.to_string()),
                        ("max", max.to_string()),
                        ("full_range", full_range.to_string()),
                    ],
                ))
            }
            Linear::F32 { weights, bias, min, max } => {
                self.check([(weights.len(), out * run), (bias.len(), out)])?;
                let weights = self.push("WEIGHTS", &pack::float_weights(weights, groups, out, lanes), &[lanes / 4, 4]);
                let bias = self.push("BIAS", &pack::channels(bias, groups, lanes, 0.0), &[lanes / 4, 4]);
                Ok(constant(
                    "LINEAR",
                    &format!("linear::Float<'_, {}>", lanes / 4),
                    &[("weights", weights), ("bias", bias), ("min", float(*min)), ("max", float(*max))],
                ))
            }
        }
    }

    fn depthwise(&mut self, window: &Window, channels: usize, linear: &Linear) -> Result<String, Error> {
        let all = window.kernel[0] * window.kernel[1] * channels;
        let filter = match linear {
            Linear::Int8 { weights, bias, requant, input_zero, output_zero, min, max } => {
                self.check([(weights.len(), all), (bias.len(), channels), (requant.len(), channels)])?;
                let mantissa: Vec<i32> = requant.iter().map(|r| r.mantissa).collect();
                let shift: Vec<u8> = requant.iter().map(|r| r.shift).collect();
                let fields = [
                    ("weights", self.push("WEIGHTS", weights, &[])),
                    ("bias", self.push("BIAS", bias, &[])),
                    ("mantissa", self.push("MANTISSA", &mantissa, &[])),
                    ("shift", self.push("SHIFT", &shift, &[])),
                    ("input_zero", input_zero.to_string()),
                    ("output_zero", output_zero.to_string()),
                    ("min", min.to_string()),
                    ("max", max.to_string()),
                ];
                constant("FILTER", "depthwise::Int8<'_>", &fields)
            }
            Linear::F32 { weights, bias, min, max } => {
                self.check([(weights.len(), all), (bias.len(), channels)])?;
                let fields = [
                    ("weights", self.push("WEIGHTS", weights, &[])),
                    ("bias", self.push("BIAS", bias, &[])),
                    ("min", float(*min)),
                    ("max", float(*max)),
                ];
                constant("FILTER", "depthwise::Float<'_>", &fields)
            }
        };
        let window = window_text(window);
        Ok(format!("{filter}\n    depthwise({window}, {channels}, &FILTER, a, output);"))
    }

    fn pool(&self, window: &Window, channels: usize, kind: &str) -> String {
        format!("pool({}, {channels}, {kind}, a, output);", window_text(window))
    }

    /// Whether the second operand is repeated over the first.
    fn repeats(&self) -> bool {
        let len = |i: usize| self.step.inputs.get(i).map(|&id| self.program.buffer(id).len());
        len(0) != len(1)
    }

    fn two(&self) -> Result<[String; 2], Error> {
        let two = <[String; 2]>::try_from(self.operands.inputs.clone());
        two.map_err(|_| self.malformed("two operands are needed"))
    }

    /// `f` of `x`, for each element.
    fn unary(&self, f: &str) -> String {
        match (&self.operands.in_place, self.operands.inputs.first()) {
            (Some(a), _) => format!("elementwise::map_in_place({a}, |x| {f});"),
            (None, a) => format!("elementwise::map({}, output, |x| {f});", a.map_or("a", String::as_str)),
        }
    }

    /// `f` of `a` and `b`, for each pair of elements, over whatever shares a place.
    fn binary(&self, f: String, broadcast: bool) -> Result<String, Error> {
        let [a, b] = &self.two()?;
        if a == b {
            return Ok(self.unary(&format!("{{\n        let (a, b) = (x, x);\n        {f}\n    }}")));
        }
        let zip = if broadcast { "zip_rows" } else { "zip" };
        Ok(match &self.operands.in_place {
            None => format!("elementwise::{zip}({a}, {b}, output, |a, b| {f});"),
            Some(place) if place == a => format!("elementwise::{zip}_in_place({a}, {b}, |a, b| {f});"),
            // The result has the size of `b` only where nothing is broadcast.
            Some(_) => format!("elementwise::zip_in_place({b}, {a}, |b, a| {f});"),
        })
    }

    fn push<T: super::weights::Number>(&mut self, what: &str, numbers: &[T], inner: &[usize]) -> String {
        let name = format!("{}_{}_{what}", self.step.kernel.name().to_uppercase(), self.index);
        self.numbers.push(&name, numbers, inner)
    }

    fn check<const N: usize>(&self, lengths: [(usize, usize); N]) -> Result<(), Error> {
        match lengths.iter().find(|(found, expected)| found != expected) {
            Some((found, expected)) => {
                Err(self.malformed(&format!("{found} weights or biases where {expected} belong")))
            }
            None => Ok(()),
        }
    }

    fn malformed(&self, what: &str) -> Error {
        Error::Malformed { step: self.step.name.clone(), what: what.into() }
    }
}

/// `const NAME: Kind = Kind { … };`. A reference to a constant is one that the compiler looks through.
fn constant(name: &str, kind: &str, fields: &[(&str, String)]) -> String {
    let fields: String = fields.iter().map(|(field, value)| format!("        {field}: {value},\n")).collect();
    let path = kind.split('<').next().unwrap_or(kind);
    format!("const {name}: {kind} = {path} {{\n{fields}    }};")
}

fn window_text(w: &Window) -> String {
    format!(
        "Window {{ input: {:?}, output: {:?}, kernel: {:?}, strides: {:?}, pads: {:?}, dilations: {:?} }}",
        w.input, w.output, w.kernel, w.strides, w.pads, w.dilations
    )
}

fn multiplier(m: &Multiplier) -> String {
    format!("Multiplier {{ mantissa: {}, shift: {} }}", m.mantissa, m.shift)
}

fn function_text(function: &Function) -> String {
    let fields = |fields: &[(&str, f32)]| {
        let fields: Vec<String> = fields.iter().map(|(name, x)| format!("{name}: {}", float(*x))).collect();
        format!(" {{ {} }}", fields.join(", "))
    };
    match *function {
        Function::Clip { min, max } => format!("Function::Clip{}", fields(&[("min", min), ("max", max)])),
        Function::LeakyRelu { alpha } => format!("Function::LeakyRelu{}", fields(&[("alpha", alpha)])),
        Function::Sigmoid => "Function::Sigmoid".into(),
        Function::Tanh => "Function::Tanh".into(),
        Function::HardSwish => "Function::HardSwish".into(),
        Function::HardSigmoid { alpha, beta } => {
            format!("Function::HardSigmoid{}", fields(&[("alpha", alpha), ("beta", beta)]))
        }
        Function::Affine { gain, offset } => {
            format!("Function::Affine{}", fields(&[("gain", gain), ("offset", offset)]))
        }
        Function::Abs => "Function::Abs".into(),
        Function::Exp => "Function::Exp".into(),
        Function::Sqrt => "Function::Sqrt".into(),
        Function::Reciprocal => "Function::Reciprocal".into(),
        Function::Erf => "Function::Erf".into(),
        Function::Gelu => "Function::Gelu".into(),
        Function::GeluTanh => "Function::GeluTanh".into(),
        Function::Select { yes, no } => format!("Function::Select{}", fields(&[("yes", yes), ("no", no)])),
    }
}
