//! Augmented views of a sample: moves of an image's bytes, changes of a signal's numbers, tokens of a text that are hidden.

use super::Error;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

/// How a training sample may be changed without changing its class. Each kind of samples has keys of its own; others are
/// refused ([`Augment::check`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Augment {
    /// Of images, the largest shift in pixels, in either direction along either axis; of signals, in steps of time.
    pub shift: usize,
    /// Of images: whether half of the views are mirrored left to right.
    pub flip: bool,
    /// Of numbers: the largest change of loudness as a share, 0..1. A view's numbers are multiplied by 1 ± as much.
    pub gain: f64,
    /// Of numbers: the standard deviation of the noise that is added, in units of the network's input.
    pub noise: f64,
    /// Of texts: the share of the tokens that are hidden, 0..1.
    pub token_dropout: f64,
}

/// Kinds of samples, as far as augmentation tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Images,
    /// Numbers along time: signals, features of sounds, arrays.
    Signals,
    /// Numbers that stand for themselves, as the columns of a table.
    Rows,
    Texts,
}

/// One changed image: shifted, then mirrored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Move {
    /// Pixels to the right; what comes in at the edge is zero bytes.
    pub dx: isize,
    /// Pixels down.
    pub dy: isize,
    /// Mirrored left to right, after the shift.
    pub flip: bool,
}

/// One changed signal: shifted, then louder or softer, then with noise.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    /// Steps later; what comes in at the edge repeats it.
    shift: isize,
    gain: f32,
    noise: f32,
    /// Of the noise.
    seed: u64,
}

impl Augment {
    /// Refuses what samples of this kind cannot be changed by, and values out of their range.
    ///
    /// # Errors
    /// Names the key.
    pub(super) fn check(&self, kind: Kind) -> Result<(), Error> {
        use Kind::{Images, Rows, Signals, Texts};
        let keys: [(&str, bool, &[Kind]); 5] = [
            ("shift", self.shift > 0, &[Images, Signals]),
            ("flip", self.flip, &[Images]),
            ("gain", self.gain != 0.0, &[Signals, Rows]),
            ("noise", self.noise != 0.0, &[Signals, Rows]),
            ("token_dropout", self.token_dropout != 0.0, &[Texts]),
        ];
        let of = |kind: Kind| keys.iter().filter(|k| k.2.contains(&kind)).map(|k| k.0).collect::<Vec<_>>().join(", ");
        let fail = |what: String| Err(Error::Mismatch { what });
        if let Some((key, ..)) = keys.iter().find(|(_, used, kinds)| *used && !kinds.contains(&kind)) {
            let samples = match kind {
                Images => "images",
                Signals => "signals or arrays of numbers",
                Rows => "rows of a table",
                Texts => "texts",
            };
            return fail(format!(
                "{key} in [augment] is not for these samples, which are {samples}; for them: {}",
                of(kind)
            ));
        }
        let shares = [("gain", self.gain), ("token_dropout", self.token_dropout)];
        if let Some((key, value)) = shares.iter().find(|(_, v)| !(0.0..1.0).contains(v)) {
            return fail(format!("{key} {value} in [augment] is no share from 0 to below 1"));
        }
        if !(self.noise >= 0.0 && self.noise.is_finite()) {
            return fail(format!("noise {} in [augment] is no standard deviation", self.noise));
        }
        Ok(())
    }

    /// Everything that decides a view, for caches.
    pub(super) fn text(&self) -> String {
        // Images' caches are older than the other keys.
        let Augment { shift, flip, gain, noise, token_dropout } = self;
        let mut text = format!("shift {shift} flip {flip}");
        if (*gain, *noise) != (0.0, 0.0) {
            text += &format!(" gain {gain} noise {noise}");
        }
        if *token_dropout != 0.0 {
            text += &format!(" tokens {token_dropout}");
        }
        text
    }

