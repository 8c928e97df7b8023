//! Operators replaced by others.

use super::*;
use kdc_ir::graph::{Builder, Op, Unary, ValueId};
use std::collections::HashMap;

fn number(b: &mut Builder, name: &str, number: f32) -> ValueId {
    b.constant(name, Tensor::f32([1], vec![number]))
}

fn varied(shape: &[usize]) -> Tensor {
    let number = |i: usize| ((i * 7919 + 13) % 1009) as f32 / 504.5 - 1.0;
    Tensor::f32(shape.to_vec(), (0..shape.iter().product()).map(number).collect())
}

/// A layer of a transformer without attention, as exporters write it: normalisation, a wide layer, a Gelu of five
/// operators, a layer back, the sum with what went in; then a Swish, a HardSwish and a gate.
fn network() -> Graph {
    let mut b = Builder::new("net");
    let x = b.input("x", &[Dim::Batch, fixed(5), fixed(8)]);
    let (gamma, beta) = (varied(&[8]), varied(&[8]));
    let (gamma, beta) = (b.constant("gamma", gamma), b.constant("beta", beta));
    let y = b.node("norm", Op::LayerNormalization { axis: 2, epsilon: 1e-5 }, &[x, gamma, beta]).unwrap();
    let wide = b.constant("wide", varied(&[8, 16]));
    let y = b.node("up", Op::MatMul, &[y, wide]).unwrap();
    let (root, one, half) =
        (number(&mut b, "root", 2f32.sqrt()), number(&mut b, "one", 1.0), number(&mut b, "half", 0.5));
    let e = b.node("div", Op::Div, &[y, root]).unwrap();
    let e = b.node("erf", Op::Unary(Unary::Erf), &[e]).unwrap();
    let e = b.node("plus", Op::Add, &[e, one]).unwrap();
    let e = b.node("times", Op::Mul, &[y, e]).unwrap();
    let y = b.node("gelu", Op::Mul, &[e, half]).unwrap();
    let narrow = b.constant("narrow", varied(&[16, 8]));
    let y = b.node("down", Op::MatMul, &[y, narrow]).unwrap();
    let y = b.node("sum", Op::Add, &[x, y]).unwrap();
    let s = b.node("sigmoid", Op::Sigmoid, &[y]).unwrap();
    let y = b.node("swish", Op::Mul, &[y, s]).unwrap();
    let (square, gates) = (b.constant("square", varied(&[8, 8])), b.constant("gates", varied(&[8, 8])));
    let y = b.node("around", Op::MatMul, &[y, square]).unwrap();
    let h = b.node("hard", Op::HardSwish, &[y]).unwrap();
    let g = b.node("squeeze", Op::MatMul, &[h, gates]).unwrap();
    let g = b.node("gate", Op::Sigmoid, &[g]).unwrap();
    let y = b.node("gated", Op::Mul, &[h, g]).unwrap();
    b.finish(&[y])
}

#[test]
fn what_can_be_replaced_is_known_by_what_it_computes() {
    let graph = network();
    let kinds = replaceable(&graph);
    let listed: Vec<_> = kinds.iter().map(|k| (k.operator.as_str(), k.by.as_str(), k.nodes.join(" "))).collect();
    let wanted = [
        ("LayerNormalization", "Mul, Add", "norm".to_string()),
        ("Gelu", "Relu", "gelu".into()),
        ("Sigmoid·Mul", "Relu", "swish".into()),
        ("HardSwish", "Relu", "hard".into()),
        ("Sigmoid", "HardSigmoid", "gate".into()),
    ];
    assert_eq!(listed, wanted);
    let unknown = replaced(&graph, &["Softmax".into()], &HashMap::new()).unwrap_err();
    assert!(unknown.to_string().contains("LayerNormalization, Gelu"), "{unknown}");
}

