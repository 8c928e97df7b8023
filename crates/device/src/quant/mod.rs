//! Float network → calibrated network → quantized network.
//!
//! In comes a trained [`Graph`](kdc_ir::graph::Graph) with batch norm folded, and what its values were seen to be on
//! calibration samples; out goes the same graph in which every activation and weight carries
//! [`QuantParams`](kdc_ir::graph::QuantParams). That graph is the one source both of the QDQ file and of the integer
//! program, so the two mean the same thing.
//!
//! Activations are `i8`, asymmetric, one pair per tensor; weights `i8`, symmetric, one scale per output channel; biases
//! `i32` at the product of both scales (Jacob et al. 2018, <https://arxiv.org/abs/1712.05877>; Krishnamoorthi 2018,
//! <https://arxiv.org/abs/1806.08342>), which is as large as it takes for them to fit. Any finite numbers can be quantized:
//! dead channels, tiny ones and huge ones beside them.

mod constants;
mod fusion;
mod observer;
mod params;
mod quantize;
mod shared;
#[cfg(test)]
mod tests;
mod unquantized;

pub use fusion::{Fusion, fusions};
pub use observer::{Calibration, Observer, Range};
pub use params::{activation_params, dequantize, quantize};
pub use quantize::{CalibratedModel, QuantizedModel};

use kdc_ir::graph::{DType, Graph, ValueId};

/// Why a network cannot be quantized.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operator without integer meaning.
    #[error("node '{node}' ({op}) cannot be quantized: {why}")]
    Unsupported { node: String, op: String, why: String },
    /// A value that calibration never saw.
    #[error("value '{value}' was not seen in calibration")]
    Unseen { value: String },
    /// A value that is not finite.
    #[error(
        "value '{value}' became {what} in calibration: look for a division by zero in the network, and at scale, mean and std in the sidecar; or training destroyed it"
    )]
    NotFinite { value: String, what: f32 },
}

/// The values that calibration must watch: inputs and results that are stored as integers, which is every real number but
/// constants and what lies inside of functions and masks.
pub fn watched(graph: &Graph) -> Vec<ValueId> {
    let unquantized = unquantized::unquantized(graph);
    let results = graph.nodes.iter().flat_map(|n| n.outputs.iter().copied());
    let all = graph.inputs.iter().copied().chain(results);
    all.filter(|id| graph.value(*id).dtype == DType::F32 && !unquantized.contains(id)).collect()
}
