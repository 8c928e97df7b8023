//! Programs made by hand, with random numbers.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::program::*;

/// Adds steps to a program.
pub struct Maker {
    pub program: Program,
    random: ChaCha8Rng,
    int8: bool,
}

impl Maker {
    /// A network with an image `[height, width, channels]` as input, which the caller has as `[1, c, h, w]`.
    pub fn new(name: &str, precision: Precision, shape: [usize; 3], seed: u64) -> Maker {
        let [h, w, c] = shape;
        let mut maker = Maker {
            random: ChaCha8Rng::seed_from_u64(seed),
            int8: precision == Precision::Int8,
            program: Program {
                name: name.into(),
                precision,
                buffers: vec![],
                steps: vec![],
                inputs: vec![Port {
                    name: "image".into(),
                    shape: vec![1, c, h, w],
                    buffer: BufferId(0),
                    perm: Some(vec![1, 2, 0]),
                }],
                output: Port { name: "out".into(), shape: vec![], buffer: BufferId(0), perm: None },
                raw_input: None,
            },
        };
        maker.buffer(&shape);
        maker.raw_input(c);
        maker
    }

    /// Raw bytes of so many channels, which the caller has first.
    fn raw_input(&mut self, channels: usize) {
        let tables = preprocessing(channels);
        let tables = match self.program.buffers[0].quant {
            None => RawTables::F32(tables),
            Some(q) => {
                let stored = |x| kdc_kernels::port::quantize(x, q.scale, q.zero_point);
                RawTables::Int8(tables.into_iter().map(|table| table.map(stored)).collect())
            }
        };
        self.program.raw_input = Some(RawInput { tables, axes: vec![1, 2, 0] });
    }

    fn buffer(&mut self, shape: &[usize]) -> BufferId {
        let quant = self.int8.then_some(Quant { scale: 0.02, zero_point: -11 });
        self.program.buffers.push(Buffer {
            name: format!("value {}", self.program.buffers.len()),
            shape: shape.into(),
            quant,
            ..Buffer::default()
        });
        BufferId(self.program.buffers.len() as u32 - 1)
    }

    /// The last step's result.
    pub fn last(&self) -> BufferId {
        BufferId(self.program.buffers.len() as u32 - 1)
    }

    pub fn image(&self, id: BufferId) -> [usize; 3] {
        self.program.buffer(id).shape[..].try_into().unwrap()
    }

    pub fn step(&mut self, kernel: Kernel, inputs: &[BufferId], shape: &[usize]) -> BufferId {
        let output = self.buffer(shape);
        let name = format!("node {}", self.program.steps.len());
        self.program.steps.push(Step { name, kernel, inputs: inputs.into(), output });
        output
    }

    pub fn multiplier(&mut self, run: usize) -> Multiplier {
        let shift = 37 + (run as f64).sqrt().log2().round() as u8;
        Multiplier { mantissa: self.random.random_range(1 << 30..=i32::MAX), shift }
    }

    pub fn linear(&mut self, out: usize, run: usize) -> Linear {
        let random = &mut self.random;
        if self.int8 {
            let weights = (0..out * run).map(|_| random.random_range(-127..=127)).collect();
            let bias = (0..out).map(|_| random.random_range(-2000..2000)).collect();
            let requant = (0..out).map(|_| self.multiplier(run)).collect();
            Linear::Int8 { weights, bias, requant, input_zero: -11, output_zero: -11, min: -90, max: 127 }
        } else {
            let bound = (run as f32).powf(-0.5);
            let weights = (0..out * run).map(|_| random.random_range(-bound..bound)).collect();
            let bias = (0..out).map(|_| random.random_range(-bound..bound)).collect();
            Linear::F32 { weights, bias, min: -1.5, max: f32::INFINITY }
        }
    }

    /// A square convolution, same padding as `pad` says.
    pub fn conv(
        &mut self,
        from: BufferId,
        out: usize,
        kernel: usize,
        stride: usize,
        pad: usize,
        groups: usize,
    ) -> BufferId {
        let [h, w, c] = self.image(from);
        let window = window([h, w], kernel, stride, pad, 1);
        let linear = self.linear(out, kernel * kernel * c / groups);
        let kernel = Kernel::Conv2d { window, in_channels: c, out_channels: out, groups, linear };
        self.step(kernel, &[from], &[window.output[0], window.output[1], out])
    }

