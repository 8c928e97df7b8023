//! Resizing of images and of other axes.

use super::super::call::Call;
use super::super::fault::{Fault, invalid, unsupported};
use super::super::plan::Plan;
use super::super::symbolic::dims;
use crate::graph::{Coordinates, Dim, Interpolation, Op, Resize, Rounding, Unread};

pub fn convert(call: &Call) -> Result<Option<Plan>, Fault> {
    let plan = match call.proto.op_type.as_str() {
        "Resize" | "Upsample" => resize(call),
        _ => return Ok(None),
    };
    plan.map(Some)
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
        "tf_crop_and_resize" => return unsupported(Unread::CropAndResize),
        other => return unsupported(format!("transforms coordinates by {other}")),
    };
    let interpolation = match call.text("mode", "nearest").as_str() {
        "nearest" => Interpolation::Nearest(match call.text("nearest_mode", "round_prefer_floor").as_str() {
            _ if old => Rounding::Floor,
            "round_prefer_floor" => Rounding::HalfDown,
            "round_prefer_ceil" => Rounding::HalfUp,
            "floor" => Rounding::Floor,
            "ceil" => Rounding::Ceil,
            other => return invalid(format!("nearest_mode '{other}'")),
        }),
        "linear" | "bilinear" => Interpolation::Linear,
        "cubic" => Interpolation::Cubic {
            coefficient: call.float("cubic_coeff_a", -0.75),
            exclude_outside: call.flag("exclude_outside"),
        },
        other => return unsupported(format!("interpolates by mode {other}")),
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
                None => return unsupported("its scales are computed while the network runs"),
            },
            None => None,
        },
    };
    let (mut sizes, mut scales) = (shape.clone(), vec![1.0f32; rank]);
    let count = axes.len();
    if let Some(given) = given {
        if given.len() != count || given.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
            return invalid(format!("scales {given:?} for {count} axes"));
        }
        for (&axis, scale) in axes.iter().zip(given) {
            let Dim::Fixed(n) = shape[axis] else {
                if scale == 1.0 {
                    continue;
                }
                return unsupported("resizes the batch");
            };
            (sizes[axis], scales[axis]) = (Dim::Fixed((n as f32 * scale).floor() as usize), scale);
        }
    } else {
        let wanted = dims(&call.elements(3, "sizes")?)?;
        if wanted.len() != count {
            return invalid(format!("{} sizes for {count} axes", wanted.len()));
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
                _ => return unsupported("resizes the batch"),
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
        _ => unsupported("resizes the batch"),
    });
    let choose = match call.text("keep_aspect_ratio_policy", "stretch").as_str() {
        "stretch" => return Ok(None),
        "not_larger" => f64::min,
        "not_smaller" => f64::max,
        other => return invalid(format!("keep_aspect_ratio_policy '{other}'")),
    };
    Ok(ratios.collect::<Result<Vec<_>, _>>()?.into_iter().reduce(choose))
}
