//! Functions of elements with their derivatives, each one pass.

use super::buffer::Room;
use super::kernel::{Kernel, Saved, apply};
use super::{CpuTensor, math, numbers, tensor};
use burn::backend::DispatchTensor;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Elements of a task.
const BLOCK: usize = 16 * 1024;

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Function {
    Relu,
    LeakyRelu {
        alpha: f32,
    },
    /// No less and no more than that.
    Clip {
        min: f32,
        max: f32,
    },
    Sigmoid,
    Tanh,
    /// `x` times the normal distribution's function (Hendrycks, Gimpel 2016).
    Gelu,
    /// The same by its approximation with a hyperbolic tangent.
    GeluTanh,
    /// `alpha · x + beta` between 0 and 1.
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    /// `x · min(max(x / 6 + 1/2, 0), 1)` (Howard et al. 2019).
    HardSwish,
    /// `x` times its sigmoid.
    Silu,
}

impl Function {
    /// The function of every element.
    pub fn of(self, x: DispatchTensor) -> DispatchTensor {
        apply(self, [x])
    }

    /// Whether the derivative is computed from the result, so that the operand need not be kept.
    pub fn by_result(self) -> bool {
        matches!(self, Function::Relu | Function::Sigmoid | Function::Tanh)
    }

    #[inline(always)]
    pub(super) fn value<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        let splat = |value| simd.splat_f32s(value);
        match self {
            Function::Relu => simd.select_f32s(simd.less_than_f32s(x, splat(0.0)), splat(0.0), x),
            Function::LeakyRelu { alpha } => {
                simd.select_f32s(simd.less_than_f32s(x, splat(0.0)), simd.mul_f32s(x, splat(alpha)), x)
            }
            Function::Clip { min, max } => clipped(simd, x, min, max),
            Function::Sigmoid => math::sigmoid(simd, x),
            Function::Tanh => math::tanh(simd, x),
            Function::Gelu => simd.mul_f32s(x, math::normal(simd, x).0),
            Function::GeluTanh => simd.mul_f32s(x, tanh_gate(simd, x).0),
            Function::HardSigmoid { alpha, beta } => {
                clipped(simd, simd.mul_add_e_f32s(x, splat(alpha), splat(beta)), 0.0, 1.0)
            }
            Function::HardSwish => {
                simd.mul_f32s(x, clipped(simd, simd.mul_add_e_f32s(x, splat(1.0 / 6.0), splat(0.5)), 0.0, 1.0))
            }
            Function::Silu => simd.mul_f32s(x, math::sigmoid(simd, x)),
        }
    }

    /// The derivative at the operand, or of the result where [`Self::by_result`].
    #[inline(always)]
    pub(super) fn slope<S: Simd>(self, simd: S, x: S::f32s) -> S::f32s {
        let splat = |value| simd.splat_f32s(value);
        let (zero, one) = (splat(0.0), splat(1.0));
        match self {
            Function::Relu => simd.select_f32s(simd.greater_than_f32s(x, zero), one, zero),
            Function::LeakyRelu { alpha } => simd.select_f32s(simd.less_than_f32s(x, zero), splat(alpha), one),
            Function::Clip { min, max } => inside(simd, x, min, max),
            Function::Sigmoid => simd.mul_f32s(x, simd.sub_f32s(one, x)),
            Function::Tanh => simd.sub_f32s(one, simd.mul_f32s(x, x)),
            Function::Gelu => {
                let (function, density) = math::normal(simd, x);
                simd.mul_add_e_f32s(x, density, function)
            }
            Function::GeluTanh => {
                let (gate, slope) = tanh_gate(simd, x);
                simd.mul_add_e_f32s(x, slope, gate)
            }
            Function::HardSigmoid { alpha, beta } => {
                let line = simd.mul_add_e_f32s(x, splat(alpha), splat(beta));
                simd.mul_f32s(inside(simd, line, 0.0, 1.0), splat(alpha))
            }
            Function::HardSwish => {
                let line = simd.mul_add_e_f32s(x, splat(1.0 / 6.0), splat(0.5));
                let slope = simd.mul_f32s(inside(simd, line, 0.0, 1.0), splat(1.0 / 6.0));
                simd.mul_add_e_f32s(x, slope, clipped(simd, line, 0.0, 1.0))
            }
            Function::Silu => {
                let gate = math::sigmoid(simd, x);
                simd.mul_f32s(gate, simd.mul_add_e_f32s(x, simd.sub_f32s(one, gate), one))
            }
        }
    }
}

/// A NaN stays one.
#[inline(always)]
fn clipped<S: Simd>(simd: S, x: S::f32s, min: f32, max: f32) -> S::f32s {
    let (min, max) = (simd.splat_f32s(min), simd.splat_f32s(max));
    let x = simd.select_f32s(simd.less_than_f32s(x, min), min, x);
    simd.select_f32s(simd.greater_than_f32s(x, max), max, x)
}

