//! Matrix products.

use crate::linear::Linear;

/// The shape of a matrix product: `rows` times `[in]` to `[out]`.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub rows: usize,
    pub in_features: usize,
    pub out_features: usize,
}

/// A matrix product, `B` output features at a time.
#[inline(always)]
pub fn fully_connected<const B: usize, L: Linear<B>>(
    shape: Shape,
    linear: L,
    input: &[L::Element],
    output: &mut [L::Element],
) {
    let Shape { rows, in_features, out_features } = shape;
    for block in 0..out_features.div_ceil(B) {
        let weights = &linear.weights()[block * in_features..][..in_features];
        let lanes = B.min(out_features - block * B);
        for row in 0..rows {
            let mut sums = [linear.start(block)];
            linear.dot(&mut sums, [&input[row * in_features..][..in_features]], weights);
            let elements = linear.finish(block, sums[0]);
            output[row * out_features + block * B..][..lanes].copy_from_slice(&elements[..lanes]);
        }
    }
}
