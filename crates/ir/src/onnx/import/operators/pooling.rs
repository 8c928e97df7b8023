//! Pooling.

use super::super::call::Call;
use super::super::fault::{Fault, invalid, unsupported};
use super::super::plan::Plan;
use super::window::{pads, spatial};
use crate::graph::{Op, Pool, Unread};

pub fn convert(call: &Call) -> Result<Option<Plan>, Fault> {
    let unary = |op| Plan::new(0..1, op);
    let plan = match call.proto.op_type.as_str() {
        "MaxPool" if call.has_side_results() => unsupported(Unread::Indices),
        "MaxPool" => unary(Op::MaxPool(pool(call)?)),
        "AveragePool" => unary(Op::AveragePool(pool(call)?)),
        "GlobalAveragePool" => unary(Op::GlobalAveragePool),
        "GlobalMaxPool" => unary(Op::GlobalMaxPool),
        _ => return Ok(None),
    };
    plan.map(Some)
}

fn pool(call: &Call) -> Result<Pool, Fault> {
    let spatial = spatial(call)?;
    let n = spatial.len();
    if call.attribute("kernel_shape").is_none() {
        return invalid("has no kernel_shape");
    }
    let kernel = call.sizes("kernel_shape", n, 1, 1)?;
    let strides = call.sizes("strides", n, 1, 1)?;
    let dilations = call.sizes("dilations", n, 1, 1)?;
    let pads = pads(call, &spatial, &kernel, &strides, &dilations)?;
    let (ceil_mode, count_include_pad) = (call.flag("ceil_mode"), call.flag("count_include_pad"));
    Ok(Pool { kernel, strides, pads, dilations, ceil_mode, count_include_pad })
}
