//! What is seen of samples: inputs of a network, samples as they are and augmented, and how they are shown.

use kdc_ir::graph::DType;
use serde::Serialize;

/// One input of a network, as samples fill it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The network's name for it; `None`: its only input, whatever the name.
    pub name: Option<String>,
    /// The type of its elements.
    pub dtype: DType,
    /// The extents of one sample: those after the batch.
    pub shape: Vec<usize>,
}

/// A sample, as it is or as one of its views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleView {
    pub sample: usize,
    /// `None`: as it is.
    pub view: Option<View>,
}

/// One of the augmented views of a sample. What is seen is a pure function of `(seed, sample, number)`: teacher and
/// student see the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    pub seed: u64,
    pub number: usize,
}

impl SampleView {
    /// Samples as they are.
    pub fn plain(samples: impl IntoIterator<Item = usize>) -> Vec<SampleView> {
        samples.into_iter().map(|sample| SampleView { sample, view: None }).collect()
    }

    /// The same view of each sample.
    pub fn at(samples: &[usize], view: View) -> Vec<SampleView> {
        samples.iter().map(|&sample| SampleView { sample, view: Some(view) }).collect()
    }
}

/// A sample for people.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Preview {
    /// An image.
    Image {
        /// Height, width, channels.
        shape: [usize; 3],
        /// The first channel, as stored.
        pixels: Vec<u8>,
    },
    /// Real numbers, as the network gets them.
    Numbers {
        /// What each is called; none where they have no names.
        names: Vec<String>,
        values: Vec<f32>,
    },
    /// A text, token by token, without padding.
    Tokens { tokens: Vec<String> },
}
