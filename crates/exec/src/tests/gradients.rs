use super::*;
use burn::tensor::{Device, Tensor, TensorData};
use kdc_ir::graph::{
    Activation, Binary, Cell, Conv, ConvTranspose, Coordinates, Data, Direction, Interpolation, PadMode, Pool,
    Recurrent, Reduction, Resize, Unary, Variadic,
};

/// Steps of central differences. The error of a difference is about `STEP²` of the third derivative, and rounding of
/// `f32` results divided by `STEP`: both near 1e-4 here.
const STEP: f32 = 1e-2;
const TOLERANCE: f64 = 5e-3;

/// `Σ output · weights` of a graph whose operands are all parameters, and its gradient by each.
fn check(op: Op, operands: &[HostTensor]) {
    let graph = one_node(op.clone(), operands, true);
    let weights: Vec<Vec<f32>> = results(&graph)
        .iter()
        .enumerate()
        .map(|(i, (_, shape))| floats(shape, -1.0, 1.0, 90 + i as u64).to_f32().into_owned())
        .collect();
    let is_float = |i: usize| results(&graph)[i].0.is_float();
    let value = |graph: &Graph| -> f64 {
        let network = Network::new(graph, &Device::flex()).unwrap();
        let outputs = network.forward(Vec::<Datum>::new(), &[], Mode::Infer).unwrap().outputs;
        let sum = |(i, o): (usize, &Datum)| {
            let o = o.to_host().unwrap();
            let pairs = o.to_f32().into_owned().into_iter().zip(&weights[i]);
            pairs.map(|(y, w)| f64::from(y) * f64::from(*w)).sum::<f64>()
        };
        outputs.iter().enumerate().filter(|(i, _)| is_float(*i)).map(sum).sum()
    };
    let network = Network::new(&graph, &Device::flex().autodiff()).unwrap();
    let outputs = network.forward(Vec::<Datum>::new(), &[], Mode::Train { momentum: 0.9 }).unwrap().outputs;
    let mut loss: Option<Tensor<1>> = None;
    for (i, output) in outputs.into_iter().enumerate().filter(|(i, _)| is_float(*i)) {
        let row = output.into_float().unwrap().flattened();
        let w = Tensor::<1>::from_data(TensorData::new(weights[i].clone(), [weights[i].len()]), &row.device());
        let term = (row * w).sum();
        loss = Some(loss.map_or(term.clone(), |sum| sum + term));
    }
    let gradients = loss.unwrap().backward();
    assert!(!network.params().is_empty());
    for param in network.params() {
        let gradient = param.tensor.grad(&gradients).unwrap_or_else(|| panic!("{op:?}: none for {}", param.name));
        let gradient: Vec<f32> = gradient.into_data().iter::<f32>().collect();
        let scale = gradient.iter().fold(1.0f64, |m, g| m.max(f64::from(g.abs())));
        for (i, &exact) in gradient.iter().enumerate() {
            let moved = |by: f32| {
                let mut graph = graph.clone();
                let mut tensor = graph.constant(param.value).unwrap().clone();
                if let Data::F32(v) = &mut tensor.data {
                    v[i] += by;
                }
                graph.value_mut(param.value).data = Some(std::sync::Arc::new(tensor));
                value(&graph)
            };
            let difference = (moved(STEP) - moved(-STEP)) / (2.0 * f64::from(STEP));
            let off = (f64::from(exact) - difference).abs();
            assert!(off <= TOLERANCE * scale, "{op:?}, {}[{i}]: {exact} against {difference}", param.name);
        }
    }
}

/// Away from the points where functions have kinks or jumps: a multiple of 1 plus something between.
fn smooth(shape: &[usize], low: f32, high: f32, seed: u64) -> HostTensor {
    let mut tensor = floats(shape, low, high, seed);
    if let Data::F32(v) = &mut tensor.data {
        // No closer to 0, ±0.5 or ±1 than the step.
        v.iter_mut().for_each(|x| {
            let nearest = (*x * 2.0).round() / 2.0;
            if (*x - nearest).abs() < 3.0 * STEP {
                *x = nearest + 4.0 * STEP;
            }
        });
    }
    tensor
}

