//! Convolutions.

use super::super::call::Call;
use super::super::fault::{Fault, invalid, unsupported};
use super::super::plan::Plan;
use super::window::{pads, resolved_pads, spatial};
use crate::graph::{Conv, ConvTranspose, Dim, Op};

pub fn convert(call: &Call) -> Result<Option<Plan>, Fault> {
    let plan = match call.proto.op_type.as_str() {
        "Conv" => {
            let conv = conv(call)?;
            if call.operand(2).is_some() && call.shape(2)? != call.shape(1)?[..1] {
                return invalid("the bias does not have one element per filter");
            }
            Plan::new(0..3, Op::Conv(conv))
        }
        "ConvTranspose" => conv_transpose(call),
        "ConvInteger" => Plan::new(0..4, Op::ConvInteger(conv(call)?)),
        _ => return Ok(None),
    };
    plan.map(Some)
}

/// A convolution's attributes.
fn conv(call: &Call) -> Result<Conv, Fault> {
    let (conv, spatial) = convolution(call)?;
    let pads = pads(call, &spatial, &conv.kernel, &conv.strides, &conv.dilations)?;
    Ok(Conv { pads, ..conv })
}

/// A convolution's attributes but for its pads, and the operand's spatial extents.
fn convolution(call: &Call) -> Result<(Conv, Vec<Dim>), Fault> {
    let weights = call.shape(1)?;
    let spatial = spatial(call)?;
    if weights.len() != spatial.len() + 2 {
        return invalid(format!("weights of rank {} for an operand of rank {}", weights.len(), spatial.len() + 2));
    }
    let n = spatial.len();
    let of_weights: Vec<usize> = weights[2..].iter().map(|d| d.at(1)).collect();
    let kernel = match call.attribute("kernel_shape") {
        Some(_) => call.sizes("kernel_shape", n, 1, 1)?,
        None => of_weights,
    };
    let strides = call.sizes("strides", n, 1, 1)?;
    let dilations = call.sizes("dilations", n, 1, 1)?;
    let group = match usize::try_from(call.int("group", 1)) {
        Ok(group) if (1..=1 << 24).contains(&group) => group,
        _ => return invalid(format!("group {}", call.int("group", 1))),
    };
    Ok((Conv { kernel, strides, pads: vec![0; 2 * n], dilations, group }, spatial))
}

fn conv_transpose(call: &Call) -> Result<Plan, Fault> {
    let (conv, spatial) = convolution(call)?;
    let n = spatial.len();
    let mut output_padding = call.sizes("output_padding", n, 0, 0)?;
    let mut conv = Conv { ..conv };
    let full = |d: usize, output_padding: usize| {
        let Dim::Fixed(extent) = spatial[d] else { return unsupported("convolves along the batch") };
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
                let Ok(target) = usize::try_from(target[d]) else { return invalid(format!("a result of {target:?}")) };
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
        return invalid(format!("output_padding {output_padding:?} is not less than the stride"));
    }
    Plan::new(0..3, Op::ConvTranspose(ConvTranspose { conv, output_padding }))
}
