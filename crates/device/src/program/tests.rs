mod degenerate;
pub(crate) mod masks;
pub(crate) mod sequences;
mod sound;

use super::*;
use crate::quant::{CalibratedModel, Calibration, Observer, QuantizedModel, watched};
use burn::tensor::Device;
use kdc_exec::{Datum, Mode, Network};
use kdc_ir::graph::{Builder, Dim, Graph, Op, PadMode, Pool, Tensor, ValueId};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn noise(rng: &mut ChaCha8Rng, n: usize) -> Vec<f32> {
    (0..n).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Adds layers and keeps weights coming.
struct Net {
    b: Builder,
    rng: ChaCha8Rng,
}

impl Net {
    fn new(channels: usize, h: usize, w: usize) -> (Net, ValueId) {
        let mut b = Builder::new("net");
        let x = b.input("x", &[Dim::Batch, Dim::Fixed(channels), Dim::Fixed(h), Dim::Fixed(w)]);
        (Net { b, rng: ChaCha8Rng::seed_from_u64(1) }, x)
    }

    fn conv(
        &mut self,
        name: &str,
        x: ValueId,
        shape: [usize; 4],
        (stride, pad, group): (usize, usize, usize),
    ) -> ValueId {
        let weights = Tensor::f32(shape, noise(&mut self.rng, shape.iter().product()));
        let bias = noise(&mut self.rng, shape[0]);
        self.b.conv2d(name, x, weights, bias, (stride, pad, group)).unwrap()
    }

    fn op(&mut self, name: &str, op: Op, inputs: &[ValueId]) -> ValueId {
        self.b.node(name, op, inputs).unwrap()
    }

    fn gemm(&mut self, name: &str, x: ValueId, inputs: usize, outputs: usize, trans_b: bool) -> ValueId {
        let shape = if trans_b { [outputs, inputs] } else { [inputs, outputs] };
        let w = self.b.constant(&format!("{name}.w"), Tensor::f32(shape, noise(&mut self.rng, inputs * outputs)));
        let bias = self.b.constant(&format!("{name}.b"), Tensor::f32([outputs], noise(&mut self.rng, outputs)));
        self.op(name, Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b }, &[x, w, bias])
    }
}

fn window(kernel: usize, stride: usize, pads: [usize; 4], count_include_pad: bool) -> Pool {
    let (kernel, strides) = (vec![kernel; 2], vec![stride; 2]);
    // A last window that hangs over the padding counts differently when padding counts: see the test of that.
    let ceil_mode = !count_include_pad;
    Pool { kernel, strides, pads: pads.to_vec(), dilations: vec![1; 2], ceil_mode, count_include_pad }
}

/// Residual, strided, depthwise and grouped convolutions, a flattened image.
fn residual() -> Graph {
    let (mut n, x) = Net::new(3, 9, 7);
    let stem = n.conv("stem", x, [8, 3, 3, 3], (1, 1, 1));
    let stem = n.op("stem.relu", Op::Relu, &[stem]);
    let a = n.conv("a", stem, [8, 1, 3, 3], (1, 1, 8));
    let a = n.op("a.clip", Op::Clip { min: 0.0, max: 1.5 }, &[a]);
    let b = n.conv("b", a, [8, 4, 1, 1], (1, 0, 2));
    let sum = n.op("sum", Op::Add, &[b, stem]);
    let sum = n.op("sum.relu", Op::Relu, &[sum]);
    let down = n.conv("down", sum, [6, 8, 3, 3], (2, 1, 1));
    let flat = n.op("flat", Op::Flatten { axis: 1 }, &[down]);
    let out = n.gemm("out", flat, 6 * 5 * 4, 5, true);
    n.b.finish(&[out])
}

/// A residual block whose shortcut takes every second pixel and fills up channels with zeros (He et al. 2015, option A).
fn shortcut() -> Graph {
    let (mut n, x) = Net::new(3, 8, 6);
    let stem = n.conv("stem", x, [4, 3, 3, 3], (1, 1, 1));
    let stem = n.op("stem.relu", Op::Relu, &[stem]);
    let a = n.conv("a", stem, [8, 4, 3, 3], (2, 1, 1));
    let slice = Op::Slice { starts: vec![0, 0], ends: vec![8, 6], axes: vec![2, 3], steps: vec![2, 2] };
    let half = n.op("half", slice, &[stem]);
    let fill = Op::Pad { pads: vec![0, 1, 0, 0, 0, 3, 0, 0], mode: PadMode::Constant(0.0) };
    let wide = n.op("wide", fill, &[half]);
    let sum = n.op("sum", Op::Add, &[a, wide]);
    let mean = n.op("mean", Op::GlobalAveragePool, &[sum]);
    let flat = n.op("flat", Op::Flatten { axis: 1 }, &[mean]);
    let out = n.gemm("out", flat, 8, 5, true);
    n.b.finish(&[out])
}

