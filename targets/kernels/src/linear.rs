//! The inner loops of convolutions and matrix products.
//!
//! Output channels are computed in blocks of `4 · G`, pixels in blocks of `P`: each weight that is loaded serves `P`
//! pixels, each input all channels of the block, and the sums stay in `G · P` vector registers. Weights come packed for
//! that, see `pack`; the channels that fill up the last block are computed and dropped.

use crate::{Multiplier, math, store, vector};

/// One linear operator's numbers and how sums of products are formed from them.
pub trait Linear<const G: usize> {
    type Element: Copy;
    /// The weights of a block for [`STEP`](Linear::STEP) consecutive input channels.
    type Weights: Copy;
    /// The sums of four channels.
    type Sums: Copy;
    /// How many input channels are multiplied at once. A run of other length is filled up with zeros.
    const STEP: usize;

    /// `[group · block][kernel_h][kernel_w][in / groups / STEP]`
    fn weights(&self) -> &[Self::Weights];
    /// What the sums of a block start from.
    fn start(&self, block: usize) -> [Self::Sums; G];
    /// Adds the products of `P` operands with one run of weights.
    fn dot<const P: usize>(
        &self,
        sums: &mut [[Self::Sums; G]; P],
        operands: [&[Self::Element]; P],
        weights: &[Self::Weights],
    );
    /// The same, where an operand that is `None` lies on the padding.
    fn dot_padded<const P: usize>(
        &self,
        sums: &mut [[Self::Sums; G]; P],
        operands: [Option<&[Self::Element]>; P],
        weights: &[Self::Weights],
    );
    /// The elements that the sums of a block are stored as.
    fn finish(&self, block: usize, sums: [Self::Sums; G]) -> [[Self::Element; 4]; G];
}

/// `i8` elements and weights, `i32` sums.
#[derive(Clone, Copy, Debug)]
pub struct Int8<'a, const G: usize> {
    /// Ordered as [`vector`](crate::vector) says.
    pub weights: &'a [[[i8; 16]; G]],
    /// Less the input's zero point times the sum of the channel's weights.
    pub bias: &'a [[[i32; 4]; G]],
    /// The mantissas and shifts of the multipliers.
    pub mantissa: &'a [[[i32; 4]; G]],
    pub shift: &'a [[[u8; 4]; G]],
    /// What padding is stored as (the input's zero point): one pixel's channels of one group.
    pub padding: &'a [i8],
    pub output_zero: i8,
    pub min: i8,
    pub max: i8,
    /// Whether some weight is −128. If none is, two products fit into 16 bits.
    pub full_range: bool,
}

impl<const G: usize> Linear<G> for Int8<'_, G> {
    type Element = i8;
    type Weights = [[i8; 16]; G];
    type Sums = vector::Sums;
    const STEP: usize = 4;

    #[inline(always)]
    fn weights(&self) -> &[[[i8; 16]; G]] {
        self.weights
    }

    #[inline(always)]
    fn start(&self, block: usize) -> [vector::Sums; G] {
        self.bias[block].map(vector::Sums::new)
    }

    #[inline(always)]
    fn dot<const P: usize>(&self, sums: &mut [[vector::Sums; G]; P], operands: [&[i8]; P], weights: &[[[i8; 16]; G]]) {
        let length = operands[0].len();
        let (whole, rest) = weights[..length.div_ceil(4)].split_at(length / 4);
        let steps = operands.map(|x| &x.as_chunks::<4>().0[..whole.len()]);
        for (i, weights) in whole.iter().enumerate() {
            self.step(sums, steps.map(|x| x[i]), weights);
        }
        for weights in rest {
            let fill = |x: &[i8]| core::array::from_fn(|i| x.get(length / 4 * 4 + i).copied().unwrap_or(0));
            self.step(sums, operands.map(fill), weights);
        }
    }

    #[inline(always)]
    fn dot_padded<const P: usize>(
        &self,
        sums: &mut [[vector::Sums; G]; P],
        operands: [Option<&[i8]>; P],
        weights: &[[[i8; 16]; G]],
    ) {
        self.dot(sums, operands.map(|x| x.unwrap_or(self.padding)), weights);
    }

    #[inline(always)]
    fn finish(&self, block: usize, sums: [vector::Sums; G]) -> [[i8; 4]; G] {
        let (mantissa, shift) = (&self.mantissa[block], &self.shift[block]);
        core::array::from_fn(|g| {
            let sums = sums[g].to_array();
            core::array::from_fn(|j| {
                let multiplier = Multiplier { mantissa: mantissa[g][j], shift: shift[g][j] & 63 };
                store(multiplier.apply(sums[j]), self.output_zero, self.min, self.max)
            })
        })
    }
}

impl<const G: usize> Int8<'_, G> {
    #[inline(always)]
    fn step<const P: usize>(&self, sums: &mut [[vector::Sums; G]; P], operands: [[i8; 4]; P], weights: &[[i8; 16]; G]) {
        let operands = operands.map(vector::Operand::new);
        for (g, weights) in weights.iter().enumerate() {
            let weights = vector::Weights::new(weights);
            for (sums, x) in sums.iter_mut().zip(operands) {
                sums[g] = sums[g].add(x, weights, self.full_range);
            }
        }
    }
}

/// `f32` everything.
#[derive(Clone, Copy, Debug)]
pub struct Float<'a, const G: usize> {
    pub weights: &'a [[[f32; 4]; G]],
    pub bias: &'a [[[f32; 4]; G]],
    pub min: f32,
    pub max: f32,
}

impl<const G: usize> Linear<G> for Float<'_, G> {
    type Element = f32;
    type Weights = [[f32; 4]; G];
    type Sums = [f32; 4];
    const STEP: usize = 1;

    #[inline(always)]
    fn weights(&self) -> &[[[f32; 4]; G]] {
        self.weights
    }

    #[inline(always)]
    fn start(&self, block: usize) -> [[f32; 4]; G] {
        self.bias[block]
    }

    #[inline(always)]
    fn dot<const P: usize>(&self, sums: &mut [[[f32; 4]; G]; P], operands: [&[f32]; P], weights: &[[[f32; 4]; G]]) {
        let operands = operands.map(|x| &x[..weights.len()]);
        for (i, weights) in weights.iter().enumerate() {
            for (sums, x) in sums.iter_mut().zip(operands) {
                let x = x[i];
                for (sums, weights) in sums.iter_mut().zip(weights) {
                    for j in 0..4 {
                        sums[j] += x * weights[j];
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn dot_padded<const P: usize>(
        &self,
        sums: &mut [[[f32; 4]; G]; P],
        operands: [Option<&[f32]>; P],
        weights: &[[[f32; 4]; G]],
    ) {
        // Padding adds nothing, not even a zero of some sign.
        for (sums, x) in sums.iter_mut().zip(operands) {
            if let Some(x) = x {
                self.dot(core::array::from_mut(sums), [x], weights);
            }
        }
    }

    #[inline(always)]
    fn finish(&self, _: usize, sums: [[f32; 4]; G]) -> [[f32; 4]; G] {
        sums.map(|sums| sums.map(|x| math::clamp(x, self.min, self.max)))
    }
}
