//! From the caller's tensors to the network's elements and back.

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

/// Raw bytes `[…, channels]` through one table per channel.
#[inline(always)]
pub fn raw<T: Copy, const C: usize>(tables: &[[T; 256]; C], input: &[u8], output: &mut [T]) {
    for (output, input) in output.chunks_exact_mut(C).zip(input.chunks_exact(C)) {
        for ((output, &byte), table) in output.iter_mut().zip(input).zip(tables) {
            *output = table[byte as usize];
        }
    }
}
