//! A node of any opset → [`Op`](crate::graph::Op) in its one form, one file per family of operators.
//!
//! Specification and history of each operator: <https://github.com/onnx/onnx/blob/main/docs/Changelog.md>. An opset
//! number here is where the meaning or the place of an attribute changed.

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
mod window;

use super::call::Call;
use super::fault::{Fault, unsupported};
use super::plan::Plan;

/// Converts a node of a family; `None` for any other. No operator is in two families.
type Family = fn(&Call) -> Result<Option<Plan>, Fault>;

const FAMILIES: [Family; 12] = [
    convolution::convert,
    elementwise::convert,
    indexing::convert,
    linear::convert,
    movement::convert,
    normalisation::convert,
    pooling::convert,
    quantization::convert,
    recurrent::convert,
    reduction::convert,
    reshape::convert,
    resize::convert,
];

/// Converts a node of the standard domain.
///
/// # Errors
/// When the node contradicts its operator, or the graph has no way to say what it does.
pub fn convert(call: &Call) -> Result<Plan, Fault> {
    for family in FAMILIES {
        if let Some(plan) = family(call)? {
            return Ok(plan);
        }
    }
    unsupported("not known to kdc")
}
