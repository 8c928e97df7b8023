//! Operators beyond those of convolutional networks, as [`super::operators`].

use super::super::proto::data_type;
use super::super::tensor;
use super::call::{Call, Fault};
use super::operators::{Plan, conv, convolution, foreign, resolved_pads, wrong};
use super::recurrent;
use super::symbolic::Element;
use crate::graph::{
    Binary, Conv, ConvTranspose, Coordinates, DType, Dim, Interpolation, Op, Reduction, Resize, Rounding, Unary,
    Unread, Variadic, shape_text,
};

/// Converts a node of the standard domain.
///
/// # Errors
/// As [`super::operators::convert`].
pub fn convert(call: &Call) -> Result<Plan, Fault> {
    let name = call.proto.op_type.as_str();
    if let Some(unary) = unary(call, name) {
        return Plan::new(0..1, Op::Unary(unary));
    }
    if let Some(binary) = binary(call, name) {
        return Plan::new(0..2, Op::Binary(binary));
    }
    if let Some(reduction) = reduction(name) {
        return reduce(call, reduction);
    }
    let every = |op| Plan::new(0..call.proto.input.len(), op);
    let axis = |default| Call::resolve_axis(call.int("axis", default), call.rank(0)?);
    match name {
        "Max" => every(Op::Variadic(Variadic::Max)),
        "Min" => every(Op::Variadic(Variadic::Min)),
        "Sum" => every(Op::Variadic(Variadic::Sum)),
        "Mean" => every(Op::Variadic(Variadic::Mean)),
        "Where" => Plan::new(0..3, Op::Where),
        "ArgMax" | "ArgMin" => {
            let (keepdims, last) = (call.int("keepdims", 1) != 0, call.flag("select_last_index"));
            Plan::new(0..1, Op::ArgExtreme { largest: name == "ArgMax", axis: axis(0)?, keepdims, last })
        }
        "CumSum" => {
            let wanted = call.known_ints(1, "axis")?;
            let [wanted] = wanted[..] else { return wrong("has no single axis") };
            let axis = Call::resolve_axis(wanted, call.rank(0)?)?;
            Plan::new(0..1, Op::CumSum { axis, exclusive: call.flag("exclusive"), reverse: call.flag("reverse") })
        }
        "TopK" => {
            let k = match call.opset < 10 {
                true => call.int("k", -1),
                false => call.known_ints(1, "k")?.first().copied().unwrap_or(-1),
            };
            let Ok(k) = usize::try_from(k) else { return wrong(format!("k is {k}")) };
            Plan::new(0..1, Op::TopK { axis: axis(-1)?, k, largest: call.int("largest", 1) != 0 })
        }
        "LayerNormalization" => {
            Plan::new(0..3, Op::LayerNormalization { axis: axis(-1)?, epsilon: call.float("epsilon", 1e-5) })
        }
        "InstanceNormalization" => Plan::new(0..3, Op::InstanceNormalization { epsilon: call.float("epsilon", 1e-5) }),
        "GroupNormalization" => {
            let groups = usize::try_from(call.int("num_groups", 0)).unwrap_or(0);
            let channels = call.shape(0)?.get(1).map_or(0, |d| d.at(1));
            if groups == 0 || channels % groups != 0 {
                return wrong(format!("{groups} groups of {channels} channels"));
            }
            if call.shape(1)? != [Dim::Fixed(channels)] {
                return foreign(Unread::GroupScales);
            }
            Plan::new(0..3, Op::GroupNormalization { groups, epsilon: call.float("epsilon", 1e-5) })
        }
        "LRN" => {
            let Some(size) = usize::try_from(call.int("size", 0)).ok().filter(|&n| n > 0) else {
                return wrong("has no size");
            };
            let (alpha, beta) = (call.float("alpha", 1e-4), call.float("beta", 0.75));
            Plan::new(0..1, Op::Lrn { size, alpha, beta, bias: call.float("bias", 1.0) })
        }
        "LpNormalization" => match call.int("p", 2) {
            order @ 1..=2 => Plan::new(0..1, Op::LpNormalization { axis: axis(-1)?, order: order as usize }),
            order => wrong(format!("a norm of order {order}")),
        },
        "Expand" => expand(call),
        "Tile" => {
            let repeats = call.known_ints(1, "repeats")?;
            let repeats: Option<Vec<usize>> = repeats.iter().map(|&n| usize::try_from(n).ok()).collect();
            match repeats {
                Some(repeats) => Plan::new(0..1, Op::Tile { repeats }),
                None => wrong("repeats less than nothing"),
            }
        }
        "Split" => split(call),
        "GatherElements" => Plan::new(0..2, Op::GatherElements { axis: axis(0)? }),
        "GatherND" => match usize::try_from(call.int("batch_dims", 0)) {
            Ok(batch_dims) => Plan::new(0..2, Op::GatherNd { batch_dims }),
            Err(_) => wrong("batch_dims is negative"),
        },
        "DepthToSpace" | "SpaceToDepth" => {
            let Some(block) = usize::try_from(call.int("blocksize", 0)).ok().filter(|n| (1..1 << 12).contains(n))
            else {
                return wrong("has no blocksize");
            };
            let columns_first = call.text("mode", "DCR") == "CRD";
            let deeper = name == "SpaceToDepth";
            Plan::new(0..1, if deeper { Op::SpaceToDepth { block } } else { Op::DepthToSpace { block, columns_first } })
        }
        "Resize" | "Upsample" => resize(call),
        "ConvTranspose" => conv_transpose(call),
        "MatMulInteger" if call.rank(0)? < 2 || call.rank(1)? < 2 => foreign("multiplies by a vector"),
        "MatMulInteger" => Plan::new(0..4, Op::MatMulInteger),
        "ConvInteger" => Plan::new(0..4, Op::ConvInteger(conv(call)?)),
        "RNN" | "LSTM" | "GRU" => recurrent::convert(call),
        "QuantizeLinear" | "DequantizeLinear" => {
            let (block, channels) = (call.int("block_size", 0), call.shape(1)?);
            if block != 0 || channels.len() > 1 {
                return foreign(Unread::Blocks);
            }
            // One scale has no axis, and the attribute no meaning then.
            let axis = if channels.is_empty() || channels == [Dim::Fixed(1)] { 0 } else { axis(1)? };
            let quantize = name == "QuantizeLinear";
            let code = match (call.operand(2), call.int("output_dtype", 0) as i32) {
                (Some(_), _) if quantize => call.stated_type(2).unwrap_or(tensor::dtype_code(call.dtype(2)?)),
                (None, 0) if quantize => data_type::UINT8,
                (None, code) if quantize => code,
                _ => call.stated_type(0).unwrap_or(tensor::dtype_code(call.dtype(0)?)),
            };
            let to = match code {
                data_type::INT8 => DType::I8,
                data_type::UINT8 => DType::U8,
                data_type::INT16 => DType::I16,
                data_type::UINT16 => DType::U16,
                data_type::INT32 => DType::I32,
                _ => return foreign(Unread::Stored),
            };
            Plan::new(0..3, if quantize { Op::Quantize { axis, to } } else { Op::Dequantize { axis } })
        }
        "Trilu" => {
            let k = if call.operand(1).is_some() { call.known_ints(1, "diagonal")?.first().copied() } else { None };
            Plan::new(0..1, Op::Trilu { upper: call.int("upper", 1) != 0, k: k.unwrap_or(0) })
        }
        "OneHot" => {
            let depth = call.scalar(1, "depth", 0.0)?;
            if !(1.0..=16_777_216.0).contains(&depth) {
                return wrong(format!("a depth of {depth}"));
            }
            let axis = Call::resolve_axis(call.int("axis", -1), call.rank(0)? + 1)?;
            Ok(Plan { operands: vec![0, 2], ops: vec![Op::OneHot { axis, depth: depth as usize }] })
        }
        _ => foreign("not known to kdc"),
    }
}

