//! Gives every value of a network its parameters.

use super::{Calibration, Error, Observer, Range, activation_params, watched, weight_params};
use crate::graph::{DType, Graph, Node, Op, QuantParams, ValueId};
use std::collections::HashMap;

/// A float network (batch norm folded) and the range of each of its activations.
#[derive(Clone, Debug)]
pub struct CalibratedModel {
    pub graph: Graph,
    ranges: HashMap<ValueId, Range>,
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
        Ok(CalibratedModel { graph, ranges })
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
        // What a fused activation reads is never stored.
        for (index, _) in fused_activations(&self.graph) {
            let id = graph.nodes[index].output();
            graph.value_mut(id).quant = None;
        }
        for index in 0..graph.nodes.len() {
            self.quantize_constants(&mut graph, index)?;
        }
        Ok(QuantizedModel { graph })
    }

    /// Values that must be stored alike, because the operator between them only moves or selects elements.
    fn shared_ranges(&self) -> Shared {
        let mut shared = Shared { parent: HashMap::new(), ranges: self.ranges.clone(), fixed: HashMap::new() };
        for node in &self.graph.nodes {
            let out = node.output();
            match &node.op {
                Op::MaxPool(_)
                | Op::GlobalMaxPool
                | Op::Flatten { .. }
                | Op::Reshape { .. }
                | Op::Transpose { .. }
                | Op::Squeeze { .. }
                | Op::Unsqueeze { .. }
                | Op::Pad { .. }
                | Op::Dropout
                | Op::Identity
                | Op::Gather { .. }
                | Op::Slice { .. }
                | Op::Concat { .. } => {
                    for &id in node.inputs.iter().flatten() {
                        if self.graph.constant(id).is_none() {
                            shared.unite(out, id);
                        }
                    }
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

    fn quantize_constants(&self, graph: &mut Graph, index: usize) -> Result<(), Error> {
        let node = graph.nodes[index].clone();
        let axis = match &node.op {
            Op::Conv(_) | Op::Gemm { trans_b: true, .. } => 0,
            Op::Gemm { trans_b: false, .. } | Op::MatMul => 1,
            Op::BatchNormalization { .. } => return Err(unsupported(&node, "a batch norm that could not be folded")),
            Op::Opaque(opaque) => return Err(unsupported(&node, &opaque.why)),
            _ => return self.quantize_operands(graph, &node),
        };
        let (Some(x), Some(w)) = (node.input(0), node.input(1)) else {
            return Err(unsupported(&node, "an operand is missing"));
        };
        let Some(weights) = graph.constant(w).cloned() else {
            return Err(unsupported(&node, "its weights are computed by the network itself"));
        };
        if weights.shape.len() <= axis {
            return Err(unsupported(&node, "its weights are not a matrix"));
        }
        let params = weight_params(&weights.to_f32(), &weights.shape, axis);
        let input = graph.value(x).quant.as_ref().map(|q| q.scale[0]);
        let input = input.ok_or_else(|| unsupported(&node, "its operand is not quantized"))?;
        if let Some(b) = node.input(2) {
            let scale: Vec<f32> = params.scale.iter().map(|s| s * input).collect();
            let zero_point = vec![0; scale.len()];
            graph.value_mut(b).quant = Some(QuantParams { scale, zero_point, axis: Some(0), dtype: DType::I32 });
        }
        graph.value_mut(w).quant = Some(params);
        Ok(())
    }

    /// Constants that meet activations element by element are stored as activations are.
    fn quantize_operands(&self, graph: &mut Graph, node: &Node) -> Result<(), Error> {
        if !matches!(node.op, Op::Add | Op::Sub | Op::Mul | Op::Div) {
            return Ok(());
        }
        for &id in node.inputs.iter().flatten() {
            let Some(data) = graph.constant(id) else { continue };
            let values = data.to_f32();
            let (min, max) = values.iter().fold((0.0f32, 0.0f32), |(lo, hi), &v| (lo.min(v), hi.max(v)));
            graph.value_mut(id).quant = Some(activation_params(Range { min, max }));
        }
        Ok(())
    }
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
            let hull = Range { min: x.min.min(y.min), max: x.max.max(y.max) };
            self.ranges.insert(b, hull);
        }
        if let Some(params) = self.fixed.remove(&a) {
            self.fixed.insert(b, params);
        }
        self.parent.insert(a, b);
    }
}

/// Pairs (producer, activation) of nodes that run as one: the activation is a clamp of the stored result, and nothing
/// else reads what is between them.
pub fn fused_activations(graph: &Graph) -> Vec<(usize, usize)> {
    let consumers = graph.consumers();
    let fuses = |index: usize| {
        let node = &graph.nodes[index];
        if !matches!(node.op, Op::Conv(_) | Op::Gemm { .. } | Op::MatMul | Op::Add | Op::Mul) {
            return None;
        }
        let out = node.output();
        let [next] = consumers.get(&out)?[..] else { return None };
        let clamps = matches!(graph.nodes[next].op, Op::Relu | Op::Clip { .. });
        (clamps && !graph.outputs.contains(&out)).then_some((index, next))
    };
    (0..graph.nodes.len()).filter_map(fuses).collect()
}
