//! Sums of four channels in one vector register, and the step that adds products to them: four elements of one operand
//! times sixteen weights, that is four elements of four channels.
//!
//! The sixteen weights are ordered `[pair of elements][channel][element of the pair]`. Both instruction sets below
//! multiply and add neighbours: NEON in `smull`, `smlal`, `sadalp`, SSE2 in `pmaddwd`. Compilers do not find these
//! instructions in plain loops; the loops are the definition, and what other processors run.

#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
pub use neon::*;
#[cfg(not(any(
    all(target_arch = "aarch64", target_feature = "neon"),
    all(target_arch = "x86_64", target_feature = "sse2")
)))]
pub use plain::*;
#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
pub use sse2::*;

#[cfg(all(target_arch = "aarch64", target_feature = "neon"))]
#[expect(unsafe_code, reason = "intrinsics")]
mod neon {
    // SAFETY of every block: the instructions exist, by the `cfg` above, and the transmutes are between vectors and
    // arrays of the same integers.

    use core::arch::aarch64::*;
    use core::mem::transmute;

    /// Sums of four channels.
    #[derive(Clone, Copy)]
    pub struct Sums(int32x4_t);

    /// Four elements of an operand, ready to be multiplied: each pair as often as there are channels.
    #[derive(Clone, Copy)]
    pub struct Operand(int8x8_t, int8x8_t);

    /// Sixteen weights, ready to be multiplied.
    #[derive(Clone, Copy)]
    pub struct Weights(int8x8_t, int8x8_t);

    impl Sums {
        #[inline(always)]
        pub fn new(sums: [i32; 4]) -> Sums {
            Sums(unsafe { transmute::<[i32; 4], int32x4_t>(sums) })
        }

        #[inline(always)]
        pub fn to_array(self) -> [i32; 4] {
            unsafe { transmute::<int32x4_t, [i32; 4]>(self.0) }
        }

        /// Adds the products. `full_range`: some weight may be −128, and two products overflow 16 bits.
        #[inline(always)]
        pub fn add(self, x: Operand, w: Weights, full_range: bool) -> Sums {
            unsafe {
                if full_range {
                    Sums(vpadalq_s16(vpadalq_s16(self.0, vmull_s8(w.0, x.0)), vmull_s8(w.1, x.1)))
                } else {
                    Sums(vpadalq_s16(self.0, vmlal_s8(vmull_s8(w.0, x.0), w.1, x.1)))
                }
            }
        }
    }

    impl Operand {
        #[inline(always)]
        pub fn new([a, b, c, d]: [i8; 4]) -> Operand {
            unsafe {
                Operand(
                    vreinterpret_s8_s16(vdup_n_s16(transmute::<[i8; 2], i16>([a, b]))),
                    vreinterpret_s8_s16(vdup_n_s16(transmute::<[i8; 2], i16>([c, d]))),
                )
            }
        }
    }

    impl Weights {
        #[inline(always)]
        pub fn new(weights: &[i8; 16]) -> Weights {
            let [first, second] = unsafe { transmute::<[i8; 16], [int8x8_t; 2]>(*weights) };
            Weights(first, second)
        }
    }
}

#[cfg(all(target_arch = "x86_64", target_feature = "sse2"))]
#[expect(unsafe_code, reason = "intrinsics")]
mod sse2 {
    // SAFETY of every block: the instructions exist, by the `cfg` above, and the transmutes are between vectors and
    // arrays of the same integers.

    use core::arch::x86_64::*;
    use core::mem::transmute;

    /// Sums of four channels.
    #[derive(Clone, Copy)]
    pub struct Sums(__m128i);

    /// Four elements of an operand, ready to be multiplied: each pair as often as there are channels.
    #[derive(Clone, Copy)]
    pub struct Operand(__m128i, __m128i);

    /// Sixteen weights, ready to be multiplied.
    #[derive(Clone, Copy)]
    pub struct Weights(__m128i, __m128i);

    impl Sums {
        #[inline(always)]
        pub fn new(sums: [i32; 4]) -> Sums {
            Sums(unsafe { transmute::<[i32; 4], __m128i>(sums) })
        }

        #[inline(always)]
        pub fn to_array(self) -> [i32; 4] {
            unsafe { transmute::<__m128i, [i32; 4]>(self.0) }
        }

        /// Adds the products; these are 32 bits wide whatever the weights.
        #[inline(always)]
        pub fn add(self, x: Operand, w: Weights, _full_range: bool) -> Sums {
            unsafe {
                let products = _mm_add_epi32(_mm_madd_epi16(w.0, x.0), _mm_madd_epi16(w.1, x.1));
                Sums(_mm_add_epi32(self.0, products))
            }
        }
    }

    impl Operand {
        #[inline(always)]
        pub fn new(x: [i8; 4]) -> Operand {
            unsafe {
                let bytes = _mm_cvtsi32_si128(transmute::<[i8; 4], i32>(x));
                let words = _mm_srai_epi16::<8>(_mm_unpacklo_epi8(bytes, bytes));
                Operand(_mm_shuffle_epi32::<0b00_00_00_00>(words), _mm_shuffle_epi32::<0b01_01_01_01>(words))
            }
        }
    }

    impl Weights {
        #[inline(always)]
        pub fn new(weights: &[i8; 16]) -> Weights {
            unsafe {
                let bytes = transmute::<[i8; 16], __m128i>(*weights);
                let first = _mm_srai_epi16::<8>(_mm_unpacklo_epi8(bytes, bytes));
                Weights(first, _mm_srai_epi16::<8>(_mm_unpackhi_epi8(bytes, bytes)))
            }
        }
    }
}

/// Without vector instructions.
pub mod plain {
    /// Sums of four channels.
    #[derive(Clone, Copy)]
    pub struct Sums([i32; 4]);

    /// Four elements of an operand.
    #[derive(Clone, Copy)]
    pub struct Operand([i32; 4]);

    /// Sixteen weights.
    #[derive(Clone, Copy)]
    pub struct Weights([i8; 16]);

    impl Sums {
        #[inline(always)]
        pub fn new(sums: [i32; 4]) -> Sums {
            Sums(sums)
        }

        #[inline(always)]
        pub fn to_array(self) -> [i32; 4] {
            self.0
        }

        /// Adds the products.
        #[inline(always)]
        pub fn add(self, x: Operand, w: Weights, _full_range: bool) -> Sums {
            let product = |channel: usize, k: usize| w.0[k / 2 * 8 + channel * 2 + k % 2] as i32 * x.0[k];
            Sums(core::array::from_fn(|c| (0..4).fold(self.0[c], |sum: i32, k| sum.wrapping_add(product(c, k)))))
        }
    }

    impl Operand {
        #[inline(always)]
        pub fn new(x: [i8; 4]) -> Operand {
            Operand(x.map(i32::from))
        }
    }

    impl Weights {
        #[inline(always)]
        pub fn new(weights: &[i8; 16]) -> Weights {
            Weights(*weights)
        }
    }
}
