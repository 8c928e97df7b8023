//! Runs a teacher and keeps its answers.
//!
//! In: an ONNX file and batches of samples. Out: its outputs and any intermediate values asked for by name (*taps*).
//! Any operator the engine knows will do; the rest of kdc need not.
//!
//! - tract is built in, and taken first: the same inputs give the same student whatever is installed. ONNX Runtime, where its
//!   library is found, runs what tract does not, or what it is asked to run: about twice as fast on the CPUs tried.
//! - Whichever it is, its answers to a few samples are compared with those of kdc's own executor first.
//! - Both run a batch in chunks of a fixed size, so that an answer does not depend on how many cores there are to share
//!   them.
//! - [`LogitCache`] keeps the logits of every sample and view on disk: a teacher is asked once.

mod cache;
mod choice;
mod chunks;
mod difference;
mod error;
mod file;
mod library;
mod onnxruntime;
mod order;
mod own;
mod predict;
#[cfg(test)]
mod tests;
mod tract;

pub use cache::{Labelled, Labelling, LogitCache, Shard};
pub use choice::{UNCOMPARED, probe};
pub use difference::Difference;
pub use error::Error;
pub use file::{content_hash, files};
pub use order::other_order;
pub use predict::{accuracy, doubt, logits, predict};

use kdc_ir::graph::Tensor;
use std::path::Path;

/// What a teacher says about a batch. The first extent of every tensor is the number of samples; all are `f32`.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The network's outputs, in the file's order.
    pub outputs: Vec<Tensor>,
    /// The values asked for when it was opened, in the order asked for.
    pub taps: Vec<Tensor>,
}

/// A network that is only asked, never trained.
pub trait Teacher: Send + Sync {
    /// Which program computes, with its version: `ONNX Runtime 1.22.0`.
    fn engine(&self) -> &str;

    /// Why the engine is not the one that would have been faster, and what else is to be known of it, for people.
    fn note(&self) -> Option<&str> {
        None
    }

    /// The names of the values that [`Reply::taps`] holds.
    fn taps(&self) -> &[String];

    /// Runs the network on a batch: one tensor for each input of the file, in its order, each shaped as that input is,
    /// the first extent the number of samples.
    ///
    /// # Errors
    /// When the batch does not fit the inputs, the engine fails, or an answer is not finite.
    fn run(&self, batch: &[Tensor]) -> Result<Reply, Error>;
}

/// Which engine runs a teacher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// tract where it computes what the file says, else ONNX Runtime when a library is found that does; else kdc itself.
    #[default]
    Auto,
    /// Built in.
    Tract,
    /// The library must be there.
    OnnxRuntime,
    /// kdc's own executor: slower, and only for networks of which kdc knows all operators.
    Own,
}

/// The ONNX Runtime of this machine, with its version.
///
/// # Errors
/// Why there is none.
pub fn onnxruntime() -> Result<&'static str, &'static str> {
    library::get().map(|library| library.engine.as_str())
}

/// Opens a teacher. Values named in `taps` come back with every answer, beside the outputs. The engine is compared with
/// kdc's own executor on `samples`, see [`probe`]; with [`UNCOMPARED`] it is taken at its word, which is for those who
/// compare it themselves, or want no numbers of it.
///
/// # Errors
/// When the file cannot be read, no engine can run it, or the one that was asked for computes something else than kdc.
pub fn open(
    model: &Path,
    taps: &[String],
    choice: EngineChoice,
    samples: &[Tensor],
) -> Result<Box<dyn Teacher>, Error> {
    open_output(model, None, taps, choice, samples)
}

/// The same, to answer with one of the file's outputs alone where `output` names it.
///
/// # Errors
/// As [`open`]; also when the file has no such output.
pub fn open_output(
    model: &Path,
    output: Option<&str>,
    taps: &[String],
    choice: EngineChoice,
    samples: &[Tensor],
) -> Result<Box<dyn Teacher>, Error> {
    choice::choose(&file::Model::read(model, output, taps)?, choice, samples)
}
