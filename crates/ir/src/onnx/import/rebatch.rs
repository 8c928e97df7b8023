//! Reading a model that was exported for one sample, or for a number of them, as one for any number of samples.
//!
//! The batch is made symbolic at the inputs and carried along by shape inference, wherever it goes: behind the sequence
//! of a recurrent operator, or merged with the heads of an attention. That is sound when samples never meet: no value
//! has the batch twice, and no operator works along it. A model for which this cannot be seen keeps the batch of its
//! file.

use super::super::proto::GraphProto;
use crate::graph::{Data, Dim, Graph, Node, Op, Shape, Tensor, ValueId, elements};
use std::collections::HashMap;

/// The number of samples that a model was exported for: the first extent of every input, if they have the same.
pub fn file_batch(graph: &GraphProto) -> Option<usize> {
    let first = |v: &super::ValueInfoProto| {
        let shape = v.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?;
        usize::try_from(shape.dim.first()?.dim_value?).ok()
    };
    let initializer = |name: &str| graph.initializer.iter().any(|t| t.name == name);
    let mut inputs = graph.input.iter().filter(|v| !initializer(&v.name)).map(first);
    let batch = inputs.next()?.filter(|&n| n > 0)?;
    inputs.all(|n| n == Some(batch)).then_some(batch)
}

/// How many times the batch is repeated within its extent, by value; once where nothing is said. An extent of `s·batch·k`
/// has `s` runs of all samples: sequence and batch merged, in this order, as PyTorch's attention does.
pub type Runs = HashMap<ValueId, usize>;

/// Which extent of a reshaped value stands for the batch, if its target was written down for `batch` samples.
///
/// Every choice is the same order of elements; the one that is likely meant is an extent of the batch alone, else one after
/// which all is as it was or merged into the rows of a matrix, else what starts where a sample starts.
pub fn place(from: &[Dim], runs: usize, to: &[usize], batch: usize) -> Option<usize> {
    let p = axis(from)?;
    let outer = elements(&from[..p]) * runs;
    let before = |i: usize| to[..i].iter().product::<usize>();
    let matrix = to.len() == 2 && to[1] == elements(&from[p + 1..]);
    let same = |i: usize| to[i + 1..].iter().map(|&n| Dim::Fixed(n)).eq(from[p + 1..].iter().copied());
    let after = |i: usize| same(i) || (i == 0 && matrix);
    let starts = |i: &usize| before(*i) == outer;
    let merges = |i: &usize| after(*i) && before(*i) > 0 && outer.is_multiple_of(before(*i));
    let all = (0..to.len()).filter(|&i| to[i].is_multiple_of(batch));
    let alone = all.clone().filter(starts).find(|&i| to[i] == batch);
    alone.or_else(|| all.clone().find(merges)).or_else(|| all.clone().rfind(starts))
}

/// A constant that says the same `batch` times along an axis, said once.
pub fn one_row(constant: &Tensor, axis: usize, batch: usize) -> Option<Tensor> {
    if constant.shape.get(axis) != Some(&batch) || constant.is_empty() {
        return None;
    }
    let mut shape = constant.shape.clone();
    shape[axis] = 1;
    let inner: usize = shape[axis + 1..].iter().product();
    let kept = |i: usize| (i / inner).is_multiple_of(batch);
    macro_rules! row {
        ($variant:ident, $values:expr) => {{
            let same = (0..$values.len()).all(|i| $values[i] == $values[i - i / inner % batch * inner]);
            let row = (0..$values.len()).filter(|&i| kept(i)).map(|i| $values[i]).collect::<Vec<_>>();
            same.then(|| Tensor::new(shape, Data::$variant(row.into())))
        }};
    }
    match &constant.data {
        Data::F32(v) => row!(F32, v),
        Data::I8(v) => row!(I8, v),
        Data::U8(v) => row!(U8, v),
        Data::I32(v) => row!(I32, v),
        Data::I64(v) => row!(I64, v),
        Data::Bool(v) => row!(Bool, v),
    }
}

