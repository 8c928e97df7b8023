//! LSTM, GRU and plain recurrent operators.

use super::super::super::proto::{AttributeProto, attribute_type};
use super::super::attributes::{Context, Encoded, attributes, float, int, text};
use crate::graph::{Activation, Cell, Direction, Op, Recurrent};
use bytes::Bytes;

pub fn encode(op: &Op, _: Context) -> Option<Encoded> {
    Some(match op {
        Op::Recurrent(recurrent) => attributes(of_recurrent(recurrent)),
        _ => return None,
    })
}

fn of_recurrent(recurrent: &Recurrent) -> Vec<AttributeProto> {
    let direction = match recurrent.direction {
        Direction::Forward => "forward",
        Direction::Reverse => "reverse",
        Direction::Both => "bidirectional",
    };
    let mut attributes = vec![int("hidden_size", recurrent.hidden as i64), text("direction", direction)];
    let (mut names, mut alphas, mut betas) = (vec![], vec![], vec![]);
    for activation in &recurrent.activations {
        let (name, alpha, beta) = named(*activation);
        names.push(Bytes::from_static(name.as_bytes()));
        alphas.extend(alpha);
        betas.extend(beta);
    }
    attributes.push(AttributeProto {
        name: "activations".into(),
        r#type: attribute_type::STRINGS,
        strings: names,
        ..Default::default()
    });
    for (name, floats) in [("activation_alpha", alphas), ("activation_beta", betas)] {
        if !floats.is_empty() {
            attributes.push(AttributeProto {
                name: name.into(),
                r#type: attribute_type::FLOATS,
                floats,
                ..Default::default()
            });
        }
    }
    attributes.extend(recurrent.clip.map(|clip| float("clip", clip)));
    if let Cell::Gru { reset_after: true } = recurrent.cell {
        attributes.push(int("linear_before_reset", 1));
    }
    if recurrent.coupled {
        attributes.push(int("input_forget", 1));
    }
    if recurrent.batch_first {
        attributes.push(int("layout", 1));
    }
    attributes
}

/// The name of an activation, and what it takes of the lists of parameters.
fn named(activation: Activation) -> (&'static str, Option<f32>, Option<f32>) {
    match activation {
        Activation::Sigmoid => ("Sigmoid", None, None),
        Activation::Tanh => ("Tanh", None, None),
        Activation::Relu => ("Relu", None, None),
        Activation::HardSigmoid { alpha, beta } => ("HardSigmoid", Some(alpha), Some(beta)),
        Activation::LeakyRelu { alpha } => ("LeakyRelu", Some(alpha), None),
        Activation::ThresholdedRelu { alpha } => ("ThresholdedRelu", Some(alpha), None),
        Activation::Elu { alpha } => ("Elu", Some(alpha), None),
        Activation::Affine { alpha, beta } => ("Affine", Some(alpha), Some(beta)),
        Activation::ScaledTanh { alpha, beta } => ("ScaledTanh", Some(alpha), Some(beta)),
        Activation::Softsign => ("Softsign", None, None),
        Activation::Softplus => ("Softplus", None, None),
    }
}
