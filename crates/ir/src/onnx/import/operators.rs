//! One place per operator: a node of any opset → [`Op`] in its one form.
//!
//! Specification and history of each operator: <https://github.com/onnx/onnx/blob/main/docs/Changelog.md>. An opset
//! number here is where the meaning or the place of an attribute changed.

use super::super::tensor;
use super::call::{Call, Fault, Why};
use super::more;
use super::rebatch;
use super::symbolic::Element;
use crate::graph::{AutoPad, Conv, Dim, Op, PadMode, Pool, Unread, elements, shape_text};

/// What a node becomes: operators in a row, the first of which reads these operands of the node.
pub struct Plan {
    pub operands: Vec<usize>,
    pub ops: Vec<Op>,
}

impl Plan {
    pub fn new(operands: std::ops::Range<usize>, op: Op) -> Result<Plan, Fault> {
        Ok(Plan { operands: operands.collect(), ops: vec![op] })
    }
}

pub fn wrong<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Wrong(what.into()))
}

pub fn foreign<T>(why: impl Into<Why>) -> Result<T, Fault> {
    Err(Fault::Foreign(why.into()))
}

/// Converts a node of the standard domain.
///
/// # Errors
/// When the node contradicts its operator, or the graph has no way to say what it does.
pub fn convert(call: &Call) -> Result<Plan, Fault> {
    let unary = |op| Plan::new(0..1, op);
    let binary = |op| Plan::new(0..2, op);
    match call.proto.op_type.as_str() {
        "Conv" => {
            let conv = conv(call)?;
            if call.operand(2).is_some() && call.shape(2)? != call.shape(1)?[..1] {
                return wrong("the bias does not have one element per filter");
            }
            Plan::new(0..3, Op::Conv(conv))
        }
        "Gemm" => gemm(call),
        "MatMul" if call.rank(0)? < 2 || call.rank(1)? < 2 => foreign("multiplies by a vector"),
        "MatMul" => binary(Op::MatMul),
        "BatchNormalization" => batch_normalization(call),
        "Relu" => unary(Op::Relu),
        "Clip" => clip(call),
        "LeakyRelu" => unary(Op::LeakyRelu { alpha: call.float("alpha", 0.01) }),
        "Sigmoid" => unary(Op::Sigmoid),
        "Tanh" => unary(Op::Tanh),
        "HardSwish" => unary(Op::HardSwish),
        "HardSigmoid" => unary(Op::HardSigmoid { alpha: call.float("alpha", 0.2), beta: call.float("beta", 0.5) }),
        "Add" => binary(Op::Add),
        "Sub" => binary(Op::Sub),
        "Mul" => binary(Op::Mul),
        "Div" => binary(Op::Div),
        "Concat" => {
            let axis = Call::resolve_axis(call.int("axis", 1), call.rank(0)?)?;
            Plan::new(0..call.proto.input.len(), Op::Concat { axis })
        }
        "MaxPool" if call.has_side_results() => foreign(Unread::Indices),
        "MaxPool" => unary(Op::MaxPool(pool(call)?)),
        "AveragePool" => unary(Op::AveragePool(pool(call)?)),
        "GlobalAveragePool" => unary(Op::GlobalAveragePool),
        "GlobalMaxPool" => unary(Op::GlobalMaxPool),
        "ReduceMean" => reduce_mean(call),
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
        "Transpose" => {
            let rank = call.rank(0)?;
            let perm: Option<Vec<usize>> = match call.ints("perm") {
                Some(perm) => perm.iter().map(|&p| usize::try_from(p).ok().filter(|&p| p < rank)).collect(),
                None => Some((0..rank).rev().collect()),
            };
            match perm {
                Some(perm) => unary(Op::Transpose { perm }),
                None => wrong(format!("perm {:?} for a rank-{rank} operand", call.ints("perm"))),
            }
        }
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
            None => wrong("has no axes"),
        },
        "Pad" => pad(call),
        "Softmax" => softmax(call, |axis| Op::Softmax { axis }),
        "LogSoftmax" => softmax(call, |axis| Op::LogSoftmax { axis }),
        "Dropout" if call.drops()? => foreign(Unread::Training),
        "Dropout" => unary(Op::Dropout),
        "Identity" => unary(Op::Identity),
        "Cast" => unary(Op::Cast { to: call.dtype_attribute("to")? }),
        "CastLike" => {
            let code = call.stated_type(1).unwrap_or(tensor::dtype_code(call.dtype(1)?));
            // Of what follows an unknown operator, the type is not known either.
            call.shape(1)?;
            unary(Op::Cast { to: Call::dtype_of(code)? })
        }
        "Gather" => gather(call),
        "Slice" => slice(call),
        _ => more::convert(call),
    }
}

