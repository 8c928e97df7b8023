//! SUPPORTED-OPERATORS.md, made by trying every operator: one node each, written, read, run, differentiated, lowered.
//! `KDC_BLESS=1` writes the file anew.

use crate::{case, written};
use kdc::exec::{Datum, Mode, Network};
use kdc::graph::*;
use kdc::{emit, onnx, program};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

fn ramp(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    Tensor::f32(shape, (0..count).map(|i| 0.2 + ((i * 7) % 11) as f32 * 0.06).collect())
}

fn whole(shape: &[usize], values: &[i64]) -> Tensor {
    Tensor::i64(shape, values.to_vec())
}

/// One node of every operator, with operands that suit it.
fn samples() -> Vec<(Op, Vec<Tensor>)> {
    let x = || ramp(&[1, 4, 6, 6]);
    let conv = |n: usize| Conv {
        kernel: vec![3; n],
        strides: vec![1; n],
        pads: vec![1; 2 * n],
        dilations: vec![1; n],
        group: 1,
    };
    let pool = || Pool {
        kernel: vec![2; 2],
        strides: vec![2; 2],
        pads: vec![0; 4],
        dilations: vec![1; 2],
        ceil_mode: false,
        count_include_pad: false,
    };
    let fixed = |dims: &[usize]| dims.iter().map(|&n| Dim::Fixed(n)).collect::<Vec<_>>();
    let channel = || ramp(&[4]);
    let truth = |n: usize| Tensor::new([1, n], Data::Bool((0..n).map(|i| i % 2 == 0).collect()));
    let mut all = vec![
        (Op::Conv(conv(2)), vec![x(), ramp(&[3, 4, 3, 3]), ramp(&[3])]),
        (
            Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true },
            vec![ramp(&[1, 8]), ramp(&[3, 8]), ramp(&[3])],
        ),
        (Op::MatMul, vec![ramp(&[1, 8]), ramp(&[8, 3])]),
        (Op::BatchNormalization { epsilon: 1e-5 }, vec![x(), channel(), channel(), channel(), channel()]),
        (Op::Relu, vec![x()]),
        (Op::Clip { min: 0.0, max: 6.0 }, vec![x()]),
        (Op::LeakyRelu { alpha: 0.1 }, vec![x()]),
        (Op::Sigmoid, vec![x()]),
        (Op::Tanh, vec![x()]),
        (Op::HardSwish, vec![x()]),
        (Op::HardSigmoid { alpha: 0.2, beta: 0.5 }, vec![x()]),
        (Op::Add, vec![x(), x()]),
        (Op::Sub, vec![x(), x()]),
        (Op::Mul, vec![x(), x()]),
        (Op::Div, vec![x(), x()]),
        (Op::Concat { axis: 1 }, vec![x(), x()]),
        (Op::MaxPool(pool()), vec![x()]),
        (Op::AveragePool(pool()), vec![x()]),
        (Op::GlobalAveragePool, vec![x()]),
        (Op::GlobalMaxPool, vec![x()]),
        (Op::ReduceMean { axes: vec![2, 3], keepdims: true }, vec![x()]),
        (Op::Flatten { axis: 1 }, vec![x()]),
        (Op::Reshape { shape: fixed(&[1, 144]) }, vec![x()]),
        (Op::Transpose { perm: vec![0, 2, 3, 1] }, vec![x()]),
        (Op::Squeeze { axes: vec![2] }, vec![ramp(&[1, 4, 1, 6])]),
        (Op::Unsqueeze { axes: vec![2] }, vec![ramp(&[1, 4, 6])]),
        (Op::Pad { pads: vec![0, 0, 1, 1, 0, 0, 1, 1], mode: PadMode::Constant(0.0) }, vec![x()]),
        (Op::Softmax { axis: 1 }, vec![ramp(&[1, 8])]),
        (Op::LogSoftmax { axis: 1 }, vec![ramp(&[1, 8])]),
        (Op::Dropout, vec![x()]),
        (Op::Identity, vec![x()]),
        (Op::Cast { to: DType::F32 }, vec![x()]),
        (Op::Gather { axis: 1 }, vec![x(), whole(&[2], &[0, 3])]),
        (Op::Slice { starts: vec![1], ends: vec![3], axes: vec![1], steps: vec![1] }, vec![x()]),
        (Op::Where, vec![truth(6), x(), x()]),
        (Op::ArgExtreme { largest: true, axis: 1, keepdims: true, last: false }, vec![x()]),
        (Op::ArgExtreme { largest: false, axis: 1, keepdims: true, last: false }, vec![x()]),
        (Op::CumSum { axis: 1, exclusive: false, reverse: false }, vec![x()]),
        (Op::TopK { axis: 1, k: 2, largest: true }, vec![x()]),
        (Op::LayerNormalization { axis: 3, epsilon: 1e-5 }, vec![x(), ramp(&[6]), ramp(&[6])]),
        (Op::InstanceNormalization { epsilon: 1e-5 }, vec![x(), channel(), channel()]),
        (Op::GroupNormalization { groups: 2, epsilon: 1e-5 }, vec![x(), channel(), channel()]),
        (Op::Lrn { size: 3, alpha: 1e-4, beta: 0.75, bias: 1.0 }, vec![x()]),
        (Op::LpNormalization { axis: 1, order: 2 }, vec![x()]),
        (Op::Expand { shape: fixed(&[1, 4, 6, 6]) }, vec![ramp(&[1, 1, 6, 6])]),
        (Op::Tile { repeats: vec![1, 2, 1, 1] }, vec![x()]),
        (Op::Split { axis: 1, sizes: vec![1, 3] }, vec![x()]),
        (Op::GatherElements { axis: 1 }, vec![ramp(&[1, 4]), whole(&[1, 2], &[0, 3])]),
        (Op::GatherNd { batch_dims: 0 }, vec![x(), whole(&[1, 2], &[0, 3])]),
        (Op::DepthToSpace { block: 2, columns_first: false }, vec![x()]),
        (Op::SpaceToDepth { block: 2 }, vec![x()]),
        (
            Op::Resize(Resize {
                sizes: fixed(&[1, 4, 12, 12]),
                scales: vec![1.0, 1.0, 2.0, 2.0],
                coordinates: Coordinates::HalfPixel,
                interpolation: Interpolation::Linear,
                antialias: false,
            }),
            vec![x()],
        ),
        (
            Op::ConvTranspose(ConvTranspose { conv: conv(2), output_padding: vec![0; 2] }),
            vec![x(), ramp(&[4, 3, 3, 3])],
        ),
        (Op::Trilu { upper: true, k: 0 }, vec![x()]),
        (Op::Quantize { axis: 1, to: DType::U8 }, vec![x(), ramp(&[1]), Tensor::new([1], Data::U8(vec![3]))]),
        (
            Op::Dequantize { axis: 1 },
            vec![Tensor::new([2], Data::I8(vec![-3, 5])), ramp(&[1]), Tensor::new([1], Data::I8(vec![3]))],
        ),
        (
            Op::ConvInteger(conv(2)),
            vec![
                Tensor::new([1, 2, 4, 4], Data::U8((0..32).collect())),
                Tensor::new([3, 2, 3, 3], Data::U8((0..54).collect())),
                Tensor::new([0; 0], Data::U8(vec![3])),
            ],
        ),
        (
            Op::MatMulInteger,
            vec![
                Tensor::new([2, 3], Data::U8((0..6).collect())),
                Tensor::new([3, 4], Data::I8((0..12).collect())),
                Tensor::new([0; 0], Data::U8(vec![3])),
            ],
        ),
        (Op::OneHot { axis: 1, depth: 3 }, vec![whole(&[2], &[0, 2]), ramp(&[2])]),
    ];
    let unary = [
        Unary::Abs,
        Unary::Neg,
        Unary::Exp,
        Unary::Log,
        Unary::Sqrt,
        Unary::Reciprocal,
        Unary::Erf,
        Unary::Sin,
        Unary::Cos,
        Unary::Tan,
        Unary::Asin,
        Unary::Acos,
        Unary::Atan,
        Unary::Sinh,
        Unary::Cosh,
        Unary::Asinh,
        Unary::Atanh,
        Unary::Floor,
        Unary::Ceil,
        Unary::Round,
        Unary::Sign,
        Unary::Softplus,
        Unary::Softsign,
        Unary::Elu { alpha: 1.0 },
        Unary::Celu { alpha: 1.0 },
        Unary::Selu { alpha: 1.6, gamma: 1.05 },
        Unary::Gelu { tanh: false },
        Unary::Mish,
        Unary::ThresholdedRelu { alpha: 1.0 },
        Unary::Shrink { lambda: 0.5, bias: 0.0 },
        Unary::IsNan,
        Unary::IsInf { negative: true, positive: true },
    ];
    all.extend(unary.map(|unary| (Op::Unary(unary), vec![x()])));
    let large = || Tensor::f32([1, 4], vec![1.5, 2.0, 3.0, 4.0]);
    all.push((Op::Unary(Unary::Acosh), vec![large()]));
    all.push((Op::Unary(Unary::Not), vec![truth(4)]));
    all.push((Op::Unary(Unary::BitwiseNot), vec![whole(&[2], &[1, 2])]));
    let floats = [Binary::Pow, Binary::Mod { fmod: true }, Binary::PRelu];
    let compare = [Binary::Equal, Binary::Greater, Binary::GreaterOrEqual, Binary::Less, Binary::LessOrEqual];
    all.extend(floats.into_iter().chain(compare).map(|binary| (Op::Binary(binary), vec![x(), x()])));
    all.extend([Binary::And, Binary::Or, Binary::Xor].map(|b| (Op::Binary(b), vec![truth(4), truth(4)])));
    let bits = [Binary::BitwiseAnd, Binary::BitwiseOr, Binary::BitwiseXor];
    all.extend(bits.map(|b| (Op::Binary(b), vec![whole(&[2], &[1, 6]), whole(&[2], &[3, 5])])));
    let variadic = [Variadic::Max, Variadic::Min, Variadic::Sum, Variadic::Mean];
    all.extend(variadic.map(|v| (Op::Variadic(v), vec![x(), x()])));
    let reductions = [
        Reduction::Sum,
        Reduction::Max,
        Reduction::Min,
        Reduction::Prod,
        Reduction::L1,
        Reduction::L2,
        Reduction::LogSum,
        Reduction::LogSumExp,
        Reduction::SumSquare,
    ];
    let reduce = |reduction| Op::Reduce { reduction, axes: vec![1], keepdims: true };
    all.extend(reductions.map(|reduction| (reduce(reduction), vec![x()])));
    for cell in [Cell::Rnn, Cell::Lstm, Cell::Gru { reset_after: true }] {
        let activations = match cell {
            Cell::Rnn => vec![Activation::Tanh],
            Cell::Gru { .. } => vec![Activation::Sigmoid, Activation::Tanh],
            Cell::Lstm => vec![Activation::Sigmoid, Activation::Tanh, Activation::Tanh],
        };
        let op = Recurrent {
            cell,
            hidden: 2,
            direction: Direction::Forward,
            activations,
            clip: None,
            coupled: false,
            batch_first: false,
        };
        let rows = cell.gates() * 2;
        all.push((Op::Recurrent(op), vec![ramp(&[3, 1, 3]), ramp(&[1, rows, 3]), ramp(&[1, rows, 2])]));
    }
    all
}

