//! Random networks against their masked selves.

use super::*;
use kdc_ir::graph::{Builder, Cell, Conv, Direction, Op, Pool, Recurrent, ValueId};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub(super) struct Maker {
    pub b: Builder,
    pub rng: ChaCha8Rng,
    pub count: usize,
}

impl Maker {
    fn name(&mut self, what: &str) -> String {
        self.count += 1;
        format!("{what}{}", self.count)
    }

    pub fn tensor(&mut self, shape: &[usize]) -> Tensor {
        let scale = 1.5 / (shape.iter().skip(1).product::<usize>().max(1) as f32).sqrt();
        let data = (0..shape.iter().product::<usize>()).map(|_| scale * self.rng.random_range(-1.0f32..1.0)).collect();
        Tensor::f32(shape.to_vec(), data)
    }

    pub fn constant(&mut self, shape: &[usize]) -> ValueId {
        let tensor = self.tensor(shape);
        let name = self.name("w");
        self.b.constant(&name, tensor)
    }

    pub fn push(&mut self, op: Op, inputs: &[ValueId]) -> ValueId {
        let name = self.name(op.name());
        self.b.node(&name, op, inputs).unwrap()
    }

    pub fn conv(&mut self, x: ValueId, from: usize, to: usize, kernel: usize, group: usize) -> ValueId {
        let (w, bias) = (self.constant(&[to, from / group, kernel, kernel]), self.constant(&[to]));
        let pads = vec![kernel / 2; 4];
        let conv = Conv { kernel: vec![kernel; 2], strides: vec![1; 2], pads, dilations: vec![1; 2], group };
        self.push(Op::Conv(conv), &[x, w, bias])
    }

    pub fn norm(&mut self, x: ValueId, channels: usize) -> ValueId {
        let v = |m: &mut Self, low: f32, high: f32| {
            let data = (0..channels).map(|_| m.rng.random_range(low..high)).collect();
            let name = m.name("n");
            m.b.constant(&name, Tensor::f32([channels], data))
        };
        let (scale, bias, mean, variance) =
            (v(self, 0.5, 1.5), v(self, -0.5, 0.5), v(self, -0.5, 0.5), v(self, 0.5, 1.5));
        self.push(Op::BatchNormalization { epsilon: 1e-5 }, &[x, scale, bias, mean, variance])
    }

    pub fn linear(&mut self, x: ValueId, from: usize, to: usize) -> ValueId {
        let (w, bias) = (self.constant(&[from, to]), self.constant(&[to]));
        let y = self.push(Op::MatMul, &[x, w]);
        self.push(Op::Add, &[y, bias])
    }
}

