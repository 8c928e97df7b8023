//! Residual blocks and encoder layers, and networks without some of them.

use kdc_ir::graph::{Graph, Node, Op, ValueId};
use kdc_ir::pass;
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
}

/// The residual blocks of a graph, in order: every sum of a value and of something computed from that value alone.
pub fn blocks(graph: &Graph) -> Vec<Block> {
    let ways = Ways::of(graph);
    let sum = |node: &Node| {
        let (Op::Add, Some(a), Some(b)) = (&node.op, node.input(0), node.input(1)) else { return None };
        let [a_size, b_size] = [a, b].map(|id| &graph.value(id).shape);
        if a_size != b_size {
            return None;
        }
        // Which of the two the other one comes from.
        let around = [(a, b), (b, a)].into_iter().find(|&(around, through)| ways.all_pass(around, through))?.0;
        Some(Block { name: node.name.clone(), input: around, output: node.output() })
    };
    graph.nodes.iter().filter_map(sum).collect()
}

/// Through which values everything goes that others are computed from: the tree of dominators (Cooper, Harvey, Kennedy 2001,
/// A Simple, Fast Dominance Algorithm), where a value's parent is the nearest that every way from the inputs to it passes.
/// Pointers that jump over many ancestors (Myers 1983, An applicative random-access stack) keep every look logarithmic.
struct Ways {
    /// By value; `None` for constants and what is computed from these alone.
    at: Vec<Option<Place>>,
}

/// A place in the tree; parents of the roots' kind are themselves.
#[derive(Clone, Copy)]
struct Place {
    depth: usize,
    parent: usize,
    jump: usize,
}

impl Ways {
    fn of(graph: &Graph) -> Ways {
        // The last place is that of a root above all inputs.
        let root = graph.values.len();
        let mut ways = Ways { at: vec![None; root + 1] };
        ways.at[root] = Some(Place { depth: 0, parent: root, jump: root });
        graph.inputs.iter().for_each(|&id| ways.add(id.index(), root));
        for node in &graph.nodes {
            let computed = node.inputs.iter().flatten().filter(|&&id| graph.constant(id).is_none());
            let known: Vec<usize> = computed.map(|id| id.index()).filter(|&id| ways.at[id].is_some()).collect();
            if let Some(nearest) = known.into_iter().reduce(|a, b| ways.common(a, b)) {
                node.outputs.iter().for_each(|&id| ways.add(id.index(), nearest));
            }
        }
        ways
    }

    fn place(&self, value: usize) -> Place {
        self.at[value].expect("only values in the tree are asked for")
    }

    fn add(&mut self, value: usize, parent: usize) {
        let above = self.place(parent);
        let (first, second) = (self.place(above.jump), self.place(self.place(above.jump).jump));
        let as_far = above.depth - first.depth == first.depth - second.depth;
        let jump = if as_far { first.jump } else { parent };
        self.at[value] = Some(Place { depth: above.depth + 1, parent, jump });
    }

    /// The ancestor of this depth.
    fn ancestor(&self, mut value: usize, depth: usize) -> usize {
        while self.place(value).depth > depth {
            let place = self.place(value);
            value = if self.place(place.jump).depth >= depth { place.jump } else { place.parent };
        }
        value
    }

    /// The nearest that is above both.
    fn common(&self, a: usize, b: usize) -> usize {
        let depth = self.place(a).depth.min(self.place(b).depth);
        let (mut a, mut b) = (self.ancestor(a, depth), self.ancestor(b, depth));
        while a != b {
            let (over_a, over_b) = (self.place(a), self.place(b));
            (a, b) = match over_a.jump != over_b.jump {
                true => (over_a.jump, over_b.jump),
                false => (over_a.parent, over_b.parent),
            };
        }
        a
    }

    /// Whether everything that `end` is computed from passes through `start` (or is a constant).
    fn all_pass(&self, start: ValueId, end: ValueId) -> bool {
        let (start, end) = (start.index(), end.index());
        match (self.at[start], self.at[end]) {
            (Some(above), Some(below)) => above.depth < below.depth && self.ancestor(end, above.depth) == start,
            _ => false,
        }
    }
}

/// The network without some of its [`droppable`] blocks, by the names of the nodes that add; other names say nothing.
pub fn without_blocks(graph: &Graph, names: &[String]) -> Graph {
    let mut result = graph.clone();
    let mut stands_for: HashMap<ValueId, ValueId> = HashMap::new();
    let names: HashSet<&String> = names.iter().collect();
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
