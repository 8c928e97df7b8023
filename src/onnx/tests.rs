//! Small models, built here, through import and export.

use super::*;
use crate::graph::{Builder, Conv, DType, Dim, Op, Pool, QuantParams, Tensor};

fn batch(rest: &[usize]) -> Vec<Dim> {
    std::iter::once(Dim::Batch).chain(rest.iter().map(|&n| Dim::Fixed(n))).collect()
}

/// Convolution, activation, pooling, flatten, fully connected, softmax.
fn network() -> Graph {
    let mut b = Builder::new("net");
    let x = b.input("image", &batch(&[2, 8, 8]));
    let weights = Tensor::f32([4, 2, 3, 3], (0..72).map(|i| i as f32 / 72.0 - 0.5).collect());
    let conv = b.conv2d("conv", x, weights, vec![0.1; 4], (1, 1, 1)).unwrap();
    let relu = b.node("relu", Op::Relu, &[conv]).unwrap();
    let pool = Pool {
        kernel: vec![2; 2],
        strides: vec![2; 2],
        pads: vec![0; 4],
        dilations: vec![1; 2],
        ceil_mode: false,
        count_include_pad: false,
    };
    let pooled = b.node("pool", Op::MaxPool(pool), &[relu]).unwrap();
    let flat = b.node("flat", Op::Reshape { shape: batch(&[64]) }, &[pooled]).unwrap();
    let w = b.constant("head.weight", Tensor::f32([3, 64], (0..192).map(|i| (i % 7) as f32 - 3.0).collect()));
    let gemm = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
    let logits = b.node("logits", gemm, &[flat, w]).unwrap();
    let scores = b.node("scores", Op::Softmax { axis: 1 }, &[logits]).unwrap();
    b.finish(&[scores])
}

fn round_trip(graph: &Graph) -> Graph {
    import(export(graph).unwrap().into(), None).unwrap()
}

/// Equal as text, and in every constant and every parameter of quantization.
fn assert_same(a: &Graph, b: &Graph) {
    assert_eq!(a.to_string(), b.to_string());
    for value in &a.values {
        let other = b.value(b.find(&value.name).unwrap());
        assert_eq!(value.data, other.data, "{}", value.name);
        assert_eq!(value.quant, other.quant, "{}", value.name);
    }
}

#[test]
fn float_graphs_come_back_equal() {
    let graph = network();
    assert_same(&graph, &round_trip(&graph));
}
