//! What quantization to eight bits costs a network, by a quantizer that is none of kdc's: every activation by itself
//! between the smallest and the largest number seen (a softmax's between 0 and 1), weights by output channel, nothing shared,
//! biases as they are.

use super::{Figures, chain, forward, interpret};
use burn::tensor::Device;
use kdc::exec::Network;
use kdc::graph::{DType, Graph, Op, QuantParams, Tensor, ValueId};
use kdc::pass;
use kdc::program::Program;
use kdc::quant::{Fusion, fusions};
use std::sync::Arc;

/// How often the plain quantizer's error a program's may be.
const TIMES: f32 = 2.0;
/// And a share of the output's range.
const SHARE: f32 = 0.02;

/// Holds an int8 program to the noise that quantization explains. `ranges` are those of the values `ids`.
pub fn within(
    program: &Program,
    float: &Graph,
    ids: &[ValueId],
    ranges: &[(f32, f32)],
    samples: &[Vec<Tensor>],
    outputs: &[Vec<f32>],
) -> Result<Figures, String> {
    let (low, high) = outputs.iter().flatten().fold((0.0f32, 0.0f32), |(l, h), &v| (l.min(v), h.max(v)));
    let range = (high - low).max(f32::MIN_POSITIVE);
    let plain = Network::new(&plain(float, ids, ranges)?, &Device::flex()).map_err(|e| chain(&e))?;
    let mut figures = Figures::default();
    for (sample, wanted) in samples.iter().zip(outputs) {
        let off = |got: &[f32]| got.iter().zip(wanted).map(|(g, w)| (g - w).abs() / range).fold(0.0, f32::max);
        figures.plain = figures.plain.max(off(&forward(&plain, sample)?));
        figures.program = figures.program.max(off(&interpret(program, sample)?.output_f32()));
    }
    let step = program.buffer(program.output.buffer).quant.map_or(0.0, |q| q.scale / range);
    if figures.program > TIMES * figures.plain + SHARE + step {
        return Err(format!(
            "the int8 program is off by {:.4} of the output's range, the plainest quantizer by {:.4}",
            figures.program, figures.plain
        ));
    }
    Ok(figures)
}

/// The graph with its quantization simulated.
fn plain(float: &Graph, ids: &[ValueId], ranges: &[(f32, f32)]) -> Result<Graph, String> {
    let mut graph = float.clone();
    let interior: Vec<usize> = fusions(float).iter().flat_map(Fusion::interior).collect();
    let inside = |id: &ValueId| interior.iter().any(|&index| float.nodes[index].output() == *id);
    let softmax = |id: ValueId| float.nodes.iter().any(|n| matches!(n.op, Op::Softmax { .. }) && n.output() == id);
    for (&id, &(low, high)) in ids.iter().zip(ranges).filter(|(id, _)| !inside(id)) {
        let (low, high) = if softmax(id) { (0.0, 255.0 / 256.0) } else { (low, high) };
        let (low, high) = (f64::from(low.min(0.0)), f64::from(high.max(0.0)));
        let scale = (((high - low) / 255.0) as f32).max(f32::MIN_POSITIVE);
        let zero = (-128.0 - low / f64::from(scale)).round().clamp(-128.0, 127.0) as i32;
        let params = QuantParams { scale: vec![scale], zero_point: vec![zero], axis: None, dtype: DType::I8 };
        graph.value_mut(id).quant = Some(params);
    }
    for index in 0..graph.nodes.len() {
        let axis = match graph.nodes[index].op {
            Op::Conv(_) | Op::Gemm { trans_b: true, .. } => 0,
            Op::Gemm { .. } | Op::MatMul => 1,
            _ => continue,
        };
        let Some(w) = graph.nodes[index].input(1) else { continue };
        let Some(tensor) = graph.constant(w).filter(|t| t.shape.len() > axis) else { continue };
        let rounded = by_channel(tensor, axis);
        // A copy for each reader: another may have its channels along another axis.
        let value = kdc::graph::Value {
            name: graph.fresh_name(&graph.value(w).name),
            data: Some(Arc::new(rounded)),
            ..graph.value(w).clone()
        };
        graph.nodes[index].inputs[1] = Some(graph.add_value(value));
    }
    pass::run(&mut graph, &[("simulate", pass::simulate_quantization)]).map_err(|e| chain(&e))?;
    Ok(graph)
}

fn by_channel(tensor: &Tensor, axis: usize) -> Tensor {
    let (channels, inner): (usize, usize) = (tensor.shape[axis], tensor.shape[axis + 1..].iter().product());
    let values = tensor.to_f32();
    let channel = |i: usize| i / inner.max(1) % channels.max(1);
    let mut largest = vec![0.0f32; channels];
    values.iter().enumerate().for_each(|(i, w)| largest[channel(i)] = largest[channel(i)].max(w.abs()));
    let round = |(i, &w): (usize, &f32)| {
        let scale = f64::from(largest[channel(i)]) / 127.0;
        if scale > 0.0 { ((f64::from(w) / scale).round() * scale) as f32 } else { 0.0 }
    };
    Tensor::f32(tensor.shape.clone(), values.iter().enumerate().map(round).collect())
}
