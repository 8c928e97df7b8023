//! Networks at reduced width with random weights, exported by PyTorch with a symbolic batch, full of shape arithmetic;
//! outputs are ONNX Runtime's.

use crate::case;
use kdc::graph::Op;
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
        let computed = case::computed(&graph, inputs).unwrap();
        assert_eq!(case::difference(&computed, &expected, 0.0, 1e-4), None, "{}", path.display());

        // What is written and read again is the same graph.
        let again = onnx::import(onnx::export(&graph).unwrap().into(), None).unwrap();
        let computed = case::computed(&again, case::tensors(&path, "input").unwrap()).unwrap();
        assert_eq!(case::difference(&computed, &expected, 0.0, 1e-4), None, "{} written and read", path.display());
        seen += 1;
    }
    assert!(seen >= 6, "{} holds {seen} networks", folder().display());
}
