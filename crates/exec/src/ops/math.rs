//! Functions of vectors of numbers, in single precision. The error bounds are tested against `libm`.

use pulp::Simd;
use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

/// `eˣ` within 2 units in the last place from −87 to 88; no less and no more than at those ends outside.
#[inline(always)]
pub fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let splat = |value| simd.splat_f32s(value);
    // A NaN must stay one: in a minimum the second operand is what is taken then.
    let bounded = simd.select_f32s(simd.less_than_f32s(x, splat(-87.0)), splat(-87.0), x);
    let x = simd.select_f32s(simd.greater_than_f32s(bounded, splat(88.0)), splat(88.0), bounded);
    // x = n · ln 2 + r: adding 1.5 · 2²³ rounds to a whole number, which then stands in the low bits.
    let magic = splat(12_582_912.0);
    let shifted = simd.mul_add_e_f32s(x, splat(LOG2_E), magic);
    let n = simd.sub_f32s(shifted, magic);
    let r = simd.mul_add_e_f32s(n, splat(-0.693_359_4), x);
    let r = simd.mul_add_e_f32s(n, splat(2.121_944_4e-4), r);
    // The polynomial of Cephes' expf (Moshier).
    let coefficients = [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    let p = horner(simd, r, 1.987_569_1e-4, coefficients);
    let p = simd.mul_add_e_f32s(simd.mul_f32s(p, r), r, simd.add_f32s(r, splat(1.0)));
    let exponent = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(p), exponent))
}

/// The polynomial of these coefficients, the highest power's first. By index: an iterator's own checks would keep the loop
/// from being unrolled.
#[inline(always)]
fn horner<S: Simd, const N: usize>(simd: S, x: S::f32s, first: f32, others: [f32; N]) -> S::f32s {
    let (mut p, mut i) = (simd.splat_f32s(first), 0);
    while i < N {
        p = simd.mul_add_e_f32s(p, x, simd.splat_f32s(others[i]));
        i += 1;
    }
    p
}

/// The bit of the sign.
const SIGN: u32 = 1 << 31;

/// pulp's own is not always inlined, and compiled without vectors then.
#[inline(always)]
fn negative<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    simd.xor_f32s(simd.splat_f32s(f32::from_bits(SIGN)), x)
}

/// `1 / (1 + e⁻ˣ)` within 2e-7.
#[inline(always)]
pub fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    simd.div_f32s(one, simd.add_f32s(one, exp(simd, negative(simd, x))))
}

/// The hyperbolic tangent within 3e-7.
#[inline(always)]
pub fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let (one, two) = (simd.splat_f32s(1.0), simd.splat_f32s(2.0));
    simd.sub_f32s(one, simd.div_f32s(two, simd.add_f32s(one, exp(simd, simd.mul_f32s(two, x)))))
}

/// The normal distribution's function and density at x, within 5e-7 and 3e-7 (Abramowitz and Stegun 1964, 7.1.26).
#[inline(always)]
pub fn normal<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
    let splat = |value| simd.splat_f32s(value);
    let magnitude = simd.and_f32s(splat(f32::from_bits(!SIGN)), x);
    let z = simd.mul_f32s(magnitude, splat(FRAC_1_SQRT_2));
    let bell = exp(simd, simd.mul_f32s(negative(simd, z), z));
    let t = simd.div_f32s(splat(1.0), simd.mul_add_e_f32s(z, splat(0.327_591_1), splat(1.0)));
    let p = horner(simd, t, 1.061_405_4, [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6]);
    // Half of what is beyond |x| on both sides.
    let tail = simd.mul_f32s(simd.mul_f32s(p, t), simd.mul_f32s(bell, splat(0.5)));
    let below = simd.less_than_f32s(x, splat(0.0));
    let function = simd.select_f32s(below, tail, simd.sub_f32s(splat(1.0), tail));
    (function, simd.mul_f32s(bell, splat(0.398_942_3)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::{Scalar, WithSimd};

    struct Map<'a> {
        x: &'a [f32],
        which: usize,
    }

    impl WithSimd for Map<'_> {
        type Output = Vec<f32>;

        fn with_simd<S: Simd>(self, simd: S) -> Vec<f32> {
            let mut y = self.x.to_vec();
            let (vectors, rest) = S::as_mut_simd_f32s(&mut y);
            assert!(rest.is_empty());
            for v in vectors {
                *v = match self.which {
                    0 => exp(simd, *v),
                    1 => sigmoid(simd, *v),
                    2 => tanh(simd, *v),
                    3 => normal(simd, *v).0,
                    _ => normal(simd, *v).1,
                };
            }
            y
        }
    }

    /// The largest error, over a million points.
    fn error(which: usize, range: f64, relative: bool, exact: impl Fn(f64) -> f64) -> f64 {
        let count = 1 << 20;
        let x: Vec<f32> = (0..count).map(|i| ((f64::from(i) / f64::from(count) * 2.0 - 1.0) * range) as f32).collect();
        let mut worst = 0f64;
        let mut all = vec![Map { x: &x, which }.with_simd(Scalar)];
        #[cfg(target_arch = "x86_64")]
        {
            pulp::x86::V3::try_new().inspect(|&v| all.push(Map { x: &x, which }.with_simd(v)));
            pulp::x86::V4::try_new().inspect(|&v| all.push(Map { x: &x, which }.with_simd(v)));
        }
        for y in all {
            for (x, y) in x.iter().zip(y) {
                let exact = exact((*x).into());
                let off = (f64::from(y) - exact).abs();
                worst = worst.max(if relative { off / exact } else { off });
            }
        }
        worst
    }

    #[test]
    fn functions_are_within_their_bounds() {
        let ulp = f64::from(f32::EPSILON);
        assert!(error(0, 86.9, true, libm::exp) <= 2.0 * ulp);
        assert!(error(1, 80.0, false, |x| 1.0 / (1.0 + libm::exp(-x))) <= 2e-7);
        assert!(error(2, 40.0, false, libm::tanh) <= 3e-7);
        let function = |x: f64| 0.5 * libm::erfc(-x / std::f64::consts::SQRT_2);
        assert!(error(3, 12.0, false, function) <= 5e-7);
        let density = |x: f64| libm::exp(-x * x / 2.0) / (2.0 * std::f64::consts::PI).sqrt();
        assert!(error(4, 12.0, false, density) <= 3e-7);
        let special = Map { x: &[f32::NAN, f32::INFINITY, f32::NEG_INFINITY], which: 0 }.with_simd(Scalar);
        assert!(special[0].is_nan() && special[1] > 1e38 && special[2] < 1e-37);
    }
}
