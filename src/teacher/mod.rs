//! Runs a teacher and keeps its answers.
//!
//! In: an ONNX file and batches of samples. Out: its outputs and any intermediate values asked for by name (*taps*).
//! Any operator the engine knows will do; the rest of kdc need not.
//!
//! - tract is built in. ONNX Runtime is used when its library is found, about twice as fast on the CPUs tried.
//! - Both run a batch in chunks of a fixed size, so that an answer does not depend on how many cores there are to share
//!   them.
//! - [`LogitCache`] keeps the logits of every sample and view on disk: a teacher is asked once.

mod cache;
mod chunks;
mod error;
mod file;
mod library;
mod onnxruntime;
mod predict;
#[cfg(test)]
mod tests;
mod tract;

pub use cache::{Labelled, Labelling, LogitCache, Shard};
pub use error::Error;
pub use file::content_hash;
pub use predict::{accuracy, doubt, logits, predict};

use crate::graph::Tensor;
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

    /// Why the engine is not the one that would have been faster, for people.
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
    /// ONNX Runtime when a library is found that works, else tract.
    #[default]
    Auto,
    /// Built in.
    Tract,
    /// The library must be there.
    OnnxRuntime,
}

/// Opens a teacher. Values named in `taps` come back with every answer, beside the outputs.
///
/// # Errors
/// When the file cannot be read or no engine can run it.
pub fn open(model: &Path, taps: &[String], choice: EngineChoice) -> Result<Box<dyn Teacher>, Error> {
    let model = file::Model::read(model, taps)?;
    match choice {
        EngineChoice::Tract => Ok(Box::new(tract::Tract::open(&model, None)?)),
        EngineChoice::OnnxRuntime => Ok(Box::new(onnxruntime::OnnxRuntime::open(&model)?)),
        EngineChoice::Auto => match onnxruntime::OnnxRuntime::open(&model) {
            Ok(teacher) => Ok(Box::new(teacher)),
            Err(why) => match tract::Tract::open(&model, Some(why.to_string())) {
                Ok(teacher) => Ok(Box::new(teacher)),
                Err(tract) => Err(Error::NoEngine { tract: Box::new(tract), onnxruntime: Box::new(why) }),
            },
        },
    }
}
