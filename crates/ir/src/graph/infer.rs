//! Shape inference: the element type and extents of every result, from the operands.
//!
//! Follows the shape rules of the ONNX operator specification. The batch stays symbolic; an operator that would mix
//! it with a known extent is an error that names the node.

use super::{Conv, ConvTranspose, DType, Dim, Graph, Node, Op, Pool, Recurrent, Shape, shape_text};

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
        Op::Unary(unary) if unary.tests() => return Ok(vec![(DType::Bool, xs.clone())]),
        Op::Binary(binary) => {
            let shape = broadcast(xs, &operand(1)?.shape).map_err(fail)?;
            return Ok(vec![(if binary.compares() { DType::Bool } else { dtype }, shape)]);
        }
        Op::Variadic(_) => {
            let more = 1..node.inputs.len();
            more.map(|i| Ok(&operand(i)?.shape))
                .try_fold(xs.clone(), |all, next| broadcast(&all, next?).map_err(fail))?
        }
        Op::Where => {
            let (x, y) = (operand(1)?, operand(2)?);
            let shape = broadcast(xs, &x.shape).and_then(|s| broadcast(&s, &y.shape)).map_err(fail)?;
            return Ok(vec![(x.dtype, shape)]);
        }
        Op::ArgExtreme { axis, keepdims, .. } => {
            check_axis(*axis, rank)?;
            let mut shape = xs.clone();
            match keepdims {
                true => shape[*axis] = Dim::Fixed(1),
                false => _ = shape.remove(*axis),
            }
            return Ok(vec![(DType::I64, shape)]);
        }
        Op::TopK { axis, k, .. } => {
            check_axis(*axis, rank)?;
            let mut shape = xs.clone();
            if fixed(shape[*axis], "what is chosen from").map_err(fail)? < *k {
                return Err(fail(format!("{k} of {}", shape_text(xs))));
            }
            shape[*axis] = Dim::Fixed(*k);
            return Ok(vec![(dtype, shape.clone()), (DType::I64, shape)]);
        }
        Op::CumSum { axis, .. } | Op::LayerNormalization { axis, .. } | Op::LpNormalization { axis, .. } => {
            check_axis(*axis, rank)?;
            xs.clone()
        }
        Op::Lrn { .. } | Op::InstanceNormalization { .. } | Op::GroupNormalization { .. } | Op::Trilu { .. }
            if rank < 2 =>
        {
            return Err(fail(format!("wants rank 2 or more, has {}", shape_text(xs))));
        }
        Op::Expand { shape } => broadcast(xs, shape).map_err(fail)?,
        Op::Tile { repeats } => {
            if repeats.len() != rank {
                return Err(fail(format!("{} repeats for a rank-{rank} operand", repeats.len())));
            }
            let times = |(dim, &n): (&Dim, &usize)| match (dim, n) {
                (dim, 1) => Ok(*dim),
                (dim, n) => fixed(*dim, "a repeated extent").map(|d| Dim::Fixed(d * n)),
            };
            xs.iter().zip(repeats).map(times).collect::<Result<_, _>>().map_err(fail)?
        }
        Op::Split { axis, sizes } => {
            check_axis(*axis, rank)?;
            if xs[*axis] != Dim::Fixed(sizes.iter().sum()) {
                return Err(fail(format!("{} into {sizes:?} along axis {axis}", shape_text(xs))));
            }
            let part = |&size: &usize| {
                let mut shape = xs.clone();
                shape[*axis] = Dim::Fixed(size);
                (dtype, shape)
            };
            return Ok(sizes.iter().map(part).collect());
        }
        Op::GatherElements { axis } => {
            check_axis(*axis, rank)?;
            operand(1)?.shape.clone()
        }
        Op::GatherNd { batch_dims } => {
            let indices = &operand(1)?.shape;
            let Some(Dim::Fixed(chosen)) = indices.last().copied() else {
                return Err(fail(format!("indices {}", shape_text(indices))));
            };
            if batch_dims + chosen > rank || *batch_dims >= indices.len() {
                return Err(fail(format!("indices {} into {}", shape_text(indices), shape_text(xs))));
            }
            indices[..indices.len() - 1].iter().chain(&xs[batch_dims + chosen..]).copied().collect()
        }
        Op::DepthToSpace { block, .. } | Op::SpaceToDepth { block } => {
            let image = |i: usize| fixed(*xs.get(i).unwrap_or(&Dim::Batch), "an image's extent").map_err(fail);
            let (b, deeper) = (*block, matches!(node.op, Op::SpaceToDepth { .. }));
            let (c, h, w) = (image(1)?, image(2)?, image(3)?);
            let divides = if deeper { h % b == 0 && w % b == 0 } else { c % (b * b) == 0 };
            if b == 0 || rank != 4 || !divides {
                return Err(fail(format!("blocks of {b} do not divide {}", shape_text(xs))));
            }
            let extents = if deeper { [c * b * b, h / b, w / b] } else { [c / (b * b), h * b, w * b] };
            xs[..1].iter().copied().chain(extents.map(Dim::Fixed)).collect()
        }
        Op::Resize(resize) => {
            if resize.sizes.len() != rank || resize.scales.len() != rank {
                return Err(fail(format!("{} extents for a rank-{rank} operand", resize.sizes.len())));
            }
            resize.sizes.clone()
        }
        Op::ConvTranspose(conv) => transposed_shape(conv, xs, &operand(1)?.shape).map_err(fail)?,
        Op::Recurrent(recurrent) => {
            let shapes = recurrent_shapes(recurrent, xs).map_err(fail)?;
            let results = if recurrent.cell == super::Cell::Lstm { 3 } else { 2 };
            return Ok(shapes.into_iter().take(results).map(|shape| (dtype, shape)).collect());
        }
        Op::ConvInteger(conv) => {
            return Ok(vec![(DType::I32, conv_shape(conv, xs, &operand(1)?.shape).map_err(fail)?)]);
        }
        Op::MatMulInteger => return Ok(vec![(DType::I32, matmul_shape(xs, &operand(1)?.shape).map_err(fail)?)]),
        // Numbers of 16 bits are kept in 32.
        Op::Quantize { to: DType::I16 | DType::U16, .. } => return Ok(vec![(DType::I32, xs.clone())]),
        Op::Quantize { to, .. } => return Ok(vec![(*to, xs.clone())]),
        Op::Dequantize { .. } => return Ok(vec![(DType::F32, xs.clone())]),
        Op::OneHot { axis, depth } => {
            check_axis(*axis, rank + 1)?;
            let mut shape = xs.clone();
            shape.insert(*axis, Dim::Fixed(*depth));
            return Ok(vec![(operand(1)?.dtype, shape)]);
        }
        Op::Relu
        | Op::Unary(_)
        | Op::Lrn { .. }
        | Op::InstanceNormalization { .. }
        | Op::GroupNormalization { .. }
        | Op::Trilu { .. }
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
        Op::ReduceMean { axes, keepdims } | Op::Reduce { axes, keepdims, .. } => {
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
            let batches = |s: &[Dim]| s.iter().filter(|d| d.is_batched()).count();
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
        Op::Pad { pads, mode } => {
            if pads.len() != 2 * rank {
                return Err(fail(format!("{} pads for a rank-{rank} operand", pads.len())));
            }
            let nothing = |d: usize| xs[d] == Dim::Fixed(0) && (pads[d] > 0 || pads[d + rank] > 0);
            if !matches!(mode, super::PadMode::Constant(_)) && (0..rank).any(nothing) {
                return Err(fail(format!("{} has nothing to pad with", shape_text(xs))));
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
        Dim::Batch | Dim::Batches(_) => Err(format!("{what} is the batch")),
    }
}

fn product(dims: &[Dim]) -> Result<Dim, String> {
    match dims.iter().filter(|d| d.is_batched()).count() {
        0 => Ok(Dim::Fixed(super::elements(dims))),
        1 => Ok(Dim::batches(super::elements(dims))),
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

/// The extent of a window's result: `⌊(in + pads − dilated) / stride⌋ + 1`, or rounded up: then the only window may hang over,
/// by less than its stride.
fn window(input: usize, pads: usize, kernel: usize, stride: usize, dilation: usize, ceil: bool) -> Option<usize> {
    let dilated = dilation.checked_mul(kernel.checked_sub(1)?)?.checked_add(1)?;
    let padded = input.checked_add(pads)?;
    if ceil && input > 0 && padded < dilated && dilated - padded < stride {
        return Some(1);
    }
    let room = padded.checked_sub(dilated)?;
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

fn transposed_shape(op: &ConvTranspose, xs: &[Dim], ws: &[Dim]) -> Result<Shape, String> {
    let conv = &op.conv;
    let spatial = conv.kernel.len();
    let (x, w) = (shape_text(xs), shape_text(ws));
    if xs.len() != spatial + 2 || ws.len() != spatial + 2 || ws[0] != xs[1] {
        return Err(format!("{x} with weights {w}"));
    }
    let out = fixed(ws[1], "weights")?.checked_mul(conv.group).ok_or("too many channels")?;
    let mut shape = vec![xs[0], Dim::Fixed(out)];
    for d in 0..spatial {
        let n = fixed(xs[d + 2], "a spatial extent")?;
        let dilated = conv.dilations[d] * (conv.kernel[d].max(1) - 1) + 1;
        let full = n.saturating_sub(1).checked_mul(conv.strides[d]).and_then(|n| n.checked_add(dilated));
        let full = full.map(|n| n + op.output_padding[d]);
        let extent = full.and_then(|n| n.checked_sub(conv.pads[d] + conv.pads[d + spatial]));
        shape.push(Dim::Fixed(extent.ok_or_else(|| format!("pads {:?} leave nothing of {x}", conv.pads))?));
    }
    Ok(shape)
}

/// Of all steps, of the last state and, for an LSTM, of the last cell.
fn recurrent_shapes(op: &Recurrent, xs: &[Dim]) -> Result<Vec<Shape>, String> {
    let [a, b, _] = *xs else { return Err(format!("wants a sequence of vectors, has {}", shape_text(xs))) };
    let (count, hidden) = (Dim::Fixed(op.direction.count()), Dim::Fixed(op.hidden));
    Ok(match op.batch_first {
        false => vec![vec![a, count, b, hidden], vec![count, b, hidden], vec![count, b, hidden]],
        true => vec![vec![a, b, count, hidden], vec![a, count, hidden], vec![a, count, hidden]],
    })
}

/// Windows of a pool along axis `d` of an operand with `n` elements there: as the formula has them, and without a last one that
/// `ceil_mode` would start in the end padding, which is dropped (ONNX, as PyTorch). `None`: the window is larger.
pub(crate) fn pool_windows(pool: &Pool, d: usize, n: usize) -> Option<[usize; 2]> {
    let (begin, end, stride) = (pool.pads[d], pool.pads[d + pool.kernel.len()], pool.strides[d]);
    let said = window(n, begin + end, pool.kernel[d], stride, pool.dilations[d], pool.ceil_mode)?;
    let dropped = pool.ceil_mode && (said - 1) * stride >= n + begin;
    Some([said, said - usize::from(dropped)])
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
        let windows = pool_windows(pool, d, n);
        let [_, extent] = windows.ok_or_else(|| format!("window {:?} is larger than {x}", pool.kernel))?;
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