/// A graph of one node; operands in `inputs` are the caller's, the rest constants.
fn one_node(op: &Op, operands: &[Tensor], inputs: &[usize]) -> Graph {
    let mut graph = Graph { name: "one".into(), ..Graph::default() };
    let mut ids = vec![];
    for (i, tensor) in operands.iter().enumerate() {
        let name = format!("x{i}");
        if !inputs.contains(&i) {
            ids.push(Some(graph.add_constant(name, tensor.clone())));
            continue;
        }
        let shape = tensor.shape.iter().map(|&n| Dim::Fixed(n)).collect();
        let id = graph.add_value(Value { name, dtype: tensor.dtype(), shape, data: None, quant: None });
        graph.inputs.push(id);
        ids.push(Some(id));
    }
    let mut node = Node { name: "node".into(), op: op.clone(), inputs: ids, outputs: vec![] };
    for (i, (dtype, shape)) in infer_node(&graph, &node).unwrap().into_iter().enumerate() {
        let id = graph.add_value(Value { name: format!("y{i}"), dtype, shape, data: None, quant: None });
        node.outputs.push(id);
        graph.outputs.push(id);
    }
    graph.nodes.push(node);
    graph
}

fn imports(op: &Op, operands: &[Tensor]) -> bool {
    let graph = one_node(op, operands, &(0..operands.len()).collect::<Vec<_>>());
    // What an operand must say beforehand (indices of a Gather need not) is a constant.
    let read = |graph: &Graph| onnx::import(onnx::export(graph).unwrap().into(), None);
    let known = |graph: &Graph| graph.nodes.iter().all(|n| !matches!(n.op, Op::Opaque(_)));
    [graph, one_node(op, operands, &[0])].iter().any(|g| read(g).is_ok_and(|g| known(&g)))
}