/// Pools, padding, concatenation, a gate, functions, softmax.
fn gated() -> Graph {
    let (mut n, x) = Net::new(2, 8, 6);
    let pad = n.op("pad", Op::Pad { pads: vec![0, 0, 1, 0, 0, 0, 0, 2], mode: PadMode::Constant(0.0) }, &[x]);
    let a = n.conv("a", pad, [4, 2, 3, 3], (1, 0, 1));
    let max = n.op("max", Op::MaxPool(window(3, 2, [1, 1, 1, 1], false)), &[a]);
    let mean = n.op("mean", Op::AveragePool(window(3, 2, [1, 1, 1, 1], false)), &[a]);
    let padded = n.op("padded", Op::AveragePool(window(3, 2, [1, 1, 1, 1], true)), &[a]);
    let padded = n.op("grown", Op::Pad { pads: vec![0, 0, 0, 0, 0, 0, 0, 1], mode: PadMode::Constant(0.0) }, &[padded]);
    let both = n.op("both", Op::Concat { axis: 1 }, &[max, mean, padded]);
    let gate = n.op("gap", Op::GlobalAveragePool, &[both]);
    let gate = n.conv("squeeze", gate, [12, 12, 1, 1], (1, 0, 1));
    let gate = n.op("gate", Op::HardSigmoid { alpha: 0.2, beta: 0.5 }, &[gate]);
    let y = n.op("gated", Op::Mul, &[both, gate]);
    let y = n.op("tanh", Op::Tanh, &[y]);
    let y = n.op("leaky", Op::LeakyRelu { alpha: 0.1 }, &[y]);
    let y = n.op("mean2", Op::ReduceMean { axes: vec![2, 3], keepdims: false }, &[y]);
    let y = n.gemm("fc", y, 12, 6, false);
    let y = n.op("swish", Op::HardSwish, &[y]);
    let y = n.op("softmax", Op::Softmax { axis: 1 }, &[y]);
    n.b.finish(&[y])
}

fn samples(graph: &Graph, count: usize) -> Vec<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let shape = kdc_ir::graph::shape_at(&graph.value(graph.inputs[0]).shape, 1);
    (0..count).map(|_| Tensor::f32(shape.clone(), noise(&mut rng, shape.iter().product()))).collect()
}

fn forward(graph: &Graph, x: &Tensor, taps: &[ValueId]) -> (Vec<f32>, Vec<Vec<f32>>) {
    let device = Device::flex();
    let network = Network::new(graph, &device).unwrap();
    let out = network.forward(vec![Datum::from(x.clone())], taps, Mode::Infer).unwrap();
    let host = |v: &Datum| v.to_host().unwrap().to_f32().into_owned();
    (host(&out.outputs[0]), out.taps.iter().map(host).collect())
}

fn quantized(graph: &Graph) -> QuantizedModel {
    let ids = watched(graph);
    let mut observers = vec![Observer::default(); ids.len()];
    for x in samples(graph, 16) {
        for (observer, values) in observers.iter_mut().zip(forward(graph, &x, &ids).1) {
            observer.see(&values).unwrap();
        }
    }
    CalibratedModel::new(graph.clone(), &observers, Calibration::MinMax).unwrap().quantize().unwrap()
}

#[test]
fn a_float_program_computes_what_the_network_does() {
    for graph in [residual(), gated(), shortcut()] {
        let program = lower_f32(&graph, None).unwrap();
        for x in samples(&graph, 4) {
            let want = forward(&graph, &x, &[]).0;
            let got = reference::run(&program, &reference::Input::F32(&x.to_f32())).unwrap().output_f32();
            for (g, w) in got.iter().zip(&want) {
                assert!((g - w).abs() < 1e-4, "{}: {got:?} against {want:?}", graph.nodes.len());
            }
        }
    }
}

