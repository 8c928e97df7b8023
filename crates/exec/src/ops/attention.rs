//! Attention (Vaswani et al. 2017) as one operator: `softmax(factor · q · kᵀ) · v` by head.
//!
//! The weights between all pairs of positions are never stored: a block of them lives in a scratch, and the backward
//! pass computes it again from the logarithm of each row's sum (Dao et al. 2022). Heads are strided views of what the
//! linear layers wrote, and results are laid out so that the transposition after them is a view as well.

use super::buffer::{Room, Scratch};
use super::kernel::{Kernel, Saved, apply};
use super::matmul::{Matrix, Start, matrix_at, product};
use super::{CpuTensor, math, numbers, tensor};
use burn::backend::{DispatchTensor, TensorMetadata};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Queries whose weights are in the scratch at once.
const QUERIES: usize = 64;
/// Rows of the scratch start at multiples of the longest vector.
const LANES: usize = 16;

/// Of `q` `[batch, heads, queries, width]`, `k` turned, `[batch, heads, width, keys]`, and `v`
/// `[batch, heads, keys, values]`; none if the extents are not so.
pub fn attention(q: &DispatchTensor, k: &DispatchTensor, v: &DispatchTensor, factor: f32) -> Option<DispatchTensor> {
    let [q_shape, k_shape, v_shape] = [q, k, v].map(TensorMetadata::shape);
    let &[batch, heads, _, width] = &q_shape[..] else { return None };
    let keys = *k_shape.last()?;
    let fits = k_shape[..] == [batch, heads, width, keys] && v_shape[..v_shape.len() - 1] == [batch, heads, keys];
    (fits && keys > 0).then(|| apply(Attention { factor }, [q.clone(), k.clone(), v.clone()]))
}

#[derive(Debug)]
struct Attention {
    factor: f32,
}

#[derive(Clone, Copy)]
struct Shape {
    heads: usize,
    queries: usize,
    width: usize,
    keys: usize,
    values: usize,
}

impl Shape {
    fn of(inputs: &[CpuTensor]) -> Shape {
        let [_, heads, queries, width] = inputs[0].layout().shape().dims();
        let [_, _, keys, values] = inputs[2].layout().shape().dims();
        Shape { heads, queries, width, keys, values }
    }

    fn pitch(self) -> usize {
        self.keys.next_multiple_of(LANES)
    }
}

/// A head of an operand.
fn head(t: &CpuTensor, image: usize, head: usize) -> Matrix<'_> {
    let strides = t.layout().strides();
    matrix_at(t, (image as isize * strides[0] + head as isize * strides[1]).unsigned_abs())
}

/// A result of `[batch, positions, heads, width]` in memory, seen with the heads before the positions.
fn by_head(values: Vec<f32>, [batch, positions, heads, width]: [usize; 4]) -> CpuTensor {
    tensor(values, [batch, positions, heads, width]).transpose(1, 2)
}

impl Kernel for Attention {
    fn forward(&self, inputs: Vec<CpuTensor>) -> (CpuTensor, Vec<CpuTensor>) {
        let s = Shape::of(&inputs);
        let batch = inputs[0].layout().shape()[0];
        let row = s.heads * s.values;
        let mut out = Room::new(batch * s.queries * row);
        let mut logs = vec![0.0; batch * s.heads * s.queries];
        let images = out.blocks(s.queries * row).zip(logs.par_chunks_mut((s.heads * s.queries).max(1)));
        images.enumerate().for_each(|(image, (out, logs))| {
            let mut scratch = Scratch::new(QUERIES.min(s.queries) * s.pitch());
            let (mut k_store, mut v_store) = (vec![], vec![]);
            for h in 0..s.heads {
                let [q, k, v] = [0, 1, 2].map(|i| head(&inputs[i], image, h));
                let (k, v) = (k.packed(&mut k_store), v.packed(&mut v_store));
                for first in (0..s.queries).step_by(QUERIES) {
                    let count = QUERIES.min(s.queries - first);
                    let scratch = &mut scratch[..count * s.pitch()];
                    product(q.some(first, count), k, scratch, s.pitch(), self.factor, Start::Zero);
                    let logs = &mut logs[h * s.queries + first..][..count];
                    Arch::new().dispatch(Weights { rows: scratch, keys: s.keys, logs, known: false });
                    let weights = Matrix { data: scratch, shape: [count, s.keys], strides: [s.pitch(), 1] };
                    product(weights, v, &mut out[first * row + h * s.values..], row, 1.0, Start::Zero);
                }
            }
        });
        let out = by_head(out.full(), [batch, s.queries, s.heads, s.values]);
        (out, vec![tensor(logs, [batch, s.heads, s.queries])])
    }