#[test]
fn of_functions_of_one_number() {
    let anything = [
        Unary::Abs,
        Unary::Neg,
        Unary::Exp,
        Unary::Erf,
        Unary::Sin,
        Unary::Cos,
        Unary::Atan,
        Unary::Sinh,
        Unary::Cosh,
        Unary::Asinh,
        Unary::Softplus,
        Unary::Softsign,
        Unary::Elu { alpha: 0.7 },
        Unary::Celu { alpha: 1.3 },
        Unary::Selu { alpha: 1.6, gamma: 1.05 },
        Unary::Gelu { tanh: false },
        Unary::Gelu { tanh: true },
        Unary::Mish,
        Unary::ThresholdedRelu { alpha: 0.5 },
        Unary::Shrink { lambda: 0.5, bias: 0.2 },
        Unary::Floor,
        Unary::Sign,
    ];
    anything.into_iter().for_each(|unary| check(Op::Unary(unary), &[smooth(&[6], -1.8, 1.8, 1)]));
    [Unary::Asin, Unary::Acos, Unary::Atanh, Unary::Tan]
        .into_iter()
        .for_each(|unary| check(Op::Unary(unary), &[smooth(&[6], -0.7, 0.7, 2)]));
    [Unary::Log, Unary::Sqrt, Unary::Reciprocal]
        .into_iter()
        .for_each(|unary| check(Op::Unary(unary), &[smooth(&[6], 0.8, 3.0, 3)]));
    check(Op::Unary(Unary::Acosh), &[smooth(&[6], 1.5, 3.0, 4)]);
    for op in [
        Op::Relu,
        Op::Clip { min: -0.5, max: 1.0 },
        Op::LeakyRelu { alpha: 0.1 },
        Op::Sigmoid,
        Op::Tanh,
        Op::HardSwish,
        Op::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Op::Identity,
        Op::Dropout,
    ] {
        check(op, &[smooth(&[6], -1.8, 1.8, 5)]);
    }
}

#[test]
fn of_functions_of_several_numbers() {
    let (a, b) = (smooth(&[2, 3], 0.6, 2.0, 6), smooth(&[3], 0.6, 2.0, 7));
    for op in [Op::Add, Op::Sub, Op::Mul, Op::Div, Op::Binary(Binary::Pow), Op::Binary(Binary::PRelu)] {
        check(op, &[a.clone(), b.clone()]);
    }
    check(Op::Binary(Binary::PRelu), &[smooth(&[2, 3], -2.0, -0.5, 8), b.clone()]);
    for exponent in [0.5, 2.0, 3.0, -1.0, 1.5] {
        check(Op::Binary(Binary::Pow), &[a.clone(), HostTensor::f32([0; 0], vec![exponent])]);
    }
    // Of a square there is one at and below zero.
    let square = HostTensor::f32([0; 0], vec![2.0]);
    check(Op::Binary(Binary::Pow), &[HostTensor::f32([3], vec![-1.5, 0.0, 0.7]), square]);
    for variadic in [Variadic::Max, Variadic::Min, Variadic::Sum, Variadic::Mean] {
        check(Op::Variadic(variadic), &[a.clone(), smooth(&[3], 2.2, 2.9, 9)]);
    }
    let condition = HostTensor::new([3], Data::Bool(vec![true, false, true]));
    check(Op::Where, &[condition, a, b]);
}

