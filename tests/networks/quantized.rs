//! Networks that ONNX Runtime's quantizer wrote with operators on quantized tensors; outputs are ONNX Runtime's.

use crate::case;
use kdc::graph::Op;
use kdc::{onnx, pass};
use std::path::Path;

#[test]
fn outputs_are_those_of_onnx_runtime_to_within_a_step() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/networks/quantized");
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let mut graph = onnx::load(&path.join("model.onnx")).unwrap();
        pass::normalize(&mut graph).unwrap();
        // All that was quantized is a float with parameters, so that the network differentiates.
        for node in &graph.nodes {
            let floats = !matches!(node.op, Op::Opaque(_) | Op::Quantize { .. } | Op::Dequantize { .. });
            assert!(floats, "{}: {} ({})", path.display(), node.name, node.op.name());
        }
        let output = graph.value(graph.outputs[0]);
        let step = f64::from(output.quant.as_ref().expect("the output is quantized").scale[0]);
        let (inputs, expected) = (case::tensors(&path, "input").unwrap(), case::tensors(&path, "output").unwrap());
        let largest = expected[0].to_f32().iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let computed = case::computed_apart(&graph, inputs).unwrap();
        let difference = case::difference(&computed, &expected, 0.0, 1.01 * step / f64::from(largest));
        assert_eq!(difference, None, "{}", path.display());
        seen += 1;
    }
    assert!(seen >= 2, "{} holds {seen} networks", folder.display());
}
