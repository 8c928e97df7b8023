//! Every buffer of a program against what the graph makes of the buffers before it: a fault shows where it is made, and
//! differences do not add up.

use super::{chain, interpret};
use burn::tensor::Device;
use kdc::exec::{Datum, Mode, Network, Value};
use kdc::graph::{Graph, Tensor, ValueId, shape_at};
use kdc::pass;
use kdc::program::{Buffer, BufferId, Function, Kernel, LayerNormParams, Linear, Program, reference};
use kdc::quant::{QuantizedModel, dequantize};
use std::collections::HashMap;

/// Samples that are looked at.
const SAMPLES: usize = 2;

/// A value of the graph, and the buffers that hold it.
struct Held<'a> {
    name: &'a str,
    /// In the graph that is computed with.
    id: ValueId,
    buffers: Vec<usize>,
    /// Step of its integers; 0 for floats.
    scale: f32,
}

/// An int8 program against its graph with simulated quantization: to one step, since halves are rounded to even there and
/// up here.
pub fn int8(program: &Program, model: &QuantizedModel, samples: &[Vec<Tensor>]) -> Result<(), String> {
    let mut graph = model.graph.clone();
    pass::run(&mut graph, &[("simulate", pass::simulate_quantization)]).map_err(|e| chain(&e))?;
    let stored = |name: &str| {
        let id = model.graph.find(name)?;
        let input = model.graph.inputs.contains(&id);
        let quant = model.graph.value(id).quant.as_ref()?;
        // What an input is stored as stands beside the input itself.
        let name = if input { format!("{name}_simulated") } else { name.to_string() };
        Some((graph.find(&name)?, quant.scale[0], quant.zero_point[0]))
    };
    let mut values: HashMap<&str, Held> = HashMap::new();
    for (index, buffer) in program.buffers.iter().enumerate() {
        let Some(quant) = buffer.quant.filter(|_| holds_a_value(buffer)) else { continue };
        let Some((id, scale, zero)) = stored(&buffer.name) else { continue };
        // A buffer may hold what its value is a function of, with other parameters.
        if quant.scale == scale && i32::from(quant.zero_point) == zero {
            let held = Held { name: &buffer.name, id, buffers: vec![], scale };
            values.entry(&buffer.name).or_insert(held).buffers.push(index);
        }
    }
    compare(program, &graph, values.into_values().collect(), samples)
}

/// An f32 program against its graph: sums are formed in another order.
pub fn f32(program: &Program, graph: &Graph, samples: &[Vec<Tensor>]) -> Result<(), String> {
    let mut values: HashMap<&str, Held> = HashMap::new();
    for (index, buffer) in program.buffers.iter().enumerate().filter(|(_, b)| holds_a_value(b)) {
        let Some(id) = graph.find(&buffer.name) else { continue };
        let held = Held { name: &buffer.name, id, buffers: vec![], scale: 0.0 };
        values.entry(&buffer.name).or_insert(held).buffers.push(index);
    }
    compare(program, graph, values.into_values().collect(), samples)
}

/// Whether a buffer is one of the network's values.
pub fn holds_a_value(buffer: &Buffer) -> bool {
    buffer.constant.is_none() && !buffer.order.is_empty() && buffer.element == kdc::program::Element::Real
}

