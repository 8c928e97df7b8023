//! Images as samples of a network.

use super::augment::Kind;
use super::views::Input;
use super::{Augment, Error, Layout, Preprocess, Samples};
use kdc_ir::graph::DType;

/// Images, and how they become the input of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Images {
    pub(super) samples: Samples,
    pub(super) preprocess: Preprocess,
    pub(super) augment: Augment,
    pub(super) inputs: [Input; 1],
}

impl Images {
    /// Images of one shape.
    ///
    /// # Errors
    /// When the preprocessing does not fit their channels, or the augmentation is not for images.
    pub fn new(samples: Samples, preprocess: Preprocess, augment: Augment) -> Result<Images, Error> {
        preprocess.check(samples.shape[2])?;
        augment.check(Kind::Images)?;
        let shape = preprocess.layout.shape(1, samples.shape).split_off(1);
        let inputs = [Input { name: None, dtype: DType::F32, shape }];
        Ok(Images { samples, preprocess, augment, inputs })
    }

    /// The stored bytes and labels.
    pub fn samples(&self) -> &Samples {
        &self.samples
    }

    /// The input value of every byte, per channel; see [`Preprocess::table`].
    pub fn table(&self) -> Vec<[f32; 256]> {
        self.preprocess.table(self.samples.shape[2])
    }

    /// The axes of the network's input, without the batch, in the order in which the stored bytes have them.
    pub fn axes(&self) -> Vec<usize> {
        match self.preprocess.layout {
            Layout::Nchw => vec![1, 2, 0],
            Layout::Nhwc => vec![0, 1, 2],
            Layout::Flat => vec![0],
        }
    }
}
