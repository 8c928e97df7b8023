//! Vector loops of batch norm, over one channel's plane of one image at a time.

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

/// `Σ (x − mean)`, or `Σ (x − mean)²`.
pub struct Moment<'a> {
    pub x: &'a [f32],
    pub mean: f32,
    pub squared: bool,
}

impl Moment<'_> {
    pub fn run(self) -> f64 {
        Arch::new().dispatch(self).into()
    }
}

impl WithSimd for Moment<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let (vectors, rest) = S::as_simd_f32s(self.x);
        let mean = simd.splat_f32s(self.mean);
        // Four sums, so that an addition need not wait for the one before.
        let mut sums = [simd.splat_f32s(0.0); 4];
        for four in vectors.chunks(4) {
            for (sum, &x) in sums.iter_mut().zip(four) {
                let d = simd.sub_f32s(x, mean);
                *sum = if self.squared { simd.mul_add_e_f32s(d, d, *sum) } else { simd.add_f32s(d, *sum) };
            }
        }
        let one = |x: &f32| if self.squared { (x - self.mean) * (x - self.mean) } else { x - self.mean };
        simd.reduce_sum_f32s(total(simd, sums)) + rest.iter().map(one).sum::<f32>()
    }
}

#[inline(always)]
fn total<S: Simd>(simd: S, [a, b, c, d]: [S::f32s; 4]) -> S::f32s {
    simd.add_f32s(simd.add_f32s(a, b), simd.add_f32s(c, d))
}

/// Writes the normalised plane.
pub struct Normalise<'a> {
    pub x: &'a [f32],
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
        let Channel { mean, scale, bias, floor } = self.channel;
        let (x, x_rest) = S::as_simd_f32s(self.x);
        let (y, y_rest) = S::as_mut_simd_f32s(self.y);
        let (mean_v, scale_v) = (simd.splat_f32s(mean), simd.splat_f32s(scale));
        let (bias_v, floor_v) = (simd.splat_f32s(bias), simd.splat_f32s(floor));
        for (y, &x) in y.iter_mut().zip(x) {
            let normal = simd.mul_add_e_f32s(simd.sub_f32s(x, mean_v), scale_v, bias_v);
            // A NaN must stay one: it tells that training went wrong.
            *y = simd.select_f32s(simd.less_than_f32s(normal, floor_v), floor_v, normal);
        }
        for (y, &x) in y_rest.iter_mut().zip(x_rest) {
            let normal = (x - mean) * scale + bias;
            *y = if normal < floor { floor } else { normal };
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
        let Channel { mean, scale, bias, floor } = self.channel;
        let (x, x_rest) = S::as_simd_f32s(self.x);
        let (gradient, gradient_rest) = S::as_simd_f32s(self.gradient);
        let (mean_v, scale_v) = (simd.splat_f32s(mean), simd.splat_f32s(scale));
        let (bias_v, floor_v, zero) = (simd.splat_f32s(bias), simd.splat_f32s(floor), simd.splat_f32s(0.0));
        let (mut plain, mut weighted) = ([zero; 4], [zero; 4]);
        for (x, gradient) in x.chunks(4).zip(gradient.chunks(4)) {
            for (k, (&x, &gradient)) in x.iter().zip(gradient).enumerate() {
                let d = simd.sub_f32s(x, mean_v);
                let normal = simd.mul_add_e_f32s(d, scale_v, bias_v);
                let g = simd.select_f32s(simd.less_than_or_equal_f32s(normal, floor_v), zero, gradient);
                plain[k] = simd.add_f32s(plain[k], g);
                weighted[k] = simd.mul_add_e_f32s(g, d, weighted[k]);
            }
        }
        let mut sums = [plain, weighted].map(|sums| simd.reduce_sum_f32s(total(simd, sums)));
        for (&x, &gradient) in x_rest.iter().zip(gradient_rest) {
            let d = x - mean;
            let g = if d * scale + bias <= floor { 0.0 } else { gradient };
            sums[0] += g;
            sums[1] += g * d;
        }
        sums
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
        let Channel { mean, scale, bias, floor } = self.channel;
        let (x, x_rest) = S::as_simd_f32s(self.x);
        let (gradient, gradient_rest) = S::as_simd_f32s(self.gradient);
        let (out, out_rest) = S::as_mut_simd_f32s(self.out);
        let splat = |value| simd.splat_f32s(value);
        let (mean_v, scale_v, bias_v, floor_v) = (splat(mean), splat(scale), splat(bias), splat(floor));
        let (mean_gradient, slope, zero) = (splat(self.mean_gradient), splat(-self.slope), splat(0.0));
        for ((out, &x), &gradient) in out.iter_mut().zip(x).zip(gradient) {
            let d = simd.sub_f32s(x, mean_v);
            let normal = simd.mul_add_e_f32s(d, scale_v, bias_v);
            let g = simd.select_f32s(simd.less_than_or_equal_f32s(normal, floor_v), zero, gradient);
            *out = simd.mul_f32s(scale_v, simd.mul_add_e_f32s(d, slope, simd.sub_f32s(g, mean_gradient)));
        }
        for ((out, &x), &gradient) in out_rest.iter_mut().zip(x_rest).zip(gradient_rest) {
            let d = x - mean;
            let g = if d * scale + bias <= floor { 0.0 } else { gradient };
            *out = scale * (g - self.mean_gradient - d * self.slope);
        }
    }
}
