//! What quantization to eight bits costs a network, by a quantizer that is none of kdc's: every activation by itself
//! between the smallest and the largest number seen (a softmax's between 0 and 1), weights by output channel, nothing shared,
//! biases as they are.

use super::{Figures, chain, forward, interpret, steps, taps};
use burn::tensor::Device;
use kdc::exec::Network;
use kdc::graph::{DType, Graph, Op, QuantParams, Tensor, ValueId, shape_at};
use kdc::pass;
use kdc::program::Program;
use kdc::quant::{Fusion, fusions};
use std::sync::Arc;

/// How often the plain quantizer's error a program's may be.
const TIMES: f32 = 2.0;
/// And a share of the output's range.
const SHARE: f32 = 0.02;

/// Of a network whose outputs are smaller nothing is asked: the scales of their sums are hardly numbers.
const SMALLEST: f32 = 1e-30;

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
    let range = (high - low).max(SMALLEST);
    let simulated = plain(float, ids, ranges)?;
    let plain = Network::new(&simulated, &Device::flex()).map_err(|e| chain(&e))?;
    let mut off = vec![[0.0f32; 2]; outputs[0].len()];
    for (sample, wanted) in samples.iter().zip(outputs) {
        let (own, theirs) = (interpret(program, sample)?.output_f32(), forward(&plain, sample)?);
        for (((off, own), theirs), wanted) in off.iter_mut().zip(own).zip(theirs).zip(wanted) {
            off[0] += (own - wanted).abs() / range / samples.len() as f32;
            off[1] += (theirs - wanted).abs() / range / samples.len() as f32;
        }
    }
    let worst = |which: usize| off.iter().map(|off| off[which]).fold(0.0, f32::max);
    let figures = Figures { program: worst(0), plain: worst(1) };
    let step = program.buffer(program.output.buffer).quant.map_or(0.0, |q| q.scale / range);
    if figures.program > TIMES * figures.plain + SHARE + step {
        return Err(format!(
            "the int8 program is off by {:.4} of the output's range, the plainest quantizer by {:.4}; {}",
            figures.program,
            figures.plain,
            by_value(program, float, &plain, &simulated, ids, samples)?
        ));
    }
    Ok(figures)
}

/// How far each value is off, as shares of its range: where a difference comes from.
fn by_value(
    program: &Program,
    float: &Graph,
    plain: &Network,
    simulated: &Graph,
    ids: &[ValueId],
    samples: &[Vec<Tensor>],
) -> Result<String, String> {
    let network = Network::new(float, &Device::flex()).map_err(|e| chain(&e))?;
    // In the order of computation; what is fused away has no buffer.
    let held: Vec<(usize, ValueId, ValueId)> = program
        .buffers
        .iter()
        .enumerate()
        .filter(|(_, buffer)| steps::holds_a_value(buffer))
        .filter_map(|(index, buffer)| Some((index, float.find(&buffer.name)?, simulated.find(&buffer.name)?)))
        .filter(|(_, id, _)| ids.contains(id))
        .collect();
    let (own, theirs): (Vec<_>, Vec<_>) = held.iter().map(|&(_, own, theirs)| (own, theirs)).unzip();
    let mut off = vec![[0.0f32; 3]; held.len()];
    for sample in samples {
        let run = interpret(program, sample)?;
        let (wanted, plain) = (taps(&network, sample, &own)?, taps(plain, sample, &theirs)?);
        for (place, &(index, id, _)) in held.iter().enumerate() {
            let got = steps::contents(program, &run, index, &shape_at(&float.value(id).shape, 1)).to_f32().into_owned();
            let far = |got: &[f32]| got.iter().zip(&wanted[place]).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max);
            let size = wanted[place].iter().fold(0.0, |m: f32, v| m.max(v.abs()));
            off[place] = [off[place][0].max(far(&got)), off[place][1].max(far(&plain[place])), off[place][2].max(size)];
        }
    }
    let one = |(&(index, ..), [program_off, plain_off, size]): (&(usize, ValueId, ValueId), &[f32; 3])| {
        format!(
            "{} {:.4} ({:.4}) of {size}",
            program.buffers[index].name,
            program_off / size.max(f32::MIN_POSITIVE),
            plain_off / size.max(f32::MIN_POSITIVE)
        )
    };
    Ok(held.iter().zip(&off).map(one).collect::<Vec<_>>().join(", "))
}

/// The graph with its quantization simulated.
fn plain(float: &Graph, ids: &[ValueId], ranges: &[(f32, f32)]) -> Result<Graph, String> {
    let mut graph = float.clone();
    let interior: Vec<usize> = fusions(float).iter().flat_map(Fusion::interior).collect();
    let inside = |id: &ValueId| interior.iter().any(|&index| float.nodes[index].output() == *id);
    let softmax = |id: ValueId| float.nodes.iter().any(|n| matches!(n.op, Op::Softmax { .. }) && n.output() == id);
    for (&id, &(low, high)) in ids.iter().zip(ranges).filter(|(id, _)| !inside(id)) {
        let (low, high) = if softmax(id) { (0.0, 1.0) } else { (low, high) };
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