#[test]
fn an_integer_program_is_close_to_the_network() {
    for (graph, steps) in [(residual(), 6.0), (gated(), 8.0), (shortcut(), 6.0)] {
        let model = quantized(&graph);
        let program = lower_int8(&model, None).unwrap();
        let scale = program.buffer(program.output.buffer).quant.unwrap().scale;
        for x in samples(&graph, 8) {
            let want = forward(&graph, &x, &[]).0;
            let got = reference::run(&program, &reference::Input::F32(&x.to_f32())).unwrap().output_f32();
            for (g, w) in got.iter().zip(&want) {
                assert!((g - w).abs() <= steps * scale, "{got:?} against {want:?} at scale {scale}");
            }
        }
    }
}

#[test]
fn raw_bytes_enter_as_the_input_they_stand_for() {
    let graph = residual();
    let table: Vec<[f32; 256]> =
        (0..3).map(|c| std::array::from_fn(|b| (b as f32 / 255.0 - 0.4 - 0.1 * c as f32) / 0.5)).collect();
    let bytes: Vec<u8> = (0..9 * 7 * 3).map(|i| (i * 37 % 256) as u8).collect();
    let real: Vec<f32> = (0..3 * 63).map(|i| table[i / 63][usize::from(bytes[i % 63 * 3 + i / 63])]).collect();
    let raw = RawBytes { tables: table.clone(), axes: vec![1, 2, 0] };
    for program in [lower_int8(&quantized(&graph), Some(&raw)).unwrap(), lower_f32(&graph, Some(&raw)).unwrap()] {
        let run = |input| reference::run(&program, &input).unwrap().output_f32();
        assert_eq!(run(reference::Input::Raw(&bytes)), run(reference::Input::F32(&real)));
    }
}

/// Transposes near the input, alone and in pairs, for both arrangements of images.
#[test]
fn raw_bytes_are_where_a_transposed_input_has_them() {
    let nchw: [&[usize]; 6] =
        [&[0, 1, 3, 2], &[0, 2, 3, 1], &[0, 3, 2, 1], &[0, 2, 1, 3], &[0, 3, 1, 2], &[0, 1, 2, 3]];
    for ((perm, channels), first) in
        nchw.into_iter().flat_map(|p| [(p, 1), (p, 3)]).flat_map(|c| [(c, true), (c, false)])
    {
        let extents = if first { [channels, 5, 4] } else { [5, 4, channels] };
        let (mut n, x) = Net::new(extents[0], extents[1], extents[2]);
        let t = n.op("t", Op::Transpose { perm: perm.into() }, &[x]);
        let width = extents[perm[1] - 1];
        let y = n.conv("c", t, [3, width, 3, 3], (1, 1, 1));
        let y = n.op("r", Op::Relu, &[y]);
        let y = n.op("m", Op::GlobalMaxPool, &[y]);
        let graph = n.b.finish(&[y]);
        let axes = if first { vec![1, 2, 0] } else { vec![0, 1, 2] };
        let tables: Vec<[f32; 256]> =
            (0..channels).map(|c| std::array::from_fn(|b| b as f32 / (200.0 + 9.0 * c as f32) - 0.5)).collect();
        let bytes: Vec<u8> = (0..20 * channels).map(|i| (i * 91 % 256) as u8).collect();
        let real: Vec<f32> = match first {
            true => {
                (0..20 * channels).map(|i| tables[i / 20][usize::from(bytes[i % 20 * channels + i / 20])]).collect()
            }
            false => (0..20 * channels).map(|i| tables[i % channels][usize::from(bytes[i])]).collect(),
        };
        let raw = RawBytes { tables, axes };
        for program in [lower_int8(&quantized(&graph), Some(&raw)).unwrap(), lower_f32(&graph, Some(&raw)).unwrap()] {
            let run = |input| reference::run(&program, &input).unwrap().output_f32();
            let (by_bytes, by_numbers) = (run(reference::Input::Raw(&bytes)), run(reference::Input::F32(&real)));
            assert_eq!(by_bytes, by_numbers, "{perm:?} of {extents:?}");
        }
    }
}

#[test]
fn input_that_does_not_fit_is_an_error() {
    let program = lower_f32(&residual(), None).unwrap();
    let error = |input| reference::run(&program, &input).unwrap_err().to_string();
    assert!(error(reference::Input::F32(&[0.0])).contains("'x' takes 189"));
    assert!(error(reference::Input::Raw(&[0; 189])).contains("no preprocessing"));
    assert!(error(reference::Input::Stored(&[0; 189])).contains("computes in f32"));
}

