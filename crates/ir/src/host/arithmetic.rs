//! Functions of elements.

use super::Numbers;
use crate::graph::{Binary, DType, Op, Tensor, Unary, Variadic};

/// Applies a function to every element.
pub fn map(x: Numbers, real: impl Fn(f64) -> f64, whole: impl Fn(i64) -> i64) -> Numbers {
    match x {
        Numbers::Real(v) => Numbers::Real(v.into_iter().map(real).collect()),
        Numbers::Whole(v) => Numbers::Whole(v.into_iter().map(whole).collect()),
    }
}

/// Applies a function to every pair of elements; integers only where both are.
fn zip(a: Numbers, b: Numbers, real: impl Fn(f64, f64) -> f64, whole: impl Fn(i64, i64) -> i64) -> Numbers {
    match (a, b) {
        (Numbers::Whole(a), Numbers::Whole(b)) => {
            Numbers::Whole(a.into_iter().zip(b).map(|(a, b)| whole(a, b)).collect())
        }
        (a, b) => Numbers::Real(a.real().into_iter().zip(b.real()).map(|(a, b)| real(a, b)).collect()),
    }
}

fn compare(a: Numbers, b: Numbers, real: impl Fn(f64, f64) -> bool, whole: impl Fn(i64, i64) -> bool) -> Numbers {
    match (a, b) {
        (Numbers::Whole(a), Numbers::Whole(b)) => {
            Numbers::Whole(a.into_iter().zip(b).map(|(a, b)| whole(a, b).into()).collect())
        }
        (a, b) => Numbers::Whole(a.real().into_iter().zip(b.real()).map(|(a, b)| real(a, b).into()).collect()),
    }
}

/// A function of one number, in `f64`.
pub fn real(unary: Unary, x: f64) -> f64 {
    let f = f64::from;
    match unary {
        Unary::Abs => x.abs(),
        Unary::Neg => -x,
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Sqrt => x.sqrt(),
        Unary::Reciprocal => 1.0 / x,
        Unary::Erf => libm::erf(x),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Tan => x.tan(),
        Unary::Asin => x.asin(),
        Unary::Acos => x.acos(),
        Unary::Atan => x.atan(),
        Unary::Sinh => x.sinh(),
        Unary::Cosh => x.cosh(),
        Unary::Asinh => x.asinh(),
        Unary::Acosh => x.acosh(),
        Unary::Atanh => x.atanh(),
        Unary::Floor => x.floor(),
        Unary::Ceil => x.ceil(),
        Unary::Round => x.round_ties_even(),
        Unary::Sign if x.is_nan() || x == 0.0 => x,
        Unary::Sign => x.signum(),
        Unary::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        Unary::Softsign => x / (1.0 + x.abs()),
        Unary::Elu { alpha } if x < 0.0 => f(alpha) * x.exp_m1(),
        Unary::Elu { .. } => x,
        Unary::Celu { alpha } => x.max(0.0) + (f(alpha) * (x / f(alpha)).exp_m1()).min(0.0),
        Unary::Selu { alpha, gamma } => f(gamma) * if x > 0.0 { x } else { f(alpha) * x.exp_m1() },
        Unary::Gelu { tanh: false } => 0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2)),
        Unary::Gelu { tanh: true } => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }
        Unary::Mish => x * (x.max(0.0) + (-x.abs()).exp().ln_1p()).tanh(),
        Unary::ThresholdedRelu { alpha } => {
            if x > f(alpha) {
                x
            } else {
                0.0
            }
        }
        Unary::Shrink { lambda, bias } if x < -f(lambda) => x + f(bias),
        Unary::Shrink { lambda, bias } if x > f(lambda) => x - f(bias),
        Unary::Shrink { .. } => 0.0,
        Unary::Not => f64::from(x == 0.0),
        Unary::BitwiseNot => !(x as i64) as f64,
        Unary::IsNan => f64::from(x.is_nan()),
        Unary::IsInf { negative, positive } => {
            f64::from((negative && x == f64::NEG_INFINITY) || (positive && x == f64::INFINITY))
        }
    }
}

