use super::*;
use burn::tensor::Device;
use kdc_ir::graph::{Binary, PadMode, Reduction, Unary, Variadic};
use kdc_ir::host::{self, Numbers};

/// What the executor computes, beside what [`host::compute`] says in `f64`.
fn agree(op: Op, operands: &[HostTensor]) {
    let graph = one_node(op.clone(), operands, false);
    let network = Network::new(&graph, &Device::flex()).unwrap();
    let inputs: Vec<Datum> = operands.iter().cloned().map(Datum::from).collect();
    let computed = network.forward(inputs, &[], Mode::Infer).unwrap().outputs;
    let operands: Vec<Option<&HostTensor>> = operands.iter().map(Some).collect();
    let expected = host::compute(&op, &operands, &results(&graph)).unwrap();
    assert_eq!(computed.len(), expected.len(), "{op:?}");
    for (computed, expected) in computed.iter().map(|c| c.to_host().unwrap()).zip(&expected) {
        assert_eq!((computed.dtype(), &computed.shape), (expected.dtype(), &expected.shape), "{op:?}");
        let (computed, expected) = (Numbers::of(&computed).real(), Numbers::of(expected).real());
        for (i, (c, e)) in computed.iter().zip(&expected).enumerate() {
            let near = (c - e).abs() <= 3e-6 * (1.0 + e.abs());
            assert!(near || (c.is_nan() && e.is_nan()) || c == e, "{op:?}, element {i}: {c} against {e}");
        }
    }
}

#[test]
fn functions_of_one_number() {
    let anything = [
        Unary::Abs,
        Unary::Neg,
        Unary::Exp,
        Unary::Erf,
        Unary::Sin,
        Unary::Cos,
        Unary::Tan,
        Unary::Atan,
        Unary::Sinh,
        Unary::Cosh,
        Unary::Asinh,
        Unary::Floor,
        Unary::Ceil,
        Unary::Round,
        Unary::Sign,
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
        Unary::IsNan,
        Unary::IsInf { negative: true, positive: false },
    ];
    let mut x = floats(&[3, 7], -3.0, 3.0, 1);
    if let kdc_ir::graph::Data::F32(v) = &mut x.data {
        v[..4].copy_from_slice(&[0.0, 0.5, -1.5, 2.5]);
    }
    anything.into_iter().for_each(|unary| agree(Op::Unary(unary), std::slice::from_ref(&x)));
    let inside = floats(&[5, 4], -0.9, 0.9, 2);
    [Unary::Asin, Unary::Acos, Unary::Atanh]
        .into_iter()
        .for_each(|unary| agree(Op::Unary(unary), std::slice::from_ref(&inside)));
    let positive = floats(&[5, 4], 1.1, 9.0, 3);
    [Unary::Log, Unary::Sqrt, Unary::Reciprocal, Unary::Acosh]
        .into_iter()
        .for_each(|unary| agree(Op::Unary(unary), std::slice::from_ref(&positive)));
    let strange = HostTensor::f32([4], vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1.0]);
    agree(Op::Unary(Unary::IsNan), std::slice::from_ref(&strange));
    agree(Op::Unary(Unary::IsInf { negative: false, positive: true }), &[strange]);
}

#[test]
fn functions_of_several_numbers_broadcast() {
    let (a, b) = (floats(&[2, 3, 4], 0.2, 3.0, 4), floats(&[3, 1], 0.5, 2.0, 5));
    let signed = floats(&[4], -2.0, 2.0, 6);
    for op in [Op::Add, Op::Sub, Op::Mul, Op::Div, Op::Binary(Binary::Pow)] {
        agree(op.clone(), &[a.clone(), b.clone()]);
        agree(op, &[b.clone(), a.clone()]);
    }
    for exponent in [0.0, 0.5, 1.0, 2.0, 3.0, -1.0, 2.5] {
        agree(Op::Binary(Binary::Pow), &[a.clone(), HostTensor::f32([0; 0], vec![exponent])]);
    }
    let compared = [Binary::Equal, Binary::Greater, Binary::GreaterOrEqual, Binary::Less, Binary::LessOrEqual];
    compared.into_iter().for_each(|binary| agree(Op::Binary(binary), &[a.clone(), b.clone()]));
    for fmod in [false, true] {
        agree(Op::Binary(Binary::Mod { fmod }), &[floats(&[3, 4], -5.0, 5.0, 7), signed.clone()]);
    }
    agree(Op::Binary(Binary::PRelu), &[floats(&[3, 4], -1.0, 1.0, 8), signed.clone()]);
    for variadic in [Variadic::Max, Variadic::Min, Variadic::Sum, Variadic::Mean] {
        agree(Op::Variadic(variadic), &[a.clone(), b.clone(), signed.clone()]);
        agree(Op::Variadic(variadic), std::slice::from_ref(&a));
    }
    let condition = HostTensor::new([3, 1], kdc_ir::graph::Data::Bool(vec![true, false, true]));
    let unwanted = HostTensor::f32([4], vec![f32::NAN; 4]);
    agree(Op::Where, &[condition.clone(), a.clone(), b]);
    agree(Op::Where, &[condition, a, unwanted]);
    // Integers stay on the host.
    let (i, j) = (integers(&[2, 3], &[7, -7, 5, 0, 3, 9]), integers(&[3], &[2, 3, -4]));
    agree(Op::Binary(Binary::Mod { fmod: false }), &[i.clone(), j.clone()]);
    agree(Op::Add, &[i.clone(), j]);
    agree(Op::Cast { to: DType::F32 }, &[i]);
    agree(Op::Cast { to: DType::I64 }, &[floats(&[5], -3.0, 3.0, 9)]);
}

