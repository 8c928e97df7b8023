//! A teacher with an operator that kdc does not know: it is asked through an engine, about its activations too, and what
//! needs to know the operator is refused by the node's name.

use crate::workshop::{Workshop, said, succeed};
use kdc::graph::{Graph, Node, Op, OpaqueNode};
use kdc::teacher::{self, EngineChoice};
use prost::Message;
use std::path::Path;
use tract_onnx::pb::{AttributeProto, ModelProto, NodeProto, attribute_proto::AttributeType};

/// The workshop's teacher, its mean over the image taken by an operator kdc has none for: LpPool of order 1 is a sum.
fn with_unknown_node(workshop: &Workshop) -> Graph {
    let mut graph = kdc::onnx::load(&workshop.path("teacher.onnx")).unwrap();
    let mean = graph.nodes.iter().position(|n| n.op == Op::GlobalAveragePool).unwrap();
    let side = crate::workshop::SIDE as i64;
    let kernel = AttributeProto {
        name: "kernel_shape".into(),
        ints: vec![side, side],
        r#type: AttributeType::Ints as i32,
        ..Default::default()
    };
    let order = AttributeProto { name: "p".into(), i: 1, r#type: AttributeType::Int as i32, ..Default::default() };
    let proto = NodeProto {
        op_type: "LpPool".into(),
        input: vec!["x".into()],
        output: vec!["y".into()],
        attribute: vec![kernel, order],
        ..Default::default()
    };
    graph.nodes[mean].op = Op::Opaque(OpaqueNode {
        domain: String::new(),
        opset: 17,
        op_type: "LpPool".into(),
        proto: proto.encode_to_vec(),
        why: String::new(),
        unread: None,
    });
    graph.nodes[mean].name = "sum".into();
    // The sum is as many times the mean, of which the last layer makes logits.
    let weights = graph.find("logits.weight").unwrap();
    let scaled = graph.constant(weights).unwrap().to_f32().iter().map(|w| w / (side * side) as f32).collect();
    let shape = graph.constant(weights).unwrap().shape.clone();
    graph.value_mut(weights).data = Some(std::sync::Arc::new(kdc::graph::Tensor::f32(shape, scaled)));
    graph
}

fn no_library() -> bool {
    let missing = std::env::var_os("ORT_DYLIB_PATH").is_none();
    if missing {
        kdc::testing::skipped("ORT_DYLIB_PATH names no library of ONNX Runtime; make test-all installs one");
    }
    missing
}

fn write(workshop: &Workshop, path: &Path) {
    std::fs::write(path, kdc::onnx::export(&with_unknown_node(workshop)).unwrap()).unwrap();
}

#[test]
fn it_is_shown_and_written_back_and_no_student_is_made_of_it() {
    let workshop = Workshop::new();
    write(&workshop, &workshop.path("teacher.onnx"));
    std::fs::rename(workshop.path("data"), workshop.path("elsewhere")).unwrap();
    workshop.write_sidecar(None);
    let shown = said(&succeed(workshop.kdc(&["inspect", "teacher.onnx", "--target", "host"])));
    assert!(shown.contains("LpPool") && shown.contains("not known to kdc"), "{shown}");
    succeed(workshop.kdc(&["export", "teacher.onnx", "--emit", "onnx", "--out", "again.onnx"]));
    assert_eq!(kdc::onnx::load(&workshop.path("again.onnx")).unwrap().nodes.len(), 7);
    // Gradients, and a student, want to know what the node computes.
    let graph = kdc::onnx::load(&workshop.path("teacher.onnx")).unwrap();
    let refused = kdc::exec::Network::new(&graph, &burn::tensor::Device::flex()).err().unwrap().to_string();
    assert!(refused.contains("'sum'") && refused.contains("not known to kdc"), "{refused}");
    std::fs::rename(workshop.path("elsewhere"), workshop.path("data")).unwrap();
    let output = workshop.compile("host", &["--data", "data", "--no-search"]).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.contains("'sum'") && message.contains("LpPool"), "{message}");
}

