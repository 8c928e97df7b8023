//! Rebuilds a graph for other widths.

use super::{ChannelGroups, Error, check_suitable};
use crate::graph::{Graph, Node, Op, Tensor, ValueId, infer_shapes, verify};
use crate::pass;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, Uniform};
use std::collections::HashMap;
use std::sync::Arc;

/// A copy of `teacher` in which group `g` has `widths[g]` channels, with fresh weights from `seed` and batch norm after
/// every convolution. Names and node order stay the teacher's; batch norms are added.
///
/// Convolutions start from He's normal initialisation (2015, <https://arxiv.org/abs/1502.01852>, fan-out), matrix
/// products from `U(±1/√fan_in)`, biases from zero.
///
/// # Errors
/// When the teacher holds a node that no student may have.
pub fn scaled_copy(teacher: &Graph, groups: &ChannelGroups, widths: &[usize], seed: u64) -> Result<Graph, Error> {
    check_suitable(teacher)?;
    let mut student = teacher.clone();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut renewed: HashMap<ValueId, ()> = HashMap::new();
    for node in &mut student.nodes {
        let group = scaled_conv_group(teacher, groups, node, widths);
        if let (Op::Conv(conv), Some(group)) = (&mut node.op, group) {
            conv.group = group;
        }
    }
    for node in &teacher.nodes {
        for (index, id) in node.inputs.iter().enumerate() {
            let Some(id) = *id else { continue };
            let Some(tensor) = teacher.constant(id) else { continue };
            if renewed.insert(id, ()).is_some() {
                continue;
            }
            if let Some(tensor) = renew(teacher, groups, widths, node, index, tensor, &mut rng) {
                let value = student.value_mut(id);
                value.shape = tensor.shape.iter().map(|&n| crate::graph::Dim::Fixed(n)).collect();
                value.data = Some(Arc::new(tensor));
            }
        }
    }
    for node in &mut student.nodes {
        if let Op::Reshape { shape } = &mut node.op {
            // Only the channel extent can have changed: anything else froze the group.
            let out = node.outputs[0];
            if shape.len() > 1 && !groups.segments(out).is_empty() {
                shape[1] = crate::graph::Dim::Fixed(groups.extent(out, widths));
            }
        }
    }
    infer_shapes(&mut student).map_err(crate::graph::VerifyError::from)?;
    pass::insert_batch_norm(&mut student);
    verify(&student)?;
    Ok(student)
}

/// A depthwise convolution has as many groups as channels.
fn scaled_conv_group(teacher: &Graph, groups: &ChannelGroups, node: &Node, widths: &[usize]) -> Option<usize> {
    let Op::Conv(conv) = &node.op else { return None };
    let x = node.input(0)?;
    let depthwise = conv.group > 1 && teacher.value(x).shape.get(1).map(|d| d.at(1)) == Some(conv.group);
    depthwise.then(|| groups.extent(x, widths))
}

/// The constant at operand `index` of `node` for the new widths; `None` when it stays as it is.
fn renew(
    teacher: &Graph,
    groups: &ChannelGroups,
    widths: &[usize],
    node: &Node,
    index: usize,
    old: &Tensor,
    rng: &mut ChaCha8Rng,
) -> Option<Tensor> {
    let out = node.output();
    let channels = |id: ValueId| groups.extent(id, widths);
    match (&node.op, index) {
        (Op::Conv(conv), 1) => {
            let inputs = channels(node.input(0)?);
            let depthwise = scaled_conv_group(teacher, groups, node, widths).is_some();
            let per_group = if depthwise { 1 } else { inputs / conv.group };
            let mut shape = vec![channels(out), per_group];
            shape.extend(&conv.kernel);
            let taps: usize = conv.kernel.iter().product();
            let fan_out = if depthwise { taps } else { channels(out) * taps / conv.group };
            let normal = Normal::new(0.0, (2.0 / fan_out.max(1) as f32).sqrt()).ok()?;
            Some(filled(shape, || normal.sample(rng)))
        }
        (Op::Conv(_), 2) => Some(filled(vec![channels(out)], || 0.0)),
        (Op::Gemm { trans_b, .. }, 1) => {
            let (inputs, outputs) = (channels(node.input(0)?), channels(out));
            let shape = if *trans_b { vec![outputs, inputs] } else { vec![inputs, outputs] };
            Some(linear(shape, inputs, rng))
        }
        (Op::Gemm { .. }, 2) if old.shape.len() == 1 => Some(filled(vec![channels(out)], || 0.0)),
        (Op::Gemm { .. }, 2) => Some(filled(vec![1, channels(out)], || 0.0)),
        // Of sequences the features are the last axis, which belongs to no group: only the weights are new.
        (Op::MatMul, 1) if old.shape.len() == 2 && teacher.value(node.input(0)?).shape.len() != 2 => {
            Some(linear(old.shape.clone(), old.shape[0], rng))
        }
        (Op::MatMul, 1) if old.shape.len() == 2 => {
            let inputs = channels(node.input(0)?);
            Some(linear(vec![inputs, channels(out)], inputs, rng))
        }
        (Op::BatchNormalization { .. }, 1 | 4) => Some(filled(vec![channels(out)], || 1.0)),
        (Op::BatchNormalization { .. }, 2 | 3) => Some(filled(vec![channels(out)], || 0.0)),
        (Op::Add | Op::Sub | Op::Mul | Op::Div, _) => leading_channels(teacher, node, old, channels(out)),
        _ => None,
    }
}

/// A constant that meets the channels element by element keeps its first `channels` entries along them.
fn leading_channels(teacher: &Graph, node: &Node, old: &Tensor, channels: usize) -> Option<Tensor> {
    let rank = teacher.value(node.output()).shape.len();
    let axis = (1 + old.shape.len()).checked_sub(rank)?;
    let extent = *old.shape.get(axis)?;
    if extent == 1 || extent == channels || extent < channels {
        return None;
    }
    let inner: usize = old.shape[axis + 1..].iter().product();
    let data = old.to_f32().chunks(extent * inner).flat_map(|row| row[..channels * inner].to_vec()).collect();
    let mut shape = old.shape.clone();
    shape[axis] = channels;
    Some(Tensor::f32(shape, data))
}

fn linear(shape: Vec<usize>, fan_in: usize, rng: &mut ChaCha8Rng) -> Tensor {
    let bound = 1.0 / (fan_in.max(1) as f32).sqrt();
    let uniform = Uniform::new_inclusive(-bound, bound).expect("the bound is positive and finite");
    filled(shape, || uniform.sample(rng))
}

fn filled(shape: Vec<usize>, mut next: impl FnMut() -> f32) -> Tensor {
    let data = (0..shape.iter().product()).map(|_| next()).collect();
    Tensor::f32(shape, data)
}
