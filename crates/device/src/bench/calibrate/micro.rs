//! Micro-benchmarks: programs of many steps, each a single kernel of a shape of its own, which share one arena.

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::program::{
    AddParams, AverageParams, Buffer, BufferId, Function, Kernel, Linear, MulParams, Multiplier, Plan, Port, Precision,
    Program, Quant, RawInput, RawTables, Step, Window,
};

/// A program of independent steps, and where their operands lie.
pub struct Micro {
    pub program: Program,
    pub plan: Plan,
}

/// Steps of one program, at most.
const STEPS: usize = 60;
/// Bounds on a shape: multiply-accumulates, bytes of weights, and elements of any operand. Weights and operands of one
/// step fit a second-level cache together.
const MACS: std::ops::RangeInclusive<usize> = 4_000..=3_000_000;
const WEIGHT_BYTES: usize = 256 << 10;
const ELEMENTS: usize = 40_000;

/// One program after the other with all the kernels of one precision: the same ones for the same seed.
pub fn programs(precision: Precision, seed: u64) -> Vec<Micro> {
    let mut shapes = Shapes { precision, rng: ChaCha8Rng::seed_from_u64(seed) };
    let mut cases: Vec<Case> = Vec::new();
    let mut add = |count: usize, make: fn(&mut Shapes) -> Case| cases.extend((0..count).map(|_| make(&mut shapes)));
    add(360, Shapes::conv2d);
    add(120, Shapes::depthwise);
    add(100, Shapes::fully_connected);
    add(50, Shapes::max_pool);
    add(50, Shapes::average_pool);
    add(20, Shapes::add);
    add(50, Shapes::mul);
    add(24, Shapes::function);
    add(20, Shapes::softmax);
    add(20, Shapes::pad);
    add(20, Shapes::concat);
    add(20, Shapes::transpose);
    // each program has some of every kind
    let parts = cases.len().div_ceil(STEPS);
    let mut split: Vec<Vec<Case>> = (0..parts).map(|_| Vec::new()).collect();
    cases.into_iter().enumerate().for_each(|(i, case)| split[i % parts].push(case));
    split.into_iter().enumerate().map(|(i, part)| assemble(precision, i, part)).collect()
}

/// A kernel, and the elements of its operands and of its result.
struct Case {
    kernel: Kernel,
    inputs: Vec<usize>,
    output: usize,
}

struct Shapes {
    precision: Precision,
    rng: ChaCha8Rng,
}

impl Shapes {
    /// Between the bounds, small numbers as often as large ones.
    fn size(&mut self, low: usize, high: usize) -> usize {
        let (low, high) = (low as f64, high as f64 + 1.0);
        (low * (high / low).powf(self.rng.random::<f64>())) as usize
    }

    /// Channels: mostly multiples of eight or four, as networks have them.
    fn channels(&mut self, high: usize) -> usize {
        let channels = self.size(3, high);
        let multiple = self.pick(&[8, 8, 4, 4, 2, 1]);
        (channels.next_multiple_of(multiple)).min(high)
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        *of.choose(&mut self.rng).unwrap_or(&of[0])
    }

    /// A window over an image or, one time in four, over a sequence (height 1).
    fn window(&mut self, kernels: &[usize], strides: &[usize], same: bool) -> Window {
        let sequence = self.rng.random_bool(0.25);
        let (kernel, stride) = (self.pick(kernels), self.pick(strides));
        let axis = |length: usize, kernel: usize, stride: usize| {
            let pad = if same { (kernel - 1) / 2 } else { 0 };
            let length = length.max(kernel);
            (length, (length + 2 * pad - kernel) / stride + 1, pad)
        };
        if sequence {
            let wide = if kernel == 1 { 1 } else { kernel + self.pick(&[0, 2, 4]) };
            let (length, output, pad) = axis(self.size(8, 256), wide, stride);
            let (input, output) = ([1, length], [1, output]);
            return Window {
                input,
                output,
                kernel: [1, wide],
                strides: [1, stride],
                pads: [0, pad],
                dilations: [1, 1],
            };
        }
        let (length, output, pad) = axis(self.size(2, 48), kernel, stride);
        Window {
            input: [length; 2],
            output: [output; 2],
            kernel: [kernel; 2],
            strides: [stride; 2],
            pads: [pad; 2],
            dilations: [1; 2],
        }
    }

