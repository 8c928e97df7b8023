//! Vector loops of batch norm, over one channel's plane of one image at a time. Planes are short (49 elements of 7 x 7):
//! where a plane is no multiple of a vector, its last vector overlaps the one before; sums take the rest apart.

use pulp::{Arch, Simd, WithSimd};

/// What normalises a channel: `y = scale · (x − mean) + bias`, at least `floor`.
#[derive(Clone, Copy, Debug)]
pub struct Channel {
    pub mean: f32,
    /// γ / σ
    pub scale: f32,
    pub bias: f32,
    /// 0 with a ReLU, else −∞.
    pub floor: f32,
}

impl Channel {
    #[inline(always)]
    fn splat<S: Simd>(self, simd: S) -> [S::f32s; 4] {
        let Channel { mean, scale, bias, floor } = self;
        [simd.splat_f32s(mean), simd.splat_f32s(scale), simd.splat_f32s(bias), simd.splat_f32s(floor)]
    }
}

#[inline(always)]
fn load<S: Simd>(simd: S, from: &[f32], at: usize) -> S::f32s {
    let rest = &from[at..];
    if rest.len() >= S::F32_LANES { S::as_simd_f32s(&rest[..S::F32_LANES]).0[0] } else { simd.partial_load_f32s(rest) }
}

#[inline(always)]
fn store<S: Simd>(simd: S, to: &mut [f32], at: usize, values: S::f32s) {
    let rest = &mut to[at..];
    if rest.len() >= S::F32_LANES {
        S::as_mut_simd_f32s(&mut rest[..S::F32_LANES]).0[0] = values;
    } else {
        simd.partial_store_f32s(rest, values);
    }
}

/// `[Σ (x − shift), Σ (x − shift)²]`
pub struct ShiftedSums<'a> {
    pub x: &'a [f32],
    pub shift: f32,
}

impl ShiftedSums<'_> {
    pub fn run(self) -> [f64; 2] {
        Arch::new().dispatch(self).map(f64::from)
    }
}

impl WithSimd for ShiftedSums<'_> {
    type Output = [f32; 2];

    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> [f32; 2] {
        let (vectors, rest) = S::as_simd_f32s(self.x);
        let shift = simd.splat_f32s(self.shift);
        // Four of each, so that an addition need not wait for the one before.
        let (mut plain, mut squares) = ([simd.splat_f32s(0.0); 4], [simd.splat_f32s(0.0); 4]);
        let mut i = 0;
        while i < vectors.len() {
            let d = simd.sub_f32s(vectors[i], shift);
            plain[i & 3] = simd.add_f32s(d, plain[i & 3]);
            squares[i & 3] = simd.mul_add_e_f32s(d, d, squares[i & 3]);
            i += 1;
        }
        let mut sums = [simd.reduce_sum_f32s(total(simd, plain)), simd.reduce_sum_f32s(total(simd, squares))];
        for x in rest {
            let d = x - self.shift;
            sums = [sums[0] + d, sums[1] + d * d];
        }
        sums
    }
}

#[inline(always)]
fn total<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> S::f32s {
    simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d))
}

/// Writes the normalised plane, plus another one if there is one.
pub struct Normalise<'a> {
    pub x: &'a [f32],
    pub skip: Option<&'a [f32]>,
    pub channel: Channel,
    pub y: &'a mut [f32],
}

impl Normalise<'_> {
    pub fn run(self) {
        Arch::new().dispatch(self);
    }
}

impl WithSimd for Normalise<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let [mean, scale, bias, floor] = self.channel.splat(simd);
        let (mut i, last) = (0, self.x.len().saturating_sub(S::F32_LANES));
        loop {
            let x = load(simd, self.x, i);
            let mut y = simd.mul_add_e_f32s(simd.sub_f32s(x, mean), scale, bias);
            if let Some(skip) = self.skip {
                y = simd.add_f32s(y, load(simd, skip, i));
            }
            // A NaN must stay one: it tells that training went wrong.
            store(simd, self.y, i, simd.select_f32s(simd.less_than_f32s(y, floor), floor, y));
            if i == last {
                break;
            }
            i = (i + S::F32_LANES).min(last);
        }
    }
}

