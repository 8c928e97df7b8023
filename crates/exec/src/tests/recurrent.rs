use super::*;
use burn::tensor::Device;
use kdc_ir::graph::{Activation, Cell, Direction, Recurrent};

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The definition, one sequence, one direction, one number at a time (ONNX specification): all steps, state, cell.
struct Naive<'a> {
    cell: Cell,
    hidden: usize,
    w: &'a [f32],
    r: &'a [f32],
    bias: &'a [f32],
    peepholes: Option<&'a [f32]>,
}

impl Naive<'_> {
    /// `W · x + R · h + both biases` of one row; with `r_only` the recurrent part alone.
    fn row(&self, row: usize, x: &[f64], h: &[f64], parts: (bool, bool)) -> f64 {
        let rows = self.cell.gates() * self.hidden;
        let dot = |m: &[f32], v: &[f64]| -> f64 {
            m[row * v.len()..][..v.len()].iter().zip(v).map(|(a, b)| f64::from(*a) * b).sum()
        };
        let input = dot(self.w, x) + f64::from(self.bias[row]);
        let state = dot(self.r, h) + f64::from(self.bias[rows + row]);
        f64::from(u8::from(parts.0)) * input + f64::from(u8::from(parts.1)) * state
    }

    fn step(&self, x: &[f64], h: &mut [f64], c: &mut [f64]) {
        let n = self.hidden;
        let both = (true, true);
        let old = h.to_vec();
        for j in 0..n {
            let gate = |g: usize| self.row(g * n + j, x, &old, both);
            match self.cell {
                Cell::Rnn => h[j] = gate(0).tanh(),
                Cell::Lstm => {
                    let peep = |which: usize, c: f64| self.peepholes.map_or(0.0, |p| f64::from(p[which * n + j]) * c);
                    let (i, f) = (sigmoid(gate(0) + peep(0, c[j])), sigmoid(gate(2) + peep(2, c[j])));
                    c[j] = f * c[j] + i * gate(3).tanh();
                    h[j] = sigmoid(gate(1) + peep(1, c[j])) * c[j].tanh();
                }
                Cell::Gru { reset_after } => {
                    let z = sigmoid(gate(0));
                    let candidate = if reset_after {
                        let r = sigmoid(gate(1));
                        self.row(2 * n + j, x, &old, (true, false)) + r * self.row(2 * n + j, x, &old, (false, true))
                    } else {
                        let reset: Vec<f64> =
                            (0..n).map(|k| sigmoid(self.row(n + k, x, &old, both)) * old[k]).collect();
                        self.row(2 * n + j, x, &reset, both)
                    };
                    h[j] = (1.0 - z) * candidate.tanh() + z * old[j];
                }
            }
        }
    }
}

