//! Operators for one sample on a device: no allocation, no dependency, no unsafe code but vector instructions.
//!
//! Generated students call these functions with constant shapes and with references to constants. Every function is
//! inlined at its call, so that the compiler specialises the loops to the layer: [`linear`] holds the inner loops of convolutions and matrix products,
//! one file per family of operators the rest.
//!
//! # Arithmetic
//! Images are `[height, width, channels]`. `i8` elements are `real = scale · (stored − zero)`; sums are `i32`, and a
//! [`Multiplier`] takes them to the output, rounding half up once. `f32` sums run over the kernel's rows, then its
//! columns, then the channels, from the bias on, one product after the other and without fused multiply-add: results do
//! not depend on the device.

#![cfg_attr(not(any(test, feature = "std")), no_std)]
#![deny(unsafe_code)]

pub mod arena;
pub mod conv2d;
pub mod depthwise;
pub mod elementwise;
pub mod fully_connected;
pub mod layout;
pub mod linear;
pub mod math;
pub mod matmul;
#[cfg(any(test, feature = "std"))]
pub mod pack;
pub mod pool;
pub mod port;
pub mod sequence;
pub mod softmax;
pub mod vector;
mod window;

#[cfg(test)]
mod tests;

pub use window::Window;

/// `mantissa · 2^−shift`: from the scale of a sum to the scale of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Multiplier {
    pub mantissa: i32,
    /// In `1..=62`.
    pub shift: u8,
}

impl Multiplier {
    /// The product, rounded half up.
    #[inline(always)]
    pub const fn apply(self, value: i32) -> i64 {
        (value as i64 * self.mantissa as i64 + (1 << (self.shift - 1))) >> self.shift
    }
}

/// Moves a requantized value to the output's zero point and into `min..=max`.
#[inline(always)]
pub(crate) fn store(value: i64, zero: i8, min: i8, max: i8) -> i8 {
    value.saturating_add(zero as i64).clamp(min as i64, max as i64) as i8
}
