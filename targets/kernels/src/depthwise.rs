//! Depthwise convolutions: one filter per channel, vectors along the channels.

use crate::{Multiplier, Window};

/// A depthwise convolution's numbers; weights are `[kernel_h][kernel_w][channels]`.
#[derive(Clone, Copy, Debug)]
pub struct Int8<'a> {
    pub weights: &'a [i8],
    pub bias: &'a [i32],
    pub mantissa: &'a [i32],
    pub shift: &'a [u8],
    pub input_zero: i8,
    pub output_zero: i8,
    pub min: i8,
    pub max: i8,
}

/// A depthwise convolution's numbers; weights are `[kernel_h][kernel_w][channels]`.
#[derive(Clone, Copy, Debug)]
pub struct Float<'a> {
    pub weights: &'a [f32],
    pub bias: &'a [f32],
    pub min: f32,
    pub max: f32,
}

/// What one channel does.
pub trait Depthwise {
    type Element: Copy;
    type Sum: Copy;

    fn weights(&self) -> &[Self::Element];
    fn start(&self, channel: usize) -> Self::Sum;
    fn add(&self, sum: Self::Sum, operand: Self::Element, weight: Self::Element) -> Self::Sum;
    fn finish(&self, channel: usize, sum: Self::Sum) -> Self::Element;
}

impl Depthwise for Int8<'_> {
    type Element = i8;
    type Sum = i32;

    #[inline(always)]
    fn weights(&self) -> &[i8] {
        self.weights
    }

    #[inline(always)]
    fn start(&self, channel: usize) -> i32 {
        self.bias[channel]
    }

    #[inline(always)]
    fn add(&self, sum: i32, operand: i8, weight: i8) -> i32 {
        // At most 255 · 128 < 2^15.
        sum.wrapping_add(((operand as i16 - self.input_zero as i16) * weight as i16) as i32)
    }

    #[inline(always)]
    fn finish(&self, channel: usize, sum: i32) -> i8 {
        let multiplier = Multiplier { mantissa: self.mantissa[channel], shift: self.shift[channel] & 63 };
        crate::store(multiplier.apply(sum), self.output_zero, self.min, self.max)
    }
}

impl Depthwise for Float<'_> {
    type Element = f32;
    type Sum = f32;

    #[inline(always)]
    fn weights(&self) -> &[f32] {
        self.weights
    }

    #[inline(always)]
    fn start(&self, channel: usize) -> f32 {
        self.bias[channel]
    }

    #[inline(always)]
    fn add(&self, sum: f32, operand: f32, weight: f32) -> f32 {
        sum + operand * weight
    }

    #[inline(always)]
    fn finish(&self, _: usize, sum: f32) -> f32 {
        crate::math::clamp(sum, self.min, self.max)
    }
}

/// A depthwise convolution.
#[inline(always)]
pub fn depthwise<D: Depthwise>(
    window: Window,
    channels: usize,
    filter: &D,
    input: &[D::Element],
    output: &mut [D::Element],
) {
    let (rows, columns) = (window.interior(0), window.interior(1));
    for y in 0..window.output[0] {
        let inside = y >= rows.0 && y < rows.1;
        let ky = window.taps(0, y);
        for x in 0..window.output[1] {
            let pixel = &mut output[(y * window.output[1] + x) * channels..][..channels];
            if inside && x >= columns.0 && x < columns.1 {
                // The same with constant bounds, which the compiler unrolls.
                let taps = [(0, window.kernel[0]), (0, window.kernel[1])];
                all_channels(window, channels, filter, input, pixel, [y, x], taps);
            } else {
                all_channels(window, channels, filter, input, pixel, [y, x], [ky, window.taps(1, x)]);
            }
        }
    }
}

#[inline(always)]
fn all_channels<D: Depthwise>(
    window: Window,
    channels: usize,
    filter: &D,
    input: &[D::Element],
    pixel: &mut [D::Element],
    at: [usize; 2],
    taps: [(usize, usize); 2],
) {
    let mut channel = 0;
    while channel + 16 <= channels {
        block::<16, D>(window, channels, filter, input, pixel, at, taps, channel);
        channel += 16;
    }
    if channel + 8 <= channels {
        block::<8, D>(window, channels, filter, input, pixel, at, taps, channel);
        channel += 8;
    }
    while channel < channels {
        block::<1, D>(window, channels, filter, input, pixel, at, taps, channel);
        channel += 1;
    }
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "inlined: a loop body with a name")]
fn block<const B: usize, D: Depthwise>(
    window: Window,
    channels: usize,
    filter: &D,
    input: &[D::Element],
    pixel: &mut [D::Element],
    at: [usize; 2],
    taps: [(usize, usize); 2],
    channel: usize,
) {
    let mut sums: [D::Sum; B] = core::array::from_fn(|j| filter.start(channel + j));
    for ky in taps[0].0..taps[0].1 {
        let iy = at[0] * window.strides[0] + ky * window.dilations[0] - window.pads[0];
        for kx in taps[1].0..taps[1].1 {
            let ix = at[1] * window.strides[1] + kx * window.dilations[1] - window.pads[1];
            let operands = &input[(iy * window.input[1] + ix) * channels + channel..][..B];
            let weights = &filter.weights()[(ky * window.kernel[1] + kx) * channels + channel..][..B];
            for j in 0..B {
                sums[j] = filter.add(sums[j], operands[j], weights[j]);
            }
        }
    }
    let pixel = &mut pixel[channel..][..B];
    for j in 0..B {
        pixel[j] = filter.finish(channel + j, sums[j]);
    }
}
