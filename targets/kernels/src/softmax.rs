//! Softmax over the last axis. A row of nothing but minus infinity, or all of it masked, gives zeros; one with a
//! not-a-number, nothing but these.

use crate::math::{exp, larger};

/// Softmax of `f32` rows of `len` elements.
#[inline(always)]
pub fn softmax_f32(len: usize, input: &[f32], output: &mut [f32]) {
    for (row, output) in input.chunks_exact(len).zip(output.chunks_exact_mut(len)) {
        let max = row.iter().fold(f32::NEG_INFINITY, |max, &x| larger(max, x));
        let mut sum = 0.0;
        if max == f32::NEG_INFINITY {
            output.fill(0.0);
            continue;
        }
        for (output, &x) in output.iter_mut().zip(row) {
            *output = exp(x - max);
            sum += *output;
        }
        for output in output {
            *output /= sum;
        }
    }
}

/// Softmax of `i8` rows of `len` elements: `table[d]` is the exponential, in fixed point, at the distance `d` from the
/// row's maximum. Results are at scale 1/255 and zero point −128, rounded half up: a one is exact.
#[inline(always)]
pub fn softmax_i8(len: usize, table: &[u32; 256], input: &[i8], output: &mut [i8]) {
    for (row, output) in input.chunks_exact(len).zip(output.chunks_exact_mut(len)) {
        let max = row.iter().fold(i8::MIN, |max, &x| if x > max { x } else { max });
        let power = |x: i8| table[max.abs_diff(x) as usize] as u64;
        let sum: u64 = row.iter().map(|&x| power(x)).sum();
        for (output, &x) in output.iter_mut().zip(row) {
            let share = (power(x) * 255 + sum / 2) / sum;
            *output = (share as i64 - 128) as i8;
        }
    }
}

/// [`softmax_i8`] over those elements whose mask is not zero; the others get nothing. The mask is repeated over the rows.
#[inline(always)]
pub fn masked_softmax_i8(len: usize, table: &[u32; 256], input: &[i8], mask: &[i8], output: &mut [i8]) {
    let masks = mask.chunks_exact(len).cycle();
    for ((row, mask), output) in input.chunks_exact(len).zip(masks).zip(output.chunks_exact_mut(len)) {
        let kept = || row.iter().zip(mask).filter(|&(_, &keep)| keep != 0).map(|(&x, _)| x);
        let max = kept().fold(i8::MIN, |max, x| if x > max { x } else { max });
        let power = |x: i8| table[max.abs_diff(x) as usize] as u64;
        let sum: u64 = kept().map(power).sum();
        for ((output, &x), &keep) in output.iter_mut().zip(row).zip(mask) {
            let share = if keep != 0 { (power(x) * 255 + sum / 2) / sum } else { 0 };
            *output = (share as i64 - 128) as i8;
        }
    }
}
