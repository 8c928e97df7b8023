//! The numbers of kernels: from scales and weights, in `f64`, once.

use super::{AddParams, AverageParams, LayerNormParams, Linear, MatMulParams, MulParams, Multiplier, Precision};
use crate::graph::{Graph, Node, Op, ValueId};
use crate::quant::quantize;

/// A fused activation, as bounds on the real result.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    min: f32,
    max: f32,
}

impl Bounds {
    pub fn of(activation: Option<&Op>) -> Bounds {
        let (min, max) = match activation {
            Some(Op::Relu) => (0.0, f32::INFINITY),
            Some(Op::Clip { min, max }) => (*min, *max),
            _ => (f32::NEG_INFINITY, f32::INFINITY),
        };
        Bounds { min, max }
    }

    pub fn is_open(self) -> bool {
        self.min == f32::NEG_INFINITY && self.max == f32::INFINITY
    }
}

pub(super) struct Numbers<'a> {
    pub graph: &'a Graph,
    pub precision: Precision,
}

type Made<T> = Result<T, String>;

impl Numbers<'_> {
    /// Scale and zero point of a stored value.
    fn scale(&self, id: ValueId) -> (f64, i8) {
        let quant = self.graph.value(id).quant.as_ref();
        quant.map_or((1.0, 0), |q| (f64::from(q.scale[0]), q.zero_point[0] as i8))
    }

    /// A real number as a value stores it.
    pub fn stored(&self, id: ValueId, real: f32) -> i8 {
        let (scale, zero) = self.scale(id);
        quantize(real, scale as f32, zero.into(), -128, 127) as i8
    }

    fn clamp(&self, out: ValueId, bounds: Bounds) -> (i8, i8) {
        (self.stored(out, bounds.min.max(f32::MIN)), self.stored(out, bounds.max.min(f32::MAX)))
    }

    /// Weights, bias and requantization of a convolution or product. `arrange` brings the weights from the network's
    /// order to the kernel's; `axis` is that of the output channels in the network's.
    #[allow(clippy::too_many_arguments)]
    pub fn linear(
        &self,
        node: &Node,
        x: ValueId,
        bias: Option<ValueId>,
        out: ValueId,
        axis: usize,
        alpha: f32,
        beta: f32,
        bounds: Bounds,
        arrange: &dyn Fn(&[f32]) -> Vec<f32>,
    ) -> Made<Linear> {
        let w = node.input(1).ok_or("its weights are missing")?;
        let weights = self.graph.constant(w).ok_or("its weights are computed by the network itself")?;
        let channels = weights.shape[axis];
        let values = weights.to_f32();
        let bias = match bias {
            None => vec![0.0; channels],
            Some(b) => {
                let bias =
                    self.graph.constant(b).ok_or("its bias is computed by the network itself")?.to_f32().into_owned();
                match bias.len() {
                    n if n == channels => bias,
                    1 => vec![bias[0]; channels],
                    n => return Err(format!("its bias has {n} elements for {channels} channels")),
                }
            }
        };
        if self.precision == Precision::F32 {
            let scaled = |v: &[f32], by: f32| v.iter().map(|v| v * by).collect::<Vec<f32>>();
            let weights = arrange(&if alpha == 1.0 { values.to_vec() } else { scaled(&values, alpha) });
            let bias = if beta == 1.0 { bias } else { scaled(&bias, beta) };
            return Ok(Linear::F32 { weights, bias, min: bounds.min, max: bounds.max });
        }
        let params = self.graph.value(w).quant.as_ref().ok_or("its weights are not quantized")?;
        let inner: usize = weights.shape[axis + 1..].iter().product();
        let store = |(i, &v): (usize, &f32)| {
            let channel = i / inner % channels;
            quantize(v, params.scale[channel], 0, -127, 127) as f32
        };
        let stored: Vec<f32> = values.iter().enumerate().map(store).collect();
        // Small integers pass through f32 unchanged.
        let weights = arrange(&stored).into_iter().map(|v| v as i8).collect();
        let (input, input_zero) = self.scale(x);
        let (output, output_zero) = self.scale(out);
        let mut requant = Vec::with_capacity(channels);
        let mut sums = Vec::with_capacity(channels);
        for (channel, &b) in bias.iter().enumerate() {
            let scale = input * f64::from(params.scale[channel]) * f64::from(alpha);
            let multiplier = Multiplier::from_real(scale / output);
            let wrong = || format!("the scales of channel {channel} are too far apart for 32 bits");
            requant.push(multiplier.ok_or_else(wrong)?);
            let sum = (f64::from(b) * f64::from(beta) / scale).round_ties_even();
            sums.push(sum.clamp(f64::from(i32::MIN / 2), f64::from(i32::MAX / 2)) as i32);
        }
        let (min, max) = self.clamp(out, bounds);
        Ok(Linear::Int8 { weights, bias: sums, requant, input_zero, output_zero, min, max })
    }

    /// Averages of up to `largest` elements.
    pub fn average(&self, x: ValueId, out: ValueId, largest: usize) -> Made<AverageParams> {
        if self.precision == Precision::F32 {
            return Ok(AverageParams::F32);
        }
        let ((input, input_zero), (output, output_zero)) = (self.scale(x), self.scale(out));
        let multiplier =
            |n: usize| Multiplier::from_real(input / output / n as f64).ok_or("its scales are too far apart");
        let requant = (1..=largest).map(multiplier).collect::<Result<_, _>>()?;
        Ok(AverageParams::Int8 { input_zero, output_zero, requant })
    }

    /// `signs[0] · a + signs[1] · b`; in `f32` both signs are positive.
    pub fn add(&self, a: ValueId, b: ValueId, out: ValueId, bounds: Bounds, signs: [f64; 2]) -> Made<AddParams> {
        if self.precision == Precision::F32 {
            return Ok(AddParams::F32 { min: bounds.min, max: bounds.max });
        }
        let ((sa, a_zero), (sb, b_zero), (so, output_zero)) = (self.scale(a), self.scale(b), self.scale(out));
        let (ga, gb) = (sa / so, sb / so);
        // As many fraction bits as keep the larger gain inside 30 bits.
        let bits = 29 - ga.max(gb).log2().floor() as i32;
        let shift = u8::try_from(bits.clamp(1, 50)).map_err(|_| "its scales are too far apart")?;
        let fixed = |g: f64| (g * 2f64.powi(shift.into())).round();
        let (a_gain, b_gain) = (signs[0] * fixed(ga), signs[1] * fixed(gb));
        if a_gain.abs().max(b_gain.abs()) >= 2f64.powi(31) {
            return Err("its scales are too far apart for 32 bits".into());
        }
        let (min, max) = self.clamp(out, bounds);
        let (a_gain, b_gain) = (a_gain as i32, b_gain as i32);
        Ok(AddParams::Int8 { a_zero, b_zero, a_gain, b_gain, shift, output_zero, min, max })
    }

    pub fn mul(&self, a: ValueId, b: ValueId, out: ValueId, bounds: Bounds) -> Made<MulParams> {
        if self.precision == Precision::F32 {
            return Ok(MulParams::F32 { min: bounds.min, max: bounds.max });
        }
        let ((sa, a_zero), (sb, b_zero), (so, output_zero)) = (self.scale(a), self.scale(b), self.scale(out));
        let requant = Multiplier::from_real(sa * sb / so).ok_or("its scales are too far apart for 32 bits")?;
        let (min, max) = self.clamp(out, bounds);
        Ok(MulParams::Int8 { a_zero, b_zero, output_zero, requant, min, max })
    }

    pub fn div(&self, a: ValueId, b: ValueId, out: ValueId, bounds: Bounds) -> Made<MulParams> {
        if self.precision == Precision::F32 {
            return Ok(MulParams::F32 { min: bounds.min, max: bounds.max });
        }
        let ((sa, a_zero), (sb, b_zero), (so, output_zero)) = (self.scale(a), self.scale(b), self.scale(out));
        // The kernel shifts a divisor of 9 bits by this and one more.
        let requant = Multiplier::from_real(sa / sb / so).filter(|m| m.shift <= 52);
        let requant = requant.ok_or("its scales are too far apart for 32 bits")?;
        let (min, max) = self.clamp(out, bounds);
        Ok(MulParams::Int8 { a_zero, b_zero, output_zero, requant, min, max })
    }

    pub fn matmul(&self, a: ValueId, b: ValueId, out: ValueId) -> Made<MatMulParams> {
        if self.precision == Precision::F32 {
            return Ok(MatMulParams::F32);
        }
        let ((sa, a_zero), (sb, b_zero), (so, output_zero)) = (self.scale(a), self.scale(b), self.scale(out));
        let requant = Multiplier::from_real(sa * sb / so).ok_or("its scales are too far apart for 32 bits")?;
        Ok(MatMulParams::Int8 { a_zero, b_zero, output_zero, requant })
    }

    /// Normalisation of rows of `len` elements.
    pub fn layer_norm(
        &self,
        x: ValueId,
        out: ValueId,
        mut scale: Vec<f32>,
        mut bias: Vec<f32>,
        epsilon: f32,
        len: usize,
    ) -> LayerNormParams {
        if self.precision == Precision::F32 {
            return LayerNormParams::F32 { scale, bias, epsilon };
        }
        let ((input, _), (output, output_zero)) = (self.scale(x), self.scale(out));
        let stored = |v: &mut f32| *v = (f64::from(*v) / output) as f32;
        scale.iter_mut().chain(&mut bias).for_each(stored);
        let epsilon = (f64::from(epsilon) * (len as f64 / input).powi(2)) as f32;
        LayerNormParams::Int8 { scale, bias, epsilon, output_zero }
    }

    /// `exp(−d · scale) · 2^23` for each distance `d` from a row's maximum.
    pub fn exponentials(&self, x: ValueId) -> Option<Box<[u32; 256]>> {
        let (scale, _) = self.scale(x);
        let power = |d: usize| ((-(d as f64) * scale).exp() * 2f64.powi(23)).round() as u32;
        (self.precision == Precision::Int8).then(|| Box::new(std::array::from_fn(power)))
    }
}
