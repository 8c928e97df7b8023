//! Evaluating nodes whose operands are all constant.

use super::elements;
use crate::graph::{DType, Data, Graph, Node, Op, Tensor, shape_at};
use std::sync::Arc;

/// Results larger than this are left to be computed when the network runs.
const MAX_ELEMENTS: usize = 1 << 26;

/// Replaces nodes that move, convert, add, subtract, multiply or divide constants by their result. Graph outputs stay
/// computed, and so does what reads or makes quantized values.
pub fn fold_constants(graph: &mut Graph) {
    let mut index = 0;
    while index < graph.nodes.len() {
        let node = &graph.nodes[index];
        let result = node.outputs.first().copied();
        match (result, evaluate(graph, node)) {
            (Some(id), Some(tensor)) => {
                graph.value_mut(id).data = Some(Arc::new(tensor));
                graph.nodes.remove(index);
            }
            _ => index += 1,
        }
    }
    super::drop_unused_values(graph);
}

fn evaluate(graph: &Graph, node: &Node) -> Option<Tensor> {
    let [output] = node.outputs[..] else { return None };
    let result = graph.value(output);
    let quantized = |id: &crate::graph::ValueId| graph.value(*id).quant.is_some();
    let shape = shape_at(&result.shape, 1);
    let small = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).is_some_and(|n| n <= MAX_ELEMENTS);
    let touched = quantized(&output) || node.inputs.iter().flatten().any(quantized);
    if touched || !small || graph.outputs.contains(&output) || node.inputs.is_empty() {
        return None;
    }
    let operands: Vec<&Tensor> =
        node.inputs.iter().map(|id| id.and_then(|id| graph.constant(id))).collect::<Option<_>>()?;
    let x = operands[0];
    let data = match &node.op {
        Op::Identity | Op::Reshape { .. } | Op::Squeeze { .. } | Op::Unsqueeze { .. } | Op::Flatten { .. } => {
            x.data.clone()
        }
        Op::Cast { to } => cast(&x.data, *to)?,
        Op::Transpose { perm } => pick(&x.data, &elements::transposed(&x.shape, perm)),
        Op::Gather { axis } => {
            let indices: Vec<i64> = match &operands.get(1)?.data {
                Data::I64(v) => v.clone(),
                Data::I32(v) => v.iter().map(|&i| i.into()).collect(),
                _ => return None,
            };
            pick(&x.data, &elements::gathered(&x.shape, *axis, &indices)?)
        }
        Op::Slice { starts, axes, steps, .. } => {
            pick(&x.data, &elements::sliced(&x.shape, &shape, axes, starts, steps))
        }
        Op::Concat { axis } => concatenate(&operands, *axis)?,
        Op::Add => arithmetic(&operands, &shape, |a, b| a + b, i64::checked_add)?,
        Op::Sub => arithmetic(&operands, &shape, |a, b| a - b, i64::checked_sub)?,
        Op::Mul => arithmetic(&operands, &shape, |a, b| a * b, i64::checked_mul)?,
        Op::Div => arithmetic(&operands, &shape, |a, b| a / b, i64::checked_div)?,
        _ => return None,
    };
    let tensor = (data.len() == shape.iter().product::<usize>()).then_some(Tensor { shape, data })?;
    (tensor.dtype() == result.dtype).then_some(tensor)
}

/// The elements at these positions.
fn pick(data: &Data, at: &[usize]) -> Data {
    match data {
        Data::F32(v) => Data::F32(at.iter().map(|&i| v[i]).collect()),
        Data::I8(v) => Data::I8(at.iter().map(|&i| v[i]).collect()),
        Data::U8(v) => Data::U8(at.iter().map(|&i| v[i]).collect()),
        Data::I32(v) => Data::I32(at.iter().map(|&i| v[i]).collect()),
        Data::I64(v) => Data::I64(at.iter().map(|&i| v[i]).collect()),
        Data::Bool(v) => Data::Bool(at.iter().map(|&i| v[i]).collect()),
    }
}

fn concatenate(operands: &[&Tensor], axis: usize) -> Option<Data> {
    let shapes: Vec<Vec<usize>> = operands.iter().map(|t| t.shape.clone()).collect();
    let from = elements::concatenated(&shapes, axis);
    if let Some(all) = operands.iter().map(|t| t.as_f32()).collect::<Option<Vec<_>>>() {
        return Some(Data::F32(from.iter().map(|&(s, i)| all[s][i]).collect()));
    }
    let all = operands.iter().map(|t| t.as_i64()).collect::<Option<Vec<_>>>()?;
    Some(Data::I64(from.iter().map(|&(s, i)| all[s][i]).collect()))
}

fn arithmetic(
    operands: &[&Tensor],
    shape: &[usize],
    real: fn(f32, f32) -> f32,
    whole: fn(i64, i64) -> Option<i64>,
) -> Option<Data> {
    let [a, b] = operands else { return None };
    let (at_a, at_b) = (elements::broadcast(&a.shape, shape), elements::broadcast(&b.shape, shape));
    let pairs = at_a.into_iter().zip(at_b);
    match (&a.data, &b.data) {
        (Data::F32(a), Data::F32(b)) => Some(Data::F32(pairs.map(|(i, j)| real(a[i], b[j])).collect())),
        (Data::I64(a), Data::I64(b)) => Some(Data::I64(pairs.map(|(i, j)| whole(a[i], b[j])).collect::<Option<_>>()?)),
        _ => None,
    }
}

fn cast(data: &Data, to: DType) -> Option<Data> {
    let whole: Option<Vec<i64>> = match data {
        Data::F32(_) => None,
        Data::I8(v) => Some(v.iter().map(|&x| x.into()).collect()),
        Data::U8(v) => Some(v.iter().map(|&x| x.into()).collect()),
        Data::I32(v) => Some(v.iter().map(|&x| x.into()).collect()),
        Data::I64(v) => Some(v.clone()),
        Data::Bool(v) => Some(v.iter().map(|&x| x.into()).collect()),
    };
    Some(match (data, whole, to) {
        (Data::F32(v), _, DType::F32) => Data::F32(v.clone()),
        (Data::F32(v), _, DType::I64) => Data::I64(v.iter().map(|&x| x as i64).collect()),
        (Data::F32(v), _, DType::I32) => Data::I32(v.iter().map(|&x| x as i32).collect()),
        (_, Some(v), DType::F32) => Data::F32(v.iter().map(|&x| x as f32).collect()),
        (_, Some(v), DType::I64) => Data::I64(v),
        (_, Some(v), DType::I32) => Data::I32(v.iter().map(|&x| x as i32).collect()),
        (_, Some(v), DType::Bool) => Data::Bool(v.iter().map(|&x| x != 0).collect()),
        _ => return None,
    })
}