    /// Draws until a case is within the bounds.
    fn within(&mut self, mut draw: impl FnMut(&mut Shapes) -> (Case, usize, usize)) -> Case {
        loop {
            let (case, macs, weights) = draw(self);
            let most = case.inputs.iter().chain([&case.output]).max().copied().unwrap_or(0);
            let bytes = weights * self.precision.bytes();
            if MACS.contains(&macs) && bytes <= WEIGHT_BYTES && most <= ELEMENTS && case.output > 0 {
                return case;
            }
        }
    }

    fn conv2d(&mut self) -> Case {
        let precision = self.precision;
        let mut case = self.within(|s| {
            let same = s.rng.random_bool(0.8);
            let window = s.window(&[1, 1, 1, 3, 3, 3, 3, 5, 7], &[1, 1, 1, 2], same);
            let groups = s.pick(&[1, 1, 1, 1, 1, 1, 1, 2]);
            let (i, o) = (s.channels(160).next_multiple_of(groups), s.channels(160).next_multiple_of(groups));
            let in_channels = if s.rng.random_bool(0.2) { s.pick(&[1, 3]) * groups } else { i };
            let run = window.kernel[0] * window.kernel[1] * in_channels / groups;
            let linear = Linear::F32 { weights: vec![], bias: vec![], min: 0.0, max: 6.0 };
            let kernel = Kernel::Conv2d { window, in_channels, out_channels: o, groups, linear };
            let (input, output) = (area(window.input) * in_channels, area(window.output) * o);
            (Case { kernel, inputs: vec![input], output }, area(window.output) * run * o, run * o)
        });
        if let Kernel::Conv2d { window, in_channels, out_channels, groups, linear } = &mut case.kernel {
            let run = window.kernel[0] * window.kernel[1] * *in_channels / *groups;
            *linear = self.linear(precision, run, *out_channels);
        }
        case
    }

    fn depthwise(&mut self) -> Case {
        let precision = self.precision;
        let mut case = self.within(|s| {
            let window = s.window(&[3, 3, 3, 5, 7], &[1, 1, 2], true);
            let channels = s.channels(256);
            let run = window.kernel[0] * window.kernel[1];
            let linear = Linear::F32 { weights: vec![], bias: vec![], min: 0.0, max: 6.0 };
            let kernel = Kernel::DepthwiseConv2d { window, channels, linear };
            let (input, output) = (area(window.input) * channels, area(window.output) * channels);
            (Case { kernel, inputs: vec![input], output }, output * run, run * channels)
        });
        if let Kernel::DepthwiseConv2d { window, channels, linear } = &mut case.kernel {
            *linear = self.linear(precision, window.kernel[0] * window.kernel[1], *channels);
        }
        case
    }

    fn fully_connected(&mut self) -> Case {
        let precision = self.precision;
        let mut case = self.within(|s| {
            let rows = if s.rng.random_bool(0.6) { 1 } else { s.size(2, 64) };
            let i = s.channels(1024);
            let o = if s.rng.random_bool(0.2) { s.pick(&[2, 5, 10, 12]) } else { s.channels(512) };
            let linear = Linear::F32 { weights: vec![], bias: vec![], min: 0.0, max: 6.0 };
            let kernel = Kernel::FullyConnected { rows, in_features: i, out_features: o, linear };
            (Case { kernel, inputs: vec![rows * i], output: rows * o }, rows * i * o, i * o)
        });
        if let Kernel::FullyConnected { in_features, out_features, linear, .. } = &mut case.kernel {
            *linear = self.linear(precision, *in_features, *out_features);
        }
        case
    }

    /// Numbers that keep results within the size of the operands; every bit of a weight is random.
    fn linear(&mut self, precision: Precision, run: usize, out: usize) -> Linear {
        let count = run * out;
        match precision {
            Precision::F32 => {
                let scale = (3.0 / run as f32).sqrt();
                let weights = (0..count).map(|_| self.rng.random_range(-scale..scale)).collect();
                Linear::F32 { weights, bias: vec![0.1; out], min: 0.0, max: 6.0 }
            }
            Precision::Int8 => Linear::Int8 {
                weights: (0..count).map(|_| self.rng.random_range(-127..=127)).collect(),
                bias: vec![7; out],
                requant: (0..out).map(|_| self.multiplier()).collect(),
                input_zero: -3,
                output_zero: -128,
                min: -128,
                max: 127,
            },
        }
    }