    pub fn add(&mut self, a: BufferId, b: BufferId) -> BufferId {
        let params = match self.int8 {
            true => AddParams::Int8 {
                a_zero: -11,
                b_zero: -11,
                a_gain: 700_001,
                b_gain: 500_009,
                shift: 20,
                output_zero: -11,
                min: -11,
                max: 127,
            },
            false => AddParams::F32 { min: 0.0, max: f32::INFINITY },
        };
        let shape = self.program.buffer(a).shape.clone();
        self.step(Kernel::Add(params), &[a, b], &shape)
    }

    pub fn mul(&mut self, a: BufferId, b: BufferId, broadcast: bool) -> BufferId {
        let params = match self.int8 {
            true => MulParams::Int8 {
                a_zero: -11,
                b_zero: -11,
                output_zero: -11,
                requant: Multiplier { mantissa: 1_234_567_890, shift: 36 },
                min: -128,
                max: 127,
            },
            false => MulParams::F32 { min: f32::NEG_INFINITY, max: f32::INFINITY },
        };
        let shape = self.program.buffer(a).shape.clone();
        self.step(Kernel::Mul { params, broadcast }, &[a, b], &shape)
    }

    /// A function of one variable; in an `i8` program, its table.
    pub fn function(&mut self, x: BufferId, function: Function) -> BufferId {
        let shape = self.program.buffer(x).shape.clone();
        let kernel = match self.int8 {
            true => {
                let mut table = [0; 256];
                table.iter_mut().enumerate().for_each(|(i, y)| *y = (i as f32 / 40.0).sin().mul_add(90.0, -11.0) as i8);
                Kernel::Lookup { table: Box::new(table) }
            }
            false => Kernel::Map(function),
        };
        self.step(kernel, &[x], &shape)
    }

    pub fn softmax(&mut self, x: BufferId, rows: usize, len: usize) -> BufferId {
        let exp = self.int8.then(|| {
            let power = |d: usize| ((-(d as f64) * 0.02).exp() * f64::from(1 << 23)).round() as u32;
            Box::new(std::array::from_fn(power))
        });
        let output = self.step(Kernel::Softmax { rows, len, exp }, &[x], &[rows, len]);
        if self.int8 {
            self.program.buffers[output.index()].quant = Some(Quant { scale: 1.0 / 255.0, zero_point: -128 });
        }
        output
    }

    pub fn average(&mut self, from: BufferId, window: Window, count_pads: bool) -> BufferId {
        let channels = self.image(from)[2];
        let count = window.kernel[0] * window.kernel[1];
        let params = match self.int8 {
            true => AverageParams::Int8 {
                input_zero: -11,
                output_zero: -11,
                requant: (1..=count)
                    .map(|n| {
                        let mut m = Multiplier { mantissa: 0, shift: 30 };
                        let mut gain = 1.0 / n as f64;
                        while gain < 1.0 {
                            gain *= 2.0;
                            m.shift += 1;
                        }
                        m.mantissa = (gain * (1u64 << 30) as f64) as i32;
                        m
                    })
                    .collect(),
            },
            false => AverageParams::F32,
        };
        let kernel = Kernel::AveragePool { window, channels, count_pads, params };
        self.step(kernel, &[from], &[window.output[0], window.output[1], channels])
    }

    pub fn div(&mut self, a: BufferId, b: BufferId) -> BufferId {
        let params = match self.int8 {
            true => MulParams::Int8 {
                a_zero: -11,
                b_zero: -11,
                output_zero: -11,
                requant: Multiplier { mantissa: 1_234_567_890, shift: 26 },
                min: -128,
                max: 127,
            },
            false => MulParams::F32 { min: -100.0, max: 100.0 },
        };
        let shape = self.program.buffer(a).shape.clone();
        self.step(Kernel::Div(params), &[a, b], &shape)
    }

    pub fn fully_connected(&mut self, from: BufferId, out: usize) -> BufferId {
        let run = self.program.buffer(from).len();
        let linear = self.linear(out, run);
        let kernel = Kernel::FullyConnected { rows: 1, in_features: run, out_features: out, linear };
        self.step(kernel, &[from], &[out])
    }

