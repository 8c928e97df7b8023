//! Functions that `core` has none of, the same bits on every device.

/// `x` in `min..=max`; not-a-number stays what it is.
#[inline(always)]
pub const fn clamp(x: f32, min: f32, max: f32) -> f32 {
    let x = if x < min { min } else { x };
    if x > max { max } else { x }
}

/// The larger of two numbers; not-a-number if either is.
#[inline(always)]
pub const fn larger(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

/// The nearest integer, the even one of two. `|x|` is at most 2^22.
#[inline(always)]
pub const fn round_ties_even(x: f32) -> f32 {
    // At 1.5 · 2^23 the spacing of floats is one: the addition rounds.
    const SHIFT: f32 = 12_582_912.0;
    (x + SHIFT) - SHIFT
}

/// `e^x`, to about one unit in the last place. Cody and Waite's reduction, then a polynomial (its coefficients are those
/// of the Taylor series; the remainder is at most (ln 2 / 2)^8 / 8! < 6e−9 of the result).
#[inline]
pub const fn exp(x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    if x > 88.722_84 {
        return f32::INFINITY;
    }
    if x < -103.972_08 {
        return 0.0;
    }
    let n = round_ties_even(x * core::f32::consts::LOG2_E);
    // ln 2 in two parts, the first with enough trailing zeros for n times it to be exact.
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let y = (p * r * r + r) + 1.0;
    // Two factors, each a normal number: the result may be subnormal or close to the largest.
    let n = n as i32;
    let half = n / 2;
    y * power_of_two(half) * power_of_two(n - half)
}

const fn power_of_two(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

/// `1 / (1 + e^−x)`
#[inline]
pub const fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The hyperbolic tangent.
#[inline]
pub const fn tanh(x: f32) -> f32 {
    let a = x.abs();
    if a < 0.625 {
        // Cephes' approximation for small arguments: x + x · x² · P(x²).
        let z = x * x;
        let p = -5.704_988e-3;
        let p = p * z + 2.063_909e-2;
        let p = p * z - 5.373_971_5e-2;
        let p = p * z + 1.333_144_2e-1;
        let p = p * z - 3.333_328e-1;
        return p * z * x + x;
    }
    let y = 1.0 - 2.0 / (exp(2.0 * a) + 1.0);
    if x < 0.0 { -y } else { y }
}

/// `1 / √x` for a positive number, to about two units in the last place: Newton's method from a guess by the exponent.
#[inline]
pub const fn rsqrt(x: f32) -> f32 {
    let mut y = f32::from_bits(0x5f37_59df - (x.to_bits() >> 1));
    let half = 0.5 * x;
    let mut step = 0;
    while step < 4 {
        y *= 1.5 - half * y * y;
        step += 1;
    }
    y
}

/// `√x`; not-a-number below zero.
#[inline]
pub const fn sqrt(x: f32) -> f32 {
    if x == 0.0 || x == f32::INFINITY {
        x
    } else if x > 0.0 {
        x * rsqrt(x)
    } else {
        f32::NAN
    }
}

/// The error function, to 2e−7: Taylor's series near zero, elsewhere Abramowitz and Stegun's 7.1.26.
#[inline]
pub const fn erf(x: f32) -> f32 {
    let a = x.abs();
    if a < 0.5 {
        let z = x * x;
        let p = 1.0 / 9360.0;
        let p = p * z - 1.0 / 1320.0;
        let p = p * z + 1.0 / 216.0;
        let p = p * z - 1.0 / 42.0;
        let p = p * z + 1.0 / 10.0;
        let p = p * z - 1.0 / 3.0;
        return x * (p * z + 1.0) * core::f32::consts::FRAC_2_SQRT_PI;
    }
    let t = 1.0 / (1.0 + 0.327_591_1 * a);
    let p = 1.061_405_4;
    let p = p * t - 1.453_152;
    let p = p * t + 1.421_413_7;
    let p = p * t - 0.284_496_74;
    let p = p * t + 0.254_829_6;
    let y = 1.0 - p * t * exp(-(a * a));
    if x < 0.0 { -y } else { y }
}

/// `x · Φ(x)`, where Φ is the normal distribution's (Hendrycks, Gimpel 2016).
#[inline]
pub const fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * core::f32::consts::FRAC_1_SQRT_2))
}

/// The same by its authors' approximation with the hyperbolic tangent.
#[inline]
pub const fn gelu_tanh(x: f32) -> f32 {
    // √(2 / π)
    let inner = 0.797_884_6 * (x + 0.044_715 * x * x * x);
    0.5 * x * (1.0 + tanh(inner))
}
