//! Networks at reduced width with random weights, exported by PyTorch with a symbolic batch, full of shape arithmetic;
//! those called `-one` for one sample (`bert-one` by the exporter built on torch.export). Outputs are ONNX Runtime's.

use crate::case;
use kdc::graph::{Dim, Op};
use kdc::{onnx, pass};
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/networks/families")
}

#[test]
fn outputs_are_those_of_onnx_runtime_and_no_shape_chain_is_left() {
    let mut seen = 0;
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let mut graph = onnx::load(&path.join("model.onnx")).unwrap();
        pass::normalize(&mut graph).unwrap();
        let chains = ["Shape", "ConstantOfShape", "Range", "If"];
        for node in &graph.nodes {
            assert!(!matches!(node.op, Op::Opaque(_)), "{}: {} ({})", path.display(), node.name, node.op.name());
            assert!(!chains.contains(&node.op.name()), "{}: {}", path.display(), node.name);
        }
        let (inputs, expected) = (case::tensors(&path, "input").unwrap(), case::tensors(&path, "output").unwrap());
        // However the file was exported, kdc takes any number of samples, and each for itself.
        assert_eq!(graph.value(graph.inputs[0]).shape[0], Dim::Batch, "{}", path.display());
        let computed = case::computed_apart(&graph, inputs).unwrap();
        assert_eq!(case::difference(&computed, &expected, 0.0, 1e-4), None, "{}", path.display());

        // What is written and read again is the same graph.
        let again = onnx::import(onnx::export(&graph).unwrap().into(), None).unwrap();
        let computed = case::computed(&again, case::tensors(&path, "input").unwrap()).unwrap();
        assert_eq!(case::difference(&computed, &expected, 0.0, 1e-4), None, "{} written and read", path.display());
        seen += 1;
    }
    assert!(seen >= 9, "{} holds {seen} networks", folder().display());
}
