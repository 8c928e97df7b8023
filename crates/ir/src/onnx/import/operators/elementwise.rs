//! Functions of elements, and what leaves them as they are.

use super::super::super::tensor;
use super::super::call::Call;
use super::super::fault::{Fault, invalid, unsupported};
use super::super::plan::Plan;
use crate::graph::{Binary, Op, Unary, Unread, Variadic};

pub fn convert(call: &Call) -> Result<Option<Plan>, Fault> {
    let name = call.proto.op_type.as_str();
    if let Some(function) = unary_function(call, name) {
        return Plan::new(0..1, Op::Unary(function)).map(Some);
    }
    if let Some(function) = binary_function(call, name) {
        return Plan::new(0..2, Op::Binary(function)).map(Some);
    }
    let unary = |op| Plan::new(0..1, op);
    let binary = |op| Plan::new(0..2, op);
    let every = |op| Plan::new(0..call.proto.input.len(), op);
    let plan = match name {
        "Relu" => unary(Op::Relu),
        "Clip" => clip(call),
        "LeakyRelu" => unary(Op::LeakyRelu { alpha: call.float("alpha", 0.01) }),
        "Sigmoid" => unary(Op::Sigmoid),
        "Tanh" => unary(Op::Tanh),
        "HardSwish" => unary(Op::HardSwish),
        "HardSigmoid" => unary(Op::HardSigmoid { alpha: call.float("alpha", 0.2), beta: call.float("beta", 0.5) }),
        "Add" => binary(Op::Add),
        "Sub" => binary(Op::Sub),
        "Mul" => binary(Op::Mul),
        "Div" => binary(Op::Div),
        "Max" => every(Op::Variadic(Variadic::Max)),
        "Min" => every(Op::Variadic(Variadic::Min)),
        "Sum" => every(Op::Variadic(Variadic::Sum)),
        "Mean" => every(Op::Variadic(Variadic::Mean)),
        "Where" => Plan::new(0..3, Op::Where),
        "Dropout" if call.drops()? => unsupported(Unread::Training),
        "Dropout" => unary(Op::Dropout),
        "Identity" => unary(Op::Identity),
        "Cast" => unary(Op::Cast { to: call.dtype_attribute("to")? }),
        "CastLike" => {
            let code = call.stated_type(1).unwrap_or(tensor::dtype_code(call.dtype(1)?));
            // Of what follows an unknown operator, the type is not known either.
            call.shape(1)?;
            unary(Op::Cast { to: Call::dtype_of(code)? })
        }
        _ => return Ok(None),
    };
    plan.map(Some)
}

fn clip(call: &Call) -> Result<Plan, Fault> {
    let (min, max) = match call.opset < 11 {
        true => (call.float("min", f32::MIN), call.float("max", f32::MAX)),
        false => (call.scalar(1, "min", f32::MIN)?, call.scalar(2, "max", f32::MAX)?),
    };
    // The widest finite bounds are how files say "none".
    let min = if min <= f32::MIN { f32::NEG_INFINITY } else { min };
    let max = if max >= f32::MAX { f32::INFINITY } else { max };
    if min.is_nan() || max.is_nan() {
        return invalid(format!("clips to {min}..{max}"));
    }
    // Where the bounds cross, everything becomes the upper one (ONNX's operator 13 says so).
    Plan::new(0..1, Op::Clip { min: min.min(max), max })
}

fn unary_function(call: &Call, name: &str) -> Option<Unary> {
    Some(match name {
        "Abs" => Unary::Abs,
        "Neg" => Unary::Neg,
        "Exp" => Unary::Exp,
        "Log" => Unary::Log,
        "Sqrt" => Unary::Sqrt,
        "Reciprocal" => Unary::Reciprocal,
        "Erf" => Unary::Erf,
        "Sin" => Unary::Sin,
        "Cos" => Unary::Cos,
        "Tan" => Unary::Tan,
        "Asin" => Unary::Asin,
        "Acos" => Unary::Acos,
        "Atan" => Unary::Atan,
        "Sinh" => Unary::Sinh,
        "Cosh" => Unary::Cosh,
        "Asinh" => Unary::Asinh,
        "Acosh" => Unary::Acosh,
        "Atanh" => Unary::Atanh,
        "Floor" => Unary::Floor,
        "Ceil" => Unary::Ceil,
        "Round" => Unary::Round,
        "Sign" => Unary::Sign,
        "Softplus" => Unary::Softplus,
        "Softsign" => Unary::Softsign,
        "Elu" => Unary::Elu { alpha: call.float("alpha", 1.0) },
        "Celu" => Unary::Celu { alpha: call.float("alpha", 1.0) },
        "Selu" => Unary::Selu { alpha: call.float("alpha", 1.673_263_2), gamma: call.float("gamma", 1.050_701) },
        "Gelu" => Unary::Gelu { tanh: call.text("approximate", "none") == "tanh" },
        "Mish" => Unary::Mish,
        "ThresholdedRelu" => Unary::ThresholdedRelu { alpha: call.float("alpha", 1.0) },
        "Shrink" => Unary::Shrink { lambda: call.float("lambd", 0.5), bias: call.float("bias", 0.0) },
        "Not" => Unary::Not,
        "BitwiseNot" => Unary::BitwiseNot,
        "IsNaN" => Unary::IsNan,
        "IsInf" => Unary::IsInf {
            negative: call.int("detect_negative", 1) != 0,
            positive: call.int("detect_positive", 1) != 0,
        },
        _ => return None,
    })
}

fn binary_function(call: &Call, name: &str) -> Option<Binary> {
    Some(match name {
        "Pow" => Binary::Pow,
        "Mod" => Binary::Mod { fmod: call.flag("fmod") },
        "PRelu" => Binary::PRelu,
        "Equal" => Binary::Equal,
        "Greater" => Binary::Greater,
        "GreaterOrEqual" => Binary::GreaterOrEqual,
        "Less" => Binary::Less,
        "LessOrEqual" => Binary::LessOrEqual,
        "And" => Binary::And,
        "Or" => Binary::Or,
        "Xor" => Binary::Xor,
        "BitwiseAnd" => Binary::BitwiseAnd,
        "BitwiseOr" => Binary::BitwiseOr,
        "BitwiseXor" => Binary::BitwiseXor,
        "BitShift" => Binary::BitShift { left: call.text("direction", "") == "LEFT" },
        _ => return None,
    })
}
