//! Shape inference: the element type and extents of every result, from the operands.
//!
//! Follows the shape rules of the ONNX operator specification. The batch stays symbolic; an operator that would mix
//! it with a known extent is an error that names the node.

use super::{Conv, DType, Dim, Graph, Node, Op, Pool, Shape, shape_text};

/// Why a node does not fit its operands.
#[derive(Debug, Clone, thiserror::Error, PartialEq)]
#[error("node '{node}' ({op}): {what}")]
pub struct InferError {
    /// The node's name.
    pub node: String,
    /// Its operator.
    pub op: String,
    /// What does not fit.
    pub what: String,
}

/// Infers every result of the graph anew, in order.
///
/// # Errors
/// The first node that does not fit its operands.
pub fn infer_shapes(graph: &mut Graph) -> Result<(), InferError> {
    for i in 0..graph.nodes.len() {
        let inferred = infer_node(graph, &graph.nodes[i])?;
        let outputs = graph.nodes[i].outputs.clone();
        for (id, (dtype, shape)) in outputs.into_iter().zip(inferred) {
            let value = graph.value_mut(id);
            value.dtype = dtype;
            value.shape = shape;
        }
    }
    Ok(())
}

/// The element type and shape of each result of one node. An opaque node keeps what its values already say.
///
/// # Errors
/// When the operands do not fit the operator.
pub fn infer_node(graph: &Graph, node: &Node) -> Result<Vec<(DType, Shape)>, InferError> {
    let fail = |what: String| InferError { node: node.name.clone(), op: node.op.name().to_string(), what };
    let operand = |i: usize| {
        let id = node.input(i).ok_or_else(|| fail(format!("operand {i} is missing")))?;
        Ok(graph.value(id))
    };
    if let Op::Opaque(_) = node.op {
        return Ok(node.outputs.iter().map(|&id| (graph.value(id).dtype, graph.value(id).shape.clone())).collect());
    }
    let x = operand(0)?;
    let (dtype, xs) = (x.dtype, &x.shape);
    let rank = xs.len();
    let check_axis = |axis: usize, rank: usize| match axis < rank {
        true => Ok(()),
        false => Err(fail(format!("axis {axis} of a rank-{rank} operand"))),
    };
    let shape: Shape = match &node.op {
        Op::Conv(conv) => conv_shape(conv, xs, &operand(1)?.shape).map_err(fail)?,
        Op::Gemm { trans_a, trans_b, .. } => {
            let ws = &operand(1)?.shape;
            if rank != 2 || ws.len() != 2 {
                return Err(fail(format!("wants two matrices, has {} and {}", shape_text(xs), shape_text(ws))));
            }
            let (m, k) = if *trans_a { (xs[1], xs[0]) } else { (xs[0], xs[1]) };
            let (k2, n) = if *trans_b { (ws[1], ws[0]) } else { (ws[0], ws[1]) };
            if k != k2 {
                return Err(fail(format!("inner extents {k} and {k2} differ")));
            }
            vec![m, n]
        }
        Op::MatMul => matmul_shape(xs, &operand(1)?.shape).map_err(fail)?,
        Op::Add | Op::Sub | Op::Mul | Op::Div => broadcast(xs, &operand(1)?.shape).map_err(fail)?,
        Op::BatchNormalization { .. } => {
            let channels = xs.get(1).ok_or_else(|| fail("wants [batch, channels, …]".into()))?;
            for i in 1..5 {
                if operand(i)?.shape != [*channels] {
                    return Err(fail(format!(
                        "operand {i} is {}, expected [{channels}]",
                        shape_text(&operand(i)?.shape)
                    )));
                }
            }
            xs.clone()
        }
        Op::Relu
        | Op::Clip { .. }
        | Op::LeakyRelu { .. }
        | Op::Sigmoid
        | Op::Tanh
        | Op::HardSwish
        | Op::HardSigmoid { .. }
        | Op::Dropout
        | Op::Identity => xs.clone(),
        Op::Softmax { axis } | Op::LogSoftmax { axis } => {
            check_axis(*axis, rank)?;
            xs.clone()
        }
        Op::Cast { to } => return Ok(vec![(*to, xs.clone())]),
        Op::Concat { axis } => {
            check_axis(*axis, rank)?;
            let mut shape = xs.clone();
            for i in 1..node.inputs.len() {
                let other = &operand(i)?.shape;
                let same = other.len() == rank && (0..rank).all(|d| d == *axis || other[d] == xs[d]);
                let (Dim::Fixed(a), Some(Dim::Fixed(b)), true) = (shape[*axis], other.get(*axis), same) else {
                    return Err(fail(format!("{} and {} along axis {axis}", shape_text(xs), shape_text(other))));
                };
                shape[*axis] = Dim::Fixed(a + b);
            }
            shape
        }
        Op::MaxPool(pool) | Op::AveragePool(pool) => pool_shape(pool, xs).map_err(fail)?,
        Op::GlobalAveragePool | Op::GlobalMaxPool => {
            if rank < 3 {
                return Err(fail(format!("wants [batch, channels, spatial…], has {}", shape_text(xs))));
            }
            xs[..2].iter().copied().chain(std::iter::repeat_n(Dim::Fixed(1), rank - 2)).collect()
        }
        Op::ReduceMean { axes, keepdims } => {
            axes.iter().try_for_each(|&a| check_axis(a, rank))?;
            let reduced = |d: usize| axes.contains(&d);
            match keepdims {
                true => (0..rank).map(|d| if reduced(d) { Dim::Fixed(1) } else { xs[d] }).collect(),
                false => (0..rank).filter(|&d| !reduced(d)).map(|d| xs[d]).collect(),
            }
        }
        Op::Flatten { axis } => {
            if *axis > rank {
                return Err(fail(format!("axis {axis} of a rank-{rank} operand")));
            }
            vec![product(&xs[..*axis]).map_err(fail)?, product(&xs[*axis..]).map_err(fail)?]
        }
        Op::Reshape { shape } => {
            let (from, to) = (super::elements(xs), super::elements(shape));
            let batches = |s: &[Dim]| s.iter().filter(|d| **d == Dim::Batch).count();
            if from != to || batches(xs) != batches(shape) {
                return Err(fail(format!("{} does not reshape to {}", shape_text(xs), shape_text(shape))));
            }
            shape.clone()
        }
        Op::Transpose { perm } => {
            let mut sorted = perm.clone();
            sorted.sort_unstable();
            if sorted != (0..rank).collect::<Vec<_>>() {
                return Err(fail(format!("{perm:?} is not a permutation of {rank} axes")));
            }
            perm.iter().map(|&p| xs[p]).collect()
        }
        Op::Squeeze { axes } => {
            axes.iter().try_for_each(|&a| check_axis(a, rank))?;
            if let Some(a) = axes.iter().find(|&&a| xs[a] != Dim::Fixed(1)) {
                return Err(fail(format!("axis {a} of {} is not 1", shape_text(xs))));
            }
            (0..rank).filter(|d| !axes.contains(d)).map(|d| xs[d]).collect()
        }
        Op::Unsqueeze { axes } => {
            let out = rank + axes.len();
            axes.iter().try_for_each(|&a| check_axis(a, out))?;
            let mut source = xs.iter();
            (0..out)
                .map(|d| if axes.contains(&d) { Some(Dim::Fixed(1)) } else { source.next().copied() })
                .collect::<Option<Shape>>()
                .ok_or_else(|| fail(format!("axes {axes:?} repeat")))?
        }
        Op::Pad { pads, .. } => {
            if pads.len() != 2 * rank {
                return Err(fail(format!("{} pads for a rank-{rank} operand", pads.len())));
            }
            (0..rank).map(|d| padded(xs[d], pads[d] + pads[d + rank])).collect::<Result<_, _>>().map_err(fail)?
        }
        Op::Gather { axis } => {
            check_axis(*axis, rank)?;
            let indices = &operand(1)?.shape;
            xs[..*axis].iter().chain(indices).chain(&xs[axis + 1..]).copied().collect()
        }
        Op::Slice { starts, ends, axes, steps } => {
            let mut shape = xs.clone();
            for i in 0..axes.len() {
                check_axis(axes[i], rank)?;
                let span = if steps[i] > 0 { ends[i] - starts[i] } else { starts[i] - ends[i] };
                shape[axes[i]] =
                    Dim::Fixed(span.max(0).unsigned_abs().div_ceil(steps[i].unsigned_abs().max(1)) as usize);
            }
            shape
        }
        Op::Opaque(_) => unreachable!("handled above"),
    };
    Ok(vec![(dtype, shape)])
}

