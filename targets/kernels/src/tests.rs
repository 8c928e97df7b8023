//! Convolutions and matrix products against plain loops, over random shapes.

use crate::conv2d::{Shape, conv2d};
use crate::depthwise::{self, depthwise};
use crate::linear::{Float, Int8};
use crate::vector::{self, plain};
use crate::{Multiplier, Window, math, pack, port, store};

/// xorshift64*, so that the shapes are the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32
    }

    fn within(&mut self, low: usize, high: usize) -> usize {
        low + self.next() as usize % (high - low + 1)
    }

    fn bytes(&mut self, n: usize) -> Vec<i8> {
        (0..n).map(|_| self.next() as i8).collect()
    }

    fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| (self.next() as f32 / 4e9 - 0.5) * 4.0).collect()
    }

    fn window(&mut self) -> Window {
        let mut window =
            Window { input: [0; 2], output: [0; 2], kernel: [0; 2], strides: [0; 2], pads: [0; 2], dilations: [0; 2] };
        for axis in 0..2 {
            let (kernel, dilation, stride) = (self.within(1, 4), self.within(1, 2), self.within(1, 3));
            let reach = (kernel - 1) * dilation + 1;
            let (before, after) = (self.within(0, reach - 1), self.within(0, reach - 1));
            let input = self.within(1, 11).max(reach.saturating_sub(before + after));
            window.input[axis] = input;
            window.kernel[axis] = kernel;
            window.dilations[axis] = dilation;
            window.strides[axis] = stride;
            window.pads[axis] = before;
            window.output[axis] = (input + before + after - reach) / stride + 1;
        }
        window
    }
}

/// Calls `f(output position, channel, [(input element, weight)])` for a convolution with `[out][kh][kw][in]` weights.
fn taps(shape: Shape, mut f: impl FnMut(usize, usize, &[(usize, usize)])) {
    let Shape { window: w, in_channels, out_channels, groups } = shape;
    let (gi, go) = (in_channels / groups, out_channels / groups);
    for y in 0..w.output[0] {
        for x in 0..w.output[1] {
            for o in 0..out_channels {
                let mut found = Vec::new();
                for ky in 0..w.kernel[0] {
                    for kx in 0..w.kernel[1] {
                        let iy = (y * w.strides[0] + ky * w.dilations[0]) as isize - w.pads[0] as isize;
                        let ix = (x * w.strides[1] + kx * w.dilations[1]) as isize - w.pads[1] as isize;
                        if iy < 0 || ix < 0 || iy >= w.input[0] as isize || ix >= w.input[1] as isize {
                            continue;
                        }
                        for c in 0..gi {
                            let element = (iy as usize * w.input[1] + ix as usize) * in_channels + o / go * gi + c;
                            found.push((element, ((o * w.kernel[0] + ky) * w.kernel[1] + kx) * gi + c));
                        }
                    }
                }
                f((y * w.output[1] + x) * out_channels + o, o, &found);
            }
        }
    }
}

fn int8_case<const G: usize, const P: usize>(r: &mut Random, shape: Shape, full_range: bool) {
    let Shape { window: w, in_channels, out_channels, groups } = shape;
    let input = r.bytes(w.input[0] * w.input[1] * in_channels);
    let mut weights = r.bytes(out_channels * w.kernel[0] * w.kernel[1] * in_channels / groups);
    if full_range {
        weights[0] = -128;
    } else {
        weights.iter_mut().for_each(|w| *w = (*w).max(-127));
    }
    let bias: Vec<i32> = (0..out_channels).map(|_| r.next() as i32 >> 16).collect();
    let requant: Vec<_> = (0..out_channels)
        .map(|_| Multiplier { mantissa: 1 << 30 | (r.next() >> 2) as i32, shift: r.within(36, 42) as u8 })
        .collect();
    let (zero, output_zero) = (r.next() as i8, r.next() as i8);
    let mut expected = vec![0; w.output[0] * w.output[1] * out_channels];
    taps(shape, |position, o, taps| {
        let sum = |sum, &(i, k): &(usize, usize)| sum + (input[i] as i32 - zero as i32) * weights[k] as i32;
        expected[position] = store(requant[o].apply(taps.iter().fold(bias[o], sum)), output_zero, -100, 127);
    });
    let packed = pack::int8_weights(&weights, groups, out_channels, w.kernel[0] * w.kernel[1], 4 * G);
    let bias = pack::channels(&pack::bias(&bias, &weights, zero), groups, 4 * G, 0);
    let mantissa = pack::channels(&requant.iter().map(|r| r.mantissa).collect::<Vec<_>>(), groups, 4 * G, 0);
    let shift = pack::channels(&requant.iter().map(|r| r.shift).collect::<Vec<_>>(), groups, 4 * G, 1);
    let linear = Int8::<G> {
        weights: packed.as_chunks().0.as_chunks().0,
        bias: bias.as_chunks().0.as_chunks().0,
        mantissa: mantissa.as_chunks().0.as_chunks().0,
        shift: shift.as_chunks().0.as_chunks().0,
        padding: &vec![zero; in_channels / groups],
        output_zero,
        min: -100,
        max: 127,
        full_range,
    };
    let mut output = vec![0; expected.len()];
    conv2d::<G, P, _>(shape, &linear, &input, &mut output);
    assert_eq!(output, expected, "{shape:?}, G {G}, P {P}");
}

