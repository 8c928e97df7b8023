//! Operators of networks that read tokens: embeddings, and normalisation of each token's features.

use crate::math::{clamp, round_ties_even, rsqrt};

/// A token's number as it lies in the arena: one `f32`, or four `i8`, the lowest byte first.
pub trait Tokens: Copy {
    /// Elements that one number takes.
    const PLACES: usize;
    fn read(places: &[Self]) -> usize;
    fn write(number: f32, places: &mut [Self]);
}

impl Tokens for f32 {
    const PLACES: usize = 1;

    #[inline(always)]
    fn read(places: &[f32]) -> usize {
        places[0] as usize
    }

    #[inline(always)]
    fn write(number: f32, places: &mut [f32]) {
        places[0] = number;
    }
}

impl Tokens for i8 {
    const PLACES: usize = 4;

    #[inline(always)]
    fn read(places: &[i8]) -> usize {
        u32::from_le_bytes([places[0] as u8, places[1] as u8, places[2] as u8, places[3] as u8]) as usize
    }

    #[inline(always)]
    fn write(number: f32, places: &mut [i8]) {
        let bytes = (number as u32).to_le_bytes();
        for (place, byte) in places.iter_mut().zip(bytes) {
            *place = byte as i8;
        }
    }
}

/// Loads the numbers of tokens; negative numbers and NaN become token 0.
#[inline(always)]
pub fn tokens<T: Tokens>(input: &[f32], output: &mut [T]) {
    for (output, &number) in output.chunks_exact_mut(T::PLACES).zip(input) {
        T::write(number, output);
    }
}

/// A row of the table for each token; a token beyond the table has its last row.
#[inline(always)]
pub fn embedding<T: Tokens>(width: usize, table: &[T], tokens: &[T], output: &mut [T]) {
    let last = table.len() / width - 1;
    for (output, token) in output.chunks_exact_mut(width).zip(tokens.chunks_exact(T::PLACES)) {
        output.copy_from_slice(&table[T::read(token).min(last) * width..][..width]);
    }
}

/// Layer normalisation of rows (Ba et al. 2016): `(x − mean) / √(variance + epsilon) · scale + bias`.
#[inline(always)]
pub fn layer_norm_f32(scale: &[f32], bias: &[f32], epsilon: f32, input: &[f32], output: &mut [f32]) {
    let len = scale.len();
    for (row, output) in input.chunks_exact(len).zip(output.chunks_exact_mut(len)) {
        let mean = row.iter().fold(0.0, |sum, x| sum + x) / len as f32;
        let variance = row.iter().fold(0.0, |sum, x| sum + (x - mean) * (x - mean)) / len as f32;
        let factor = rsqrt(variance + epsilon);
        for (((output, &x), &scale), &bias) in output.iter_mut().zip(row).zip(scale).zip(bias) {
            *output = (x - mean) * factor * scale + bias;
        }
    }
}

/// The same of `i8` elements. Sums are exact; `scale` and `bias` are those of the network divided by the output's scale,
/// `epsilon` is at the scale of `len² · variance` of stored elements.
#[inline(always)]
pub fn layer_norm_i8(scale: &[f32], bias: &[f32], epsilon: f32, output_zero: i8, input: &[i8], output: &mut [i8]) {
    let len = scale.len();
    for (row, output) in input.chunks_exact(len).zip(output.chunks_exact_mut(len)) {
        let sum: i64 = row.iter().map(|&x| x as i64).sum();
        let squares: i64 = row.iter().map(|&x| x as i64 * x as i64).sum();
        let factor = rsqrt((len as i64 * squares - sum * sum) as f32 + epsilon);
        for (((output, &x), &scale), &bias) in output.iter_mut().zip(row).zip(scale).zip(bias) {
            let real = (len as i64 * x as i64 - sum) as f32 * factor * scale + bias;
            let stored = round_ties_even(clamp(real, -512.0, 512.0)) as i32 + output_zero as i32;
            *output = stored.clamp(i8::MIN as i32, i8::MAX as i32) as i8;
        }
    }
}
