//! One step of a cell and its derivative, by vectors of neighbouring units.

use super::super::function::Function;
use pulp::{Arch, Simd, WithSimd};

/// A function of `I` rows with `O` results, element by element.
pub trait Step<const I: usize, const O: usize>: Sized {
    fn step<S: Simd>(&self, simd: S, x: [S::f32s; I]) -> [S::f32s; O];

    /// Of rows as long as each other.
    fn of(&self, inputs: [&[f32]; I], outputs: [&mut [f32]; O]) {
        Arch::new().dispatch(Rows { step: self, inputs, outputs });
    }
}

struct Rows<'a, F, const I: usize, const O: usize> {
    step: &'a F,
    inputs: [&'a [f32]; I],
    outputs: [&'a mut [f32]; O],
}

impl<F: Step<I, O>, const I: usize, const O: usize> WithSimd for Rows<'_, F, I, O> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (length, lanes) = (self.outputs[0].len(), S::F32_LANES);
        // By index, so that the vectors are in no memory that the checks of an iterator would keep.
        let mut from = 0;
        while from < length {
            let to = (from + lanes).min(length);
            let mut x = [simd.splat_f32s(0.0); I];
            let mut i = 0;
            while i < I {
                x[i] = simd.partial_load_f32s(&self.inputs[i][from..to]);
                i += 1;
            }
            let y = self.step.step(simd, x);
            let mut o = 0;
            while o < O {
                simd.partial_store_f32s(&mut self.outputs[o][from..to], y[o]);
                o += 1;
            }
            from = to;
        }
    }
}

/// The sum of the inputs' and the state's part gives the state.
pub struct RnnForward(pub Function);

impl Step<1, 1> for RnnForward {
    #[inline(always)]
    fn step<S: Simd>(&self, simd: S, [z]: [S::f32s; 1]) -> [S::f32s; 1] {
        [self.0.value(simd, z)]
    }
}

/// Of a state and its gradient: the sum's gradient.
pub struct RnnBackward(pub Function);

impl Step<2, 1> for RnnBackward {
    #[inline(always)]
    fn step<S: Simd>(&self, simd: S, [h, dh]: [S::f32s; 2]) -> [S::f32s; 1] {
        [simd.mul_f32s(dh, self.0.slope(simd, h))]
    }
}

/// Functions of the gates, of the candidate, and of the cell (Hochreiter, Schmidhuber 1997).
pub struct LstmForward(pub [Function; 3]);

/// Sums of the gates i, o, f and the candidate, and the cell: the gates, the candidate, the new cell and state.
impl Step<5, 6> for LstmForward {
    #[inline(always)]
    fn step<S: Simd>(&self, simd: S, [i, o, f, g, c]: [S::f32s; 5]) -> [S::f32s; 6] {
        let [gate, candidate, output] = self.0;
        let (i, f) = (gate.value(simd, i), gate.value(simd, f));
        let g = candidate.value(simd, g);
        let c = simd.mul_add_e_f32s(f, c, simd.mul_f32s(i, g));
        let o = gate.value(simd, o);
        [i, o, f, g, c, simd.mul_f32s(o, output.value(simd, c))]
    }
}

pub struct LstmBackward(pub [Function; 3]);

/// The gates, the candidate, the old and the new cell, gradients of the new state and the new cell: gradients of the
/// four sums and of the old cell.
impl Step<8, 5> for LstmBackward {
    #[inline(always)]
    fn step<S: Simd>(&self, simd: S, [i, o, f, g, old, new, dh, dc]: [S::f32s; 8]) -> [S::f32s; 5] {
        let [gate, candidate, output] = self.0;
        let y = output.value(simd, new);
        let d_o = simd.mul_f32s(simd.mul_f32s(dh, y), gate.slope(simd, o));
        let dc = simd.mul_add_e_f32s(simd.mul_f32s(dh, o), output.slope(simd, y), dc);
        let d_i = simd.mul_f32s(simd.mul_f32s(dc, g), gate.slope(simd, i));
        let d_f = simd.mul_f32s(simd.mul_f32s(dc, old), gate.slope(simd, f));
        let d_g = simd.mul_f32s(simd.mul_f32s(dc, i), candidate.slope(simd, g));
        [d_i, d_o, d_f, d_g, simd.mul_f32s(dc, f)]
    }
}

/// The gates of a GRU (Cho et al. 2014): sums of z and r, and the state: z, r, and the state as far as r lets it through.
pub struct GruGates(pub Function);

impl Step<3, 3> for GruGates {
    #[inline(always)]
    fn step<S: Simd>(&self, simd: S, [z, r, h]: [S::f32s; 3]) -> [S::f32s; 3] {
        let (z, r) = (self.0.value(simd, z), self.0.value(simd, r));
        [z, r, simd.mul_f32s(r, h)]
    }
}

/// The state of a GRU from z, r, the candidate's parts by the inputs and by the state, and the state: candidate, state.
pub struct GruForward {
    pub candidate: Function,
    /// Whether r lets the state's part through, not the state.
    pub reset_after: bool,
}

impl Step<5, 2> for GruForward {
    #[inline(always)]
    fn step<S: Simd>(&self, simd: S, [z, r, x, p, h]: [S::f32s; 5]) -> [S::f32s; 2] {
        let sum = if self.reset_after { simd.mul_add_e_f32s(r, p, x) } else { simd.add_f32s(x, p) };
        let n = self.candidate.value(simd, sum);
        [n, simd.mul_add_e_f32s(z, simd.sub_f32s(h, n), n)]
    }
}

/// Of z, r, the candidate, its part by the state, the old state, and the gradient of the new one: gradients of the sums
/// of z, r (where r lets the state's part through) and the candidate, of the state's part, and of the old state directly.
pub struct GruBackward {
    pub functions: [Function; 2],
    pub reset_after: bool,
}

impl Step<6, 5> for GruBackward {
    #[inline(always)]
    fn step<S: Simd>(&self, simd: S, [z, r, n, p, h, dh]: [S::f32s; 6]) -> [S::f32s; 5] {
        let [gate, candidate] = self.functions;
        let dz = simd.mul_f32s(simd.mul_f32s(dh, simd.sub_f32s(h, n)), gate.slope(simd, z));
        let through = simd.mul_f32s(dh, z);
        let dn = simd.mul_f32s(simd.sub_f32s(dh, through), candidate.slope(simd, n));
        let dr = simd.mul_f32s(simd.mul_f32s(dn, p), gate.slope(simd, r));
        let dp = if self.reset_after { simd.mul_f32s(dn, r) } else { dn };
        [dz, dr, dn, dp, through]
    }
}

/// Where r lets the state through: of r, the old state, the gradient of what went through, and the old state's so far:
/// gradients of the sum of r and of the old state, and what went through.
pub struct GruReset(pub Function);

impl Step<4, 3> for GruReset {
    #[inline(always)]
    fn step<S: Simd>(&self, simd: S, [r, h, dq, dh]: [S::f32s; 4]) -> [S::f32s; 3] {
        let dr = simd.mul_f32s(simd.mul_f32s(dq, h), self.0.slope(simd, r));
        [dr, simd.mul_add_e_f32s(dq, r, dh), simd.mul_f32s(r, h)]
    }
}
