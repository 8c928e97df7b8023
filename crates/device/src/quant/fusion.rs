//! Which nodes run as one on a device, and which are functions of one variable.

use kdc_ir::graph::{DType, Graph, Node, Op, ValueId};
use std::collections::{HashMap, HashSet};

/// Nodes that run as one, because nothing else reads what is between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fusion {
    /// The node that everything else is fused to.
    pub producer: usize,
    /// An addition of a constant vector to a matrix product: the node, and the vector.
    pub bias: Option<(usize, ValueId)>,
    /// A clamp of the result.
    pub activation: Option<usize>,
}

impl Fusion {
    /// The nodes whose results are never stored.
    pub fn interior(&self) -> impl Iterator<Item = usize> {
        let last = self.activation.or(self.bias.map(|(node, _)| node));
        let all = [Some(self.producer), self.bias.map(|(node, _)| node), self.activation];
        all.into_iter().flatten().filter(move |&node| last.is_some() && Some(node) != last)
    }
}

/// What runs as one in a network, by producer in order.
pub fn fusions(graph: &Graph) -> Vec<Fusion> {
    let consumers = graph.consumers();
    // The only reader of a node's result.
    let next = |index: usize| {
        let out = graph.nodes[index].output();
        let [next] = consumers.get(&out)?[..] else { return None };
        (!graph.outputs.contains(&out)).then_some(next)
    };
    let constant = |id: ValueId| graph.constant(id);
    let bias = |index: usize| {
        let (node, next) = (&graph.nodes[index], next(index)?);
        let channels = constant(node.input(1)?).filter(|w| w.shape.len() == 2)?.shape[1];
        let (Op::MatMul, Op::Add) = (&node.op, &graph.nodes[next].op) else { return None };
        let mut operands = graph.nodes[next].inputs.iter().flatten().copied();
        let vector = operands.find(|&id| constant(id).is_some_and(|t| t.len() == channels))?;
        (constant(vector)?.shape.last() == Some(&channels)).then_some((next, vector))
    };
    let biases: HashMap<usize, (usize, ValueId)> = (0..graph.nodes.len()).filter_map(|i| Some((i, bias(i)?))).collect();
    let added: Vec<usize> = biases.values().map(|(node, _)| *node).collect();
    // So is one of two functions of the same variable: it is a table, and what clamps it a part of that.
    let roots = roots(graph, &HashSet::new());
    let one_variable = |node: &Node| roots.contains_key(&node.output());
    let fused = |producer: usize| {
        let node = &graph.nodes[producer];
        let bias = biases.get(&producer).copied();
        // A sum or product with a single number is a function of one variable.
        let single = |id: &ValueId| constant(*id).is_some_and(|t| t.len() == 1);
        let clampable = match node.op {
            Op::Conv(_) | Op::Gemm { .. } => true,
            Op::MatMul => node.input(1).is_some_and(|w| constant(w).is_some()),
            Op::Add | Op::Mul => {
                !node.inputs.iter().flatten().any(single) && !added.contains(&producer) && !one_variable(node)
            }
            _ => false,
        };
        let clamps = |&next: &usize| matches!(graph.nodes[next].op, Op::Relu | Op::Clip { .. });
        let activation = next(bias.map_or(producer, |(node, _)| node)).filter(clamps).filter(|_| clampable);
        (bias.is_some() || activation.is_some()).then_some(Fusion { producer, bias, activation })
    };
    (0..graph.nodes.len()).filter_map(fused).collect()
}

/// For each value that is a function of the elements of one other, that other; nodes in `fused` make values of their own.
pub(super) fn roots(graph: &Graph, fused: &HashSet<usize>) -> HashMap<ValueId, ValueId> {
    let mut roots: HashMap<ValueId, ValueId> = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let real = graph.value(node.output()).dtype == DType::F32;
        if fused.contains(&index) || !pointwise(node) || !real {
            continue;
        }
        let constant = |id: &ValueId| graph.constant(*id);
        if node.inputs.iter().flatten().filter_map(constant).any(|t| t.len() != 1) {
            continue;
        }
        let computed = node.inputs.iter().flatten().filter(|id| constant(id).is_none());
        let found: HashSet<ValueId> = computed.map(|id| roots.get(id).copied().unwrap_or(*id)).collect();
        if let [root] = found.into_iter().collect::<Vec<_>>()[..]
            && graph.value(root).dtype == DType::F32
        {
            roots.insert(node.output(), root);
        }
    }
    roots
}

/// Whether a node applies a function to every element, or pair.
pub(super) fn pointwise(node: &Node) -> bool {
    matches!(
        node.op,
        Op::Relu
            | Op::Clip { .. }
            | Op::LeakyRelu { .. }
            | Op::Sigmoid
            | Op::Tanh
            | Op::HardSwish
            | Op::HardSigmoid { .. }
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::Where
            | Op::Cast { .. }
            | Op::Add
            | Op::Sub
            | Op::Mul
            | Op::Div
    )
}