fn runs(op: &Op, operands: &[Tensor]) -> bool {
    let graph = one_node(op, operands, &(0..operands.len()).collect::<Vec<_>>());
    // Statistics of a batch norm are constants.
    let graph = if matches!(op, Op::BatchNormalization { .. }) { one_node(op, operands, &[0]) } else { graph };
    let inputs: Vec<Tensor> = operands.iter().take(graph.inputs.len()).cloned().collect();
    case::computed(&graph, inputs).is_ok()
}

/// Whether a gradient reaches a constant; its values are compared with differences elsewhere.
fn differentiates(graph: &Graph) -> bool {
    let network = Network::new(graph, &burn::tensor::Device::flex().autodiff()).unwrap();
    let made = network.forward(Vec::<Datum>::new(), &[], Mode::Train { momentum: 0.9 });
    let Some(Datum::Float(output)) = made.ok().map(|mut o| o.outputs.remove(0)) else { return false };
    let count = output.shape().iter().product();
    let row = output.reshape(&[count]).into_tensor::<1>().unwrap();
    // burn panics where nothing led to a parameter.
    let gradients = catch_unwind(AssertUnwindSafe(|| row.sum().backward()));
    gradients.is_ok_and(|gradients| network.params().iter().any(|p| p.tensor.grad(&gradients).is_some()))
}

