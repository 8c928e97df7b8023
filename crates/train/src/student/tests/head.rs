//! Heads for other classes, on every family.

use super::*;
use kdc_ir::onnx;

#[test]
fn every_family_takes_a_head_for_other_classes() {
    for path in families::models() {
        let name = path.display().to_string();
        let (teacher, _) = prepare(&onnx::load(&path).unwrap()).unwrap();
        let graph = with_head(&teacher, 3, 7).unwrap_or_else(|e| panic!("{name}: {e}"));
        let output = &graph.value(graph.outputs[0]).shape;
        assert_eq!(output.last(), Some(&Dim::Fixed(3)), "{name}");
        assert_eq!(output.len(), teacher.value(teacher.outputs[0]).shape.len(), "{name}");
        // Nothing but constants at the end changed, and the same seed draws the same.
        let changed: Vec<_> = graph.nodes.iter().zip(&teacher.nodes).filter(|(a, b)| a.inputs != b.inputs).collect();
        assert!((1..=2).contains(&changed.len()), "{name}: {} nodes", changed.len());
        let inputs: Vec<Tensor> =
            graph.inputs.iter().enumerate().map(|(i, &id)| input(graph.value(id), 2, i + 1)).collect();
        let same = with_head(&teacher, 3, 7).unwrap();
        assert_eq!(difference(&computed(&graph, &inputs), &computed(&same, &inputs)), 0.0, "{name}");
        assert_trains(&graph, &inputs, &name);
    }
}

#[test]
fn what_ends_without_weights_has_no_head() {
    let mut b = kdc_ir::graph::Builder::new("bare");
    let x = b.input("x", &[Dim::Batch, fixed(4)]);
    let y = b.node("sum", kdc_ir::graph::Op::Add, &[x, x]).unwrap();
    let error = with_head(&b.finish(&[y]), 3, 0).unwrap_err().to_string();
    assert!(error.contains("'sum'") && error.contains("it adds two activations"), "{error}");
}