#[test]
fn multipliers_round_half_up_as_exact_arithmetic_does() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for _ in 0..20_000 {
        let real = 10f64.powf(rng.random_range(-6.0..1.5));
        let m = Multiplier::from_real(real).unwrap();
        assert!((m.to_real() / real - 1.0).abs() < 2f64.powi(-30) && m.mantissa >= 1 << 30);
        let sum = rng.random_range(-4_000_000..4_000_000);
        let exact = i128::from(sum) * i128::from(m.mantissa) * 2 + (1i128 << m.shift);
        assert_eq!(i128::from(m.apply(sum)), exact.div_euclid(1i128 << (m.shift + 1)), "{sum} · {real}");
    }
    let half = Multiplier::from_real(0.5).unwrap();
    assert_eq!([half.apply(1), half.apply(-1), half.apply(3), half.apply(-3)], [1, 0, 2, -1]);
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-20, 1e12] {
        assert_eq!(Multiplier::from_real(bad), None, "{bad}");
    }
    // What 32 bits cannot hold: nothing is left of any sum, or every sum but zero saturates.
    for tiny in [1e-20, 2f64.powi(-32) * 0.999] {
        assert_eq!([i32::MIN, -1, 0, i32::MAX].map(|sum| Multiplier::saturating(tiny).apply(sum)), [0; 4]);
    }
    let most = Multiplier::saturating(1e30);
    assert!(most.apply(1) > 255 && most.apply(-1) < -255 && most.apply(0) == 0);
    assert!(most.apply(i32::MAX) > 255 && most.apply(i32::MIN) < -255 && most.is_sound());
}

/// A chain with side branches: buffers of random size, elementwise steps among them.
fn random_program(seed: u64) -> Program {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut program = lower_f32(&residual(), None).unwrap();
    program.buffers.truncate(1);
    program.steps.clear();
    program.precision = Precision::Int8;
    let buffer = |len: usize, i: usize| Buffer { name: format!("b{i}"), shape: vec![len], ..Buffer::default() };
    program.buffers[0] = buffer(rng.random_range(1..200), 0);
    for i in 1..rng.random_range(3..9usize) {
        let input = BufferId(rng.random_range(0..i) as u32);
        let len = program.buffer(input).len();
        let (kernel, len) = match rng.random_range(0..4) {
            0 => (Kernel::Map(Function::Tanh), len),
            1 => (Kernel::Reshape, len),
            _ => (Kernel::Transpose { shape: vec![1], perm: vec![0] }, rng.random_range(1..200)),
        };
        program.buffers.push(buffer(len, i));
        program.steps.push(Step { name: format!("s{i}"), kernel, inputs: vec![input], output: BufferId(i as u32) });
    }
    program.inputs[0].buffer = BufferId(0);
    program.output.buffer = BufferId(program.buffers.len() as u32 - 1);
    program
}

#[test]
fn plans_never_overlap_and_never_undercut_the_bound() {
    let mut reached = 0;
    for seed in 0..300 {
        let program = random_program(seed);
        let plan = plan(&program).unwrap();
        assert_eq!(check(&program, &plan), Ok(()), "seed {seed}");
        assert!(plan.arena_bytes >= plan.lower_bound && plan.offsets.iter().all(|o| o % plan.alignment == 0));
        assert_eq!(Ok(plan.clone()), super::plan(&program), "seed {seed}");
        reached += usize::from(plan.arena_bytes == plan.lower_bound);
    }
    assert!(reached > 270, "the bound is reached in {reached} of 300");
}

#[test]
fn the_checker_sees_an_overlap() {
    let program = lower_f32(&residual(), None).unwrap();
    let mut broken = plan(&program).unwrap();
    broken.offsets.fill(0);
    assert!(check(&program, &broken).is_err());
}

#[test]
fn a_window_that_hangs_over_counted_padding_is_refused_by_name() {
    let (mut n, x) = Net::new(2, 8, 8);
    let pool = Pool { ceil_mode: true, ..window(3, 2, [1; 4], true) };
    let y = n.op("pool", Op::AveragePool(pool), &[x]);
    let error = lower_f32(&n.b.finish(&[y]), None).unwrap_err().to_string();
    assert!(error.contains("'pool'") && error.contains("ceil_mode"), "{error}");
}