/// Copies the gradient where `y`, the output of a ReLU, is above zero; elsewhere zeros.
pub struct Masked<'a> {
    pub y: &'a [f32],
    pub gradient: &'a [f32],
    pub out: &'a mut [f32],
}

impl Masked<'_> {
    pub fn run(self) {
        Arch::new().dispatch(self);
    }
}

impl WithSimd for Masked<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let zero = simd.splat_f32s(0.0);
        let (mut i, last) = (0, self.y.len().saturating_sub(S::F32_LANES));
        loop {
            let cut = simd.less_than_or_equal_f32s(load(simd, self.y, i), zero);
            store(simd, self.out, i, simd.select_f32s(cut, zero, load(simd, self.gradient, i)));
            if i == last {
                break;
            }
            i = (i + S::F32_LANES).min(last);
        }
    }
}

/// `[Σ g, Σ g · (x − mean)]` with `g` the gradient where the output is above the floor.
pub struct GradientSums<'a> {
    pub x: &'a [f32],
    pub gradient: &'a [f32],
    pub channel: Channel,
}

impl GradientSums<'_> {
    pub fn run(self) -> [f64; 2] {
        Arch::new().dispatch(self).map(f64::from)
    }
}

impl WithSimd for GradientSums<'_> {
    type Output = [f32; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> [f32; 2] {
        let [mean, scale, bias, floor] = self.channel.splat(simd);
        let zero = simd.splat_f32s(0.0);
        let (mut plain, mut weighted) = ([zero; 4], [zero; 4]);
        let (mut i, mut k) = (0, 0);
        while i < self.x.len() {
            // Beyond the end both are zeros, and so is the product.
            let (x, gradient) = (load(simd, self.x, i), load(simd, self.gradient, i));
            let d = simd.sub_f32s(x, mean);
            let normal = simd.mul_add_e_f32s(d, scale, bias);
            let g = simd.select_f32s(simd.less_than_or_equal_f32s(normal, floor), zero, gradient);
            plain[k & 3] = simd.add_f32s(plain[k & 3], g);
            weighted[k & 3] = simd.mul_add_e_f32s(g, d, weighted[k & 3]);
            (i, k) = (i + S::F32_LANES, k + 1);
        }
        [simd.reduce_sum_f32s(total(simd, plain)), simd.reduce_sum_f32s(total(simd, weighted))]
    }
}

/// Writes `scale · (g − mean_gradient − (x − mean) · slope)`, the input's gradient.
pub struct InputGradient<'a> {
    pub x: &'a [f32],
    pub gradient: &'a [f32],
    pub channel: Channel,
    /// `Σ g / count`
    pub mean_gradient: f32,
    /// `Σ g · (x − mean) / (count · (σ² + ε))`
    pub slope: f32,
    pub out: &'a mut [f32],
}

impl InputGradient<'_> {
    pub fn run(self) {
        Arch::new().dispatch(self);
    }
}

impl WithSimd for InputGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let [mean, scale, bias, floor] = self.channel.splat(simd);
        let (mean_gradient, slope) = (simd.splat_f32s(self.mean_gradient), simd.splat_f32s(-self.slope));
        let zero = simd.splat_f32s(0.0);
        let (mut i, last) = (0, self.x.len().saturating_sub(S::F32_LANES));
        loop {
            let (x, gradient) = (load(simd, self.x, i), load(simd, self.gradient, i));
            let d = simd.sub_f32s(x, mean);
            let normal = simd.mul_add_e_f32s(d, scale, bias);
            let g = simd.select_f32s(simd.less_than_or_equal_f32s(normal, floor), zero, gradient);
            let out = simd.mul_f32s(scale, simd.mul_add_e_f32s(d, slope, simd.sub_f32s(g, mean_gradient)));
            store(simd, self.out, i, out);
            if i == last {
                break;
            }
            i = (i + S::F32_LANES).min(last);
        }
    }
}