fn spatial(call: &Call) -> Result<Vec<Dim>, Fault> {
    match call.shape(0)? {
        shape if shape.len() >= 3 => Ok(shape[2..].to_vec()),
        shape => wrong(format!("wants [batch, channels, spatial…], has rank {}", shape.len())),
    }
}

/// A convolution's attributes.
pub fn conv(call: &Call) -> Result<Conv, Fault> {
    let (conv, spatial) = convolution(call)?;
    let pads = pads(call, &spatial, &conv.kernel, &conv.strides, &conv.dilations)?;
    Ok(Conv { pads, ..conv })
}

/// A convolution's attributes but for its pads, and the operand's spatial extents.
pub fn convolution(call: &Call) -> Result<(Conv, Vec<Dim>), Fault> {
    let weights = call.shape(1)?;
    let spatial = spatial(call)?;
    if weights.len() != spatial.len() + 2 {
        return wrong(format!("weights of rank {} for an operand of rank {}", weights.len(), spatial.len() + 2));
    }
    let n = spatial.len();
    let of_weights: Vec<usize> = weights[2..].iter().map(|d| d.at(1)).collect();
    let kernel = match call.attribute("kernel_shape") {
        Some(_) => call.sizes("kernel_shape", n, 1, 1)?,
        None => of_weights,
    };
    let strides = call.sizes("strides", n, 1, 1)?;
    let dilations = call.sizes("dilations", n, 1, 1)?;
    let group = match usize::try_from(call.int("group", 1)) {
        Ok(group) if (1..=1 << 24).contains(&group) => group,
        _ => return wrong(format!("group {}", call.int("group", 1))),
    };
    Ok((Conv { kernel, strides, pads: vec![0; 2 * n], dilations, group }, spatial))
}

/// Pads that are given as such.
pub fn resolved_pads(call: &Call, axes: usize) -> Result<Vec<usize>, Fault> {
    call.sizes("pads", 2 * axes, 0, 0)
}

fn pool(call: &Call) -> Result<Pool, Fault> {
    let spatial = spatial(call)?;
    let n = spatial.len();
    if call.attribute("kernel_shape").is_none() {
        return wrong("has no kernel_shape");
    }
    let kernel = call.sizes("kernel_shape", n, 1, 1)?;
    let strides = call.sizes("strides", n, 1, 1)?;
    let dilations = call.sizes("dilations", n, 1, 1)?;
    let pads = pads(call, &spatial, &kernel, &strides, &dilations)?;
    let (ceil_mode, count_include_pad) = (call.flag("ceil_mode"), call.flag("count_include_pad"));
    Ok(Pool { kernel, strides, pads, dilations, ceil_mode, count_include_pad })
}

