//! Operators of one element of each operand: what they compute, and over which elements.

use crate::math::{self, clamp, sigmoid, tanh};
use crate::{Multiplier, store};

/// `output[i] = f(a[i])`
#[inline(always)]
pub fn map<T: Copy>(a: &[T], output: &mut [T], f: impl Fn(T) -> T) {
    for (output, &a) in output.iter_mut().zip(a) {
        *output = f(a);
    }
}

/// `a[i] = f(a[i])`
#[inline(always)]
pub fn map_in_place<T: Copy>(a: &mut [T], f: impl Fn(T) -> T) {
    for a in a {
        *a = f(*a);
    }
}

/// `output[i] = f(a[i], b[i])`
#[inline(always)]
pub fn zip<T: Copy>(a: &[T], b: &[T], output: &mut [T], f: impl Fn(T, T) -> T) {
    for ((output, &a), &b) in output.iter_mut().zip(a).zip(b) {
        *output = f(a, b);
    }
}

/// `a[i] = f(a[i], b[i])`
#[inline(always)]
pub fn zip_in_place<T: Copy>(a: &mut [T], b: &[T], f: impl Fn(T, T) -> T) {
    for (a, &b) in a.iter_mut().zip(b) {
        *a = f(*a, b);
    }
}

/// `output[…][c] = f(a[…][c], b[c])`
#[inline(always)]
pub fn zip_rows<T: Copy>(a: &[T], b: &[T], output: &mut [T], f: impl Fn(T, T) -> T) {
    for (output, a) in output.chunks_exact_mut(b.len()).zip(a.chunks_exact(b.len())) {
        zip(a, b, output, &f);
    }
}

/// `a[…][c] = f(a[…][c], b[c])`
#[inline(always)]
pub fn zip_rows_in_place<T: Copy>(a: &mut [T], b: &[T], f: impl Fn(T, T) -> T) {
    for a in a.chunks_exact_mut(b.len()) {
        zip_in_place(a, b, &f);
    }
}

/// A sum of two `i8` elements, each brought to the output's scale by its gain.
#[derive(Clone, Copy, Debug)]
pub struct AddInt8 {
    pub a_zero: i8,
    pub b_zero: i8,
    pub a_gain: i32,
    pub b_gain: i32,
    pub shift: u8,
    pub output_zero: i8,
    pub min: i8,
    pub max: i8,
}

impl AddInt8 {
    /// `clamp(output_zero + ((a − a_zero) · a_gain + (b − b_zero) · b_gain + 2^(shift−1)) >> shift)`
    #[inline(always)]
    pub fn apply(self, a: i8, b: i8) -> i8 {
        let a = (a as i64 - self.a_zero as i64) * self.a_gain as i64;
        let b = (b as i64 - self.b_zero as i64) * self.b_gain as i64;
        store((a + b + (1 << (self.shift - 1))) >> self.shift, self.output_zero, self.min, self.max)
    }
}

/// A product of two `i8` elements.
#[derive(Clone, Copy, Debug)]
pub struct MulInt8 {
    pub a_zero: i8,
    pub b_zero: i8,
    pub output_zero: i8,
    pub requant: Multiplier,
    pub min: i8,
    pub max: i8,
}

impl MulInt8 {
    /// `clamp(output_zero + requant((a − a_zero) · (b − b_zero)))`
    #[inline(always)]
    pub fn apply(self, a: i8, b: i8) -> i8 {
        let product = (a as i32 - self.a_zero as i32) * (b as i32 - self.b_zero as i32);
        store(self.requant.apply(product), self.output_zero, self.min, self.max)
    }
}

/// A quotient of two `i8` elements.
#[derive(Clone, Copy, Debug)]
pub struct DivInt8 {
    pub a_zero: i8,
    pub b_zero: i8,
    pub output_zero: i8,
    pub requant: Multiplier,
    pub min: i8,
    pub max: i8,
}

impl DivInt8 {
    /// `clamp(output_zero + requant(a − a_zero) / (b − b_zero))`, the quotient rounded half up; towards the sign's bound
    /// where the divisor is zero.
    #[inline(always)]
    pub fn apply(self, a: i8, b: i8) -> i8 {
        let a = (a as i64 - self.a_zero as i64) * self.requant.mantissa as i64;
        let b = b as i64 - self.b_zero as i64;
        let (a, b) = if b < 0 { (-a, -b) } else { (a, b) };
        // b is 9 bits wide and the shift at most 53 (see where the multiplier is made): the divisor fits.
        let quotient = match b {
            0 => a.signum() * 512,
            _ => (2 * a + (b << self.requant.shift)).div_euclid(b << (self.requant.shift + 1)),
        };
        store(quotient, self.output_zero, self.min, self.max)
    }
}

/// `table[x + 128]`
#[inline(always)]
pub fn lookup(table: &[i8; 256], x: i8) -> i8 {
    table[(x as u8 ^ 0x80) as usize]
}

/// A function of one `f32`.
#[derive(Clone, Copy, Debug)]
pub enum Function {
    Clip {
        min: f32,
        max: f32,
    },
    LeakyRelu {
        alpha: f32,
    },
    Sigmoid,
    Tanh,
    HardSwish,
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    Affine {
        gain: f32,
        offset: f32,
    },
    Abs,
    Exp,
    Sqrt,
    Reciprocal,
    Erf,
    Gelu,
    GeluTanh,
    /// One choice where `x` is not zero, another where it is.
    Select {
        yes: f32,
        no: f32,
    },
}

impl Function {
    /// The function's value.
    #[inline(always)]
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Function::Clip { min, max } => clamp(x, min, max),
            Function::LeakyRelu { alpha } => {
                if x < 0.0 {
                    alpha * x
                } else {
                    x
                }
            }
            Function::Sigmoid => sigmoid(x),
            Function::Tanh => tanh(x),
            Function::HardSwish => x * clamp(x * (1.0 / 6.0) + 0.5, 0.0, 1.0),
            Function::HardSigmoid { alpha, beta } => clamp(x * alpha + beta, 0.0, 1.0),
            Function::Affine { gain, offset } => x * gain + offset,
            Function::Abs => x.abs(),
            Function::Exp => math::exp(x),
            Function::Sqrt => math::sqrt(x),
            Function::Reciprocal => 1.0 / x,
            Function::Erf => math::erf(x),
            Function::Gelu => math::gelu(x),
            Function::GeluTanh => math::gelu_tanh(x),
            Function::Select { yes, no } => {
                if x != 0.0 {
                    yes
                } else {
                    no
                }
            }
        }
    }
}
