//! Resizing: along each axis a product with a matrix of weights, whatever the rule.

use super::Value;
use burn::tensor::{Tensor, TensorData};
use kdc_ir::graph::{Coordinates, Interpolation, Resize, Rounding};

/// Resizes every axis whose extent or scale says so.
pub(super) fn resize(mut x: Value, op: &Resize, result: &[usize]) -> Value {
    for axis in 0..result.len() {
        let shape = x.shape();
        if shape[axis] == result[axis] && op.scales[axis] == 1.0 {
            continue;
        }
        let weights = weights(shape[axis], result[axis], f64::from(op.scales[axis]), op);
        let x3 = x.around(axis);
        let weights: Vec<f32> = weights.into_iter().map(|w| w as f32).collect();
        let matrix = Tensor::<3>::from_data(TensorData::new(weights, [1, result[axis], shape[axis]]), &x3.device());
        let outer = x3.dims()[0];
        let y = matrix.repeat_dim(0, outer).matmul(x3);
        let mut extents = shape;
        extents[axis] = result[axis];
        x = Value::from_tensor(y).reshape(&extents);
    }
    x
}

/// `[out, in]`, rows that sum to one (ONNX specification of Resize).
fn weights(input: usize, output: usize, scale: f64, op: &Resize) -> Vec<f64> {
    let mut matrix = vec![0.0; output * input];
    for (o, row) in matrix.chunks_exact_mut(input).enumerate() {
        let at = place(o as f64, input as f64, output as f64, scale, op.coordinates);
        let inside = |i: f64| i.clamp(0.0, input as f64 - 1.0) as usize;
        if op.antialias && scale < 1.0 {
            antialiased(row, at, scale, op.interpolation);
            continue;
        }
        match op.interpolation {
            Interpolation::Nearest(rounding) => {
                let nearest = match rounding {
                    Rounding::HalfDown => (at - 0.5).ceil(),
                    Rounding::HalfUp => (at + 0.5).floor(),
                    Rounding::Floor => at.floor(),
                    Rounding::Ceil => at.ceil(),
                };
                row[inside(nearest)] = 1.0;
            }
            Interpolation::Linear => {
                let (before, share) = (at.floor(), at - at.floor());
                row[inside(before)] += 1.0 - share;
                row[inside(before + 1.0)] += share;
            }
            Interpolation::Cubic { coefficient, exclude_outside } => {
                let (before, share) = (at.floor(), at - at.floor());
                let mut sum = 0.0;
                for (k, weight) in cubic(share, f64::from(coefficient)).into_iter().enumerate() {
                    let i = before + k as f64 - 1.0;
                    if exclude_outside && !(0.0..input as f64).contains(&i) {
                        continue;
                    }
                    row[inside(i)] += weight;
                    sum += weight;
                }
                row.iter_mut().for_each(|w| *w /= sum);
            }
        }
    }
    matrix
}

/// The kernel is stretched over all elements that one of the result stands for.
fn antialiased(row: &mut [f64], at: f64, scale: f64, interpolation: Interpolation) {
    let (reach, exclude) = match interpolation {
        Interpolation::Cubic { exclude_outside, .. } => (2.0, exclude_outside),
        Interpolation::Linear | Interpolation::Nearest(_) => (1.0, false),
    };
    let base = at.ceil() - 1.0;
    let start = (-reach / scale).floor() as i64 + 1;
    let mut sum = 0.0;
    for k in start..=1 - start {
        let i = base + k as f64;
        let distance = ((i - at) * scale).abs();
        let weight = match interpolation {
            Interpolation::Cubic { coefficient, .. } => cubic_at(distance, f64::from(coefficient)),
            Interpolation::Linear | Interpolation::Nearest(_) => (1.0 - distance).max(0.0),
        };
        if exclude && !(0.0..row.len() as f64).contains(&i) {
            continue;
        }
        row[i.clamp(0.0, row.len() as f64 - 1.0) as usize] += weight;
        sum += weight;
    }
    row.iter_mut().for_each(|w| *w /= sum);
}

/// The place in the operand that an element of the result is taken from.
fn place(o: f64, input: f64, output: f64, scale: f64, coordinates: Coordinates) -> f64 {
    // Where the result would end before its extent is rounded down.
    let end = if scale == f64::from(output as f32 / input as f32) { output } else { scale * input };
    match coordinates {
        Coordinates::HalfPixel => (o + 0.5) / scale - 0.5,
        Coordinates::HalfPixelSymmetric => {
            let adjustment = output / (scale * input);
            let offset = input / 2.0 * (1.0 - adjustment);
            offset + (o + 0.5) / scale - 0.5
        }
        Coordinates::PytorchHalfPixel if output <= 1.0 => 0.0,
        Coordinates::PytorchHalfPixel => (o + 0.5) / scale - 0.5,
        Coordinates::AlignCorners if output <= 1.0 => 0.0,
        Coordinates::AlignCorners => o * (input - 1.0) / (end - 1.0),
        Coordinates::Asymmetric => o / scale,
    }
}

/// Weights of the four neighbours (Keys 1981), for a share of the way between the middle two.
fn cubic(t: f64, a: f64) -> [f64; 4] {
    [1.0 + t, t, 1.0 - t, 2.0 - t].map(|distance| cubic_at(distance, a))
}

/// The weight of an element at this distance.
fn cubic_at(d: f64, a: f64) -> f64 {
    match d {
        _ if d <= 1.0 => ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0,
        _ if d < 2.0 => ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdc_ir::graph::Dim;

    fn row(interpolation: Interpolation, coordinates: Coordinates, input: usize, output: usize, o: usize) -> Vec<f64> {
        let scale = output as f32 / input as f32;
        let op = Resize {
            sizes: vec![Dim::Fixed(output)],
            scales: vec![scale],
            coordinates,
            interpolation,
            antialias: false,
        };
        weights(input, output, scale.into(), &op)[o * input..][..input].to_vec()
    }

    #[test]
    fn weights_are_those_of_the_specification() {
        let linear = Interpolation::Linear;
        assert_eq!(row(linear, Coordinates::HalfPixel, 2, 4, 1), [0.75, 0.25]);
        assert_eq!(row(linear, Coordinates::HalfPixel, 2, 4, 0), [1.0, 0.0]);
        assert_eq!(row(linear, Coordinates::AlignCorners, 3, 5, 1), [0.5, 0.5, 0.0]);
        assert_eq!(row(linear, Coordinates::Asymmetric, 2, 4, 3), [0.0, 1.0]);
        let nearest = |rounding| Interpolation::Nearest(rounding);
        assert_eq!(row(nearest(Rounding::HalfDown), Coordinates::Asymmetric, 2, 4, 1), [1.0, 0.0]);
        assert_eq!(row(nearest(Rounding::HalfUp), Coordinates::Asymmetric, 2, 4, 1), [0.0, 1.0]);
        let cubic = Interpolation::Cubic { coefficient: -0.75, exclude_outside: false };
        let row = row(cubic, Coordinates::HalfPixel, 4, 8, 3);
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        // Halfway cases of Keys' kernel at a quarter: −0.75·(1.25³ − 5·1.25² + 8·1.25 − 4) and so on.
        assert!((row[0] - -0.10546875).abs() < 1e-12, "{row:?}");
    }
}
