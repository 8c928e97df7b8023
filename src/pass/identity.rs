//! Dropping nodes that give back their operand.

use crate::graph::{Graph, Node, Op, ValueId};
use std::collections::HashSet;

/// Drops Identity, Dropout (which does nothing at inference), and casts, reshapes and pads that change nothing.
///
/// A graph output keeps its name: where such a node makes one, its operand's producer makes the output instead. A node
/// between a graph input or constant and a graph output stays.
pub fn drop_identities(graph: &mut Graph) {
    // Opaque nodes may name values inside their subgraphs, so that what they read has to keep its name.
    let opaque = |n: &&Node| matches!(n.op, Op::Opaque(_));
    let named: HashSet<ValueId> =
        graph.nodes.iter().filter(opaque).flat_map(|n| n.inputs.iter().flatten()).copied().collect();
    let mut index = 0;
    while index < graph.nodes.len() {
        let node = &graph.nodes[index];
        let replaced = match node.input(0) {
            Some(x) if changes_nothing(graph, node) => redirect(graph, x, node.output(), index, &named),
            _ => None,
        };
        match replaced {
            Some((from, to)) => {
                graph.nodes.remove(index);
                let swap = |id: &mut ValueId| *id = if *id == from { to } else { *id };
                for node in &mut graph.nodes {
                    node.inputs.iter_mut().flatten().chain(&mut node.outputs).for_each(swap);
                }
            }
            None => index += 1,
        }
    }
    super::drop_unused_values(graph);
}

/// Which value takes the place of which, if one can.
fn redirect(
    graph: &Graph,
    x: ValueId,
    y: ValueId,
    index: usize,
    named: &HashSet<ValueId>,
) -> Option<(ValueId, ValueId)> {
    let output = |id: &ValueId| graph.outputs.contains(id);
    if graph.value(y).quant.is_some() {
        return None;
    }
    if !output(&y) {
        return (!named.contains(&y)).then_some((y, x));
    }
    let produced = graph.nodes[..index].iter().any(|n| n.outputs.contains(&x));
    (produced && !output(&x) && !named.contains(&x) && graph.value(x).quant.is_none()).then_some((x, y))
}

fn changes_nothing(graph: &Graph, node: &Node) -> bool {
    let same_shape = || node.input(0).is_some_and(|x| graph.value(x).shape == graph.value(node.output()).shape);
    match &node.op {
        Op::Identity | Op::Dropout => true,
        Op::Cast { to } => node.input(0).is_some_and(|x| graph.value(x).dtype == *to),
        Op::Reshape { .. } => same_shape(),
        Op::Pad { pads, .. } => pads.iter().all(|&p| p == 0),
        _ => false,
    }
}