fn compare(program: &Program, graph: &Graph, mut values: Vec<Held>, samples: &[Vec<Tensor>]) -> Result<(), String> {
    values.sort_by_key(|held| held.buffers[0]);
    let device = Device::flex();
    let network = Network::new(graph, &device).map_err(|e| chain(&e))?;
    for sample in samples.iter().take(SAMPLES) {
        let run = interpret(program, sample)?;
        let contents = |index: usize, id: ValueId| contents(program, &run, index, &shape_at(&graph.value(id).shape, 1));
        let inputs: Vec<Datum> = sample.iter().cloned().map(Datum::from).collect();
        let given: Vec<(ValueId, Value)> = values
            .iter()
            .map(|held| Ok((held.id, Value::from_host(&contents(held.buffers[0], held.id), &device)?)))
            .collect::<Result<_, kdc::exec::Error>>()
            .map_err(|e| chain(&e))?;
        for held in values.iter().filter(|held| !graph.inputs.contains(&held.id)) {
            let others: Vec<(ValueId, Value)> = given.iter().filter(|(id, _)| *id != held.id).cloned().collect();
            let wanted = network.run(inputs.clone(), &others, &[held.id], Mode::Infer).map_err(|e| chain(&e))?;
            let wanted = wanted[0].to_host().map_err(|e| e.to_string())?;
            let wanted = wanted.to_f32();
            let size = wanted.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            for &index in &held.buffers {
                let got = contents(index, held.id);
                let rounding = cancelled(program, &run, index);
                let allowed = match held.scale > 0.0 {
                    true => 1.01 * held.scale + 1e-6 * size + 1e-20 + rounding,
                    false => 1e-4 * size + 1e-9 + rounding,
                };
                let off = |(g, w): (&f32, &f32)| if g == w { 0.0 } else { (g - w).abs() };
                let got = got.to_f32();
                let worst = got.iter().zip(wanted.iter()).enumerate().map(|(i, pair)| (off(pair), i));
                let (off, at) =
                    worst.fold((0.0, 0), |worst, next| if next.0 > worst.0 || next.0.is_nan() { next } else { worst });
                if size.is_finite() && (off > allowed || off.is_nan()) {
                    return Err(format!(
                        "{:?}: '{}' [{at}] is {} and the graph makes {} of the same operands (allowed: {allowed}, the \
                         largest: {size}, step {}, made by {})",
                        program.precision,
                        held.name,
                        got[at],
                        wanted[at],
                        held.scale,
                        program
                            .steps
                            .iter()
                            .find(|s| s.output.index() == index)
                            .map_or("the input", |s| s.kernel.name()),
                    ));
                }
            }
        }
        let output = run.output_f32();
        let last = values.iter().find(|held| held.buffers.contains(&program.output.buffer.index()));
        if let Some(last) = last.filter(|last| last.id == graph.outputs[0]) {
            let held = contents(program.output.buffer.index(), last.id);
            if held.to_f32() != output {
                return Err(format!("{:?}: the output is not what its buffer holds", program.precision));
            }
        }
    }
    Ok(())
}

/// What the rounding of floats explains in sums of which little is left.
fn cancelled(program: &Program, run: &reference::Run, index: usize) -> f32 {
    let Some(step) = program.steps.iter().find(|step| step.output.index() == index) else { return 0.0 };
    let largest = |values: &[f32]| values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let factor = match &step.kernel {
        Kernel::Add(_) | Kernel::AveragePool { .. } => 1.0,
        // `1 + erf(x / √2)`, or `1 + tanh(…)`, is a difference of two numbers near one.
        Kernel::Map(Function::Gelu | Function::GeluTanh) => 0.1,
        // What is only moved was rounded before.
        Kernel::Transpose { .. } | Kernel::Reshape | Kernel::View { .. } => {
            return cancelled(program, run, step.inputs[0].index());
        }
        // The numbers of a constant row are their mean, which the program's whole numbers have exactly and floats do not.
        Kernel::LayerNorm { params, len, .. } => {
            let (scale, by_deviation) = match params {
                LayerNormParams::F32 { scale, epsilon, .. } => (scale, epsilon.sqrt()),
                LayerNormParams::Int8 { scale, epsilon, .. } => (scale, epsilon.sqrt() / *len as f32),
            };
            let (input, output) = (program.buffer(step.inputs[0]).quant, program.buffers[index].quant);
            let steps = input.zip(output).map_or(1.0, |(input, output)| output.scale / input.scale);
            largest(scale) / by_deviation * steps
        }
        Kernel::Conv2d { linear: Linear::F32 { weights, .. }, .. }
        | Kernel::DepthwiseConv2d { linear: Linear::F32 { weights, .. }, .. }
        | Kernel::FullyConnected { linear: Linear::F32 { weights, .. }, .. } => largest(weights),
        _ => return 0.0,
    };
    let operand = |id: &BufferId| largest(&stored(program, run, id.index()));
    1e-6 * factor * step.inputs.iter().map(operand).fold(0.0, f32::max)
}

/// The real numbers of a buffer, in the order of its value's axes.
pub fn contents(program: &Program, run: &reference::Run, index: usize, shape: &[usize]) -> Tensor {
    let buffer = &program.buffers[index];
    let real = self::stored(program, run, index);
    let stored: Vec<usize> = buffer.order.iter().map(|&axis| shape[axis]).collect();
    let mut back = vec![0; buffer.order.len()];
    buffer.order.iter().enumerate().for_each(|(place, &axis)| back[axis] = place);
    Tensor::f32(shape, reference::transpose(&stored, &back, &real))
}

/// The real numbers of a buffer, as they lie.
fn stored(program: &Program, run: &reference::Run, index: usize) -> Vec<f32> {
    match (&run.buffers[index], program.buffers[index].quant) {
        (reference::Activation::I8(v), Some(q)) => {
            v.iter().map(|&x| dequantize(x.into(), q.scale, q.zero_point.into())).collect()
        }
        (reference::Activation::F32(v), _) => v.clone(),
        _ => vec![],
    }
}