/// Whether one of these graphs becomes a program, and the program code.
fn generates(graphs: &[Graph]) -> [bool; 2] {
    let folder = tempfile::tempdir().unwrap();
    let programs: Vec<_> = graphs.iter().filter_map(|graph| program::lower_f32(graph, None).ok()).collect();
    let written = |(i, program): (usize, &program::Program)| {
        let plan = program::plan(program).unwrap();
        emit::write_crate(program, &plan, &folder.path().join(i.to_string()), &emit::CrateOptions::default()).is_ok()
    };
    [!programs.is_empty(), programs.iter().enumerate().any(written)]
}

/// The graphs in which an operator may have a kernel: operands all computed, some of them constant, or one read twice.
fn lowered(op: &Op, operands: &[Tensor]) -> Vec<Graph> {
    let alike: Vec<usize> = (0..operands.len()).filter(|&i| operands[i].shape == operands[0].shape).collect();
    let mut twice = one_node(op, operands, &alike);
    let first = twice.inputs.first().copied();
    for id in twice.nodes[0].inputs.iter_mut().flatten() {
        if twice.inputs.contains(id) {
            *id = first.unwrap();
        }
    }
    twice.inputs.truncate(1);
    let whole: Vec<usize> = (0..operands.len()).filter(|&i| !operands[i].dtype().is_float()).collect();
    [(0..operands.len()).collect(), whole, vec![0]]
        .iter()
        .map(|inputs| one_node(op, operands, inputs))
        .chain([twice])
        .collect()
}

