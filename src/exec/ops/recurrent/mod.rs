//! Recurrent layers (ONNX specification of RNN, GRU and LSTM), one direction at a time: all steps are one operator.
//!
//! Sequences of a batch know nothing of each other, so that blocks of them go through all steps at once, each on a core
//! of its own and with its states in that core's cache. A step is a product with the recurrent weights and one pass over
//! the gates. Going back, what the sums' gradients have in common, the weights' gradient, is one product over all steps.

mod cells;

use super::buffer::unwritten;
use super::function::Function;
use super::kernel::{Kernel, Saved, apply};
use super::matmul::{Matrix, Start, correlate, matrix_at, product};
use super::{CpuTensor, numbers, tensor};
use crate::graph::Cell;
use burn::backend::DispatchTensor;
use cells::{GruBackward, GruForward, GruGates, GruReset, LstmBackward, LstmForward, RnnBackward, RnnForward, Step};
use rayon::prelude::*;

/// Sequences of a task.
const SEQUENCES: usize = 32;

/// A layer's form.
#[derive(Clone, Debug)]
pub struct Recurrence {
    pub cell: Cell,
    /// Of the gates, the candidate and the cell, as many as the cell has; such whose slope follows from their result.
    pub functions: Vec<Function>,
    pub steps: usize,
    pub batch: usize,
    pub hidden: usize,
    /// From the last step to the first.
    pub reverse: bool,
    /// Steps of each sequence, if not all of them: after its end a sequence's result is zero and its state stays.
    pub lengths: Option<Vec<usize>>,
}

/// Of the inputs' part of all sums, `[steps · batch, gates · hidden]` with the biases, the recurrent weights
/// `[gates · hidden, hidden]`, the first state `[batch, hidden]`, the first cell of an LSTM, and the bias `[hidden]` that
/// a GRU's reset gate lets through: the results `[steps + 1, batch, hidden]`, after the last of which stands the last
/// state; an LSTM has one more, its last cell.
pub fn recurrent(layer: Recurrence, operands: Vec<DispatchTensor>) -> DispatchTensor {
    apply(layer, operands)
}

/// Some sequences of a batch.
#[derive(Clone, Copy)]
struct Block {
    first: usize,
    count: usize,
}

/// What a block's backward pass wants: at each step in the order of computation, a matrix by sequence.
struct Trace {
    /// Gates and candidate, after their functions.
    gates: Vec<f32>,
    /// The states before each step, and the last.
    states: Vec<f32>,
    /// Of an LSTM the cells, likewise; of a GRU the candidate's part by the state.
    others: Vec<f32>,
}

/// A block's gradients, by step in the order of computation where there are several.
struct Gradients {
    sums: Vec<f32>,
    weights: Vec<f32>,
    bias: Vec<f32>,
    state: Vec<f32>,
    cell: Vec<f32>,
}

impl Recurrence {
    fn blocks(&self) -> impl IndexedParallelIterator<Item = Block> + use<> {
        let batch = self.batch;
        let block = move |i: usize| Block { first: i * SEQUENCES, count: SEQUENCES.min(batch - i * SEQUENCES) };
        (0..batch.div_ceil(SEQUENCES)).into_par_iter().map(block)
    }

    /// Units of all sums of a sequence.
    fn width(&self) -> usize {
        self.cell.gates() * self.hidden
    }

    fn is_lstm(&self) -> bool {
        self.cell == Cell::Lstm
    }

    /// Matrices of the result: the steps and the last state, and cell.
    fn parts(&self) -> usize {
        self.steps + 1 + usize::from(self.is_lstm())
    }

    /// The step that is computed as the `i`-th.
    fn time(&self, i: usize) -> usize {
        if self.reverse { self.steps - 1 - i } else { i }
    }

    /// Whether a sequence goes on at a step.
    fn goes_on(&self, sequence: usize, time: usize) -> bool {
        self.lengths.as_ref().is_none_or(|lengths| time < lengths[sequence])
    }

    /// Copies matrices of a block, by step in the order of computation, to where they lie among all sequences.
    fn place(&self, block: Block, width: usize, from: &[f32], to: &mut [f32]) {
        for (i, matrix) in from.chunks_exact(block.count * width).enumerate() {
            to[(self.time(i) * self.batch + block.first) * width..][..matrix.len()].copy_from_slice(matrix);
        }
    }

