//! Ordinary networks by the default recipe, and budgets that leave room.

use crate::workshop::{CLASSES, SIDE, Workshop, report, said, succeed};
use kdc::graph::{Builder, Cell, Dim, Direction, Graph, Op, Recurrent, Tensor, ValueId};
use kdc::report::Network;
use std::fs;

const PIXELS: usize = SIDE * SIDE;
const HIDDEN: usize = 24;

/// Numbers that are not alike.
fn weights(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let scale = (3.0 / *shape.last().unwrap() as f32).sqrt();
    let number = |i: usize| scale * (((i * 7919 + 13) % 2003) as f32 / 1001.5 - 1.0);
    Tensor::f32(shape.to_vec(), (0..count).map(number).collect::<Vec<f32>>())
}

fn linear(b: &mut Builder, name: &str, x: ValueId, (from, to): (usize, usize)) -> ValueId {
    let w = b.constant(&format!("{name}.weight"), weights(&[to, from]));
    let bias = b.constant(&format!("{name}.bias"), Tensor::f32([to], vec![0.0; to]));
    b.node(name, Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true }, &[x, w, bias]).unwrap()
}

fn image(b: &mut Builder) -> ValueId {
    b.input("image", &[Dim::Batch, Dim::Fixed(1), Dim::Fixed(SIDE), Dim::Fixed(SIDE)])
}

/// A perceptron with this after each hidden layer; `None`: nothing.
fn perceptron(activation: Option<Op>) -> Graph {
    let mut b = Builder::new("perceptron");
    let x = image(&mut b);
    let mut x = b.node("flat", Op::Flatten { axis: 1 }, &[x]).unwrap();
    let mut from = PIXELS;
    for layer in ["first", "second"] {
        x = linear(&mut b, layer, x, (from, HIDDEN));
        from = HIDDEN;
        if let Some(op) = &activation {
            x = b.node(&format!("{layer}.activation"), op.clone(), &[x]).unwrap();
        }
    }
    let logits = linear(&mut b, "logits", x, (from, CLASSES));
    b.finish(&[logits])
}

/// Rows of the image, one after the other, through a gated recurrent unit.
fn recurrent() -> Graph {
    use kdc::graph::Activation::{Sigmoid, Tanh};
    let mut b = Builder::new("recurrent");
    let x = image(&mut b);
    let rows = vec![Dim::Batch, Dim::Fixed(SIDE), Dim::Fixed(SIDE)];
    let x = b.node("rows", Op::Reshape { shape: rows }, &[x]).unwrap();
    let x = b.node("first_row_first", Op::Transpose { perm: vec![1, 0, 2] }, &[x]).unwrap();
    let op = Recurrent {
        cell: Cell::Gru { reset_after: true },
        hidden: HIDDEN,
        direction: Direction::Forward,
        activations: vec![Sigmoid, Tanh],
        clip: None,
        coupled: false,
        batch_first: false,
    };
    let w = b.constant("gru.w", weights(&[1, 3 * HIDDEN, SIDE]));
    let r = b.constant("gru.r", weights(&[1, 3 * HIDDEN, HIDDEN]));
    let bias = b.constant("gru.b", Tensor::f32([1, 6 * HIDDEN], vec![0.0; 6 * HIDDEN]));
    let y = b.node("gru", Op::Recurrent(op), &[x, w, r, bias]).unwrap();
    let y = b.node("one_direction", Op::Squeeze { axes: vec![1] }, &[y]).unwrap();
    let y = b.node("samples_first", Op::Transpose { perm: vec![1, 0, 2] }, &[y]).unwrap();
    let y = b.node("mean", Op::ReduceMean { axes: vec![1], keepdims: false }, &[y]).unwrap();
    let logits = linear(&mut b, "logits", y, (HIDDEN, CLASSES));
    b.finish(&[logits])
}

#[test]
fn the_default_recipe_teaches_whatever_can_be_trained() {
    let networks = [
        ("tanh", perceptron(Some(Op::Tanh))),
        ("sigmoid", perceptron(Some(Op::Sigmoid))),
        ("leaky", perceptron(Some(Op::LeakyRelu { alpha: 0.1 }))),
        ("linear", perceptron(None)),
        ("recurrent", recurrent()),
    ];
    for (name, network) in networks {
        let workshop = Workshop::new();
        fs::write(workshop.path("teacher.onnx"), kdc::onnx::export(&network).unwrap()).unwrap();
        let mut kdc = workshop.kdc(&["distill", "teacher.onnx", "--engine", "tract", "--no-search"]);
        kdc.args(["--epochs", "2", "--batch-size", "64", "--max-macs", "1M", "--max-params", "1M"]);
        let output = kdc.output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{name}: {}", said(&output));
    }
}

#[test]
fn a_generous_budget_costs_no_accuracy() {
    let workshop = Workshop::new();
    let generous = ["--max-macs", "1G", "--max-params", "100M", "--no-build", "--json", "--recipe", "labelled"];
    // Enough training to tell candidates apart, too little, and the teacher's network alone.
    let ways = [&["--epochs", "8"][..], &["--epochs", "1"], &["--epochs", "1", "--no-search", "--lr", "1"]];
    for (out, more) in ["enough", "little", "alone"].into_iter().zip(ways) {
        let mut kdc = workshop.kdc(&["compile", "teacher.onnx", "--target", "host", "--engine", "tract"]);
        kdc.args(generous).args(more).args(["--batch-size", "32", "--max-quant-drop", "5", "--out", out]);
        let made = report(&succeed(kdc));
        assert!(made.size.student.macs <= made.size.teacher.macs, "{:?}", made.size);
        let accuracy = made.accuracy.as_ref().unwrap();
        let of = |network| accuracy.row(network).unwrap().accuracy;
        assert!(of(Network::StudentF32) >= of(Network::Teacher) - 0.03, "{more:?}: {accuracy:?}");
        let drawn = made.candidates.iter().filter(|c| c.name.starts_with("template"));
        assert!(drawn.clone().all(|c| c.macs <= made.size.teacher.macs), "{:?}", made.candidates);
    }
}

/// Networks of images of 12 × 12 that have ended in a panic or after the training: each becomes a student, or is refused with
/// what is in the way.
#[test]
fn networks_at_the_edge_become_students_or_are_refused_by_name() {
    let workshop = Workshop::new();
    workshop.write_data("data", 12);
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/networks");
    let settings = ["--epochs", "1", "--batch-size", "32", "--no-build", "--recipe", "labelled", "--max-macs", "1M"];
    let (mut made, mut refused) = (vec![], vec![]);
    for kind in ["edge", "derived"] {
        for entry in fs::read_dir(folder.join(kind)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            fs::copy(&path, workshop.path("teacher.onnx")).unwrap();
            let mut kdc = workshop.kdc(&["compile", "teacher.onnx", "--target", "host", "--engine", "tract"]);
            let output =
                kdc.args(settings).args(["--max-params", "1M", "--no-search", "--out", &name]).output().unwrap();
            assert!(!said(&output).contains("panicked"), "{name}: {}", said(&output));
            match output.status.code() {
                Some(0 | 1) => made.push(name),
                Some(2) => refused.push((name, said(&output))),
                other => panic!("{name}: {other:?}\n{}", said(&output)),
            }
        }
    }
    for must in ["clip_inv", "concat_of_nine", "conv0out_concat"] {
        assert!(made.iter().any(|name| name == must), "{must} is refused: {refused:?}");
    }
}
