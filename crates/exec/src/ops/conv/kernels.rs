//! The two vector loops under every convolution, for whatever vectors the machine has.

use pulp::{Arch, Simd, WithSimd};

/// Vector loops may read and write this far beyond the last element.
pub const OVERRUN: usize = 256;

/// Output channels that are computed together, at most: as many as registers allow.
pub fn most_rows() -> usize {
    struct Registers;
    impl WithSimd for Registers {
        type Output = usize;
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::REGISTER_COUNT
        }
    }
    if Arch::new().dispatch(Registers) >= 32 { 8 } else { 4 }
}

/// Channels that are computed together.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// The first one.
    pub first: usize,
    /// How many there are.
    pub used: usize,
    /// How many the kernel computes: 1, 2, 4 or 8; weights of those that are not there are zero.
    pub computed: usize,
}

/// Cuts `count` channels into such blocks.
pub fn rows(count: usize) -> impl Iterator<Item = Rows> {
    let most = most_rows();
    (0..count).step_by(most).map(move |first| {
        let used = most.min(count - first);
        Rows { first, used, computed: used.next_power_of_two() }
    })
}

/// `out[j][q] = Σ over channels c, taps t: weights[c][t][j] · source[c · pitch + offsets[t] + q]` for `q < len`.
/// Beyond `len`, up to [`OVERRUN`] elements are read, and written with anything.
pub struct Convolve<'a> {
    pub source: &'a [f32],
    pub pitch: usize,
    pub offsets: &'a [usize],
    /// `[channels][taps][rows]`
    pub weights: &'a [f32],
    /// `[rows]` at `out_pitch`
    pub out: &'a mut [f32],
    pub out_pitch: usize,
    pub len: usize,
    pub rows: usize,
}

impl Convolve<'_> {
    pub fn run(self) {
        Arch::new().dispatch(self);
    }

    /// Register blocks of `ROWS` output channels by `WIDTH` vectors.
    #[inline(always)]
    fn blocks<S: Simd, const ROWS: usize, const WIDTH: usize>(self, simd: S) {
        let step = WIDTH * S::F32_LANES;
        debug_assert!(step <= OVERRUN && self.rows == ROWS);
        for q in (0..self.len).step_by(step) {
            let mut sums = [[simd.splat_f32s(0.0); WIDTH]; ROWS];
            for (channel, taps) in self.weights.chunks_exact(self.offsets.len() * ROWS).enumerate() {
                let base = channel * self.pitch + q;
                for (&offset, weights) in self.offsets.iter().zip(taps.chunks_exact(ROWS)) {
                    let (source, _) = S::as_simd_f32s(&self.source[base + offset..][..step]);
                    let mut j = 0;
                    while j < ROWS {
                        let weight = simd.splat_f32s(weights[j]);
                        let mut k = 0;
                        while k < WIDTH {
                            sums[j][k] = simd.mul_add_e_f32s(weight, source[k], sums[j][k]);
                            k += 1;
                        }
                        j += 1;
                    }
                }
            }
            let mut j = 0;
            while j < ROWS {
                let (out, _) = S::as_mut_simd_f32s(&mut self.out[j * self.out_pitch + q..][..step]);
                let mut k = 0;
                while k < WIDTH {
                    out[k] = sums[j][k];
                    k += 1;
                }
                j += 1;
            }
        }
    }
}

impl WithSimd for Convolve<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match (self.rows, S::REGISTER_COUNT >= 32) {
            (8, _) => self.blocks::<S, 8, 3>(simd),
            (4, true) => self.blocks::<S, 4, 6>(simd),
            (4, false) => self.blocks::<S, 4, 3>(simd),
            (2, true) => self.blocks::<S, 2, 8>(simd),
            (2, false) => self.blocks::<S, 2, 4>(simd),
            _ => self.blocks::<S, 1, 8>(simd),
        }
    }
}

/// `sums[j][t] = Σ over q < len: gradient[j · pitch + q] · source[offsets[t] + q]`.
/// The gradient must be zero from `len` to the next multiple of the vector length.
pub struct Correlate<'a> {
    pub gradient: &'a [f32],
    pub pitch: usize,
    pub source: &'a [f32],
    pub offsets: &'a [usize],
    pub len: usize,
    pub rows: usize,
    /// `[rows][taps]`
    pub sums: &'a mut [f32],
}

