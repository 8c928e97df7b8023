//! Files that were exported for a number of samples, as PyTorch's newer exporter writes them. What such networks compute is
//! tested where they can be run (`tests/networks`).

use super::*;

fn floats(name: &str, shape: &[usize]) -> TensorProto {
    let count: usize = shape.iter().product();
    tensor::write(name, &Tensor::f32(shape, (0..count).map(|i| ((i * 29) % 13) as f32 / 13.0 - 0.4).collect()))
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