/// A function of every element.
pub fn unary(unary: Unary, x: Numbers) -> Result<Numbers, String> {
    Ok(match x {
        Numbers::Whole(v) => Numbers::Whole(match unary {
            Unary::Abs => v.into_iter().map(i64::wrapping_abs).collect(),
            Unary::Neg => v.into_iter().map(i64::wrapping_neg).collect(),
            Unary::Sign => v.into_iter().map(i64::signum).collect(),
            Unary::Not => v.into_iter().map(|x| (x == 0).into()).collect(),
            Unary::BitwiseNot => v.into_iter().map(|x| !x).collect(),
            Unary::Floor | Unary::Ceil | Unary::Round => v,
            Unary::IsNan | Unary::IsInf { .. } => vec![0; v.len()],
            other => v.into_iter().map(|x| real(other, x as f64) as i64).collect(),
        }),
        Numbers::Real(v) => Numbers::Real(v.into_iter().map(|x| real(unary, x)).collect()),
    })
}

/// Addition, subtraction, multiplication, division.
pub fn basic(op: &Op, a: Numbers, b: Numbers) -> Result<Numbers, String> {
    Ok(match op {
        Op::Add => zip(a, b, |a, b| a + b, i64::wrapping_add),
        Op::Sub => zip(a, b, |a, b| a - b, i64::wrapping_sub),
        Op::Mul => zip(a, b, |a, b| a * b, i64::wrapping_mul),
        Op::Div => {
            if let (Numbers::Whole(_), Numbers::Whole(by)) = (&a, &b)
                && by.contains(&0)
            {
                return Err("integers are divided by zero".into());
            }
            zip(a, b, |a, b| a / b, i64::wrapping_div)
        }
        _ => return Err("it is no sum or product".into()),
    })
}

/// A function of every pair of elements.
pub fn binary(binary: Binary, a: Numbers, b: Numbers) -> Result<Numbers, String> {
    let truth = |a: i64| a != 0;
    Ok(match binary {
        Binary::Pow => match (a, b) {
            (Numbers::Whole(a), Numbers::Whole(b)) => {
                let power = |(a, b): (i64, i64)| match u32::try_from(b) {
                    Ok(b) => a.wrapping_pow(b),
                    Err(_) => (a as f64).powf(b as f64) as i64,
                };
                Numbers::Whole(a.into_iter().zip(b).map(power).collect())
            }
            (a, b) => zip(a, b, f64::powf, |a, _| a),
        },
        Binary::Mod { fmod } => {
            if let (Numbers::Whole(_), Numbers::Whole(by)) = (&a, &b)
                && by.contains(&0)
            {
                return Err("integers are divided by zero".into());
            }
            let floored = |a: f64, b: f64| a - b * (a / b).floor();
            let whole = move |a: i64, b: i64| {
                let rest = a.wrapping_rem(b);
                if !fmod && rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest }
            };
            zip(a, b, move |a, b| if fmod { a % b } else { floored(a, b) }, whole)
        }
        Binary::PRelu => zip(
            a,
            b,
            |x, slope| if x < 0.0 { x * slope } else { x },
            |x, slope| if x < 0 { x.wrapping_mul(slope) } else { x },
        ),
        Binary::Equal => compare(a, b, |a, b| a == b, |a, b| a == b),
        Binary::Greater => compare(a, b, |a, b| a > b, |a, b| a > b),
        Binary::GreaterOrEqual => compare(a, b, |a, b| a >= b, |a, b| a >= b),
        Binary::Less => compare(a, b, |a, b| a < b, |a, b| a < b),
        Binary::LessOrEqual => compare(a, b, |a, b| a <= b, |a, b| a <= b),
        Binary::And => compare(a, b, |a, b| a != 0.0 && b != 0.0, |a, b| truth(a) && truth(b)),
        Binary::Or => compare(a, b, |a, b| a != 0.0 || b != 0.0, |a, b| truth(a) || truth(b)),
        Binary::Xor => compare(a, b, |a, b| (a != 0.0) != (b != 0.0), |a, b| truth(a) != truth(b)),
        Binary::BitwiseAnd => zip(a, b, |a, _| a, |a, b| a & b),
        Binary::BitwiseOr => zip(a, b, |a, _| a, |a, b| a | b),
        Binary::BitwiseXor => zip(a, b, |a, _| a, |a, b| a ^ b),
        Binary::BitShift { left } => zip(
            a,
            b,
            |a, _| a,
            move |a, b| {
                let by = b.clamp(0, 63) as u32;
                if left { a.wrapping_shl(by) } else { ((a as u64) >> by) as i64 }
            },
        ),
    })
}

