//! Parameters of weights, biases and other constants: those of each reader.
//!
//! Two layers may read one matrix, along other axes or beside other biases. Each reads it as it needs it: a constant whose
//! readers do not all agree gets a copy for each way in which it is read.

use super::fusion::{Fusion, fusions};
use super::params::weight_params;
use super::shared::{Shared, looked_up, range_of};
use super::{Error, activation_params};
use kdc_ir::graph::{DType, Dim, Graph, Node, Op, QuantParams, Tensor, Value, ValueId};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// How one operand of a node is read: with these parameters, and where the reader changes them, other numbers.
struct Reading {
    node: usize,
    operand: usize,
    numbers: Option<Tensor>,
    params: QuantParams,
}

/// Gives the constants of a network, whose activations have their parameters, theirs. Factors of a Gemm become part of its
/// constants. `inside`: values without integers of their own.
///
/// # Errors
/// The first operator without integer meaning.
pub(super) fn quantize_constants(
    graph: &mut Graph,
    shared: &Shared,
    unquantized: &HashSet<ValueId>,
) -> Result<(), Error> {
    let fusions = fusions(graph);
    let reader = Reader { biases: fusions.iter().map(|f| (f.producer, f)).collect(), graph, shared, unquantized };
    let mut readings = vec![];
    for index in 0..graph.nodes.len() {
        reader.node(index, &mut readings)?;
    }
    for node in &mut graph.nodes {
        let constant = |i: usize| node.input(i).is_some_and(|id| graph.values[id.index()].data.is_some());
        if let (true, Op::Gemm { alpha, beta, .. }) = (constant(1), &mut node.op) {
            (*alpha, *beta) = (1.0, 1.0);
        }
    }
    apply(graph, readings);
    Ok(())
}

fn unsupported(node: &Node, why: &str) -> Error {
    Error::Unsupported { node: node.name.clone(), op: node.op.name().into(), why: why.into() }
}

/// Puts parameters on constants, and copies on those that are read in several ways.
fn apply(graph: &mut Graph, readings: Vec<Reading>) {
    let mut readers: HashMap<ValueId, usize> = HashMap::new();
    let read = graph.nodes.iter().flat_map(|n| n.inputs.iter().flatten()).chain(&graph.outputs);
    read.for_each(|id| *readers.entry(*id).or_default() += 1);
    let mut ways: HashMap<ValueId, Vec<Reading>> = HashMap::new();
    let mut order = vec![];
    for reading in readings {
        let Some(id) = graph.nodes[reading.node].input(reading.operand) else { continue };
        let way = ways.entry(id).or_default();
        if way.is_empty() {
            order.push(id);
        }
        way.push(reading);
    }
    for id in order {
        let mut rest = ways.remove(&id).unwrap_or_default();
        // Copies are of what it was before its first reader changed it.
        let original = graph.value(id).clone();
        // The value itself serves the first way, unless somebody reads it as it is.
        let mut own = rest.len() == readers.get(&id).copied().unwrap_or(0);
        while !rest.is_empty() {
            let first = rest.remove(0);
            let alike = |r: &Reading| r.params == first.params && r.numbers == first.numbers;
            let (same, others): (Vec<Reading>, Vec<Reading>) = rest.into_iter().partition(alike);
            rest = others;
            let target = match std::mem::take(&mut own) {
                true => id,
                false => {
                    let name = graph.fresh_name(&original.name);
                    graph.add_value(Value { name, ..original.clone() })
                }
            };
            for r in same.iter().chain([&first]) {
                graph.nodes[r.node].inputs[r.operand] = Some(target);
            }
            let value = graph.value_mut(target);
            if let Some(numbers) = first.numbers {
                value.shape = numbers.shape.iter().map(|&n| Dim::Fixed(n)).collect();
                value.data = Some(Arc::new(numbers));
            }
            value.quant = Some(first.params);
        }
    }
}

struct Reader<'a> {
    graph: &'a Graph,
    shared: &'a Shared<'a>,
    unquantized: &'a HashSet<ValueId>,
    biases: HashMap<usize, &'a Fusion>,
}

