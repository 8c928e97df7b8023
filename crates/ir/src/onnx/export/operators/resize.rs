//! Resizing of images and of other axes.

use super::super::attributes::{Encoded, float, int, ints, text};
use crate::graph::{Coordinates, Dim, Interpolation, Resize, Rounding, Tensor};

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
pub fn encode(resize: &Resize, from: &[Dim]) -> Result<Encoded, &'static str> {
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