    fn block_forward(&self, block: Block, operands: &Operands<'_>) -> Trace {
        let (n, h, width) = (block.count, self.hidden, self.width());
        let size = n * h;
        let at = block.first * h;
        let mut gates = unwritten(self.steps * n * width);
        let mut states = unwritten((self.steps + 1) * size);
        states[..size].copy_from_slice(&operands.state[at..][..size]);
        let mut others = match self.cell {
            Cell::Rnn => vec![],
            Cell::Lstm => unwritten((self.steps + 1) * size),
            Cell::Gru { .. } => unwritten(self.steps * size),
        };
        if let Some(cell) = operands.cell {
            others[..size].copy_from_slice(&cell[at..][..size]);
        }
        let mut sums = unwritten(n * width);
        let mut passed = vec![0.0; if matches!(self.cell, Cell::Gru { .. }) { size } else { 0 }];
        for i in 0..self.steps {
            let time = self.time(i);
            sums.copy_from_slice(&operands.inputs[(time * self.batch + block.first) * width..][..n * width]);
            let (before, after) = states.split_at_mut((i + 1) * size);
            let (old, new) = (&before[i * size..], &mut after[..size]);
            let old_rows = Matrix::rows(old, h);
            let gates = &mut gates[i * n * width..][..n * width];
            // Of a GRU the candidate's product comes later.
            let direct = if matches!(self.cell, Cell::Gru { .. }) { 2 * h } else { width };
            product(old_rows, operands.columns(0, direct), &mut sums, width, 1.0, Start::Result);
            match self.cell {
                Cell::Rnn => {
                    RnnForward(self.functions[0]).of([&sums], [gates]);
                    new.copy_from_slice(gates);
                }
                Cell::Lstm => {
                    let (before, after) = others.split_at_mut((i + 1) * size);
                    let step = LstmForward([0, 1, 2].map(|f| self.functions[f]));
                    for row in 0..n {
                        let (z, gates) =
                            (quarters(&sums[row * width..], h), quarters_mut(&mut gates[row * width..], h));
                        let [zi, zo, zf, zc] = z;
                        let [i_gate, o, f, g] = gates;
                        let (c, unit) = (&before[i * size + row * h..][..h], row * h..(row + 1) * h);
                        let outputs = [i_gate, o, f, g, &mut after[unit.clone()], &mut new[unit]];
                        step.of([zi, zo, zf, zc, c], outputs);
                    }
                }
                Cell::Gru { reset_after } => {
                    let part = &mut others[i * size..][..size];
                    for row in 0..n {
                        let unit = row * h..(row + 1) * h;
                        let z = &sums[row * width..];
                        let (update, rest) = gates[row * width..].split_at_mut(h);
                        let outputs = [update, &mut rest[..h], &mut passed[unit.clone()]];
                        GruGates(self.functions[0]).of([&z[..h], &z[h..2 * h], &old[unit]], outputs);
                    }
                    let (rows, start) = match (reset_after, operands.bias) {
                        (true, Some(bias)) => (old_rows, Start::Row(bias)),
                        (true, None) => (old_rows, Start::Zero),
                        (false, _) => (Matrix::rows(&passed, h), Start::Zero),
                    };
                    product(rows, operands.columns(2 * h, h), part, h, 1.0, start);
                    let step = GruForward { candidate: self.functions[1], reset_after };
                    for row in 0..n {
                        let unit = row * h..(row + 1) * h;
                        let (known, candidate) = gates[row * width..].split_at_mut(2 * h);
                        let x = &sums[row * width + 2 * h..][..h];
                        let inputs = [&known[..h], &known[h..], x, &part[unit.clone()], &old[unit.clone()]];
                        step.of(inputs, [&mut candidate[..h], &mut new[unit]]);
                    }
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

    fn block_backward(&self, block: Block, weights: Matrix<'_>, trace: [&[f32]; 3], gradient: &[f32]) -> Gradients {
        let (n, h, width) = (block.count, self.hidden, self.width());
        let size = n * h;
        let [gates, states, others] = trace;
        let of = |part: usize| &gradient[(part * self.batch + block.first) * h..][..size];
        let gru = matches!(self.cell, Cell::Gru { .. });
        let mut state = of(self.steps).to_vec();
        let mut cell = if self.is_lstm() { of(self.steps + 1).to_vec() } else { vec![] };
        let mut sums = unwritten(self.steps * n * width);
        // Of a GRU: the gradients of the candidate's part by the state, and what that part was made of.
        let mut parts = unwritten(if gru { self.steps * size } else { 0 });
        let reset_before = self.cell == Cell::Gru { reset_after: false };
        let mut passed = unwritten(if reset_before { self.steps * size } else { 0 });
        let mut by_passed = vec![0.0; if reset_before { size } else { 0 }];
        let (mut direct, mut older) = (vec![0.0; size], vec![0.0; cell.len()]);
        for i in (0..self.steps).rev() {
            let time = self.time(i);
            let result = of(time);
            let unit = |row: usize| row * h..(row + 1) * h;
            let on = |row: usize| self.goes_on(block.first + row, time);
            for row in (0..n).filter(|&row| on(row)) {
                state[unit(row)].iter_mut().zip(&result[unit(row)]).for_each(|(sum, g)| *sum += g);
            }
            let old = &states[i * size..][..size];
            let gates = &gates[i * n * width..][..n * width];
            let sums = &mut sums[i * n * width..][..n * width];
            match self.cell {
                Cell::Rnn => RnnBackward(self.functions[0]).of([gates, &state], [sums]),
                Cell::Lstm => {
                    let step = LstmBackward([0, 1, 2].map(|f| self.functions[f]));
                    let [before, after] = [0, 1].map(|next| &others[(i + next) * size..][..size]);
                    for row in 0..n {
                        let [i_gate, o, f, g] = quarters(&gates[row * width..], h);
                        let [di, d_o, df, dg] = quarters_mut(&mut sums[row * width..], h);
                        let u = unit(row);
                        let cells = [&before[u.clone()], &after[u.clone()]];
                        let inputs = [i_gate, o, f, g, cells[0], cells[1], &state[u.clone()], &cell[u.clone()]];
                        step.of(inputs, [di, d_o, df, dg, &mut older[u]]);
                    }
                }
                Cell::Gru { reset_after } => {
                    let step = GruBackward { functions: [self.functions[0], self.functions[1]], reset_after };
                    let (part, by_part) = (&others[i * size..][..size], &mut parts[i * size..][..size]);
                    for row in 0..n {
                        let (known, d) = (&gates[row * width..][..width], &mut sums[row * width..][..width]);
                        let (dz, rest) = d.split_at_mut(h);
                        let (dr, dn) = rest.split_at_mut(h);
                        let u = unit(row);
                        let [z, r, candidate] = [0, 1, 2].map(|k| &known[k * h..][..h]);
                        let inputs = [z, r, candidate, &part[u.clone()], &old[u.clone()], &state[u.clone()]];
                        step.of(inputs, [dz, dr, dn, &mut by_part[u.clone()], &mut direct[u]]);
                    }
                    if !reset_after {
                        let candidates = Matrix { data: &sums[2 * h..], shape: [n, h], strides: [width, 1] };
                        product(candidates, weights.some(2 * h, h), &mut by_passed, h, 1.0, Start::Zero);
                        let passed = &mut passed[i * size..][..size];
                        for row in 0..n {
                            let u = unit(row);
                            let inputs = [&gates[row * width + h..][..h], &old[u.clone()], &by_passed[u.clone()]];
                            let so_far = direct[u.clone()].to_vec();
                            let outputs =
                                [&mut sums[row * width + h..][..h], &mut direct[u.clone()], &mut passed[u.clone()]];
                            GruReset(self.functions[0]).of([inputs[0], inputs[1], inputs[2], &so_far], outputs);
                        }
                    }
                }
            }
            for row in (0..n).filter(|&row| !on(row)) {
                let u = unit(row);
                sums[row * width..][..width].fill(0.0);
                direct[u.clone()].copy_from_slice(&state[u.clone()]);
                if gru {
                    parts[i * size..][u.clone()].fill(0.0);
                }
                if self.is_lstm() {
                    older[u.clone()].copy_from_slice(&cell[u]);
                }
            }
            std::mem::swap(&mut state, &mut direct);
            std::mem::swap(&mut cell, &mut older);
            let by_gates = if gru { 2 * h } else { width };
            let sums = Matrix { data: sums, shape: [n, by_gates], strides: [width, 1] };
            product(sums, weights.some(0, by_gates), &mut state, h, 1.0, Start::Result);
            if self.cell == (Cell::Gru { reset_after: true }) {
                let part = Matrix::rows(&parts[i * size..][..size], h);
                product(part, weights.some(2 * h, h), &mut state, h, 1.0, Start::Result);
            }
            direct.fill(0.0);
        }
        let rows = self.steps * n;
        let all = |data: &'_ [f32], first: usize, columns: usize| -> (Vec<f32>, Vec<f32>) {
            let from = Matrix { data: &data[first..], shape: [rows, columns], strides: [width, 1] };
            correlate(from, Matrix::rows(&states[..rows * h], h), None)
        };
        let (mut by_weights, mut bias) = (vec![], vec![]);
        if rows > 0 && gru {
            by_weights = all(&sums, 0, 2 * h).0;
            let by_part = Matrix::rows(&parts, h);
            let made_of = Matrix::rows(if reset_before { &passed } else { &states[..rows * h] }, h);
            let (candidate, sum) = correlate(by_part, made_of, Some(by_part));
            by_weights.extend(candidate);
            bias = sum;
        } else if rows > 0 {
            by_weights = all(&sums, 0, width).0;
        }
        Gradients { sums, weights: by_weights, bias, state, cell }
    }
}

/// The operands of a forward pass.
struct Operands<'a> {
    inputs: &'a [f32],
    /// `[hidden, gates · hidden]`: turned, so that a step's products read them row by row.
    weights: Matrix<'a>,
    state: &'a [f32],
    cell: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
}

impl<'a> Operands<'a> {
    /// Some of the weights' columns.
    fn columns(&self, first: usize, count: usize) -> Matrix<'a> {
        Matrix { data: &self.weights.data[first..], shape: [self.weights.shape[0], count], ..self.weights }
    }
}

fn quarters(row: &[f32], h: usize) -> [&[f32]; 4] {
    [0, 1, 2, 3].map(|k| &row[k * h..][..h])
}

fn quarters_mut(row: &mut [f32], h: usize) -> [&mut [f32]; 4] {
    let (a, rest) = row.split_at_mut(h);
    let (b, rest) = rest.split_at_mut(h);
    let (c, rest) = rest.split_at_mut(h);
    [a, b, c, &mut rest[..h]]
}

impl Kernel for Recurrence {
    fn forward(&self, inputs: Vec<CpuTensor>) -> (CpuTensor, Vec<CpuTensor>) {
        let all: Vec<CpuTensor> =
            inputs.iter().enumerate().map(|(i, t)| if i == 1 { t.clone() } else { t.to_contiguous() }).collect();
        let mut store = vec![];
        let after = 3 + usize::from(self.is_lstm());
        let operands = Operands {
            inputs: numbers(&all[0]),
            weights: matrix_at(&all[1], 0).transposed().packed(&mut store),
            state: numbers(&all[2]),
            cell: self.is_lstm().then(|| numbers(&all[3])),
            bias: all.get(after).map(numbers),
        };
        let blocks: Vec<Block> = self.blocks().collect();
        let traces: Vec<Trace> = self.blocks().map(|block| self.block_forward(block, &operands)).collect();
        let h = self.hidden;
        let mut out = vec![0.0; self.parts() * self.batch * h];
        let mut extra = Vec::with_capacity(3 * traces.len());
        for (block, trace) in blocks.into_iter().zip(traces) {
            let size = block.count * h;
            self.place(block, h, &trace.states[size..], &mut out);
            for row in block.first..block.first + block.count {
                let ended = self.lengths.as_ref().map_or(self.steps, |lengths| lengths[row].min(self.steps));
                (ended..self.steps).for_each(|time| out[(time * self.batch + row) * h..][..h].fill(0.0));
            }
            let mut last = |part: usize, from: &[f32]| {
                out[(part * self.batch + block.first) * h..][..size].copy_from_slice(&from[self.steps * size..]);
            };
            last(self.steps, &trace.states);
            if self.is_lstm() {
                last(self.steps + 1, &trace.others);
            }
            extra.extend([trace.gates, trace.states, trace.others].map(|values| {
                let count = values.len();
                tensor(values, [count])
            }));
        }
        (tensor(out, [self.parts(), self.batch, h]), extra)
    }

