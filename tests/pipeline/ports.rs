//! Teachers with ports of any name, of several outputs, and for a fixed number of samples.

use crate::workshop::{Workshop, report, said, succeed};
use kdc::graph::{Dim, Graph, ValueId, infer_shapes};
use std::fs;

/// The workshop's teacher, changed.
fn with_teacher(change: impl FnOnce(&mut Graph)) -> Workshop {
    let workshop = Workshop::new();
    let path = workshop.path("teacher.onnx");
    let mut graph = kdc::onnx::load(&path).unwrap();
    change(&mut graph);
    fs::write(path, kdc::onnx::export(&graph).unwrap()).unwrap();
    workshop
}

const FAST: [&str; 4] = ["--no-build", "--no-search", "--alpha", "0.9"];

#[test]
fn names_of_every_class_come_through_and_forge_nothing() {
    let (input, output) = ("сonv\n0//`x`", "*/ \"## \u{202e}\u{1b}[2J out");
    let classes = ["#3", ".1", "é", "a\tb", "it's", "\\", "\r", "\0", "\u{2066}", "fn", "inf", "i\"x\"", "../x", "{}"];
    let workshop = with_teacher(|graph| {
        graph.name = "error: forged\nnet".into();
        for (i, node) in graph.nodes.iter_mut().enumerate() {
            node.name = format!("{}{i}", classes[i % classes.len()]);
        }
        for i in 0..graph.values.len() {
            graph.values[i].name = format!("{i}{}", classes[i % classes.len()]);
        }
        let (x, y) = (graph.inputs[0], graph.outputs[0]);
        graph.value_mut(x).name = input.into();
        graph.value_mut(y).name = output.into();
    });
    let made = succeed(workshop.compile("host", &[&["--json", "--out", "out\nerror: forged"], &FAST[..]].concat()));
    let report = report(&made);
    let out = workshop.path("out\nerror: forged");
    assert_eq!((report.inputs[0].name.as_str(), report.outputs[0].name.as_str()), (input, output));
    assert!(out.join("student.nnef.tgz").exists(), "{:?}", report.skipped);
    for file in ["student.onnx", "student.int8.onnx"] {
        let graph = kdc::onnx::load(&out.join(file)).unwrap();
        let name = |id: ValueId| graph.value(id).name.clone();
        assert_eq!((name(graph.inputs[0]), name(graph.outputs[0])), (input.to_string(), output.to_string()), "{file}");
    }
    let text = fs::read_to_string(out.join("report.txt")).unwrap();
    for text in [text, said(&made)] {
        assert!(text.chars().all(|c| c == '\n' || (!c.is_control() && c != '\u{202e}')), "{text}");
        assert!(!text.lines().any(|line| line.trim_start().starts_with("error: forged")), "{text}");
    }
    let refused = workshop.kdc(&["inspect", "no\nerror: forged\u{1b}.onnx"]).output().unwrap();
    let lines: Vec<String> = said(&refused).lines().map(String::from).collect();
    assert!(lines.len() > 1 && lines[1].starts_with("  | error: forged\\u{1b}.onnx"), "{lines:?}");
}

#[test]
fn one_of_two_outputs_is_chosen_and_nothing_is_done_without() {
    let workshop = with_teacher(|graph| {
        // What is before the logits stands in front.
        let inner = graph.nodes[1].output();
        graph.outputs.insert(0, inner);
    });
    let logits = kdc::onnx::load(&workshop.path("teacher.onnx")).map(|g| g.value(g.outputs[1]).name.clone()).unwrap();
    for verb in ["compile", "distill", "eval", "label"] {
        let target: &[&str] = if verb == "compile" { &["--target", "host"] } else { &[] };
        let refused = workshop.kdc(&[&[verb, "teacher.onnx"], target].concat()).output().unwrap();
        let said = said(&refused);
        assert_eq!(refused.status.code(), Some(2), "{verb}: {said}");
        assert!(
            said.contains("2 outputs") && said.contains("--output NAME") && said.contains(&logits),
            "{verb}: {said}"
        );
    }
    let wrong = workshop.kdc(&["eval", "teacher.onnx", "--output", "logit"]).output().unwrap();
    assert!(wrong.status.code() == Some(2) && said(&wrong).contains(&logits), "{}", said(&wrong));
    let inspected = succeed(workshop.kdc(&["inspect", "teacher.onnx"]));
    assert!(said(&inspected).contains("--output NAME"), "{}", said(&inspected));
    let output: &[&str] = &["--output", &logits];
    let judged = succeed(workshop.kdc(&[&["eval", "teacher.onnx"], output].concat()));
    assert!(said(&judged).contains("rows"), "{}", said(&judged));
    succeed(workshop.kdc(&[&["label", "teacher.onnx", "--labels", "labels"], output].concat()));
    succeed(workshop.kdc(&[&["export", "teacher.onnx", "--emit", "onnx", "--out", "one.onnx"], output].concat()));
    assert_eq!(kdc::onnx::load(&workshop.path("one.onnx")).unwrap().outputs.len(), 1);
    let made = report(&succeed(workshop.compile("host", &[&["--json"], &FAST[..], output].concat())));
    assert_eq!(made.outputs.iter().map(|port| port.name.as_str()).collect::<Vec<_>>(), [logits.as_str()]);
    // The sidecar may say it for good.
    let sidecar = fs::read_to_string(workshop.path("teacher.toml")).unwrap();
    fs::write(workshop.path("teacher.toml"), format!("output = \"{logits}\"\n{sidecar}")).unwrap();
    let again = succeed(workshop.kdc(&["eval", "teacher.onnx"]));
    assert_eq!(said(&again), said(&judged));
}

#[test]
fn a_teacher_for_eight_samples_is_compiled_like_one_for_any_number() {
    let any = Workshop::new();
    let eight = with_teacher(|graph| {
        let x = graph.inputs[0];
        graph.value_mut(x).shape[0] = Dim::Fixed(8);
        for node in &mut graph.nodes {
            if let kdc::graph::Op::Reshape { shape } = &mut node.op {
                shape[0] = Dim::Fixed(8);
            }
        }
        infer_shapes(graph).unwrap();
    });
    let made =
        [&any, &eight].map(|workshop| report(&succeed(workshop.compile("host", &[&["--json"], &FAST[..]].concat()))));
    assert_eq!(made[0].inputs, made[1].inputs);
    assert_eq!(made[0].accuracy.as_ref().unwrap().rows, made[1].accuracy.as_ref().unwrap().rows);
}