/// An image network of random blocks.
fn image(seed: u64) -> Graph {
    let mut m = Maker { b: Builder::new("random"), rng: ChaCha8Rng::seed_from_u64(seed), count: 0 };
    let x = m.b.input("x", &[Dim::Batch, fixed(3), fixed(6), fixed(6)]);
    let mut channels = 4 * m.rng.random_range(2..5);
    let mut y = m.conv(x, 3, channels, 3, 1);
    for _ in 0..m.rng.random_range(3..8) {
        y = match m.rng.random_range(0..10) {
            // A residual block.
            0 => {
                let inner = m.rng.random_range(3..9);
                let a = m.conv(y, channels, inner, 3, 1);
                let a = m.norm(a, inner);
                let a = m.push(Op::Relu, &[a]);
                let a = m.conv(a, inner, channels, 1, 1);
                m.push(Op::Add, &[a, y])
            }
            // A depthwise separable one.
            1 => {
                let a = m.conv(y, channels, channels, 3, channels);
                let next = 4 * m.rng.random_range(1..5);
                let a = m.conv(a, channels, next, 1, 1);
                channels = next;
                a
            }
            // Depthwise with a multiplier.
            2 => {
                channels *= 2;
                m.conv(y, channels / 2, channels, 3, channels / 2)
            }
            // In two groups.
            3 => m.conv(y, channels, channels, 3, 2),
            // Branches.
            4 => {
                let (p, q) = (m.rng.random_range(2..6), m.rng.random_range(2..6));
                let (a, b) = (m.conv(y, channels, p, 1, 1), m.conv(y, channels, q, 3, 1));
                let pad = 4 - (channels + p + q) % 4;
                let c = m.conv(y, channels, pad, 1, 1);
                let joined = m.push(Op::Concat { axis: 1 }, &[y, a, b, c]);
                channels += p + q + pad;
                joined
            }
            // Halves, one of them convolved, and shuffled together.
            5 => {
                let half = channels / 2;
                let name = m.name("split");
                let parts = split(&mut m, &name, y, half);
                let a = m.conv(parts[1], half, half, 3, 1);
                let joined = m.push(Op::Concat { axis: 1 }, &[parts[0], a]);
                let shape = vec![Dim::Batch, fixed(2), fixed(half), fixed(6), fixed(6)];
                let a = m.push(Op::Reshape { shape }, &[joined]);
                let a = m.push(Op::Transpose { perm: vec![0, 2, 1, 3, 4] }, &[a]);
                m.push(Op::Reshape { shape: vec![Dim::Batch, fixed(channels), fixed(6), fixed(6)] }, &[a])
            }
            // Squeeze and excite.
            6 => {
                let a = m.push(Op::GlobalAveragePool, &[y]);
                let a = m.conv(a, channels, 5, 1, 1);
                let a = m.push(Op::Relu, &[a]);
                let a = m.conv(a, 5, channels, 1, 1);
                let a = m.push(Op::Sigmoid, &[a]);
                m.push(Op::Mul, &[y, a])
            }
            7 => m.push(Op::Lrn { size: 3, alpha: 0.1, beta: 0.75, bias: 1.0 }, &[y]),
            // A shortcut that is padded with zeros.
            8 => {
                let a = m.conv(y, channels, channels + 8, 3, 1);
                let pads = vec![0, 4, 0, 0, 0, 4, 0, 0];
                let b = m.push(Op::Pad { pads, mode: kdc_ir::graph::PadMode::Constant(0.0) }, &[y]);
                channels += 8;
                m.push(Op::Add, &[a, b])
            }
            _ => {
                let y = m.norm(y, channels);
                let pool = Pool {
                    kernel: vec![3; 2],
                    strides: vec![1; 2],
                    pads: vec![1; 4],
                    dilations: vec![1; 2],
                    ceil_mode: false,
                    count_include_pad: false,
                };
                m.push(Op::MaxPool(pool), &[y])
            }
        };
        if m.rng.random_bool(0.5) {
            y = m.push(Op::HardSwish, &[y]);
        }
    }
    let flat = m.push(Op::Flatten { axis: 1 }, &[y]);
    let (w, bias) = (m.constant(&[5, 36 * channels]), m.constant(&[5]));
    let gemm = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
    let y = m.push(gemm, &[flat, w, bias]);
    m.b.finish(&[y])
}

fn split(m: &mut Maker, name: &str, x: ValueId, half: usize) -> Vec<ValueId> {
    let slice = |from: usize, to: usize| Op::Slice {
        starts: vec![from as i64],
        ends: vec![to as i64],
        axes: vec![1],
        steps: vec![1],
    };
    [(0, half), (half, 2 * half)]
        .map(|(from, to)| m.b.node(&format!("{name}.{from}"), slice(from, to), &[x]).unwrap())
        .to_vec()
}