/// What is tried of a network that an operator is written as: import, run, gradient, lowering, code.
fn tried(name: &str) -> [bool; 5] {
    let Some(graph) = written::network(name) else { return [false; 5] };
    let inputs = graph.inputs.iter().map(|&id| written::numbers(&shape_at(&graph.value(id).shape, 1))).collect();
    let runs = case::computed(&graph, inputs).is_ok();
    let [lowers, generates] = generates(std::slice::from_ref(&graph));
    [true, runs, differentiates(&written::trainable(graph)), lowers, generates]
}

#[test]
fn the_list_of_operators_is_what_the_code_does() {
    let mut rows: BTreeMap<String, [bool; 5]> = BTreeMap::new();
    for (op, operands) in samples() {
        let [lowers, generates] = generates(&lowered(&op, &operands));
        let gradient = differentiates(&one_node(&op, &operands, &[]));
        let row = [imports(&op, &operands), runs(&op, &operands), gradient, lowers, generates];
        rows.insert(op.name().to_string(), row);
    }
    rows.extend(onnx::WRITTEN_AS_OTHERS.map(|name| (name.to_string(), tried(name))));
    for limit in onnx::LIMITS {
        assert!(rows.contains_key(limit.operator), "{} is limited, and not known", limit.operator);
    }
    let mut text = String::from(INTRODUCTION);
    for (name, row) in &rows {
        let cells = row.map(|yes| if yes { "yes" } else { "–" }).join(" | ");
        // ONNX Runtime's own operators have one version.
        let opsets = match name.contains('.') {
            true => "1".into(),
            false => format!("{}–{}", onnx::since(name), onnx::OPSETS.end()),
        };
        let not = onnx::limit(name).map_or(String::new(), |limit| format!("not: {}", limit.not));
        writeln!(text, "| {name} | {opsets} | {cells} | {not} |").unwrap();
    }
    writeln!(text, "\n{} operators.", rows.len()).unwrap();
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("SUPPORTED-OPERATORS.md");
    if std::env::var_os("KDC_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let recorded = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(recorded, text, "SUPPORTED-OPERATORS.md differs from the code; KDC_BLESS=1 writes it anew");
    let unread = rows.iter().find(|(_, [imported, run, ..])| !(*imported && *run));
    assert!(unread.is_none(), "an operator is known and is not read, or does not run: {unread:?}");
}

/// `KDC_SEEDS=fuzz/seeds` writes a model of every operator for the fuzzer to start from.
#[test]
fn every_operator_is_a_seed() {
    let Some(folder) = std::env::var_os("KDC_SEEDS").map(std::path::PathBuf::from) else { return };
    let write = |name: &str, model: Vec<u8>| std::fs::write(folder.join(format!("{name}.onnx")), model).unwrap();
    for (op, operands) in samples() {
        let constants = !matches!(op, Op::BatchNormalization { .. });
        let inputs: Vec<usize> = if constants { vec![0] } else { (0..operands.len()).collect() };
        write(op.name(), onnx::export(&one_node(&op, &operands, &inputs)).unwrap());
    }
    onnx::WRITTEN_AS_OTHERS.iter().for_each(|name| write(name, written::model(name)));
}

const INTRODUCTION: &str = "\
# Operators

Made by trying each operator in a network of one node; a test fails when this file and the code differ
(`KDC_BLESS=1 cargo test --release --test networks` writes it anew).

- *opsets*: in which it is read; those of com.microsoft are ONNX Runtime's own.
- *import*: read, and written back. Constant, Shape, Size, ConstantOfShape, Range, If and chains of them are computed
  while a model is read and leave no node behind; pairs of QuantizeLinear and DequantizeLinear become parameters of the
  value between them; operators on quantized tensors are written as such pairs around operators on floats.
- *run*: on burn. *gradient*: differentiable by its operands that are floats; through roundings as if there were none.
- *lowering*: becomes part of an f32 program. *code*: has a kernel; generated programs can run it. A student consists of
  such operators only.
- *not*: what of it is not read. No operator takes strings, sequences or optionals, 8-bit floats or 4-bit numbers.
  Floats of 16 and 64 bits are computed in 32, integers of 16 bits and unsigned ones in wider signed ones.

| operator | opsets | import | run | gradient | lowering | code | |
|---|---|---|---|---|---|---|---|
";
