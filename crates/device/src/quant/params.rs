//! Scales and zero points.

use super::Range;
use kdc_ir::graph::{DType, QuantParams};

/// The smallest scale: a normal number, so that engines that flush subnormal numbers to zero divide by it as well. A range
/// that would need a smaller one holds nothing but zeros, to all intents.
const SMALLEST: f32 = f32::MIN_POSITIVE;
/// What bias and sum of products together stay below: half of 32 bits, so that the roundings of weights have room too.
const LARGEST_SUM: f64 = (1 << 30) as f64;

/// Parameters for an activation: `i8`, asymmetric; zero is represented exactly. Constant zeros have a scale of 1.
pub fn activation_params(range: Range) -> QuantParams {
    let (min, max) = (f64::from(range.min.min(0.0)), f64::from(range.max.max(0.0)));
    let scale = match ((max - min) / 255.0) as f32 {
        scale if scale < SMALLEST => 1.0,
        scale => scale,
    };
    let zero = (-128.0 - min / f64::from(scale)).round().clamp(-128.0, 127.0);
    QuantParams { scale: vec![scale], zero_point: vec![zero as i32], axis: None, dtype: DType::I8 }
}

/// Whether a value with this range is stored as zero, whatever it is.
pub fn is_zero(range: Range) -> bool {
    let width = f64::from(range.max.max(0.0)) - f64::from(range.min.min(0.0));
    ((width / 255.0) as f32) < SMALLEST
}

/// Parameters for weights: `i8`, symmetric, one scale per index of `axis`. A scale is as small as the largest weight of its
/// channel allows, and as large as it takes for the channel's bias, stored at `input · scale`, and its sum of products to
/// stay inside of 32 bits. A channel without weights and bias has a scale of 1.
///
/// `input`: the scale of the operand; `bias`: one number per channel, or none at all.
pub fn weight_params(weights: &[f32], shape: &[usize], axis: usize, bias: &[f32], input: f32) -> QuantParams {
    let channels = shape[axis];
    let inner: usize = shape[axis + 1..].iter().product();
    let (mut largest, mut sums) = (vec![0.0f32; channels], vec![0.0f64; channels]);
    for (i, w) in weights.iter().enumerate() {
        let channel = i / inner.max(1) % channels.max(1);
        largest[channel] = largest[channel].max(w.abs());
        sums[channel] += f64::from(w.abs());
    }
    // The scale of the bias is a normal number as well.
    let floor = f64::from(SMALLEST) * (1.0 + 1e-6) / f64::from(input.min(1.0));
    let scale = |channel: usize| {
        let bias = f64::from(bias.get(channel).map_or(0.0, |b| b.abs()));
        if largest[channel] == 0.0 && bias == 0.0 {
            return 1.0;
        }
        // A stored operand is at most 255 from its zero point.
        let room = (255.0 * sums[channel] + bias / f64::from(input)) / LARGEST_SUM;
        (largest[channel] / 127.0).max(room.max(floor).min(f64::from(f32::MAX)) as f32)
    };
    let scale = (0..channels).map(scale).collect();
    QuantParams { scale, zero_point: vec![0; channels], axis: Some(axis), dtype: DType::I8 }
}

/// A real number as it is stored: `clamp(round(x / scale) + zero)`, halves to even, as ONNX QuantizeLinear does.
pub fn quantize(x: f32, scale: f32, zero: i32, low: i32, high: i32) -> i32 {
    let rounded = (x / scale).round_ties_even();
    // Saturating conversion: a float beyond i32 becomes its bound.
    (rounded as i32).saturating_add(zero).clamp(low, high)
}

/// The real number behind a stored one.
pub fn dequantize(q: i32, scale: f32, zero: i32) -> f32 {
    (q - zero) as f32 * scale
}