impl Correlate<'_> {
    pub fn run(self) {
        Arch::new().dispatch(self);
    }

    // Loops over indices: what is inside a closure would be compiled without the vectors of this function.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    fn some_taps<S: Simd, const ROWS: usize, const TAPS: usize>(&mut self, simd: S, first: usize) {
        let mut sums = [[simd.splat_f32s(0.0); TAPS]; ROWS];
        let (step, taps) = (S::F32_LANES, self.offsets.len());
        let (mut sources, mut gradients) = ([&self.source[..0]; TAPS], [&self.gradient[..0]; ROWS]);
        for t in 0..TAPS {
            sources[t] = &self.source[self.offsets[first + t]..];
        }
        for j in 0..ROWS {
            gradients[j] = &self.gradient[j * self.pitch..];
        }
        let mut q = 0;
        while q < self.len {
            let mut source = [simd.splat_f32s(0.0); TAPS];
            let mut t = 0;
            while t < TAPS {
                source[t] = vector(simd, &sources[t][q..]);
                t += 1;
            }
            let mut j = 0;
            while j < ROWS {
                let gradient = vector(simd, &gradients[j][q..]);
                let mut t = 0;
                while t < TAPS {
                    sums[j][t] = simd.mul_add_e_f32s(gradient, source[t], sums[j][t]);
                    t += 1;
                }
                j += 1;
            }
            q += step;
        }
        for j in 0..ROWS {
            for t in 0..TAPS {
                self.sums[j * taps + first + t] = simd.reduce_sum_f32s(sums[j][t]);
            }
        }
    }

    #[inline(always)]
    fn all_taps<S: Simd, const ROWS: usize>(mut self, simd: S) {
        let mut first = 0;
        while first < self.offsets.len() {
            let left = self.offsets.len() - first;
            first += match left {
                9.. if ROWS == 1 => {
                    self.some_taps::<S, ROWS, 9>(simd, first);
                    9
                }
                3.. => {
                    self.some_taps::<S, ROWS, 3>(simd, first);
                    3
                }
                _ => {
                    self.some_taps::<S, ROWS, 1>(simd, first);
                    1
                }
            };
        }
    }
}

impl WithSimd for Correlate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match self.rows {
            8 => self.all_taps::<S, 8>(simd),
            4 => self.all_taps::<S, 4>(simd),
            2 => self.all_taps::<S, 2>(simd),
            _ => self.all_taps::<S, 1>(simd),
        }
    }
}

/// Copies rows from one pitch to another. Many are so short that a call of `memcpy` would take longer than the copy:
/// those are copied as two pieces of known size that overlap.
pub struct CopyRows<'a> {
    pub from: &'a [f32],
    pub from_pitch: usize,
    pub to: &'a mut [f32],
    pub to_pitch: usize,
    pub rows: usize,
    pub width: usize,
}

impl CopyRows<'_> {
    pub fn run(self) {
        match self.width {
            width if width == self.from_pitch && width == self.to_pitch => {
                self.to[..self.rows * width].copy_from_slice(&self.from[..self.rows * width]);
            }
            4..8 => self.pieces::<4>(),
            8..16 => self.pieces::<8>(),
            16..32 => self.pieces::<16>(),
            width => {
                for row in 0..self.rows {
                    let from = &self.from[row * self.from_pitch..][..width];
                    self.to[row * self.to_pitch..][..width].copy_from_slice(from);
                }
            }
        }
    }

    fn pieces<const N: usize>(self) {
        for row in 0..self.rows {
            let from = &self.from[row * self.from_pitch..][..self.width];
            let to = &mut self.to[row * self.to_pitch..][..self.width];
            to[..N].copy_from_slice(&from[..N]);
            to[self.width - N..].copy_from_slice(&from[self.width - N..]);
        }
    }
}

#[inline(always)]
fn vector<S: Simd>(_: S, from: &[f32]) -> S::f32s {
    S::as_simd_f32s(&from[..S::F32_LANES]).0[0]
}
