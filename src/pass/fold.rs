//! Evaluating nodes whose operands are all constant.

use crate::graph::{Graph, Node, Tensor, ValueId, shape_at};
use crate::host;
use std::sync::Arc;

/// Replaces nodes that compute with constants by their results, as far as [`host::compute`] knows them. Graph outputs
/// stay computed, and so does what reads or makes quantized values.
pub fn fold_constants(graph: &mut Graph) {
    let mut index = 0;
    while index < graph.nodes.len() {
        let node = &graph.nodes[index];
        match evaluate(graph, node) {
            Some(tensors) => {
                let results = node.outputs.clone();
                for (id, tensor) in results.into_iter().zip(tensors) {
                    graph.value_mut(id).data = Some(Arc::new(tensor));
                }
                graph.nodes.remove(index);
            }
            None => index += 1,
        }
    }
    super::drop_unused_values(graph);
}

fn evaluate(graph: &Graph, node: &Node) -> Option<Vec<Tensor>> {
    let quantized = |id: &ValueId| graph.value(*id).quant.is_some();
    let kept = |id: &ValueId| quantized(id) || graph.outputs.contains(id);
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
    let tensors = host::compute(&node.op, &operands, &results).ok()?;
    let fits = tensors.len() == results.len()
        && tensors.iter().zip(&results).all(|(t, (dtype, shape))| t.dtype() == *dtype && t.shape == *shape);
    fits.then_some(tensors)
}