#[test]
fn it_teaches_through_onnx_runtime() {
    if no_library() {
        return;
    }
    let workshop = Workshop::new();
    let model =
        |name: &str| teacher::open(&workshop.path(name), &[], EngineChoice::OnnxRuntime, teacher::UNCOMPARED).unwrap();
    std::fs::copy(workshop.path("teacher.onnx"), workshop.path("known.onnx")).unwrap();
    write(&workshop, &workshop.path("teacher.onnx"));
    let shown = said(&succeed(workshop.kdc(&["eval", "teacher.onnx", "--against", "known.onnx"])));
    assert!(shown.contains("ONNX Runtime") && shown.contains("100.00%"), "{shown}");
    let (unknown, known) = (model("teacher.onnx"), model("known.onnx"));
    let batch = [kdc::graph::Tensor::f32([3, 1, 8, 8], (0..192).map(|i| (i * 7 % 13) as f32 / 13.0).collect())];
    let answers = [unknown, known].map(|teacher| teacher.run(&batch).unwrap().outputs[0].to_f32().into_owned());
    let off = answers[0].iter().zip(&answers[1]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < 1e-4, "{answers:?}");
    // Its student has a network of its own.
    let compile = ["compile", "teacher.onnx", "--target", "host", "--epochs", "12", "--batch-size", "32", "--json"];
    let compile = [&compile[..], &["--max-macs", "200k", "--max-params", "20k"]].concat();
    let compile = [&compile[..], &["--max-quant-drop", "5", "--engine", "onnxruntime"]].concat();
    let made = crate::workshop::report(&succeed(workshop.kdc(&compile)));
    assert!(made.header.plan.student.contains("template"), "{}", made.header.plan.student);
    let accuracy = made.accuracy.unwrap();
    assert!(accuracy.row(kdc::report::Network::Program).unwrap().accuracy > 0.6, "{accuracy:?}");
}

/// The workshop's teacher with an operator in its middle that kdc does not know and that changes nothing to speak of, a
/// ScaledTanh where that is as good as straight, and no word about the shapes of results.
fn with_unknown_middle(workshop: &Workshop) -> Vec<u8> {
    let mut graph = kdc::onnx::load(&workshop.path("teacher.onnx")).unwrap();
    let at = graph.nodes.iter().position(|n| n.op == Op::Relu).unwrap();
    let (before, mut value) = (graph.nodes[at].output(), graph.value(graph.nodes[at].output()).clone());
    value.name = "straight".into();
    let after = graph.add_value(value);
    let readers = graph.nodes.iter_mut().skip(at + 1).flat_map(|n| &mut n.inputs);
    readers.filter(|input| **input == Some(before)).for_each(|input| *input = Some(after));
    let float = |name: &str, f| AttributeProto {
        name: name.into(),
        f,
        r#type: AttributeType::Float as i32,
        ..Default::default()
    };
    let proto = NodeProto {
        op_type: "ScaledTanh".into(),
        input: vec!["x".into()],
        output: vec!["y".into()],
        attribute: vec![float("alpha", 1e3), float("beta", 1e-3)],
        ..Default::default()
    };
    let op = Op::Opaque(OpaqueNode {
        domain: String::new(),
        opset: 17,
        op_type: "ScaledTanh".into(),
        proto: proto.encode_to_vec(),
        why: String::new(),
        unread: None,
    });
    let node = Node { name: "straight".into(), op, inputs: vec![Some(before)], outputs: vec![after] };
    graph.nodes.insert(at + 1, node);
    let mut model = ModelProto::decode(&kdc::onnx::export(&graph).unwrap()[..]).unwrap();
    model.graph.as_mut().unwrap().value_info.clear();
    model.encode_to_vec()
}

#[test]
fn its_activations_come_from_its_engine() {
    let workshop = Workshop::new();
    let recipe = "[[term]]\nmethod = \"soft-label\"\n\n[[term]]\nmethod = \"similarity\"\nweight = 30.0\n\n\
                  [[term]]\nmethod = \"attention\"\nweight = 10.0\n";
    std::fs::write(workshop.path("recipe.toml"), recipe).unwrap();
    let distill = |more: &[&str]| {
        let same = ["distill", "teacher.onnx", "--engine", "tract", "--epochs", "2", "--batch-size", "32", "--force"];
        workshop.kdc(&[&same[..], &["--recipe", "recipe.toml", "--json"], more].concat())
    };
    succeed(distill(&["--no-search", "--out", "first"]));
    let student = ["--student", "first/student.onnx", "--start", "random", "--out"];
    let losses = |out: &str| -> Vec<f64> {
        succeed(distill(&[&student[..], &[out]].concat()));
        let log = std::fs::read_to_string(workshop.path(out).join("train/log.csv")).unwrap();
        log.lines().skip(1).flat_map(|line| line.split(',').skip(2).take(5)).map(|v| v.parse().unwrap()).collect()
    };
    let known = losses("known");
    std::fs::write(workshop.path("teacher.onnx"), with_unknown_middle(&workshop)).unwrap();
    let unknown = losses("unknown");
    assert_eq!(known.len(), 10);
    for (a, b) in known.iter().zip(&unknown) {
        assert!((a - b).abs() < 1e-3 * a.abs().max(0.1), "{known:?} {unknown:?}");
    }
    // What gradients would have to go through, it cannot give.
    std::fs::write(workshop.path("recipe.toml"), "[[term]]\nmethod = \"progressive-replacement\"\n").unwrap();
    let refused = distill(&[&student[..], &["refused"]].concat()).output().unwrap();
    let message = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{message}");
    assert!(message.contains("'straight'") && message.contains("ScaledTanh"), "{message}");
}