    fn multiplier(&mut self) -> Multiplier {
        Multiplier { mantissa: self.rng.random_range(1 << 30..i32::MAX), shift: self.rng.random_range(38..42) }
    }

    fn pooled(&mut self, kind: impl Fn(&mut Shapes, Window, usize) -> Kernel) -> Case {
        self.within(|s| {
            let global = s.rng.random_bool(0.3);
            let mut window = s.window(&[2, 2, 3], &[2, 2, 1], false);
            if global {
                window.kernel = window.input;
                window.output = [1, 1];
            }
            let channels = s.channels(160);
            let (input, output) = (area(window.input) * channels, area(window.output) * channels);
            let work = output * window.kernel[0] * window.kernel[1];
            (Case { kernel: kind(s, window, channels), inputs: vec![input], output }, work, 0)
        })
    }

    fn max_pool(&mut self) -> Case {
        self.pooled(|_, window, channels| Kernel::MaxPool { window, channels })
    }

    fn average_pool(&mut self) -> Case {
        let precision = self.precision;
        self.pooled(|s, window, channels| {
            let count = window.kernel[0] * window.kernel[1];
            let params = match precision {
                Precision::F32 => AverageParams::F32,
                Precision::Int8 => AverageParams::Int8 {
                    input_zero: -3,
                    output_zero: 2,
                    requant: (0..count).map(|_| s.multiplier()).collect(),
                },
            };
            Kernel::AveragePool { window, channels, count_pads: false, params }
        })
    }

    fn add(&mut self) -> Case {
        let elements = self.size(4, 400) * self.channels(96);
        let params = match self.precision {
            Precision::Int8 => AddParams::Int8 {
                a_zero: -3,
                b_zero: 5,
                a_gain: 1_200_000,
                b_gain: 900_000,
                shift: 20,
                output_zero: -128,
                min: -128,
                max: 127,
            },
            Precision::F32 => AddParams::F32 { min: 0.0, max: 6.0 },
        };
        Case { kernel: Kernel::Add(params), inputs: vec![elements; 2], output: elements }
    }

    fn mul(&mut self) -> Case {
        let (rows, channels) = (self.size(4, 400), self.channels(96));
        let (elements, broadcast) = (rows * channels, self.rng.random_bool(0.7));
        let params = match self.precision {
            Precision::Int8 => {
                let requant = self.multiplier();
                MulParams::Int8 { a_zero: -3, b_zero: 5, output_zero: 1, requant, min: -128, max: 127 }
            }
            Precision::F32 => MulParams::F32 { min: f32::NEG_INFINITY, max: f32::INFINITY },
        };
        let second = if broadcast { channels } else { elements };
        Case { kernel: Kernel::Mul { params, broadcast }, inputs: vec![elements, second], output: elements }
    }

    fn function(&mut self) -> Case {
        let elements = self.size(64, 30_000);
        let kernel = match self.precision {
            Precision::Int8 => Kernel::Lookup { table: Box::new(std::array::from_fn(|i| (i as u8 ^ 0x5a) as i8)) },
            Precision::F32 => Kernel::Map(self.pick(&[
                Function::Clip { min: 0.0, max: 6.0 },
                Function::LeakyRelu { alpha: 0.1 },
                Function::Sigmoid,
                Function::Sigmoid,
                Function::Tanh,
                Function::Tanh,
                Function::HardSwish,
                Function::HardSigmoid { alpha: 0.2, beta: 0.5 },
                Function::Affine { gain: 0.5, offset: 0.1 },
            ])),
        };
        Case { kernel, inputs: vec![elements], output: elements }
    }

    fn softmax(&mut self) -> Case {
        let (rows, len) = (self.size(1, 40), self.size(2, 300));
        let exp = (self.precision == Precision::Int8)
            .then(|| Box::new(std::array::from_fn(|d| ((-(d as f64) * 0.05).exp() * f64::from(1 << 23)) as u32)));
        Case { kernel: Kernel::Softmax { rows, len, exp }, inputs: vec![rows * len], output: rows * len }
    }

    fn pad(&mut self) -> Case {
        let side = self.size(3, 32);
        let input = [side, side, self.channels(32)];
        let by = self.pick(&[1, 1, 2, 3]);
        let output = (side + 2 * by) * (side + 2 * by) * input[2];
        let kernel = Kernel::Pad { input, pads: [by; 4], value: 0.0, stored: -3 };
        Case { kernel, inputs: vec![input.iter().product()], output }
    }

