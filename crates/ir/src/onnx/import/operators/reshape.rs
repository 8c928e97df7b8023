//! What gives the same elements other extents.

use super::super::super::tensor;
use super::super::call::Call;
use super::super::fault::{Fault, invalid, unsupported};
use super::super::plan::Plan;
use super::super::rebatch;
use super::super::symbolic::Element;
use crate::graph::{Dim, Op, elements, shape_text};

pub fn convert(call: &Call) -> Result<Option<Plan>, Fault> {
    let unary = |op| Plan::new(0..1, op);
    let plan = match call.proto.op_type.as_str() {
        "Flatten" => {
            let rank = call.rank(0)?;
            // Unlike other axes, this one may be the rank itself.
            let axis = match call.int("axis", 1) {
                axis if usize::try_from(axis) == Ok(rank) => rank,
                axis => Call::resolve_axis(axis, rank)?,
            };
            unary(Op::Flatten { axis })
        }
        "Reshape" => reshape(call),
        "Squeeze" => {
            let shape = call.shape(0)?;
            let axes = match call.moved_ints("axes", 1, 13)? {
                Some(axes) => Call::resolve_axes(&axes, shape.len())?,
                None => (0..shape.len()).filter(|&d| shape[d] == Dim::Fixed(1)).collect(),
            };
            unary(Op::Squeeze { axes })
        }
        "Unsqueeze" => match call.moved_ints("axes", 1, 13)? {
            Some(axes) => unary(Op::Unsqueeze { axes: Call::resolve_axes(&axes, call.rank(0)? + axes.len())? }),
            None => invalid("has no axes"),
        },
        _ => return Ok(None),
    };
    plan.map(Some)
}

fn reshape(call: &Call) -> Result<Plan, Fault> {
    let from = call.shape(0)?;
    let target = call.elements(1, "target extents")?;
    let mut shape = vec![];
    let mut open = None;
    for (i, extent) in target.iter().enumerate() {
        shape.push(match *extent {
            Element::Batch(times) => Dim::batches(usize::try_from(times).unwrap_or(usize::MAX)),
            Element::Known(0) if !call.flag("allowzero") => match from.get(i) {
                Some(dim) => *dim,
                None => {
                    return invalid(format!("the target {target:?} copies axis {i} of a rank-{} operand", from.len()));
                }
            },
            Element::Known(-1) if open.is_none() => {
                open = Some(i);
                Dim::Fixed(1)
            }
            Element::Known(n) => match usize::try_from(n) {
                Ok(n) => Dim::Fixed(n),
                Err(_) => return invalid(format!("the target has an extent of {n}")),
            },
        });
    }
    let batches = |shape: &[Dim]| shape.iter().filter(|d| d.is_batched()).count();
    let dims: Vec<usize> = shape.iter().map(|d| d.at(1)).collect();
    let Some(count) = tensor::element_count(&dims) else { return invalid(format!("impossible target {dims:?}")) };
    // A target that was written down for a number of samples says nothing of the batch.
    let written_for = call.importer.rebatch.filter(|_| batches(&from) == 1 && batches(&shape) == 0);
    if let Some(i) = open {
        let all = elements(&from).saturating_mul(written_for.unwrap_or(1));
        let rest = all.checked_div(count).filter(|q| q * count == all);
        let Some(rest) = rest else { return invalid(format!("{} does not reshape to {target:?}", shape_text(&from))) };
        shape[i] = match batches(&from).checked_sub(batches(&shape)) {
            _ if written_for.is_some() => Dim::Fixed(rest),
            Some(0) => Dim::Fixed(rest),
            Some(1) => Dim::batches(rest),
            _ => return unsupported("its target mixes the batch with other extents"),
        };
    }
    if let Some(batch) = written_for {
        let dims: Vec<usize> = shape.iter().map(|d| d.at(1)).collect();
        match rebatch::place(&from, call.runs(0), &dims, batch) {
            Some(i) => shape[i] = Dim::batches(dims[i] / batch),
            None => return unsupported("its target cuts samples apart"),
        }
    }
    if batches(&from) != batches(&shape) {
        return unsupported("its target fixes or mixes the batch");
    }
    Plan::new(0..1, Op::Reshape { shape })
}
