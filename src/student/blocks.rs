//! Residual blocks and encoder layers, and networks without some of them.

use crate::graph::{Graph, Node, Op, ValueId};
use crate::pass;
use std::collections::{HashMap, HashSet};

/// A part of a network that adds to what it is given: without it, its result is what it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The node that adds.
    pub name: String,
    /// What goes in, and around.
    pub input: ValueId,
    /// The sum.
    pub output: ValueId,
    /// How many nodes it has.
    pub nodes: usize,
}

/// The residual blocks of a graph, in order: every sum of a value and of something computed from that value alone.
pub fn blocks(graph: &Graph) -> Vec<Block> {
    let producers = graph.producers();
    let sum = |node: &Node| {
        let (Op::Add, Some(a), Some(b)) = (&node.op, node.input(0), node.input(1)) else { return None };
        let [a_size, b_size] = [a, b].map(|id| &graph.value(id).shape);
        if a_size != b_size {
            return None;
        }
        // Which of the two the other one comes from.
        [(a, b), (b, a)].into_iter().find_map(|(around, through)| {
            let nodes = between(graph, &producers, around, through)?;
            Some(Block { name: node.name.clone(), input: around, output: node.output(), nodes })
        })
    };
    graph.nodes.iter().filter_map(sum).collect()
}

/// How many nodes lead from `start` to `end` if everything that `end` is computed from passes through `start` (or is a
/// constant); `None` if not, or if there are none.
fn between(graph: &Graph, producers: &HashMap<ValueId, usize>, start: ValueId, end: ValueId) -> Option<usize> {
    let (mut open, mut seen, mut reached) = (vec![end], HashSet::from([end]), false);
    let mut nodes = 0;
    while let Some(id) = open.pop() {
        if id == start {
            reached = true;
            continue;
        }
        if graph.constant(id).is_some() {
            continue;
        }
        // The network's own input is no part of a block.
        let node = &graph.nodes[*producers.get(&id)?];
        nodes += 1;
        open.extend(node.inputs.iter().flatten().filter(|&&i| seen.insert(i)));
    }
    (reached && nodes > 0).then_some(nodes)
}

/// The network without some of its [`droppable`] blocks, by the names of the nodes that add; other names say nothing.
pub fn without_blocks(graph: &Graph, names: &[String]) -> Graph {
    let mut result = graph.clone();
    let mut stands_for: HashMap<ValueId, ValueId> = HashMap::new();
    for block in droppable(graph).iter().filter(|b| names.contains(&b.name)) {
        // Blocks come in order: what this one is given may itself be left out.
        let input = stands_for.get(&block.input).copied().unwrap_or(block.input);
        stands_for.insert(block.output, input);
    }
    for node in &mut result.nodes {
        for id in node.inputs.iter_mut().flatten() {
            *id = stands_for.get(id).copied().unwrap_or(*id);
        }
    }
    pass::drop_dead_code(&mut result);
    result
}

/// Blocks that may be left out: those whose sum is not the network's result.
pub fn droppable(graph: &Graph) -> Vec<Block> {
    blocks(graph).into_iter().filter(|b| !graph.outputs.contains(&b.output)).collect()
}
