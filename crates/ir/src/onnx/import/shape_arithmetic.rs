//! Arithmetic on shapes, done while importing.
//!
//! Exporters compute the targets of Reshape, Slice, Pad … from shapes, in chains of small integer operators. With the
//! batch as the one symbolic extent, each element of such a tensor is either a number or the batch itself.

use super::call::Call;
use super::fault::Fault;
use super::plan::Plan;
use super::symbolic::{Element, MAX_ELEMENTS, Symbolic};
use crate::graph::{DType, Dim, Op};
use crate::host::elements;

/// Operators that exist only to compute with shapes. `None`: not one of them, or not known before the network runs.
///
/// # Errors
/// When the node contradicts the specification.
pub fn shape_operator(call: &Call) -> Result<Option<Symbolic>, Fault> {
    Ok(match call.proto.op_type.as_str() {
        "Shape" => {
            let Ok(shape) = call.shape(0) else { return Ok(None) };
            let rank = shape.len() as i64;
            let bound = |name, default| {
                let n = call.int(name, default);
                (if n < 0 { n.saturating_add(rank) } else { n }).clamp(0, rank) as usize
            };
            let (start, end) = (bound("start", 0), bound("end", rank));
            Some(Symbolic::vector(shape[start..end.max(start)].iter().map(|&d| d.into()).collect()))
        }
        "Size" => {
            let Ok(shape) = call.shape(0) else { return Ok(None) };
            let count = shape.into_iter().try_fold(Element::Known(1), |count, extent| times(count, extent.into()));
            count.map(|count| Symbolic { shape: vec![], ..Symbolic::vector(vec![count]) })
        }
        "ConstantOfShape" => filled(call),
        "Range" => range(call),
        "Equal" => zip(call, DType::Bool, |a, b| match (a, b) {
            (Element::Known(a), Element::Known(b)) => Some(Element::Known((a == b).into())),
            // Exporters compare an extent with -1, which no batch is.
            (Element::Batch(_), Element::Known(n)) | (Element::Known(n), Element::Batch(_)) if n <= 0 => {
                Some(Element::Known(0))
            }
            _ => None,
        }),
        // Where both are positive, both kinds of remainder agree.
        "Mod" => zip(call, DType::I64, |a, b| match (a.known()?, b.known()?) {
            (a, b) if a >= 0 && b > 0 => Some(Element::Known(a % b)),
            _ => None,
        }),
        "Where" => chosen(call),
        _ => None,
    })
}

fn filled(call: &Call) -> Option<Symbolic> {
    let shape = call.symbolic(0)?.elements;
    let shape: Vec<usize> = shape.iter().map(|e| usize::try_from(e.known()?).ok()).collect::<Option<_>>()?;
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= MAX_ELEMENTS)?;
    let value = call.attribute("value")?.t.as_ref()?;
    let value = super::tensor::read(value, &mut super::External::new(None, None)).ok()?;
    let value = Symbolic::from_tensor(&value)?;
    Some(Symbolic { dtype: value.dtype, shape, elements: vec![*value.elements.first()?; count] })
}

fn range(call: &Call) -> Option<Symbolic> {
    let number = |i| call.symbolic(i)?.elements.first()?.known();
    let (start, limit, step) = (number(0)?, number(1)?, number(2)?);
    let span = limit.checked_sub(start)?.checked_mul(step.signum())?.max(0).unsigned_abs();
    let count = span.div_ceil(step.unsigned_abs().max(1));
    if step == 0 || count > MAX_ELEMENTS as u64 {
        return None;
    }
    // Within the limit, so nothing overflows.
    Some(Symbolic::vector((0..count as i64).map(|i| Element::Known(start + i * step)).collect()))
}

fn chosen(call: &Call) -> Option<Symbolic> {
    let (condition, yes, no) = (call.symbolic(0)?, call.symbolic(1)?, call.symbolic(2)?);
    let shape = common_shape(&[&condition.shape, &yes.shape, &no.shape])?;
    let [c, y, n] = [&condition, &yes, &no].map(|s| s.pick(shape.clone(), &elements::broadcast(&s.shape, &shape)));
    let (c, y, n) = (c?.elements, y?.elements, n?.elements);
    let choose = |i: usize| Some(if c[i].known()? != 0 { y[i] } else { n[i] });
    let elements = (0..c.len()).map(choose).collect::<Option<_>>()?;
    Some(Symbolic { dtype: yes.dtype, shape, elements })
}

/// Applies an elementwise operator of two operands.
fn zip(call: &Call, dtype: DType, f: impl Fn(Element, Element) -> Option<Element>) -> Option<Symbolic> {
    let (a, b) = (call.symbolic(0)?, call.symbolic(1)?);
    let shape = common_shape(&[&a.shape, &b.shape])?;
    let [a, b] = [&a, &b].map(|s| s.pick(shape.clone(), &elements::broadcast(&s.shape, &shape)));
    let elements = a?.elements.into_iter().zip(b?.elements).map(|(a, b)| f(a, b)).collect::<Option<_>>()?;
    Some(Symbolic { dtype, shape, elements })
}

fn times(a: Element, b: Element) -> Option<Element> {
    match (a, b) {
        (a, Element::Known(1)) => Some(a),
        (Element::Known(1), b) => Some(b),
        (Element::Batch(k), Element::Known(n)) | (Element::Known(n), Element::Batch(k)) if n > 0 => {
            Some(Element::Batch(k.checked_mul(n)?))
        }
        _ => Some(Element::Known(a.known()?.checked_mul(b.known()?)?)),
    }
}

