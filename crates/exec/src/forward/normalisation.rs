//! Normalisations.

use super::{Error, Mode, Pass, Value, align, as_images, zip};
use crate::ops::{self, Form, kernel};
use burn::backend::Dispatch;
use burn::backend::ops::{ActivationOps, FloatTensorOps};
use burn::tensor::{Tensor, TensorData, activation};

impl Pass<'_> {
    pub(super) fn batch_norm(&mut self, x: Value, epsilon: f32, relu: bool) -> Result<Value, Error> {
        let (scale, bias) = (self.operand(1)?, self.operand(2)?);
        let shape = x.shape();
        if !matches!(self.mode, Mode::Train { .. }) {
            let statistics = self.network.lock();
            let missing = || self.unsupported("its statistics are not constants");
            let running = statistics.get(&self.index).ok_or_else(missing)?;
            // y = x · a + b with a = γ / √(σ² + ε), b = β − μ · a
            let column = |v: Vec<f32>, like: &Value| {
                let device = like.clone().into_tensor::<1>().map(|t| t.device())?;
                Ok::<_, Error>(Value::from_tensor(Tensor::<1>::from_data(
                    TensorData::new(v.clone(), [v.len()]),
                    &device,
                )))
            };
            let inverse = running.variance.iter().map(|v| 1.0 / (v + epsilon).sqrt()).collect();
            let inverse = column(inverse, &scale)?;
            let mean = column(running.mean.clone(), &scale)?;
            let gain = zip(scale, inverse, Dispatch::float_mul);
            let offset = zip(bias, zip(mean, gain.clone(), Dispatch::float_mul), Dispatch::float_sub);
            let mut wide = vec![1; shape.len()];
            wide[1] = shape[1];
            let y = zip(x, gain.reshape(&wide), Dispatch::float_mul);
            let y = zip(y, offset.reshape(&wide), Dispatch::float_add);
            return Ok(if relu { y.map(Dispatch::relu) } else { y });
        }
        let images = as_images(&shape);
        let (output, statistics) = ops::batch_norm_train(
            x.reshape(&images).into_tensor()?,
            scale.into_tensor()?,
            bias.into_tensor()?,
            Form { epsilon, relu },
        );
        self.network.move_statistics(self.index, &statistics, shape.iter().product::<usize>() / shape[1], self.mode);
        Ok(Value::from_tensor(output).reshape(&shape))
    }

    /// Over all axes from `axis` on (Ba, Kiros, Hinton 2016).
    pub(super) fn layer_norm(&mut self, x: Value, axis: usize, epsilon: f32) -> Result<Value, Error> {
        let shape = x.shape();
        let inner: usize = shape[axis..].iter().product();
        let scale = self.node.input(1).map(|_| self.operand(1)).transpose()?;
        let bias = self.node.input(2).map(|_| self.operand(2)).transpose()?;
        // A scale and a bias by element of a row, as everyone has them; the specification lets them broadcast.
        let whole = |v: &Value| v.shape().iter().product::<usize>() == inner;
        let mut x = x;
        if let Some(scale) = scale.as_ref().filter(|s| whole(s) && bias.as_ref().is_none_or(whole)) {
            let operands = [Some(x), Some(scale.clone().reshape(&[inner])), bias.clone().map(|b| b.reshape(&[inner]))];
            let mut operands: Vec<_> = operands.into_iter().flatten().map(Value::into_dispatch).collect();
            if kernel::takes(&operands) {
                return Ok(Value::from_dispatch(ops::layer_norm(operands, epsilon)));
            }
            x = Value::from_dispatch(operands.swap_remove(0));
        }
        let mut y = standardised(x, inner, epsilon).reshape(&shape);
        for (operand, f) in [(scale, Dispatch::float_mul as fn(_, _) -> _), (bias, Dispatch::float_add)] {
            if let Some(operand) = operand {
                let (a, b) = align(y, operand);
                y = zip(a, b, f);
            }
        }
        Ok(y)
    }

    /// Over groups of channels (Wu, He 2018); a group for each channel is instance normalisation.
    pub(super) fn group_norm(&mut self, x: Value, groups: usize, epsilon: f32) -> Result<Value, Error> {
        let shape = x.shape();
        let inner = shape[1] / groups * shape[2..].iter().product::<usize>();
        let mut wide = vec![1; shape.len()];
        wide[1] = shape[1];
        let y = standardised(x, inner, epsilon).reshape(&shape);
        let y = zip(y, self.operand(1)?.reshape(&wide), Dispatch::float_mul);
        Ok(zip(y, self.operand(2)?.reshape(&wide), Dispatch::float_add))
    }
}

/// Rows of `inner` elements, each with mean 0 and variance 1.
fn standardised(x: Value, inner: usize, epsilon: f32) -> Value {
    let rows = x.rows(inner);
    let centred = rows.clone() - rows.mean_dim(1);
    let variance = (centred.clone() * centred.clone()).mean_dim(1);
    Value::from_tensor(centred / (variance + epsilon).sqrt())
}

/// Across neighbouring channels: `x / (bias + alpha / size · Σ x²)^beta`.
pub(super) fn lrn(x: Value, size: usize, alpha: f32, beta: f32, bias: f32) -> Value {
    let shape = x.shape();
    let (n, c) = (shape[0], shape[1]);
    let x = Tensor::<3>::from_dispatch(x.reshape(&[n, c, shape[2..].iter().product()]).into_dispatch());
    let before = (size - 1) / 2;
    let squares = (x.clone() * x.clone()).pad([(0, 0), (before, size - 1 - before), (0, 0)], 0.0);
    let sum = (1..size).fold(squares.clone().narrow(1, 0, c), |sum, i| sum + squares.clone().narrow(1, i, c));
    let scale = (sum * (alpha / size as f32) + bias).powf_scalar(beta);
    Value::from_tensor(x / scale).reshape(&shape)
}

/// Divided by the norm along an axis; nothing stays nothing.
pub(super) fn lp_norm(x: Value, axis: usize, order: usize) -> Value {
    let shape = x.shape();
    let x = x.around(axis);
    let norm = match order {
        1 => x.clone().abs().sum_dim(1),
        _ => (x.clone() * x.clone()).sum_dim(1).sqrt(),
    };
    let zero = norm.clone().equal_elem(0.0);
    Value::from_tensor(x / norm.mask_fill(zero, 1.0)).reshape(&shape)
}

/// Over one axis of a tensor of any rank: seen as `[outer, axis, inner]`.
pub(super) fn softmax(x: Value, axis: usize, log: bool) -> Value {
    let shape = x.shape();
    let (outer, inner): (usize, usize) = (shape[..axis].iter().product(), shape[axis + 1..].iter().product());
    let x = Tensor::<3>::from_dispatch(x.reshape(&[outer, shape[axis], inner]).into_dispatch());
    let y = if log { activation::log_softmax(x, 1) } else { activation::softmax(x, 1) };
    Value::from_tensor(y).reshape(&shape)
}
