//! Fixed-point multiplication: the one place where a sum becomes a stored number.

use super::Multiplier;

impl Multiplier {
    /// The multiplier nearest to a positive real number; `None` where 32 bits cannot hold one (below 2^−32, or 2^30 and
    /// above, which no sound pair of scales gives).
    pub fn from_real(real: f64) -> Option<Multiplier> {
        if !real.is_finite() || real <= 0.0 {
            return None;
        }
        // real = fraction · 2^exponent with fraction in [0.5, 1)
        let mut exponent = real.log2().floor() as i32 + 1;
        let mut mantissa = (real * 2f64.powi(31 - exponent)).round();
        if mantissa >= 2f64.powi(31) {
            mantissa /= 2.0;
            exponent += 1;
        } else if mantissa < 2f64.powi(30) {
            mantissa *= 2.0;
            exponent -= 1;
        }
        let shift = u8::try_from(31 - exponent).ok().filter(|s| (1..=62).contains(s))?;
        Some(Multiplier { mantissa: mantissa as i32, shift })
    }

    /// The same for any positive real number. Below 2^−32 nothing is left of any sum of 32 bits, which a mantissa of zero
    /// says exactly; from 2^30 on every sum but zero saturates, which the largest multiplier does as well.
    pub fn saturating(real: f64) -> Multiplier {
        const NOTHING: Multiplier = Multiplier { mantissa: 0, shift: 1 };
        const MOST: Multiplier = Multiplier { mantissa: i32::MAX, shift: 1 };
        Multiplier::from_real(real).unwrap_or(if real < 1.0 { NOTHING } else { MOST })
    }

    /// Whether the numbers are those of a multiplier.
    pub fn is_sound(self) -> bool {
        (self.mantissa == 0 || self.mantissa >= 1 << 30) && (1..=62).contains(&self.shift)
    }

    /// `sum · mantissa · 2^−shift`, rounded half up.
    pub fn apply(self, sum: i32) -> i64 {
        round_shift(i64::from(sum) * i64::from(self.mantissa), self.shift)
    }

    /// The number it stands for.
    pub fn to_real(self) -> f64 {
        f64::from(self.mantissa) * 2f64.powi(-i32::from(self.shift))
    }
}

/// `x · 2^−shift`, rounded half up: **the** rounding of integer programs.
pub fn round_shift(x: i64, shift: u8) -> i64 {
    (x + (1 << (shift - 1))) >> shift
}
