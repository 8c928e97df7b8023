//! Products with weights.

use super::movement::pad_any;
use super::normalisation::softmax;
use super::{Error, Pass, Value, align, as_images, scaled, zip};
use crate::ops::{self, ConvNorm, Form, kernel};
use burn::backend::Dispatch;
use burn::backend::ops::{ActivationOps, FloatTensorOps};
use burn::tensor::module::{conv_transpose2d, conv_transpose3d, conv3d};
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions, PadMode as BurnPad};
use kdc_ir::graph::{Conv, ConvTranspose, Dim, Op};

impl Pass<'_> {
    pub(super) fn gemm(
        &mut self,
        a: Value,
        (alpha, beta): (f32, f32),
        trans_a: bool,
        trans_b: bool,
    ) -> Result<Value, Error> {
        let b = self.operand(1)?;
        let turned = |v: Value, turn: bool| if turn { v.map(|t| Dispatch::float_swap_dims(t, 0, 1)) } else { v };
        let (a, b) = (turned(a, trans_a), turned(b, trans_b));
        let columns = b.shape()[1];
        if let (1.0, Some(id)) = (alpha, self.node.input(2))
            && self.network.graph.value(id).shape == [Dim::Fixed(columns)]
        {
            let bias = scaled(self.operand(2)?, beta);
            return Ok(linear(a, b, Some(bias)));
        }
        let product = scaled(matmul(a, b), alpha);
        match self.node.input(2) {
            None => Ok(product),
            Some(_) => {
                let (product, bias) = align(product, scaled(self.operand(2)?, beta));
                Ok(zip(product, bias, Dispatch::float_add))
            }
        }
    }

    pub(super) fn conv(&mut self, conv: &Conv, x: Value) -> Result<Value, Error> {
        let weights = self.operand(1)?;
        let bias = self.node.input(2).map(|_| self.operand(2)).transpose()?;
        let out = self.output_shape();
        if let [_, _, _] = conv.kernel[..] {
            let grow =
                (0..5).map(|d| if d < 2 { (0, 0) } else { (conv.pads[d - 2], conv.pads[d + 1]) }).collect::<Vec<_>>();
            let x = pad_any(x, &grow, BurnPad::Constant(0.0))
                .ok_or_else(|| self.unsupported("its operand is no volume"))?;
            let options = ConvOptions::new(triple(&conv.strides), [0; 3], triple(&conv.dilations), conv.group);
            let y = Value::from_tensor(conv3d(x.into_tensor()?, weights.into_tensor()?, None, options));
            return Ok(biased(y, bias));
        }
        let options = self.conv_options(conv)?;
        let [x, weights] = [x, weights].map(as_planes);
        let y = Value::from_tensor(ops::conv2d(x.into_tensor()?, weights.into_tensor()?, options)).reshape(&out);
        Ok(biased(y, bias))
    }

    /// A 1-D convolution is a 2-D one of height 1.
    fn conv_options(&self, conv: &Conv) -> Result<ConvOptions<2>, Error> {
        let n = conv.kernel.len();
        if n != 1 && n != 2 {
            return Err(self.unsupported(format!("{n}-D convolutions are not there yet")));
        }
        let pair = |v: &[usize], fill: usize| if n == 1 { [fill, v[0]] } else { [v[0], v[1]] };
        let (begin, end) = (pair(&conv.pads[..n], 0), pair(&conv.pads[n..], 0));
        let pads = [0, 1].map(|d| (begin[d], end[d]));
        let (stride, dilation) = (pair(&conv.strides, 1), pair(&conv.dilations, 1));
        Ok(ConvOptions::new_with_padding(stride, pads, dilation, conv.group))
    }

    /// A convolution, the batch norm after it, and what else is fused.
    pub(super) fn conv_norm(
        &mut self,
        conv: usize,
        norm: usize,
        skip: Option<Value>,
        relu: bool,
    ) -> Result<Value, Error> {
        let Op::Conv(op) = &self.turn_to(conv).op else { unreachable!("so it was found") };
        let (op, out) = (op.clone(), self.output_shape());
        let (x, weights) = (self.operand(0)?, self.operand(1)?);
        let options = self.conv_options(&op)?;
        let Op::BatchNormalization { epsilon } = self.turn_to(norm).op else { unreachable!("so it was found") };
        let (scale, bias) = (self.operand(1)?, self.operand(2)?);
        let [x, weights] = [x, weights].map(as_planes);
        let mut operands: Vec<_> = [x, weights, scale, bias].map(Value::into_dispatch).into();
        let images = as_images(&out);
        operands.extend(skip.map(|skip| skip.reshape(&images).into_dispatch()));
        if kernel::takes(&operands) {
            let form = ConvNorm { options, form: Form { epsilon, relu } };
            let (y, statistics) = ops::conv_norm(form, operands);
            self.network.move_statistics(norm, &statistics, out.iter().product::<usize>() / out[1], self.mode);
            return Ok(Value::from_dispatch(y).reshape(&out));
        }
        let mut operands = operands.into_iter().map(Value::from_dispatch);
        let mut next = || operands.next().ok_or_else(|| Error::Operand { node: self.node.name.clone(), index: 0 });
        let (x, weights, scale, bias) = (next()?, next()?, next()?, next()?);
        let form = Form { epsilon, relu: relu && operands.len() == 0 };
        let y = ops::conv2d(x.into_tensor()?, weights.into_tensor()?, options);
        let (y, statistics) = ops::batch_norm_train(y, scale.into_tensor()?, bias.into_tensor()?, form);
        self.network.move_statistics(norm, &statistics, out.iter().product::<usize>() / out[1], self.mode);
        let mut y = Value::from_tensor(y);
        if let Some(skip) = operands.next() {
            y = zip(y, skip, Dispatch::float_add);
            y = if relu { y.map(Dispatch::relu) } else { y };
        }
        Ok(y.reshape(&out))
    }

    /// burn's own, without pads: those are cut off afterwards, so that they need not be alike on both sides.
    pub(super) fn conv_transpose(&mut self, op: &ConvTranspose, x: Value) -> Result<Value, Error> {
        let (weights, conv) = (self.operand(1)?, &op.conv);
        let bias = self.node.input(2).map(|_| self.operand(2)).transpose()?;
        let (out, n) = (self.output_shape(), conv.kernel.len());
        if let [_, _, _] = conv.kernel[..] {
            let options = ConvTransposeOptions {
                stride: triple(&conv.strides),
                padding: [0; 3],
                padding_out: triple(&op.output_padding),
                dilation: triple(&conv.dilations),
                groups: conv.group,
            };
            let y = conv_transpose3d(x.into_tensor()?, weights.into_tensor()?, None, options);
            let inside = |d: usize| conv.pads[d]..conv.pads[d] + out[d + 2];
            let y = y.slice([0..out[0], 0..out[1], inside(0), inside(1), inside(2)]);
            return Ok(biased(Value::from_tensor(y), bias));
        }
        if n > 2 {
            return Err(self.unsupported(format!("{n}-D transposed convolutions are not there yet")));
        }
        let lift = |v: Value| {
            let s = v.shape();
            if n == 1 { v.reshape(&[s[0], s[1], 1, s[2]]) } else { v }
        };
        let pair = |v: &[usize], fill: usize| if n == 1 { [fill, v[0]] } else { [v[0], v[1]] };
        let options = ConvTransposeOptions {
            stride: pair(&conv.strides, 1),
            padding: [0, 0],
            padding_out: pair(&op.output_padding, 0),
            dilation: pair(&conv.dilations, 1),
            groups: conv.group,
        };
        let y = conv_transpose2d(lift(x).into_tensor()?, lift(weights).into_tensor()?, None, options);
        let begin = pair(&conv.pads[..n], 0);
        let extents = if n == 1 { [1, out[2]] } else { [out[2], out[3]] };
        let y = y.slice([0..out[0], 0..out[1], begin[0]..begin[0] + extents[0], begin[1]..begin[1] + extents[1]]);
        let y = Value::from_tensor(y).reshape(&out);
        Ok(biased(y, bias))
    }
}

