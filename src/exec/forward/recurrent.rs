//! Recurrent operators, step by step through time; burn's autodiff goes back through all of them.

use super::{Datum, Error, Pass, Value};
use crate::graph::{Activation, Cell, Direction, Recurrent};
use crate::host::Numbers;
use burn::tensor::{Tensor, TensorData, activation};

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
        let device = x.device();
        let flat = x.reshape([steps * batch, width]);
        let (mut all, mut states, mut cells) = (vec![], vec![], vec![]);
        for d in 0..directions {
            let of = |t: &Tensor<3>| t.clone().narrow(0, d, 1).squeeze_dim::<2>(0);
            let rows = op.cell.gates() * hidden;
            let biases = bias.as_ref().map(|b| b.clone().narrow(0, d, 1));
            let pass = Sweep {
                op,
                activations: &op.activations[d * op.activations.len() / directions..],
                inputs: flat.clone().matmul(of(&w).transpose()),
                recurrent: of(&r).transpose(),
                input_bias: biases.as_ref().map(|b| b.clone().narrow(1, 0, rows)),
                recurrent_bias: biases.map(|b| b.narrow(1, rows, rows)),
                peepholes: peepholes.as_ref().map(|p| p.clone().narrow(0, d, 1)),
                active: lengths.as_ref().map(|l| {
                    let one = |t: usize| l.iter().map(move |&n| if (t as i64) < n { 1.0f32 } else { 0.0 });
                    let mask: Vec<f32> = (0..steps).flat_map(one).collect();
                    Tensor::<3>::from_data(TensorData::new(mask, [steps, batch, 1]), &device)
                }),
                steps,
                batch,
                reverse: op.direction == Direction::Reverse || d == 1,
            };
            let zeros = || Tensor::<2>::zeros([batch, hidden], &device);
            let first = |given: &Option<Tensor<3>>| given.as_ref().map_or_else(zeros, of);
            let (y, h, c) = pass.run(first(&h0), first(&c0));
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
    /// `[steps · batch, gates · hidden]`: the sequence times the input weights.
    inputs: Tensor<2>,
    /// `[hidden, gates · hidden]`
    recurrent: Tensor<2>,
    /// `[1, gates · hidden]`
    input_bias: Option<Tensor<2>>,
    recurrent_bias: Option<Tensor<2>>,
    /// `[1, 3 · hidden]`: of the gates i, o, f.
    peepholes: Option<Tensor<2>>,
    /// `[steps, batch, 1]`: 1 where a sequence still goes on.
    active: Option<Tensor<3>>,
    steps: usize,
    batch: usize,
    reverse: bool,
}

impl Sweep<'_> {
    /// `[steps, batch, hidden]`, the last state, the last cell.
    fn run(&self, mut h: Tensor<2>, mut c: Tensor<2>) -> (Tensor<3>, Tensor<2>, Tensor<2>) {
        let mut outputs: Vec<Option<Tensor<3>>> = vec![None; self.steps];
        for i in 0..self.steps {
            let t = if self.reverse { self.steps - 1 - i } else { i };
            let x = self.inputs.clone().narrow(0, t * self.batch, self.batch);
            let x = self.input_bias.as_ref().map_or(x.clone(), |b| x + b.clone());
            let (new_h, new_c) = match self.op.cell {
                Cell::Rnn => (self.activate(0, x + self.product(&h)), c.clone()),
                Cell::Lstm => self.lstm(x, &h, &c),
                Cell::Gru { reset_after } => (self.gru(x, &h, reset_after), c.clone()),
            };
            let mut output = new_h.clone();
            (h, c) = match &self.active {
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

    /// The state times the recurrent weights, with their bias.
    fn product(&self, h: &Tensor<2>) -> Tensor<2> {
        let product = h.clone().matmul(self.recurrent.clone());
        self.recurrent_bias.as_ref().map_or(product.clone(), |b| product + b.clone())
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
            reset * self.gate(&product, 2)
        } else {
            let again = (reset * h.clone()).matmul(self.gate(&self.recurrent, 2));
            self.recurrent_bias.as_ref().map_or(again.clone(), |b| again + self.gate(b, 2))
        };
        let candidate = self.activate(1, self.gate(&x, 2) + candidate);
        candidate.clone() + update * (h.clone() - candidate)
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
