//! Runs a Graph on burn tensors, differentiable: the one place where an operator meets burn.
//!
//! In comes a [`Graph`](kdc_ir::graph::Graph) and a device, out comes a [`Network`]: its float constants are parameters
//! (flat, rank 1, so that optimizers and checkpoints need not know shapes), batch-norm statistics are state, and
//! [`Network::forward`] returns outputs and any values asked for (*taps*).
//!
//! A `Network` is a plain struct and not a burn `Module`: its structure is known only when a file has been read, and a
//! training run must be able to stop and go on with the same bytes, which wants plain access to every number.
//!
//! [`ops`] is the seam for operators of our own (convolution, batch norm, attention, recurrent layers, …); everything else is
//! burn's.

mod device;
mod forward;
mod network;
pub mod ops;
mod plan;
#[cfg(test)]
mod tests;
mod value;

pub use device::Place;
pub use network::{Network, Parameter};
pub use ops::keep_memory;
pub use value::{Datum, Value};

/// What a pass is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Gradients are tracked, batch norm uses the batch's statistics and moves the running ones:
    /// `running = momentum · running + (1 − momentum) · batch`.
    Train { momentum: f64 },
    /// Gradients flow through to the inputs, batch norm uses the running statistics: the network does not change.
    Frozen,
    /// No gradients; batch norm uses the running statistics.
    Infer,
}

/// What a pass returns.
#[derive(Clone, Debug)]
pub struct Outputs {
    /// The graph's outputs, in order.
    pub outputs: Vec<Datum>,
    /// The values asked for, in order.
    pub taps: Vec<Datum>,
}

/// Runs something on a thread of the pool that kernels share their work with. Called from any other thread, each kernel
/// would hand its work over and sleep until it is done: two changes of threads for each of the hundreds of kernels in a
/// step, which took as long as the step itself on two cores.
pub fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}

/// Why a network cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A node that cannot be computed here.
    #[error("node '{node}' ({op}) cannot be run on burn: {why}")]
    Unsupported { node: String, op: String, why: String },
    /// An operand is not there.
    #[error("node '{node}': operand {index} is missing")]
    Operand { node: String, index: usize },
    /// A tensor of another rank than an operator takes.
    #[error("a tensor of rank {wanted} is wanted, this one is {shape:?}")]
    Rank { wanted: usize, shape: Vec<usize> },
    /// The caller's tensors do not fit the network's inputs.
    #[error("the network takes {wanted}, not {given}")]
    Input { wanted: String, given: String },
    /// Saved numbers of another network.
    #[error("saved parameters do not fit the network: {what}")]
    Restore { what: String },
    /// The device failed.
    #[error("the device failed: {0}")]
    Device(String),
}
