//! Values without integers of their own: they lie inside of what runs as one on a device.

use super::fusion::{fusions, pointwise, roots};
use kdc_ir::graph::{DType, Graph, Op, ValueId};
use kdc_ir::pass::{before_softmax, is_mask};
use std::collections::HashSet;

/// Real values that no sample is needed for and no integers are given to:
///
/// - inside a function of one variable, such as a Gelu written as five operators: the device has a table of the whole;
/// - masks in front of a softmax, constant or computed from whole numbers alone, and the sums with them: numbers so large
///   that nothing else would be left of the range. The device leaves out what is masked.
pub(super) fn unquantized(graph: &Graph) -> HashSet<ValueId> {
    let consumers = graph.consumers();
    let kept = |id: &ValueId| graph.outputs.contains(id);
    let readers = |id: ValueId| consumers.get(&id).into_iter().flatten().map(|&index| &graph.nodes[index]);
    // What runs as part of the operator before it begins anew.
    let fused = fusions(graph).into_iter().flat_map(|f| f.activation.into_iter().chain(f.bias.map(|(node, _)| node)));
    let roots = roots(graph, &fused.collect());
    let (integer_only, before_softmax) = (integer_only(graph), before_softmax(graph));
    let mut unquantized: HashSet<ValueId> = roots
        .iter()
        .filter(|(id, root)| !kept(id) && readers(**id).all(|node| roots.get(&node.output()) == Some(*root)))
        .filter(|(id, _)| readers(**id).next().is_some())
        .map(|(id, _)| *id)
        .collect();
    for node in graph.nodes.iter().rev() {
        let out = node.output();
        let only_softmax = readers(out).all(|n| matches!(n.op, Op::Softmax { .. })) && readers(out).next().is_some();
        let shape = |id: &ValueId| &graph.value(*id).shape;
        let whole_rows = before_softmax.contains(&out)
            && node.inputs.iter().flatten().any(|id| shape(id) == shape(&out) && graph.constant(*id).is_none());
        let constant = |id: &ValueId| whole_rows && graph.constant(*id).is_some_and(is_mask);
        let masked = matches!(node.op, Op::Add)
            && node.inputs.iter().flatten().any(|id| integer_only.contains(id) || constant(id));
        let mask = integer_only.contains(&out)
            && readers(out).next().is_some()
            && readers(out).all(|n| unquantized.contains(&n.output()) && (n.op.moves() || pointwise(n)));
        if !kept(&out) && (masked && only_softmax && !integer_only.contains(&out) || mask) {
            unquantized.insert(out);
        }
    }
    unquantized
}

/// Real values that depend on whole numbers and constants alone; not those looked up in a table.
fn integer_only(graph: &Graph) -> HashSet<ValueId> {
    let mut found = HashSet::new();
    for node in graph.nodes.iter().filter(|node| node.op.moves() || pointwise(node)) {
        let plain =
            |id: &ValueId| graph.value(*id).dtype != DType::F32 || graph.constant(*id).is_some() || found.contains(id);
        let out = node.output();
        let table =
            matches!(node.op, Op::Gather { .. }) && node.input(0).is_some_and(|id| graph.constant(id).is_some());
        if !table && graph.value(out).dtype == DType::F32 && node.inputs.iter().flatten().all(plain) {
            found.insert(out);
        }
    }
    found
}
