//! Gradients of a block of sequences, back through all steps.

use super::super::matmul::{Matrix, Start, correlate, product};
use super::cells::{GruBackward, GruReset, LstmBackward, RnnBackward, Step};
use super::{Block, Gradients, Recurrence, quarters, quarters_mut};
use kdc_ir::graph::Cell;

/// What a step goes back from and to, by sequence.
struct Slopes {
    /// Gradients of the states, of what lies after a step and then of what lies before.
    state: Vec<f32>,
    /// The same of an LSTM's cells.
    cell: Vec<f32>,
    /// Gradients of the states before a step that do not go through its sums.
    direct: Vec<f32>,
    older: Vec<f32>,
}

/// A GRU's candidate: gradients of its part by the state, and what that part was made of, by step.
struct Candidate {
    parts: Vec<f32>,
    /// Empty where it was made of the states.
    passed: Vec<f32>,
}

impl Recurrence {
    pub(super) fn block_backward(
        &self,
        block: Block,
        weights: Matrix<'_>,
        [gates, states, others]: [&[f32]; 3],
        gradient: &[f32],
    ) -> Gradients {
        let (n, h, width) = (block.count, self.hidden, self.width());
        let size = n * h;
        let of = |part: usize| &gradient[(part * self.batch + block.first) * h..][..size];
        let cell = if self.is_lstm() { of(self.steps + 1).to_vec() } else { vec![] };
        let (older, direct) = (vec![0.0; cell.len()], vec![0.0; size]);
        let mut slopes = Slopes { state: of(self.steps).to_vec(), cell, direct, older };
        let mut sums = vec![0.0; self.steps * n * width];
        let reset_before = self.cell == Cell::Gru { reset_after: false };
        let by_step = |there: bool| vec![0.0; if there { self.steps * size } else { 0 }];
        let mut candidate = Candidate { parts: by_step(self.is_gru()), passed: by_step(reset_before) };
        for i in (0..self.steps).rev() {
            let time = self.time(i);
            let unit = |row: usize| row * h..(row + 1) * h;
            let on = |row: usize| self.goes_on(block.first + row, time);
            for row in (0..n).filter(|&row| on(row)) {
                slopes.state[unit(row)].iter_mut().zip(&of(time)[unit(row)]).for_each(|(sum, g)| *sum += g);
            }
            let (old, gates) = (&states[i * size..][..size], &gates[i * n * width..][..n * width]);
            let sums = &mut sums[i * n * width..][..n * width];
            let at = i * size..(i + 1) * size;
            match self.cell {
                Cell::Rnn => RnnBackward(self.functions[0]).of([gates, &slopes.state], [sums]),
                Cell::Lstm => {
                    let cells = [&others[at.clone()], &others[at.start + size..at.end + size]];
                    self.lstm_backward(gates, cells, &mut slopes, sums);
                }
                Cell::Gru { reset_after } => {
                    let part = &mut candidate.parts[at.clone()];
                    self.gru_backward(reset_after, [gates, &others[at.clone()], old], &mut slopes, sums, part);
                    if !reset_after {
                        let passed = &mut candidate.passed[at.clone()];
                        self.gru_reset_backward(weights, [gates, old], &mut slopes.direct, sums, passed);
                    }
                }
            }
            for row in (0..n).filter(|&row| !on(row)) {
                sums[row * width..][..width].fill(0.0);
                slopes.direct[unit(row)].copy_from_slice(&slopes.state[unit(row)]);
                if self.is_gru() {
                    candidate.parts[at.clone()][unit(row)].fill(0.0);
                }
                if self.is_lstm() {
                    slopes.older[unit(row)].copy_from_slice(&slopes.cell[unit(row)]);
                }
            }
            let by_gates = if self.is_gru() { 2 * h } else { width };
            let read = Matrix { data: sums, shape: [n, by_gates], strides: [width, 1] };
            product(read, weights.some(0, by_gates), &mut slopes.direct, h, 1.0, Start::Result);
            if self.cell == (Cell::Gru { reset_after: true }) {
                let part = Matrix::rows(&candidate.parts[at], h);
                product(part, weights.some(2 * h, h), &mut slopes.direct, h, 1.0, Start::Result);
            }
            std::mem::swap(&mut slopes.state, &mut slopes.direct);
            std::mem::swap(&mut slopes.cell, &mut slopes.older);
            slopes.direct.fill(0.0);
        }
        let (weights, bias) = self.parameters(self.steps * n, &sums, states, &candidate);
        Gradients { sums, weights, bias, state: slopes.state, cell: slopes.cell }
    }

