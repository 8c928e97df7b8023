//! Windows over spatial axes: extents and pads, of convolutions and pools.

use super::super::call::Call;
use super::super::fault::{Fault, invalid, unsupported};
use crate::graph::{AutoPad, Dim};

/// The extents of the first operand behind batch and channels.
pub fn spatial(call: &Call) -> Result<Vec<Dim>, Fault> {
    match call.shape(0)? {
        shape if shape.len() >= 3 => Ok(shape[2..].to_vec()),
        shape => invalid(format!("wants [batch, channels, spatial…], has rank {}", shape.len())),
    }
}

/// Explicit pads, whichever way the node asks for them.
pub fn pads(
    call: &Call,
    spatial: &[Dim],
    kernel: &[usize],
    strides: &[usize],
    dilations: &[usize],
) -> Result<Vec<usize>, Fault> {
    let n = spatial.len();
    let auto = match call.text("auto_pad", "NOTSET").as_str() {
        "" | "NOTSET" => AutoPad::NotSet,
        "VALID" => AutoPad::Valid,
        "SAME_UPPER" => AutoPad::SameUpper,
        "SAME_LOWER" => AutoPad::SameLower,
        other => return invalid(format!("auto_pad '{other}'")),
    };
    match auto {
        AutoPad::NotSet => return call.sizes("pads", 2 * n, 0, 0),
        AutoPad::Valid => return Ok(vec![0; 2 * n]),
        AutoPad::SameUpper | AutoPad::SameLower => {}
    }
    let mut pads = vec![0; 2 * n];
    for d in 0..n {
        let Dim::Fixed(extent) = spatial[d] else { return unsupported("pads an extent that is the batch") };
        let covered = (extent.div_ceil(strides[d]).saturating_sub(1)) * strides[d] + (kernel[d] - 1) * dilations[d] + 1;
        let total = covered.saturating_sub(extent);
        let less = total / 2;
        let begin = if auto == AutoPad::SameUpper { less } else { total - less };
        (pads[d], pads[d + n]) = (begin, total - begin);
    }
    Ok(pads)
}

/// Pads that are given as such.
pub fn resolved_pads(call: &Call, axes: usize) -> Result<Vec<usize>, Fault> {
    call.sizes("pads", 2 * axes, 0, 0)
}