#[test]
fn simple_functions_are_left_alone() {
    let mut b = Builder::new("net");
    let x = b.input("x", &[Dim::Batch, fixed(4)]);
    let (two, three) = (number(&mut b, "two", 2.0), number(&mut b, "three", 3.0));
    let y = b.node("scaled", Op::Mul, &[x, two]).unwrap();
    let y = b.node("shifted", Op::Add, &[y, three]).unwrap();
    let y = b.node("relu", Op::Relu, &[y]).unwrap();
    // The square is like none of the simple functions.
    let y = b.node("square", Op::Mul, &[y, y]).unwrap();
    assert_eq!(replaceable(&b.finish(&[y])), []);
}

#[test]
fn a_network_with_replaced_operators_runs_trains_exports_and_has_a_program() {
    let graph = network();
    let operators: Vec<String> = replaceable(&graph).into_iter().map(|kind| kind.operator).collect();
    let simpler = replaced(&graph, &operators, &HashMap::new()).unwrap();
    kdc_ir::graph::verify(&simpler).unwrap();
    assert_eq!(replaceable(&simpler), []);
    let left = |graph: &Graph, op: &str| graph.nodes.iter().filter(|n| n.op.name() == op).count();
    let gone = ["LayerNormalization", "Erf", "Sigmoid", "HardSwish", "Div"];
    assert!(gone.iter().all(|op| left(&simpler, op) == 0), "{simpler:?}");
    assert_eq!((left(&simpler, "Relu"), left(&simpler, "HardSigmoid")), (3, 1));
    let x = [input(graph.value(graph.inputs[0]), 2, 1)];
    let (before, after) = (computed(&graph, &x), computed(&simpler, &x));
    assert_eq!(before[0].shape, after[0].shape);
    assert_trains(&simpler, &x, "simpler");
    let again = kdc_ir::onnx::import(kdc_ir::onnx::export(&simpler).unwrap().into(), None).unwrap();
    assert!(difference(&after, &computed(&again, &x)) <= 1e-5);
    kdc_device::program::lower_f32(&simpler, None).unwrap();
    let groups = Groups::find(&simpler);
    assert_equal_to_masked(&simpler, &groups, 0.5, &x, "simpler");
}

#[test]
fn one_function_alone_is_never_far_off() {
    let mut b = Builder::new("net");
    let x = b.input("x", &[Dim::Batch, fixed(64)]);
    let mish = b.node("mish", Op::Unary(Unary::Mish), &[x]).unwrap();
    let y = b.node("tanh", Op::Tanh, &[x]).unwrap();
    let graph = b.finish(&[mish, y]);
    let kinds = replaceable(&graph);
    assert_eq!(kinds.iter().map(|k| k.by.as_str()).collect::<Vec<_>>(), ["Relu", "Clip"]);
    let simpler = replaced(&graph, &["Mish".into(), "Tanh".into()], &HashMap::new()).unwrap();
    let x = [Tensor::f32([1, 64], (0..64).map(|i| i as f32 / 4.0 - 8.0).collect::<Vec<_>>())];
    for (a, b) in computed(&graph, &x).iter().zip(computed(&simpler, &x)) {
        let off = a.to_f32().iter().zip(b.to_f32().iter()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off > 0.0 && off <= 0.4, "{off}");
    }
}

#[test]
fn a_straight_line_stands_for_a_normalisation() {
    let graph = network();
    let [norm] = normalisations(&graph)[..] else { panic!("one normalisation") };
    let fit = Affine { scale: vec![2.0; 8], shift: vec![0.5; 8] };
    let simpler = replaced(&graph, &["LayerNormalization".into()], &HashMap::from([(norm.y, fit)])).unwrap();
    let of = |name: &str| simpler.constant(simpler.find(name).unwrap()).unwrap().to_f32().into_owned();
    assert_eq!((of("norm.scale"), of("norm.shift")), (vec![2.0; 8], vec![0.5; 8]));
    let (name, y) = (&simpler.value(simpler.find("norm").unwrap()).name, graph.value(norm.y));
    assert_eq!(name, &y.name, "the result keeps its name");
}