    /// From gates, the old and the new cells, and what lies after: gradients of the sums and of the old cells.
    fn lstm_backward(&self, gates: &[f32], [before, after]: [&[f32]; 2], slopes: &mut Slopes, sums: &mut [f32]) {
        let (h, width) = (self.hidden, self.width());
        let step = LstmBackward([0, 1, 2].map(|f| self.functions[f]));
        let rows = gates.chunks_exact(width).zip(sums.chunks_exact_mut(width));
        for (row, (gates, sums)) in rows.enumerate() {
            let unit = row * h..(row + 1) * h;
            let [i, o, f, g] = quarters(gates, h);
            let [di, d_o, df, dg] = quarters_mut(sums, h);
            let cells = [&before[unit.clone()], &after[unit.clone()]];
            let inputs = [i, o, f, g, cells[0], cells[1], &slopes.state[unit.clone()], &slopes.cell[unit.clone()]];
            step.of(inputs, [di, d_o, df, dg, &mut slopes.older[unit]]);
        }
    }

    /// From gates and candidate, its part by the state, the old states, and what lies after: gradients of the sums, of that
    /// part, and of the old states directly.
    fn gru_backward(
        &self,
        reset_after: bool,
        [gates, parts, old]: [&[f32]; 3],
        slopes: &mut Slopes,
        sums: &mut [f32],
        by_part: &mut [f32],
    ) {
        let (h, width) = (self.hidden, self.width());
        let step = GruBackward { functions: [self.functions[0], self.functions[1]], reset_after };
        let rows = gates.chunks_exact(width).zip(sums.chunks_exact_mut(width));
        for (row, (gates, sums)) in rows.enumerate() {
            let unit = row * h..(row + 1) * h;
            let [z, r, candidate] = [0, 1, 2].map(|k| &gates[k * h..][..h]);
            let (dz, rest) = sums.split_at_mut(h);
            let (dr, dn) = rest.split_at_mut(h);
            let inputs = [z, r, candidate, &parts[unit.clone()], &old[unit.clone()], &slopes.state[unit.clone()]];
            step.of(inputs, [dz, dr, dn, &mut by_part[unit.clone()], &mut slopes.direct[unit]]);
        }
    }

    /// Where the reset gate lets the state through: the gradient of its sum, the rest of the old states', and what went
    /// through.
    fn gru_reset_backward(
        &self,
        weights: Matrix<'_>,
        [gates, old]: [&[f32]; 2],
        direct: &mut [f32],
        sums: &mut [f32],
        passed: &mut [f32],
    ) {
        let (h, width) = (self.hidden, self.width());
        let candidates = Matrix { data: &sums[2 * h..], shape: [old.len() / h, h], strides: [width, 1] };
        let mut by_passed = vec![0.0; old.len()];
        product(candidates, weights.some(2 * h, h), &mut by_passed, h, 1.0, Start::Zero);
        let mut so_far = vec![0.0; h];
        for (row, (gates, sums)) in gates.chunks_exact(width).zip(sums.chunks_exact_mut(width)).enumerate() {
            let unit = row * h..(row + 1) * h;
            so_far.copy_from_slice(&direct[unit.clone()]);
            let inputs = [&gates[h..2 * h], &old[unit.clone()], &by_passed[unit.clone()], &so_far];
            let outputs = [&mut sums[h..2 * h], &mut direct[unit.clone()], &mut passed[unit]];
            GruReset(self.functions[0]).of(inputs, outputs);
        }
    }

    /// Gradients of the weights and of a GRU's bias, over all steps at once.
    fn parameters(&self, rows: usize, sums: &[f32], states: &[f32], candidate: &Candidate) -> (Vec<f32>, Vec<f32>) {
        let (h, width) = (self.hidden, self.width());
        if rows == 0 {
            return (vec![], vec![]);
        }
        let states = Matrix::rows(&states[..rows * h], h);
        let columns = if self.is_gru() { 2 * h } else { width };
        let by_gates = Matrix { data: sums, shape: [rows, columns], strides: [width, 1] };
        let (mut weights, _) = correlate(by_gates, states, None);
        if !self.is_gru() {
            return (weights, vec![]);
        }
        let parts = Matrix::rows(&candidate.parts, h);
        let made_of = if candidate.passed.is_empty() { states } else { Matrix::rows(&candidate.passed, h) };
        let (of_candidate, bias) = correlate(parts, made_of, Some(parts));
        weights.extend(of_candidate);
        (weights, bias)
    }
}
