//! Convolutions and matrix products against plain loops, over random shapes.

use crate::conv2d::{Shape, conv2d};
use crate::depthwise::{self, depthwise};
use crate::elementwise::{AddInt8, MulInt8, lookup};
use crate::linear::{Float, Int8};
use crate::pool::{AverageFloat, AverageInt8, MaxInt8, pool};
use crate::softmax::{softmax_f32, softmax_i8};
use crate::vector::{self, plain};
use crate::{Multiplier, Window, layout, math, pack, port, store};

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
    let linear = Float::<G> {
        weights: packed.as_chunks().0.as_chunks().0,
        bias: bias.as_chunks().0.as_chunks().0,
        min: -2.0,
        max: f32::INFINITY,
    };
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
        let shape =
            Shape { window, in_channels: groups * r.within(1, 9), out_channels: groups * r.within(1, 20), groups };
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
        let mut extreme = || if r.next().is_multiple_of(3) { -128 } else { r.next() as i8 };
        let x: [i8; 4] = core::array::from_fn(|_| extreme());
        let w: [i8; 16] = core::array::from_fn(|_| extreme().max(if full_range { -128 } else { -127 }));
        let start = [1, -2, i32::MAX - 9, 4];
        let plain = plain::Sums::new(start).add(plain::Operand::new(x), plain::Weights::new(&w), full_range);
        let vector = vector::Sums::new(start).add(vector::Operand::new(x), vector::Weights::new(&w), full_range);
        assert_eq!(vector.to_array(), plain.to_array());
    }
}

#[test]
fn pooling_equals_plain_loops() {
    let mut r = Random(17);
    for _ in 0..100 {
        let (w, channels, zero) = (r.window(), r.within(1, 20), r.next() as i8);
        let shape = Shape { window: w, in_channels: channels, out_channels: channels, groups: channels };
        let input = r.bytes(w.input[0] * w.input[1] * channels);
        let real: Vec<f32> = input.iter().map(|&x| f32::from(x)).collect();
        let outputs = w.output[0] * w.output[1] * channels;
        let all = w.kernel[0] * w.kernel[1];
        // 1/n, rounded as it comes.
        let requant: Vec<_> =
            (1..=all as u64).map(|n| Multiplier { mantissa: ((1 << 30) / n) as i32, shift: 30 }).collect();
        let mut expected = [vec![0; outputs], vec![0; outputs], vec![0; outputs]];
        let mut means = vec![0.0; outputs];
        taps(shape, |position, _, taps| {
            let under = || taps.iter().map(|&(i, _)| input[i]);
            let sum: i32 = under().map(|x| x as i32 - zero as i32).sum();
            expected[0][position] = under().max().unwrap_or(i8::MIN);
            let average = |n: usize| if n == 0 { 4 } else { store(requant[n - 1].apply(sum), 4, -128, 127) };
            expected[1][position] = average(taps.len());
            expected[2][position] = average(all);
            let real = under().fold(0.0, |sum, x| sum + f32::from(x));
            means[position] = if taps.is_empty() { 0.0 } else { real / taps.len() as f32 };
        });
        let mut output = vec![0; outputs];
        pool(w, channels, MaxInt8, &input, &mut output);
        assert_eq!(output, expected[0], "largest, {w:?}");
        for (count, expected) in [(None, &expected[1]), (Some(all), &expected[2])] {
            let kind = AverageInt8 { input_zero: zero, output_zero: 4, requant: &requant, count };
            pool(w, channels, kind, &input, &mut output);
            assert_eq!(output, *expected, "average, {w:?}, {count:?}");
        }
        let mut output = vec![0.0; outputs];
        pool(w, channels, AverageFloat { count: None }, &real, &mut output);
        assert_eq!(bits(&output), bits(&means), "{w:?}");
    }
}

#[test]
fn layouts_move_every_element_to_its_place() {
    let numbers: Vec<i8> = (0..24).collect();
    let mut output = [0; 24];
    layout::transpose([2, 3, 4], [2, 0, 1], &numbers, &mut output);
    for (to, &element) in output.iter().enumerate() {
        let (k, i, j) = (to / 6, to / 3 % 2, to % 3);
        assert_eq!(element as usize, (i * 3 + j) * 4 + k);
    }
    let mut output = [9; 40];
    layout::pad([2, 2, 2], [1, 0, 1, 3], 7, &numbers[1..9], &mut output);
    assert_eq!(output[..10], [7; 10]);
    assert_eq!(output[10..20], [1, 2, 3, 4, 7, 7, 7, 7, 7, 7]);
    assert_eq!(output[20..30], [5, 6, 7, 8, 7, 7, 7, 7, 7, 7]);
    assert_eq!(output[30..], [7; 10]);
    let mut output = [0; 10];
    layout::concat([2, 1, 2], [&numbers[..4], &numbers[4..6], &numbers[6..10]], &mut output);
    assert_eq!(output, [0, 1, 4, 6, 7, 2, 3, 5, 8, 9]);
}

#[test]
fn sums_and_products_round_half_up_and_saturate() {
    let add = AddInt8 { a_zero: 1, b_zero: -2, a_gain: 3, b_gain: 1, shift: 1, output_zero: 5, min: -50, max: 100 };
    // (2·3 + 3 + 1) >> 1 = 5; (−1·3 + 0 + 1) >> 1 = −1
    assert_eq!([add.apply(3, 1), add.apply(0, -2), add.apply(127, 0), add.apply(-128, 0)], [10, 4, 100, -50]);
    let requant = Multiplier { mantissa: 1 << 30, shift: 32 };
    let mul = MulInt8 { a_zero: 1, b_zero: -2, output_zero: -3, requant, min: -10, max: 9 };
    // 6/4 = 1.5 → 2; −2/4 = −0.5 → 0
    assert_eq!([mul.apply(3, 1), mul.apply(0, 0), mul.apply(127, 127), mul.apply(-128, 127)], [-1, -3, 9, -10]);
    let table = core::array::from_fn(|i| 127i8.wrapping_sub(i as u8 as i8));
    assert_eq!([lookup(&table, -128), lookup(&table, 127)], [127, -128]);
}

#[test]
fn softmax_shares_out_one() {
    let x = [1.0, 2.0, -3.0, 0.5, 0.5, 0.5];
    let mut output = [0.0; 6];
    softmax_f32(3, &x, &mut output);
    let sum: f64 = x[..3].iter().map(|&x| f64::from(x).exp()).sum();
    for (&x, &y) in x[..3].iter().zip(&output) {
        assert!((f64::from(y) - f64::from(x).exp() / sum).abs() < 1e-6);
    }
    assert_eq!(output[3..], [1.0 / 3.0; 3]);
    let table = core::array::from_fn(|d| ((-(d as f64) * 0.05).exp() * f64::from(1 << 23)).round() as u32);
    let mut output = [0; 5];
    softmax_i8(5, &table, &[10, -5, 10, 0, -128], &mut output);
    let sum: f64 = [0.0, -0.75, 0.0, -0.5, -6.9f64].iter().map(|x| x.exp()).sum();
    let exact = [0.0, -0.75, 0.0, -0.5, -6.9f64].map(|x| (255.0 * x.exp() / sum).round() as i32 - 128);
    assert_eq!(output.map(i32::from), exact);
    softmax_i8(1, &table, &[3], &mut output[..1]);
    assert_eq!(output[0], 127, "a one is exact");
}