#[test]
fn of_reductions_and_normalisations() {
    // Further apart than a step, so that the largest stays the largest.
    let x = HostTensor::f32([2, 3, 4], (0..24).map(|i| 0.3 + ((i * 7) % 24) as f32 * 0.07).collect());
    for reduction in [
        Reduction::Sum,
        Reduction::Max,
        Reduction::Min,
        Reduction::Prod,
        Reduction::L1,
        Reduction::L2,
        Reduction::LogSum,
        Reduction::LogSumExp,
        Reduction::SumSquare,
    ] {
        check(Op::Reduce { reduction, axes: vec![0, 2], keepdims: false }, std::slice::from_ref(&x));
    }
    check(Op::ReduceMean { axes: vec![1], keepdims: true }, std::slice::from_ref(&x));
    check(Op::CumSum { axis: 2, exclusive: true, reverse: true }, std::slice::from_ref(&x));
    check(Op::TopK { axis: 2, k: 2, largest: true }, std::slice::from_ref(&x));
    check(Op::Softmax { axis: 1 }, std::slice::from_ref(&x));
    check(Op::LogSoftmax { axis: 2 }, std::slice::from_ref(&x));
    let (scale, bias) = (floats(&[4], 0.5, 1.5, 11), floats(&[4], -0.5, 0.5, 12));
    check(Op::LayerNormalization { axis: 2, epsilon: 1e-2 }, &[x.clone(), scale, bias]);
    let (scale, bias) = (floats(&[4], 0.5, 1.5, 13), floats(&[4], -0.5, 0.5, 14));
    let wide = smooth(&[2, 4, 3], -1.9, 1.9, 15);
    check(Op::InstanceNormalization { epsilon: 0.1 }, &[wide.clone(), scale.clone(), bias.clone()]);
    check(Op::GroupNormalization { groups: 2, epsilon: 0.1 }, &[wide.clone(), scale, bias]);
    check(Op::Lrn { size: 3, alpha: 0.5, beta: 0.75, bias: 1.0 }, std::slice::from_ref(&wide));
    for order in [1, 2] {
        check(Op::LpNormalization { axis: 1, order }, std::slice::from_ref(&wide));
    }
}

#[test]
fn of_products_and_windows() {
    let (a, b) = (floats(&[2, 3, 4], -1.0, 1.0, 16), floats(&[4, 2], -1.0, 1.0, 17));
    check(Op::MatMul, &[a, b]);
    let gemm = Op::Gemm { alpha: 0.5, beta: 2.0, trans_a: true, trans_b: true };
    check(gemm, &[floats(&[3, 2], -1.0, 1.0, 18), floats(&[4, 3], -1.0, 1.0, 19), floats(&[4], -1.0, 1.0, 20)]);
    let conv = |n: usize, group: usize| Conv {
        kernel: vec![2; n],
        strides: vec![2; n],
        pads: (0..2 * n).map(|i| usize::from(i == 0)).collect(),
        dilations: vec![1; n],
        group,
    };
    let image = floats(&[2, 4, 5, 4], -1.0, 1.0, 21);
    check(Op::Conv(conv(2, 2)), &[image.clone(), floats(&[2, 2, 2, 2], -1.0, 1.0, 22), floats(&[2], -1.0, 1.0, 23)]);
    check(Op::Conv(conv(1, 1)), &[floats(&[1, 2, 6], -1.0, 1.0, 24), floats(&[2, 2, 2], -1.0, 1.0, 25)]);
    let transposed = |n| ConvTranspose { conv: conv(n, 1), output_padding: vec![1; n] };
    check(
        Op::ConvTranspose(transposed(2)),
        &[floats(&[1, 2, 3, 2], -1.0, 1.0, 26), floats(&[2, 2, 2, 2], -1.0, 1.0, 27)],
    );
    check(Op::ConvTranspose(transposed(1)), &[floats(&[1, 2, 3], -1.0, 1.0, 28), floats(&[2, 1, 2], -1.0, 1.0, 29)]);
    // Elements of a window further apart than a step, so that the largest stays the largest.
    let far = HostTensor::f32([1, 2, 4, 4], (0..32).map(|i| ((i * 19) % 32) as f32 * 0.1).collect());
    let pool = Pool {
        kernel: vec![2; 2],
        strides: vec![2, 1],
        pads: vec![1, 0, 0, 1],
        dilations: vec![1; 2],
        ceil_mode: true,
        count_include_pad: false,
    };
    check(Op::MaxPool(pool.clone()), std::slice::from_ref(&far));
    check(Op::AveragePool(pool), std::slice::from_ref(&far));
    let cube = Pool {
        kernel: vec![2, 1, 2],
        strides: vec![1; 3],
        pads: vec![1, 0, 0, 0, 0, 1],
        dilations: vec![1; 3],
        ceil_mode: false,
        count_include_pad: true,
    };
    let deep = HostTensor::f32([1, 2, 2, 2, 4], far.to_f32().into_owned());
    check(Op::MaxPool(cube.clone()), std::slice::from_ref(&deep));
    check(Op::AveragePool(cube), &[deep]);
    check(Op::GlobalAveragePool, std::slice::from_ref(&far));
    check(Op::GlobalMaxPool, &[far]);
}

