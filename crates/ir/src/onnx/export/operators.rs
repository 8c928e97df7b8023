//! One place per operator: [`Op`] → the attributes and constant operands of its ONNX form.

use super::super::proto::{AttributeProto, attribute_type};
use super::super::tensor::dtype_code;
use super::more;
use crate::graph::{Conv, DType, Data, Dim, Op, PadMode, Pool, Reduction, Tensor, Value, pool_windows};
use bytes::Bytes;

/// Constant operands after the node's own: what to name each, and its contents, or `None` for one left out.
pub type More = Vec<(&'static str, Option<Tensor>)>;

/// The attributes and further operands of an operator in an opset from 17 to 24. `operand` is its first.
pub fn encode(op: &Op, opset: i64, operand: Option<&Value>) -> (Vec<AttributeProto>, More) {
    let numbers = |v: &[i64]| Some(Tensor::i64([v.len()], v.to_vec()));
    // Bounds and fill values are of the type of what they bound and fill.
    let number = |x: f32| Some(Tensor::new([0; 0], of_type(x, operand.map_or(DType::F32, |value| value.dtype))));
    // Without axes nothing is reduced; without being told so, a reduction takes them for all.
    let noop = |axes: &[usize]| {
        let unreduced = axes.is_empty() && operand.is_some_and(|value| !value.shape.is_empty());
        unreduced.then(|| int("noop_with_empty_axes", 1))
    };
    let axes = |axes: &[usize]| numbers(&signed(axes));
    let attributes = |attributes: Vec<AttributeProto>| (attributes, vec![]);
    match op {
        Op::Conv(conv) | Op::ConvInteger(conv) => attributes(window(conv)),
        Op::Gemm { alpha, beta, trans_a, trans_b } => attributes(vec![
            float("alpha", *alpha),
            float("beta", *beta),
            int("transA", (*trans_a).into()),
            int("transB", (*trans_b).into()),
        ]),
        Op::BatchNormalization { epsilon } => attributes(vec![float("epsilon", *epsilon)]),
        Op::Clip { min, max } => {
            let bound = |x: f32| if x.is_finite() { number(x) } else { None };
            let mut more = vec![("min", bound(*min)), ("max", bound(*max))];
            while more.last().is_some_and(|(_, t)| t.is_none()) {
                more.pop();
            }
            (vec![], more)
        }
        Op::LeakyRelu { alpha } => attributes(vec![float("alpha", *alpha)]),
        Op::HardSigmoid { alpha, beta } => attributes(vec![float("alpha", *alpha), float("beta", *beta)]),
        Op::Concat { axis } | Op::Flatten { axis } | Op::Softmax { axis } | Op::LogSoftmax { axis } => {
            attributes(vec![int("axis", *axis as i64)])
        }
        Op::Gather { axis } => attributes(vec![int("axis", *axis as i64)]),
        Op::MaxPool(pool) => {
            let dilations = ints("dilations", &signed(&pool.dilations));
            attributes([pooling(pool, operand), vec![dilations]].concat())
        }
        Op::AveragePool(pool) => {
            let mut list = pooling(pool, operand);
            list.push(int("count_include_pad", pool.count_include_pad.into()));
            if pool.dilations.iter().any(|&d| d != 1) {
                list.push(ints("dilations", &signed(&pool.dilations)));
            }
            attributes(list)
        }
        Op::Reduce { reduction, axes: reduced, keepdims } if *reduction == Reduction::Sum => {
            let list = noop(reduced).into_iter().chain([int("keepdims", (*keepdims).into())]);
            (list.collect(), vec![("axes", axes(reduced))])
        }
        Op::ReduceMean { axes: reduced, keepdims } | Op::Reduce { axes: reduced, keepdims, .. } => {
            let keep = int("keepdims", (*keepdims).into());
            match opset < 18 {
                true => attributes(vec![ints("axes", &signed(reduced)), keep]),
                false => (noop(reduced).into_iter().chain([keep]).collect(), vec![("axes", axes(reduced))]),
            }
        }
        Op::Reshape { shape } => {
            let target: Vec<i64> = shape.iter().map(|d| if let Dim::Fixed(n) = d { *n as i64 } else { -1 }).collect();
            // Zero means nothing here, and not the operand's extent.
            let nothing = shape.contains(&Dim::Fixed(0)).then(|| int("allowzero", 1));
            (nothing.into_iter().collect(), vec![("shape", numbers(&target))])
        }
        Op::Transpose { perm } => attributes(vec![ints("perm", &signed(perm))]),
        Op::Squeeze { axes: a } | Op::Unsqueeze { axes: a } => (vec![], vec![("axes", axes(a))]),
        Op::Pad { pads, mode } => {
            let (name, fill) = match mode {
                PadMode::Constant(x) => ("constant", *x),
                PadMode::Reflect => ("reflect", 0.0),
                PadMode::Edge => ("edge", 0.0),
                PadMode::Wrap => ("wrap", 0.0),
            };
            let mut more = vec![("pads", numbers(pads))];
            if fill != 0.0 {
                more.push(("value", number(fill)));
            }
            (vec![text("mode", name)], more)
        }
        Op::Cast { to } => attributes(vec![int("to", dtype_code(*to).into())]),
        Op::Slice { starts, ends, axes: sliced, steps } => {
            // An end before the first element has no other way to be written: small negatives count from the end.
            let ends: Vec<i64> = ends.iter().map(|&e| if e < 0 { i64::MIN } else { e }).collect();
            let list = vec![
                ("starts", numbers(starts)),
                ("ends", numbers(&ends)),
                ("axes", axes(sliced)),
                ("steps", numbers(steps)),
            ];
            (vec![], list)
        }
        Op::MatMul
        | Op::MatMulInteger
        | Op::Relu
        | Op::Sigmoid
        | Op::Tanh
        | Op::HardSwish
        | Op::Add
        | Op::Sub
        | Op::Mul
        | Op::Div
        | Op::GlobalAveragePool
        | Op::GlobalMaxPool
        | Op::Dropout
        | Op::Identity
        | Op::Opaque(_) => attributes(vec![]),
        other => more::encode(other),
    }
}

/// One number as an element of a type, the nearest that the type has.
fn of_type(x: f32, dtype: DType) -> Data {
    match dtype {
        DType::I64 | DType::U32 | DType::U64 => Data::I64(vec![x as i64]),
        DType::I32 | DType::I16 | DType::U16 => Data::I32(vec![x as i32]),
        DType::I8 => Data::I8(vec![x as i8]),
        DType::U8 => Data::U8(vec![x as u8]),
        DType::Bool => Data::Bool(vec![x != 0.0]),
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 => Data::F32(vec![x].into()),
    }
}

pub fn window(conv: &Conv) -> Vec<AttributeProto> {
    vec![
        ints("dilations", &signed(&conv.dilations)),
        int("group", conv.group as i64),
        ints("kernel_shape", &signed(&conv.kernel)),
        ints("pads", &signed(&conv.pads)),
        ints("strides", &signed(&conv.strides)),
    ]
}

/// Runtimes differ in whether a last window that would start in the padding counts with `ceil_mode` (ONNX Runtime's shapes
/// have it, its results do not). Where one would, the file rounds down, with as much end padding as the other windows take;
/// an average that counts padding, and has a window that hangs over it, cannot be written so.
fn pooling(pool: &Pool, operand: Option<&Value>) -> Vec<AttributeProto> {
    let (mut ceil, mut pads) = (pool.ceil_mode, pool.pads.clone());
    let (begin, end) = pads.split_at_mut(pool.kernel.len());
    let extents = operand.map_or(&[][..], |value| &value.shape).iter().skip(2).map(|dim| dim.at(1));
    // By axis: whether a window is dropped, and the end padding that those that are there take.
    let along = extents.enumerate().filter_map(|(d, n)| {
        let [said, windows] = pool_windows(pool, d, n)?;
        let reach = (windows - 1) * pool.strides[d] + pool.dilations[d] * (pool.kernel[d] - 1) + 1;
        Some((said > windows, reach.saturating_sub(n + begin[d])))
    });
    let along: Vec<(bool, usize)> = along.collect();
    let hangs = end.iter().zip(&along).any(|(&end, &(_, taken))| taken > end);
    if along.iter().any(|&(dropped, _)| dropped) && !(pool.count_include_pad && hangs) {
        ceil = false;
        end.iter_mut().zip(along).for_each(|(end, (_, taken))| *end = taken);
    }
    vec![
        int("ceil_mode", ceil.into()),
        ints("kernel_shape", &signed(&pool.kernel)),
        ints("pads", &signed(&pads)),
        ints("strides", &signed(&pool.strides)),
    ]
}

pub fn signed(list: &[usize]) -> Vec<i64> {
    list.iter().map(|&n| n as i64).collect()
}

fn attribute(name: &str, r#type: i32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type, ..Default::default() }
}

pub fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i: Some(i), ..attribute(name, attribute_type::INT) }
}

pub fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { f: Some(f), ..attribute(name, attribute_type::FLOAT) }
}

pub fn ints(name: &str, list: &[i64]) -> AttributeProto {
    AttributeProto { ints: list.to_vec(), ..attribute(name, attribute_type::INTS) }
}

pub fn text(name: &str, value: &'static str) -> AttributeProto {
    AttributeProto { s: Some(Bytes::from_static(value.as_bytes())), ..attribute(name, attribute_type::STRING) }
}
