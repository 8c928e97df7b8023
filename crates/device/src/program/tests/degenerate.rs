//! Networks whose channels are dead, tiny, zero or huge, and layers that share their constants: what training leaves
//! behind. Programs are compared with the floats, and with a quantizer that has none of the limits of 32 bits.

use super::*;
use crate::quant::{Range, activation_params, fusions};
use kdc_ir::graph::{Conv, DType};
use kdc_ir::pass;

/// One number per channel, drawn from what is found in trained networks.
struct Drawn {
    rng: ChaCha8Rng,
    /// What the weights of whole layers are multiplied with.
    scale: f32,
}

impl Drawn {
    fn new(seed: u64) -> Drawn {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let scale = [1.0, 1.0, 1e-5, 1e-10, 1e-20, 1e6][rng.random_range(0..6)];
        Drawn { rng, scale }
    }

    fn one_of(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n)
    }

    /// Weights of `[channels][run]` and a bias for each channel.
    fn layer(&mut self, channels: usize, run: usize, scale: f32) -> (Vec<f32>, Vec<f32>) {
        let (mut weights, mut bias) = (vec![], vec![]);
        // In every third layer all channels are dead.
        let dead = self.one_of(3) == 0;
        for _ in 0..channels {
            let kind = self.one_of(6);
            let gain = scale * (run as f32).powf(-0.5);
            let factor = match kind {
                0 => 0.0,
                1 => 10f32.powi(-(self.rng.random_range(5..38))),
                _ => 1.0,
            };
            weights.extend(noise(&mut self.rng, run).into_iter().map(|w| w * gain * factor));
            bias.push(match kind {
                _ if dead => -100.0 * scale,
                0 | 1 => [0.5, 5.0, 0.0, -3.0][self.one_of(4)] * scale,
                2 => 50.0 * scale,
                _ => self.rng.random_range(-0.5..0.5) * scale,
            });
        }
        (weights, bias)
    }
}

/// Builds a network layer by layer.
struct Degenerate {
    b: Builder,
    drawn: Drawn,
    count: usize,
}

const WIDTH: usize = 6;

impl Degenerate {
    fn op(&mut self, op: Op, inputs: &[ValueId]) -> ValueId {
        self.count += 1;
        self.b.node(&format!("n{}", self.count), op, inputs).unwrap()
    }

    fn constant(&mut self, shape: &[usize], numbers: Vec<f32>) -> ValueId {
        self.count += 1;
        self.b.constant(&format!("c{}", self.count), Tensor::f32(shape, numbers))
    }

    /// A matrix product in one of its forms; with a number, its result is about that much larger than its operand.
    fn dense(&mut self, x: ValueId, scale: f32) -> ValueId {
        let (weights, bias) = self.drawn.layer(WIDTH, WIDTH, scale);
        let bias = self.constant(&[WIDTH], bias);
        match self.drawn.one_of(4) {
            0 => {
                let turned = reference::transpose(&[WIDTH, WIDTH], &[1, 0], &weights);
                let w = self.constant(&[WIDTH, WIDTH], turned);
                let product = self.op(Op::MatMul, &[x, w]);
                self.op(Op::Add, &[product, bias])
            }
            1 => {
                let turned = reference::transpose(&[WIDTH, WIDTH], &[1, 0], &weights);
                let w = self.constant(&[WIDTH, WIDTH], turned);
                self.op(Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: false }, &[x, w, bias])
            }
            2 => {
                let w = self.constant(&[WIDTH, WIDTH], weights);
                self.op(Op::Gemm { alpha: -0.5, beta: 2.0, trans_a: false, trans_b: true }, &[x, w, bias])
            }
            _ => {
                let w = self.constant(&[WIDTH, WIDTH], weights);
                self.op(Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true }, &[x, w, bias])
            }
        }
    }

    /// A convolution of 3 x 3, each channel on its own or all together.
    fn conv(&mut self, x: ValueId, scale: f32) -> ValueId {
        let group = [1, WIDTH][self.drawn.one_of(2)];
        let (weights, bias) = self.drawn.layer(WIDTH, WIDTH / group * 9, scale);
        let w = self.constant(&[WIDTH, WIDTH / group, 3, 3], weights);
        let b = self.constant(&[WIDTH], bias);
        let conv = Conv { kernel: vec![3; 2], strides: vec![1; 2], pads: vec![1; 4], dilations: vec![1; 2], group };
        self.op(Op::Conv(conv), &[x, w, b])
    }
}

