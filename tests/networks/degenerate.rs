//! Networks with dead, tiny and zero channels, with a matrix in two layers, with a softmax beside features, and one whose
//! activations a quantizer took away; outputs are ONNX Runtime's on the floats, without its optimisations (fused, products of u8 and s8
//! saturate on processors without VNNI).

use crate::case;
use kdc::exec::{Datum, Mode, Network};
use kdc::graph::{Graph, Op, Tensor};
use kdc::program::{lower_int8, reference};
use kdc::quant::{CalibratedModel, Calibration, Observer, watched};
use kdc::{onnx, pass, student};
use std::path::{Path, PathBuf};

/// Networks, and the share of the outputs' range that their programs in int8 may be off: 2%, or what ONNX Runtime's own
/// static quantization (1.22, one scale for each tensor) costs on the same samples.
const NETWORKS: [(&str, f32); 6] = [
    ("tiny-channel-gemm", 0.02),
    ("zero-channel", 0.02),
    ("dead-relu-gemm", 0.02),
    ("dead-relu-mul", 0.02),
    ("tied-matrix", 0.02),
    ("concat-softmax", 0.0301),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/networks/degenerate")
}

fn load(name: &str) -> (Graph, Tensor, Tensor) {
    let path = folder().join(name);
    let mut graph = onnx::load(&path.join("model.onnx")).unwrap();
    pass::normalize(&mut graph).unwrap();
    let one = |kind| case::tensors(&path, kind).unwrap().remove(0);
    (graph, one("input"), one("output"))
}

/// How far the int8 program of a network is off, as a share of the range of what is expected.
fn off(graph: &Graph, x: &Tensor, expected: &Tensor) -> f32 {
    let network = Network::new(graph, &burn::tensor::Device::flex()).unwrap();
    let ids = watched(graph);
    let seen = network.forward(vec![Datum::from(x.clone())], &ids, Mode::Infer).unwrap();
    let mut observers = vec![Observer::default(); ids.len()];
    for (observer, value) in observers.iter_mut().zip(&seen.taps) {
        observer.see(&value.to_host().unwrap().to_f32()).unwrap();
    }
    let model = CalibratedModel::new(graph.clone(), &observers, Calibration::MinMax).unwrap().quantize().unwrap();
    kdc::graph::verify(&model.graph).unwrap();
    let program = lower_int8(&model, None).unwrap();
    let (x, expected) = (x.to_f32(), expected.to_f32());
    let samples = x.chunks(x.len() / seen.taps[0].to_host().unwrap().shape[0]);
    let run = |x: &[f32]| reference::run(&program, &reference::Input::F32(x)).unwrap().output_f32();
    let got: Vec<f32> = samples.flat_map(run).collect();
    assert_eq!(got.len(), expected.len());
    let (min, max) = expected.iter().fold((f32::MAX, f32::MIN), |(lo, hi), &v| (lo.min(v), hi.max(v)));
    got.iter().zip(expected.iter()).map(|(g, e)| (g - e).abs()).fold(0.0, f32::max) / (max - min)
}

/// The network with its input in other units, and what reads it made for that.
fn rescaled(graph: &Graph, x: &Tensor, factor: f32) -> (Graph, Tensor) {
    let mut graph = graph.clone();
    let mut done = vec![];
    for index in 0..graph.nodes.len() {
        let node = &graph.nodes[index];
        let reads = node.input(0) == Some(graph.inputs[0]);
        let (true, Op::Gemm { .. } | Op::MatMul, Some(w)) = (reads, &node.op, node.input(1)) else { continue };
        let numbers = graph.constant(w).unwrap();
        let scaled = Tensor::f32(numbers.shape.clone(), numbers.to_f32().iter().map(|w| w / factor).collect());
        let name = graph.fresh_name(&graph.value(w).name);
        let copy = graph.add_constant(name, scaled);
        graph.nodes[index].inputs[1] = Some(copy);
        done.push(index);
    }
    assert!(!done.is_empty());
    (graph, Tensor::f32(x.shape.clone(), x.to_f32().iter().map(|v| v * factor).collect()))
}

/// The network with other names, and its input under other extents on the way.
fn reshaped(graph: &Graph) -> Graph {
    let mut graph = graph.clone();
    for (i, value) in graph.values.iter_mut().enumerate() {
        value.name = format!("{i}");
    }
    for (i, node) in graph.nodes.iter_mut().enumerate() {
        node.name = format!("layer {i}");
    }
    let x = graph.inputs[0];
    let mut from = x;
    let own = graph.value(x).clone();
    let mut before = vec![];
    for (i, op) in [Op::Unsqueeze { axes: vec![1] }, Op::Flatten { axis: 1 }].into_iter().enumerate() {
        let mut shape = own.shape.clone();
        if i == 0 {
            shape.insert(1, kdc::graph::Dim::Fixed(1));
        }
        let name = format!("turned {i}");
        let to = graph.add_value(kdc::graph::Value { name: name.clone(), shape, ..own.clone() });
        before.push(kdc::graph::Node { name, op, inputs: vec![Some(from)], outputs: vec![to] });
        from = to;
    }
    let readers = graph.nodes.iter_mut().flat_map(|n| n.inputs.iter_mut().flatten());
    readers.filter(|id| **id == x).for_each(|id| *id = from);
    graph.nodes.splice(0..0, before);
    kdc::graph::verify(&graph).unwrap();
    graph
}

#[test]
fn programs_in_int8_are_as_near_to_the_floats_as_eight_bits_allow() {
    for (name, tolerance) in NETWORKS {
        let (graph, x, expected) = load(name);
        let exact = case::computed(&graph, vec![x.clone()]).unwrap();
        assert_eq!(case::difference(&exact, std::slice::from_ref(&expected), 1e-5, 1e-5), None, "{name}");
        let share = off(&graph, &x, &expected);
        assert!(share <= tolerance, "{name}: {share} of the range");
        let share = off(&reshaped(&graph), &x, &expected);
        assert!(share <= tolerance, "{name} reshaped: {share} of the range");
        for factor in [1e-6, 1e4] {
            let (graph, x) = rescaled(&graph, &x, factor);
            let share = off(&graph, &x, &expected);
            assert!(share <= tolerance, "{name} at {factor}: {share} of the range");
        }
    }
}

#[test]
fn a_quantized_teacher_keeps_the_activations_that_saturation_did() {
    let (graph, x, expected) = load("quantized-teacher-without-relu");
    let (prepared, softmax) = student::prepare(&graph).unwrap();
    assert!(softmax.is_none() && prepared.nodes.iter().any(|n| matches!(n.op, Op::Clip { .. })));
    let computed = case::computed(&prepared, vec![x]).unwrap();
    let best = |t: &Tensor| -> Vec<usize> {
        let row = |row: &[f32]| row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(i, _)| i);
        t.to_f32().chunks(t.shape[1]).map(row).collect()
    };
    let (ours, theirs) = (best(&computed[0]), best(&expected));
    let same = ours.iter().zip(&theirs).filter(|(a, b)| a == b).count();
    assert!(same as f64 >= 0.97 * ours.len() as f64, "{same} of {}", ours.len());
    assert_eq!(case::difference(&computed, &[expected], 0.0, 0.02), None);
}