fn common_shape(shapes: &[&[usize]]) -> Option<Vec<usize>> {
    let rank = shapes.iter().map(|s| s.len()).max()?;
    let mut common = vec![1; rank];
    for shape in shapes {
        for (c, &n) in common[rank - shape.len()..].iter_mut().zip(*shape) {
            match (*c, n) {
                (1, n) => *c = n,
                (a, n) if a == n || n == 1 => {}
                _ => return None,
            }
        }
    }
    (common.iter().product::<usize>() <= MAX_ELEMENTS).then_some(common)
}

/// The result of an ordinary operator all of whose operands are such integers.
pub fn evaluate(call: &Call, plan: &Plan) -> Option<Symbolic> {
    let [op] = plan.ops.as_slice() else { return None };
    let operands: Vec<Symbolic> = plan.operands.iter().map(|&i| call.symbolic(i)).collect::<Option<_>>()?;
    let x = operands.first()?;
    let arithmetic = |f: fn(Element, Element) -> Option<Element>| zip(call, x.dtype, f);
    let result = match op {
        Op::Identity => x.clone(),
        Op::Cast { to } if matches!(to, DType::I64 | DType::I32 | DType::Bool) => {
            let truth = |e| match e {
                Element::Known(n) => Element::Known((n != 0).into()),
                Element::Batch(_) => Element::Known(1),
            };
            let elements = x.elements.iter().map(|&e| if *to == DType::Bool { truth(e) } else { e }).collect();
            Symbolic { dtype: *to, elements, ..x.clone() }
        }
        Op::Add => arithmetic(|a, b| match (a, b) {
            (Element::Batch(a), Element::Batch(b)) => Some(Element::Batch(a.checked_add(b)?)),
            (a, Element::Known(0)) => Some(a),
            (Element::Known(0), b) => Some(b),
            _ => Some(Element::Known(a.known()?.checked_add(b.known()?)?)),
        })?,
        Op::Sub => arithmetic(|a, b| match (a, b) {
            (a, Element::Known(0)) => Some(a),
            (Element::Batch(a), Element::Batch(b)) if a == b => Some(Element::Known(0)),
            (Element::Batch(a), Element::Batch(b)) if a > b => Some(Element::Batch(a - b)),
            _ => Some(Element::Known(a.known()?.checked_sub(b.known()?)?)),
        })?,
        Op::Mul => arithmetic(times)?,
        Op::Div => arithmetic(|a, b| match (a, b) {
            (a, Element::Known(1)) => Some(a),
            (Element::Batch(a), Element::Batch(b)) if a % b == 0 => Some(Element::Known(a / b)),
            (Element::Batch(k), Element::Known(n)) if n > 0 && k % n == 0 => Some(Element::Batch(k / n)),
            _ => Some(Element::Known(a.known()?.checked_div(b.known()?)?)),
        })?,
        Op::Reshape { shape } => {
            let shape: Vec<usize> =
                shape.iter().map(|d| if let Dim::Fixed(n) = d { Some(*n) } else { None }).collect::<Option<_>>()?;
            let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
            (count == x.elements.len()).then(|| x.reshaped(shape))?
        }
        Op::Squeeze { axes } => {
            x.reshaped((0..x.shape.len()).filter(|d| !axes.contains(d)).map(|d| x.shape[d]).collect())
        }
        Op::Unsqueeze { axes } => {
            let mut shape = x.shape.iter();
            let extents =
                (0..x.shape.len() + axes.len()).map(|d| if axes.contains(&d) { Some(&1) } else { shape.next() });
            x.reshaped(extents.map(|n| n.copied()).collect::<Option<_>>()?)
        }
        Op::Transpose { perm } if perm.len() == x.shape.len() => {
            x.pick(perm.iter().map(|&p| x.shape[p]).collect(), &elements::transposed(&x.shape, perm))?
        }
        Op::Gather { axis } => {
            let indices: Vec<i64> = operands.get(1)?.elements.iter().map(|e| e.known()).collect::<Option<_>>()?;
            let shape = [&x.shape[..*axis], &operands[1].shape, &x.shape[axis + 1..]].concat();
            x.pick(shape, &elements::gathered(&x.shape, *axis, &indices)?)?
        }
        Op::Slice { starts, ends, axes, steps } => {
            let mut shape = x.shape.clone();
            for (i, &axis) in axes.iter().enumerate() {
                let span = if steps[i] > 0 { ends[i] - starts[i] } else { starts[i] - ends[i] };
                shape[axis] = (span.max(0) as u64).div_ceil(steps[i].unsigned_abs()) as usize;
            }
            let positions = elements::sliced(&x.shape, &shape, axes, starts, steps);
            x.pick(shape, &positions)?
        }
        Op::Concat { axis } => {
            let same = |s: &Symbolic| {
                s.shape.len() == x.shape.len() && (0..x.shape.len()).all(|d| d == *axis || s.shape[d] == x.shape[d])
            };
            if !operands.iter().all(same) {
                return None;
            }
            let shapes: Vec<Vec<usize>> = operands.iter().map(|s| s.shape.clone()).collect();
            let mut shape = x.shape.clone();
            shape[*axis] = shapes.iter().map(|s| s[*axis]).sum();
            let from = elements::concatenated(&shapes, *axis);
            let elements = from.iter().map(|&(s, p)| operands[s].elements[p]).collect();
            Symbolic { dtype: x.dtype, shape, elements }
        }
        _ => return None,
    };
    (result.elements.len() <= MAX_ELEMENTS).then_some(result)
}