/// The operands of a node that are constants written down for each of `batch` samples alike, and what they are for one:
/// class tokens, masks and positions, as exporters fold them.
pub fn repeated(graph: &Graph, op: &Op, inputs: &[Option<ValueId>], batch: usize) -> Vec<(usize, Tensor)> {
    let shape = |id: &Option<ValueId>| id.map(|id| graph.value(id).shape.clone()).unwrap_or_default();
    let from_end = |shape: &Shape| axis(shape).map(|p| shape.len() - p);
    let Some(place) = inputs.iter().find_map(|id| from_end(&shape(id))).or(match op {
        Op::Gather { axis: 0 } => Some(0),
        _ => None,
    }) else {
        return vec![];
    };
    let one = |(i, id): (usize, &Option<ValueId>)| {
        let constant = graph.constant((*id)?)?;
        let axis = match op {
            Op::Gather { .. } if i == 1 && constant.shape.len() > 1 => 0,
            Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Binary(_) | Op::Variadic(_) | Op::Where | Op::Concat { .. } => {
                constant.shape.len().checked_sub(place)?
            }
            _ => return None,
        };
        Some((i, one_row(constant, axis, batch)?))
    };
    match batch {
        1 => vec![],
        _ => inputs.iter().enumerate().filter_map(one).collect(),
    }
}

/// The runs of a node's results; `None` if it would mix samples that are in different places.
pub fn runs(graph: &Graph, node: &Node, known: &Runs) -> Option<usize> {
    let of = |id: ValueId| known.get(&id).copied().unwrap_or(1);
    let batched = |id: &ValueId| axis(&graph.value(*id).shape).is_some();
    let mut all = node.inputs.iter().flatten().copied().filter(batched).map(of);
    let first = all.next().unwrap_or(1);
    if !all.all(|runs| runs == first) {
        return None;
    }
    if !matches!(node.op, Op::Flatten { .. } | Op::Reshape { .. } | Op::Squeeze { .. } | Op::Unsqueeze { .. }) {
        return Some(first);
    }
    let (from, to) = (&graph.value(node.input(0)?).shape, &graph.value(node.output()).shape);
    let (Some(p), Some(q)) = (axis(from), axis(to)) else { return Some(first) };
    let (outer, before) = (elements(&from[..p]) * first, elements(&to[..q]));
    let runs = outer.checked_div(before).filter(|runs| runs * before == outer)?;
    (runs > 0 && to[q].at(1).is_multiple_of(runs)).then_some(runs)
}

/// The operands of a concatenation that lack the batch the others have (a class token, say), and their extents with it.
pub fn missing(graph: &Graph, inputs: &[Option<ValueId>], joined: usize) -> Vec<(usize, Shape)> {
    let shape = |id: &Option<ValueId>| id.map(|id| graph.value(id).shape.clone()).unwrap_or_default();
    let Some(p) = inputs.iter().find_map(|id| axis(&shape(id))).filter(|&p| p != joined) else { return vec![] };
    let lacks = |(i, id): (usize, &Option<ValueId>)| {
        let mut extents = shape(id);
        let alone = extents.get(p) == Some(&Dim::Fixed(1)) && axis(&extents).is_none();
        alone.then(|| {
            extents[p] = Dim::Batch;
            (i, extents)
        })
    };
    inputs.iter().enumerate().filter_map(lacks).collect()
}

/// Whether samples stay apart in a graph whose inputs were given a batch.
pub fn sound(graph: &Graph) -> bool {
    let once = |id: &ValueId| graph.value(*id).shape.iter().filter(|d| d.is_batched()).count() <= 1;
    let mut known = Runs::new();
    let in_order = graph.nodes.iter().all(|node| {
        let Some(runs) = runs(graph, node, &known) else { return false };
        known.extend(node.outputs.iter().map(|&id| (id, runs)));
        node.inputs.iter().flatten().chain(&node.outputs).all(once) && apart(graph, node) == Some(true)
    });
    in_order && graph.outputs.iter().all(|&id| graph.value(id).shape.first() == Some(&Dim::Batch))
}

