//! Products of matrices, over [`kernels`]: blocks of rows in parallel, depth in blocks that caches hold.

pub mod kernels;
#[cfg(test)]
mod tests;

use super::CpuTensor;
use super::buffer::Room;
use kernels::Product;
pub use kernels::Start;
use rayon::prelude::*;

/// Rows of a task.
const ROWS: usize = 96;
/// A panel of the right operand is as deep at most: it stays in a core's second-level cache.
const DEPTH: usize = 512;

/// A matrix somewhere in memory.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// From its first element on.
    pub data: &'a [f32],
    /// Rows and columns.
    pub shape: [usize; 2],
    /// From a row to the next, from a column to the next.
    pub strides: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// Rows one after the other.
    pub fn rows(data: &'a [f32], columns: usize) -> Matrix<'a> {
        Matrix { data, shape: [data.len() / columns.max(1), columns], strides: [columns, 1] }
    }

    pub fn transposed(self) -> Matrix<'a> {
        let ([rows, columns], [row, column]) = (self.shape, self.strides);
        Matrix { data: self.data, shape: [columns, rows], strides: [column, row] }
    }

    /// Some of the rows.
    pub fn some(self, first: usize, count: usize) -> Matrix<'a> {
        let data = &self.data[(first * self.strides[0]).min(self.data.len())..];
        Matrix { data, shape: [count, self.shape[1]], ..self }
    }

    /// With columns that are contiguous: itself, or a copy in `store`.
    pub fn packed<'b>(self, store: &'b mut Vec<f32>) -> Matrix<'b>
    where
        'a: 'b,
    {
        if self.strides[1] == 1 {
            return self;
        }
        let ([rows, columns], [row, column]) = (self.shape, self.strides);
        store.clear();
        store.resize(rows * columns, 0.0);
        // Square tiles: both sides of a transposition stay in the cache.
        const TILE: usize = 16;
        for top in (0..rows).step_by(TILE) {
            for left in (0..columns).step_by(TILE) {
                let right = (left + TILE).min(columns);
                for i in top..(top + TILE).min(rows) {
                    let from = self.data[i * row + left * column..].iter().step_by(column);
                    store[i * columns + left..i * columns + right].iter_mut().zip(from).for_each(|(to, x)| *to = *x);
                }
            }
        }
        Matrix { data: store, shape: self.shape, strides: [columns, 1] }
    }
}

/// A tensor's last two axes as a matrix, `skipped` elements from its start.
pub fn matrix_at(tensor: &CpuTensor, skipped: usize) -> Matrix<'_> {
    let layout = tensor.layout();
    let rank = layout.num_dims();
    let last = |v: usize| [rank - 2, rank - 1][v];
    let shape = [0, 1].map(|i| layout.shape()[last(i)]);
    let strides = [0, 1].map(|i| usize::try_from(layout.strides()[last(i)]).expect("no axis runs backwards"));
    Matrix { data: &tensor.storage::<f32>()[layout.start_offset() + skipped..], shape, strides }
}

/// `c = start + factor · a · b`, on this thread.
pub fn product(a: Matrix<'_>, b: Matrix<'_>, c: &mut [f32], c_row: usize, factor: f32, start: Start<'_>) {
    debug_assert!(b.strides[1] == 1 && a.shape[1] == b.shape[0]);
    let depth = a.shape[1];
    // Of a depth of nothing there is still a result.
    for from in (0..depth.max(1)).step_by(DEPTH) {
        Product {
            a: &a.data[(from * a.strides[1]).min(a.data.len())..],
            a_row: a.strides[0],
            a_step: a.strides[1],
            b: &b.data[(from * b.strides[0]).min(b.data.len())..],
            b_step: b.strides[0],
            c,
            c_row,
            rows: a.shape[0],
            columns: b.shape[1],
            depth: DEPTH.min(depth - from),
            factor,
            start: if from == 0 { start } else { Start::Result },
        }
        .run();
    }
}

/// The product as a whole, row-major, with blocks of rows in parallel.
pub fn multiplied(a: Matrix<'_>, b: Matrix<'_>, start: Start<'_>) -> Vec<f32> {
    let columns = b.shape[1];
    let mut c = Room::new(a.shape[0] * columns);
    if a.shape[0] * columns == 0 {
        return vec![];
    }
    let mut store = Vec::new();
    let b = b.packed(&mut store);
    c.blocks(ROWS * columns).enumerate().for_each(|(block, c)| {
        let a = a.some(block * ROWS, c.len() / columns);
        product(a, b, c, columns, 1.0, start);
    });
    c.full()
}

/// `aᵀ · b` of two matrices of many rows each, `[a's columns, b's columns]`; with the sum of the rows of a third one.
pub fn correlate(a: Matrix<'_>, b: Matrix<'_>, summed: Option<Matrix<'_>>) -> (Vec<f32>, Vec<f32>) {
    let ([rows, m], n) = (a.shape, b.shape[1]);
    let extra = summed.map_or(0, |s| s.shape[1]);
    let sum = |s: Matrix<'_>, sums: &mut [f32]| {
        let ones = Matrix { data: &[1.0], shape: [1, s.shape[0]], strides: [0, 0] };
        product(ones, s, sums, s.shape[1], 1.0, Start::Zero);
    };
    // Few results: the rows are shared out, and partial sums added in order. Many: the results are.
    if m * n > 1 << 16 {
        let mut sums = vec![0.0; extra];
        let c = multiplied(a.transposed(), b, Start::Zero);
        if let Some(s) = summed {
            sum(s, &mut sums);
        }
        return (c, sums);
    }
    let block = rows.div_ceil(16).max(256);
    let part = |first: usize| {
        let count = block.min(rows - first);
        let mut c = vec![0.0; m * n + extra];
        product(a.some(first, count).transposed(), b.some(first, count), &mut c, n, 1.0, Start::Zero);
        if let Some(s) = summed {
            sum(s.some(first, count), &mut c[m * n..]);
        }
        c
    };
    let firsts: Vec<usize> = (0..rows).step_by(block).collect();
    let parts: Vec<Vec<f32>> = firsts.into_par_iter().map(part).collect();
    let mut parts = parts.into_iter();
    let mut c = parts.next().unwrap_or_else(|| vec![0.0; m * n + extra]);
    parts.for_each(|part| c.iter_mut().zip(part).for_each(|(sum, x)| *sum += x));
    let sums = c.split_off(m * n);
    (c, sums)
}
