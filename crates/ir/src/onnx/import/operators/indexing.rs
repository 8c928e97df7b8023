//! What picks elements by their positions, or marks positions.

use super::super::call::Call;
use super::super::fault::{Fault, invalid, unsupported};
use super::super::plan::Plan;
use super::super::symbolic::Element;
use crate::graph::{Dim, Op};

pub fn convert(call: &Call) -> Result<Option<Plan>, Fault> {
    let plan = match call.proto.op_type.as_str() {
        "Gather" => gather(call),
        "Slice" => slice(call),
        "GatherElements" => Plan::new(0..2, Op::GatherElements { axis: call.axis(0)? }),
        "GatherND" => match usize::try_from(call.int("batch_dims", 0)) {
            Ok(batch_dims) => Plan::new(0..2, Op::GatherNd { batch_dims }),
            Err(_) => invalid("batch_dims is negative"),
        },
        "OneHot" => {
            let depth = call.scalar(1, "depth", 0.0)?;
            if !(1.0..=16_777_216.0).contains(&depth) {
                return invalid(format!("a depth of {depth}"));
            }
            let axis = Call::resolve_axis(call.int("axis", -1), call.rank(0)? + 1)?;
            Ok(Plan { operands: vec![0, 2], ops: vec![Op::OneHot { axis, depth: depth as usize }] })
        }
        _ => return Ok(None),
    };
    plan.map(Some)
}

fn gather(call: &Call) -> Result<Plan, Fault> {
    let shape = call.shape(0)?;
    let axis = Call::resolve_axis(call.int("axis", 0), shape.len())?;
    if let (Some(indices), Dim::Fixed(extent)) = (call.symbolic(1), shape[axis]) {
        let out = |e: &Element| e.known().is_some_and(|i| i >= extent as i64 || i < -(extent as i64));
        if indices.elements.iter().any(out) {
            return invalid(format!("an index is outside the {extent} of axis {axis}"));
        }
    }
    Plan::new(0..2, Op::Gather { axis })
}

fn slice(call: &Call) -> Result<Plan, Fault> {
    let shape = call.shape(0)?;
    let missing = |what: &str| Fault::Invalid(format!("has no {what}"));
    let starts = call.moved_ints("starts", 1, 10)?.ok_or_else(|| missing("starts"))?;
    let ends = call.moved_ints("ends", 2, 10)?.ok_or_else(|| missing("ends"))?;
    let axes = call.moved_ints("axes", 3, 10)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = match call.opset < 10 || call.operand(4).is_none() {
        true => vec![1; starts.len()],
        false => call.known_ints(4, "steps")?,
    };
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() || steps.contains(&0) {
        return invalid("starts, ends, axes and steps do not fit together");
    }
    Call::resolve_axes(&axes, shape.len())?;
    let (mut s, mut e, mut a, mut t) = (vec![], vec![], vec![], vec![]);
    for i in 0..starts.len() {
        let axis = Call::resolve_axis(axes[i], shape.len())?;
        let Dim::Fixed(extent) = shape[axis] else {
            let all = call.importer.rebatch.map_or(i64::from(i32::MAX), |batch| batch as i64);
            if starts[i] == 0 && ends[i] >= all && steps[i] == 1 {
                continue;
            }
            return unsupported("picks samples of the batch");
        };
        let extent = extent as i64;
        let from_end = |n: i64| if n < 0 { n.saturating_add(extent) } else { n };
        let (low, high) = if steps[i] > 0 { (0, extent) } else { (-1, extent - 1) };
        s.push(from_end(starts[i]).clamp(low.max(0).min(high), high));
        e.push(from_end(ends[i]).clamp(low.min(high), high));
        a.push(axis);
        t.push(steps[i]);
    }
    if a.is_empty() {
        return Plan::new(0..1, Op::Identity);
    }
    Plan::new(0..1, Op::Slice { starts: s, ends: e, axes: a, steps: t })
}