#[test]
fn sequences_of_different_length_in_both_directions() {
    let (steps, batch, width, hidden) = (4, 3, 2, 3);
    let lengths = [4i64, 2, 3];
    for (cell, batch_first) in [
        (Cell::Rnn, false),
        (Cell::Lstm, false),
        (Cell::Lstm, true),
        (Cell::Gru { reset_after: false }, false),
        (Cell::Gru { reset_after: true }, true),
    ] {
        let rows = cell.gates() * hidden;
        let lstm = cell == Cell::Lstm;
        let own = match cell {
            Cell::Rnn => vec![Activation::Tanh],
            Cell::Gru { .. } => vec![Activation::Sigmoid, Activation::Tanh],
            Cell::Lstm => vec![Activation::Sigmoid, Activation::Tanh, Activation::Tanh],
        };
        let op = Recurrent {
            cell,
            hidden,
            direction: Direction::Both,
            activations: [own.clone(), own].concat(),
            clip: None,
            coupled: false,
            batch_first,
        };
        let x = floats(&if batch_first { [batch, steps, width] } else { [steps, batch, width] }, -1.0, 1.0, 1);
        let mut operands = vec![
            x.clone(),
            floats(&[2, rows, width], -1.0, 1.0, 2),
            floats(&[2, rows, hidden], -1.0, 1.0, 3),
            floats(&[2, 2 * rows], -1.0, 1.0, 4),
            integers(&[batch], &lengths),
            floats(&if batch_first { [batch, 2, hidden] } else { [2, batch, hidden] }, -1.0, 1.0, 5),
        ];
        if lstm {
            operands.push(floats(&if batch_first { [batch, 2, hidden] } else { [2, batch, hidden] }, -1.0, 1.0, 6));
            operands.push(floats(&[2, 3 * hidden], -1.0, 1.0, 7));
        }
        let network = Network::new(&one_node(Op::Recurrent(op), &operands, false), &Device::flex()).unwrap();
        let inputs: Vec<Datum> = operands.iter().cloned().map(Datum::from).collect();
        let outputs = network.forward(inputs, &[], Mode::Infer).unwrap().outputs;
        let outputs: Vec<Vec<f32>> = outputs.iter().map(|o| o.to_host().unwrap().to_f32().into_owned()).collect();

        let floats_of = |i: usize| operands[i].to_f32().into_owned();
        let (xs, ws, rs, bs, hs) = (floats_of(0), floats_of(1), floats_of(2), floats_of(3), floats_of(5));
        let (cs, ps) = if lstm { (floats_of(6), floats_of(7)) } else { (vec![0.0; hs.len()], vec![]) };
        for d in 0..2 {
            let part = |v: &'_ [f32]| v.len() / 2;
            let naive = Naive {
                cell,
                hidden,
                w: &ws[d * part(&ws)..][..part(&ws)],
                r: &rs[d * part(&rs)..][..part(&rs)],
                bias: &bs[d * part(&bs)..][..part(&bs)],
                peepholes: lstm.then(|| &ps[d * part(&ps)..][..part(&ps)]),
            };
            for b in 0..batch {
                let state = |v: &[f32], j: usize| {
                    f64::from(v[if batch_first { (b * 2 + d) * hidden + j } else { (d * batch + b) * hidden + j }])
                };
                let mut h: Vec<f64> = (0..hidden).map(|j| state(&hs, j)).collect();
                let mut c: Vec<f64> = (0..hidden).map(|j| state(&cs, j)).collect();
                let length = lengths[b] as usize;
                let near = |got: f32, want: f64, what: &str| {
                    assert!((f64::from(got) - want).abs() < 1e-5, "{cell:?}, {what}: {got} against {want}");
                };
                let y_at = |t: usize, j: usize| {
                    outputs[0][if batch_first {
                        ((b * steps + t) * 2 + d) * hidden + j
                    } else {
                        ((t * 2 + d) * batch + b) * hidden + j
                    }]
                };
                for i in 0..length {
                    let t = if d == 1 { length - 1 - i } else { i };
                    let from = if batch_first { b * steps + t } else { t * batch + b };
                    let x: Vec<f64> = xs[from * width..][..width].iter().map(|&v| v.into()).collect();
                    naive.step(&x, &mut h, &mut c);
                    (0..hidden).for_each(|j| near(y_at(t, j), h[j], "step"));
                }
                (length..steps).for_each(|t| (0..hidden).for_each(|j| near(y_at(t, j), 0.0, "after the end")));
                for j in 0..hidden {
                    near(state(&outputs[1], j) as f32, h[j], "last state");
                    if lstm {
                        near(state(&outputs[2], j) as f32, c[j], "last cell");
                    }
                }
            }
        }
    }
}

#[test]
fn operands_that_do_not_fit_are_errors_that_name_the_node() {
    let op = Recurrent {
        cell: Cell::Lstm,
        hidden: 3,
        direction: Direction::Forward,
        activations: vec![Activation::Sigmoid, Activation::Tanh, Activation::Tanh],
        clip: None,
        coupled: false,
        batch_first: false,
    };
    let right = [
        floats(&[4, 2, 5], -1.0, 1.0, 1),
        floats(&[1, 12, 5], -1.0, 1.0, 2),
        floats(&[1, 12, 3], -1.0, 1.0, 3),
        floats(&[1, 24], -1.0, 1.0, 4),
        integers(&[2], &[4, 1]),
        floats(&[1, 2, 3], -1.0, 1.0, 5),
        floats(&[1, 2, 3], -1.0, 1.0, 6),
    ];
    let run = |operands: &[HostTensor]| {
        let graph = one_node(Op::Recurrent(op.clone()), operands, false);
        let network = Network::new(&graph, &Device::flex())?;
        let inputs: Vec<Datum> = operands.iter().cloned().map(Datum::from).collect();
        network.forward(inputs, &[], Mode::Infer).map(|_| ())
    };
    run(&right).unwrap();
    let wrong = [
        (1, floats(&[1, 12, 4], -1.0, 1.0, 2), "input weights"),
        (2, floats(&[1, 9, 3], -1.0, 1.0, 3), "recurrent weights"),
        (3, floats(&[1, 12], -1.0, 1.0, 4), "bias"),
        (4, integers(&[1], &[4]), "lengths"),
        (5, floats(&[1, 1, 3], -1.0, 1.0, 5), "first state"),
        (6, floats(&[1, 2, 4], -1.0, 1.0, 6), "first cell"),
    ];
    for (index, operand, what) in wrong {
        let mut operands = right.to_vec();
        operands[index] = operand;
        let message = run(&operands).unwrap_err().to_string();
        assert!(message.contains(what), "{what}: {message}");
    }
}