/// Where the batch is, alone or merged with what follows it.
fn axis(shape: &[Dim]) -> Option<usize> {
    shape.iter().position(|d| d.is_batched())
}

/// Whether an operator treats every sample on its own. `None` where an operand is missing.
fn apart(graph: &Graph, node: &Node) -> Option<bool> {
    let shape = |i: usize| node.input(i).map(|id| &graph.value(id).shape);
    let at = |i: usize| shape(i).and_then(|s| axis(s));
    let result = &graph.value(node.output()).shape;
    if let Op::Opaque(_) = node.op {
        return Some(false);
    }
    if (0..node.inputs.len()).all(|i| at(i).is_none()) {
        return Some(axis(result).is_none() || matches!(node.op, Op::Expand { .. }));
    }
    if node.outputs.iter().any(|&id| axis(&graph.value(id).shape).is_none()) {
        return Some(false);
    }
    match &node.op {
        Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Binary(_) | Op::Variadic(_) | Op::Where => return Some(true),
        Op::Concat { axis } => return Some((0..node.inputs.len()).all(|i| at(i).is_some_and(|p| p != *axis))),
        Op::MatMul | Op::MatMulInteger => {
            let (a, b) = (shape(0)?.len(), shape(1)?.len());
            return Some(match (at(0), at(1)) {
                // Two batches pair up, both before the matrices and as far from the end.
                (Some(p), Some(q)) => p + 2 < a && q + 2 < b && a - p == b - q,
                (Some(p), None) => p + 1 != a,
                (None, Some(q)) => q + 2 != b,
                (None, None) => true,
            });
        }
        Op::Gather { .. } if at(0).is_none() => return Some(true),
        Op::Gather { axis } => return Some(at(1).is_none() && at(0) != Some(*axis)),
        Op::GatherElements { axis } => return Some(at(0) == at(1) && at(0) != Some(*axis)),
        Op::GatherNd { batch_dims } => {
            return Some(at(0).is_none() || (at(0) == at(1) && at(0).is_some_and(|p| p < *batch_dims)));
        }
        Op::Recurrent(recurrent) => {
            let p = usize::from(!recurrent.batch_first);
            let constants = [1, 2, 3, 7].into_iter().all(|i| at(i).is_none());
            let states = [5, 6].into_iter().all(|i| node.input(i).is_none() || at(i) == Some(p));
            return Some(at(0) == Some(p) && constants && states && node.input(4).is_none());
        }
        _ => {}
    }
    let p = at(0)?;
    if (1..node.inputs.len()).any(|i| at(i).is_some()) {
        return Some(false);
    }
    let from = shape(0)?;
    Some(match &node.op {
        Op::Gemm { trans_a, .. } => p == usize::from(*trans_a),
        Op::Conv(_)
        | Op::ConvInteger(_)
        | Op::ConvTranspose(_)
        | Op::BatchNormalization { .. }
        | Op::MaxPool(_)
        | Op::AveragePool(_)
        | Op::GlobalAveragePool
        | Op::GlobalMaxPool
        | Op::InstanceNormalization { .. }
        | Op::GroupNormalization { .. }
        | Op::Lrn { .. }
        | Op::DepthToSpace { .. }
        | Op::SpaceToDepth { .. } => p == 0,
        Op::Softmax { axis }
        | Op::LogSoftmax { axis }
        | Op::LpNormalization { axis, .. }
        | Op::CumSum { axis, .. }
        | Op::TopK { axis, .. }
        | Op::ArgExtreme { axis, .. }
        | Op::Split { axis, .. } => *axis != p,
        Op::LayerNormalization { axis, .. } => p < *axis,
        Op::ReduceMean { axes, .. } | Op::Reduce { axes, .. } | Op::Slice { axes, .. } => !axes.contains(&p),
        Op::Pad { pads, .. } => pads[p] == 0 && pads[p + from.len()] == 0,
        Op::Trilu { .. } => p + 2 < from.len(),
        Op::Quantize { axis, .. } | Op::Dequantize { axis } => {
            *axis != p || shape(1).is_none_or(|scale| elements(scale) == 1)
        }
        _ => true,
    })
}
