//! Pooling.

use crate::math::larger;
use crate::{Multiplier, Window, store};

/// What a pooling operator does with the elements of one channel under the window.
pub trait Pool: Copy {
    type Element: Copy;
    type Sum: Copy;

    fn start(&self) -> Self::Sum;
    fn add(&self, sum: Self::Sum, operand: Self::Element) -> Self::Sum;
    /// `count`: how many elements lie under the window.
    fn finish(&self, sum: Self::Sum, count: usize) -> Self::Element;
}

/// The largest `i8`.
#[derive(Clone, Copy, Debug)]
pub struct MaxInt8;

/// The largest `f32`; not-a-number where there is one.
#[derive(Clone, Copy, Debug)]
pub struct MaxFloat;

/// The average of `i8` elements: one multiplier per count of elements.
#[derive(Clone, Copy, Debug)]
pub struct AverageInt8<'a> {
    pub input_zero: i8,
    pub output_zero: i8,
    pub requant: &'a [Multiplier],
    /// Elements under every window where padding counts too.
    pub count: Option<usize>,
}

/// The average of `f32` elements.
#[derive(Clone, Copy, Debug)]
pub struct AverageFloat {
    /// Elements under every window where padding counts too.
    pub count: Option<usize>,
}

impl Pool for MaxInt8 {
    type Element = i8;
    type Sum = i8;

    #[inline(always)]
    fn start(&self) -> i8 {
        i8::MIN
    }

    #[inline(always)]
    fn add(&self, sum: i8, operand: i8) -> i8 {
        if operand > sum { operand } else { sum }
    }

    #[inline(always)]
    fn finish(&self, sum: i8, _: usize) -> i8 {
        sum
    }
}

impl Pool for MaxFloat {
    type Element = f32;
    type Sum = f32;

    #[inline(always)]
    fn start(&self) -> f32 {
        f32::NEG_INFINITY
    }

    #[inline(always)]
    fn add(&self, sum: f32, operand: f32) -> f32 {
        larger(sum, operand)
    }

    #[inline(always)]
    fn finish(&self, sum: f32, _: usize) -> f32 {
        sum
    }
}

impl Pool for AverageInt8<'_> {
    type Element = i8;
    type Sum = i32;

    #[inline(always)]
    fn start(&self) -> i32 {
        0
    }

    #[inline(always)]
    fn add(&self, sum: i32, operand: i8) -> i32 {
        sum + (operand as i32 - self.input_zero as i32)
    }

    #[inline(always)]
    fn finish(&self, sum: i32, count: usize) -> i8 {
        match self.count.unwrap_or(count) {
            0 => self.output_zero,
            count => store(self.requant[count - 1].apply(sum), self.output_zero, i8::MIN, i8::MAX),
        }
    }
}

impl Pool for AverageFloat {
    type Element = f32;
    type Sum = f32;

    #[inline(always)]
    fn start(&self) -> f32 {
        0.0
    }

    #[inline(always)]
    fn add(&self, sum: f32, operand: f32) -> f32 {
        sum + operand
    }

    #[inline(always)]
    fn finish(&self, sum: f32, count: usize) -> f32 {
        match self.count.unwrap_or(count) {
            0 => 0.0,
            count => sum / count as f32,
        }
    }
}

/// Pools each channel on its own.
#[inline(always)]
pub fn pool<K: Pool>(window: Window, channels: usize, kind: K, input: &[K::Element], output: &mut [K::Element]) {
    for y in 0..window.output[0] {
        let rows = window.taps(0, y);
        for x in 0..window.output[1] {
            let columns = window.taps(1, x);
            let pixel = &mut output[(y * window.output[1] + x) * channels..][..channels];
            let at = |ky: usize, kx: usize| {
                let iy = y * window.strides[0] + ky * window.dilations[0] - window.pads[0];
                let ix = x * window.strides[1] + kx * window.dilations[1] - window.pads[1];
                &input[(iy * window.input[1] + ix) * channels..][..channels]
            };
            let mut channel = 0;
            while channel + 16 <= channels {
                block::<16, K>(kind, [rows, columns], at, pixel, channel);
                channel += 16;
            }
            while channel < channels {
                block::<1, K>(kind, [rows, columns], at, pixel, channel);
                channel += 1;
            }
        }
    }
}

#[inline(always)]
fn block<'a, const B: usize, K: Pool>(
    kind: K,
    taps: [(usize, usize); 2],
    at: impl Fn(usize, usize) -> &'a [K::Element],
    pixel: &mut [K::Element],
    channel: usize,
) where
    K::Element: 'a,
{
    let [rows, columns] = taps;
    let mut sums = [kind.start(); B];
    for ky in rows.0..rows.1 {
        for kx in columns.0..columns.1 {
            let operands = &at(ky, kx)[channel..][..B];
            for j in 0..B {
                sums[j] = kind.add(sums[j], operands[j]);
            }
        }
    }
    let count = (rows.1 - rows.0) * (columns.1 - columns.0);
    for (pixel, sum) in pixel[channel..][..B].iter_mut().zip(sums) {
        *pixel = kind.finish(sum, count);
    }
}
