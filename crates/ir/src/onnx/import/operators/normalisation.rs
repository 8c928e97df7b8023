//! Normalisations, softmax among them.

use super::super::call::Call;
use super::super::fault::{Fault, invalid, unsupported};
use super::super::plan::Plan;
use crate::graph::{Dim, Op, Unread, elements};

pub fn convert(call: &Call) -> Result<Option<Plan>, Fault> {
    let plan = match call.proto.op_type.as_str() {
        "BatchNormalization" => batch_normalization(call),
        "Softmax" => softmax(call, |axis| Op::Softmax { axis }),
        "LogSoftmax" => softmax(call, |axis| Op::LogSoftmax { axis }),
        "LayerNormalization" => {
            Plan::new(0..3, Op::LayerNormalization { axis: call.axis(-1)?, epsilon: call.float("epsilon", 1e-5) })
        }
        "InstanceNormalization" => Plan::new(0..3, Op::InstanceNormalization { epsilon: call.float("epsilon", 1e-5) }),
        "GroupNormalization" => {
            let groups = usize::try_from(call.int("num_groups", 0)).unwrap_or(0);
            let channels = call.shape(0)?.get(1).map_or(0, |d| d.at(1));
            if groups == 0 || channels % groups != 0 {
                return invalid(format!("{groups} groups of {channels} channels"));
            }
            if call.shape(1)? != [Dim::Fixed(channels)] {
                return unsupported(Unread::GroupScales);
            }
            Plan::new(0..3, Op::GroupNormalization { groups, epsilon: call.float("epsilon", 1e-5) })
        }
        "LRN" => {
            let Some(size) = usize::try_from(call.int("size", 0)).ok().filter(|&n| n > 0) else {
                return invalid("has no size");
            };
            let (alpha, beta) = (call.float("alpha", 1e-4), call.float("beta", 0.75));
            Plan::new(0..1, Op::Lrn { size, alpha, beta, bias: call.float("bias", 1.0) })
        }
        "LpNormalization" => match call.int("p", 2) {
            order @ 1..=2 => Plan::new(0..1, Op::LpNormalization { axis: call.axis(-1)?, order: order as usize }),
            order => invalid(format!("a norm of order {order}")),
        },
        _ => return Ok(None),
    };
    plan.map(Some)
}

fn batch_normalization(call: &Call) -> Result<Plan, Fault> {
    if call.has_side_results() {
        return unsupported("updates its statistics, as it was exported for training");
    }
    if call.int("spatial", 1) == 0 {
        return unsupported("normalises every position on its own");
    }
    Plan::new(0..5, Op::BatchNormalization { epsilon: call.float("epsilon", 1e-5) })
}

/// Before opset 13 the operand was seen as a matrix, split at the axis, and each row normalised.
fn softmax(call: &Call, op: fn(usize) -> Op) -> Result<Plan, Fault> {
    let shape = call.shape(0)?;
    let coerced = call.opset < 13;
    let axis = Call::resolve_axis(call.int("axis", if coerced { 1 } else { -1 }), shape.len())?;
    if !coerced || shape[axis + 1..].iter().all(|d| *d == Dim::Fixed(1)) {
        return Plan::new(0..1, op(axis));
    }
    if shape[axis..].contains(&Dim::Batch) {
        return unsupported("normalises across the batch");
    }
    let mut rows = shape[..axis].to_vec();
    rows.push(Dim::Fixed(elements(&shape[axis..])));
    Ok(Plan { operands: vec![0], ops: vec![Op::Reshape { shape: rows }, op(axis), Op::Reshape { shape }] })
}
