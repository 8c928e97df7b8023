//! Dropping what nothing reads.

use crate::graph::{Graph, Node, Op, ValueId};
use std::collections::HashSet;

/// Removes nodes none of whose results reach an output, and values nothing mentions.
pub fn drop_dead_code(graph: &mut Graph) {
    let mut live: HashSet<ValueId> = graph.outputs.iter().copied().collect();
    let mut keep = vec![false; graph.nodes.len()];
    for (i, node) in graph.nodes.iter().enumerate().rev() {
        if node.outputs.iter().any(|id| live.contains(id)) {
            keep[i] = true;
            live.extend(node.inputs.iter().flatten());
        }
    }
    let mut keep = keep.into_iter();
    graph.nodes.retain(|_| keep.next().unwrap_or(true));
    graph.nodes.iter_mut().for_each(|node| drop_empty_parts(node, &live));
    drop_unused_values(graph);
}

/// Parts without elements that nobody reads are none.
fn drop_empty_parts(node: &mut Node, live: &HashSet<ValueId>) {
    let Op::Split { sizes, .. } = &mut node.op else { return };
    let kept = |(size, id): &(usize, ValueId)| *size > 0 || live.contains(id);
    if sizes.len() == node.outputs.len() {
        (*sizes, node.outputs) = sizes.iter().copied().zip(node.outputs.iter().copied()).filter(kept).unzip();
    }
}

/// Removes values that no node, input or output mentions. Ids change; names and order stay.
pub fn drop_unused_values(graph: &mut Graph) {
    let mut used: HashSet<ValueId> = graph.inputs.iter().chain(&graph.outputs).copied().collect();
    for node in &graph.nodes {
        used.extend(node.inputs.iter().flatten().chain(&node.outputs));
    }
    let mut renumbered = Vec::with_capacity(graph.values.len());
    let mut next = 0;
    for i in 0..graph.values.len() as u32 {
        renumbered.push(ValueId(next));
        next += u32::from(used.contains(&ValueId(i)));
    }
    let mut index = 0;
    graph.values.retain(|_| {
        index += 1;
        used.contains(&ValueId(index - 1))
    });
    let renumber = |id: &mut ValueId| *id = renumbered[id.index()];
    graph.inputs.iter_mut().chain(&mut graph.outputs).for_each(renumber);
    for node in &mut graph.nodes {
        node.inputs.iter_mut().flatten().chain(&mut node.outputs).for_each(renumber);
    }
}
