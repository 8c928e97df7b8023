//! Recurrent layers (ONNX specification of RNN, GRU and LSTM), one direction at a time: all steps are one operator.
//!
//! Sequences of a batch know nothing of each other, so that blocks of them go through all steps at once, each on a core
//! of its own and with its states in that core's cache. A step is a product with the recurrent weights and one pass over
//! the gates. Going back, what the sums' gradients have in common, the weights' gradient, is one product over all steps.

mod backward;
mod cells;
mod forward;

use super::function::Function;
use super::kernel::{Kernel, Saved, apply};
use super::matmul::{Matrix, matrix_at};
use super::{CpuTensor, numbers, tensor};
use burn::backend::DispatchTensor;
use kdc_ir::graph::Cell;
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

    fn is_gru(&self) -> bool {
        matches!(self.cell, Cell::Gru { .. })
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
        let mut sums = vec![0.0; self.steps * self.batch * width];
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
