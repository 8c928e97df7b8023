//! Normalisations, softmax among them.

use super::super::attributes::{Context, Encoded, attributes, axis, float, int};
use crate::graph::Op;

pub fn encode(op: &Op, _: Context) -> Option<Encoded> {
    Some(match op {
        Op::BatchNormalization { epsilon } => attributes(vec![float("epsilon", *epsilon)]),
        Op::Softmax { axis: a } | Op::LogSoftmax { axis: a } => attributes(vec![axis(*a)]),
        Op::LayerNormalization { axis: a, epsilon } => attributes(vec![axis(*a), float("epsilon", *epsilon)]),
        Op::InstanceNormalization { epsilon } => attributes(vec![float("epsilon", *epsilon)]),
        Op::GroupNormalization { groups, epsilon } => {
            attributes(vec![int("num_groups", *groups as i64), float("epsilon", *epsilon)])
        }
        Op::Lrn { size, alpha, beta, bias } => attributes(vec![
            int("size", *size as i64),
            float("alpha", *alpha),
            float("beta", *beta),
            float("bias", *bias),
        ]),
        Op::LpNormalization { axis: a, order } => attributes(vec![axis(*a), int("p", *order as i64)]),
        _ => return None,
    })
}
