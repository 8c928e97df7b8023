//! What is computed of all elements along axes: reductions, extremes, running sums.

use super::super::super::proto::AttributeProto;
use super::super::attributes::{Context, Encoded, attributes, axis, int, ints, number, numbers, signed};
use crate::graph::{Op, Reduction};

pub fn encode(op: &Op, context: Context) -> Option<Encoded> {
    Some(match op {
        Op::Reduce { reduction, axes: reduced, keepdims } if *reduction == Reduction::Sum => {
            let list = unreduced(reduced, context).into_iter().chain([int("keepdims", (*keepdims).into())]);
            (list.collect(), vec![("axes", numbers(&signed(reduced)))])
        }
        Op::ReduceMean { axes: reduced, keepdims } | Op::Reduce { axes: reduced, keepdims, .. } => {
            let keep = int("keepdims", (*keepdims).into());
            match context.opset < 18 {
                true => attributes(vec![ints("axes", &signed(reduced)), keep]),
                false => (
                    unreduced(reduced, context).into_iter().chain([keep]).collect(),
                    vec![("axes", numbers(&signed(reduced)))],
                ),
            }
        }
        Op::ArgExtreme { axis: a, keepdims, last, .. } => {
            attributes(vec![axis(*a), int("keepdims", (*keepdims).into()), int("select_last_index", (*last).into())])
        }
        Op::CumSum { axis, exclusive, reverse } => {
            let list = vec![int("exclusive", (*exclusive).into()), int("reverse", (*reverse).into())];
            (list, vec![("axis", number(*axis as i64))])
        }
        Op::TopK { axis: a, k, largest } => {
            (vec![axis(*a), int("largest", (*largest).into())], vec![("k", numbers(&[*k as i64]))])
        }
        _ => return None,
    })
}

/// Without axes nothing is reduced; without being told so, a reduction takes them for all.
fn unreduced(axes: &[usize], context: Context) -> Option<AttributeProto> {
    let unreduced = axes.is_empty() && context.operand.is_some_and(|value| !value.shape.is_empty());
    unreduced.then(|| int("noop_with_empty_axes", 1))
}
