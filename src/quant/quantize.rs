//! Gives every value of a network its parameters.

use super::inside::{inside, moves};
use super::{Calibration, Error, Observer, Range, activation_params, watched, weight_params};
use crate::graph::{DType, Graph, Node, Op, QuantParams, Tensor, ValueId};
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
        let shared = self.shared_ranges();
        for id in watched(&graph) {
            let root = shared.root(id);
            let range = shared.ranges.get(&root).copied().unwrap_or(Range { min: 0.0, max: 0.0 });
            let params = shared.fixed.get(&root).cloned().unwrap_or_else(|| activation_params(range));
            graph.value_mut(id).quant = Some(params);
        }
        // What lies inside of nodes that run as one is never stored.
        let fusions = fusions(&self.graph);
        let interior = fusions.iter().flat_map(Fusion::interior).map(|index| self.graph.nodes[index].output());
        for id in self.inside.iter().copied().chain(interior) {
            graph.value_mut(id).quant = None;
        }
        for index in 0..graph.nodes.len() {
            let bias = fusions.iter().find(|f| f.producer == index).and_then(|f| f.bias);
            self.quantize_constants(&mut graph, index, bias.map(|(_, vector)| vector))?;
        }
        Ok(QuantizedModel { graph })
    }

    /// Values that must be stored alike, because the operator between them only moves or selects elements.
    fn shared_ranges(&self) -> Shared {
        let mut shared = Shared { parent: HashMap::new(), ranges: self.ranges.clone(), fixed: HashMap::new() };
        let real = |id: &ValueId| self.graph.constant(*id).is_none() && self.graph.value(*id).dtype == DType::F32;
        for node in &self.graph.nodes {
            let out = node.output();
            if let Some(table) = looked_up(&self.graph, node) {
                // What is looked up is stored as it lies in the table.
                let (root, whole) = (shared.root(out), range_of(&table.to_f32()));
                let range = shared.ranges.get(&root).map_or(whole, |seen| seen.hull(whole));
                shared.ranges.insert(root, range);
                continue;
            }
            match &node.op {
                Op::MaxPool(_) | Op::GlobalMaxPool | Op::Pad { .. } | Op::Where | Op::Concat { .. } => {
                    node.inputs.iter().flatten().filter(|id| real(id)).for_each(|&id| shared.unite(out, id));
                }
                _ if moves(node) => {
                    let operand = node.input(0).filter(real);
                    operand.iter().for_each(|&id| node.outputs.iter().for_each(|&out| shared.unite(out, id)));
                }
                Op::Softmax { .. } => {
                    let params =
                        QuantParams { scale: vec![1.0 / 256.0], zero_point: vec![-128], axis: None, dtype: DType::I8 };
                    let root = shared.root(out);
                    shared.fixed.insert(root, params);
                }
                _ => (),
            }
        }
        shared
    }

    fn quantize_constants(&self, graph: &mut Graph, index: usize, bias: Option<ValueId>) -> Result<(), Error> {
        let node = graph.nodes[index].clone();
        let axis = match &node.op {
            Op::Conv(_) | Op::Gemm { trans_b: true, .. } => 0,
            Op::Gemm { trans_b: false, .. } | Op::MatMul => 1,
            Op::BatchNormalization { .. } => return Err(unsupported(&node, "a batch norm that could not be folded")),
            Op::Opaque(opaque) => return Err(unsupported(&node, &opaque.why)),
            Op::Gather { .. } if looked_up(graph, &node).is_some() => {
                let quant = graph.value(node.output()).quant.clone();
                node.input(0).iter().for_each(|&table| graph.value_mut(table).quant = quant.clone());
                return Ok(());
            }
            _ => return self.quantize_operands(graph, &node),
        };
        let (Some(x), Some(w)) = (node.input(0), node.input(1)) else {
            return Err(unsupported(&node, "an operand is missing"));
        };
        let Some(weights) = graph.constant(w).cloned() else {
            return match node.op {
                Op::MatMul => self.quantize_operands(graph, &node),
                _ => Err(unsupported(&node, "its weights are computed by the network itself")),
            };
        };
        if weights.shape.len() <= axis {
            return Err(unsupported(&node, "its weights are not a matrix"));
        }
        let params = weight_params(&weights.to_f32(), &weights.shape, axis);
        let input = graph.value(x).quant.as_ref().map(|q| q.scale[0]);
        let input = input.ok_or_else(|| unsupported(&node, "its operand is not quantized"))?;
        if let Some(b) = bias.or(node.input(2)) {
            let scale: Vec<f32> = params.scale.iter().map(|s| s * input).collect();
            let (zero_point, axis) = (vec![0; scale.len()], graph.value(b).shape.len().saturating_sub(1));
            graph.value_mut(b).quant = Some(QuantParams { scale, zero_point, axis: Some(axis), dtype: DType::I32 });
        }
        graph.value_mut(w).quant = Some(params);
        Ok(())
    }

    /// Constants that meet activations element by element are stored as activations are.
    fn quantize_operands(&self, graph: &mut Graph, node: &Node) -> Result<(), Error> {
        let inside = || self.inside.contains(&node.output()) || graph.value(node.output()).dtype != DType::F32;
        if !matches!(node.op, Op::Add | Op::Sub | Op::Mul | Op::Div | Op::MatMul) || inside() {
            return Ok(());
        }
        for &id in node.inputs.iter().flatten() {
            let bias = graph.value(id).quant.as_ref().is_some_and(|quant| quant.dtype == DType::I32);
            let Some(data) = graph.constant(id).filter(|_| !bias) else { continue };
            let params = activation_params(range_of(&data.to_f32()));
            graph.value_mut(id).quant = Some(params);
        }
        Ok(())
    }
}

