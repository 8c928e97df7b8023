//! Samples: where they come from, and how they become inputs of a network.
//!
//! In: files, and what a model's file does not say about its input ([`Sidecar`], the TOML file beside it). Out:
//! [`Splits`] of samples behind one trait, [`Dataset`], which is all that consumers know: labels, batches as tensors,
//! augmented views, a hash.
//!
//! Images stay bytes until the last moment. Augmentation ([`Move`]) moves bytes; preprocessing is one look-up table
//! of 256 entries per channel ([`Preprocess::table`]). So teacher, student, calibration and the generated program
//! see the same numbers, bit for bit.

mod augment;
mod dataset;
mod error;
mod idx;
mod images;
mod preprocess;
mod samples;
mod sidecar;
mod split;
#[cfg(test)]
mod tests;

pub use augment::{Augment, Move};
pub use dataset::{Dataset, Input, Look, Shown, Splits, View, fits};
pub use error::Error;
pub use images::Images;
pub use preprocess::{Layout, Preprocess};
pub use samples::Samples;
pub use sidecar::{Licences, Sidecar};
pub use split::split;

use crate::graph::Graph;
use std::path::Path;
use std::sync::Arc;

/// Reads the data of a model: `path` (a sidecar's own, or another) as the sidecar says, for the inputs of `network`.
///
/// # Errors
/// Names file and line of what cannot be used, and what does not go together.
pub fn load(sidecar: &Sidecar, path: &Path, network: &Graph) -> Result<Splits, Error> {
    let (train, test, class_names) = idx::load(path, sidecar.classes.as_deref())?;
    let part = |samples| -> Result<Arc<dyn Dataset>, Error> {
        Ok(Arc::new(Images::new(samples, sidecar.preprocess.clone(), sidecar.augment)?))
    };
    let splits = Splits { train: part(train)?, test: part(test)?, class_names };
    fits(network, &splits)?;
    Ok(splits)
}
