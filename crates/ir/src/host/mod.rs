//! Operators on tensors of the host, plainly: what a graph computes of constants, and of the integers and truth values
//! that no device differentiates.
//!
//! [`compute`] is the definition of those operators here. Folding of constants, shape arithmetic and the executor's
//! integer side all go through it, and [`source`] alone knows where the elements of a result come from, so that the
//! executor can move them on a device as well.

mod arithmetic;
pub mod elements;
mod movement;
mod numbers;
mod order;
#[cfg(test)]
mod tests;
mod window;

pub use movement::{source, triangle};
pub use numbers::{Numbers, cast};
pub use order::top;

use crate::graph::{DType, Data, Op, PadMode, Tensor};

/// The results of an operator.
///
/// `operands` are as the operator takes them; `results` are the element types and extents of its results, as inferred.
///
/// # Errors
/// When the operator is not one of those computed here, an operand is missing, or a number has no result (an index out
/// of range, a division of integers by zero).
pub fn compute(op: &Op, operands: &[Option<&Tensor>], results: &[(DType, Vec<usize>)]) -> Result<Vec<Tensor>, String> {
    let operand = |i: usize| operands.get(i).copied().flatten().ok_or_else(|| format!("operand {i} is missing"));
    let x = operand(0)?;
    let (dtype, shape) = results.first().ok_or("no result is wanted")?;
    let count = |shape: &[usize]| shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if results.iter().any(|(_, shape)| count(shape).is_none_or(|n| n > MAX_ELEMENTS)) {
        return Err("the result is too large".into());
    }
    let one = |numbers: Numbers| Ok(vec![Tensor::new(shape.clone(), numbers.into_data(*dtype))]);
    let broadcast = |tensor: &Tensor| Numbers::of(tensor).pick(&elements::broadcast(&tensor.shape, shape));
    match op {
        Op::Cast { to } => return Ok(vec![Tensor::new(shape.clone(), cast(&x.data, *to))]),
        Op::Unary(unary) => return one(arithmetic::unary(*unary, Numbers::of(x))?),
        Op::Relu => return one(arithmetic::map(Numbers::of(x), |v| v.max(0.0), |v| v.max(0))),
        Op::Clip { min, max } => {
            let whole = |v: i64| v.clamp(*min as i64, (*max as i64).max(*min as i64));
            return one(arithmetic::map(Numbers::of(x), |v| v.max(f64::from(*min)).min(f64::from(*max)), whole));
        }
        Op::Binary(binary) => return one(arithmetic::binary(*binary, broadcast(x), broadcast(operand(1)?))?),
        Op::Add | Op::Sub | Op::Mul | Op::Div => {
            return one(arithmetic::basic(op, broadcast(x), broadcast(operand(1)?))?);
        }
        Op::Variadic(variadic) => {
            let all = (0..operands.len()).map(|i| Ok(broadcast(operand(i)?))).collect::<Result<Vec<_>, String>>()?;
            return one(arithmetic::variadic(*variadic, all)?);
        }
        Op::Where => {
            let chosen = broadcast(x).whole()?;
            return one(arithmetic::choose(&chosen, broadcast(operand(1)?), broadcast(operand(2)?)));
        }
        Op::Reduce { reduction, axes, .. } => return one(order::reduce(*reduction, x, axes)),
        Op::ReduceMean { axes, .. } => return one(order::mean(x, axes)),
        Op::ArgExtreme { largest, axis, last, .. } => return one(order::arg_extreme(x, *axis, *largest, *last)),
        Op::CumSum { axis, exclusive, reverse } => return one(order::cumulated(x, *axis, *exclusive, *reverse)),
        Op::TopK { axis, k, largest } => {
            let (at, indices) = order::top(x, *axis, *k, *largest);
            return Ok(vec![Tensor::new(shape.clone(), pick(&x.data, &at)), Tensor::i64(shape.clone(), indices)]);
        }
        Op::Trilu { upper, k } => {
            let kept = movement::triangle(shape, *upper, *k);
            let x = Numbers::of(x);
            let none = x.zeros();
            return one(arithmetic::choose(&kept, x, none));
        }
        Op::Quantize { axis, to } => {
            let zero_point = operands.get(2).copied().flatten();
            return one(arithmetic::quantize(x, operand(1)?, zero_point, *axis, *to)?);
        }
        Op::Dequantize { axis } => {
            let zero_point = operands.get(2).copied().flatten();
            return one(arithmetic::dequantize(x, operand(1)?, zero_point, *axis)?);
        }
        Op::MaxPool(pool) if !x.dtype().is_float() => return one(window::max_pool(x, pool, shape)?),
        Op::ConvInteger(conv) => {
            let zero_points = [2, 3].map(|i| operands.get(i).copied().flatten());
            return one(window::conv_integer([x, operand(1)?], zero_points, conv, shape)?);
        }
        Op::MatMulInteger => {
            let zero_points = [2, 3].map(|i| operands.get(i).copied().flatten());
            return one(window::matmul_integer([x, operand(1)?], zero_points, shape)?);
        }
        Op::OneHot { axis, depth } => return one(movement::one_hot(x, operand(1)?, *axis, *depth)?),
        Op::Pad { pads, mode: PadMode::Constant(value) } => {
            return one(movement::padded(x, pads, f64::from(*value), shape));
        }
        Op::Concat { axis } => {
            let all = (0..operands.len()).map(operand).collect::<Result<Vec<_>, String>>()?;
            let shapes: Vec<Vec<usize>> = all.iter().map(|t| t.shape.clone()).collect();
            let numbers: Vec<Numbers> = all.iter().map(|t| Numbers::of(t)).collect();
            return one(Numbers::gather(&numbers, &elements::concatenated(&shapes, *axis)));
        }
        _ => {}
    }
    let indices = operands.get(1).copied().flatten().map(|t| Numbers::of(t).whole()).transpose()?;
    let indices_shape = operands.get(1).copied().flatten().map(|t| t.shape.as_slice());
    results
        .iter()
        .enumerate()
        .map(|(which, (_, shape))| {
            let at = source(op, &x.shape, indices_shape.zip(indices.as_deref()), shape, which)?;
            Ok(Tensor::new(shape.clone(), pick(&x.data, &at)))
        })
        .collect()
}

/// Results larger than this are not computed here.
const MAX_ELEMENTS: usize = 1 << 26;

/// The elements at these positions.
pub fn pick(data: &Data, at: &[usize]) -> Data {
    fn chosen<T: Copy>(v: &[T], at: &[usize]) -> Vec<T> {
        at.iter().map(|&i| v[i]).collect()
    }
    match data {
        Data::F32(v) => Data::F32(chosen(v, at).into()),
        Data::I8(v) => Data::I8(chosen(v, at)),
        Data::U8(v) => Data::U8(chosen(v, at)),
        Data::I32(v) => Data::I32(chosen(v, at)),
        Data::I64(v) => Data::I64(chosen(v, at)),
        Data::Bool(v) => Data::Bool(chosen(v, at)),
    }
}