fn unary(call: &Call, name: &str) -> Option<Unary> {
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

fn binary(call: &Call, name: &str) -> Option<Binary> {
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

fn reduction(name: &str) -> Option<Reduction> {
    Some(match name {
        "ReduceSum" => Reduction::Sum,
        "ReduceMax" => Reduction::Max,
        "ReduceMin" => Reduction::Min,
        "ReduceProd" => Reduction::Prod,
        "ReduceL1" => Reduction::L1,
        "ReduceL2" => Reduction::L2,
        "ReduceLogSum" => Reduction::LogSum,
        "ReduceLogSumExp" => Reduction::LogSumExp,
        "ReduceSumSquare" => Reduction::SumSquare,
        _ => return None,
    })
}

fn reduce(call: &Call, reduction: Reduction) -> Result<Plan, Fault> {
    let rank = call.rank(0)?;
    let since = if reduction == Reduction::Sum { 13 } else { 18 };
    let axes = match call.moved_ints("axes", 1, since)?.filter(|axes| !axes.is_empty()) {
        Some(axes) => Call::resolve_axes(&axes, rank)?,
        // Nothing is summed up, and the rest of the function still applies to each element.
        None if call.flag("noop_with_empty_axes") => vec![],
        None => (0..rank).collect(),
    };
    Plan::new(0..1, Op::Reduce { reduction, axes, keepdims: call.int("keepdims", 1) != 0 })
}

/// Extents as the graph has them.
pub fn dims(elements: &[Element]) -> Result<Vec<Dim>, Fault> {
    let dim = |e: &Element| match *e {
        Element::Known(n) => usize::try_from(n).ok().map(Dim::Fixed),
        Element::Batch(times) => usize::try_from(times).ok().map(Dim::batches),
    };
    let dims: Option<Vec<Dim>> = elements.iter().map(dim).collect();
    dims.ok_or_else(|| Fault::Wrong(format!("impossible extents {elements:?}")))
}

fn expand(call: &Call) -> Result<Plan, Fault> {
    let (from, to) = (call.shape(0)?, dims(&call.elements(1, "target extents")?)?);
    let rank = from.len().max(to.len());
    let at = |s: &[Dim], d: usize| (d + s.len()).checked_sub(rank).map_or(Dim::Fixed(1), |i| s[i]);
    let mut shape = vec![];
    let batch = call.importer.rebatch.map(Dim::Fixed);
    for d in 0..rank {
        shape.push(match (at(&from, d), at(&to, d)) {
            (a, b) if a == b => a,
            (Dim::Batch, b) if Some(b) == batch => Dim::Batch,
            (Dim::Fixed(1), b) if d == 0 && Some(b) == batch => Dim::Batch,
            (Dim::Fixed(1), b) => b,
            (a, Dim::Fixed(1)) => a,
            _ if batch.is_some() => return foreign("mixes the batch with other extents"),
            _ => return wrong(format!("{} does not expand to {}", shape_text(&from), shape_text(&to))),
        });
    }
    Plan::new(0..1, Op::Expand { shape })
}

fn split(call: &Call) -> Result<Plan, Fault> {
    let shape = call.shape(0)?;
    let axis = Call::resolve_axis(call.int("axis", 0), shape.len())?;
    let Dim::Fixed(extent) = shape[axis] else { return foreign("splits the batch") };
    let count = call.proto.output.len();
    let sizes = match call.moved_ints("split", 1, 13)? {
        Some(sizes) => sizes.iter().map(|&n| usize::try_from(n).ok()).collect::<Option<Vec<usize>>>(),
        None => {
            let size = extent.div_ceil(count.max(1));
            Some((0..count).map(|i| size.min(extent.saturating_sub(i * size))).collect())
        }
    };
    let sum = |sizes: &Vec<usize>| sizes.iter().try_fold(0usize, |a, &b| a.checked_add(b));
    match sizes.filter(|sizes| sizes.len() == count && sum(sizes) == Some(extent)) {
        Some(sizes) => Plan::new(0..1, Op::Split { axis, sizes }),
        None => wrong(format!("its parts are not the {extent} of axis {axis}")),
    }
}

fn resize(call: &Call) -> Result<Plan, Fault> {
    let shape = call.shape(0)?;
    let rank = shape.len();
    // Before opset 11 there was one rule: positions by the ratio, the element before.
    let old = call.opset < 11 || call.proto.op_type == "Upsample";
    let coordinates = match call.text("coordinate_transformation_mode", "half_pixel").as_str() {
        _ if old => Coordinates::Asymmetric,
        "half_pixel" => Coordinates::HalfPixel,
        "half_pixel_symmetric" => Coordinates::HalfPixelSymmetric,
        "pytorch_half_pixel" => Coordinates::PytorchHalfPixel,
        "align_corners" => Coordinates::AlignCorners,
        "asymmetric" => Coordinates::Asymmetric,
        "tf_crop_and_resize" => return foreign(Unread::CropAndResize),
        other => return foreign(format!("transforms coordinates by {other}")),
    };
    let interpolation = match call.text("mode", "nearest").as_str() {
        "nearest" => Interpolation::Nearest(match call.text("nearest_mode", "round_prefer_floor").as_str() {
            _ if old => Rounding::Floor,
            "round_prefer_floor" => Rounding::HalfDown,
            "round_prefer_ceil" => Rounding::HalfUp,
            "floor" => Rounding::Floor,
            "ceil" => Rounding::Ceil,
            other => return wrong(format!("nearest_mode '{other}'")),
        }),
        "linear" | "bilinear" => Interpolation::Linear,
        "cubic" => Interpolation::Cubic {
            coefficient: call.float("cubic_coeff_a", -0.75),
            exclude_outside: call.flag("exclude_outside"),
        },
        other => return foreign(format!("interpolates by mode {other}")),
    };
    let axes = match call.ints("axes").filter(|a| !a.is_empty()) {
        Some(axes) => axes.iter().map(|&a| Call::resolve_axis(a, rank)).collect::<Result<_, _>>()?,
        None => (0..rank).collect::<Vec<usize>>(),
    };
    let scales_at = if old { 1 } else { 2 };
    let given: Option<Vec<f32>> = match call.proto.op_type.as_str() {
        "Upsample" if call.opset < 9 => call.attribute("scales").map(|a| a.floats.clone()),
        _ => match call.operand(scales_at) {
            Some(_) => match call.tensor(scales_at) {
                Some(scales) => Some(scales.to_f32().into_owned()).filter(|s| !s.is_empty()),
                None => return foreign("its scales are computed while the network runs"),
            },
            None => None,
        },
    };
    let (mut sizes, mut scales) = (shape.clone(), vec![1.0f32; rank]);
    let count = axes.len();
    if let Some(given) = given {
        if given.len() != count || given.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
            return wrong(format!("scales {given:?} for {count} axes"));
        }
        for (&axis, scale) in axes.iter().zip(given) {
            let Dim::Fixed(n) = shape[axis] else {
                if scale == 1.0 {
                    continue;
                }
                return foreign("resizes the batch");
            };
            (sizes[axis], scales[axis]) = (Dim::Fixed((n as f32 * scale).floor() as usize), scale);
        }
    } else {
        let wanted = dims(&call.elements(3, "sizes")?)?;
        if wanted.len() != count {
            return wrong(format!("{} sizes for {count} axes", wanted.len()));
        }
        let kept = kept_aspect(call, &axes, &shape, &wanted)?;
        for (&axis, size) in axes.iter().zip(wanted) {
            if let (Some(ratio), Dim::Fixed(n)) = (kept, shape[axis]) {
                // Rounded halfway up, as the specification says.
                let size = (n as f64 * ratio + 0.5).floor() as usize;
                (sizes[axis], scales[axis]) = (Dim::Fixed(size), ratio as f32);
                continue;
            }
            match (shape[axis], size) {
                (a, b) if a == b => {}
                (Dim::Fixed(n), Dim::Fixed(size)) if n > 0 && size > 0 => {
                    (sizes[axis], scales[axis]) = (Dim::Fixed(size), size as f32 / n as f32);
                }
                (Dim::Batch, Dim::Fixed(n)) if call.importer.rebatch == Some(n) => {}
                _ => return foreign("resizes the batch"),
            }
        }
    }
    let antialias = call.flag("antialias") && !matches!(interpolation, Interpolation::Nearest(_));
    Plan::new(0..1, Op::Resize(Resize { sizes, scales, coordinates, interpolation, antialias }))
}

/// The one ratio by which all axes are resized where the node asks for that.
fn kept_aspect(call: &Call, axes: &[usize], shape: &[Dim], wanted: &[Dim]) -> Result<Option<f64>, Fault> {
    let ratios = axes.iter().zip(wanted).map(|(&axis, size)| match (shape[axis], size) {
        (Dim::Fixed(n), Dim::Fixed(size)) if n > 0 && *size > 0 => Ok(*size as f64 / n as f64),
        _ => foreign("resizes the batch"),
    });
    let choose = match call.text("keep_aspect_ratio_policy", "stretch").as_str() {
        "stretch" => return Ok(None),
        "not_larger" => f64::min,
        "not_smaller" => f64::max,
        other => return wrong(format!("keep_aspect_ratio_policy '{other}'")),
    };
    Ok(ratios.collect::<Result<Vec<_>, _>>()?.into_iter().reduce(choose))
}

fn conv_transpose(call: &Call) -> Result<Plan, Fault> {
    let (conv, spatial) = convolution(call)?;
    let n = spatial.len();
    let mut output_padding = call.sizes("output_padding", n, 0, 0)?;
    let mut conv = Conv { ..conv };
    let full = |d: usize, output_padding: usize| {
        let Dim::Fixed(extent) = spatial[d] else { return foreign("convolves along the batch") };
        Ok((extent.max(1) - 1) * conv.strides[d] + output_padding + (conv.kernel[d].max(1) - 1) * conv.dilations[d] + 1)
    };
    let upper = call.text("auto_pad", "NOTSET") == "SAME_UPPER";
    let target = match (call.ints("output_shape"), call.text("auto_pad", "NOTSET").as_str()) {
        (Some(shape), _) if shape.len() >= n => Some(shape[shape.len() - n..].to_vec()),
        (None, "SAME_UPPER" | "SAME_LOWER") => {
            Some(spatial.iter().zip(&conv.strides).map(|(d, &s)| (d.at(1) * s) as i64).collect())
        }
        _ => None,
    };
    conv.pads = match target {
        None => resolved_pads(call, n)?,
        Some(target) => {
            let mut pads = vec![0; 2 * n];
            for d in 0..n {
                let Ok(target) = usize::try_from(target[d]) else { return wrong(format!("a result of {target:?}")) };
                let windows = full(d, output_padding[d])?;
                // A result that is larger than its windows has rows of nothing at its end.
                output_padding[d] += target.saturating_sub(windows);
                let total = windows.saturating_sub(target);
                let (less, more) = (total / 2, total - total / 2);
                (pads[d], pads[d + n]) = if upper { (less, more) } else { (more, less) };
            }
            pads
        }
    };
    if output_padding.iter().enumerate().any(|(d, &p)| p >= conv.strides[d].max(conv.dilations[d])) {
        return wrong(format!("output_padding {output_padding:?} is not less than the stride"));
    }
    Plan::new(0..3, Op::ConvTranspose(ConvTranspose { conv, output_padding }))
}
