//! Constant masks in front of a softmax, in the forms that exporters write them in.

use super::*;
use kdc_ir::graph::Data;
use kdc_ir::pass;

const TOKENS: usize = 6;
const WIDTH: usize = 4;

/// Attention of one head over six tokens, less what `masked` makes of its scores.
fn attention(masked: impl Fn(&mut Builder, ValueId) -> ValueId) -> Graph {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut b = Builder::new("attention");
    let x = b.input("x", &[Dim::Batch, Dim::Fixed(TOKENS), Dim::Fixed(WIDTH)]);
    let mut project = |b: &mut Builder, name: &str| {
        let w = noise(&mut rng, WIDTH * WIDTH).into_iter().map(|w| 1.5 * w).collect();
        let w = b.constant(&format!("w{name}"), Tensor::f32([WIDTH, WIDTH], w));
        b.node(name, Op::MatMul, &[x, w]).unwrap()
    };
    let (q, k, v) = (project(&mut b, "q"), project(&mut b, "k"), project(&mut b, "v"));
    let k = b.node("kt", Op::Transpose { perm: vec![0, 2, 1] }, &[k]).unwrap();
    let scores = b.node("scores", Op::MatMul, &[q, k]).unwrap();
    let scores = masked(&mut b, scores);
    let shares = b.node("shares", Op::Softmax { axis: 2 }, &[scores]).unwrap();
    let y = b.node("y", Op::MatMul, &[shares, v]).unwrap();
    let mut graph = b.finish(&[y]);
    pass::normalize(&mut graph).unwrap();
    pass::run(&mut graph, pass::DEPLOY).unwrap();
    graph
}

/// A constant of the upper triangle: what comes after a token.
fn triangle(shape: &[usize], lower: f32, upper: f32) -> Tensor {
    let at = |i: usize| if i % TOKENS > i / TOKENS { upper } else { lower };
    Tensor::f32(shape, (0..TOKENS * TOKENS).map(at).collect())
}

type Masked = Box<dyn Fn(&mut Builder, ValueId) -> ValueId>;

/// Masks that leave out what comes after a token, or the last two tokens.
fn forms() -> Vec<(String, Masked)> {
    let mut forms: Vec<(String, Masked)> = vec![];
    for number in [-100.0, -1e4, -1e9, f32::MIN, f32::NEG_INFINITY] {
        for (order, shape) in [(0, vec![1, TOKENS, TOKENS]), (1, vec![TOKENS, TOKENS])] {
            forms.push((
                format!("sum with {number} {shape:?}"),
                Box::new(move |b, x| {
                    let mask = b.constant("mask", triangle(&shape, 0.0, number));
                    b.node("masked", Op::Add, &if order == 0 { [x, mask] } else { [mask, x] }).unwrap()
                }),
            ));
        }
        forms.push((
            format!("row of {number}"),
            Box::new(move |b, x| {
                let row = (0..TOKENS).map(|i| if i < TOKENS - 2 { 0.0 } else { number }).collect();
                let mask = b.constant("mask", Tensor::f32([1, 1, TOKENS], row));
                b.node("masked", Op::Add, &[x, mask]).unwrap()
            }),
        ));
        for kept in [true, false] {
            forms.push((
                format!("choice of {number}, {kept}"),
                Box::new(move |b, x| {
                    let test =
                        triangle(&[TOKENS, TOKENS], 1.0, 0.0).to_f32().iter().map(|&v| (v != 0.0) == kept).collect();
                    let test = b.constant("test", Tensor::new([TOKENS, TOKENS], Data::Bool(test)));
                    let number = b.constant("number", Tensor::f32([], vec![number]));
                    b.node("masked", Op::Where, &if kept { [test, x, number] } else { [test, number, x] }).unwrap()
                }),
            ));
        }
        forms.push((
            format!("positions and {number}"),
            Box::new(move |b, x| {
                let slope = |i: usize| -0.5 * (i / TOKENS).abs_diff(i % TOKENS) as f32;
                let mask = triangle(&[TOKENS, TOKENS], 0.0, number);
                let both = mask.to_f32().iter().enumerate().map(|(i, v)| v + slope(i)).collect();
                let both = b.constant("both", Tensor::f32([TOKENS, TOKENS], both));
                b.node("masked", Op::Add, &[x, both]).unwrap()
            }),
        ));
    }
    forms
}

/// Integer programs with a mask of each shape, and samples for them.
pub(crate) fn masked() -> Vec<(Program, Vec<f32>)> {
    let one = |(number, (_, masked)): (usize, (String, Masked))| {
        let mut program = integers(&attention(masked));
        program.name = format!("masked_{number}");
        (program, samples().concat())
    };
    forms().into_iter().enumerate().take(4).map(one).collect()
}

fn samples() -> Vec<Vec<f32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    (0..16).map(|_| noise(&mut rng, TOKENS * WIDTH)).collect()
}

fn integers(graph: &Graph) -> Program {
    let ids = watched(graph);
    let mut observers = vec![Observer::default(); ids.len()];
    for sample in samples() {
        for (observer, values) in observers.iter_mut().zip(run_network(graph, &sample, &ids).1) {
            observer.see(&values).unwrap();
        }
    }
    let model = CalibratedModel::new(graph.clone(), &observers, Calibration::MinMax).unwrap().quantize().unwrap();
    lower_int8(&model, None).unwrap()
}

