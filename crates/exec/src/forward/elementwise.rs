//! Functions of elements.

use super::movement::expanded;
use super::{Burn, Error, Pass, Value, align, zip};
use crate::ops::{Function, kernel};
use burn::backend::Dispatch;
use burn::backend::ops::{ActivationOps, FloatTensorOps};
use burn::tensor::{Bool, Tensor, TensorData};
use kdc_ir::graph::{Binary, Unary, Variadic};

impl Pass<'_> {
    /// Addition and its kind, which burn broadcasts itself.
    pub(super) fn basic(&mut self, a: Value, f: fn(Burn, Burn) -> Burn) -> Result<Value, Error> {
        let (a, b) = align(a, self.operand(1)?);
        Ok(zip(a, b, f))
    }

    /// A function of floats that gives floats; comparisons are computed on the host.
    pub(super) fn binary(&mut self, binary: Binary, x: Value) -> Result<Value, Error> {
        let shape = self.output_shape();
        if binary == Binary::Pow
            && let Some(exponent) = self.exponent()
        {
            return Ok(Value::flat(power(x.flattened(), exponent), &shape));
        }
        let a = expanded(x, &shape).flattened();
        let b = expanded(self.float_or_converted(1)?, &shape).flattened();
        let y = match binary {
            Binary::Pow => a.powf(b),
            // The quotient's integer part has no gradient: the remainder's is that of the dividend.
            Binary::Mod { fmod } => {
                let quotient = a.clone().detach() / b.clone().detach();
                let whole = if fmod { quotient.trunc() } else { quotient.floor() };
                a - b * whole
            }
            Binary::PRelu => a.clone().clamp_min(0.0) + a.clamp_max(0.0) * b,
            _ => return Err(self.unsupported("it is not a function of floats")),
        };
        Ok(Value::flat(y, &shape))
    }

    /// A constant exponent of one element: its powers have simpler gradients, right at and below zero.
    fn exponent(&self) -> Option<f64> {
        let constant = self.network.fixed(self.node.input(1)?)?;
        match *constant.to_f32() {
            [one] if self.output_shape() == self.shape_of(0)? => Some(one.into()),
            _ => None,
        }
    }

    pub(super) fn variadic(&mut self, variadic: Variadic, first: Value) -> Result<Value, Error> {
        let shape = self.output_shape();
        let count = self.node.inputs.len();
        let mut all = expanded(first, &shape).flattened();
        for i in 1..count {
            let next = expanded(self.operand(i)?, &shape).flattened();
            all = match variadic {
                Variadic::Max => all.max_pair(next),
                Variadic::Min => all.min_pair(next),
                Variadic::Sum | Variadic::Mean => all + next,
            };
        }
        let all = if variadic == Variadic::Mean { all / count as f64 } else { all };
        Ok(Value::flat(all, &shape))
    }

    /// What is not chosen has no gradient, whatever it is.
    pub(super) fn chosen(&mut self) -> Result<Value, Error> {
        let shape = self.output_shape();
        let condition = self.host(0)?;
        let at = kdc_ir::host::elements::broadcast(&condition.shape, &shape);
        let truth = condition.to_f32();
        let mask: Vec<bool> = at.into_iter().map(|i| truth[i] != 0.0).collect();
        let (yes, no) =
            (expanded(self.operand(1)?, &shape).flattened(), expanded(self.operand(2)?, &shape).flattened());
        let count = mask.len();
        let mask = Tensor::<1, Bool>::from_data(TensorData::new(mask, [count]), &yes.device());
        Ok(Value::flat(no.mask_where(mask, yes), &shape))
    }
}

fn power(x: Tensor<1>, exponent: f64) -> Tensor<1> {
    match exponent {
        0.0 => x.ones_like(),
        0.5 => x.sqrt(),
        1.0 => x,
        2.0 => x.clone() * x,
        3.0 => x.clone() * x.clone() * x,
        -1.0 => x.recip(),
        -0.5 => x.sqrt().recip(),
        other => x.powf_scalar(other),
    }
}