fn triple(v: &[usize]) -> [usize; 3] {
    [v[0], v[1], v[2]]
}

/// A number for each channel added.
fn biased(y: Value, bias: Option<Value>) -> Value {
    let Some(bias) = bias else { return y };
    let mut shape = vec![1; y.shape().len()];
    shape[1] = y.shape()[1];
    zip(y, bias.reshape(&shape), Dispatch::float_add)
}

/// `[n, c, l]` as `[n, c, 1, l]`.
fn as_planes(v: Value) -> Value {
    match v.shape()[..] {
        [n, c, l] => v.reshape(&[n, c, 1, l]),
        _ => v,
    }
}

/// Rows of the left operand times a matrix by our own kernel on the CPU, every other product by burn's.
pub(super) fn matmul(a: Value, b: Value) -> Value {
    if b.shape().len() == 2 && a.shape().len() >= 2 {
        return linear(a, b, None);
    }
    let (a, b) = align(a, b);
    zip(a, b, Dispatch::float_matmul)
}

/// `x · weights + bias` of `[.., k]`, `[k, n]` and `[n]`.
pub(super) fn linear(x: Value, weights: Value, bias: Option<Value>) -> Value {
    let [x, weights] = [x, weights].map(Value::into_dispatch);
    let bias = bias.map(Value::into_dispatch);
    if kernel::takes([&x, &weights].into_iter().chain(&bias)) {
        return Value::from_dispatch(ops::linear(x, weights, bias));
    }
    let (x, weights) = align(Value::from_dispatch(x), Value::from_dispatch(weights));
    let product = zip(x, weights, Dispatch::float_matmul);
    let Some(bias) = bias else { return product };
    let (product, bias) = align(product, Value::from_dispatch(bias));
    zip(product, bias, Dispatch::float_add)
}

/// `softmax(factor · q · k) · v` of rank 4, with `k` turned.
pub(super) fn attention(q: Value, k: Value, v: Value, factor: f32) -> Value {
    let operands = [q, k, v].map(Value::into_dispatch);
    if kernel::takes(&operands) {
        let [q, k, v] = &operands;
        if let Some(result) = ops::attention(q, k, v, factor) {
            return Value::from_dispatch(result);
        }
    }
    let [q, k, v] = operands.map(Value::from_dispatch);
    let scores = scaled(matmul(q, k), factor);
    let axis = scores.shape().len() - 1;
    matmul(softmax(scores, axis, false), v)
}
