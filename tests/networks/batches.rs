//! Files that were exported for a number of samples, as PyTorch's newer exporter writes them.

use crate::written::{self, int, stated};
use burn::tensor::Device;
use kdc::exec::{Mode, Network};
use kdc::graph::{Dim, Tensor};
use kdc::onnx;
use prost::Message;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto,
    attribute_proto::AttributeType,
};

const FLOAT: i32 = 1;
const INT64: i32 = 7;

/// One way of writing a network `[n, 2, 4, 4]` → `[n, 3]` for `n` samples: nodes and constants.
type Written = fn(i64) -> (Vec<NodeProto>, Vec<TensorProto>);

fn floats(name: &str, shape: &[usize]) -> TensorProto {
    let count: usize = shape.iter().product();
    of_floats(name, shape, (0..count).map(|i| ((i * 29) % 13) as f32 / 13.0 - 0.4).collect())
}

fn of_floats(name: &str, shape: &[usize], float_data: Vec<f32>) -> TensorProto {
    let dims = shape.iter().map(|&n| n as i64).collect();
    TensorProto { name: name.into(), data_type: FLOAT, dims, float_data, ..Default::default() }
}

fn numbers(name: &str, numbers: &[i64]) -> TensorProto {
    let (dims, int64_data) = (vec![numbers.len() as i64], numbers.to_vec());
    TensorProto { name: name.into(), data_type: INT64, dims, int64_data, ..Default::default() }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), ints: ints.to_vec(), r#type: AttributeType::Ints as i32, ..Default::default() }
}

fn node(op: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto { attribute, ..written::node(op, inputs, &[output]) }
}

/// A file for so many samples.
fn file(n: i64, (node, initializer): (Vec<NodeProto>, Vec<TensorProto>)) -> Vec<u8> {
    let output = vec![ValueInfoProto { name: "y".into(), ..Default::default() }];
    let input = vec![stated("x", &[n, 2, 4, 4])];
    let graph = GraphProto { name: "test".into(), node, initializer, input, output, ..Default::default() };
    let opset_import = vec![OperatorSetIdProto { version: 13, ..Default::default() }];
    ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..Default::default() }.encode_to_vec()
}

/// A constant that is the same for each of `n` samples.
fn for_each(n: i64, name: &str, rest: &[usize]) -> TensorProto {
    let row: Vec<f32> = (0..rest.iter().product::<usize>()).map(|i| (i % 5) as f32 - 2.0).collect();
    of_floats(name, &[&[n as usize], rest].concat(), row.repeat(n as usize))
}

const WRITTEN: [(&str, Written); 9] = [
    ("target with the batch in front", |n| {
        let nodes = vec![node("Reshape", &["x", "s"], "f", vec![]), node("MatMul", &["f", "w"], "y", vec![])];
        (nodes, vec![numbers("s", &[n, 32]), floats("w", &[32, 3])])
    }),
    ("the rest is open", |n| {
        let nodes = vec![node("Reshape", &["x", "s"], "f", vec![]), node("MatMul", &["f", "w"], "y", vec![])];
        (nodes, vec![numbers("s", &[n, -1]), floats("w", &[32, 3])])
    }),
    ("the batch is open", |_| {
        let nodes = vec![node("Reshape", &["x", "s"], "f", vec![]), node("MatMul", &["f", "w"], "y", vec![])];
        (nodes, vec![numbers("s", &[-1, 32]), floats("w", &[32, 3])])
    }),
    ("channels merged into the batch and back", |n| {
        let nodes = vec![
            node("Reshape", &["x", "a"], "m", vec![]),
            node("Relu", &["m"], "r", vec![]),
            node("Reshape", &["r", "b"], "f", vec![]),
            node("MatMul", &["f", "w"], "y", vec![]),
        ];
        (nodes, vec![numbers("a", &[2 * n, 16]), numbers("b", &[n, 32]), floats("w", &[32, 3])])
    }),
    ("a Squeeze without axes", |_| {
        let nodes = vec![
            node("GlobalAveragePool", &["x"], "g", vec![]),
            node("Squeeze", &["g"], "f", vec![]),
            node("MatMul", &["f", "w"], "y", vec![]),
        ];
        (nodes, vec![floats("w", &[2, 3])])
    }),
    ("a token in front, expanded", |n| {
        let nodes = vec![
            node("Reshape", &["x", "s"], "t", vec![]),
            node("Expand", &["c", "e"], "k", vec![]),
            node("Concat", &["k", "t"], "j", vec![int("axis", 1)]),
            node("ReduceMean", &["j"], "f", vec![ints("axes", &[1]), int("keepdims", 0)]),
            node("MatMul", &["f", "w"], "y", vec![]),
        ];
        let constants = vec![numbers("s", &[n, 2, 16]), numbers("e", &[n, 1, 16]), floats("c", &[1, 1, 16])];
        (nodes, [constants, vec![floats("w", &[16, 3])]].concat())
    }),
    ("a token in front, folded", |n| {
        let nodes = vec![
            node("Reshape", &["x", "s"], "t", vec![]),
            node("Concat", &["k", "t"], "j", vec![int("axis", 1)]),
            node("ReduceMean", &["j"], "f", vec![ints("axes", &[1]), int("keepdims", 0)]),
            node("MatMul", &["f", "w"], "y", vec![]),
        ];
        (nodes, vec![numbers("s", &[n, 2, 16]), for_each(n, "k", &[1, 16]), floats("w", &[16, 3])])
    }),
    ("a mask for each sample", |n| {
        let nodes = vec![
            node("Add", &["x", "k"], "a", vec![]),
            node("Flatten", &["a"], "f", vec![]),
            node("MatMul", &["f", "w"], "y", vec![]),
        ];
        (nodes, vec![for_each(n, "k", &[1, 4, 4]), floats("w", &[32, 3])])
    }),
    ("all samples sliced out", |n| {
        let nodes = vec![
            node("Slice", &["x", "b", "e", "z"], "a", vec![]),
            node("Flatten", &["a"], "f", vec![]),
            node("MatMul", &["f", "w"], "y", vec![]),
        ];
        (nodes, vec![numbers("b", &[0]), numbers("e", &[n]), numbers("z", &[0]), floats("w", &[32, 3])])
    }),
];

#[test]
fn a_file_for_some_samples_is_one_for_any_number() {
    let input = Tensor::f32([5, 2, 4, 4], (0..160).map(|i| ((i * 31) % 17) as f32 / 8.0 - 1.0).collect());
    for (what, written) in WRITTEN {
        let answers = [1, 2, 3, 8, 16, 32].map(|n| {
            let graph = onnx::import(file(n, written(n)).into(), None).unwrap();
            let shape = |id| graph.value(id).shape.clone();
            let fixed = Dim::Fixed;
            let wanted = [Dim::Batch, fixed(2), fixed(4), fixed(4)];
            assert_eq!(shape(graph.inputs[0]), wanted, "{what}, {n} samples:\n{graph}");
            assert_eq!(shape(graph.outputs[0]), [Dim::Batch, fixed(3)], "{what}, {n} samples");
            let network = Network::new(&graph, &Device::flex()).unwrap();
            let answer = network.forward(vec![input.clone()], &[], Mode::Infer).unwrap().outputs[0].to_host().unwrap();
            answer.to_f32().into_owned()
        });
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{what}");
    }
}
