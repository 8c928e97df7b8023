//! What picks elements by their positions, or marks positions.

use super::super::attributes::{Context, Encoded, attributes, axis, int, numbers, signed};
use crate::graph::Op;

pub fn encode(op: &Op, _: Context) -> Option<Encoded> {
    Some(match op {
        Op::Gather { axis: a } | Op::GatherElements { axis: a } | Op::OneHot { axis: a, .. } => {
            attributes(vec![axis(*a)])
        }
        Op::Slice { starts, ends, axes: sliced, steps } => {
            // An end before the first element has no other way to be written: small negatives count from the end.
            let ends: Vec<i64> = ends.iter().map(|&e| if e < 0 { i64::MIN } else { e }).collect();
            let list = vec![
                ("starts", numbers(starts)),
                ("ends", numbers(&ends)),
                ("axes", numbers(&signed(sliced))),
                ("steps", numbers(steps)),
            ];
            (vec![], list)
        }
        Op::GatherNd { batch_dims } => attributes(vec![int("batch_dims", *batch_dims as i64)]),
        _ => return None,
    })
}