    /// View number `k` of a signal: a pure function of its arguments, as [`Augment::of`].
    pub(super) fn change(&self, seed: u64, sample: usize, k: usize) -> Change {
        let Move { dx, .. } = self.of(seed, sample, k);
        let mut rng = ChaCha8Rng::seed_from_u64(state(seed, sample, k as u64));
        let gain = (1.0 + self.gain * (2.0 * share(rng.next_u64()) - 1.0)) as f32;
        Change { shift: dx, gain, noise: self.noise as f32, seed: rng.next_u64() }
    }

    /// View number `k` of a sample: a pure function of its arguments, the same on every machine and in every release
    /// (caches of teacher answers depend on it).
    ///
    /// Three draws of the [`mix`] stream that starts at a hash of `(seed, sample, k)`: dx, dy, flip; a shift is drawn
    /// uniformly from `-shift..=shift`.
    pub fn of(&self, seed: u64, sample: usize, k: usize) -> Move {
        let state = state(seed, sample, k as u64);
        let draw = |i: u64| mix(state.wrapping_add(i.wrapping_mul(GOLDEN_GAMMA)));
        // Multiply-shift maps 64 random bits onto 0..n; for such small n the bias is below 2^-50.
        let shift = |bits: u64| {
            let n = 2 * self.shift as u128 + 1;
            ((u128::from(bits) * n) >> 64) as isize - self.shift as isize
        };
        Move { dx: shift(draw(1)), dy: shift(draw(2)), flip: self.flip && draw(3) >> 63 == 1 }
    }
}

/// What the draws of a view begin with.
pub(super) fn state(seed: u64, sample: usize, view: u64) -> u64 {
    mix(mix(mix(seed) ^ sample as u64) ^ view)
}

/// Random bits as a number from 0 to below 1.
pub(super) fn share(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
pub(super) fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(GOLDEN_GAMMA);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Change {
    /// Changes a signal of these extents, `time` of which is the axis of time.
    pub(super) fn apply(&self, values: &mut [f32], shape: &[usize], time: usize) {
        let steps = shape.get(time).copied().unwrap_or(1);
        if self.shift != 0 && steps > 1 {
            let inner: usize = shape[time + 1..].iter().product();
            let source = values.to_vec();
            for (outer, values) in values.chunks_mut((steps * inner).max(1)).enumerate() {
                for (step, row) in values.chunks_mut(inner.max(1)).enumerate() {
                    let from = step.saturating_add_signed(-self.shift).min(steps - 1);
                    row.copy_from_slice(&source[(outer * steps + from) * inner..][..inner]);
                }
            }
        }
        if self.gain != 1.0 {
            values.iter_mut().for_each(|x| *x *= self.gain);
        }
        if self.noise > 0.0 {
            let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
            values.iter_mut().for_each(|x| *x += self.noise * Distribution::<f32>::sample(&StandardNormal, &mut rng));
        }
    }
}

impl Move {
    /// Whether nothing moves.
    pub fn is_plain(&self) -> bool {
        *self == Move::default()
    }

    /// The pixel of the sample (row, column) that stands at a pixel of the moved image; `None` where nothing came in.
    #[inline]
    pub(super) fn source(&self, row: usize, column: usize, height: usize, width: usize) -> Option<(usize, usize)> {
        let column = if self.flip { width - 1 - column } else { column };
        let row = row.checked_add_signed(-self.dy).filter(|&r| r < height)?;
        let column = column.checked_add_signed(-self.dx).filter(|&c| c < width)?;
        Some((row, column))
    }

    /// The bytes of a sample of `shape` (height, width, channels), moved.
    ///
    /// # Panics
    /// If `sample` has not as many bytes as `shape` says.
    pub fn apply(&self, sample: &[u8], shape: [usize; 3]) -> Vec<u8> {
        let [height, width, channels] = shape;
        assert_eq!(sample.len(), height * width * channels, "bytes of a sample of shape {shape:?}");
        let mut out = vec![0; sample.len()];
        if channels == 0 {
            return out;
        }
        for (i, pixel) in out.chunks_exact_mut(channels).enumerate() {
            if let Some((row, column)) = self.source(i / width, i % width, height, width) {
                pixel.copy_from_slice(&sample[(row * width + column) * channels..][..channels]);
            }
        }
        out
    }
}