    fn backward(&self, saved: Saved, gradient: CpuTensor, wanted: &[bool]) -> Vec<Option<CpuTensor>> {
        let inputs = &saved.inputs;
        let s = Shape::of(inputs);
        let batch = inputs[0].layout().shape()[0];
        let mut logs = numbers(&saved.extra[0]).to_vec();
        let row = s.heads * s.width;
        let v_row = s.heads * s.values;
        let [mut dq, mut dk] = [s.queries, s.keys].map(|n| Room::new(batch * n * row));
        let mut dv = Room::new(batch * s.keys * v_row);
        let images = dq.blocks(s.queries * row).zip(dk.blocks(s.keys * row)).zip(dv.blocks(s.keys * v_row));
        let images = images.zip(logs.par_chunks_mut((s.heads * s.queries).max(1)));
        images.enumerate().for_each(|(image, (((dq, dk), dv), logs))| {
            let size = QUERIES.min(s.queries) * s.pitch();
            let (mut weights, mut slopes) = (Scratch::new(size), Scratch::new(size));
            let [mut k_store, mut turned_k, mut turned_v, mut q_store, mut g_store] = [const { vec![] }; 5];
            for h in 0..s.heads {
                let [q, k, v] = [0, 1, 2].map(|i| head(&inputs[i], image, h));
                let (k, k_rows) = (k.packed(&mut k_store), k.transposed().packed(&mut turned_k));
                let (q, v_columns) = (q.packed(&mut q_store), v.transposed().packed(&mut turned_v));
                let g = head(&gradient, image, h).packed(&mut g_store);
                for first in (0..s.queries).step_by(QUERIES) {
                    let count = QUERIES.min(s.queries - first);
                    let [weights, slopes] = [&mut weights, &mut slopes].map(|t| &mut t[..count * s.pitch()]);
                    let (q, g) = (q.some(first, count), g.some(first, count));
                    product(q, k, weights, s.pitch(), self.factor, Start::Zero);
                    let logs = &mut logs[h * s.queries + first..][..count];
                    Arch::new().dispatch(Weights { rows: weights, keys: s.keys, logs, known: true });
                    product(g, v_columns, slopes, s.pitch(), 1.0, Start::Zero);
                    Arch::new().dispatch(Slopes { weights, slopes, pitch: s.pitch() });
                    let seen = |data| Matrix { data, shape: [count, s.keys], strides: [s.pitch(), 1] };
                    let (weights, slopes) = (seen(&*weights), seen(&*slopes));
                    let start = if first == 0 { Start::Zero } else { Start::Result };
                    product(weights.transposed(), g, &mut dv[h * s.values..], v_row, 1.0, start);
                    product(slopes, k_rows, &mut dq[first * row + h * s.width..], row, self.factor, Start::Zero);
                    product(slopes.transposed(), q, &mut dk[h * s.width..], row, self.factor, start);
                }
            }
        });
        let dq = by_head(dq.full(), [batch, s.queries, s.heads, s.width]);
        let dk = by_head(dk.full(), [batch, s.keys, s.heads, s.width]).transpose(2, 3);
        let dv = by_head(dv.full(), [batch, s.keys, s.heads, s.values]);
        [dq, dk, dv].into_iter().zip(wanted).map(|(t, &wanted)| wanted.then_some(t)).collect()
    }
}

/// Rows of scores become rows of weights; `logs` are the logarithms of the sums of their exponentials, made here unless
/// they are known.
struct Weights<'a> {
    rows: &'a mut [f32],
    keys: usize,
    logs: &'a mut [f32],
    known: bool,
}

impl WithSimd for Weights<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let pitch = self.keys.next_multiple_of(LANES);
        for (row, log) in self.rows.chunks_exact_mut(pitch).zip(self.logs) {
            // What fills the row up to whole vectors weighs nothing.
            row[self.keys..].fill(f32::MIN);
            let (vectors, _) = S::as_mut_simd_f32s(row);
            if self.known {
                let log = simd.splat_f32s(*log);
                // Not for_each: what is in a closure would be compiled without the vectors of this function.
                for x in vectors.iter_mut() {
                    *x = math::exp(simd, simd.sub_f32s(*x, log));
                }
                continue;
            }
            let mut most = simd.splat_f32s(f32::MIN);
            for &x in vectors.iter() {
                most = simd.max_f32s(most, x);
            }
            let largest = simd.reduce_max_f32s(most);
            let (largest_v, mut sum) = (simd.splat_f32s(largest), simd.splat_f32s(0.0));
            for x in vectors.iter_mut() {
                *x = math::exp(simd, simd.sub_f32s(*x, largest_v));
                sum = simd.add_f32s(sum, *x);
            }
            let sum = simd.reduce_sum_f32s(sum);
            *log = largest + sum.ln();
            let inverse = simd.splat_f32s(1.0 / sum);
            for x in vectors.iter_mut() {
                *x = simd.mul_f32s(*x, inverse);
            }
        }
    }
}

/// Gradients of weights become those of scores: `w · (g − Σ w · g)`.
struct Slopes<'a> {
    weights: &'a [f32],
    slopes: &'a mut [f32],
    pitch: usize,
}

impl WithSimd for Slopes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let rows = self.weights.chunks_exact(self.pitch).zip(self.slopes.chunks_exact_mut(self.pitch));
        for (weights, slopes) in rows {
            let ((weights, _), (slopes, _)) = (S::as_simd_f32s(weights), S::as_mut_simd_f32s(slopes));
            let mut sum = simd.splat_f32s(0.0);
            for (&w, &g) in weights.iter().zip(slopes.iter()) {
                sum = simd.mul_add_e_f32s(w, g, sum);
            }
            let sum = simd.splat_f32s(simd.reduce_sum_f32s(sum));
            for (&w, g) in weights.iter().zip(slopes) {
                *g = simd.mul_f32s(w, simd.sub_f32s(*g, sum));
            }
        }
    }
}
