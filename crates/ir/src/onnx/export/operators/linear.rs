//! Matrix products.

use super::super::attributes::{Context, Encoded, attributes, float, int};
use crate::graph::Op;

pub fn encode(op: &Op, _: Context) -> Option<Encoded> {
    Some(match op {
        Op::Gemm { alpha, beta, trans_a, trans_b } => attributes(vec![
            float("alpha", *alpha),
            float("beta", *beta),
            int("transA", (*trans_a).into()),
            int("transB", (*trans_b).into()),
        ]),
        _ => return None,
    })
}
