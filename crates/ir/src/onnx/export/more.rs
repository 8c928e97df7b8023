//! Operators beyond those of convolutional networks, as [`super::operators`].

use super::super::proto::{AttributeProto, attribute_type};
use super::operators::{More, float, int, ints, signed, text, window};
use crate::graph::{
    Activation, Binary, Cell, Coordinates, Dim, Direction, Interpolation, Op, Recurrent, Resize, Rounding, Tensor,
    Unary,
};
use bytes::Bytes;

/// The attributes and further operands of an operator in opsets 17 to 24.
pub fn encode(op: &Op) -> (Vec<AttributeProto>, More) {
    let attributes = |attributes: Vec<AttributeProto>| (attributes, vec![]);
    let numbers = |v: &[usize]| Some(Tensor::i64([v.len()], signed(v)));
    let number = |n: i64| Some(Tensor::i64([0; 0], vec![n]));
    let axis = |axis: usize| int("axis", axis as i64);
    match op {
        Op::Unary(unary) => attributes(of_unary(*unary)),
        Op::Binary(Binary::Mod { fmod }) => attributes(vec![int("fmod", (*fmod).into())]),
        Op::Binary(Binary::BitShift { left }) => {
            attributes(vec![text("direction", if *left { "LEFT" } else { "RIGHT" })])
        }
        Op::ArgExtreme { axis: a, keepdims, last, .. } => {
            attributes(vec![axis(*a), int("keepdims", (*keepdims).into()), int("select_last_index", (*last).into())])
        }
        Op::CumSum { axis, exclusive, reverse } => {
            let list = vec![int("exclusive", (*exclusive).into()), int("reverse", (*reverse).into())];
            (list, vec![("axis", number(*axis as i64))])
        }
        Op::TopK { axis: a, k, largest } => {
            (vec![axis(*a), int("largest", (*largest).into())], vec![("k", numbers(&[*k]))])
        }
        Op::LayerNormalization { axis: a, epsilon } => attributes(vec![axis(*a), float("epsilon", *epsilon)]),
        Op::InstanceNormalization { epsilon } => attributes(vec![float("epsilon", *epsilon)]),
        Op::GroupNormalization { groups, epsilon } => {
            attributes(vec![int("num_groups", *groups as i64), float("epsilon", *epsilon)])
        }
        Op::Lrn { size, alpha, beta, bias } => attributes(vec![
            int("size", *size as i64),
            float("alpha", *alpha),
            float("beta", *beta),
            float("bias", *bias),
        ]),
        Op::LpNormalization { axis: a, order } => attributes(vec![axis(*a), int("p", *order as i64)]),
        Op::Tile { repeats } => (vec![], vec![("repeats", numbers(repeats))]),
        Op::Split { axis: a, sizes } => (vec![axis(*a)], vec![("split", numbers(sizes))]),
        Op::GatherElements { axis: a } | Op::OneHot { axis: a, .. } => attributes(vec![axis(*a)]),
        Op::GatherNd { batch_dims } => attributes(vec![int("batch_dims", *batch_dims as i64)]),
        Op::DepthToSpace { block, columns_first } => {
            attributes(vec![int("blocksize", *block as i64), text("mode", if *columns_first { "CRD" } else { "DCR" })])
        }
        Op::SpaceToDepth { block } => attributes(vec![int("blocksize", *block as i64)]),
        Op::ConvTranspose(transposed) => {
            let mut list = window(&transposed.conv);
            list.push(ints("output_padding", &signed(&transposed.output_padding)));
            attributes(list)
        }
        Op::Recurrent(recurrent) => attributes(of_recurrent(recurrent)),
        Op::Quantize { axis: a, .. } | Op::Dequantize { axis: a } => attributes(vec![axis(*a)]),
        Op::Trilu { upper, k } => (vec![int("upper", (*upper).into())], vec![("k", number(*k))]),
        // Without attributes, or, for Resize, with ones that the exporter adds itself; Expand's extents and OneHot's depth are operands that the exporter adds itself.
        _ => attributes(vec![]),
    }
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

/// Whether a Resize has to be written with its extents: those that follow from its scales are others (computed in `f32`,
/// as onnx and ONNX Runtime do).
pub fn by_sizes(resize: &Resize, from: &[Dim]) -> bool {
    let follows = |((from, to), scale): ((&Dim, &Dim), &f32)| match (from, to) {
        (Dim::Fixed(from), Dim::Fixed(to)) => (*from as f32 * scale).floor() as usize == *to,
        _ => true,
    };
    !from.iter().zip(&resize.sizes).zip(&resize.scales).all(follows)
}

/// The attributes and further operands of a Resize of an operand with these extents.
///
/// # Errors
/// When its scales are neither those that lead to its extents, nor those that its extents lead to.
pub fn of_resize(resize: &Resize, from: &[Dim]) -> Result<(Vec<AttributeProto>, More), &'static str> {
    let coordinates = match resize.coordinates {
        Coordinates::HalfPixel => "half_pixel",
        Coordinates::HalfPixelSymmetric => "half_pixel_symmetric",
        Coordinates::PytorchHalfPixel => "pytorch_half_pixel",
        Coordinates::AlignCorners => "align_corners",
        Coordinates::Asymmetric => "asymmetric",
    };
    let mut list = vec![text("coordinate_transformation_mode", coordinates)];
    match resize.interpolation {
        Interpolation::Nearest(rounding) => list.extend([
            text("mode", "nearest"),
            text(
                "nearest_mode",
                match rounding {
                    Rounding::HalfDown => "round_prefer_floor",
                    Rounding::HalfUp => "round_prefer_ceil",
                    Rounding::Floor => "floor",
                    Rounding::Ceil => "ceil",
                },
            ),
        ]),
        Interpolation::Linear => list.push(text("mode", "linear")),
        Interpolation::Cubic { coefficient, exclude_outside } => list.extend([
            text("mode", "cubic"),
            float("cubic_coeff_a", coefficient),
            int("exclude_outside", exclude_outside.into()),
        ]),
    }
    if resize.antialias {
        list.push(int("antialias", 1));
    }
    // Scales where they say all, since the batch has no extent.
    let scales = Tensor::f32([resize.scales.len()], resize.scales.clone());
    if !by_sizes(resize, from) {
        return Ok((list, vec![("roi", None), ("scales", Some(scales))]));
    }
    let fixed: Vec<(usize, usize, usize)> = (0..from.len())
        .filter_map(|d| match (from[d], resize.sizes[d]) {
            (Dim::Fixed(from), Dim::Fixed(to)) => Some((d, from, to)),
            _ => None,
        })
        .collect();
    if fixed.iter().any(|&(d, from, to)| resize.scales[d] != to as f32 / from as f32) {
        return Err("its scales and its extents cannot both be written");
    }
    list.push(ints("axes", &fixed.iter().map(|f| f.0 as i64).collect::<Vec<_>>()));
    let sizes = Tensor::i64([fixed.len()], fixed.iter().map(|f| f.2 as i64).collect());
    Ok((list, vec![("roi", None), ("scales", None), ("sizes", Some(sizes))]))
}

