//! Quantization and dequantization that are operators of the graph (pairs: see [`super::super::quant`]).

use super::super::attributes::{Context, Encoded, attributes, axis};
use crate::graph::Op;

pub fn encode(op: &Op, _: Context) -> Option<Encoded> {
    Some(match op {
        Op::Quantize { axis: a, .. } | Op::Dequantize { axis: a } => attributes(vec![axis(*a)]),
        _ => return None,
    })
}
