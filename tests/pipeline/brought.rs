//! A student that is brought, and one that is not trained.

use crate::workshop::{Workshop, report, said, succeed};
use kdc::graph::Graph;
use std::path::Path;

/// The constants of a network, to the bit, in the order of their sizes and contents: files name and order them as they like.
fn weights(graph: &Graph) -> Vec<Vec<u32>> {
    let bits = |tensor: &kdc::graph::Tensor| tensor.to_f32().iter().map(|v| v.to_bits()).collect();
    let mut all: Vec<Vec<u32>> = graph.values.iter().filter_map(|value| value.data.as_deref().map(bits)).collect();
    all.sort();
    all
}

fn weights_of(path: &Path) -> Vec<Vec<u32>> {
    weights(&kdc::onnx::load(path).unwrap())
}

#[test]
fn a_student_with_nothing_to_train_compiles_as_it_is() {
    let workshop = Workshop::new();
    let own = weights_of(&workshop.path("teacher.onnx"));
    let with = |command: &str, more: &[&str]| {
        let mut kdc = workshop.kdc(&[command, "teacher.onnx", "--engine", "tract", "--student", "teacher.onnx"]);
        kdc.args(["--epochs", "0", "--out", command]).args(more);
        kdc
    };
    let compile = ["--target", "host", "--json"];
    let planned = report(&succeed(with("compile", &[&compile[..], &["--dry-run"]].concat())));
    let made = report(&succeed(with("compile", &[&compile[..], &["--no-build"]].concat())));
    assert_eq!(made.size.student, made.size.teacher);
    assert_eq!(weights_of(&workshop.path("compile/student.onnx")), own);
    // It is as large as its teacher, and nobody asked for less.
    assert!(made.verdicts.iter().all(|v| !["--max-macs", "--max-params"].contains(&v.name.as_str())), "{made:?}");
    assert_eq!(planned.header.precision, made.header.precision);
    succeed(with("distill", &[]));
    assert_eq!(weights_of(&workshop.path("distill/student.onnx")), own);
}

#[test]
fn a_budget_that_was_asked_for_holds_for_a_student_that_is_brought() {
    let workshop = Workshop::new();
    let mut kdc = workshop.kdc(&["compile", "teacher.onnx", "--target", "host", "--engine", "tract"]);
    kdc.args(["--student", "teacher.onnx", "--epochs", "0", "--no-build", "--max-params", "100"]);
    let output = kdc.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
}

#[test]
fn weights_that_were_drawn_are_trained_or_refused() {
    let workshop = Workshop::new();
    for (more, words) in [
        (&["--start", "random"][..], "drawn at random"),
        (&["--template", "image-separable"], "of a template"),
        (&["--recipe", "transfer"], "a new last layer"),
    ] {
        let mut kdc = workshop.kdc(&["compile", "teacher.onnx", "--target", "host", "--epochs", "0"]);
        let output = kdc.args(more).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(words), "{}", said(&output));
    }
}
