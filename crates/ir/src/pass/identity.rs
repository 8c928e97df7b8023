//! Dropping nodes that give back their operand.

use crate::graph::{Graph, Node, Op, ValueId};
use std::collections::{HashMap, HashSet};

/// Drops Identity, Dropout (which does nothing at inference), and casts, reshapes and pads that change nothing.
///
/// A graph output keeps its name: where such a node makes one, its operand's producer makes the output instead. A node
/// between a graph input or constant and a graph output stays.
pub fn drop_identities(graph: &mut Graph) {
    // Opaque nodes may name values inside their subgraphs, so that what they read has to keep its name.
    let opaque = |n: &&Node| matches!(n.op, Op::Opaque(_));
    let mut pass = Pass {
        named: graph.nodes.iter().filter(opaque).flat_map(|n| n.inputs.iter().flatten()).copied().collect(),
        outputs: graph.outputs.iter().copied().collect(),
        produced: HashSet::new(),
        instead: HashMap::new(),
    };
    for mut node in std::mem::take(&mut graph.nodes) {
        node.inputs.iter_mut().flatten().for_each(|id| *id = pass.now(*id));
        let replaced = match node.input(0) {
            Some(x) if changes_nothing(graph, &node) => pass.redirect(graph, x, node.output()),
            _ => None,
        };
        match replaced {
            Some((from, to)) => _ = pass.instead.insert(from, to),
            None => {
                pass.produced.extend(&node.outputs);
                graph.nodes.push(node);
            }
        }
    }
    for node in &mut graph.nodes {
        node.inputs.iter_mut().flatten().chain(&mut node.outputs).for_each(|id| *id = pass.now(*id));
    }
    super::drop_unused_values(graph);
}

struct Pass {
    /// What has to keep its name.
    named: HashSet<ValueId>,
    outputs: HashSet<ValueId>,
    /// The results of the nodes so far that stay.
    produced: HashSet<ValueId>,
    /// Which value takes the place of which.
    instead: HashMap<ValueId, ValueId>,
}

impl Pass {
    /// What stands in the place of a value.
    fn now(&self, mut id: ValueId) -> ValueId {
        while let Some(&other) = self.instead.get(&id) {
            id = other;
        }
        id
    }

    /// Which value takes the place of which, if one can, so that a node from `x` to `y` goes.
    fn redirect(&self, graph: &Graph, x: ValueId, y: ValueId) -> Option<(ValueId, ValueId)> {
        if graph.value(y).quant.is_some() {
            return None;
        }
        if !self.outputs.contains(&y) {
            return (!self.named.contains(&y)).then_some((y, x));
        }
        let renamed = self.produced.contains(&x) && !self.outputs.contains(&x) && !self.named.contains(&x);
        (renamed && graph.value(x).quant.is_none()).then_some((x, y))
    }
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