fn fixed(dim: Dim, what: &str) -> Result<usize, String> {
    match dim {
        Dim::Fixed(n) => Ok(n),
        Dim::Batch => Err(format!("{what} is the batch")),
    }
}

fn product(dims: &[Dim]) -> Result<Dim, String> {
    match dims.iter().filter(|d| **d == Dim::Batch).count() {
        0 => Ok(Dim::Fixed(super::elements(dims))),
        1 if super::elements(dims) == 1 => Ok(Dim::Batch),
        _ => Err(format!("{} has no single extent while the batch is symbolic", shape_text(dims))),
    }
}

fn padded(dim: Dim, by: i64) -> Result<Dim, String> {
    if by == 0 {
        return Ok(dim);
    }
    let n = fixed(dim, "a padded extent")?;
    usize::try_from(n as i64 + by).map(Dim::Fixed).map_err(|_| format!("padding {n} by {by} leaves nothing"))
}

/// The extent of a window's result: `⌊(in + pads − dilated) / stride⌋ + 1`, or rounded up.
fn window(input: usize, pads: usize, kernel: usize, stride: usize, dilation: usize, ceil: bool) -> Option<usize> {
    let dilated = dilation.checked_mul(kernel.checked_sub(1)?)?.checked_add(1)?;
    let room = (input.checked_add(pads)?).checked_sub(dilated)?;
    let steps = if ceil { room.div_ceil(stride.max(1)) } else { room.checked_div(stride)? };
    Some(steps + 1)
}

