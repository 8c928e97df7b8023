//! What makes a graph well formed. Run after import and after every pass.

use super::{Graph, Op, infer::InferError, infer_node, shape_text};
use std::collections::{HashMap, HashSet};

/// How a graph is malformed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VerifyError {
    /// Two things share a name.
    #[error("the {kind} name '{name}' is used twice")]
    DuplicateName { kind: &'static str, name: String },
    /// A node reads a value that nothing before it makes.
    #[error("node '{node}' reads '{value}', which nothing before it produces")]
    Undefined { node: String, value: String },
    /// A value is made twice.
    #[error("value '{value}' is produced more than once, again by node '{node}'")]
    Redefined { node: String, value: String },
    /// A graph output that nothing makes.
    #[error("the output '{value}' is produced by nothing")]
    NoOutput { value: String },
    /// The operands do not fit the operator.
    #[error(transparent)]
    Shape(#[from] InferError),
    /// A value says one shape, its producer another.
    #[error("value '{value}' is {stated}, but node '{node}' makes it {inferred}")]
    Mismatch { node: String, value: String, stated: String, inferred: String },
    /// A constant whose contents differ from its description.
    #[error("constant '{value}' is described as {stated} and holds {held}")]
    Constant { value: String, stated: String, held: String },
    /// Parameters of quantization that mean nothing.
    #[error("value '{value}': {what}")]
    Quant { value: String, what: String },
}

/// Checks order, names, types, shapes and constants.
///
/// # Errors
/// The first thing found wrong.
pub fn verify(graph: &Graph) -> Result<(), VerifyError> {
    let mut names = HashSet::new();
    for node in &graph.nodes {
        if !names.insert(&node.name) {
            return Err(VerifyError::DuplicateName { kind: "node", name: node.name.clone() });
        }
    }
    let mut names = HashMap::new();
    for (i, value) in graph.values.iter().enumerate() {
        if names.insert(&value.name, i).is_some() {
            return Err(VerifyError::DuplicateName { kind: "value", name: value.name.clone() });
        }
        if let Some(data) = &value.data {
            let stated = super::shape_at(&value.shape, 1);
            if data.shape != stated || data.dtype() != value.dtype {
                let stated = format!("{} {}", value.dtype, shape_text(&value.shape));
                let held = format!("{} {:?}", data.dtype(), data.shape);
                return Err(VerifyError::Constant { value: value.name.clone(), stated, held });
            }
        }
        if let Some(what) = value.quant.as_ref().and_then(|q| quant_fault(q, &value.shape)) {
            return Err(VerifyError::Quant { value: value.name.clone(), what });
        }
    }
    let mut defined: HashSet<_> = graph.inputs.iter().copied().collect();
    let known = |id: &super::ValueId, defined: &HashSet<_>| defined.contains(id) || graph.value(*id).data.is_some();
    for node in &graph.nodes {
        for id in node.inputs.iter().flatten() {
            if !known(id, &defined) {
                let value = graph.value(*id).name.clone();
                return Err(VerifyError::Undefined { node: node.name.clone(), value });
            }
        }
        for (&id, (dtype, shape)) in node.outputs.iter().zip(infer_node(graph, node)?) {
            let value = graph.value(id);
            if value.data.is_some() || !defined.insert(id) {
                return Err(VerifyError::Redefined { node: node.name.clone(), value: value.name.clone() });
            }
            if value.dtype != dtype || value.shape != shape {
                return Err(VerifyError::Mismatch {
                    node: node.name.clone(),
                    value: value.name.clone(),
                    stated: format!("{} {}", value.dtype, shape_text(&value.shape)),
                    inferred: format!("{dtype} {}", shape_text(&shape)),
                });
            }
        }
        if let (Op::Opaque(_), true) = (&node.op, node.outputs.is_empty()) {
            return Err(VerifyError::NoOutput { value: node.name.clone() });
        }
    }
    match graph.outputs.iter().find(|id| !known(id, &defined)) {
        Some(id) => Err(VerifyError::NoOutput { value: graph.value(*id).name.clone() }),
        None => Ok(()),
    }
}

fn quant_fault(q: &super::QuantParams, shape: &[super::Dim]) -> Option<String> {
    let expected = match q.axis {
        None => 1,
        Some(axis) => match shape.get(axis) {
            Some(super::Dim::Fixed(n)) => *n,
            _ => return Some(format!("quantized along axis {axis} of {}", shape_text(shape))),
        },
    };
    if q.scale.len() != expected || q.zero_point.len() != expected {
        return Some(format!("{} scales and {} zero points, expected {expected}", q.scale.len(), q.zero_point.len()));
    }
    let wrong = q.scale.iter().find(|s| !(s.is_finite() && **s > 0.0));
    wrong.map(|s| format!("scale {s} is not positive and finite"))
}
