//! The network for one sample: every extent is known, and what follows from that is computed.

use super::Result1;
use kdc_ir::graph::{Dim, Graph, Op, Tensor, Unary, ValueId, shape_at, verify};
use kdc_ir::{host, pass};
use std::collections::HashMap;
use std::sync::Arc;

/// The graph with batch 1. Names and parameters of quantization stay; nodes that compute the same for every sample are
/// gone.
///
/// # Errors
/// When the result is not well formed, which is a fault of kdc.
pub(super) fn single(graph: &Graph) -> Result1<Graph> {
    let mut graph = graph.clone();
    let fixed = |shape: &mut [Dim]| shape.iter_mut().for_each(|dim| *dim = Dim::Fixed(dim.at(1)));
    graph.values.iter_mut().for_each(|value| fixed(&mut value.shape));
    // Values that another value stands for.
    let mut same: HashMap<ValueId, ValueId> = HashMap::new();
    for mut node in std::mem::take(&mut graph.nodes) {
        match &mut node.op {
            Op::Reshape { shape } | Op::Expand { shape } => fixed(shape),
            Op::Resize(resize) => fixed(&mut resize.sizes),
            _ => (),
        }
        node.inputs.iter_mut().flatten().for_each(|id| *id = same.get(id).copied().unwrap_or(*id));
        if let Some(tensors) = computed(&graph, &node.op, &node.inputs, &node.outputs) {
            for (&id, tensor) in node.outputs.iter().zip(tensors) {
                graph.value_mut(id).data = Some(Arc::new(tensor));
            }
            continue;
        }
        if let Some(id) = stands_for(&graph, &node.op, &node.inputs, node.outputs[0]) {
            same.insert(node.outputs[0], id);
            continue;
        }
        graph.nodes.push(node);
    }
    graph.outputs.iter_mut().for_each(|id| *id = same.get(id).copied().unwrap_or(*id));
    pass::drop_dead_code(&mut graph);
    verify(&graph)?;
    Ok(graph)
}

/// The results of a node whose operands are all constant.
fn computed(graph: &Graph, op: &Op, inputs: &[Option<ValueId>], outputs: &[ValueId]) -> Option<Vec<Tensor>> {
    if inputs.is_empty() || outputs.iter().any(|id| graph.outputs.contains(id)) {
        return None;
    }
    let operand = |id: &Option<ValueId>| id.map_or(Some(None), |id| graph.constant(id).map(Some));
    let operands: Vec<Option<&Tensor>> = inputs.iter().map(operand).collect::<Option<_>>()?;
    let results: Vec<_> =
        outputs.iter().map(|&id| (graph.value(id).dtype, shape_at(&graph.value(id).shape, 1))).collect();
    let tensors = host::compute(op, &operands, &results).ok()?;
    let fits = tensors.iter().zip(&results).all(|(t, (dtype, shape))| t.dtype() == *dtype && t.shape == *shape);
    (fits && tensors.len() == results.len()).then_some(tensors)
}

/// The operand that is also the result.
fn stands_for(graph: &Graph, op: &Op, inputs: &[Option<ValueId>], output: ValueId) -> Option<ValueId> {
    let operand = |i: usize| inputs.get(i).copied().flatten();
    let x = operand(0)?;
    let kept = !graph.outputs.contains(&output);
    let alike = |id: ValueId| {
        let (a, b) = (graph.value(id), graph.value(output));
        (a.shape == b.shape && a.dtype == b.dtype && kept).then_some(id)
    };
    match op {
        Op::Identity | Op::Dropout | Op::Expand { .. } => alike(x),
        Op::Binary(kdc_ir::graph::Binary::And) => {
            let holds = |id: ValueId| graph.constant(id).is_some_and(|t| t.to_f32().iter().all(|&v| v != 0.0));
            match operand(1)? {
                y if holds(y) => alike(x),
                y if holds(x) => alike(y),
                _ => None,
            }
        }
        // Exporters guard a softmax against rows that are masked altogether; here these are zeros anyway.
        Op::Where => {
            let guarded = operand(2)?;
            let producer = |id: ValueId| graph.nodes.iter().find(|n| n.outputs.contains(&id));
            let test = producer(x)?;
            let softmax = matches!(producer(guarded)?.op, Op::Softmax { .. });
            let guards = matches!(test.op, Op::Unary(Unary::IsNan)) && test.input(0) == Some(guarded) && softmax;
            alike(guarded).filter(|_| guards)
        }
        _ => None,
    }
}
