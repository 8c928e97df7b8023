//! Evaluating nodes whose operands are all constant.

use crate::graph::{Graph, Node, Tensor, Value, ValueId, shape_at};
use crate::host;
use std::collections::HashSet;
use std::sync::Arc;

/// Bytes that folding may always make…
const ALWAYS: usize = 1 << 26;
/// …and beyond that so many times those of the constants that there are: a few nodes can double, or fill, a tensor until
/// no memory holds it.
const TIMES: usize = 4;

/// Replaces nodes that compute with constants by their results, as far as [`host::compute`] knows them and as long as those
/// are not much larger than what they are computed from. Graph outputs stay computed, and so does what reads or makes
/// quantized values.
pub fn fold_constants(graph: &mut Graph) {
    let bytes = |value: &Value| value.data.as_ref().map_or(0, |tensor| tensor.len().saturating_mul(value.dtype.size()));
    let held = graph.values.iter().fold(0usize, |sum, value| sum.saturating_add(bytes(value)));
    let mut budget = ALWAYS.max(held.saturating_mul(TIMES));
    let outputs: HashSet<ValueId> = graph.outputs.iter().copied().collect();
    let nodes = std::mem::take(&mut graph.nodes);
    for node in nodes {
        match evaluate(graph, &outputs, &node, &mut budget) {
            Some(tensors) => {
                for (&id, tensor) in node.outputs.iter().zip(tensors) {
                    graph.value_mut(id).data = Some(Arc::new(tensor));
                }
            }
            None => graph.nodes.push(node),
        }
    }
    super::drop_unused_values(graph);
}

fn evaluate(graph: &Graph, outputs: &HashSet<ValueId>, node: &Node, budget: &mut usize) -> Option<Vec<Tensor>> {
    let quantized = |id: &ValueId| graph.value(*id).quant.is_some();
    let kept = |id: &ValueId| quantized(id) || outputs.contains(id);
    // A result with the batch in its shape is another tensor for every batch.
    let batched = |id: &ValueId| graph.value(*id).shape.iter().any(|d| d.is_batched());
    let touched = node.outputs.iter().any(|id| kept(id) || batched(id)) || node.inputs.iter().flatten().any(quantized);
    if touched || node.inputs.is_empty() {
        return None;
    }
    let operand = |id: &Option<ValueId>| id.map_or(Some(None), |id| graph.constant(id).map(Some));
    let operands: Vec<Option<&Tensor>> = node.inputs.iter().map(operand).collect::<Option<_>>()?;
    let result = |&id: &ValueId| (graph.value(id).dtype, shape_at(&graph.value(id).shape, 1));
    let results: Vec<_> = node.outputs.iter().map(result).collect();
    let size = |(dtype, shape): &(_, Vec<usize>)| {
        shape.iter().try_fold(crate::graph::DType::size(*dtype), |product, &n| product.checked_mul(n))
    };
    let bytes = results.iter().map(size).try_fold(0usize, |sum, bytes| sum.checked_add(bytes?))?;
    if bytes > *budget {
        return None;
    }
    let tensors = host::compute(&node.op, &operands, &results).ok()?;
    let fits = tensors.len() == results.len()
        && tensors.iter().zip(&results).all(|(t, (dtype, shape))| t.dtype() == *dtype && t.shape == *shape);
    *budget -= bytes;
    fits.then_some(tensors)
}