    pub fn finish(mut self) -> Program {
        let last = self.last();
        let buffer = self.program.buffer(last);
        self.program.output.shape = [&[1], &buffer.shape[..]].concat();
        self.program.output.buffer = last;
        self.program
    }
}

/// Bytes to the network's input, per channel.
pub fn preprocessing(channels: usize) -> Vec<[f32; 256]> {
    let table = |c: usize| std::array::from_fn(|byte| (byte as f32 / 255.0 - 0.4) / (0.3 + c as f32 * 0.1));
    (0..channels).map(table).collect()
}

pub fn window(input: [usize; 2], kernel: usize, stride: usize, pad: usize, dilation: usize) -> Window {
    let output = input.map(|n| (n + 2 * pad - (kernel - 1) * dilation - 1) / stride + 1);
    Window { input, output, kernel: [kernel; 2], strides: [stride; 2], pads: [pad; 2], dilations: [dilation; 2] }
}

/// Every kind of kernel but those of sequences, in networks of one precision.
pub fn every_kernel(precision: Precision) -> Vec<Program> {
    vec![convolutions(precision), vectors(precision), functions(precision), joined(precision)]
}

/// More vectors one after the other than there are short names for.
fn joined(precision: Precision) -> Program {
    let mut m = Maker::new(&format!("joined_{precision:?}"), precision, [1, 2, 3], 4);
    let x = m.step(Kernel::Reshape, &[BufferId(0)], &[6]);
    let inner: Vec<usize> = (0..11).map(|part| 1 + part % 3).collect();
    let parts: Vec<BufferId> = inner.iter().map(|&width| m.fully_connected(x, width)).collect();
    let width = inner.iter().sum();
    let y = m.step(Kernel::Concat { outer: 1, inner }, &parts, &[width]);
    m.fully_connected(y, 5);
    m.finish()
}

/// A sum of functions of one vector, of an input that the network turns: the buffer has its columns outermost.
fn functions(precision: Precision) -> Program {
    let mut m = Maker::new(&format!("functions_{precision:?}"), precision, [2, 3, 5], 3);
    let name = m.program.inputs[0].name.clone();
    m.program.inputs[0] = Port { name, shape: vec![1, 3, 5, 2], buffer: BufferId(0), perm: Some(vec![2, 0, 1]) };
    m.raw_input(3);
    let x = m.step(Kernel::Reshape, &[BufferId(0)], &[30]);
    let x = m.fully_connected(x, 24);
    let mut sum = x;
    for function in [
        Function::Erf,
        Function::Gelu,
        Function::GeluTanh,
        Function::Abs,
        Function::Exp,
        Function::Select { yes: 0.25, no: -1.0 },
        Function::Reciprocal,
    ] {
        let term = m.function(x, function);
        sum = m.add(sum, term);
    }
    let x = m.function(sum, Function::Abs);
    let x = m.function(x, Function::Sqrt);
    m.fully_connected(x, 9);
    m.finish()
}