fn float_case<const G: usize, const P: usize>(r: &mut Random, shape: Shape) {
    let Shape { window: w, in_channels, out_channels, groups } = shape;
    let input = r.floats(w.input[0] * w.input[1] * in_channels);
    let weights = r.floats(out_channels * w.kernel[0] * w.kernel[1] * in_channels / groups);
    let bias = r.floats(out_channels);
    let mut expected = vec![0.0; w.output[0] * w.output[1] * out_channels];
    taps(shape, |position, o, taps| {
        let sum = taps.iter().fold(bias[o], |sum, &(i, k)| sum + input[i] * weights[k]);
        expected[position] = sum.clamp(-2.0, f32::INFINITY);
    });
    let packed = pack::float_weights(&weights, groups, out_channels, 4 * G);
    let bias = pack::channels(&bias, groups, 4 * G, 0.0);
    let linear =
        Float::<G> { weights: packed.as_chunks().0.as_chunks().0, bias: bias.as_chunks().0.as_chunks().0, min: -2.0, max: f32::INFINITY };
    let mut output = vec![0.0; expected.len()];
    conv2d::<G, P, _>(shape, &linear, &input, &mut output);
    assert_eq!(bits(&output), bits(&expected), "{shape:?}, G {G}, P {P}");
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn convolutions_equal_plain_loops() {
    let mut r = Random(7);
    for case in 0..200 {
        let window = r.window();
        let groups = [1, 1, 2, 3][r.within(0, 3)];
        let shape = Shape {
            window,
            in_channels: groups * r.within(1, 9),
            out_channels: groups * r.within(1, 20),
            groups,
        };
        if window.output[1] >= 4 {
            int8_case::<2, 4>(&mut r, shape, case % 5 == 0);
            float_case::<2, 4>(&mut r, shape);
        }
        if window.output[1] >= 2 {
            int8_case::<4, 2>(&mut r, shape, case % 5 == 0);
        }
        int8_case::<4, 1>(&mut r, shape, case % 5 == 0);
        float_case::<4, 1>(&mut r, shape);
    }
}

#[test]
fn depthwise_convolutions_equal_plain_loops() {
    let mut r = Random(11);
    for _ in 0..100 {
        let (window, channels) = (r.window(), r.within(1, 40));
        let shape = Shape { window, in_channels: channels, out_channels: channels, groups: channels };
        let run = window.kernel[0] * window.kernel[1];
        let input = r.bytes(window.input[0] * window.input[1] * channels);
        let (weights, zero) = (r.bytes(run * channels), r.next() as i8);
        let mut expected = vec![0; window.output[0] * window.output[1] * channels];
        let multiplier = Multiplier { mantissa: 0x5432_1234, shift: 40 };
        taps(shape, |position, o, taps| {
            let sum = |sum, &(i, k): &(usize, usize)| {
                sum + (input[i] as i32 - zero as i32) * weights[k % run * channels + o] as i32
            };
            expected[position] = store(multiplier.apply(taps.iter().fold(-9, sum)), 3, -128, 127);
        });
        let filter = depthwise::Int8 {
            weights: &weights,
            bias: &vec![-9; channels],
            mantissa: &vec![multiplier.mantissa; channels],
            shift: &vec![multiplier.shift; channels],
            input_zero: zero,
            output_zero: 3,
            min: -128,
            max: 127,
        };
        let mut output = vec![0; expected.len()];
        depthwise(window, channels, &filter, &input, &mut output);
        assert_eq!(output, expected, "{shape:?}");
    }
}

#[test]
fn the_exponential_is_accurate() {
    let mut worst: f64 = 0.0;
    for i in -870_000..880_000 {
        let x = i as f32 * 1e-4;
        let exact = (x as f64).exp();
        worst = worst.max((math::exp(x) as f64 - exact).abs() / exact);
    }
    assert!(worst < 1.2 * f32::EPSILON as f64, "{worst}");
    assert_eq!((math::exp(0.0), math::exp(200.0), math::exp(-200.0)), (1.0, f32::INFINITY, 0.0));
    assert!(math::exp(f32::NAN).is_nan());
    assert!((math::exp(-100.0) as f64 / (-100f64).exp() - 1.0).abs() < 0.02, "subnormal");
}

#[test]
fn sigmoid_and_tanh_are_accurate() {
    for i in -200_000..200_000 {
        let x = i as f32 * 1e-4;
        let exact = (x as f64).tanh();
        assert!((math::tanh(x) as f64 - exact).abs() <= 2.0 * f32::EPSILON as f64 * exact.abs(), "{x}");
        let exact = 1.0 / (1.0 + (-x as f64).exp());
        assert!((math::sigmoid(x) as f64 - exact).abs() <= 2.0 * f32::EPSILON as f64 * exact, "{x}");
    }
}

#[test]
fn quantization_rounds_half_to_even_and_saturates() {
    let q = |x| port::quantize(x, 0.5, 3);
    assert_eq!([q(0.25), q(0.75), q(-0.25), q(1e30), q(-1e30), q(f32::NAN)], [3, 5, 3, 127, -128, 3]);
}

#[test]
fn vector_instructions_equal_the_plain_loop() {
    let mut r = Random(13);
    for case in 0..1000 {
        let full_range = case % 2 == 0;
        let mut extreme = || if r.next() % 3 == 0 { -128 } else { r.next() as i8 };
        let x: [i8; 4] = core::array::from_fn(|_| extreme());
        let w: [i8; 16] = core::array::from_fn(|_| extreme().max(if full_range { -128 } else { -127 }));
        let start = [1, -2, i32::MAX - 9, 4];
        let plain = plain::Sums::new(start).add(plain::Operand::new(x), plain::Weights::new(&w), full_range);
        let vector = vector::Sums::new(start).add(vector::Operand::new(x), vector::Weights::new(&w), full_range);
        assert_eq!(vector.to_array(), plain.to_array());
    }
}