/// A function of any number of operands.
pub fn variadic(variadic: Variadic, operands: Vec<Numbers>) -> Result<Numbers, String> {
    let count = operands.len() as f64;
    // NaN wins, as ONNX Runtime and numpy have it.
    let larger = |a: f64, b: f64| if a > b || a.is_nan() { a } else { b };
    let smaller = |a: f64, b: f64| if a < b || a.is_nan() { a } else { b };
    let all = operands.into_iter().reduce(|a, b| match variadic {
        Variadic::Max => zip(a, b, larger, i64::max),
        Variadic::Min => zip(a, b, smaller, i64::min),
        Variadic::Sum | Variadic::Mean => zip(a, b, |a, b| a + b, i64::wrapping_add),
    });
    let all = all.ok_or("it has no operand")?;
    Ok(if variadic == Variadic::Mean {
        Numbers::Real(all.real().into_iter().map(|x| x / count).collect())
    } else {
        all
    })
}

/// `yes` where chosen is not zero.
pub fn choose(chosen: &[i64], yes: Numbers, no: Numbers) -> Numbers {
    match (yes, no) {
        (Numbers::Whole(yes), Numbers::Whole(no)) => {
            let pairs = chosen.iter().zip(yes.into_iter().zip(no));
            Numbers::Whole(pairs.map(|(&c, (y, n))| if c != 0 { y } else { n }).collect())
        }
        (yes, no) => {
            let pairs = chosen.iter().zip(yes.real().into_iter().zip(no.real()));
            Numbers::Real(pairs.map(|(&c, (y, n))| if c != 0 { y } else { n }).collect())
        }
    }
}

/// Scale and zero point of every element.
fn parameters(
    x: &Tensor,
    scale: &Tensor,
    zero_point: Option<&Tensor>,
    axis: usize,
) -> Result<impl Fn(usize) -> (f64, i64), String> {
    let scales = Numbers::of(scale).real();
    let zeros = zero_point.map_or(Ok(vec![0; scales.len()]), |z| Numbers::of(z).whole())?;
    let (extent, inner) = match scales.len() {
        1 => (1, 1),
        _ => (*x.shape.get(axis).ok_or("its axis is not there")?, x.shape[axis + 1..].iter().product::<usize>()),
    };
    if scales.len() != extent || zeros.len() != extent {
        return Err(format!("{} scales and {} zero points for {extent}", scales.len(), zeros.len()));
    }
    Ok(move |i: usize| {
        let c = i / inner.max(1) % extent.max(1);
        (scales[c], zeros[c])
    })
}

/// Rounded to the nearest, halves to the even one, and saturated (ONNX QuantizeLinear).
pub fn quantize(
    x: &Tensor,
    scale: &Tensor,
    zero_point: Option<&Tensor>,
    axis: usize,
    to: DType,
) -> Result<Numbers, String> {
    let (low, high) = match to {
        DType::I8 => (-128, 127),
        DType::U8 => (0, 255),
        DType::I16 => (-32_768, 32_767),
        DType::U16 => (0, 65_535),
        DType::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        other => return Err(format!("it quantizes to {other}")),
    };
    let of = parameters(x, scale, zero_point, axis)?;
    let values = x.to_f32();
    let stored = |(i, &v): (usize, &f32)| {
        let (scale, zero) = of(i);
        // In f32, as every engine divides.
        let steps = (v / scale as f32).round_ties_even();
        (steps as i64).saturating_add(zero).clamp(low, high)
    };
    Ok(Numbers::Whole(values.iter().enumerate().map(stored).collect()))
}

/// ONNX DequantizeLinear.
pub fn dequantize(x: &Tensor, scale: &Tensor, zero_point: Option<&Tensor>, axis: usize) -> Result<Numbers, String> {
    let of = parameters(x, scale, zero_point, axis)?;
    let stored = Numbers::of(x).whole()?;
    let real = |(i, v): (usize, i64)| {
        let (scale, zero) = of(i);
        (v - zero) as f64 * scale
    };
    Ok(Numbers::Real(stored.into_iter().enumerate().map(real).collect()))
}
