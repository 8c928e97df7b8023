//! The numbers of kernels: from scales and weights, in `f64`, once.

use super::{AddParams, AverageParams, LayerNormParams, Linear, MatMulParams, MulParams, Multiplier, Precision};
use crate::quant::quantize;
use kdc_ir::graph::{Graph, Node, Op, ValueId};

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

/// The largest shift of a quotient's multiplier: see the kernel of divisions.
pub(super) const MOST_SHIFTED: i32 = 52;

/// The gains of two summands such that fixed point holds both. A summand whose every step is more than the whole range of
/// the result and of the other summand together saturates the result; how much more does not matter.
fn gains(a: f64, b: f64) -> [f64; 2] {
    let most = |other: f64| 512.0 + 256.0 * other;
    let (a, b) = (a.min(most(b)), b.min(most(a)));
    let over = (a.max(b) / 2f64.powi(29)).max(1.0);
    [a / over, b / over]
}

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
        let [min, max] = [bounds.min, bounds.max].map(|v| self.stored(out, v.clamp(f32::MIN, f32::MAX)));
        // Where the bounds are swapped ONNX's Clip gives the upper one.
        (min.min(max), max)
    }

    /// Weights, bias and requantization of a convolution or product. `arrange` brings the weights from the network's
    /// order to the kernel's; `axis` is that of the output channels in the network's.
    #[allow(clippy::too_many_arguments)]
    pub fn linear(
        &self,
        node: &Node,
        x: ValueId,
        bias_id: Option<ValueId>,
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
        let bias = match bias_id {
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
        if (alpha, beta) != (1.0, 1.0) {
            return Err("its factors alpha and beta are no part of its constants".into());
        }
        let params = self.graph.value(w).quant.as_ref().ok_or("its weights are not quantized")?;
        let stored = params.store(weights).ok_or("its weights are not f32")?;
        // Small integers pass through f32 unchanged.
        let stored: Vec<f32> = stored.into_iter().map(|q| q as f32).collect();
        let weights = arrange(&stored).into_iter().map(|v| v as i8).collect();
        let (input, input_zero) = self.scale(x);
        let (output, output_zero) = self.scale(out);
        let requant = params.scale.iter().map(|s| Multiplier::saturating(input * f64::from(*s) / output)).collect();
        let bias = match bias_id.and_then(|b| Some((self.graph.value(b).quant.as_ref()?, self.graph.constant(b)?))) {
            Some((quant, tensor)) => quant.store(tensor).filter(|b| b.len() == channels),
            None => bias_id.is_none().then(|| vec![0; channels]),
        };
        let bias = bias.ok_or("its bias is not quantized")?;
        let (min, max) = self.clamp(out, bounds);
        Ok(Linear::Int8 { weights, bias, requant, input_zero, output_zero, min, max })
    }

    /// Averages of up to `largest` elements.
    pub fn average(&self, x: ValueId, out: ValueId, largest: usize) -> AverageParams {
        if self.precision == Precision::F32 {
            return AverageParams::F32;
        }
        let ((input, input_zero), (output, output_zero)) = (self.scale(x), self.scale(out));
        let requant = (1..=largest).map(|n| Multiplier::saturating(input / output / n as f64)).collect();
        AverageParams::Int8 { input_zero, output_zero, requant }
    }

    /// `signs[0] · a + signs[1] · b`; in `f32` both signs are positive.
    pub fn add(&self, a: ValueId, b: ValueId, out: ValueId, bounds: Bounds, signs: [f64; 2]) -> AddParams {
        if self.precision == Precision::F32 {
            return AddParams::F32 { min: bounds.min, max: bounds.max };
        }
        let ((sa, a_zero), (sb, b_zero), (so, output_zero)) = (self.scale(a), self.scale(b), self.scale(out));
        let [ga, gb] = gains(sa / so, sb / so);
        // As many fraction bits as keep the larger gain inside 30 bits.
        let shift = (29 - ga.max(gb).log2().floor() as i32).clamp(1, 50) as u8;
        let fixed = |sign: f64, gain: f64| (sign * gain * 2f64.powi(shift.into())).round() as i32;
        let (a_gain, b_gain) = (fixed(signs[0], ga), fixed(signs[1], gb));
        let (min, max) = self.clamp(out, bounds);
        AddParams::Int8 { a_zero, b_zero, a_gain, b_gain, shift, output_zero, min, max }
    }

    pub fn mul(&self, a: ValueId, b: ValueId, out: ValueId, bounds: Bounds) -> MulParams {
        if self.precision == Precision::F32 {
            return MulParams::F32 { min: bounds.min, max: bounds.max };
        }
        let ((sa, a_zero), (sb, b_zero), (so, output_zero)) = (self.scale(a), self.scale(b), self.scale(out));
        let (min, max) = self.clamp(out, bounds);
        MulParams::Int8 { a_zero, b_zero, output_zero, requant: Multiplier::saturating(sa * sb / so), min, max }
    }

    pub fn div(&self, a: ValueId, b: ValueId, out: ValueId, bounds: Bounds) -> MulParams {
        if self.precision == Precision::F32 {
            return MulParams::F32 { min: bounds.min, max: bounds.max };
        }
        let ((sa, a_zero), (sb, b_zero), (so, output_zero)) = (self.scale(a), self.scale(b), self.scale(out));
        // The kernel shifts a divisor of 9 bits by this and one more. The bounds leave every quotient what it is: nothing,
        // or more than there is room for.
        let requant = Multiplier::saturating((sa / sb / so).clamp(2f64.powi(-(MOST_SHIFTED - 30)), 2f64.powi(29)));
        let (min, max) = self.clamp(out, bounds);
        MulParams::Int8 { a_zero, b_zero, output_zero, requant, min, max }
    }

    pub fn matmul(&self, a: ValueId, b: ValueId, out: ValueId) -> MatMulParams {
        if self.precision == Precision::F32 {
            return MatMulParams::F32;
        }
        let ((sa, a_zero), (sb, b_zero), (so, output_zero)) = (self.scale(a), self.scale(b), self.scale(out));
        MatMulParams::Int8 { a_zero, b_zero, output_zero, requant: Multiplier::saturating(sa * sb / so) }
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
        // Beyond these bounds results saturate.
        let bounded = |v: f64| v.clamp(-1e30, 1e30) as f32;
        // Beside so large an epsilon a variance of 8-bit numbers is nothing: what is left out of it is a factor.
        let wanted = f64::from(epsilon) * (len as f64 / input).powi(2);
        let held = wanted.min(1e30);
        let rest = if held < wanted { (held / wanted).sqrt() } else { 1.0 };
        scale.iter_mut().for_each(|v| *v = bounded(f64::from(*v) / output * rest));
        bias.iter_mut().for_each(|v| *v = bounded(f64::from(*v) / output));
        let epsilon = held as f32;
        LayerNormParams::Int8 { scale, bias, epsilon, output_zero }
    }

    /// `exp(−d · scale) · 2^23` for each distance `d` from a row's maximum.
    pub fn exponentials(&self, x: ValueId) -> Option<Box<[u32; 256]>> {
        let (scale, _) = self.scale(x);
        let power = |d: usize| ((-(d as f64) * scale).exp() * 2f64.powi(23)).round() as u32;
        (self.precision == Precision::Int8).then(|| Box::new(std::array::from_fn(power)))
    }
}
