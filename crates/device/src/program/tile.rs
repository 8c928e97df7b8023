//! How many results the kernels compute at a time: what the emitter chooses, and the cost model counts.

use super::{Precision, Window};
use kdc_kernels::pack;

/// A block of results whose sums stay in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Output channels, a multiple of four; the last block is filled up.
    pub lanes: usize,
    /// Pixels of one row.
    pub pixels: usize,
}

impl Tile {
    /// That of a convolution with so many output channels a group: as many sums as fit the vector registers; a narrow
    /// output has fewer pixels to share weights.
    pub fn conv2d(precision: Precision, window: &Window, group_out: usize) -> Tile {
        let sizes: &[usize] = match (precision, window.output[1]) {
            (_, 0 | 1) => &[32, 16, 8],
            (Precision::Int8, _) => &[16, 8],
            (Precision::F32, _) => &[8],
        };
        let lanes = pack::lanes(group_out, sizes);
        let pixels = (32 / lanes).min(if window.output[1] >= 4 { 4 } else { window.output[1].clamp(1, 2) });
        Tile { lanes, pixels }
    }

    /// That of a matrix product.
    pub fn fully_connected(out_features: usize) -> Tile {
        Tile { lanes: pack::lanes(out_features, &[32, 16, 8]), pixels: 1 }
    }
}
