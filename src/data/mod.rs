//! Samples: where they come from, and how a stored byte becomes an input of a network.
//!
//! In: a folder of IDX files ([`load`]) and what a model's file does not say about its input ([`Sidecar`], the TOML file
//! beside it). Out: [`Samples`] as bytes, and batches as tensors ([`Preprocess::batch`]).
//!
//! Samples stay bytes until the last moment. Augmentation ([`View`]) moves bytes; preprocessing is one look-up table
//! of 256 entries per channel ([`Preprocess::table`]). So teacher, student, calibration and the generated program
//! see the same numbers, bit for bit.

mod error;
mod idx;
mod preprocess;
mod sidecar;
mod split;
#[cfg(test)]
mod tests;
mod view;

pub use error::Error;
pub use idx::load;
pub use preprocess::{Layout, Preprocess, fits};
pub use sidecar::{Licences, Sidecar};
pub use split::split;
pub use view::{Augment, View};

/// A set to learn from and a set to be judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// What training (and its validation split) may see.
    pub train: Samples,
    /// What only final figures see. Same shape of sample as `train`.
    pub test: Samples,
    /// The name of each class, by label.
    pub class_names: Vec<String>,
}

/// Labelled samples, all of one shape, as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Samples {
    /// Height, width and channels of one sample.
    pub shape: [usize; 3],
    /// Samples back to back, each row-major `[height][width][channel]`.
    pub pixels: Vec<u8>,
    /// The class of each sample.
    pub labels: Vec<u16>,
}

impl Samples {
    /// How many samples there are.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of one sample.
    pub fn sample_len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The bytes of one sample, row-major `[height][width][channel]`.
    ///
    /// # Panics
    /// If there is no such sample.
    pub fn sample(&self, index: usize) -> &[u8] {
        let n = self.sample_len();
        &self.pixels[index * n..][..n]
    }

    /// The samples named, in the order named.
    ///
    /// # Panics
    /// If there is no such sample.
    pub fn select(&self, indices: &[usize]) -> Samples {
        Samples {
            shape: self.shape,
            pixels: indices.iter().flat_map(|&i| self.sample(i)).copied().collect(),
            labels: indices.iter().map(|&i| self.labels[i]).collect(),
        }
    }

    /// The BLAKE3 hash of shape, pixels and labels, in hexadecimal: the name of these samples in caches.
    pub fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"kdc samples 1\n");
        for extent in self.shape {
            hasher.update(&(extent as u64).to_le_bytes());
        }
        hasher.update(&(self.len() as u64).to_le_bytes());
        hasher.update(&self.pixels);
        for label in &self.labels {
            hasher.update(&label.to_le_bytes());
        }
        hasher.finalize().to_hex().to_string()
    }
}
