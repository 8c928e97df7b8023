//! Rewrites from [`Graph`] to [`Graph`], and what runs them: [`run`] a list, [`apply`] one that gives or takes something.
//! Each is followed by the verifier, in every build: a broken graph stops where it was broken.
//!
//! A rewrite keeps what the network computes and the names of its inputs and outputs. It leaves alone what it does not
//! know: opaque nodes, and values that carry parameters of quantization (but for [`simulate_quantization`]).

mod batch_norm;
mod compose;
mod dead;
mod fold;
mod identity;
mod masks;
mod simulate;
mod softmax;
#[cfg(test)]
mod tests;

pub use batch_norm::{Moments, convolve_batch_norm, fold_batch_norm, insert_batch_norm, to_be_normalised};
pub use compose::compose_lrn;
pub use dead::{drop_dead_code, drop_unused_values};
pub use fold::fold_constants;
pub use identity::drop_identities;
pub use masks::{MASKED, before_softmax, is_mask, separate_masks};
pub use simulate::simulate_quantization;
pub use softmax::{TrailingSoftmax, restore_softmax, strip_softmax};

use crate::graph::{Graph, VerifyError, verify};

/// A rewrite that broke the graph: a fault of the rewrite.
#[derive(Debug, thiserror::Error)]
#[error("after the pass '{pass}' the graph is not well formed; this is a fault of kdc, please report it")]
pub struct Error {
    /// The rewrite's name.
    pub pass: &'static str,
    /// What the verifier found.
    pub source: VerifyError,
}

/// A rewrite and its name.
pub type Pass = (&'static str, fn(&mut Graph));

/// What every imported graph goes through.
const NORMALIZE: &[Pass] = &[
    ("fold constants", fold_constants),
    ("drop identities", drop_identities),
    ("fold constants", fold_constants),
    ("compose local response normalisation", compose_lrn),
    ("drop dead code", drop_dead_code),
];

/// What a trained network goes through before it becomes a program: no normalisation is left that has no kernel, and masks
/// are known as such.
pub const DEPLOY: &[Pass] = &[
    ("fold batch norm", fold_batch_norm),
    ("convolve batch norm", convolve_batch_norm),
    ("separate masks", separate_masks),
];

/// Runs rewrites in order and verifies the graph after each.
///
/// # Errors
/// When one leaves a graph that is not well formed.
pub fn run(graph: &mut Graph, passes: &[Pass]) -> Result<(), Error> {
    passes.iter().try_for_each(|(pass, rewrite)| apply(graph, pass, rewrite))
}

/// Runs one rewrite and verifies the graph.
///
/// # Errors
/// As [`run`].
pub fn apply<T>(graph: &mut Graph, pass: &'static str, rewrite: impl FnOnce(&mut Graph) -> T) -> Result<T, Error> {
    let made = rewrite(graph);
    verify(graph).map_err(|source| Error { pass, source })?;
    Ok(made)
}

/// Evaluates what is constant, and drops what has no effect.
///
/// # Errors
/// As [`run`].
pub fn normalize(graph: &mut Graph) -> Result<(), Error> {
    run(graph, NORMALIZE)
}
