//! Elements that move.

use super::{Datum, Error, Pass, Value};
use burn::backend::Dispatch;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::ops::PadMode as BurnPad;
use burn::tensor::{Bool, Int, Shape, Slice, Tensor, TensorData};
use kdc_ir::graph::{Op, PadMode};
use kdc_ir::host;

impl Pass<'_> {
    pub(super) fn pad(&mut self, x: Value, pads: &[i64], mode: PadMode) -> Result<Value, Error> {
        let shape = x.shape();
        let rank = shape.len();
        // burn reflects once.
        let often = mode == PadMode::Reflect && (0..2 * rank).any(|d| pads[d] >= shape[d % rank] as i64);
        if often || mode == PadMode::Wrap {
            return self.moved(x)?.remove(0).into_float();
        }
        let crop: Vec<Slice> = (0..rank)
            .map(|d| {
                let cut = |p: i64| usize::try_from(-p).unwrap_or(0);
                Slice::from(cut(pads[d])..shape[d] - cut(pads[d + rank]))
            })
            .collect();
        let x = if pads.iter().any(|&p| p < 0) { x.map(|t| Dispatch::float_slice(t, &crop)) } else { x };
        let grow: Vec<(usize, usize)> = (0..rank)
            .map(|d| (usize::try_from(pads[d]).unwrap_or(0), usize::try_from(pads[d + rank]).unwrap_or(0)))
            .collect();
        let mode = match mode {
            PadMode::Constant(value) => BurnPad::Constant(value),
            PadMode::Reflect => BurnPad::Reflect,
            PadMode::Edge | PadMode::Wrap => BurnPad::Edge,
        };
        pad_any(x, &grow, mode).ok_or_else(|| self.unsupported(format!("padding of rank {rank} is not there yet")))
    }

    /// Picks along an axis, by indices that the network may have computed.
    pub(super) fn gather(&mut self, x: Value, axis: usize) -> Result<Value, Error> {
        let extent = x.shape()[axis] as i64;
        let indices = host::Numbers::of(&*self.host(1)?).whole().map_err(|why| self.unsupported(why))?;
        let indices: Vec<i64> = indices.iter().map(|&i| if i < 0 { i + extent } else { i }).collect();
        if let Some(i) = indices.iter().find(|i| !(0..extent).contains(i)) {
            return Err(self.unsupported(format!("index {i} lies outside 0..{extent}")));
        }
        let picked = select(x, axis, indices);
        Ok(picked.reshape(&self.output_shape()))
    }

    /// Any other movement: where each element comes from is computed on the host.
    pub(super) fn moved(&mut self, x: Value) -> Result<Vec<Datum>, Error> {
        let indices = match self.node.op {
            Op::GatherElements { .. } | Op::GatherNd { .. } => Some(self.host(1)?),
            _ => None,
        };
        let numbers = indices.as_ref().map(|t| host::Numbers::of(t).whole());
        let numbers = numbers.transpose().map_err(|why| self.unsupported(why))?;
        let indices = indices.as_ref().zip(numbers.as_ref()).map(|(t, n)| (t.shape.as_slice(), n.as_slice()));
        let (shape, count) = (x.shape(), x.shape().iter().product::<usize>());
        let flat = x.reshape(&[count]);
        let results = self.result_shapes();
        let one = |(which, result): (usize, &Vec<usize>)| {
            let at = host::source(&self.node.op, &shape, indices, result, which).map_err(|e| self.unsupported(e))?;
            let at = at.into_iter().map(|i| i as i64).collect();
            Ok(select(flat.clone(), 0, at).reshape(result).into())
        };
        results.iter().enumerate().map(one).collect()
    }

    /// What is outside the triangle is nothing, whatever it was.
    pub(super) fn triangle(&self, x: Value, upper: bool, k: i64) -> Value {
        let shape = x.shape();
        let outside: Vec<bool> = host::triangle(&shape, upper, k).into_iter().map(|kept| kept == 0).collect();
        let (count, x) = (outside.len(), x.flattened());
        let mask = Tensor::<1, Bool>::from_data(TensorData::new(outside, [count]), &x.device());
        Value::flat(x.mask_fill(mask, 0.0), &shape)
    }

    pub(super) fn expand(&self, x: Value) -> Value {
        let shape = self.output_shape();
        expanded(x, &shape)
    }
}

/// Picks along an axis.
pub(super) fn select(x: Value, axis: usize, indices: Vec<i64>) -> Value {
    let device = Tensor::<1>::from_dispatch(x.clone().into_dispatch()).device();
    let count = indices.len();
    let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [count]), &device);
    x.map(|t| Dispatch::float_select(t, axis, indices.into_dispatch()))
}

/// Broadcast to `shape`, as ONNX does.
pub(super) fn expanded(x: Value, shape: &[usize]) -> Value {
    let own = x.shape();
    let missing = shape.len() - own.len();
    let lifted = if missing == 0 { x } else { x.reshape(&[vec![1; missing], own].concat()) };
    match lifted.shape() == shape {
        true => lifted,
        false => lifted.map(|t| Dispatch::float_expand(t, Shape::from(shape.to_vec()))),
    }
}

pub(super) fn pad_any(x: Value, grow: &[(usize, usize)], mode: BurnPad) -> Option<Value> {
    let x = x.into_dispatch();
    Some(match *grow {
        [a] => Value::from_tensor(Tensor::<1>::from_dispatch(x).pad([a], mode)),
        [a, b] => Value::from_tensor(Tensor::<2>::from_dispatch(x).pad([a, b], mode)),
        [a, b, c] => Value::from_tensor(Tensor::<3>::from_dispatch(x).pad([a, b, c], mode)),
        [a, b, c, d] => Value::from_tensor(Tensor::<4>::from_dispatch(x).pad([a, b, c, d], mode)),
        [a, b, c, d, e] => Value::from_tensor(Tensor::<5>::from_dispatch(x).pad([a, b, c, d, e], mode)),
        _ => return None,
    })
}
