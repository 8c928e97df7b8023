//! What is computed of all elements along axes: reductions, extremes, running sums.

use super::super::call::Call;
use super::super::fault::{Fault, invalid};
use super::super::plan::Plan;
use crate::graph::{Op, Reduction};

pub fn convert(call: &Call) -> Result<Option<Plan>, Fault> {
    let name = call.proto.op_type.as_str();
    if let Some(reduction) = reduction(name) {
        return reduce(call, reduction).map(Some);
    }
    let plan = match name {
        "ReduceMean" => reduce_mean(call),
        "ArgMax" | "ArgMin" => {
            let (keepdims, last) = (call.int("keepdims", 1) != 0, call.flag("select_last_index"));
            Plan::new(0..1, Op::ArgExtreme { largest: name == "ArgMax", axis: call.axis(0)?, keepdims, last })
        }
        "CumSum" => {
            let wanted = call.known_ints(1, "axis")?;
            let [wanted] = wanted[..] else { return invalid("has no single axis") };
            let axis = Call::resolve_axis(wanted, call.rank(0)?)?;
            Plan::new(0..1, Op::CumSum { axis, exclusive: call.flag("exclusive"), reverse: call.flag("reverse") })
        }
        "TopK" => {
            let k = match call.opset < 10 {
                true => call.int("k", -1),
                false => call.known_ints(1, "k")?.first().copied().unwrap_or(-1),
            };
            let Ok(k) = usize::try_from(k) else { return invalid(format!("k is {k}")) };
            Plan::new(0..1, Op::TopK { axis: call.axis(-1)?, k, largest: call.int("largest", 1) != 0 })
        }
        _ => return Ok(None),
    };
    plan.map(Some)
}

fn reduce_mean(call: &Call) -> Result<Plan, Fault> {
    let rank = call.rank(0)?;
    let keepdims = call.int("keepdims", 1) != 0;
    let axes = match call.moved_ints("axes", 1, 18)?.filter(|axes| !axes.is_empty()) {
        Some(axes) => Call::resolve_axes(&axes, rank)?,
        None if call.flag("noop_with_empty_axes") => return Plan::new(0..1, Op::Identity),
        None => (0..rank).collect(),
    };
    Plan::new(0..1, Op::ReduceMean { axes, keepdims })
}

fn reduction(name: &str) -> Option<Reduction> {
    Some(match name {
        "ReduceSum" => Reduction::Sum,
        "ReduceMax" => Reduction::Max,
        "ReduceMin" => Reduction::Min,
        "ReduceProd" => Reduction::Prod,
        "ReduceL1" => Reduction::L1,
        "ReduceL2" => Reduction::L2,
        "ReduceLogSum" => Reduction::LogSum,
        "ReduceLogSumExp" => Reduction::LogSumExp,
        "ReduceSumSquare" => Reduction::SumSquare,
        _ => return None,
    })
}

fn reduce(call: &Call, reduction: Reduction) -> Result<Plan, Fault> {
    let rank = call.rank(0)?;
    let since = if reduction == Reduction::Sum { 13 } else { 18 };
    let axes = match call.moved_ints("axes", 1, since)?.filter(|axes| !axes.is_empty()) {
        Some(axes) => Call::resolve_axes(&axes, rank)?,
        // Nothing is summed up, and the rest of the function still applies to each element.
        None if call.flag("noop_with_empty_axes") => vec![],
        None => (0..rank).collect(),
    };
    Plan::new(0..1, Op::Reduce { reduction, axes, keepdims: call.int("keepdims", 1) != 0 })
}
