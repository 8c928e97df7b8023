//! Matrix products.

use crate::linear::Linear;

/// The shape of a matrix product: `rows` times `[in]` to `[out]`.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub rows: usize,
    pub in_features: usize,
    pub out_features: usize,
}

/// A matrix product, `4 · G` output features at a time.
#[inline(always)]
pub fn fully_connected<const G: usize, L: Linear<G>>(
    shape: Shape,
    linear: &L,
    input: &[L::Element],
    output: &mut [L::Element],
) {
    let Shape { rows, in_features, out_features } = shape;
    let block_features = 4 * G;
    let run = in_features.div_ceil(L::STEP);
    for block in 0..out_features.div_ceil(block_features) {
        let weights = &linear.weights()[block * run..][..run];
        let lanes = block_features.min(out_features - block * block_features);
        for row in 0..rows {
            let mut sums = [linear.start(block)];
            linear.dot(&mut sums, [&input[row * in_features..][..in_features]], weights);
            let elements = linear.finish(block, sums[0]);
            output[row * out_features + block * block_features..][..lanes]
                .copy_from_slice(&elements.as_flattened()[..lanes]);
        }
    }
}
