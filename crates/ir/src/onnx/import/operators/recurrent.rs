//! LSTM, GRU and plain recurrent operators.

use super::super::call::Call;
use super::super::fault::{Fault, invalid, unsupported};
use super::super::plan::Plan;
use crate::graph::{Activation, Cell, Dim, Direction, Op, Recurrent};

pub fn convert(call: &Call) -> Result<Option<Plan>, Fault> {
    let plan = match call.proto.op_type.as_str() {
        "RNN" | "LSTM" | "GRU" => recurrent(call),
        _ => return Ok(None),
    };
    plan.map(Some)
}

fn recurrent(call: &Call) -> Result<Plan, Fault> {
    let cell = match call.proto.op_type.as_str() {
        "RNN" => Cell::Rnn,
        "LSTM" => Cell::Lstm,
        _ => Cell::Gru { reset_after: call.flag("linear_before_reset") },
    };
    let direction = match call.text("direction", "forward").as_str() {
        "forward" => Direction::Forward,
        "reverse" => Direction::Reverse,
        "bidirectional" => Direction::Both,
        other => return invalid(format!("direction '{other}'")),
    };
    let (x, w, r) = (call.shape(0)?, call.shape(1)?, call.shape(2)?);
    let [Dim::Fixed(count), Dim::Fixed(rows), Dim::Fixed(hidden)] = r[..] else {
        return unsupported("its recurrent weights have no fixed extents");
    };
    let [_, _, width] = x[..] else { return invalid(format!("wants a sequence of vectors, has rank {}", x.len())) };
    if count != direction.count() || rows != cell.gates() * hidden || w != [Dim::Fixed(count), Dim::Fixed(rows), width]
    {
        return invalid("its weights do not fit together");
    }
    let batch_first = call.flag("layout");
    if call.operand(7).is_some() && cell != Cell::Lstm {
        return invalid("only an LSTM has peepholes");
    }
    let clip = call.attribute("clip").and_then(|a| a.f);
    let activations = activations(call, cell, count)?;
    let coupled = cell == Cell::Lstm && call.flag("input_forget");
    let op = Recurrent { cell, hidden, direction, activations, clip, coupled, batch_first };
    // What says no more than the default is left out: states of zeros, and lengths that are those of the sequence.
    let steps = x[usize::from(batch_first)];
    let idle = |i: usize| match (i, call.tensor(i)) {
        (5 | 6, Some(state)) => state.to_f32().iter().all(|&v| v == 0.0),
        (4, Some(lengths)) => lengths.to_f32().iter().all(|&n| steps == Dim::Fixed(n as usize)),
        _ => false,
    };
    let operands = (0..call.proto.input.len()).map(|i| if idle(i) { usize::MAX } else { i }).collect();
    Ok(Plan { operands, ops: vec![Op::Recurrent(op)] })
}

/// The activations of every direction; parameters are taken from the lists in turn by those that have any.
fn activations(call: &Call, cell: Cell, directions: usize) -> Result<Vec<Activation>, Fault> {
    let per_direction = match cell {
        Cell::Rnn => 1,
        Cell::Gru { .. } => 2,
        Cell::Lstm => 3,
    };
    let names: Vec<String> = match call.attribute("activations").filter(|a| !a.strings.is_empty()) {
        Some(a) => a.strings.iter().map(|s| String::from_utf8_lossy(s).to_ascii_lowercase()).collect(),
        None => {
            let usual: &[&str] = if cell == Cell::Rnn { &["tanh"] } else { &["sigmoid", "tanh", "tanh"] };
            let one = usual.iter().take(per_direction).map(|s| s.to_string());
            one.cycle().take(per_direction * directions).collect()
        }
    };
    if names.len() != per_direction * directions {
        return invalid(format!("{} activations, expected {}", names.len(), per_direction * directions));
    }
    let list = |name: &str| call.attribute(name).map(|a| a.floats.clone()).unwrap_or_default().into_iter();
    let (mut alphas, mut betas) = (list("activation_alpha"), list("activation_beta"));
    let mut alpha = |default: f32| alphas.next().unwrap_or(default);
    let mut beta = |default: f32| betas.next().unwrap_or(default);
    names
        .iter()
        .map(|name| {
            Ok(match name.as_str() {
                "sigmoid" => Activation::Sigmoid,
                "tanh" => Activation::Tanh,
                "relu" => Activation::Relu,
                "hardsigmoid" => Activation::HardSigmoid { alpha: alpha(0.2), beta: beta(0.5) },
                "leakyrelu" => Activation::LeakyRelu { alpha: alpha(0.01) },
                "thresholdedrelu" => Activation::ThresholdedRelu { alpha: alpha(1.0) },
                "elu" => Activation::Elu { alpha: alpha(1.0) },
                "affine" => Activation::Affine { alpha: alpha(1.0), beta: beta(0.0) },
                "scaledtanh" => Activation::ScaledTanh { alpha: alpha(1.0), beta: beta(1.0) },
                "softsign" => Activation::Softsign,
                "softplus" => Activation::Softplus,
                other => return unsupported(format!("an activation '{other}'")),
            })
        })
        .collect()
}
