//! Weights to start from where the teacher's are not wanted.

use kdc_ir::graph::{Graph, Node, Op, Tensor, ValueId};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, Uniform};
use std::collections::HashSet;
use std::sync::Arc;

/// Draws every weight matrix of a network anew: convolutions from He's normal distribution (2015,
/// <https://arxiv.org/abs/1502.01852>, fan-out), matrix products and recurrent weights from `U(±1/√fan_in)`. Biases
/// become zero, normalisations neutral. Other constants (positions, masks, factors) stay.
pub fn redraw(graph: &mut Graph, seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut seen = HashSet::new();
    for index in 0..graph.nodes.len() {
        let node = graph.nodes[index].clone();
        for operand in 1..node.inputs.len() {
            let Some(id) = node.input(operand) else { continue };
            if graph.constant(id).is_none() || !seen.insert(id) {
                continue;
            }
            if let Some(tensor) = drawn(graph, &node, operand, id, &mut rng) {
                graph.value_mut(id).data = Some(Arc::new(tensor));
            }
        }
        // An embedding is its node's first operand.
        if let (Op::Gather { .. }, Some(id)) = (&node.op, node.input(0))
            && let Some(table) = graph.constant(id).filter(|t| t.as_f32().is_some() && t.shape.len() == 2)
            && seen.insert(id)
        {
            let table = linear(table.shape.clone(), table.shape[1], &mut rng);
            graph.value_mut(id).data = Some(Arc::new(table));
        }
    }
}

fn drawn(graph: &Graph, node: &Node, operand: usize, id: ValueId, rng: &mut ChaCha8Rng) -> Option<Tensor> {
    let shape = graph.constant(id)?.shape.clone();
    let taps = |kernel: &[usize]| kernel.iter().product::<usize>();
    match (&node.op, operand) {
        (Op::Conv(conv), 1) => {
            let fan_out = shape[0] * taps(&conv.kernel) / conv.group.max(1);
            Some(normal(shape, fan_out, rng))
        }
        (Op::ConvTranspose(op), 1) => {
            let fan_out = shape[1] * taps(&op.conv.kernel);
            Some(normal(shape, fan_out, rng))
        }
        (Op::Gemm { trans_b, .. }, 1) => {
            let fan_in = shape[usize::from(*trans_b)];
            Some(linear(shape, fan_in, rng))
        }
        (Op::MatMul, 1) if shape.len() >= 2 => {
            let fan_in = shape[shape.len() - 2];
            Some(linear(shape, fan_in, rng))
        }
        (Op::Recurrent(op), 1 | 2) => Some(linear(shape, op.hidden, rng)),
        (Op::Conv(_) | Op::ConvTranspose(_) | Op::Gemm { .. }, 2) | (Op::Recurrent(_), 3) => {
            Some(filled(shape, || 0.0))
        }
        (Op::BatchNormalization { .. }, 1 | 4) => Some(filled(shape, || 1.0)),
        (Op::BatchNormalization { .. }, 2 | 3) => Some(filled(shape, || 0.0)),
        (Op::LayerNormalization { .. } | Op::InstanceNormalization { .. } | Op::GroupNormalization { .. }, 1) => {
            Some(filled(shape, || 1.0))
        }
        (Op::LayerNormalization { .. } | Op::InstanceNormalization { .. } | Op::GroupNormalization { .. }, 2) => {
            Some(filled(shape, || 0.0))
        }
        _ => None,
    }
}

fn normal(shape: Vec<usize>, fan_out: usize, rng: &mut ChaCha8Rng) -> Tensor {
    let normal = Normal::new(0.0, (2.0 / fan_out.max(1) as f32).sqrt()).expect("the deviation is finite");
    filled(shape, || normal.sample(rng))
}

pub(super) fn linear(shape: Vec<usize>, fan_in: usize, rng: &mut ChaCha8Rng) -> Tensor {
    let bound = 1.0 / (fan_in.max(1) as f32).sqrt();
    let uniform = Uniform::new_inclusive(-bound, bound).expect("the bound is positive and finite");
    filled(shape, || uniform.sample(rng))
}

fn filled(shape: Vec<usize>, mut next: impl FnMut() -> f32) -> Tensor {
    let data = (0..shape.iter().product()).map(|_| next()).collect();
    Tensor::f32(shape, data)
}