fn network(seed: u64) -> Graph {
    let mut n = Degenerate { b: Builder::new("degenerate"), drawn: Drawn::new(seed), count: 0 };
    let images = n.drawn.one_of(2) == 0;
    let extents: &[usize] = if images { &[WIDTH, 4, 3] } else { &[WIDTH] };
    let shape: Vec<Dim> = std::iter::once(Dim::Batch).chain(extents.iter().map(|&d| Dim::Fixed(d))).collect();
    let mut x = n.b.input("x", &shape);
    let scale = n.drawn.scale;
    let layer = |n: &mut Degenerate, x: ValueId, scale: f32| if images { n.conv(x, scale) } else { n.dense(x, scale) };
    x = layer(&mut n, x, scale);
    for _ in 0..n.drawn.one_of(3) + 1 {
        let y = layer(&mut n, x, 1.0);
        let y = n.op(Op::Relu, &[y]);
        x = match n.drawn.one_of(5) {
            // A residual branch, a gate, features side by side.
            0 => n.op(Op::Add, &[x, y]),
            1 => {
                let gate = if images { n.op(Op::GlobalAveragePool, &[y]) } else { y };
                let gate = n.op(Op::Sigmoid, &[gate]);
                n.op(Op::Mul, &[x, gate])
            }
            2 => n.op(Op::Mul, &[x, y]),
            3 if !images => {
                let shares = n.op(Op::Softmax { axis: 1 }, &[y]);
                let all = n.op(Op::Concat { axis: 1 }, &[shares, x]);
                let (weights, _) = n.drawn.layer(WIDTH, 2 * WIDTH, 1.0);
                let w = n.constant(&[WIDTH, 2 * WIDTH], weights);
                n.op(Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true }, &[all, w])
            }
            _ => y,
        };
    }
    if images {
        x = n.op(Op::GlobalAveragePool, &[x]);
        x = n.op(Op::Flatten { axis: 1 }, &[x]);
    }
    let y = n.dense(x, 1.0);
    n.b.finish(&[y])
}

/// What was seen of a network's values.
fn seen(graph: &Graph, ids: &[ValueId]) -> Vec<Observer> {
    let mut observers = vec![Observer::default(); ids.len()];
    for x in samples(graph, 16) {
        for (observer, values) in observers.iter_mut().zip(forward(graph, &x, ids).1) {
            observer.see(&values).unwrap();
        }
    }
    observers
}

/// The network with every stored value rounded in its own range, weights in that of their channel, and biases not at all:
/// what eight bits cost and nothing else.
fn ideal(graph: &Graph) -> Graph {
    let mut rounded = graph.clone();
    let ids = watched(graph);
    let fusions = fusions(graph);
    let interior: Vec<usize> = fusions.iter().flat_map(|f| f.interior()).collect();
    for (id, observer) in ids.iter().zip(seen(graph, &ids)) {
        let inner = graph.nodes.iter().position(|n| n.output() == *id).is_some_and(|at| interior.contains(&at));
        let range: Range = observer.range(Calibration::MinMax).unwrap();
        rounded.value_mut(*id).quant = (!inner).then(|| activation_params(range));
    }
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let axis = match node.op {
            Op::Conv(_) | Op::Gemm { trans_b: true, .. } => 0,
            Op::Gemm { .. } | Op::MatMul => 1,
            _ => continue,
        };
        let id = node.input(1).unwrap();
        let Some(weights) = graph.constant(id) else { continue };
        let inner: usize = weights.shape[axis + 1..].iter().product();
        let (channels, numbers) = (weights.shape[axis], weights.to_f32());
        let of = |c: usize| numbers.iter().enumerate().filter(move |(i, _)| i / inner % channels == c).map(|(_, w)| w);
        let steps: Vec<f64> =
            (0..channels).map(|c| f64::from(of(c).fold(0.0f32, |m, w| m.max(w.abs()))) / 127.0).collect();
        let round = |(i, &w): (usize, &f32)| match steps[i / inner % channels] {
            0.0 => 0.0,
            step => ((f64::from(w) / step).round() * step) as f32,
        };
        let numbers = numbers.iter().enumerate().map(round).collect();
        let copy = rounded.add_constant(format!("rounded {index}"), Tensor::f32(weights.shape.clone(), numbers));
        rounded.nodes[index].inputs[1] = Some(copy);
    }
    pass::simulate_quantization(&mut rounded);
    kdc_ir::graph::verify(&rounded).unwrap();
    rounded
}