#[test]
fn reductions_and_running_sums() {
    let x = floats(&[3, 4, 5], -1.0, 1.5, 10);
    let positive = floats(&[3, 4, 5], 0.1, 1.5, 11);
    let reductions = [
        Reduction::Sum,
        Reduction::Max,
        Reduction::Min,
        Reduction::Prod,
        Reduction::L1,
        Reduction::L2,
        Reduction::LogSumExp,
        Reduction::SumSquare,
    ];
    for (axes, keepdims) in [(vec![1], true), (vec![0, 2], false), (vec![0, 1, 2], false), (vec![2], false)] {
        for reduction in reductions {
            agree(Op::Reduce { reduction, axes: axes.clone(), keepdims }, std::slice::from_ref(&x));
        }
        agree(Op::ReduceMean { axes: axes.clone(), keepdims }, std::slice::from_ref(&x));
        let reduction = Reduction::LogSum;
        agree(Op::Reduce { reduction, axes, keepdims }, std::slice::from_ref(&positive));
    }
    for (exclusive, reverse) in [(false, false), (true, false), (false, true), (true, true)] {
        agree(Op::CumSum { axis: 1, exclusive, reverse }, std::slice::from_ref(&x));
    }
    for (largest, last) in [(true, false), (false, true)] {
        agree(Op::ArgExtreme { largest, axis: 2, keepdims: false, last }, std::slice::from_ref(&x));
        agree(Op::TopK { axis: 1, k: 3, largest }, std::slice::from_ref(&x));
    }
}

#[test]
fn elements_that_move() {
    let x = floats(&[2, 4, 6], -1.0, 1.0, 12);
    let image = floats(&[2, 8, 4, 6], -1.0, 1.0, 13);
    let same = |dims: &[usize]| dims.iter().map(|&n| Dim::Fixed(n)).collect::<Vec<_>>();
    let slice = |starts: &[i64], ends: &[i64], axes: &[usize], steps: &[i64]| Op::Slice {
        starts: starts.into(),
        ends: ends.into(),
        axes: axes.into(),
        steps: steps.into(),
    };
    agree(slice(&[1, 0], &[4, 6], &[1, 2], &[2, 3]), std::slice::from_ref(&x));
    agree(slice(&[5], &[-1], &[2], &[-2]), std::slice::from_ref(&x));
    agree(slice(&[3], &[3], &[1], &[1]), std::slice::from_ref(&x));
    agree(Op::Transpose { perm: vec![2, 0, 1] }, std::slice::from_ref(&x));
    agree(Op::Expand { shape: same(&[3, 2, 4, 6]) }, std::slice::from_ref(&x));
    agree(Op::Tile { repeats: vec![2, 1, 3] }, std::slice::from_ref(&x));
    agree(Op::Split { axis: 2, sizes: vec![1, 3, 2] }, std::slice::from_ref(&x));
    agree(Op::Concat { axis: 1 }, &[x.clone(), floats(&[2, 1, 6], 0.0, 1.0, 14)]);
    agree(Op::Gather { axis: 1 }, &[x.clone(), integers(&[2, 2], &[3, -1, 0, 1])]);
    agree(Op::GatherElements { axis: 2 }, &[x.clone(), integers(&[2, 4, 1], &[0, 5, -1, 2, 3, 1, 0, -6])]);
    agree(Op::GatherNd { batch_dims: 0 }, &[x.clone(), integers(&[2, 2], &[1, 3, 0, -1])]);
    agree(Op::GatherNd { batch_dims: 1 }, &[x.clone(), integers(&[2, 1], &[3, 0])]);
    for columns_first in [false, true] {
        agree(Op::DepthToSpace { block: 2, columns_first }, std::slice::from_ref(&image));
    }
    agree(Op::SpaceToDepth { block: 2 }, std::slice::from_ref(&image));
    for mode in [PadMode::Constant(0.5), PadMode::Edge, PadMode::Reflect] {
        agree(Op::Pad { pads: vec![0, 2, 1, 0, 1, 3], mode }, std::slice::from_ref(&x));
    }
    agree(Op::Pad { pads: vec![0, -1, 0, 0, 0, -2], mode: PadMode::Constant(0.0) }, std::slice::from_ref(&x));
    for (upper, k) in [(true, 0), (true, 2), (false, 1), (false, -1)] {
        agree(Op::Trilu { upper, k }, std::slice::from_ref(&x));
    }
    agree(Op::OneHot { axis: 1, depth: 3 }, &[integers(&[4], &[0, 2, -1, 7]), HostTensor::f32([2], vec![0.0, 5.0])]);
}

#[test]
fn an_index_out_of_range_is_an_error_that_names_the_node() {
    let operands = [floats(&[2, 4], 0.0, 1.0, 1), integers(&[1], &[4])];
    let network = Network::new(&one_node(Op::Gather { axis: 1 }, &operands, false), &Device::flex()).unwrap();
    let inputs: Vec<Datum> = operands.into_iter().map(Datum::from).collect();
    let error = network.forward(inputs, &[], Mode::Infer).unwrap_err().to_string();
    assert!(error.contains("'node'") && error.contains("index 4"), "{error}");
}
