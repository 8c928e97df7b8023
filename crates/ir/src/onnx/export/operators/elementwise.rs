//! Functions of elements.

use super::super::super::proto::AttributeProto;
use super::super::super::tensor::dtype_code;
use super::super::attributes::{Context, Encoded, attributes, float, int, text};
use crate::graph::{Binary, Op, Unary};

pub fn encode(op: &Op, context: Context) -> Option<Encoded> {
    Some(match op {
        Op::Clip { min, max } => {
            let bound = |x: f32| if x.is_finite() { context.number(x) } else { None };
            let mut constants = vec![("min", bound(*min)), ("max", bound(*max))];
            while constants.last().is_some_and(|(_, t)| t.is_none()) {
                constants.pop();
            }
            (vec![], constants)
        }
        Op::LeakyRelu { alpha } => attributes(vec![float("alpha", *alpha)]),
        Op::HardSigmoid { alpha, beta } => attributes(vec![float("alpha", *alpha), float("beta", *beta)]),
        Op::Cast { to } => attributes(vec![int("to", dtype_code(*to).into())]),
        Op::Unary(unary) => attributes(of_unary(*unary)),
        Op::Binary(Binary::Mod { fmod }) => attributes(vec![int("fmod", (*fmod).into())]),
        Op::Binary(Binary::BitShift { left }) => {
            attributes(vec![text("direction", if *left { "LEFT" } else { "RIGHT" })])
        }
        _ => return None,
    })
}

fn of_unary(unary: Unary) -> Vec<AttributeProto> {
    match unary {
        Unary::Elu { alpha } | Unary::Celu { alpha } | Unary::ThresholdedRelu { alpha } => vec![float("alpha", alpha)],
        Unary::Selu { alpha, gamma } => vec![float("alpha", alpha), float("gamma", gamma)],
        Unary::Gelu { tanh } => vec![text("approximate", if tanh { "tanh" } else { "none" })],
        Unary::Shrink { lambda, bias } => vec![float("lambd", lambda), float("bias", bias)],
        Unary::IsInf { negative, positive } => {
            vec![int("detect_negative", negative.into()), int("detect_positive", positive.into())]
        }
        _ => vec![],
    }
}
