//! Recurrent operators. On the CPU a direction is one operator of our own; elsewhere, and for what is rare (peepholes,
//! a clipped or coupled gate, odd functions), burn goes step by step through time and back.

use super::linear::linear;
use super::{Datum, Error, Pass, Value};
use crate::ops::{self, Function, Recurrence, kernel};
use burn::tensor::{Tensor, TensorData, activation};
use kdc_ir::graph::{Activation, Cell, Direction, Recurrent};
use kdc_ir::host::Numbers;

impl Pass<'_> {
    /// All steps, the last state and, for an LSTM, the last cell (ONNX specification of RNN, GRU and LSTM).
    pub(super) fn recurrent(&mut self, op: &Recurrent, x: Value) -> Result<Vec<Datum>, Error> {
        let mut x = x.into_tensor::<3>()?;
        if op.batch_first {
            x = x.swap_dims(0, 1);
        }
        let [steps, batch, width] = x.dims();
        let (directions, hidden) = (op.direction.count(), op.hidden);
        let lengths = match self.node.input(4) {
            Some(_) => Some(Numbers::of(&*self.host(4)?).whole().map_err(|why| self.unsupported(why))?),
            None => None,
        };
        let (w, r) = (self.operand(1)?.into_tensor::<3>()?, self.operand(2)?.into_tensor::<3>()?);
        let mut optional = |index: usize| match self.node.input(index) {
            Some(_) => self.operand(index).map(Some),
            None => Ok(None),
        };
        let bias = optional(3)?.map(Value::into_tensor::<2>).transpose()?;
        let mut start = |index: usize| -> Result<Option<Tensor<3>>, Error> {
            let given = optional(index)?.map(Value::into_tensor::<3>).transpose()?;
            Ok(given.map(|s| if op.batch_first { s.swap_dims(0, 1) } else { s }))
        };
        let (h0, c0) = (start(5)?, start(6)?);
        let peepholes = optional(7)?.map(Value::into_tensor::<2>).transpose()?;
        let rows = op.cell.gates() * hidden;
        let state = [directions, batch, hidden];
        let operands = [
            ("input weights", Some(w.dims().to_vec()), vec![directions, rows, width]),
            ("recurrent weights", Some(r.dims().to_vec()), vec![directions, rows, hidden]),
            ("bias", bias.as_ref().map(|b| b.dims().to_vec()), vec![directions, 2 * rows]),
            ("lengths", lengths.as_ref().map(|l| vec![l.len()]), vec![batch]),
            ("first state", h0.as_ref().map(|h| h.dims().to_vec()), state.to_vec()),
            ("first cell", c0.as_ref().map(|c| c.dims().to_vec()), state.to_vec()),
            ("peepholes", peepholes.as_ref().map(|p| p.dims().to_vec()), vec![directions, 3 * hidden]),
        ];
        for (what, given, wanted) in operands {
            if let Some(given) = given.filter(|given| *given != wanted) {
                return Err(self.unsupported(format!("its {what} has the extents {given:?}, not {wanted:?}")));
            }
        }
        let device = x.device();
        let flat = x.reshape([steps * batch, width]);
        let (mut all, mut states, mut cells) = (vec![], vec![], vec![]);
        for d in 0..directions {
            let of = |t: &Tensor<3>| t.clone().narrow(0, d, 1).squeeze_dim::<2>(0);
            let biases = bias.as_ref().map(|b| b.clone().narrow(0, d, 1));
            let after = op.cell == Cell::Gru { reset_after: true };
            let (bias, reset_bias) = match biases {
                None => (None, None),
                Some(both) => {
                    let (inputs, states) = (both.clone().narrow(1, 0, rows), both.narrow(1, rows, rows));
                    let reset = after.then(|| states.clone().narrow(1, rows - hidden, hidden));
                    let states = match after {
                        true => Tensor::cat(
                            vec![states.narrow(1, 0, rows - hidden), Tensor::zeros([1, hidden], &device)],
                            1,
                        ),
                        false => states,
                    };
                    (Some((inputs + states).squeeze_dim::<1>(0)), reset)
                }
            };
            let weights = Value::from_tensor(of(&w).transpose());
            let sweep = Sweep {
                op,
                activations: &op.activations[d * op.activations.len() / directions..],
                inputs: linear(Value::from_tensor(flat.clone()), weights, bias.map(Value::from_tensor))
                    .into_tensor::<2>()?,
                recurrent: of(&r).transpose(),
                reset_bias,
                peepholes: peepholes.as_ref().map(|p| p.clone().narrow(0, d, 1)),
                lengths: lengths.as_deref(),
                steps,
                batch,
                reverse: op.direction == Direction::Reverse || d == 1,
            };
            let zeros = || Tensor::<2>::zeros([batch, hidden], &device);
            let first = |given: &Option<Tensor<3>>| given.as_ref().map_or_else(zeros, of);
            let (y, h, c) = sweep.run(first(&h0), first(&c0));
            all.push(y.unsqueeze_dim::<4>(1));
            states.push(h.unsqueeze_dim::<3>(0));
            cells.push(c.unsqueeze_dim::<3>(0));
        }
        let y = Tensor::cat(all, 1);
        let y = if op.batch_first { y.permute([2, 0, 1, 3]) } else { y };
        let last = |parts: Vec<Tensor<3>>| {
            let whole = Tensor::cat(parts, 0);
            Datum::from(Value::from_tensor(if op.batch_first { whole.swap_dims(0, 1) } else { whole }))
        };
        let mut results = vec![Datum::from(Value::from_tensor(y)), last(states)];
        if op.cell == Cell::Lstm {
            results.push(last(cells));
        }
        Ok(results)
    }
}