/// Images: convolutions of all shapes, pooling, padding, concatenation, gates.
fn convolutions(precision: Precision) -> Program {
    let mut m = Maker::new(&format!("images_{precision:?}"), precision, [13, 11, 3], 1);
    let x = m.conv(BufferId(0), 12, 3, 1, 1, 1);
    let y = m.conv(x, 20, 5, 2, 2, 1);
    let y = m.conv(y, 18, 3, 1, 1, 2);
    let y = m.conv(y, 12, 1, 1, 0, 1);
    let dilated = {
        let [h, w, c] = m.image(y);
        let window = window([h, w], 3, 1, 2, 2);
        let linear = m.linear(c, 9);
        let kernel = Kernel::DepthwiseConv2d { window, channels: c, linear };
        m.step(kernel, &[y], &[window.output[0], window.output[1], c])
    };
    let y = m.add(y, dilated);
    let y = m.add(y, y);
    let [h, w, c] = m.image(y);
    let pooled = m.average(y, window([h, w], 3, 2, 1, 1), false);
    let counted = m.average(y, window([h, w], 3, 2, 1, 1), true);
    let largest = window([h, w], 3, 2, 1, 1);
    let shape = [largest.output[0], largest.output[1], c];
    let largest = m.step(Kernel::MaxPool { window: largest, channels: c }, &[y], &shape);
    let kernel = Kernel::Concat { outer: shape[0] * shape[1], inner: vec![c, c, c] };
    let y = m.step(kernel, &[pooled, counted, largest], &[shape[0], shape[1], 3 * c]);
    let [h, w, c] = m.image(y);
    let gate = m.average(y, Window { kernel: [h, w], output: [1, 1], ..window([h, w], 1, 1, 0, 1) }, false);
    let gate = m.conv(gate, c, 1, 1, 0, 1);
    let y = m.mul(y, gate, true);
    let pads = [1, 2, 0, 1];
    let y = m.step(Kernel::Pad { input: [h, w, c], pads, value: 0.5, stored: 14 }, &[y], &[h + 1, w + 3, c]);
    let y = m.mul(y, y, false);
    let perm = vec![2, 0, 1];
    let y = m.step(Kernel::Transpose { shape: vec![h + 1, w + 3, c], perm }, &[y], &[c, h + 1, w + 3]);
    let flat = m.program.buffer(y).len();
    let y = m.step(Kernel::Reshape, &[y], &[flat]);
    m.fully_connected(y, 33);
    m.finish()
}

/// Vectors: functions of one variable, products, softmax.
fn vectors(precision: Precision) -> Program {
    let mut m = Maker::new(&format!("vectors_{precision:?}"), precision, [2, 3, 5], 2);
    let x = m.step(Kernel::Reshape, &[BufferId(0)], &[30]);
    let mut x = m.fully_connected(x, 40);
    for function in [
        Function::Clip { min: -3.0, max: 2.5 },
        Function::LeakyRelu { alpha: 0.1 },
        Function::HardSwish,
        Function::Affine { gain: 3.0, offset: -0.5 },
        Function::Tanh,
        Function::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Function::Sigmoid,
    ] {
        let hidden = m.fully_connected(x, 40);
        x = m.function(hidden, function);
    }
    let a = m.fully_connected(x, 24);
    let b = m.fully_connected(x, 24);
    let x = m.mul(a, b, false);
    let c = m.fully_connected(x, 24);
    let x = m.div(x, c);
    let linear = m.linear(7, 8);
    let kernel = Kernel::FullyConnected { rows: 3, in_features: 8, out_features: 7, linear };
    let x = m.step(kernel, &[x], &[3, 7]);
    m.softmax(x, 3, 7);
    m.finish()
}

/// A ResNet-8 for 28 x 28 x 1, 9.3 million multiplications.
pub fn residual_network(precision: Precision) -> Program {
    let mut m = Maker::new(&format!("resnet8_{precision:?}"), precision, [28, 28, 1], 5);
    let mut x = m.conv(BufferId(0), 16, 3, 1, 1, 1);
    for (width, stride) in [(16, 1), (32, 2), (64, 2)] {
        let y = m.conv(x, width, 3, stride, 1, 1);
        let y = m.conv(y, width, 3, 1, 1, 1);
        let skip = if stride == 1 { x } else { m.conv(x, width, 1, stride, 0, 1) };
        x = m.add(y, skip);
    }
    let [h, w, c] = m.image(x);
    let x = m.average(x, window([h, w], h, 1, 0, 1), false);
    let x = m.step(Kernel::Reshape, &[x], &[c]);
    m.fully_connected(x, 10);
    m.finish()
}

/// A plan that gives every buffer its own place, except views.
pub fn stacked(program: &Program) -> Plan {
    let bytes = |id: usize| program.buffers[id].len() * program.precision.bytes();
    let mut offsets = vec![];
    let mut arena_bytes: usize = 0;
    for id in 0..program.buffers.len() {
        let view = program.steps.iter().find(|s| s.kernel == Kernel::Reshape && s.output.index() == id);
        offsets.push(match view {
            Some(view) => offsets[view.inputs[0].index()],
            None => arena_bytes.next_multiple_of(16),
        });
        arena_bytes = arena_bytes.max(offsets[id] + bytes(id));
    }
    Plan { offsets, arena_bytes, lower_bound: 0, alignment: 16 }
}
