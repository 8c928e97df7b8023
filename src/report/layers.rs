//! The per-layer table of a program.

use super::Layer;
use crate::program::{AverageParams, Kernel, Linear, Program};
use crate::target::Profile;
use crate::target::cost;

/// Every step of the program: what it reads, what it costs, what it is estimated to take on the target.
pub fn layers(program: &Program, profile: &Profile) -> Vec<Layer> {
    let estimate = cost::estimate(program, profile);
    let steps = program.steps.iter().zip(estimate.steps).enumerate();
    steps
        .map(|(id, (step, estimated))| {
            let (mut params, mut bytes) = constants(&step.kernel);
            for operand in step.inputs.iter().map(|&id| program.buffer(id)) {
                params += operand.constant.as_ref().map_or(0, |_| operand.len() as u64);
                bytes += operand.constant_bytes() as u64;
            }
            Layer {
                id,
                kernel: step.kernel.name().into(),
                name: step.name.clone(),
                output_shape: program.buffers.get(step.output.index()).map_or_else(Vec::new, |b| b.shape.clone()),
                params,
                macs: estimated.macs,
                bytes,
                estimated_s: estimated.seconds,
            }
        })
        .collect()
}

/// Bytes of all constants that a program reads.
pub fn constant_bytes(program: &Program) -> u64 {
    program.steps.iter().map(|step| constants(&step.kernel).1).sum::<u64>()
        + program.buffers.iter().map(|buffer| buffer.constant_bytes() as u64).sum::<u64>()
}

/// Bytes of a multiplier per output channel: mantissas and shifts lie in tables of their own.
const CHANNEL_MULTIPLIER: usize = 5;
/// Bytes of a multiplier in a list.
const LISTED_MULTIPLIER: usize = 8;

/// Weights and biases of a kernel, and the bytes of the tables it reads. Single numbers are part of the code.
fn constants(kernel: &Kernel) -> (u64, u64) {
    let (params, bytes) = match kernel {
        Kernel::Conv2d { linear, .. }
        | Kernel::DepthwiseConv2d { linear, .. }
        | Kernel::FullyConnected { linear, .. } => match linear {
            Linear::Int8 { weights, bias, requant, .. } => {
                let tables = 4 * bias.len() + CHANNEL_MULTIPLIER * requant.len();
                (weights.len() + bias.len(), weights.len() + tables)
            }
            Linear::F32 { weights, bias, .. } => (weights.len() + bias.len(), 4 * (weights.len() + bias.len())),
        },
        Kernel::AveragePool { params: AverageParams::Int8 { requant, .. }, .. } => {
            (0, LISTED_MULTIPLIER * requant.len())
        }
        Kernel::LayerNorm { len, .. } => (2 * len, 8 * len),
        Kernel::Lookup { table } => (0, table.len()),
        Kernel::Softmax { exp: Some(exp), .. } => (0, 4 * exp.len()),
        Kernel::AveragePool { params: AverageParams::F32, .. }
        | Kernel::Mul { .. }
        | Kernel::Div(_)
        | Kernel::Choose { .. }
        | Kernel::MatMul { .. }
        | Kernel::Embedding { .. }
        | Kernel::View { .. }
        | Kernel::Softmax { exp: None, .. }
        | Kernel::MaxPool { .. }
        | Kernel::Add(_)
        | Kernel::Map(_)
        | Kernel::Pad { .. }
        | Kernel::Concat { .. }
        | Kernel::Transpose { .. }
        | Kernel::Reshape => (0, 0),
    };
    (params as u64, bytes as u64)
}
