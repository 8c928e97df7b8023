//! From the caller's tensors to the network's elements and back.

use crate::layout::permute;
use crate::math::{clamp, round_ties_even};

/// The stored form of a real number, rounded to the nearest, half to even.
#[inline(always)]
pub fn quantize(x: f32, scale: f32, zero: i8) -> i8 {
    // Bounds that leave the result alone and keep the rounding exact.
    let x = round_ties_even(clamp(x / scale, -512.0, 512.0)) as i32 + zero as i32;
    x.clamp(i8::MIN as i32, i8::MAX as i32) as i8
}

/// The real number that a stored element stands for.
#[inline(always)]
pub fn dequantize(x: i8, scale: f32, zero: i8) -> f32 {
    (x as i32 - zero as i32) as f32 * scale
}

/// A result as it leaves the network. Not-a-number is the same bits everywhere: processors differ in the sign of those
/// that they make.
#[inline(always)]
pub const fn real(x: f32) -> f32 {
    if x.is_nan() { f32::NAN } else { x }
}

/// Raw bytes `[…, channels]` through one table per channel.
#[inline(always)]
pub fn raw<T: Copy, const C: usize>(tables: &[[T; 256]; C], input: &[u8], output: &mut [T]) {
    for (output, input) in output.chunks_exact_mut(C).zip(input.chunks_exact(C)) {
        for ((output, &byte), table) in output.iter_mut().zip(input).zip(tables) {
            *output = table[byte as usize];
        }
    }
}

/// The same, into a buffer whose axis `i` is axis `perm[i]` of the bytes, which are `shape`.
#[inline(always)]
pub fn raw_permuted<T: Copy, const C: usize, const R: usize>(
    tables: &[[T; 256]; C],
    shape: [usize; R],
    perm: [usize; R],
    input: &[u8],
    output: &mut [T],
) {
    permute(shape, perm, |from, to| output[to] = tables[from % C][input[from] as usize]);
}