/// A function of one float that gives a float.
pub(super) fn unary(unary: Unary, x: Tensor<1>) -> Option<Tensor<1>> {
    Some(match unary {
        Unary::Abs => x.abs(),
        Unary::Neg => x.neg(),
        Unary::Exp => x.exp(),
        Unary::Log => x.log(),
        Unary::Sqrt => x.sqrt(),
        Unary::Reciprocal => x.recip(),
        Unary::Erf => x.erf(),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Tan => x.tan(),
        Unary::Asin => x.asin(),
        Unary::Acos => x.acos(),
        Unary::Atan => x.atan(),
        Unary::Sinh => x.sinh(),
        Unary::Cosh => x.cosh(),
        Unary::Asinh => x.asinh(),
        Unary::Acosh => x.acosh(),
        Unary::Atanh => x.atanh(),
        Unary::Floor => x.floor(),
        Unary::Ceil => x.ceil(),
        Unary::Round => x.round(),
        Unary::Sign => x.sign(),
        Unary::Softplus => softplus(x),
        Unary::Softsign => x.clone() / (x.abs() + 1.0),
        Unary::Elu { alpha } => x.clone().clamp_min(0.0) + below_zero(x, 1.0) * alpha,
        Unary::Celu { alpha } => x.clone().clamp_min(0.0) + below_zero(x, alpha) * alpha,
        Unary::Selu { alpha, gamma } => (x.clone().clamp_min(0.0) + below_zero(x, 1.0) * alpha) * gamma,
        Unary::Gelu { tanh } => gelu(x, tanh),
        Unary::Mish => x.clone() * softplus(x).tanh(),
        Unary::ThresholdedRelu { alpha } => {
            let below = x.clone().lower_equal_elem(alpha);
            x.mask_fill(below, 0.0)
        }
        Unary::Shrink { lambda, bias } => {
            let (low, high) = (x.clone().greater_equal_elem(-lambda), x.clone().lower_equal_elem(lambda));
            (x.clone() + bias).mask_fill(low, 0.0) + (x - bias).mask_fill(high, 0.0)
        }
        Unary::Not | Unary::BitwiseNot | Unary::IsNan | Unary::IsInf { .. } => return None,
    })
}

/// `exp(x / scale) − 1` where x is negative, else 0; never of large numbers, whose gradient would be none.
fn below_zero(x: Tensor<1>, scale: f32) -> Tensor<1> {
    (x.clamp_max(0.0) / scale).exp() - 1.0
}

/// `log(1 + eˣ)`, of any size.
fn softplus(x: Tensor<1>) -> Tensor<1> {
    x.clone().clamp_min(0.0) + (x.abs().neg()).exp().log1p()
}

/// By our own kernel on the CPU, by burn's operators elsewhere.
pub(super) fn function(x: Value, function: Function) -> Value {
    let x = x.into_dispatch();
    if kernel::takes([&x]) {
        return Value::from_dispatch(function.of(x));
    }
    let x = Value::from_dispatch(x);
    match function {
        Function::Relu => x.map(Dispatch::relu),
        Function::LeakyRelu { alpha } => x.map(|t| Dispatch::leaky_relu(t, alpha.into())),
        Function::Clip { min, max } => clip(x, min, max),
        Function::Sigmoid => x.map(Dispatch::sigmoid),
        Function::Tanh => x.map(Dispatch::float_tanh),
        Function::Gelu | Function::GeluTanh => {
            let (shape, tanh) = (x.shape(), function == Function::GeluTanh);
            Value::flat(gelu(x.flattened(), tanh), &shape)
        }
        Function::HardSigmoid { alpha, beta } => hard_sigmoid(x, alpha, beta),
        Function::HardSwish => zip(x.clone(), hard_sigmoid(x, 1.0 / 6.0, 0.5), Dispatch::float_mul),
        Function::Silu => zip(x.clone(), x.map(Dispatch::sigmoid), Dispatch::float_mul),
    }
}

fn gelu(x: Tensor<1>, tanh: bool) -> Tensor<1> {
    if tanh {
        let cube = x.clone() * x.clone() * x.clone();
        let inner = (x.clone() + cube * 0.044715) * (2.0 / std::f64::consts::PI).sqrt();
        return x * (inner.tanh() + 1.0) * 0.5;
    }
    x.clone() * ((x * std::f32::consts::FRAC_1_SQRT_2).erf() + 1.0) * 0.5
}

fn clip(x: Value, min: f32, max: f32) -> Value {
    let x = if min > f32::NEG_INFINITY { x.map(|t| Dispatch::float_clamp_min(t, min.into())) } else { x };
    if max < f32::INFINITY { x.map(|t| Dispatch::float_clamp_max(t, max.into())) } else { x }
}

fn hard_sigmoid(x: Value, alpha: f32, beta: f32) -> Value {
    let line = x.map(|t| Dispatch::float_add_scalar(Dispatch::float_mul_scalar(t, alpha.into()), beta.into()));
    clip(line, 0.0, 1.0)
}
