//! What gives the same elements other extents.

use super::super::attributes::{Context, Encoded, attributes, axis, int, numbers, signed};
use crate::graph::{Dim, Op};

pub fn encode(op: &Op, _: Context) -> Option<Encoded> {
    Some(match op {
        Op::Flatten { axis: a } => attributes(vec![axis(*a)]),
        Op::Reshape { shape } => {
            let target: Vec<i64> = shape.iter().map(|d| if let Dim::Fixed(n) = d { *n as i64 } else { -1 }).collect();
            // Zero means nothing here, and not the operand's extent.
            let nothing = shape.contains(&Dim::Fixed(0)).then(|| int("allowzero", 1));
            (nothing.into_iter().collect(), vec![("shape", numbers(&target))])
        }
        Op::Squeeze { axes: a } | Op::Unsqueeze { axes: a } => (vec![], vec![("axes", numbers(&signed(a)))]),
        _ => return None,
    })
}
