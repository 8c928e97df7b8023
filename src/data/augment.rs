//! Augmented views of an image, as moves of bytes.

use serde::{Deserialize, Serialize};

/// How a training sample may be changed without changing its class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augment {
    /// The largest shift in pixels, in either direction along either axis.
    #[serde(default)]
    pub shift: usize,
    /// Whether half of the views are mirrored left to right.
    #[serde(default)]
    pub flip: bool,
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

impl Augment {
    /// View number `k` of a sample: a pure function of its arguments, the same on every machine and in every release
    /// (caches of teacher answers depend on it).
    ///
    /// Three draws of the [`mix`] stream that starts at a hash of `(seed, sample, k)`: dx, dy, flip; a shift is drawn
    /// uniformly from `-shift..=shift`.
    pub fn of(&self, seed: u64, sample: usize, k: usize) -> Move {
        let state = mix(mix(mix(seed) ^ sample as u64) ^ k as u64);
        let draw = |i: u64| mix(state.wrapping_add(i.wrapping_mul(GOLDEN_GAMMA)));
        // Multiply-shift maps 64 random bits onto 0..n; for such small n the bias is below 2^-50.
        let shift = |bits: u64| {
            let n = 2 * self.shift as u128 + 1;
            ((u128::from(bits) * n) >> 64) as isize - self.shift as isize
        };
        Move { dx: shift(draw(1)), dy: shift(draw(2)), flip: self.flip && draw(3) >> 63 == 1 }
    }
}

const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
pub(super) fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(GOLDEN_GAMMA);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
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