fn of_recurrent(recurrent: &Recurrent) -> Vec<AttributeProto> {
    let direction = match recurrent.direction {
        Direction::Forward => "forward",
        Direction::Reverse => "reverse",
        Direction::Both => "bidirectional",
    };
    let mut list = vec![int("hidden_size", recurrent.hidden as i64), text("direction", direction)];
    let (mut names, mut alphas, mut betas) = (vec![], vec![], vec![]);
    for activation in &recurrent.activations {
        let (name, alpha, beta) = named(*activation);
        names.push(Bytes::from_static(name.as_bytes()));
        alphas.extend(alpha);
        betas.extend(beta);
    }
    list.push(AttributeProto {
        name: "activations".into(),
        r#type: attribute_type::STRINGS,
        strings: names,
        ..Default::default()
    });
    for (name, floats) in [("activation_alpha", alphas), ("activation_beta", betas)] {
        if !floats.is_empty() {
            list.push(AttributeProto {
                name: name.into(),
                r#type: attribute_type::FLOATS,
                floats,
                ..Default::default()
            });
        }
    }
    list.extend(recurrent.clip.map(|clip| float("clip", clip)));
    if let Cell::Gru { reset_after: true } = recurrent.cell {
        list.push(int("linear_before_reset", 1));
    }
    if recurrent.coupled {
        list.push(int("input_forget", 1));
    }
    if recurrent.batch_first {
        list.push(int("layout", 1));
    }
    list
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
