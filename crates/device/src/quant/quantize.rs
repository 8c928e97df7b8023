//! Gives every value of a network its parameters.

use super::constants::quantize_constants;
use super::inside::{self, inside};
use super::shared::Shared;
use super::{Calibration, Error, Observer, Range, watched};
use kdc_ir::graph::{Graph, Node, Op, ValueId};
use std::collections::{HashMap, HashSet};

/// A float network (batch norm folded) and the range of each of its activations.
#[derive(Clone, Debug)]
pub struct CalibratedModel {
    pub graph: Graph,
    ranges: HashMap<ValueId, Range>,
    inside: HashSet<ValueId>,
}

/// A network in which every activation and weight carries its parameters.
#[derive(Clone, Debug)]
pub struct QuantizedModel {
    pub graph: Graph,
}

impl CalibratedModel {
    /// Takes the ranges from observers, one per [`watched`] value in order.
    ///
    /// # Errors
    /// When a value was never seen.
    pub fn new(graph: Graph, observers: &[Observer], calibration: Calibration) -> Result<CalibratedModel, Error> {
        let mut ranges = HashMap::new();
        for (id, observer) in watched(&graph).into_iter().zip(observers) {
            let unseen = || Error::Unseen { value: graph.value(id).name.clone() };
            ranges.insert(id, observer.range(calibration).ok_or_else(unseen)?);
        }
        Ok(CalibratedModel { inside: inside(&graph), graph, ranges })
    }

    /// Gives every activation, weight and bias its parameters.
    ///
    /// # Errors
    /// When an operator has no integer meaning.
    pub fn quantize(&self) -> Result<QuantizedModel, Error> {
        let mut graph = self.graph.clone();
        let shared = Shared::new(&self.graph, &self.ranges);
        for id in watched(&graph) {
            graph.value_mut(id).quant = Some(shared.params(id));
        }
        // What lies inside of nodes that run as one is never stored.
        let fusions = fusions(&self.graph);
        let interior = fusions.iter().flat_map(Fusion::interior).map(|index| self.graph.nodes[index].output());
        for id in self.inside.iter().copied().chain(interior) {
            graph.value_mut(id).quant = None;
        }
        quantize_constants(&mut graph, &shared, &self.inside)?;
        Ok(QuantizedModel { graph })
    }
}

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
    let roots = inside::roots(graph, &HashSet::new());
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
