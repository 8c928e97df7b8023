//! Scales and zero points.

use super::Range;
use crate::graph::{DType, QuantParams};

/// The smallest scale: below it a fixed-point multiplier could not be represented, and nothing real is that small.
const SMALLEST: f32 = 1e-10;

/// Parameters for an activation: `i8`, asymmetric; zero is represented exactly.
pub fn activation_params(range: Range) -> QuantParams {
    let (min, max) = (f64::from(range.min.min(0.0)), f64::from(range.max.max(0.0)));
    let scale = (((max - min) / 255.0) as f32).max(SMALLEST);
    let zero = (-128.0 - min / f64::from(scale)).round().clamp(-128.0, 127.0);
    QuantParams { scale: vec![scale], zero_point: vec![zero as i32], axis: None, dtype: DType::I8 }
}

/// Parameters for weights: `i8` in −127..=127, symmetric, one scale per index of `axis`.
pub fn weight_params(weights: &[f32], shape: &[usize], axis: usize) -> QuantParams {
    let channels = shape[axis];
    let inner: usize = shape[axis + 1..].iter().product();
    let mut largest = vec![0.0f32; channels];
    for (i, w) in weights.iter().enumerate() {
        let channel = i / inner.max(1) % channels.max(1);
        largest[channel] = largest[channel].max(w.abs());
    }
    let scale = largest.iter().map(|m| if *m > 0.0 { (m / 127.0).max(SMALLEST) } else { 1.0 }).collect();
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