    fn concat(&mut self) -> Case {
        let outer = self.size(1, 400);
        let count = self.pick(&[2, 2, 3, 4]);
        let inner: Vec<usize> = (0..count).map(|_| self.channels(48)).collect();
        let inputs: Vec<usize> = inner.iter().map(|width| outer * width).collect();
        let output = inputs.iter().sum();
        Case { kernel: Kernel::Concat { outer, inner }, inputs, output }
    }

    fn transpose(&mut self) -> Case {
        let (shape, perm) = match self.rng.random_bool(0.5) {
            true => (vec![self.size(2, 128), self.size(2, 128)], vec![1, 0]),
            false => (vec![self.size(2, 24), self.size(2, 24), self.size(2, 24)], vec![2, 0, 1]),
        };
        let elements = shape.iter().product();
        Case { kernel: Kernel::Transpose { shape, perm }, inputs: vec![elements], output: elements }
    }
}

fn area(extents: [usize; 2]) -> usize {
    extents[0] * extents[1]
}

/// The operands of every step lie at the end of the arena, its result at the start (or, as in most networks, in place).
fn assemble(precision: Precision, number: usize, cases: Vec<Case>) -> Micro {
    const ALIGNMENT: usize = 64;
    let bytes = |elements: usize| (elements * precision.bytes()).next_multiple_of(ALIGNMENT);
    let operands = |case: &Case| case.inputs.iter().map(|&n| bytes(n)).sum::<usize>();
    let arena_bytes = cases.iter().map(|c| operands(c) + bytes(c.output)).max().unwrap_or(0);
    let (mut buffers, mut offsets, mut steps) = (Vec::new(), Vec::new(), Vec::new());
    let quant = (precision == Precision::Int8).then_some(Quant { scale: 0.05, zero_point: -3 });
    for (index, case) in cases.into_iter().enumerate() {
        let mut place = |elements: usize, offset: usize| {
            buffers.push(Buffer {
                name: format!("b{}", buffers.len()),
                shape: vec![elements],
                quant,
                ..Buffer::default()
            });
            offsets.push(offset);
            BufferId(buffers.len() as u32 - 1)
        };
        let first = arena_bytes - operands(&case);
        let mut at = first;
        let mut inputs = Vec::new();
        for &elements in &case.inputs {
            inputs.push(place(elements, at));
            at += bytes(elements);
        }
        let output = place(case.output, if case.kernel.in_place() { first } else { 0 });
        let name = format!("{} {index}", case.kernel.name());
        steps.push(Step { name, kernel: case.kernel, inputs, output });
    }
    let port =
        |shape: Vec<usize>, id: usize, perm| Port { name: format!("p{id}"), shape, buffer: BufferId(id as u32), perm };
    // the sample that comes in is no step's operand; images in ONNX's order, sequences, raw bytes
    let (channels, side) = ([3, 1, 8, 16, 4][number % 5], 8 + 5 * (number % 7));
    let (shape, perm) = match number % 3 {
        0 => (vec![1, side * side * channels], None),
        _ => (vec![1, channels, side, side], Some(vec![1, 2, 0])),
    };
    let raw_input = (number % 3 == 2).then(|| RawInput {
        axes: vec![1, 2, 0],
        tables: match precision {
            Precision::Int8 => RawTables::Int8(vec![std::array::from_fn(|byte| (byte as i16 - 128) as i8); channels]),
            Precision::F32 => RawTables::F32(vec![std::array::from_fn(|byte| byte as f32 / 255.0); channels]),
        },
    });
    let stored = if perm.is_some() { vec![side, side, channels] } else { vec![side * side * channels] };
    buffers.push(Buffer { name: "sample".into(), shape: stored, quant, ..Buffer::default() });
    offsets.push(0);
    let arena_bytes = arena_bytes.max(bytes(side * side * channels));
    let input = port(shape, buffers.len() - 1, perm);
    let last = steps.last().map_or(0, |step: &Step| step.output.index());
    let output = port(vec![1, buffers.get(last).map_or(0, Buffer::len)], last, None);
    let name = format!("kernels {number}");
    let program = Program { name, precision, buffers, steps, inputs: vec![input], output, raw_input };
    let plan = Plan { offsets, arena_bytes, lower_bound: arena_bytes, alignment: ALIGNMENT };
    Micro { program, plan }
}
