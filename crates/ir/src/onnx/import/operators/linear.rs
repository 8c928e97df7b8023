//! Matrix products.

use super::super::call::Call;
use super::super::fault::{Fault, invalid, unsupported};
use super::super::plan::Plan;
use crate::graph::{Dim, Op, shape_text};

pub fn convert(call: &Call) -> Result<Option<Plan>, Fault> {
    let plan = match call.proto.op_type.as_str() {
        "Gemm" => gemm(call),
        "MatMul" if call.rank(0)? < 2 || call.rank(1)? < 2 => unsupported("multiplies by a vector"),
        "MatMul" => Plan::new(0..2, Op::MatMul),
        "MatMulInteger" if call.rank(0)? < 2 || call.rank(1)? < 2 => unsupported("multiplies by a vector"),
        "MatMulInteger" => Plan::new(0..4, Op::MatMulInteger),
        _ => return Ok(None),
    };
    plan.map(Some)
}

fn gemm(call: &Call) -> Result<Plan, Fault> {
    let op = Op::Gemm {
        alpha: call.float("alpha", 1.0),
        beta: call.float("beta", 1.0),
        trans_a: call.flag("transA"),
        trans_b: call.flag("transB"),
    };
    if call.operand(2).is_some() {
        let side = |i: usize, axis: usize| Ok::<_, Fault>(call.shape(i)?.get(axis).copied());
        let rows = side(0, call.flag("transA").into())?;
        let columns = side(1, (!call.flag("transB")).into())?;
        let added = call.shape(2)?;
        let fits = |from_end: usize, extent: Option<Dim>| {
            let dim = added.len().checked_sub(from_end).map_or(Dim::Fixed(1), |d| added[d]);
            dim == Dim::Fixed(1) || Some(dim) == extent
        };
        if added.len() > 2 || !fits(1, columns) || !fits(2, rows) {
            return invalid(format!("operand 2 is {}, which does not broadcast to the product", shape_text(&added)));
        }
    }
    Plan::new(0..3, op)
}
