//! What moves elements or repeats them, wherever they are.

use super::super::call::Call;
use super::super::fault::{Fault, invalid, unsupported};
use super::super::plan::Plan;
use super::super::symbolic::dims;
use crate::graph::{Dim, Op, PadMode, shape_text};

pub fn convert(call: &Call) -> Result<Option<Plan>, Fault> {
    let name = call.proto.op_type.as_str();
    let unary = |op| Plan::new(0..1, op);
    let plan = match name {
        "Concat" => Plan::new(0..call.proto.input.len(), Op::Concat { axis: call.axis(1)? }),
        "Transpose" => {
            let rank = call.rank(0)?;
            let perm: Option<Vec<usize>> = match call.ints("perm") {
                Some(perm) => perm.iter().map(|&p| usize::try_from(p).ok().filter(|&p| p < rank)).collect(),
                None => Some((0..rank).rev().collect()),
            };
            match perm {
                Some(perm) => unary(Op::Transpose { perm }),
                None => invalid(format!("perm {:?} for a rank-{rank} operand", call.ints("perm"))),
            }
        }
        "Pad" => pad(call),
        "Expand" => expand(call),
        "Tile" => {
            let repeats = call.known_ints(1, "repeats")?;
            let repeats: Option<Vec<usize>> = repeats.iter().map(|&n| usize::try_from(n).ok()).collect();
            match repeats {
                Some(repeats) => Plan::new(0..1, Op::Tile { repeats }),
                None => invalid("repeats less than nothing"),
            }
        }
        "Split" => split(call),
        "DepthToSpace" | "SpaceToDepth" => {
            let Some(block) = usize::try_from(call.int("blocksize", 0)).ok().filter(|n| (1..1 << 12).contains(n))
            else {
                return invalid("has no blocksize");
            };
            let columns_first = call.text("mode", "DCR") == "CRD";
            let deeper = name == "SpaceToDepth";
            Plan::new(0..1, if deeper { Op::SpaceToDepth { block } } else { Op::DepthToSpace { block, columns_first } })
        }
        "Trilu" => {
            let k = if call.operand(1).is_some() { call.known_ints(1, "diagonal")?.first().copied() } else { None };
            Plan::new(0..1, Op::Trilu { upper: call.int("upper", 1) != 0, k: k.unwrap_or(0) })
        }
        _ => return Ok(None),
    };
    plan.map(Some)
}

fn pad(call: &Call) -> Result<Plan, Fault> {
    let rank = call.rank(0)?;
    let Some(given) = call.moved_ints("pads", 1, 11)? else { return invalid("has no pads") };
    let axes = match call.opset >= 18 && call.operand(3).is_some() {
        // Not sorted: the order of `pads` follows them.
        true => call.known_ints(3, "axes")?.iter().map(|&a| Call::resolve_axis(a, rank)).collect::<Result<_, _>>()?,
        false => (0..rank).collect::<Vec<usize>>(),
    };
    if given.len() != 2 * axes.len() || given.iter().any(|p| p.unsigned_abs() > 1 << 24) {
        return invalid(format!("pads {given:?} for {} axes", axes.len()));
    }
    let mut pads = vec![0; 2 * rank];
    for (i, &axis) in axes.iter().enumerate() {
        (pads[axis], pads[axis + rank]) = (given[i], given[i + axes.len()]);
    }
    let value = match call.opset < 11 {
        true => call.float("value", 0.0),
        false => call.scalar(2, "fill value", 0.0)?,
    };
    let mode = match call.text("mode", "constant").as_str() {
        "constant" => PadMode::Constant(value),
        "reflect" => PadMode::Reflect,
        "edge" => PadMode::Edge,
        "wrap" => PadMode::Wrap,
        other => return unsupported(format!("pads by mode {other}")),
    };
    Plan::new(0..1, Op::Pad { pads, mode })
}

fn expand(call: &Call) -> Result<Plan, Fault> {
    let (from, to) = (call.shape(0)?, dims(&call.elements(1, "target extents")?)?);
    let rank = from.len().max(to.len());
    let at = |s: &[Dim], d: usize| (d + s.len()).checked_sub(rank).map_or(Dim::Fixed(1), |i| s[i]);
    let mut shape = vec![];
    let batch = call.importer.rebatch.map(Dim::Fixed);
    for d in 0..rank {
        shape.push(match (at(&from, d), at(&to, d)) {
            (a, b) if a == b => a,
            (Dim::Batch, b) if Some(b) == batch => Dim::Batch,
            (Dim::Fixed(1), b) if d == 0 && Some(b) == batch => Dim::Batch,
            (Dim::Fixed(1), b) => b,
            (a, Dim::Fixed(1)) => a,
            _ if batch.is_some() => return unsupported("mixes the batch with other extents"),
            _ => return invalid(format!("{} does not expand to {}", shape_text(&from), shape_text(&to))),
        });
    }
    Plan::new(0..1, Op::Expand { shape })
}

fn split(call: &Call) -> Result<Plan, Fault> {
    let shape = call.shape(0)?;
    let axis = Call::resolve_axis(call.int("axis", 0), shape.len())?;
    let Dim::Fixed(extent) = shape[axis] else { return unsupported("splits the batch") };
    let count = call.proto.output.len();
    let sizes = match call.moved_ints("split", 1, 13)? {
        Some(sizes) => sizes.iter().map(|&n| usize::try_from(n).ok()).collect::<Option<Vec<usize>>>(),
        None => {
            let size = extent.div_ceil(count.max(1));
            Some((0..count).map(|i| size.min(extent.saturating_sub(i * size))).collect())
        }
    };
    let sum = |sizes: &Vec<usize>| sizes.iter().try_fold(0usize, |a, &b| a.checked_add(b));
    match sizes.filter(|sizes| sizes.len() == count && sum(sizes) == Some(extent)) {
        Some(sizes) => Plan::new(0..1, Op::Split { axis, sizes }),
        None => invalid(format!("its parts are not the {extent} of axis {axis}")),
    }
}