/// A sequence network of attention, recurrence and products.
fn sequence(seed: u64) -> Graph {
    let mut m = Maker { b: Builder::new("random"), rng: ChaCha8Rng::seed_from_u64(seed), count: 0 };
    let (length, heads) = (5, m.rng.random_range(1..4));
    let width = heads * 4 * m.rng.random_range(1..3);
    let x = m.b.input("x", &[Dim::Batch, fixed(length), fixed(7)]);
    let mut y = m.linear(x, 7, width);
    for _ in 0..m.rng.random_range(1..4) {
        let branch = match m.rng.random_range(0..4) {
            0 | 1 => {
                let per = width / heads;
                let fused = m.rng.random_bool(0.5);
                let parts: Vec<ValueId> = if fused {
                    let all = m.linear(y, width, 3 * width);
                    (0..3)
                        .map(|i| {
                            let op = Op::Slice {
                                starts: vec![(i * width) as i64],
                                ends: vec![((i + 1) * width) as i64],
                                axes: vec![2],
                                steps: vec![1],
                            };
                            m.push(op, &[all])
                        })
                        .collect()
                } else {
                    (0..3).map(|_| m.linear(y, width, width)).collect()
                };
                let split = |m: &mut Maker, x: ValueId, perm: Vec<usize>| {
                    let shape = vec![Dim::Batch, fixed(length), fixed(heads), fixed(per)];
                    let x = m.push(Op::Reshape { shape }, &[x]);
                    m.push(Op::Transpose { perm }, &[x])
                };
                let q = split(&mut m, parts[0], vec![0, 2, 1, 3]);
                let k = split(&mut m, parts[1], vec![0, 2, 3, 1]);
                let v = split(&mut m, parts[2], vec![0, 2, 1, 3]);
                let scores = m.push(Op::MatMul, &[q, k]);
                let shares = m.push(Op::Softmax { axis: 3 }, &[scores]);
                let mixed = m.push(Op::MatMul, &[shares, v]);
                let mixed = m.push(Op::Transpose { perm: vec![0, 2, 1, 3] }, &[mixed]);
                let shape = vec![Dim::Batch, fixed(length), fixed(width)];
                let mixed = m.push(Op::Reshape { shape }, &[mixed]);
                m.linear(mixed, width, width)
            }
            2 => {
                let inner = m.rng.random_range(4..20);
                let a = m.linear(y, width, inner);
                let a = m.push(Op::Tanh, &[a]);
                m.linear(a, inner, width)
            }
            _ => {
                let hidden = m.rng.random_range(3..7);
                let cell = [Cell::Rnn, Cell::Lstm, Cell::Gru { reset_after: true }, Cell::Gru { reset_after: false }]
                    [m.rng.random_range(0..4)];
                recurrent(&mut m, y, width, hidden, cell, length)
            }
        };
        y = m.push(Op::Add, &[y, branch]);
        if m.rng.random_bool(0.5) {
            let (scale, bias) = (m.constant(&[width]), m.constant(&[width]));
            y = m.push(Op::LayerNormalization { axis: 2, epsilon: 1e-5 }, &[y, scale, bias]);
        }
    }
    let y = m.push(Op::ReduceMean { axes: vec![1], keepdims: false }, &[y]);
    let y = m.linear(y, width, 3);
    m.b.finish(&[y])
}

fn recurrent(m: &mut Maker, x: ValueId, width: usize, hidden: usize, cell: Cell, length: usize) -> ValueId {
    use kdc_ir::graph::Activation::{Sigmoid, Tanh};
    let gates = cell.gates();
    let of_one = match cell {
        Cell::Rnn => vec![Tanh],
        Cell::Lstm => vec![Sigmoid, Tanh, Tanh],
        Cell::Gru { .. } => vec![Sigmoid, Tanh],
    };
    let op = Recurrent {
        cell,
        hidden,
        direction: Direction::Both,
        activations: [of_one.clone(), of_one].concat(),
        clip: None,
        coupled: false,
        batch_first: false,
    };
    let x = m.push(Op::Transpose { perm: vec![1, 0, 2] }, &[x]);
    let w = m.constant(&[2, gates * hidden, width]);
    let r = m.constant(&[2, gates * hidden, hidden]);
    let bias = m.constant(&[2, 2 * gates * hidden]);
    let y = m.push(Op::Recurrent(op), &[x, w, r, bias]);
    let y = m.push(Op::Transpose { perm: vec![2, 0, 1, 3] }, &[y]);
    let y = m.push(Op::Reshape { shape: vec![Dim::Batch, fixed(length), fixed(2 * hidden)] }, &[y]);
    m.linear(y, 2 * hidden, width)
}

#[test]
fn cut_networks_compute_what_masked_ones_do() {
    let mut cut = 0;
    for seed in 0..60 {
        for (kind, graph) in [("image", image(seed)), ("sequence", sequence(seed))] {
            let name = format!("{kind} {seed}");
            let groups = Groups::find(&graph);
            let inputs: Vec<Tensor> = graph.inputs.iter().map(|&id| input(graph.value(id), 2, 1)).collect();
            for share in [0.75, 0.5, 0.25] {
                let student = assert_equal_to_masked(&graph, &groups, share, &inputs, &name);
                cut += usize::from(kdc_ir::graph::cost(&student).0.params < kdc_ir::graph::cost(&graph).0.params);
            }
        }
    }
    assert!(cut > 340, "only {cut} of 360 cuts left fewer parameters");
}
