//! Products of matrices that are both computed by the network: attention.

use crate::{Multiplier, store};

/// `batch` products of `[rows, inner]` and `[inner, columns]`.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub batch: usize,
    pub rows: usize,
    pub inner: usize,
    pub columns: usize,
}

/// How products are summed and stored.
pub trait Product {
    type Element: Copy;
    type Sum: Copy + Default;
    fn add(&self, sum: Self::Sum, a: Self::Element, b: Self::Element) -> Self::Sum;
    fn store(&self, sum: Self::Sum) -> Self::Element;
}

/// `f32` elements and sums.
#[derive(Clone, Copy, Debug)]
pub struct Float;

impl Product for Float {
    type Element = f32;
    type Sum = f32;

    #[inline(always)]
    fn add(&self, sum: f32, a: f32, b: f32) -> f32 {
        sum + a * b
    }

    #[inline(always)]
    fn store(&self, sum: f32) -> f32 {
        sum
    }
}

/// `i8` elements, `i32` sums.
#[derive(Clone, Copy, Debug)]
pub struct Int8 {
    pub a_zero: i8,
    pub b_zero: i8,
    pub output_zero: i8,
    pub requant: Multiplier,
}

impl Product for Int8 {
    type Element = i8;
    type Sum = i32;

    #[inline(always)]
    fn add(&self, sum: i32, a: i8, b: i8) -> i32 {
        sum.wrapping_add((a as i32 - self.a_zero as i32) * (b as i32 - self.b_zero as i32))
    }

    #[inline(always)]
    fn store(&self, sum: i32) -> i8 {
        store(self.requant.apply(sum), self.output_zero, i8::MIN, i8::MAX)
    }
}

/// Columns that are summed at once.
const BLOCK: usize = 16;

/// The products. A second operand of one matrix serves the whole batch.
#[inline(always)]
pub fn matmul<P: Product>(shape: Shape, product: P, a: &[P::Element], b: &[P::Element], output: &mut [P::Element]) {
    let Shape { batch, rows, inner, columns } = shape;
    for matrix in 0..batch {
        let a = &a[matrix * rows * inner..][..rows * inner];
        let at = matrix * inner * columns % b.len();
        let b = &b[at..][..inner * columns];
        let output = &mut output[matrix * rows * columns..][..rows * columns];
        for row in 0..rows {
            let a = &a[row * inner..][..inner];
            let output = &mut output[row * columns..][..columns];
            for (block, output) in output.chunks_mut(BLOCK).enumerate() {
                let mut sums = [P::Sum::default(); BLOCK];
                for (k, &a) in a.iter().enumerate() {
                    let b = &b[k * columns + block * BLOCK..][..output.len()];
                    for (sum, &b) in sums.iter_mut().zip(b) {
                        *sum = product.add(*sum, a, b);
                    }
                }
                for (output, &sum) in output.iter_mut().zip(&sums) {
                    *output = product.store(sum);
                }
            }
        }
    }
}
