//! Files that were exported for a number of samples, as PyTorch's newer exporter writes them.

use super::*;
use crate::exec::{Mode, Network};
use burn::tensor::Device;

/// One way of writing a network `[n, 2, 4, 4]` → `[n, 3]` for `n` samples: nodes and constants.
type Written = fn(i64) -> (Vec<NodeProto>, Vec<TensorProto>);

fn floats(name: &str, shape: &[usize]) -> TensorProto {
    let count: usize = shape.iter().product();
    tensor::write(name, &Tensor::f32(shape, (0..count).map(|i| ((i * 29) % 13) as f32 / 13.0 - 0.4).collect()))
}

/// A constant that is the same for each of `n` samples.
fn for_each(n: i64, name: &str, rest: &[usize]) -> TensorProto {
    let row: Vec<f32> = (0..rest.iter().product::<usize>()).map(|i| (i % 5) as f32 - 2.0).collect();
    tensor::write(name, &Tensor::f32([&[n as usize], rest].concat(), row.repeat(n as usize)))
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
            let (nodes, constants) = written(n);
            let graph = read(&model(13, &[n, 2, 4, 4], nodes, constants)).unwrap();
            assert_eq!(graph.value(graph.inputs[0]).shape, batch(&[2, 4, 4]), "{what}, {n} samples:\n{graph}");
            assert_eq!(graph.value(graph.outputs[0]).shape, batch(&[3]), "{what}, {n} samples");
            let network = Network::new(&graph, &Device::flex()).unwrap();
            let answer = network.forward(vec![input.clone()], &[], Mode::Infer).unwrap().outputs[0].to_host().unwrap();
            answer.to_f32().into_owned()
        });
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{what}");
    }
}

#[test]
fn a_file_whose_samples_meet_keeps_its_batch() {
    let read_of = |nodes, constants| read(&model(13, &[4, 3], nodes, constants)).unwrap();
    // A softmax over the samples, the last sample, and a constant that is another for each.
    let softmax = node("Softmax", &["x"], "y", vec![int("axis", 0)]);
    let last = node("Slice", &["x", "b", "e", "z"], "y", vec![]);
    let bounds = vec![numbers("b", &[3]), numbers("e", &[4]), numbers("z", &[0])];
    let each = node("Add", &["x", "k"], "y", vec![]);
    for (nodes, constants) in [(softmax, vec![]), (last, bounds), (each, vec![floats("k", &[4, 3])])] {
        let graph = read_of(vec![nodes], constants);
        assert_eq!(graph.value(graph.inputs[0]).shape, [4, 3].map(Dim::Fixed), "{graph}");
    }
}

#[test]
fn one_of_several_outputs_is_read_without_what_only_the_others_need() {
    let nodes = vec![
        node("Relu", &["x"], "emb", vec![]),
        node("MatMul", &["emb", "w"], "logits", vec![]),
        node("Softmax", &["emb"], "over the batch", vec![int("axis", 0)]),
    ];
    let mut file = model(13, &[1, 4], nodes, vec![floats("w", &[4, 3])]);
    file.graph.as_mut().unwrap().output = vec![value("emb", &[]), value("logits", &[]), value("over the batch", &[])];
    let given = |name: &str| Given { output: Some(name.into()), ..Given::default() };
    let source = import::Source { folder: None, map: None };
    let read_of = |name: &str| import::import(file.clone(), source.clone(), &given(name));
    let graph = read_of("logits").unwrap();
    let names: Vec<&str> = graph.outputs.iter().map(|&id| graph.value(id).name.as_str()).collect();
    assert_eq!((names, graph.nodes.len()), (vec!["logits"], 2));
    assert_eq!(read_of("emb").unwrap().nodes.len(), 1);
    let message = read_of("logit").unwrap_err().to_string();
    assert!(message.contains("emb, logits, over the batch"), "{message}");
}