/// One pass over the sequence.
struct Sweep<'a> {
    op: &'a Recurrent,
    activations: &'a [Activation],
    /// `[steps · batch, gates · hidden]`: the sequence times the input weights, and the biases.
    inputs: Tensor<2>,
    /// `[hidden, gates · hidden]`
    recurrent: Tensor<2>,
    /// `[1, hidden]`: the candidate's bias where it is a part of what the reset gate lets through.
    reset_bias: Option<Tensor<2>>,
    /// `[1, 3 · hidden]`: of the gates i, o, f.
    peepholes: Option<Tensor<2>>,
    /// Steps of each sequence, if not all of them.
    lengths: Option<&'a [i64]>,
    steps: usize,
    batch: usize,
    reverse: bool,
}

impl Sweep<'_> {
    /// `[steps, batch, hidden]`, the last state, the last cell.
    fn run(&self, h: Tensor<2>, c: Tensor<2>) -> (Tensor<3>, Tensor<2>, Tensor<2>) {
        match self.as_one() {
            Some(layer) => self.at_once(layer, h, c),
            None => self.by_step(h, c),
        }
    }

    /// The layer as one operator, if there is one for it.
    fn as_one(&self) -> Option<Recurrence> {
        let count = if self.op.cell == Cell::Lstm { 3 } else { self.op.cell.gates().min(2) };
        let functions = self.activations[..count].iter().map(|&by| of_result(by)).collect::<Option<Vec<Function>>>()?;
        let plain = self.peepholes.is_none() && self.op.clip.is_none() && !self.op.coupled && self.batch > 0;
        let operands = [&self.inputs, &self.recurrent].map(|t| t.clone().into_dispatch());
        let length = |&n: &i64| usize::try_from(n).unwrap_or(0);
        (plain && kernel::takes(&operands)).then(|| Recurrence {
            cell: self.op.cell,
            functions,
            steps: self.steps,
            batch: self.batch,
            hidden: self.op.hidden,
            reverse: self.reverse,
            lengths: self.lengths.map(|lengths| lengths.iter().map(length).collect()),
        })
    }

    fn at_once(&self, layer: Recurrence, h: Tensor<2>, c: Tensor<2>) -> (Tensor<3>, Tensor<2>, Tensor<2>) {
        let lstm = self.op.cell == Cell::Lstm;
        let mut operands = vec![self.inputs.clone(), self.recurrent.clone().transpose(), h];
        operands.extend(lstm.then(|| c.clone()));
        let mut operands: Vec<_> = operands.into_iter().map(Tensor::into_dispatch).collect();
        operands.extend(self.reset_bias.clone().map(|b| b.squeeze_dim::<1>(0).into_dispatch()));
        let all = Tensor::<3>::from_dispatch(ops::recurrent(layer, operands));
        let last = |part: usize| all.clone().narrow(0, self.steps + part, 1).squeeze_dim::<2>(0);
        let (state, cell) = (last(0), if lstm { last(1) } else { c });
        (all.narrow(0, 0, self.steps), state, cell)
    }

    /// By burn's operators.
    fn by_step(&self, mut h: Tensor<2>, mut c: Tensor<2>) -> (Tensor<3>, Tensor<2>, Tensor<2>) {
        let device = self.inputs.device();
        // `[steps, batch, 1]`: 1 where a sequence still goes on.
        let active = self.lengths.map(|lengths| {
            let one = |t: usize| lengths.iter().map(move |&n| if (t as i64) < n { 1.0f32 } else { 0.0 });
            let mask: Vec<f32> = (0..self.steps).flat_map(one).collect();
            Tensor::<3>::from_data(TensorData::new(mask, [self.steps, self.batch, 1]), &device)
        });
        let mut outputs: Vec<Option<Tensor<3>>> = vec![None; self.steps];
        for i in 0..self.steps {
            let t = if self.reverse { self.steps - 1 - i } else { i };
            let x = self.inputs.clone().narrow(0, t * self.batch, self.batch);
            let (new_h, new_c) = match self.op.cell {
                Cell::Rnn => (self.activate(0, x + self.product(&h)), c.clone()),
                Cell::Lstm => self.lstm(x, &h, &c),
                Cell::Gru { reset_after } => (self.gru(x, &h, reset_after), c.clone()),
            };
            let mut output = new_h.clone();
            (h, c) = match &active {
                None => (new_h, new_c),
                Some(active) => {
                    let on = active.clone().narrow(0, t, 1).squeeze_dim::<2>(0);
                    output = output * on.clone();
                    // The state of a sequence that has ended stays.
                    let kept = |new: Tensor<2>, old: Tensor<2>| old.clone() + (new - old) * on.clone();
                    (kept(new_h, h), kept(new_c, c))
                }
            };
            outputs[t] = Some(output.unsqueeze_dim::<3>(0));
        }
        (Tensor::cat(outputs.into_iter().flatten().collect(), 0), h, c)
    }

    /// The state times the recurrent weights.
    fn product(&self, h: &Tensor<2>) -> Tensor<2> {
        h.clone().matmul(self.recurrent.clone())
    }

    fn gate(&self, from: &Tensor<2>, index: usize) -> Tensor<2> {
        from.clone().narrow(1, index * self.op.hidden, self.op.hidden)
    }

    fn activate(&self, index: usize, x: Tensor<2>) -> Tensor<2> {
        let x = self.op.clip.map_or(x.clone(), |clip| x.clamp(-clip, clip));
        activate(self.activations[index], x)
    }

    /// Gates i, o, f, c.
    fn lstm(&self, x: Tensor<2>, h: &Tensor<2>, c: &Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let sum = x + self.product(h);
        let peeping = |gate: usize, which: usize, c: &Tensor<2>| {
            let gate = self.gate(&sum, gate);
            self.peepholes.as_ref().map_or(gate.clone(), |p| gate + self.gate(p, which) * c.clone())
        };
        let input = self.activate(0, peeping(0, 0, c));
        let forget = if self.op.coupled { input.clone().neg() + 1.0 } else { self.activate(0, peeping(2, 2, c)) };
        let cell = forget * c.clone() + input * self.activate(1, self.gate(&sum, 3));
        let output = self.activate(0, peeping(1, 1, &cell));
        (output * activate(self.activations[2], cell.clone()), cell)
    }

    /// Gates z, r, h.
    fn gru(&self, x: Tensor<2>, h: &Tensor<2>, reset_after: bool) -> Tensor<2> {
        let product = self.product(h);
        let update = self.activate(0, self.gate(&x, 0) + self.gate(&product, 0));
        let reset = self.activate(0, self.gate(&x, 1) + self.gate(&product, 1));
        let candidate = if reset_after {
            let part = self.gate(&product, 2);
            reset * self.reset_bias.as_ref().map_or(part.clone(), |b| part + b.clone())
        } else {
            (reset * h.clone()).matmul(self.gate(&self.recurrent, 2))
        };
        let candidate = self.activate(1, self.gate(&x, 2) + candidate);
        candidate.clone() + update * (h.clone() - candidate)
    }
}