/// The constant table whose rows a node looks up.
fn looked_up<'g>(graph: &'g Graph, node: &Node) -> Option<&'g Tensor> {
    let table = node.input(0).filter(|_| matches!(node.op, Op::Gather { .. }))?;
    graph.constant(table).filter(|t| t.dtype() == DType::F32)
}

fn range_of(values: &[f32]) -> Range {
    let (min, max) = values.iter().fold((0.0f32, 0.0f32), |(lo, hi), &v| (lo.min(v), hi.max(v)));
    Range { min, max }
}

fn unsupported(node: &Node, why: &str) -> Error {
    Error::Unsupported { node: node.name.clone(), op: node.op.name().into(), why: why.into() }
}

struct Shared {
    parent: HashMap<ValueId, ValueId>,
    ranges: HashMap<ValueId, Range>,
    fixed: HashMap<ValueId, QuantParams>,
}

impl Shared {
    fn root(&self, mut id: ValueId) -> ValueId {
        while let Some(&parent) = self.parent.get(&id) {
            id = parent;
        }
        id
    }

    fn unite(&mut self, a: ValueId, b: ValueId) {
        let (a, b) = (self.root(a), self.root(b));
        if a == b {
            return;
        }
        if let (Some(x), Some(y)) = (self.ranges.get(&a), self.ranges.get(&b)) {
            let hull = x.hull(*y);
            self.ranges.insert(b, hull);
        }
        if let Some(params) = self.fixed.remove(&a) {
            self.fixed.insert(b, params);
        }
        self.parent.insert(a, b);
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
    let fused = |producer: usize| {
        let node = &graph.nodes[producer];
        let bias = biases.get(&producer).copied();
        // A sum or product with a single number is a function of one variable.
        let single = |id: &ValueId| constant(*id).is_some_and(|t| t.len() == 1);
        let clampable = match node.op {
            Op::Conv(_) | Op::Gemm { .. } => true,
            Op::MatMul => node.input(1).is_some_and(|w| constant(w).is_some()),
            Op::Add | Op::Mul => !node.inputs.iter().flatten().any(single) && !added.contains(&producer),
            _ => false,
        };
        let clamps = |&next: &usize| matches!(graph.nodes[next].op, Op::Relu | Op::Clip { .. });
        let activation = next(bias.map_or(producer, |(node, _)| node)).filter(clamps).filter(|_| clampable);
        (bias.is_some() || activation.is_some()).then_some(Fusion { producer, bias, activation })
    };
    (0..graph.nodes.len()).filter_map(fused).collect()
}