/// Explicit pads, whichever way the node asks for them.
fn pads(
    call: &Call,
    spatial: &[Dim],
    kernel: &[usize],
    strides: &[usize],
    dilations: &[usize],
) -> Result<Vec<usize>, Fault> {
    let n = spatial.len();
    let auto = match call.text("auto_pad", "NOTSET").as_str() {
        "" | "NOTSET" => AutoPad::NotSet,
        "VALID" => AutoPad::Valid,
        "SAME_UPPER" => AutoPad::SameUpper,
        "SAME_LOWER" => AutoPad::SameLower,
        other => return wrong(format!("auto_pad '{other}'")),
    };
    match auto {
        AutoPad::NotSet => return call.sizes("pads", 2 * n, 0, 0),
        AutoPad::Valid => return Ok(vec![0; 2 * n]),
        AutoPad::SameUpper | AutoPad::SameLower => {}
    }
    let mut pads = vec![0; 2 * n];
    for d in 0..n {
        let Dim::Fixed(extent) = spatial[d] else { return foreign("pads an extent that is the batch") };
        let covered = (extent.div_ceil(strides[d]).saturating_sub(1)) * strides[d] + (kernel[d] - 1) * dilations[d] + 1;
        let total = covered.saturating_sub(extent);
        let less = total / 2;
        let begin = if auto == AutoPad::SameUpper { less } else { total - less };
        (pads[d], pads[d + n]) = (begin, total - begin);
    }
    Ok(pads)
}

fn gemm(call: &Call) -> Result<Plan, Fault> {
    let op = Op::Gemm {
        alpha: call.float("alpha", 1.0),
        beta: call.float("beta", 1.0),
        trans_a: call.flag("transA"),
        trans_b: call.flag("transB"),
    };
    if call.operand(2).is_some() {
        let side = |i: usize, axis: usize| Ok::<_, Fault>(call.shape(i)?.get(axis).copied());
        let rows = side(0, call.flag("transA").into())?;
        let columns = side(1, (!call.flag("transB")).into())?;
        let added = call.shape(2)?;
        let fits = |from_end: usize, extent: Option<Dim>| {
            let dim = added.len().checked_sub(from_end).map_or(Dim::Fixed(1), |d| added[d]);
            dim == Dim::Fixed(1) || Some(dim) == extent
        };
        if added.len() > 2 || !fits(1, columns) || !fits(2, rows) {
            return wrong(format!("operand 2 is {}, which does not broadcast to the product", shape_text(&added)));
        }
    }
    Plan::new(0..3, op)
}

fn batch_normalization(call: &Call) -> Result<Plan, Fault> {
    if call.has_side_results() {
        return foreign("updates its statistics, as it was exported for training");
    }
    if call.int("spatial", 1) == 0 {
        return foreign("normalises every position on its own");
    }
    Plan::new(0..5, Op::BatchNormalization { epsilon: call.float("epsilon", 1e-5) })
}

fn clip(call: &Call) -> Result<Plan, Fault> {
    let (min, max) = match call.opset < 11 {
        true => (call.float("min", f32::MIN), call.float("max", f32::MAX)),
        false => (call.scalar(1, "min", f32::MIN)?, call.scalar(2, "max", f32::MAX)?),
    };
    // The widest finite bounds are how files say "none".
    let min = if min <= f32::MIN { f32::NEG_INFINITY } else { min };
    let max = if max >= f32::MAX { f32::INFINITY } else { max };
    if min.is_nan() || max.is_nan() {
        return wrong(format!("clips to {min}..{max}"));
    }
    // Where the bounds cross, everything becomes the upper one (ONNX's operator 13 says so).
    Plan::new(0..1, Op::Clip { min: min.min(max), max })
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
                    return wrong(format!("the target {target:?} copies axis {i} of a rank-{} operand", from.len()));
                }
            },
            Element::Known(-1) if open.is_none() => {
                open = Some(i);
                Dim::Fixed(1)
            }
            Element::Known(n) => match usize::try_from(n) {
                Ok(n) => Dim::Fixed(n),
                Err(_) => return wrong(format!("the target has an extent of {n}")),
            },
        });
    }
    let batches = |shape: &[Dim]| shape.iter().filter(|d| d.is_batched()).count();
    let dims: Vec<usize> = shape.iter().map(|d| d.at(1)).collect();
    let Some(count) = super::tensor::element_count(&dims) else { return wrong(format!("impossible target {dims:?}")) };
    // A target that was written down for a number of samples says nothing of the batch.
    let written_for = call.importer.rebatch.filter(|_| batches(&from) == 1 && batches(&shape) == 0);
    if let Some(i) = open {
        let all = elements(&from).saturating_mul(written_for.unwrap_or(1));
        let rest = all.checked_div(count).filter(|q| q * count == all);
        let Some(rest) = rest else { return wrong(format!("{} does not reshape to {target:?}", shape_text(&from))) };
        shape[i] = match batches(&from).checked_sub(batches(&shape)) {
            _ if written_for.is_some() => Dim::Fixed(rest),
            Some(0) => Dim::Fixed(rest),
            Some(1) => Dim::batches(rest),
            _ => return foreign("its target mixes the batch with other extents"),
        };
    }
    if let Some(batch) = written_for {
        let dims: Vec<usize> = shape.iter().map(|d| d.at(1)).collect();
        match rebatch::place(&from, call.runs(0), &dims, batch) {
            Some(i) => shape[i] = Dim::batches(dims[i] / batch),
            None => return foreign("its target cuts samples apart"),
        }
    }
    if batches(&from) != batches(&shape) {
        return foreign("its target fixes or mixes the batch");
    }
    Plan::new(0..1, Op::Reshape { shape })
}

