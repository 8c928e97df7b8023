//! Images as samples of a network.

use super::augment::Kind;
use super::dataset::{Dataset, Input, Look, Shown};
use super::{Augment, Error, Layout, Move, Preprocess, Samples};
use kdc_ir::graph::{DType, Tensor};

/// Images, and how they become the input of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Images {
    samples: Samples,
    preprocess: Preprocess,
    augment: Augment,
    inputs: [Input; 1],
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

impl Dataset for Images {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn label(&self, sample: usize) -> Option<u16> {
        self.samples.labels[sample]
    }

    fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    fn batch(&self, looks: &[Look]) -> Vec<Tensor> {
        let (indices, moves): (Vec<usize>, Vec<Move>) = looks
            .iter()
            .map(|look| {
                (look.sample, look.view.map(|v| self.augment.of(v.seed, look.sample, v.number)).unwrap_or_default())
            })
            .unzip();
        vec![self.preprocess.batch(&self.samples, &indices, Some(&moves))]
    }

    fn hash(&self) -> String {
        let Preprocess { layout, scale, mean, std } = &self.preprocess;
        // Numbers by their bits: two that print alike may still differ.
        let bits =
            |values: &[f64]| values.iter().map(|v| format!("{:016x}", v.to_bits())).collect::<Vec<_>>().join(",");
        let text = format!(
            "kdc images 1\nsamples {}\nlayout {layout:?}\nscale {}\nmean {}\nstd {}\n",
            self.samples.hash(),
            bits(&[*scale]),
            bits(mean),
            bits(std)
        );
        kdc_ir::files::hash(text.as_bytes())
    }

    fn augmentation(&self) -> String {
        self.augment.text()
    }

    fn show(&self, sample: usize) -> Shown {
        let shape = self.samples.shape;
        let pixels = self.samples.sample(sample).iter().step_by(shape[2].max(1)).copied().collect();
        Shown::Image { shape, pixels }
    }

    fn extents(&self) -> String {
        let [h, w, c] = self.samples.shape;
        format!("{h}×{w}×{c}")
    }

    fn images(&self) -> Option<&Images> {
        Some(self)
    }
}
