//! Twenty networks of eight kinds, drawn from a seed, whose multiply-accumulates lie within a factor two.

use kdc::graph::{Builder, Conv, Dim, Graph, Op, Pool, Tensor, ValueId, cost};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Every network has between these.
const MACS: std::ops::RangeInclusive<u64> = 2_100_000..=4_200_000;

/// Adds the layers of one kind of network.
type Make = fn(&mut Net);

/// Names and networks.
pub fn draw(seed: u64) -> Vec<(String, Graph)> {
    let kinds: [(&str, usize, Make); 8] = [
        ("separable", 4, separable),
        ("residual", 4, residual),
        ("wide", 2, wide),
        ("deep", 2, deep),
        ("mlp", 2, mlp),
        ("sequence", 2, sequence),
        ("separable-sequence", 2, separable_sequence),
        ("gated", 2, gated),
    ];
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut networks = Vec::new();
    for (kind, count, make) in kinds {
        for number in 1..=count {
            networks.push((format!("{kind}-{number}"), within(make, &mut rng)));
        }
    }
    networks
}

/// Draws until the multiply-accumulates are within the bounds.
fn within(make: Make, rng: &mut ChaCha8Rng) -> Graph {
    loop {
        let mut net = Net::new(ChaCha8Rng::seed_from_u64(rng.random()));
        make(&mut net);
        let graph = net.finish();
        if MACS.contains(&cost(&graph).0.macs) {
            return graph;
        }
    }
}

/// A network that grows at its end.
struct Net {
    b: Builder,
    rng: ChaCha8Rng,
    at: ValueId,
    /// Channels, height, width.
    shape: [usize; 3],
    named: usize,
}

impl Net {
    fn new(rng: ChaCha8Rng) -> Net {
        Net { b: Builder::new("student"), rng, at: ValueId(0), shape: [0; 3], named: 0 }
    }

    fn input(&mut self, channels: &[usize], extents: std::ops::RangeInclusive<usize>, sequence: bool) {
        let (channels, extent) = (self.pick(channels), self.rng.random_range(extents));
        self.shape = [channels, if sequence { 1 } else { extent }, extent];
        let [c, h, w] = self.shape.map(Dim::Fixed);
        self.at = self.b.input("x", &[Dim::Batch, c, h, w]);
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        *of.choose(&mut self.rng).expect("something to pick from")
    }

    fn name(&mut self, kind: &str) -> String {
        self.named += 1;
        format!("{kind}{}", self.named)
    }

    fn noise(&mut self, count: usize, fan_in: usize) -> Vec<f32> {
        let scale = (6.0 / fan_in as f32).sqrt();
        (0..count).map(|_| self.rng.random_range(-scale..scale)).collect()
    }

    fn op(&mut self, kind: &str, op: Op, inputs: &[ValueId]) -> ValueId {
        let name = self.name(kind);
        self.b.node(&name, op, inputs).expect("operands that fit")
    }

    /// "Same" padding; a kernel of one row on sequences.
    fn conv(&mut self, out: usize, kernel: usize, stride: usize, group: usize) {
        let [channels, height, width] = self.shape;
        let rows = if height == 1 { 1 } else { kernel };
        let shape = [out, channels / group, rows, kernel];
        let weights = self.noise(shape.iter().product(), shape[1..].iter().product());
        let name = self.name("conv");
        let w = self.b.constant(&format!("{name}.w"), Tensor::f32(shape, weights));
        let bias = self.noise(out, 600);
        let b = self.b.constant(&format!("{name}.b"), Tensor::f32([out], bias));
        let (down, pads) = (if height == 1 { 1 } else { stride }, [(rows - 1) / 2, (kernel - 1) / 2]);
        let conv = Conv {
            kernel: vec![rows, kernel],
            strides: vec![down, stride],
            pads: [pads, pads].concat(),
            dilations: vec![1; 2],
            group,
        };
        self.at = self.b.node(&name, Op::Conv(conv), &[self.at, w, b]).expect("operands that fit");
        self.shape = [out, height.div_ceil(down), width.div_ceil(stride)];
    }

    fn relu(&mut self) {
        self.at = self.op("relu", Op::Relu, &[self.at]);
    }

    fn conv_relu(&mut self, out: usize, kernel: usize, stride: usize) {
        self.conv(out, kernel, stride, 1);
        self.relu();
    }

    fn separable(&mut self, out: usize, kernel: usize, stride: usize) {
        self.conv(self.shape[0], kernel, stride, self.shape[0]);
        self.relu();
        self.conv_relu(out, 1, 1);
    }

    fn max_pool(&mut self) {
        let [channels, height, width] = self.shape;
        let rows = if height == 1 { 1 } else { 2 };
        let pool = Pool {
            kernel: vec![rows, 2],
            strides: vec![rows, 2],
            pads: vec![0; 4],
            dilations: vec![1; 2],
            ceil_mode: false,
            count_include_pad: false,
        };
        self.at = self.op("pool", Op::MaxPool(pool), &[self.at]);
        self.shape = [channels, height / rows, width / 2];
    }

    fn global_average(&mut self) {
        self.at = self.op("mean", Op::GlobalAveragePool, &[self.at]);
        self.shape = [self.shape[0], 1, 1];
    }

    fn flatten(&mut self) {
        self.at = self.op("flat", Op::Flatten { axis: 1 }, &[self.at]);
        self.shape = [self.shape.iter().product(), 1, 1];
    }