impl Reader<'_> {
    fn node(&self, index: usize, readings: &mut Vec<Reading>) -> Result<(), Error> {
        let node = &self.graph.nodes[index];
        let axis = match &node.op {
            Op::Conv(_) | Op::Gemm { trans_b: true, .. } => 0,
            Op::Gemm { trans_b: false, .. } | Op::MatMul => 1,
            Op::BatchNormalization { .. } => return Err(unsupported(node, "a batch norm that could not be folded")),
            Op::Opaque(opaque) => return Err(unsupported(node, &opaque.why)),
            Op::Gather { .. } if looked_up(self.graph, node).is_some() => {
                let quant = self.graph.value(node.output()).quant.clone();
                readings.extend(quant.map(|params| Reading { node: index, operand: 0, numbers: None, params }));
                return Ok(());
            }
            Op::Add | Op::Sub | Op::Mul | Op::Div => {
                return self.operands(index, readings);
            }
            _ => return Ok(()),
        };
        let (Some(x), Some(w)) = (node.input(0), node.input(1)) else {
            return Err(unsupported(node, "an operand is missing"));
        };
        let Some(weights) = self.graph.constant(w) else {
            if node.op == Op::MatMul {
                return self.operands(index, readings);
            }
            return Err(unsupported(node, "its weights are computed by the network itself"));
        };
        if weights.shape.len() <= axis {
            return Err(unsupported(node, "its weights are not a matrix"));
        }
        let input = self.graph.value(x).quant.as_ref().map(|q| q.scale[0]);
        let input = input.ok_or_else(|| unsupported(node, "its operand is not quantized"))?;
        if node.input(2).is_some_and(|b| self.graph.constant(b).is_none()) {
            return Err(unsupported(node, "its bias is computed by the network itself"));
        }
        let (alpha, beta) = match node.op {
            Op::Gemm { alpha, beta, .. } => (alpha, beta),
            _ => (1.0, 1.0),
        };
        // Weights of an operand that is always zero say nothing: they must not keep the bias from being exact.
        let alpha = if self.shared.is_zero(x) { 0.0 } else { alpha };
        let scaled = match alpha {
            1.0 => None,
            alpha => Some(Tensor::f32(weights.shape.clone(), weights.to_f32().iter().map(|w| w * alpha).collect())),
        };
        let numbers = scaled.as_ref().unwrap_or(weights).to_f32();
        let channels = weights.shape[axis];
        let fused = self.biases.get(&index).and_then(|f| f.bias);
        let place = fused.map_or(node.input(2).map(|id| (index, 2, id)), |(add, vector)| {
            let operand = self.graph.nodes[add].inputs.iter().position(|id| *id == Some(vector));
            operand.map(|operand| (add, operand, vector))
        });
        let bias = place.and_then(|(at, operand, id)| Some((at, operand, self.graph.constant(id)?)));
        let own = bias.filter(|(.., b)| b.len() == channels || b.len() == 1).map(|(at, operand, tensor)| {
            let values = tensor.to_f32();
            let one = |c: usize| values[c.min(values.len() - 1)] * beta;
            let changed = beta != 1.0 || tensor.shape.last() != Some(&channels);
            (at, operand, tensor, changed.then(|| Tensor::f32([channels], (0..channels).map(one).collect())))
        });
        let real = own.as_ref().map(|(.., tensor, changed)| changed.as_ref().unwrap_or(tensor).to_f32());
        let params = weight_params(&numbers, &weights.shape, axis, real.as_deref().unwrap_or(&[]), input);
        if let Some((at, operand, tensor, numbers)) = own {
            let scale: Vec<f32> = params.scale.iter().map(|s| s * input).collect();
            let rank = numbers.as_ref().unwrap_or(tensor).shape.len();
            let (zero_point, axis) = (vec![0; scale.len()], Some(rank.saturating_sub(1)));
            let params = QuantParams { scale, zero_point, axis, dtype: DType::I32 };
            readings.push(Reading { node: at, operand, numbers, params });
        }
        readings.push(Reading { node: index, operand: 1, numbers: scaled, params });
        Ok(())
    }

    /// Constants that meet activations element by element are stored as activations are; a bias belongs to its product.
    fn operands(&self, index: usize, readings: &mut Vec<Reading>) -> Result<(), Error> {
        let node = &self.graph.nodes[index];
        let out = node.output();
        let bias = self.biases.values().any(|f| f.bias.is_some_and(|(add, _)| add == index));
        if bias || self.unquantized.contains(&out) || self.graph.value(out).dtype != DType::F32 {
            return Ok(());
        }
        for (operand, id) in node.inputs.iter().enumerate() {
            let constant = id.and_then(|id| Some((self.graph.value(id), self.graph.constant(id)?)));
            let Some((value, data)) = constant else { continue };
            let numbers = data.to_f32();
            if let Some(what) = numbers.iter().find(|v| !v.is_finite()) {
                let why = format!(
                    "its constant '{}' holds {what}, which integers have no form of; a mask is left out where it is added \
                     right in front of a Softmax over the last axis, and keeps something in each row",
                    value.name
                );
                return Err(unsupported(node, &why));
            }
            readings.push(Reading {
                node: index,
                operand,
                numbers: None,
                params: activation_params(range_of(&numbers)),
            });
        }
        Ok(())
    }
}
