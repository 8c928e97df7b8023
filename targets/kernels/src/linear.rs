//! The inner loops of convolutions and matrix products.
//!
//! Output channels are computed in blocks of `B`, pixels (or rows) in blocks of `P`: each weight that is loaded serves
//! `P` pixels, each input `B` channels, and the compiler keeps the `P · B` sums in vector registers. Weights come packed
//! for that, see `pack`; the channels that fill up the last block are computed and dropped.

/// One linear operator's numbers and how sums of products are formed from them.
pub trait Linear<const B: usize>: Copy {
    type Element: Copy;
    type Sum: Copy;

    /// Weights `[group · block][kernel_h][kernel_w][in / groups]` of `B` channels.
    fn weights(&self) -> &[[Self::Element; B]];
    /// What the sums of a block start from.
    fn start(&self, block: usize) -> [Self::Sum; B];
    /// Adds the products of `P` operands with one run of weights.
    fn dot<const P: usize>(&self, sums: &mut [[Self::Sum; B]; P], operands: [&[Self::Element]; P], weights: &[[Self::Element; B]]);
    /// The same, where an operand that is `None` lies on the padding.
    fn dot_padded<const P: usize>(
        &self,
        sums: &mut [[Self::Sum; B]; P],
        operands: [Option<&[Self::Element]>; P],
        weights: &[[Self::Element; B]],
    );
    /// The elements that the sums of a block are stored as.
    fn finish(&self, block: usize, sums: [Self::Sum; B]) -> [Self::Element; B];
}

/// `i8` elements and weights, `i32` sums.
#[derive(Clone, Copy, Debug)]
pub struct Int8<'a, const B: usize> {
    pub weights: &'a [[i8; B]],
    /// Minus the input's zero point times the sum of the channel's weights.
    pub bias: &'a [[i32; B]],
    /// The mantissas and shifts of the multipliers.
    pub mantissa: &'a [[i32; B]],
    pub shift: &'a [[u8; B]],
    /// What padding is stored as (the input's zero point): one pixel's channels of one group.
    pub padding: &'a [i8],
    pub output_zero: i8,
    pub min: i8,
    pub max: i8,
    /// Whether some weight is −128. If none is, two products fit into 16 bits.
    pub full_range: bool,
}

impl<const B: usize> Linear<B> for Int8<'_, B> {
    type Element = i8;
    type Sum = i32;

    #[inline(always)]
    fn weights(&self) -> &[[i8; B]] {
        self.weights
    }

    #[inline(always)]
    fn start(&self, block: usize) -> [i32; B] {
        self.bias[block]
    }

    #[inline(always)]
    fn dot<const P: usize>(&self, sums: &mut [[i32; B]; P], operands: [&[i8]; P], weights: &[[i8; B]]) {
        let operands = operands.map(|x| &x[..weights.len()]);
        let (pairs, rest) = weights.as_chunks::<2>();
        if self.full_range {
            for (i, weights) in weights.iter().enumerate() {
                add(sums, operands.map(|x| x[i]), weights);
            }
            return;
        }
        for (i, [first, second]) in pairs.iter().enumerate() {
            for (sums, x) in sums.iter_mut().zip(operands) {
                let (x0, x1) = (x[2 * i] as i16, x[2 * i + 1] as i16);
                for j in 0..B {
                    // At most 2 · 127 · 128 < 2^15: a vector of 16-bit products holds twice as many.
                    let both = (first[j] as i16).wrapping_mul(x0).wrapping_add((second[j] as i16).wrapping_mul(x1));
                    sums[j] = sums[j].wrapping_add(both as i32);
                }
            }
        }
        if let [weights] = rest {
            add(sums, operands.map(|x| x[x.len() - 1]), weights);
        }
    }

    #[inline(always)]
    fn dot_padded<const P: usize>(&self, sums: &mut [[i32; B]; P], operands: [Option<&[i8]>; P], weights: &[[i8; B]]) {
        self.dot(sums, operands.map(|x| x.unwrap_or(self.padding)), weights);
    }

    #[inline(always)]
    fn finish(&self, block: usize, sums: [i32; B]) -> [i8; B] {
        let (mantissa, shift) = (&self.mantissa[block], &self.shift[block]);
        core::array::from_fn(|j| {
            let multiplier = crate::Multiplier { mantissa: mantissa[j], shift: shift[j] & 63 };
            crate::store(multiplier.apply(sums[j]), self.output_zero, self.min, self.max)
        })
    }
}

#[inline(always)]
fn add<const B: usize, const P: usize>(sums: &mut [[i32; B]; P], operands: [i8; P], weights: &[i8; B]) {
    for (sums, x) in sums.iter_mut().zip(operands) {
        for j in 0..B {
            sums[j] = sums[j].wrapping_add((weights[j] as i16 * x as i16) as i32);
        }
    }
}

/// `f32` everything.
#[derive(Clone, Copy, Debug)]
pub struct Float<'a, const B: usize> {
    pub weights: &'a [[f32; B]],
    pub bias: &'a [[f32; B]],
    pub min: f32,
    pub max: f32,
}

impl<const B: usize> Linear<B> for Float<'_, B> {
    type Element = f32;
    type Sum = f32;

    #[inline(always)]
    fn weights(&self) -> &[[f32; B]] {
        self.weights
    }

    #[inline(always)]
    fn start(&self, block: usize) -> [f32; B] {
        self.bias[block]
    }

    #[inline(always)]
    fn dot<const P: usize>(&self, sums: &mut [[f32; B]; P], operands: [&[f32]; P], weights: &[[f32; B]]) {
        let operands = operands.map(|x| &x[..weights.len()]);
        for (i, weights) in weights.iter().enumerate() {
            for (sums, x) in sums.iter_mut().zip(operands) {
                let x = x[i];
                for j in 0..B {
                    sums[j] += x * weights[j];
                }
            }
        }
    }

    #[inline(always)]
    fn dot_padded<const P: usize>(&self, sums: &mut [[f32; B]; P], operands: [Option<&[f32]>; P], weights: &[[f32; B]]) {
        // Padding adds nothing, not even a zero of some sign.
        for (sums, x) in sums.iter_mut().zip(operands) {
            if let Some(x) = x {
                self.dot(core::array::from_mut(sums), [x], weights);
            }
        }
    }

    #[inline(always)]
    fn finish(&self, _: usize, sums: [f32; B]) -> [f32; B] {
        sums.map(|x| crate::math::clamp(x, self.min, self.max))
    }
}
