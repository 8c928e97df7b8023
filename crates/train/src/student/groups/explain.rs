//! Puts coupling into words.

use super::Groups;
use kdc_ir::graph::{Graph, Node, Op, ValueId};
use std::collections::VecDeque;

/// One step from a cut to the next: because an axis of `from` loses an index, so does one of `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    pub from: String,
    pub to: String,
    /// The node that couples them, and its operator.
    pub node: String,
    pub op: String,
    pub because: &'static str,
}

impl std::fmt::Display for Trigger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} triggers {} at node '{}' ({}) because {}", self.from, self.to, self.node, self.op, self.because)
    }
}

impl Groups {
    /// Everything that a cut of one group reaches, from the weights that make its channels on, nearest first. Axes count
    /// from 0.
    pub fn triggers(&self, graph: &Graph, group: usize) -> Vec<Trigger> {
        let touched = |id: ValueId| {
            (0..graph.value(id).shape.len()).filter(|&a| self.on(id, a).contains(&group)).collect::<Vec<_>>()
        };
        let sites: Vec<Vec<usize>> = (0..graph.values.len()).map(|i| touched(ValueId(i as u32))).collect();
        let on = |id: &ValueId| !sites[id.index()].is_empty();
        let values = |node: &Node| -> Vec<ValueId> {
            node.inputs.iter().flatten().chain(&node.outputs).copied().filter(|id| on(id)).collect()
        };
        let nodes: Vec<(&Node, Vec<ValueId>)> = graph.nodes.iter().map(|n| (n, values(n))).collect();
        let first = nodes.iter().flat_map(|(_, v)| v).find(|id| graph.constant(**id).is_some());
        let Some(&first) = first else { return vec![] };
        let site = |id: ValueId| {
            let axes: Vec<String> = sites[id.index()].iter().map(usize::to_string).collect();
            format!("'{}' axis {}", graph.value(id).name, axes.join(" and "))
        };
        let (mut seen, mut queue, mut found) = (vec![first], VecDeque::from([first]), vec![]);
        while let Some(at) = queue.pop_front() {
            for (node, values) in nodes.iter().filter(|(_, values)| values.contains(&at)) {
                for &next in values {
                    if seen.contains(&next) {
                        continue;
                    }
                    seen.push(next);
                    queue.push_back(next);
                    found.push(Trigger {
                        from: site(at),
                        to: site(next),
                        node: node.name.clone(),
                        op: node.op.name().to_string(),
                        because: because(&node.op),
                    });
                }
            }
        }
        found
    }
}

/// What couples the axes of an operator's operands and results.
fn because(op: &Op) -> &'static str {
    match op {
        Op::Conv(conv) if conv.group > 1 => "each of its groups reads and makes channels of its own",
        Op::Conv(_) | Op::ConvTranspose(_) => "a filter makes a channel and reads every channel",
        Op::Gemm { .. } | Op::MatMul => "a product sums over one extent and keeps the others",
        Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Binary(_) | Op::Variadic(_) | Op::Where => {
            "operands meet element by element"
        }
        Op::BatchNormalization { .. } | Op::InstanceNormalization { .. } | Op::GroupNormalization { .. } => {
            "each channel has numbers of its own"
        }
        Op::LayerNormalization { .. } => "each feature has a scale and a shift of its own",
        Op::Concat { .. } => "operands stand one after the other",
        Op::Split { .. } | Op::Slice { .. } => "its results are parts of the operand",
        Op::Flatten { .. } | Op::Reshape { .. } | Op::Transpose { .. } | Op::Squeeze { .. } | Op::Unsqueeze { .. } => {
            "the same elements stand in another shape"
        }
        Op::Recurrent(_) => "a hidden unit has a row in every gate and a column of the state",
        Op::Gather { .. } => "what is looked up keeps its columns",
        _ => "each channel of the result comes from that of the operand",
    }
}