/// Errors of the program beside those of eight bits, over all samples: no more than twice as large, and two steps.
fn assert_explained(graph: &Graph, name: &str) {
    let model = quantized(graph);
    kdc_ir::graph::verify(&model.graph).unwrap_or_else(|e| panic!("{name}: {e}"));
    let program = lower_int8(&model, None).unwrap_or_else(|e| panic!("{name}: {e}"));
    let step = program.buffer(program.output.buffer).quant.unwrap().scale;
    let (ideal, mut file) = (ideal(graph), model.graph.clone());
    pass::simulate_quantization(&mut file);
    let (mut noise, mut error, mut apart) = (0.0f32, 0.0f32, 0.0f32);
    for x in samples(graph, 16) {
        let exact = forward(graph, &x, &[]).0;
        let rounded = forward(&ideal, &x, &[]).0;
        let meant = forward(&file, &x, &[]).0;
        let got = reference::run(&program, &reference::Input::F32(&x.to_f32())).unwrap().output_f32();
        let off = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        noise = noise.max(off(&exact, &rounded));
        error = error.max(off(&exact, &got));
        apart = apart.max(off(&meant, &got));
    }
    assert!(error <= 2.0 * noise + 2.0 * step, "{name}: {error} off where eight bits cost {noise}, at steps of {step}");
    // The exported file says the same; roundings that fall apart are carried on.
    assert!(apart <= noise + 3.0 * step, "{name}: {apart} from the exported file, at steps of {step}");
}

#[test]
fn dead_tiny_zero_and_huge_channels_cost_no_more_than_eight_bits_do() {
    for seed in 0..400 {
        let graph = network(seed);
        kdc_ir::graph::verify(&graph).unwrap();
        assert_explained(&graph, &format!("seed {seed}"));
    }
}

/// One matrix in two layers, in each orientation, beside biases of their own.
#[test]
fn layers_that_share_a_matrix_have_parameters_of_their_own() {
    for (seed, turned) in [(0, [true, false]), (1, [false, true]), (2, [true, true]), (3, [false, false])] {
        let mut n = Degenerate { b: Builder::new("tied"), drawn: Drawn::new(seed), count: 0 };
        let x = n.b.input("x", &[Dim::Batch, Dim::Fixed(WIDTH)]);
        // Rows and columns of very different sizes.
        let numbers = noise(&mut n.drawn.rng, WIDTH * WIDTH);
        let uneven = |(i, w): (usize, f32)| w * 3f32.powi((i % WIDTH) as i32) * 5f32.powi(-((i / WIDTH) as i32));
        let w = n.constant(&[WIDTH, WIDTH], numbers.into_iter().enumerate().map(uneven).collect());
        let gemm = |trans_b| Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b };
        let (small, large) = (n.constant(&[WIDTH], vec![0.1; WIDTH]), n.constant(&[WIDTH], vec![1e6; WIDTH]));
        let y = n.op(gemm(turned[0]), &[x, w, small]);
        let y = n.op(Op::Relu, &[y]);
        let first = n.op(gemm(turned[1]), &[y, w, large]);
        let second = n.op(gemm(turned[1]), &[y, w]);
        // Who reads a weight and its reader's neighbour alike.
        let sum = n.op(Op::Add, &[second, small]);
        let y = n.op(Op::Concat { axis: 1 }, &[first, sum]);
        assert_explained(&n.b.finish(&[y]), &format!("{turned:?}"));
        let graph = {
            let mut n = Degenerate { b: Builder::new("siamese"), drawn: Drawn::new(seed), count: 0 };
            let x = n.b.input("x", &[Dim::Batch, Dim::Fixed(3), Dim::Fixed(6), Dim::Fixed(5)]);
            let numbers = noise(&mut n.drawn.rng, 3 * 3 * 9);
            let w = n.constant(&[3, 3, 3, 3], numbers);
            let (none, some) = (n.constant(&[3], vec![0.0; 3]), n.constant(&[3], vec![-2.0; 3]));
            let pads = vec![1; 4];
            let conv = Conv { kernel: vec![3; 2], strides: vec![1; 2], pads, dilations: vec![1; 2], group: 1 };
            let a = n.op(Op::Conv(conv.clone()), &[x, w, none]);
            let b = n.op(Op::Relu, &[a]);
            let c = n.op(Op::Conv(conv), &[b, w, some]);
            let y = n.op(Op::Sub, &[a, c]);
            n.b.finish(&[y])
        };
        assert_explained(&graph, "siamese");
    }
}

