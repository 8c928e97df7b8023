//! Layer norm (Ba, Kiros, Hinton 2016): rows with mean 0 and variance 1, scaled and shifted by column. One pass over
//! memory each way; a row is read again from the first-level cache.

use super::buffer::Room;
use super::kernel::{Kernel, Saved, apply};
use super::{CpuTensor, numbers, tensor};
use burn::backend::DispatchTensor;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Normalises rows as long as the scale: of `x`, that holds any number of them, the scale, and a bias if there is one.
pub fn layer_norm(operands: Vec<DispatchTensor>, epsilon: f32) -> DispatchTensor {
    apply(LayerNorm { epsilon }, operands)
}

#[derive(Debug)]
struct LayerNorm {
    epsilon: f32,
}

/// Rows of a task, of so many elements each.
fn block(length: usize) -> usize {
    (16 * 1024 / length).max(1)
}

impl Kernel for LayerNorm {
    fn forward(&self, inputs: Vec<CpuTensor>) -> (CpuTensor, Vec<CpuTensor>) {
        let all: Vec<CpuTensor> = inputs.iter().map(CpuTensor::to_contiguous).collect();
        let (x, scale, bias) = (numbers(&all[0]), numbers(&all[1]), all.get(2).map(numbers));
        let (length, rows) = (scale.len(), x.len() / scale.len());
        let (mut y, mut moments) = (Room::new(x.len()), vec![0.0; 2 * rows]);
        let step = block(length);
        let blocks = y.blocks(step * length).zip(x.par_chunks(step * length));
        blocks.zip(moments.par_chunks_mut(2 * step)).for_each(|((y, x), moments)| {
            Arch::new().dispatch(Forward { x, scale, bias, epsilon: self.epsilon, y, moments });
        });
        (tensor(y.full(), all[0].layout().shape().clone()), vec![tensor(moments, [rows, 2])])
    }

    fn keeps(&self, input: usize) -> bool {
        input < 2
    }

    fn backward(&self, saved: Saved, gradient: CpuTensor, wanted: &[bool]) -> Vec<Option<CpuTensor>> {
        let [x, scale] = [0, 1].map(|i| saved.inputs[i].to_contiguous());
        let (gradient, shape) = (gradient.to_contiguous(), x.layout().shape().clone());
        let (x, scale, gradient, moments) =
            (numbers(&x), numbers(&scale), numbers(&gradient), numbers(&saved.extra[0]));
        let (length, mut dx) = (scale.len(), Room::new(x.len()));
        let step = block(length);
        let blocks = dx.blocks(step * length).zip(x.par_chunks(step * length));
        let blocks = blocks.zip(gradient.par_chunks(step * length)).zip(moments.par_chunks(2 * step));
        let parts: Vec<[Vec<f32>; 2]> = blocks
            .map(|(((dx, x), gradient), moments)| {
                let mut sums = [vec![0.0; length], vec![0.0; length]];
                let [by_scale, by_bias] = &mut sums;
                Arch::new().dispatch(BackwardStep { x, scale, gradient, moments, dx, by_scale, by_bias });
                sums
            })
            .collect();
        let mut sums = [vec![0.0; length], vec![0.0; length]];
        for part in parts {
            for (sum, part) in sums.iter_mut().zip(part) {
                sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
            }
        }
        let [by_scale, by_bias] = sums.map(|sum| tensor(sum, [length]));
        let all = [tensor(dx.full(), shape), by_scale, by_bias];
        all.into_iter().zip(wanted).map(|(t, &wanted)| wanted.then_some(t)).collect()
    }
}

struct Forward<'a> {
    x: &'a [f32],
    scale: &'a [f32],
    bias: Option<&'a [f32]>,
    epsilon: f32,
    y: &'a mut [f32],
    /// By row: mean, 1 / deviation.
    moments: &'a mut [f32],
}

/// `sum + (x − mean)`, or its square.
#[inline(always)]
fn added<S: Simd>(simd: S, x: S::f32s, mean: S::f32s, squared: bool, sum: S::f32s) -> S::f32s {
    let d = simd.sub_f32s(x, mean);
    if squared { simd.mul_add_e_f32s(d, d, sum) } else { simd.add_f32s(d, sum) }
}