fn conv_shape(conv: &Conv, xs: &[Dim], ws: &[Dim]) -> Result<Shape, String> {
    let spatial = conv.kernel.len();
    let (x, w) = (shape_text(xs), shape_text(ws));
    if xs.len() != spatial + 2 || ws.len() != spatial + 2 || conv.pads.len() != 2 * spatial {
        return Err(format!("a {spatial}-D kernel does not fit {x} with weights {w}"));
    }
    let (channels, out, per_group) = (fixed(xs[1], "channels")?, fixed(ws[0], "filters")?, fixed(ws[1], "weights")?);
    if conv.group == 0 || per_group * conv.group != channels || out % conv.group != 0 {
        return Err(format!("{x} with weights {w} in {} groups", conv.group));
    }
    let mut shape = vec![xs[0], Dim::Fixed(out)];
    for d in 0..spatial {
        if ws[d + 2] != Dim::Fixed(conv.kernel[d]) {
            return Err(format!("kernel {:?} against weights {w}", conv.kernel));
        }
        let n = fixed(xs[d + 2], "a spatial extent")?;
        let pads = conv.pads[d] + conv.pads[d + spatial];
        let extent = window(n, pads, conv.kernel[d], conv.strides[d], conv.dilations[d], false);
        shape.push(Dim::Fixed(extent.ok_or_else(|| format!("kernel {:?} is larger than {x}", conv.kernel))?));
    }
    Ok(shape)
}

fn pool_shape(pool: &Pool, xs: &[Dim]) -> Result<Shape, String> {
    let spatial = pool.kernel.len();
    let x = shape_text(xs);
    if xs.len() != spatial + 2 || pool.pads.len() != 2 * spatial {
        return Err(format!("a {spatial}-D window does not fit {x}"));
    }
    let mut shape = xs[..2].to_vec();
    for d in 0..spatial {
        let n = fixed(xs[d + 2], "a spatial extent")?;
        let (begin, end, stride) = (pool.pads[d], pool.pads[d + spatial], pool.strides[d]);
        let extent = window(n, begin + end, pool.kernel[d], stride, pool.dilations[d], pool.ceil_mode);
        let mut extent = extent.ok_or_else(|| format!("window {:?} is larger than {x}", pool.kernel))?;
        // With ceil_mode a last window that would start in the end padding is dropped (ONNX, as PyTorch).
        if pool.ceil_mode && (extent - 1) * stride >= n + begin {
            extent -= 1;
        }
        shape.push(Dim::Fixed(extent));
    }
    Ok(shape)
}

fn matmul_shape(a: &[Dim], b: &[Dim]) -> Result<Shape, String> {
    if a.len() < 2 || b.len() < 2 {
        return Err(format!("wants operands of rank 2 or more, has {} and {}", shape_text(a), shape_text(b)));
    }
    let (m, k) = (a[a.len() - 2], a[a.len() - 1]);
    let (k2, n) = (b[b.len() - 2], b[b.len() - 1]);
    if k != k2 {
        return Err(format!("inner extents of {} and {} differ", shape_text(a), shape_text(b)));
    }
    let mut shape = broadcast(&a[..a.len() - 2], &b[..b.len() - 2])?;
    shape.extend([m, n]);
    Ok(shape)
}

/// Multidirectional broadcasting (ONNX, as numpy).
fn broadcast(a: &[Dim], b: &[Dim]) -> Result<Shape, String> {
    let rank = a.len().max(b.len());
    let at = |s: &[Dim], d: usize| (d + s.len()).checked_sub(rank).map_or(Dim::Fixed(1), |i| s[i]);
    (0..rank)
        .map(|d| match (at(a, d), at(b, d)) {
            (x, y) if x == y => Ok(x),
            (Dim::Fixed(1), y) => Ok(y),
            (x, Dim::Fixed(1)) => Ok(x),
            _ => Err(format!("{} and {} do not broadcast", shape_text(a), shape_text(b))),
        })
        .collect()
}
