//! Rewrites keep what a network computes.

use super::*;
use burn::tensor::Device;
use kdc_ir::graph::{Builder, Dim, Tensor};
use kdc_ir::pass::*;

fn batch(rest: &[usize]) -> Vec<Dim> {
    std::iter::once(Dim::Batch).chain(rest.iter().map(|&n| Dim::Fixed(n))).collect()
}

fn names(graph: &Graph) -> Vec<&str> {
    graph.nodes.iter().map(|n| n.name.as_str()).collect()
}

fn constant<'g>(graph: &'g Graph, name: &str) -> &'g [f32] {
    graph.constant(graph.find(name).unwrap()).unwrap().as_f32().unwrap()
}

#[test]
fn simulated_quantization_gives_the_same_numbers_without_parameters() {
    let quant = |scale: &[f32], zero: &[i32], axis| {
        Some(kdc_ir::graph::QuantParams { scale: scale.to_vec(), zero_point: zero.to_vec(), axis, dtype: DType::I8 })
    };
    let mut b = Builder::new("net");
    let x = b.input("x", &batch(&[2]));
    let w = b.constant("w", Tensor::f32([2, 2], vec![0.26, -1.0, 0.49, 0.76]));
    let y = b.node("y", Op::MatMul, &[x, w]).unwrap();
    let mut graph = b.finish(&[y]);
    graph.value_mut(x).quant = quant(&[0.5], &[100], None);
    graph.value_mut(w).quant = quant(&[0.25, 0.5], &[0, 0], Some(1));
    graph.value_mut(y).quant = quant(&[0.25, 1.0], &[0, -127], Some(1));
    run(&mut graph, &[("simulate", simulate_quantization)]).unwrap();
    assert!(graph.values.iter().all(|v| v.quant.is_none()));
    assert_eq!(graph.value(graph.outputs[0]).name, "y");
    let device = Device::flex();
    let network = Network::new(&graph, &device).unwrap();
    let forward = |x: [f32; 2]| {
        let out = network.forward(vec![Tensor::f32([1, 2], x.to_vec())], &[], Mode::Infer).unwrap();
        out.outputs[0].to_host().unwrap().to_f32().into_owned()
    };
    // x is (1, 0.5) as stored; weights are 0.25, −1, 0.5 and 1; results 0.5, and −0.5 where −1 is the least: a tie, to even.
    assert_eq!(forward([1.2, 0.25 + 0.01]), [0.5, 0.0]);
    // (13.5, −3) saturates at 27 steps above the zero point; 3.375 − 1.5 is 7.5 steps, to even 8; −16.5 is below −1.
    assert_eq!(forward([99.0, -3.1]), [2.0, -1.0]);
}

fn written_out_lrn(size: usize, before: usize) -> Graph {
    let mut b = Builder::new("net");
    let x = b.input("x", &batch(&[6, 2, 3]));
    let number = |b: &mut Builder, name: &str, v: f32| b.constant(name, Tensor::f32([0; 0], vec![v]));
    let square = b.node("square", Op::Mul, &[x, x]).unwrap();
    let y = b.node("lift", Op::Unsqueeze { axes: vec![1] }, &[square]).unwrap();
    let pads = vec![0, 0, before as i64, 0, 0, 0, 0, (size - 1 - before) as i64, 0, 0];
    let y = b.node("pad", Op::Pad { pads, mode: kdc_ir::graph::PadMode::Constant(0.0) }, &[y]).unwrap();
    let pool = kdc_ir::graph::Pool {
        kernel: vec![size, 1, 1],
        strides: vec![1; 3],
        pads: vec![0; 6],
        dilations: vec![1; 3],
        ceil_mode: false,
        count_include_pad: false,
    };
    let y = b.node("pool", Op::AveragePool(pool), &[y]).unwrap();
    let y = b.node("drop", Op::Squeeze { axes: vec![1] }, &[y]).unwrap();
    let (alpha, bias, beta) = (number(&mut b, "alpha", 0.5), number(&mut b, "k", 2.0), number(&mut b, "beta", 0.75));
    let y = b.node("scale", Op::Mul, &[y, alpha]).unwrap();
    let y = b.node("shift", Op::Add, &[y, bias]).unwrap();
    let y = b.node("power", Op::Binary(kdc_ir::graph::Binary::Pow), &[y, beta]).unwrap();
    let y = b.node("out", Op::Div, &[x, y]).unwrap();
    b.finish(&[y])
}

#[test]
fn local_response_normalisation_is_put_together_again() {
    let graph = written_out_lrn(5, 2);
    let mut composed = graph.clone();
    normalize(&mut composed).unwrap();
    assert_eq!(names(&composed), ["out"]);
    let x = Tensor::f32([2, 6, 2, 3], (0..72).map(|i| (i % 13) as f32 - 6.0).collect());
    let run = |graph: &Graph| {
        let network = Network::new(graph, &Device::flex()).unwrap();
        let x = Datum::from(x.clone());
        let outputs = network.forward(vec![x], &[], Mode::Infer).unwrap();
        outputs.outputs[0].to_host().unwrap().to_f32().into_owned()
    };
    let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5;
    assert!(run(&graph).iter().zip(&run(&composed)).all(near));
    // A window that is not in the middle is something else.
    let mut other = written_out_lrn(5, 1);
    normalize(&mut other).unwrap();
    assert_eq!(other.nodes.len(), graph.nodes.len());
}

#[test]
fn measured_batch_norm_changes_nothing_and_normalises_what_was_measured() {
    let mut b = Builder::new("net");
    let x = b.input("x", &batch(&[2, 4, 4]));
    let weights = Tensor::f32([3, 2, 3, 3], (0..54).map(|i| ((i * 7) % 11) as f32 * 0.1 - 0.5).collect());
    let y = b.conv2d("conv", x, weights, vec![0.5, -1.0, 2.0], (1, 1, 1)).unwrap();
    let graph = b.finish(&[y]);
    let mut changed = graph.clone();
    assert_eq!(to_be_normalised(&graph), [y]);
    let moments = Moments { mean: vec![1.0, -2.0, 0.25], variance: vec![4.0, 0.0, 0.5] };
    insert_batch_norm(&mut changed, &[(y, moments)].into());
    let (gamma, beta) = (constant(&changed, "conv.bn.weight"), constant(&changed, "conv.bn.bias"));
    assert!((gamma[0] - 2.0).abs() < 1e-4 && beta == [1.0, -2.0, 0.25], "{gamma:?} {beta:?}");
    assert_eq!(constant(&changed, "conv.bn.running_mean"), [0.5, -1.0, -1.75]);
    let x = Tensor::f32([2, 2, 4, 4], (0..64).map(|i| (i % 9) as f32 - 4.0).collect());
    let run = |graph: &Graph| {
        let network = Network::new(graph, &Device::flex()).unwrap();
        let outputs = network.forward(vec![x.clone()], &[], Mode::Infer).unwrap();
        outputs.outputs[0].to_host().unwrap().to_f32().into_owned()
    };
    assert!(run(&graph).iter().zip(&run(&changed)).all(|(a, b)| (a - b).abs() < 1e-4));
}