/// `Σ (element − mean)`, or of its squares, by vectors and then what is left.
#[inline(always)]
fn moment<S: Simd>(simd: S, row: &[f32], mean: f32, squared: bool) -> f32 {
    let (vectors, tail) = S::as_simd_f32s(row);
    let mean_v = simd.splat_f32s(mean);
    let mut sums = [simd.splat_f32s(0.0); 4];
    let (fours, rest) = vectors.as_chunks::<4>();
    for four in fours {
        let mut i = 0;
        while i < 4 {
            sums[i] = added(simd, four[i], mean_v, squared, sums[i]);
            i += 1;
        }
    }
    let mut i = 0;
    while i < rest.len() {
        sums[i] = added(simd, rest[i], mean_v, squared, sums[i]);
        i += 1;
    }
    let [a, b, c, d] = sums;
    let mut sum = simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d)));
    for x in tail {
        sum += if squared { (x - mean) * (x - mean) } else { x - mean };
    }
    sum
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let length = self.scale.len();
        let (scale, scale_rest) = S::as_simd_f32s(self.scale);
        let (bias, bias_rest) = S::as_simd_f32s(self.bias.unwrap_or_default());
        let rows = self.x.chunks_exact(length).zip(self.y.chunks_exact_mut(length));
        for ((x, y), moments) in rows.zip(self.moments.chunks_exact_mut(2)) {
            let mean = moment(simd, x, 0.0, false) / length as f32;
            let variance = moment(simd, x, mean, true) / length as f32;
            let mean_v = simd.splat_f32s(mean);
            let inverse = 1.0 / (variance + self.epsilon).sqrt();
            moments.copy_from_slice(&[mean, inverse]);
            let inverse_v = simd.splat_f32s(inverse);
            let ((x, x_rest), (y, y_rest)) = (S::as_simd_f32s(x), S::as_mut_simd_f32s(y));
            for (i, (y, &x)) in y.iter_mut().zip(x).enumerate() {
                let normal = simd.mul_f32s(simd.sub_f32s(x, mean_v), inverse_v);
                let bias = bias.get(i).copied().unwrap_or(simd.splat_f32s(0.0));
                *y = simd.mul_add_e_f32s(normal, scale[i], bias);
            }
            for (i, (y, &x)) in y_rest.iter_mut().zip(x_rest).enumerate() {
                *y = (x - mean) * inverse * scale_rest[i] + bias_rest.get(i).copied().unwrap_or(0.0);
            }
        }
    }
}

struct BackwardStep<'a> {
    x: &'a [f32],
    scale: &'a [f32],
    gradient: &'a [f32],
    moments: &'a [f32],
    dx: &'a mut [f32],
    by_scale: &'a mut [f32],
    by_bias: &'a mut [f32],
}

impl WithSimd for BackwardStep<'_> {
    type Output = ();

    /// `dx = (h − mean(h) − x̂ · mean(h · x̂)) / σ` with `h = g · γ`.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let length = self.scale.len();
        let (scale, scale_rest) = S::as_simd_f32s(self.scale);
        let (by_scale, by_scale_rest) = S::as_mut_simd_f32s(self.by_scale);
        let (by_bias, by_bias_rest) = S::as_mut_simd_f32s(self.by_bias);
        let rows = self.x.chunks_exact(length).zip(self.gradient.chunks_exact(length));
        let rows = rows.zip(self.dx.chunks_exact_mut(length)).zip(self.moments.chunks_exact(2));
        for (((x, gradient), dx), moments) in rows {
            let (mean, inverse) = (moments[0], moments[1]);
            let (mean_v, inverse_v) = (simd.splat_f32s(mean), simd.splat_f32s(inverse));
            let ((x, x_rest), (gradient, gradient_rest)) = (S::as_simd_f32s(x), S::as_simd_f32s(gradient));
            let mut sums = [simd.splat_f32s(0.0); 2];
            for (i, (&x, &g)) in x.iter().zip(gradient).enumerate() {
                let normal = simd.mul_f32s(simd.sub_f32s(x, mean_v), inverse_v);
                by_scale[i] = simd.mul_add_e_f32s(g, normal, by_scale[i]);
                by_bias[i] = simd.add_f32s(g, by_bias[i]);
                let h = simd.mul_f32s(g, scale[i]);
                sums = [simd.add_f32s(sums[0], h), simd.mul_add_e_f32s(h, normal, sums[1])];
            }
            let mut totals = sums.map(|sum| simd.reduce_sum_f32s(sum));
            for (i, (&x, &g)) in x_rest.iter().zip(gradient_rest).enumerate() {
                let normal = (x - mean) * inverse;
                by_scale_rest[i] += g * normal;
                by_bias_rest[i] += g;
                totals[0] += g * scale_rest[i];
                totals[1] += g * scale_rest[i] * normal;
            }
            let [plain, weighted] = totals.map(|total| total / length as f32);
            let (plain_v, weighted_v) = (simd.splat_f32s(plain), simd.splat_f32s(-weighted));
            let (dx, dx_rest) = S::as_mut_simd_f32s(dx);
            for (i, ((dx, &x), &g)) in dx.iter_mut().zip(x).zip(gradient).enumerate() {
                let normal = simd.mul_f32s(simd.sub_f32s(x, mean_v), inverse_v);
                let h = simd.sub_f32s(simd.mul_f32s(g, scale[i]), plain_v);
                *dx = simd.mul_f32s(inverse_v, simd.mul_add_e_f32s(normal, weighted_v, h));
            }
            for (i, ((dx, &x), &g)) in dx_rest.iter_mut().zip(x_rest).zip(gradient_rest).enumerate() {
                *dx = inverse * (g * scale_rest[i] - plain - (x - mean) * inverse * weighted);
            }
        }
    }
}
