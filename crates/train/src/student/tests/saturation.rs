//! Quantized teachers whose activations are done by saturation.

use super::*;
use kdc_ir::graph::{Builder, DType, Op, QuantParams, ValueId};
use kdc_ir::pass;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Integers that reach from the smaller number to the larger one.
fn reaching(min: f32, max: f32) -> QuantParams {
    let scale = (max - min) / 255.0;
    let zero_point = vec![(-128.0 - min / scale).round() as i32];
    QuantParams { scale: vec![scale], zero_point, axis: None, dtype: DType::I8 }
}

/// A network in which operators without an activation are cut off at zero, at six, or on both sides.
fn teacher(seed: u64) -> (Graph, Tensor) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut b = Builder::new("quantized");
    let mut x = b.input("x", &[Dim::Batch, Dim::Fixed(6)]);
    let mut cut: Vec<(ValueId, QuantParams)> = vec![];
    if seed.is_multiple_of(2) {
        cut.push((x, reaching(-1.0, 1.0)));
    }
    for layer in 0..4 {
        let numbers = (0..36).map(|_| rng.random_range(-0.9..0.9)).collect();
        let w = b.constant(&format!("w{layer}"), Tensor::f32([6, 6], numbers));
        let gemm = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
        let mut y = b.node(&format!("gemm{layer}"), gemm, &[x, w]).unwrap();
        let range = [(0.0, 0.8), (-0.5, 0.7), (0.0, 6.0), (-0.9, 0.0)][rng.random_range(0..4)];
        match rng.random_range(0..4) {
            0 => y = b.node(&format!("relu{layer}"), Op::Relu, &[y]).unwrap(),
            1 => y = b.node(&format!("sum{layer}"), Op::Add, &[y, x]).unwrap(),
            2 => y = b.node(&format!("same{layer}"), Op::Identity, &[y]).unwrap(),
            _ => (),
        }
        cut.push((y, reaching(range.0, range.1)));
        if layer == 1 {
            // What is moved is in the same range.
            y = b.node("row", Op::Unsqueeze { axes: vec![1] }, &[y]).unwrap();
            y = b.node("flat", Op::Flatten { axis: 1 }, &[y]).unwrap();
            cut.push((y, reaching(range.0, range.1)));
        }
        x = y;
    }
    let mut graph = b.finish(&[x]);
    // Logits are wide enough.
    cut.last_mut().unwrap().1 = reaching(-8.0, 8.0);
    cut.into_iter().for_each(|(id, quant)| graph.value_mut(id).quant = Some(quant));
    kdc_ir::graph::verify(&graph).unwrap();
    let numbers = (0..40 * 6).map(|_| rng.random_range(-2.0..2.0)).collect();
    (graph, Tensor::f32([40, 6], numbers))
}

#[test]
fn a_network_to_train_does_what_saturation_did() {
    for seed in 0..60 {
        let (graph, x) = teacher(seed);
        let mut simulated = graph.clone();
        pass::simulate_quantization(&mut simulated);
        let want = computed(&simulated, std::slice::from_ref(&x));
        let (prepared, _) = prepare(&graph).unwrap();
        kdc_ir::graph::verify(&prepared).unwrap();
        assert!(prepared.values.iter().all(|v| v.quant.is_none()));
        let got = computed(&prepared, std::slice::from_ref(&x));
        // Each of five values is rounded by half a step, and the weights add up a few of them.
        let (want, got) = (want[0].to_f32(), got[0].to_f32());
        let off = want.iter().zip(got.iter()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off <= 0.25, "seed {seed}: {off}");
    }
}

#[test]
fn what_cannot_leave_its_range_gets_no_clip() {
    let mut b = Builder::new("inside");
    let x = b.input("x", &[Dim::Batch, Dim::Fixed(6)]);
    let softmax = b.node("softmax", Op::Softmax { axis: 1 }, &[x]).unwrap();
    let row = b.node("row", Op::Unsqueeze { axes: vec![1] }, &[softmax]).unwrap();
    let y = b.node("y", Op::Sigmoid, &[row]).unwrap();
    let mut graph = b.finish(&[y]);
    let shares = QuantParams { scale: vec![1.0 / 256.0], zero_point: vec![-128], axis: None, dtype: DType::I8 };
    [softmax, row, y].into_iter().for_each(|id| graph.value_mut(id).quant = Some(shares.clone()));
    let (prepared, _) = prepare(&graph).unwrap();
    assert!(prepared.nodes.iter().all(|n| !matches!(n.op, Op::Clip { .. })));
    // Logits are left to the losses.
    let mut b = Builder::new("logits");
    let x = b.input("x", &[Dim::Batch, Dim::Fixed(6)]);
    let w = b.constant("w", Tensor::f32([6, 6], vec![0.5; 36]));
    let logits = b.node("logits", Op::MatMul, &[x, w]).unwrap();
    let y = b.node("y", Op::Softmax { axis: 1 }, &[logits]).unwrap();
    let mut graph = b.finish(&[y]);
    graph.value_mut(logits).quant = Some(reaching(-1.0, 1.0));
    let (prepared, softmax) = prepare(&graph).unwrap();
    assert!(softmax.is_some() && prepared.nodes.len() == 1);
}
