//! Which neighbouring nodes of a network are computed as one operator: found once, when the network is made.
//!
//! A fusion is a chain of nodes whose values in between have one reader each. It is computed where its last node
//! stands, because operands of later nodes may be made after the first one. A pass that is asked for a value in
//! between computes those nodes one by one.

use crate::graph::{Graph, Node, Op, ValueId};
use std::collections::HashMap;

/// What a fusion computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::exec) enum Kind {
    /// Batch norm, ReLU.
    NormRelu,
}

/// Nodes that are computed as one.
#[derive(Clone, Debug)]
pub(in crate::exec) struct Fusion {
    pub kind: Kind,
    /// Their indices, in order.
    pub nodes: Vec<usize>,
}

impl Fusion {
    pub fn last(&self) -> usize {
        *self.nodes.last().expect("a fusion has nodes")
    }
}

/// All fusions of a network.
#[derive(Debug, Default)]
pub(in crate::exec) struct Plan {
    fusions: Vec<Fusion>,
}

impl Plan {
    pub fn new(graph: &Graph) -> Plan {
        let finder = Finder { graph, readers: graph.consumers() };
        let mut taken = vec![false; graph.nodes.len()];
        let mut fusions = Vec::new();
        for index in 0..graph.nodes.len() {
            let Some(fusion) = finder.starting_at(index) else { continue };
            if fusion.nodes.iter().all(|&i| !taken[i]) {
                fusion.nodes.iter().for_each(|&i| taken[i] = true);
                fusions.push(fusion);
            }
        }
        Plan { fusions }
    }

    /// By node the fusion that it is part of, in a pass that wants these values.
    pub fn by_node(&self, graph: &Graph, wanted: &[ValueId]) -> Vec<Option<&Fusion>> {
        let mut by_node = vec![None; graph.nodes.len()];
        for fusion in &self.fusions {
            let inner = &fusion.nodes[..fusion.nodes.len() - 1];
            if inner.iter().all(|&i| !wanted.contains(&graph.nodes[i].output())) {
                fusion.nodes.iter().for_each(|&i| by_node[i] = Some(fusion));
            }
        }
        by_node
    }
}

struct Finder<'a> {
    graph: &'a Graph,
    readers: HashMap<ValueId, Vec<usize>>,
}

impl Finder<'_> {
    fn starting_at(&self, index: usize) -> Option<Fusion> {
        match self.graph.nodes[index].op {
            Op::BatchNormalization { .. } => self.norm_relu(index),
            _ => None,
        }
    }

    fn norm_relu(&self, norm: usize) -> Option<Fusion> {
        let (relu, node) = self.next(norm)?;
        (node.op == Op::Relu).then(|| Fusion { kind: Kind::NormRelu, nodes: vec![norm, relu] })
    }

    /// The one node that reads a node's one result, if nothing else needs that value as it is.
    fn next(&self, index: usize) -> Option<(usize, &Node)> {
        let node = &self.graph.nodes[index];
        let [out] = node.outputs[..] else { return None };
        let value = self.graph.value(out);
        match self.readers.get(&out)?[..] {
            [reader] if value.quant.is_none() && !self.graph.outputs.contains(&out) => {
                Some((reader, &self.graph.nodes[reader]))
            }
            _ => None,
        }
    }
}