fn run_network(graph: &Graph, sample: &[f32], taps: &[ValueId]) -> (Vec<f32>, Vec<Vec<f32>>) {
    let network = Network::new(graph, &Device::flex()).unwrap();
    let input = Tensor::f32([1, TOKENS, WIDTH], sample.to_vec());
    let out = network.forward(vec![Datum::from(input)], taps, Mode::Infer).unwrap();
    let host = |v: &Datum| v.to_host().unwrap().to_f32().into_owned();
    (host(&out.outputs[0]), out.taps.iter().map(host).collect())
}

/// Largest difference and largest number over all samples.
fn difference(program: &Program, graph: &Graph) -> (f32, f32) {
    let (mut off, mut largest) = (0.0f32, 0.0f32);
    for sample in samples() {
        let got = reference::run(program, &reference::Input::F32(&sample)).unwrap().output_f32();
        for (g, w) in got.iter().zip(run_network(graph, &sample, &[]).0) {
            (off, largest) = (off.max((g - w).abs()), largest.max(w.abs()));
        }
    }
    (off, largest)
}

#[test]
fn constant_masks_cost_no_accuracy() {
    let plain = attention(|_, x| x);
    let (off, largest) = difference(&integers(&plain), &plain);
    let noise = off / largest;
    for (name, masked) in forms() {
        let graph = attention(masked);
        let (off, largest) = difference(&lower_f32(&graph, None).unwrap(), &graph);
        assert!(off < 1e-5 * largest, "{name} in floats: {off} of {largest}");
        let program = integers(&graph);
        check(&program, &plan(&program).unwrap()).unwrap();
        let (off, largest) = difference(&program, &graph);
        assert!(off < 2.0 * noise * largest, "{name}: {off} of {largest}, {noise} without a mask");
        let masks = program.steps.iter().filter(|s| matches!(s.kernel, Kernel::Softmax { .. }) && s.inputs.len() == 2);
        assert_eq!(masks.count(), 1, "{name}: what is masked is left out");
    }
}

/// What is no mask stays a sum: a row of which nothing is kept, numbers that are merely negative.
#[test]
fn what_masks_nothing_out_is_a_sum() {
    for numbers in [[-20.0; TOKENS], [-1e4; TOKENS], [0.0, -99.0, 0.0, -5.0, 0.0, 1.0]] {
        let graph = attention(|b, x| {
            let row = b.constant("row", Tensor::f32([1, 1, TOKENS], numbers.to_vec()));
            b.node("masked", Op::Add, &[x, row]).unwrap()
        });
        let program = integers(&graph);
        assert!(program.steps.iter().all(|s| !matches!(s.kernel, Kernel::Softmax { .. }) || s.inputs.len() == 1));
    }
}

/// A constant that has no integers is named, with what to do.
#[test]
fn infinities_that_mask_nothing_are_refused_by_name() {
    let mut b = Builder::new("infinite");
    let x = b.input("x", &[Dim::Batch, Dim::Fixed(3)]);
    let row = b.constant("row", Tensor::f32([3], vec![0.0, f32::NEG_INFINITY, 0.0]));
    let sum = b.node("sum", Op::Add, &[x, row]).unwrap();
    let y = b.node("y", Op::Relu, &[sum]).unwrap();
    let graph = b.finish(&[y]);
    let mut observers = vec![Observer::default(); watched(&graph).len()];
    observers.iter_mut().for_each(|o| o.see(&[-1.0, 1.0]).unwrap());
    let refused = CalibratedModel::new(graph, &observers, Calibration::MinMax).unwrap().quantize().unwrap_err();
    let said = refused.to_string();
    assert!(said.contains("'sum' (Add)") && said.contains("'row' holds -inf"), "{said}");
}

/// What a not-a-number becomes is what it becomes in ONNX: it reaches the result.
#[test]
fn not_a_number_reaches_the_result() {
    let pool = Pool {
        kernel: vec![2, 2],
        strides: vec![1, 1],
        pads: vec![0; 4],
        dilations: vec![1, 1],
        ceil_mode: false,
        count_include_pad: false,
    };
    let ops = [Op::MaxPool(pool), Op::GlobalMaxPool, Op::Softmax { axis: 3 }, Op::Softmax { axis: 1 }, Op::Relu];
    for op in ops {
        let mut b = Builder::new("nan");
        let x = b.input("x", &[Dim::Batch, Dim::Fixed(2), Dim::Fixed(2), Dim::Fixed(2)]);
        let y = b.node("y", op.clone(), &[x]).unwrap();
        let program = lower_f32(&b.finish(&[y]), None).unwrap();
        for at in 0..8 {
            for rest in [1.0, f32::NEG_INFINITY, f32::NAN] {
                let mut sample = [rest; 8];
                sample[at] = f32::NAN;
                let got = reference::run(&program, &reference::Input::F32(&sample)).unwrap().output_f32();
                let reached = |i: usize| match &op {
                    Op::MaxPool(_) | Op::GlobalMaxPool => at / 4 == i,
                    Op::Softmax { axis: 3 } => at / 2 == i / 2,
                    Op::Softmax { .. } => at % 4 == i % 4,
                    _ => at == i,
                };
                for (i, v) in got.iter().enumerate() {
                    assert_eq!(v.is_nan(), reached(i) || rest.is_nan(), "{op:?} at {at}: {got:?}");
                }
            }
        }
    }
}