    fn linear(&mut self, out: usize) {
        let inputs = self.shape[0];
        let weights = self.noise(inputs * out, inputs);
        let name = self.name("fc");
        let w = self.b.constant(&format!("{name}.w"), Tensor::f32([out, inputs], weights));
        let bias = self.noise(out, 600);
        let b = self.b.constant(&format!("{name}.b"), Tensor::f32([out], bias));
        let gemm = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
        self.at = self.b.node(&name, gemm, &[self.at, w, b]).expect("operands that fit");
        self.shape = [out, 1, 1];
    }

    fn classify(&mut self) {
        self.global_average();
        self.flatten();
        let classes = self.pick(&[2, 10, 12, 35]);
        self.linear(classes);
    }

    fn finish(self) -> Graph {
        self.b.finish(&[self.at])
    }
}

fn separable(net: &mut Net) {
    net.input(&[1, 3, 3], 20..=64, false);
    let mut width = net.pick(&[8, 12, 16, 20, 24, 32]);
    let kernel = net.pick(&[3, 3, 5]);
    net.conv_relu(width, 3, 2);
    for _ in 0..net.rng.random_range(2..=4) {
        for _ in 0..net.rng.random_range(0..=2) {
            net.separable(width, kernel, 1);
        }
        width = width * 3 / 2 + net.pick(&[0, 2, 4, 8]);
        net.separable(width, kernel, 2);
    }
    net.classify();
}

fn residual(net: &mut Net) {
    net.input(&[1, 3, 3], 16..=40, false);
    let mut width = net.pick(&[6, 8, 10, 12, 16]);
    net.conv_relu(width, 3, 1);
    for stage in 0..net.rng.random_range(2..=3) {
        if stage > 0 {
            width = width * net.pick(&[3, 4]) / 2;
            net.conv_relu(width, 3, 2);
        }
        for _ in 0..net.rng.random_range(1..=2) {
            let shortcut = net.at;
            net.conv_relu(width, 3, 1);
            net.conv(width, 3, 1, 1);
            net.at = net.op("sum", Op::Add, &[net.at, shortcut]);
            net.relu();
        }
    }
    net.classify();
}

fn wide(net: &mut Net) {
    net.input(&[1, 3], 14..=32, false);
    let width = net.rng.random_range(24..=120);
    let (kernel, stride) = (net.pick(&[3, 5]), net.pick(&[1, 2]));
    net.conv_relu(width, kernel, stride);
    net.max_pool();
    let next = net.rng.random_range(32..=160);
    net.conv_relu(next, 3, 1);
    net.classify();
}

fn deep(net: &mut Net) {
    net.input(&[1, 3], 12..=28, false);
    let width = net.rng.random_range(6..=14);
    net.conv_relu(width, 3, 1);
    for layer in 0..net.rng.random_range(10..=18) {
        net.conv_relu(width, 3, if layer == 6 { 2 } else { 1 });
    }
    net.classify();
}

fn mlp(net: &mut Net) {
    net.input(&[1, 3], 10..=28, false);
    net.flatten();
    for _ in 0..net.rng.random_range(2..=4) {
        let width = net.rng.random_range(200..=1500);
        net.linear(width);
        net.relu();
    }
    net.linear(10);
}

fn sequence(net: &mut Net) {
    net.input(&[1, 3, 6, 40], 60..=400, true);
    let mut width = net.rng.random_range(16..=48);
    for _ in 0..net.rng.random_range(3..=5) {
        let kernel = net.pick(&[3, 5, 7, 9]);
        net.conv_relu(width, kernel, 1);
        net.max_pool();
        width = (width + net.pick(&[0, 8, 16])).min(96);
    }
    net.flatten();
    let hidden = net.rng.random_range(32..=96);
    net.linear(hidden);
    net.relu();
    net.linear(6);
}

fn separable_sequence(net: &mut Net) {
    net.input(&[40, 64], 50..=150, true);
    let width = net.rng.random_range(32..=112);
    let kernel = net.pick(&[9, 11, 13]);
    net.separable(width, kernel, 1);
    for _ in 0..net.rng.random_range(2..=5) {
        let shortcut = net.at;
        net.separable(width, kernel, 1);
        net.at = net.op("sum", Op::Add, &[net.at, shortcut]);
    }
    net.classify();
}

/// Squeeze-and-excite, hard swish, concatenation.
fn gated(net: &mut Net) {
    net.input(&[3], 24..=56, false);
    let mut width = net.pick(&[12, 16, 24]);
    net.conv(width, 3, 2, 1);
    net.at = net.op("swish", Op::HardSwish, &[net.at]);
    for _ in 0..net.rng.random_range(2..=4) {
        net.conv(width, 3, net.shape[1].min(2), width);
        net.at = net.op("swish", Op::HardSwish, &[net.at]);
        let (trunk, shape) = (net.at, net.shape);
        net.global_average();
        net.conv_relu((width / 4).max(4), 1, 1);
        net.conv(width, 1, 1, 1);
        let gate = net.op("gate", Op::Sigmoid, &[net.at]);
        (net.at, net.shape) = (net.op("scaled", Op::Mul, &[trunk, gate]), shape);
        let (joined, grown) = (net.at, net.pick(&[16, 24, 32]));
        net.conv_relu(grown, 3, 1);
        net.at = net.op("joined", Op::Concat { axis: 1 }, &[joined, net.at]);
        width += grown;
        net.shape[0] = width;
    }
    net.classify();
}
