//! How far an engine's answers are from those of kdc's own executor, and how much of that rounding explains.

use super::Reply;

/// How far the sums of two programs may be apart, relative to the largest number of a value: `f32` has 24 bits, of which
/// hundreds of layers of thousands of terms cost ten at worst.
const ROUNDING: f32 = 1e-3;
/// The same for the root of the mean square where a rounding error may grow to a step: of an 8-bit value twelve steps.
const STEPS: f32 = 0.05;

/// How far an engine is from what kdc computes.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The value that differs.
    pub value: String,
    /// Relative to the largest number of the value: the largest difference, or its root mean square where values move in
    /// steps. Infinite where shapes differ or a value is NaN.
    pub by: f32,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.by.is_finite() {
            true => write!(f, "\"{}\" by {:.2}% of its largest number", self.value, 100.0 * self.by),
            false => write!(f, "\"{}\", which has other extents or numbers that are not finite", self.value),
        }
    }
}

/// The first value in which two replies differ by more than rounding explains.
pub(super) fn first_difference(names: &[String], ours: &Reply, theirs: &Reply, has_steps: bool) -> Option<Difference> {
    let ours = ours.outputs.iter().chain(&ours.taps);
    let theirs = theirs.outputs.iter().chain(&theirs.taps);
    names.iter().zip(ours.zip(theirs)).find_map(|(name, (a, b))| {
        let differs = |by| Some(Difference { value: name.clone(), by });
        if a.len() != b.len() {
            return differs(f32::INFINITY);
        }
        let (a, b) = (a.to_f32(), b.to_f32());
        if b.iter().any(|x| !x.is_finite()) {
            return differs(f32::INFINITY);
        }
        let scale = a.iter().fold(f32::MIN_POSITIVE, |most, x| most.max(x.abs()));
        let apart = a.iter().zip(b.iter()).map(|(a, b)| (a - b) / scale);
        let (by, limit) = match has_steps {
            true => ((apart.map(|d| d * d).sum::<f32>() / a.len().max(1) as f32).sqrt(), STEPS),
            false => (apart.fold(0.0, |most: f32, d| most.max(d.abs())), ROUNDING),
        };
        if by <= limit { None } else { differs(by) }
    })
}