/// The first reader wants other numbers: those of a factor, or none, since its operand is always zero.
#[test]
fn a_reader_that_changes_a_shared_matrix_changes_its_own_copy() {
    for (seed, alpha, dead) in [(0, 0.25, false), (1, 1.0, true), (2, -3.0, true), (3, 100.0, false)] {
        for last in [false, true] {
            let mut n = Degenerate { b: Builder::new("tied"), drawn: Drawn::new(seed), count: 0 };
            let x = n.b.input("x", &[Dim::Batch, Dim::Fixed(WIDTH)]);
            let numbers = noise(&mut n.drawn.rng, WIDTH * WIDTH);
            let w = n.constant(&[WIDTH, WIDTH], numbers);
            let gemm = |alpha| Op::Gemm { alpha, beta: 1.0, trans_a: false, trans_b: true };
            let low = n.constant(&[1], vec![if dead { -1e3 } else { 0.0 }]);
            let operand = n.op(Op::Add, &[x, low]);
            let operand = n.op(Op::Relu, &[operand]);
            let changed = |n: &mut Degenerate| n.op(gemm(alpha), &[operand, w]);
            let plain = |n: &mut Degenerate| n.op(gemm(1.0), &[x, w]);
            let parts = match last {
                false => [changed(&mut n), plain(&mut n)],
                true => [plain(&mut n), changed(&mut n)],
            };
            let y = n.op(Op::Concat { axis: 1 }, &parts);
            assert_explained(&n.b.finish(&[y]), &format!("{alpha}, {dead}, {last}"));
        }
    }
}

#[test]
fn rows_of_tiny_numbers_are_normalised() {
    for power in [-3, -8, -17, -25] {
        for gain in [1.0, 1e4] {
            let mut n = Degenerate { b: Builder::new("rows"), drawn: Drawn::new(7), count: 0 };
            let x = n.b.input("x", &[Dim::Batch, Dim::Fixed(WIDTH)]);
            let small = n.constant(&[1], vec![10f32.powi(power)]);
            let x = n.op(Op::Mul, &[x, small]);
            let (w, b) = (n.constant(&[WIDTH], vec![gain; WIDTH]), n.constant(&[WIDTH], vec![0.0; WIDTH]));
            let y = n.op(Op::LayerNormalization { axis: 1, epsilon: 1e-5 }, &[x, w, b]);
            assert_explained(&n.b.finish(&[y]), &format!("1e{power}, {gain}"));
        }
    }
}

