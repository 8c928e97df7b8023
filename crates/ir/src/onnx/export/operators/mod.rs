//! [`Op`] → the attributes and constant operands of its ONNX form, one file per family of operators.

mod convolution;
mod elementwise;
mod indexing;
mod linear;
mod movement;
mod normalisation;
mod pooling;
mod quantization;
mod recurrent;
mod reduction;
mod reshape;
mod resize;

pub use resize::by_sizes;

use super::attributes::{Context, Encoded};
use crate::graph::Op;

/// Encodes an operator of a family; `None` for any other, and for some without attributes.
type Family = fn(&Op, Context) -> Option<Encoded>;

const FAMILIES: [Family; 11] = [
    convolution::encode,
    elementwise::encode,
    indexing::encode,
    linear::encode,
    movement::encode,
    normalisation::encode,
    pooling::encode,
    quantization::encode,
    recurrent::encode,
    reduction::encode,
    reshape::encode,
];

/// The attributes and further operands of an operator. Those of an Expand and a OneHot that depend on the graph are not
/// among them: the exporter adds them.
///
/// # Errors
/// As [`resize::encode`].
pub fn encode(op: &Op, context: Context) -> Result<Encoded, &'static str> {
    if let Op::Resize(resize) = op {
        return resize::encode(resize, context.operand.map_or(&[], |value| &value.shape));
    }
    Ok(FAMILIES.iter().find_map(|family| family(op, context)).unwrap_or_default())
}