/// One from `min` to `max`, zero elsewhere.
#[inline(always)]
fn inside<S: Simd>(simd: S, x: S::f32s, min: f32, max: f32) -> S::f32s {
    let above = simd.greater_than_or_equal_f32s(x, simd.splat_f32s(min));
    let below = simd.less_than_or_equal_f32s(x, simd.splat_f32s(max));
    simd.select_f32s(simd.and_m32s(above, below), simd.splat_f32s(1.0), simd.splat_f32s(0.0))
}

/// `(1 + tanh(√(2/π) · (x + 0.044715 · x³))) / 2` and its derivative.
#[inline(always)]
fn tanh_gate<S: Simd>(simd: S, x: S::f32s) -> (S::f32s, S::f32s) {
    // (1 + tanh u) / 2 is the sigmoid of 2u.
    let splat = |value| simd.splat_f32s(value);
    let (linear, cubic) = (1.595_769, 0.071_354_81);
    let square = simd.mul_f32s(x, x);
    let gate = math::sigmoid(simd, simd.mul_f32s(x, simd.mul_add_e_f32s(square, splat(cubic), splat(linear))));
    let slope = simd.mul_f32s(gate, simd.sub_f32s(splat(1.0), gate));
    (gate, simd.mul_f32s(slope, simd.mul_add_e_f32s(square, splat(3.0 * cubic), splat(linear))))
}

impl Kernel for Function {
    fn forward(&self, mut inputs: Vec<CpuTensor>) -> (CpuTensor, Vec<CpuTensor>) {
        let x = inputs.remove(0).to_contiguous();
        let y = mapped(numbers(&x), None, |x, _, y| Forward { function: *self, x, y }.run());
        let y = tensor(y, x.layout().shape().clone());
        let kept = if self.by_result() { vec![y.clone()] } else { vec![] };
        (y, kept)
    }

    fn keeps(&self, _input: usize) -> bool {
        !self.by_result()
    }

    fn backward(&self, saved: Saved, gradient: CpuTensor, _wanted: &[bool]) -> Vec<Option<CpuTensor>> {
        let at = if self.by_result() { &saved.extra[0] } else { &saved.inputs[0] }.to_contiguous();
        let gradient = gradient.to_contiguous();
        let dx = mapped(numbers(&at), Some(numbers(&gradient)), |at, gradient, out| {
            BackwardStep { function: *self, at, gradient, out }.run();
        });
        vec![Some(tensor(dx, at.layout().shape().clone()))]
    }
}

/// A new row of numbers, made in blocks from one or two others.
fn mapped(x: &[f32], second: Option<&[f32]>, each: impl Fn(&[f32], &[f32], &mut [f32]) + Sync) -> Vec<f32> {
    let mut y = Room::new(x.len());
    let blocks = y.blocks(BLOCK).zip(x.par_chunks(BLOCK)).enumerate();
    blocks.for_each(|(i, (y, x))| each(x, second.map_or(&[], |s| &s[i * BLOCK..][..x.len()]), y));
    y.full()
}

struct Forward<'a> {
    function: Function,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Forward<'_> {
    fn run(self) {
        Arch::new().dispatch(self);
    }
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (x, x_rest) = S::as_simd_f32s(self.x);
        let (y, y_rest) = S::as_mut_simd_f32s(self.y);
        // By index: what is in a closure would be compiled without the vectors of this function, and the checks of an
        // iterator keep the choice of the function inside the loop.
        let count = x.len().min(y.len());
        let (x, y) = (&x[..count], &mut y[..count]);
        let mut i = 0;
        while i < count {
            y[i] = self.function.value(simd, x[i]);
            i += 1;
        }
        if !x_rest.is_empty() {
            let y = self.function.value(simd, simd.partial_load_f32s(x_rest));
            simd.partial_store_f32s(y_rest, y);
        }
    }
}

struct BackwardStep<'a> {
    function: Function,
    at: &'a [f32],
    gradient: &'a [f32],
    out: &'a mut [f32],
}

impl BackwardStep<'_> {
    fn run(self) {
        Arch::new().dispatch(self);
    }
}

impl WithSimd for BackwardStep<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (at, at_rest) = S::as_simd_f32s(self.at);
        let (gradient, gradient_rest) = S::as_simd_f32s(self.gradient);
        let (out, out_rest) = S::as_mut_simd_f32s(self.out);
        let count = at.len().min(gradient.len()).min(out.len());
        let (at, gradient, out) = (&at[..count], &gradient[..count], &mut out[..count]);
        let mut i = 0;
        while i < count {
            out[i] = simd.mul_f32s(self.function.slope(simd, at[i]), gradient[i]);
            i += 1;
        }
        if !at_rest.is_empty() {
            let slope = self.function.slope(simd, simd.partial_load_f32s(at_rest));
            let last = simd.mul_f32s(slope, simd.partial_load_f32s(gradient_rest));
            simd.partial_store_f32s(out_rest, last);
        }
    }
}