#[test]
fn of_elements_that_move() {
    let x = floats(&[2, 4, 4], -1.0, 1.0, 30);
    let dims = |d: &[usize]| d.iter().map(|&n| Dim::Fixed(n)).collect::<Vec<_>>();
    let moves = [
        Op::Transpose { perm: vec![2, 0, 1] },
        Op::Reshape { shape: dims(&[8, 4]) },
        Op::Slice { starts: vec![3], ends: vec![-1], axes: vec![1], steps: vec![-2] },
        Op::Slice { starts: vec![1], ends: vec![4], axes: vec![2], steps: vec![2] },
        Op::Expand { shape: dims(&[3, 2, 4, 4]) },
        Op::Tile { repeats: vec![1, 2, 1] },
        Op::Split { axis: 1, sizes: vec![1, 3] },
        Op::Pad { pads: vec![0, 1, 0, 0, 0, 2], mode: PadMode::Reflect },
        Op::Pad { pads: vec![0, 1, 0, 0, 0, 2], mode: PadMode::Edge },
        Op::Pad { pads: vec![0, 1, -1, 0, 0, 2], mode: PadMode::Constant(1.0) },
        Op::Trilu { upper: true, k: 1 },
    ];
    moves.into_iter().for_each(|op| check(op, std::slice::from_ref(&x)));
    check(Op::Concat { axis: 2 }, &[x.clone(), floats(&[2, 4, 1], -1.0, 1.0, 31)]);
    check(Op::Gather { axis: 2 }, &[x.clone(), integers(&[3], &[0, 3, 3])]);
    check(Op::GatherElements { axis: 1 }, &[x.clone(), integers(&[2, 1, 4], &[0, 1, 2, 3, 3, 3, 3, 3])]);
    check(Op::GatherNd { batch_dims: 0 }, &[x, integers(&[2, 2], &[1, 3, 0, 0])]);
    let image = floats(&[1, 4, 2, 4], -1.0, 1.0, 32);
    check(Op::DepthToSpace { block: 2, columns_first: true }, std::slice::from_ref(&image));
    check(Op::SpaceToDepth { block: 2 }, std::slice::from_ref(&image));
    let interpolations = [Interpolation::Linear, Interpolation::Cubic { coefficient: -0.75, exclude_outside: false }];
    for interpolation in interpolations {
        let (sizes, scales) = (dims(&[1, 4, 5, 2]), vec![1.0, 1.0, 2.5, 0.5]);
        let resize = Resize { sizes, scales, coordinates: Coordinates::HalfPixel, interpolation, antialias: false };
        check(Op::Resize(resize), std::slice::from_ref(&image));
    }
}

#[test]
fn through_time() {
    let activations = |cell| match cell {
        Cell::Rnn => vec![Activation::Tanh],
        Cell::Gru { .. } => vec![Activation::Sigmoid, Activation::Tanh],
        Cell::Lstm => vec![Activation::Sigmoid, Activation::Tanh, Activation::Tanh],
    };
    for cell in [Cell::Rnn, Cell::Lstm, Cell::Gru { reset_after: false }, Cell::Gru { reset_after: true }] {
        let op = Recurrent {
            cell,
            hidden: 2,
            direction: Direction::Both,
            activations: [activations(cell), activations(cell)].concat(),
            clip: None,
            coupled: false,
            batch_first: false,
        };
        let rows = cell.gates() * 2;
        let operands = [
            floats(&[3, 2, 3], -1.0, 1.0, 40),
            floats(&[2, rows, 3], -0.8, 0.8, 41),
            floats(&[2, rows, 2], -0.8, 0.8, 42),
            floats(&[2, 2 * rows], -0.5, 0.5, 43),
        ];
        check(Op::Recurrent(op), &operands);
    }
}