/// A function whose slope follows from its result.
fn of_result(by: Activation) -> Option<Function> {
    match by {
        Activation::Sigmoid => Some(Function::Sigmoid),
        Activation::Tanh => Some(Function::Tanh),
        Activation::Relu => Some(Function::Relu),
        _ => None,
    }
}

fn activate(by: Activation, x: Tensor<2>) -> Tensor<2> {
    match by {
        Activation::Sigmoid => activation::sigmoid(x),
        Activation::Tanh => x.tanh(),
        Activation::Relu => activation::relu(x),
        Activation::HardSigmoid { alpha, beta } => (x * alpha + beta).clamp(0.0, 1.0),
        Activation::LeakyRelu { alpha } => x.clone().clamp_min(0.0) + x.clamp_max(0.0) * alpha,
        Activation::ThresholdedRelu { alpha } => {
            let below = x.clone().lower_equal_elem(alpha);
            x.mask_fill(below, 0.0)
        }
        Activation::Elu { alpha } => x.clone().clamp_min(0.0) + (x.clamp_max(0.0).exp() - 1.0) * alpha,
        Activation::Affine { alpha, beta } => x * alpha + beta,
        Activation::ScaledTanh { alpha, beta } => (x * beta).tanh() * alpha,
        Activation::Softsign => x.clone() / (x.abs() + 1.0),
        Activation::Softplus => x.clone().clamp_min(0.0) + x.abs().neg().exp().log1p(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Results and gradients of the operator of our own against those of burn's steps, over random layers.
    #[test]
    fn one_operator_computes_what_steps_compute() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let device = Device::flex().autodiff();
        for case in 0..60 {
            let cell =
                [Cell::Rnn, Cell::Lstm, Cell::Gru { reset_after: true }, Cell::Gru { reset_after: false }][case % 4];
            let [steps, hidden] = [7, 40].map(|most| rng.random_range(1..most));
            let batch = rng.random_range(1..if case % 5 == 0 { 80 } else { 6 });
            let width = cell.gates() * hidden;
            let lengths: Vec<i64> = (0..batch).map(|_| rng.random_range(0..=steps as i64)).collect();
            let function = if case % 3 == 0 { Activation::Relu } else { Activation::Tanh };
            let activations = match cell {
                Cell::Rnn => vec![function],
                Cell::Gru { .. } => vec![Activation::Sigmoid, function],
                Cell::Lstm => vec![Activation::Sigmoid, Activation::Tanh, function],
            };
            let op = Recurrent {
                cell,
                hidden,
                direction: Direction::Forward,
                activations: activations.clone(),
                clip: None,
                coupled: false,
                batch_first: false,
            };
            let shapes = [[steps * batch, width], [hidden, width], [1, hidden], [batch, hidden], [batch, hidden]];
            let numbers: Vec<Vec<f32>> = shapes
                .iter()
                .map(|[rows, columns]| (0..rows * columns).map(|_| rng.random_range(-0.7..0.7)).collect())
                .collect();
            let (limited, reverse, biased) = (rng.random_bool(0.5), rng.random_bool(0.5), rng.random_bool(0.7));
            let weights: Vec<f32> = (0..(steps + 2) * batch * hidden).map(|_| rng.random_range(-1.0..1.0)).collect();
            let weights = Tensor::<3>::from_data(TensorData::new(weights, [steps + 2, batch, hidden]), &device);
            let run = |at_once: bool| -> Vec<Vec<f32>> {
                let leaves: Vec<Tensor<2>> = (0..5)
                    .map(|i| Tensor::from_data(TensorData::new(numbers[i].clone(), shapes[i]), &device).require_grad())
                    .collect();
                let sweep = Sweep {
                    op: &op,
                    activations: &activations,
                    inputs: leaves[0].clone(),
                    recurrent: leaves[1].clone(),
                    reset_bias: (biased && cell == Cell::Gru { reset_after: true }).then(|| leaves[2].clone()),
                    peepholes: None,
                    lengths: limited.then_some(&lengths[..]),
                    steps,
                    batch,
                    reverse,
                };
                let (h, c) = (leaves[3].clone(), leaves[4].clone());
                let (y, h, c) = match at_once {
                    true => sweep.at_once(sweep.as_one().expect("one operator"), h, c),
                    false => sweep.by_step(h, c),
                };
                let all = Tensor::cat(vec![y, h.unsqueeze_dim(0), c.unsqueeze_dim(0)], 0);
                let gradients = (all.clone() * weights.clone()).sum().backward();
                let values = |t: TensorData| t.iter::<f32>().collect::<Vec<f32>>();
                let of_leaves =
                    leaves.iter().map(|leaf| leaf.grad(&gradients).map_or(vec![], |g| values(g.into_data())));
                std::iter::once(values(all.into_data())).chain(of_leaves).collect()
            };
            let (ours, burns) = (run(true), run(false));
            for (which, (ours, burns)) in ours.iter().zip(&burns).enumerate() {
                assert_eq!(ours.len(), burns.len(), "{cell:?}, {which}");
                let scale = burns.iter().fold(1.0f32, |most, x| most.max(x.abs()));
                for (i, (a, b)) in ours.iter().zip(burns).enumerate() {
                    assert!(
                        (a - b).abs() <= 1e-4 * scale,
                        "{cell:?} {steps}x{batch}x{hidden}, {which}[{i}]: {a} against {b}"
                    );
                }
            }
        }
    }
}