fn pad(call: &Call) -> Result<Plan, Fault> {
    let rank = call.rank(0)?;
    let Some(given) = call.moved_ints("pads", 1, 11)? else { return wrong("has no pads") };
    let axes = match call.opset >= 18 && call.operand(3).is_some() {
        // Not sorted: the order of `pads` follows them.
        true => call.known_ints(3, "axes")?.iter().map(|&a| Call::resolve_axis(a, rank)).collect::<Result<_, _>>()?,
        false => (0..rank).collect::<Vec<usize>>(),
    };
    if given.len() != 2 * axes.len() || given.iter().any(|p| p.unsigned_abs() > 1 << 24) {
        return wrong(format!("pads {given:?} for {} axes", axes.len()));
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
        other => return foreign(format!("pads by mode {other}")),
    };
    Plan::new(0..1, Op::Pad { pads, mode })
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
        return foreign("normalises across the batch");
    }
    let mut rows = shape[..axis].to_vec();
    rows.push(Dim::Fixed(elements(&shape[axis..])));
    Ok(Plan { operands: vec![0], ops: vec![Op::Reshape { shape: rows }, op(axis), Op::Reshape { shape }] })
}

fn gather(call: &Call) -> Result<Plan, Fault> {
    let shape = call.shape(0)?;
    let axis = Call::resolve_axis(call.int("axis", 0), shape.len())?;
    if let (Some(indices), Dim::Fixed(extent)) = (call.symbolic(1), shape[axis]) {
        let out = |e: &Element| e.known().is_some_and(|i| i >= extent as i64 || i < -(extent as i64));
        if indices.elements.iter().any(out) {
            return wrong(format!("an index is outside the {extent} of axis {axis}"));
        }
    }
    Plan::new(0..2, Op::Gather { axis })
}

fn slice(call: &Call) -> Result<Plan, Fault> {
    let shape = call.shape(0)?;
    let missing = |what: &str| Fault::Wrong(format!("has no {what}"));
    let starts = call.moved_ints("starts", 1, 10)?.ok_or_else(|| missing("starts"))?;
    let ends = call.moved_ints("ends", 2, 10)?.ok_or_else(|| missing("ends"))?;
    let axes = call.moved_ints("axes", 3, 10)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = match call.opset < 10 || call.operand(4).is_none() {
        true => vec![1; starts.len()],
        false => call.known_ints(4, "steps")?,
    };
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() || steps.contains(&0) {
        return wrong("starts, ends, axes and steps do not fit together");
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
            return foreign("picks samples of the batch");
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
