//! Reading a model that was exported for one sample as one for any number of samples.
//!
//! That is sound when samples never meet: every value keeps the batch as its first axis, and no operator works along
//! that axis. Anything else keeps the batch of the file.

use super::super::proto::GraphProto;
use crate::graph::{Dim, Graph, Op, ValueId};

/// Whether every input has a first extent of exactly 1.
pub fn candidate(graph: &GraphProto) -> bool {
    let first = |v: &super::ValueInfoProto| {
        let shape = v.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?;
        shape.dim.first()?.dim_value
    };
    let initializer = |name: &str| graph.initializer.iter().any(|t| t.name == name);
    let mut inputs = graph.input.iter().filter(|v| !initializer(&v.name)).peekable();
    inputs.peek().is_some() && inputs.all(|v| first(v) == Some(1))
}

/// Whether samples stay apart in a graph whose inputs were given a batch.
pub fn sound(graph: &Graph) -> bool {
    let batched = |id: ValueId| graph.value(id).shape.first() == Some(&Dim::Batch);
    let constant = |id: ValueId| graph.value(id).data.is_some();
    graph.outputs.iter().all(|&id| batched(id))
        && graph.nodes.iter().all(|node| {
            let operand = |i: usize| node.input(i);
            let apart = match &node.op {
                Op::Opaque(_) => false,
                Op::Gemm { trans_a, .. } => !trans_a && operand(1).is_some_and(constant),
                Op::MatMul => operand(1).is_some_and(|id| constant(id) || graph.value(id).shape.len() > 2),
                Op::Conv(_) => operand(1).is_some_and(constant),
                Op::Softmax { axis } | Op::LogSoftmax { axis } | Op::Concat { axis } => *axis != 0,
                Op::Gather { axis } => *axis != 0 && operand(1).is_some_and(constant),
                Op::ReduceMean { axes, .. } | Op::Slice { axes, .. } => !axes.contains(&0),
                Op::Pad { pads, .. } => pads[0] == 0 && pads[pads.len() / 2] == 0,
                _ => true,
            };
            // A node of constants alone has no samples.
            let all_constant = node.inputs.iter().flatten().all(|&id| constant(id));
            all_constant || (apart && batched(node.output()))
        })
}
