//! Constant masks in front of a Softmax, in one form: a sum with a constant of zeros and large negative numbers.

use crate::graph::{DType, Graph, Node, Op, Tensor, Value, ValueId};
use std::collections::HashSet;

/// What is at most this is a mask: in 32 bits, `e^−100` beside `e^0` is nothing.
pub const MASKED: f32 = -100.0;

/// Whether a constant in front of a Softmax over its last axis is a mask: zero where an element is kept, at most
/// [`MASKED`] where it is left out, and something is kept in each row.
pub fn is_mask(tensor: &Tensor) -> bool {
    let values = tensor.to_f32();
    let len = tensor.shape.last().copied().unwrap_or(1).max(1);
    tensor.dtype() == DType::F32
        && values.iter().all(|&v| v == 0.0 || v <= MASKED)
        && values.iter().any(|&v| v != 0.0)
        && values.chunks(len).all(|row| row.contains(&0.0))
}

/// The values that nothing reads but Softmaxes over their last axis: in front of these, masks may stand.
pub fn before_softmax(graph: &Graph) -> HashSet<ValueId> {
    let over_last = |node: &Node, id: ValueId| {
        let rank = graph.value(id).shape.len();
        matches!(node.op, Op::Softmax { axis } if axis + 1 == rank)
    };
    let (mut found, mut others) = (HashSet::new(), graph.outputs.iter().copied().collect::<HashSet<_>>());
    for node in &graph.nodes {
        for &id in node.inputs.iter().flatten() {
            match over_last(node, id) {
                true => found.insert(id),
                false => others.insert(id),
            };
        }
    }
    &found - &others
}

/// Writes constant masks as sums of their own, for those who leave out what is masked: `Where(condition, scores, −10⁹)`
/// with a constant condition becomes `scores + mask`, and a sum with other numbers beside masked ones (a position's bias)
/// two sums. Only in front of Softmaxes, which answer the same.
pub fn separate_masks(graph: &mut Graph) {
    let masked = before_softmax(graph);
    let mut names = (graph.value_names(), graph.node_names());
    for mut node in std::mem::take(&mut graph.nodes) {
        if masked.contains(&node.output()) {
            if let Some((scores, mask)) = chosen(graph, &node) {
                let mask = graph.add_constant(names.0.fresh(&format!("{}_mask", node.name)), mask);
                (node.op, node.inputs) = (Op::Add, vec![Some(scores), Some(mask)]);
            } else if let Some((operand, [mask, bias])) = mixed(graph, &node) {
                let [mask, bias] = [("mask", mask), ("bias", bias)]
                    .map(|(what, t)| graph.add_constant(names.0.fresh(&format!("{}_{what}", node.name)), t));
                let biased = Value {
                    name: names.0.fresh(&format!("{}_biased", node.name)),
                    ..graph.value(node.output()).clone()
                };
                let biased = graph.add_value(biased);
                let mut inputs = node.inputs.clone();
                inputs[operand] = Some(bias);
                let name = names.1.fresh(&format!("{}_biased", node.name));
                graph.nodes.push(Node { name, op: Op::Add, inputs, outputs: vec![biased] });
                node.inputs = vec![Some(biased), Some(mask)];
            }
        }
        graph.nodes.push(node);
    }
    super::drop_unused_values(graph);
}

/// Scores and the mask that a choice by a constant condition is.
fn chosen(graph: &Graph, node: &Node) -> Option<(ValueId, Tensor)> {
    let (Op::Where, Some(condition), Some(yes), Some(no)) = (&node.op, node.input(0), node.input(1), node.input(2))
    else {
        return None;
    };
    let condition = graph.constant(condition)?;
    let number = |id| graph.constant(id).filter(|t: &&Tensor| t.len() == 1).map(|t| t.to_f32()[0]);
    let (scores, number, kept) = match (number(yes), number(no)) {
        (None, Some(number)) => (yes, number, true),
        (Some(number), None) => (no, number, false),
        _ => return None,
    };
    let one = |&v: &f32| if (v != 0.0) == kept { 0.0 } else { number };
    let mask = Tensor::f32(condition.shape.clone(), condition.to_f32().iter().map(one).collect());
    is_mask(&mask).then_some((scores, mask))
}

/// Of a sum with a constant that masks and does more: which operand that is, the mask, and what else it adds.
fn mixed(graph: &Graph, node: &Node) -> Option<(usize, [Tensor; 2])> {
    let constant = |i: usize| node.input(i).and_then(|id| graph.constant(id)).filter(|t| t.dtype() == DType::F32);
    let (operand, tensor) = (0..2).find_map(|i| Some((i, constant(i)?))).filter(|_| node.op == Op::Add)?;
    let part = |keep: fn(f32) -> bool| {
        let values = tensor.to_f32().iter().map(|&v| if keep(v) { v } else { 0.0 }).collect::<Vec<_>>();
        Tensor::f32(tensor.shape.clone(), values)
    };
    let (mask, bias) = (part(|v| v <= MASKED), part(|v| v > MASKED));
    // Where nothing else is added, it is a mask already; a row of which nothing is kept is none.
    let more = bias.to_f32().iter().any(|&v| v != 0.0);
    (more && is_mask(&mask)).then_some((operand, [mask, bias]))
}