#[test]
fn whatever_stands_beside_a_softmax_keeps_its_range() {
    for (order, factor) in [([0, 1], 30.0), ([1, 0], 30.0), ([0, 1], 0.01), ([1, 0], 1.0)] {
        let mut n = Degenerate { b: Builder::new("beside"), drawn: Drawn::new(5), count: 0 };
        let x = n.b.input("x", &[Dim::Batch, Dim::Fixed(WIDTH)]);
        let plain = |trans_b| Op::Gemm { alpha: factor, beta: 1.0, trans_a: false, trans_b };
        let numbers = noise(&mut n.drawn.rng, WIDTH * WIDTH);
        let w = n.constant(&[WIDTH, WIDTH], numbers);
        let features = n.op(plain(true), &[x, w]);
        let shares = n.op(Op::Softmax { axis: 1 }, &[features]);
        let turned = n.op(Op::Unsqueeze { axes: vec![2] }, &[shares]);
        let turned = n.op(Op::Flatten { axis: 1 }, &[turned]);
        let parts = [turned, features];
        let y = n.op(Op::Concat { axis: 1 }, &[parts[order[0]], parts[order[1]]]);
        let graph = n.b.finish(&[y]);
        assert_explained(&graph, &format!("{order:?} {factor}"));
        // The shares themselves stay in 255ths.
        let model = quantized(&graph);
        let quant = model.graph.value(model.graph.nodes[1].output()).quant.clone().unwrap();
        assert_eq!((quant.scale[0], quant.zero_point[0]), (1.0 / 255.0, -128));
    }
}

#[test]
fn a_channel_that_is_constant_is_exact() {
    for (weight, bias) in [(0.0, 0.4567), (1e-30, 1234.5), (1e-38, -7.25), (1e-12, 1e-6), (0.0, 1e20)] {
        let mut b = Builder::new("constant");
        let x = b.input("x", &[Dim::Batch, Dim::Fixed(2)]);
        let w = b.constant("w", Tensor::f32([1, 2], vec![weight; 2]));
        let c = b.constant("b", Tensor::f32([1], vec![bias]));
        let y = b.node("y", Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true }, &[x, w, c]).unwrap();
        let graph = b.finish(&[y]);
        let program = lower_int8(&quantized(&graph), None).unwrap();
        for x in samples(&graph, 4) {
            let got = reference::run(&program, &reference::Input::F32(&x.to_f32())).unwrap().output_f32()[0];
            assert!((got / bias - 1.0).abs() < 1e-5, "{weight}, {bias}: {got}");
        }
    }
}

/// A function of one variable written as several operators, with a clamp behind it; a product with one output and a bias.
#[test]
fn functions_and_products_of_one_channel_have_integers() {
    for clamp in [Op::Relu, Op::Clip { min: -0.1, max: 0.4 }, Op::Tanh] {
        for op in [Op::Mul, Op::Add, Op::Sub] {
            let mut n = Degenerate { b: Builder::new("swish"), drawn: Drawn::new(1), count: 0 };
            let x = n.b.input("x", &[Dim::Batch, Dim::Fixed(WIDTH)]);
            let y = n.op(Op::Sigmoid, &[x]);
            let y = n.op(op.clone(), &[x, y]);
            let y = n.op(clamp.clone(), &[y]);
            let numbers = noise(&mut n.drawn.rng, WIDTH);
            let (w, bias) = (n.constant(&[WIDTH, 1], numbers), n.constant(&[1], vec![0.3]));
            let y = n.op(Op::MatMul, &[y, w]);
            let y = n.op(Op::Add, &[y, bias]);
            let y = n.op(clamp.clone(), &[y]);
            assert_explained(&n.b.finish(&[y]), &format!("{op:?} {clamp:?}"));
        }
    }
}

#[test]
fn a_clamp_that_saturation_does_takes_no_step() {
    let mut b = Builder::new("saturated");
    let x = b.input("x", &[Dim::Batch, Dim::Fixed(4)]);
    let clipped = b.node("clip", Op::Clip { min: -0.5, max: 0.25 }, &[x]).unwrap();
    let w = b.constant("w", Tensor::f32([4, 3], noise(&mut ChaCha8Rng::seed_from_u64(2), 12)));
    let y = b.node("y", Op::MatMul, &[clipped, w]).unwrap();
    let graph = b.finish(&[y]);
    let program = lower_int8(&quantized(&graph), None).unwrap();
    assert_eq!(program.steps.iter().map(|s| s.kernel.name()).collect::<Vec<_>>(), ["fully_connected"]);
    assert_explained(&graph, "saturated");
    assert_eq!(graph.value(x).dtype, DType::F32);
}