    fn keeps(&self, input: usize) -> bool {
        input == 1
    }

    fn backward(&self, saved: Saved, gradient: CpuTensor, wanted: &[bool]) -> Vec<Option<CpuTensor>> {
        let gradient = gradient.to_contiguous();
        let mut store = vec![];
        let weights = matrix_at(&saved.inputs[1], 0).packed(&mut store);
        let (h, width) = (self.hidden, self.width());
        let made: Vec<Gradients> = self
            .blocks()
            .enumerate()
            .map(|(i, block)| {
                let trace = [0, 1, 2].map(|k| numbers(&saved.extra[3 * i + k]));
                self.block_backward(block, weights, trace, numbers(&gradient))
            })
            .collect();
        let mut sums = unwritten(self.steps * self.batch * width);
        let (mut by_weights, mut bias) = (vec![0.0; width * h], vec![0.0; h]);
        let (mut state, mut cell) = (vec![], vec![]);
        for (block, part) in self.blocks().collect::<Vec<_>>().into_iter().zip(made) {
            self.place(block, width, &part.sums, &mut sums);
            by_weights.iter_mut().zip(part.weights).for_each(|(sum, x)| *sum += x);
            bias.iter_mut().zip(part.bias).for_each(|(sum, x)| *sum += x);
            state.extend(part.state);
            cell.extend(part.cell);
        }
        let mut all = vec![
            tensor(sums, [self.steps * self.batch, width]),
            tensor(by_weights, [width, h]),
            tensor(state, [self.batch, h]),
        ];
        if self.is_lstm() {
            all.push(tensor(cell, [self.batch, h]));
        }
        all.push(tensor(bias, [h]));
        all.into_iter().zip(wanted).map(|(t, &wanted)| wanted.then_some(t)).collect()
    }
}
