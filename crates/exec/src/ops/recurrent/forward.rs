//! A block of sequences through all steps.

use super::super::matmul::{Matrix, Start, product};
use super::cells::{GruForward, GruGates, LstmForward, RnnForward, Step};
use super::{Block, Operands, Recurrence, Trace, quarters, quarters_mut};
use kdc_ir::graph::Cell;

impl Recurrence {
    pub(super) fn block_forward(&self, block: Block, operands: &Operands<'_>) -> Trace {
        let (n, h, width) = (block.count, self.hidden, self.width());
        let size = n * h;
        let at = block.first * h;
        let mut gates = vec![0.0; self.steps * n * width];
        let mut states = vec![0.0; (self.steps + 1) * size];
        states[..size].copy_from_slice(&operands.state[at..][..size]);
        let mut others = match self.cell {
            Cell::Rnn => vec![],
            Cell::Lstm => vec![0.0; (self.steps + 1) * size],
            Cell::Gru { .. } => vec![0.0; self.steps * size],
        };
        if let Some(cell) = operands.cell {
            others[..size].copy_from_slice(&cell[at..][..size]);
        }
        let mut sums = vec![0.0; n * width];
        for i in 0..self.steps {
            let time = self.time(i);
            sums.copy_from_slice(&operands.inputs[(time * self.batch + block.first) * width..][..n * width]);
            let (before, after) = states.split_at_mut((i + 1) * size);
            let (old, new) = (&before[i * size..], &mut after[..size]);
            let gates = &mut gates[i * n * width..][..n * width];
            // Of a GRU the candidate's product comes later.
            let direct = if self.is_gru() { 2 * h } else { width };
            product(Matrix::rows(old, h), operands.columns(0, direct), &mut sums, width, 1.0, Start::Result);
            match self.cell {
                Cell::Rnn => {
                    RnnForward(self.functions[0]).of([&sums], [gates]);
                    new.copy_from_slice(gates);
                }
                Cell::Lstm => {
                    let (before, after) = others.split_at_mut((i + 1) * size);
                    self.lstm_forward(&sums, &before[i * size..], gates, &mut after[..size], new);
                }
                Cell::Gru { reset_after } => {
                    self.gru_forward(reset_after, operands, &sums, old, gates, &mut others[i * size..][..size], new);
                }
            }
            for row in (0..n).filter(|row| !self.goes_on(block.first + row, time)) {
                let unit = row * h..(row + 1) * h;
                new[unit.clone()].copy_from_slice(&old[unit.clone()]);
                if self.is_lstm() {
                    others.copy_within(i * size + unit.start..i * size + unit.end, (i + 1) * size + unit.start);
                }
            }
        }
        Trace { gates, states, others }
    }

    /// From the sums and the old cells: gates, new cells, new states.
    fn lstm_forward(&self, sums: &[f32], old: &[f32], gates: &mut [f32], cells: &mut [f32], states: &mut [f32]) {
        let (h, width) = (self.hidden, self.width());
        let step = LstmForward([0, 1, 2].map(|f| self.functions[f]));
        let rows = sums.chunks_exact(width).zip(gates.chunks_exact_mut(width)).zip(old.chunks_exact(h));
        let rows = rows.zip(cells.chunks_exact_mut(h)).zip(states.chunks_exact_mut(h));
        for ((((sums, gates), old), cell), state) in rows {
            let [input, output, forget, candidate] = quarters(sums, h);
            let [i, o, f, g] = quarters_mut(gates, h);
            step.of([input, output, forget, candidate, old], [i, o, f, g, cell, state]);
        }
    }

    /// From the sums, the candidate's without the state's part, and the old states: gates and candidates, that part, new
    /// states.
    #[expect(clippy::too_many_arguments, reason = "what a step of a GRU takes and gives")]
    fn gru_forward(
        &self,
        reset_after: bool,
        operands: &Operands<'_>,
        sums: &[f32],
        old: &[f32],
        gates: &mut [f32],
        part: &mut [f32],
        states: &mut [f32],
    ) {
        let (h, width) = (self.hidden, self.width());
        let mut passed = vec![0.0; old.len()];
        let rows = sums.chunks_exact(width).zip(gates.chunks_exact_mut(width)).zip(old.chunks_exact(h));
        for (((sums, gates), old), passed) in rows.zip(passed.chunks_exact_mut(h)) {
            let (update, rest) = gates.split_at_mut(h);
            GruGates(self.functions[0]).of([&sums[..h], &sums[h..2 * h], old], [update, &mut rest[..h], passed]);
        }
        let (reads, start) = match (reset_after, operands.bias) {
            (true, Some(bias)) => (old, Start::Row(bias)),
            (true, None) => (old, Start::Zero),
            (false, _) => (&passed[..], Start::Zero),
        };
        product(Matrix::rows(reads, h), operands.columns(2 * h, h), part, h, 1.0, start);
        let step = GruForward { candidate: self.functions[1], reset_after };
        let rows = sums.chunks_exact(width).zip(gates.chunks_exact_mut(width)).zip(old.chunks_exact(h));
        let rows = rows.zip(part.chunks_exact(h)).zip(states.chunks_exact_mut(h));
        for ((((sums, gates), old), part), state) in rows {
            let (known, candidate) = gates.split_at_mut(2 * h);
            step.of([&known[..h], &known[h..], &sums[2 * h..], part, old], [candidate, state]);
        }
    }
}
