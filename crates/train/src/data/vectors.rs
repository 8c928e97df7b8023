//! Samples of real numbers: rows of a table, signals, features of sounds.

use super::augment::Kind;
use super::dataset::Dataset;
use super::views::{Input, Preview, SampleView};
use super::{Augment, Error, Preprocess};
use kdc_ir::graph::{DType, Tensor};

/// Samples of real numbers, all of one shape, normalised, and how they become the input of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Vectors {
    /// The extents of a sample where it comes from.
    shape: Vec<usize>,
    /// What the numbers of a sample are called; none where they have no names.
    names: Vec<String>,
    /// Sample by sample.
    values: Vec<f32>,
    labels: Vec<Option<u16>>,
    inputs: [Input; 1],
    augment: Augment,
    /// Which extent of a sample is time; `None`: numbers that stand for themselves.
    time: Option<usize>,
}

impl Vectors {
    /// Normalises samples: `(x · scale − mean) / std`, one mean and deviation for all or one for each index of the
    /// first extent. `input`: the extents of the network's input, of which those of a sample differ by extents of one
    /// alone. Samples of a single extent fill an input of as many numbers row by row, and may be normalised by its first
    /// extent.
    ///
    /// # Errors
    /// When the normalisation or the input does not fit the samples.
    ///
    /// # Panics
    /// If there are not as many values as labels and extents say.
    pub fn new(
        shape: Vec<usize>,
        names: Vec<String>,
        mut values: Vec<f32>,
        labels: Vec<Option<u16>>,
        preprocess: &Preprocess,
        input: &[usize],
    ) -> Result<Vectors, Error> {
        let size: usize = shape.iter().product();
        assert_eq!(values.len(), labels.len() * size, "samples of {shape:?}");
        let fills = shape.len() == 1 && input.iter().product::<usize>() == size;
        let rows = input.iter().copied().find(|&n| n != 1).filter(|&n| fills && preprocess.mean.len() == n);
        let channels = rows.or(shape.first().copied()).unwrap_or(1);
        preprocess.check(channels)?;
        let per_channel = size / channels.max(1);
        let Preprocess { scale, mean, std, .. } = preprocess;
        let of = |all: &[f64], channel: usize| all[channel.min(all.len() - 1)];
        if (*scale, mean.as_slice(), std.as_slice()) != (1.0, &[0.0][..], &[1.0][..]) {
            for (index, x) in values.iter_mut().enumerate() {
                let channel = index % size / per_channel;
                *x = ((f64::from(*x) * scale - of(mean, channel)) / of(std, channel)) as f32;
            }
        }
        let long = |extents: &[usize]| extents.iter().copied().filter(|&n| n != 1).collect::<Vec<_>>();
        // Where they do not agree, the check of the network against the data says so with both sides.
        let input = if fills || long(&shape) == long(input) { input.to_vec() } else { shape.clone() };
        let inputs = [Input { name: None, dtype: DType::F32, shape: input }];
        Ok(Vectors { shape, names, values, labels, inputs, augment: Augment::default(), time: None })
    }

    /// With views that are changed so. `time`: which extent of a sample is time, in which signals shift; `None` where
    /// none is, as in rows of a table.
    ///
    /// # Errors
    /// When they cannot be changed so.
    pub fn augmented(mut self, augment: Augment, time: Option<usize>) -> Result<Vectors, Error> {
        augment.check(if time.is_some() { Kind::Signals } else { Kind::Rows })?;
        (self.augment, self.time) = (augment, time);
        Ok(self)
    }

    fn sample(&self, index: usize) -> &[f32] {
        let size: usize = self.shape.iter().product();
        &self.values[index * size..][..size]
    }
}

impl Dataset for Vectors {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn label(&self, sample: usize) -> Option<u16> {
        self.labels[sample]
    }

    fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    fn batch(&self, looks: &[SampleView]) -> Vec<Tensor> {
        let mut shape = vec![looks.len()];
        shape.extend(&self.inputs[0].shape);
        let mut values: Vec<f32> = looks.iter().flat_map(|look| self.sample(look.sample)).copied().collect();
        if self.augment != Augment::default() {
            let size: usize = self.shape.iter().product();
            for (values, look) in values.chunks_mut(size.max(1)).zip(looks) {
                let Some(view) = look.view else { continue };
                let change = self.augment.change(view.seed, look.sample, view.number);
                // Without time there is no shift, so that the axis does not matter.
                change.apply(values, &self.shape, self.time.unwrap_or(0));
            }
        }
        vec![Tensor::f32(shape, values)]
    }

    fn hash(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("kdc vectors 1\n{:?}\n{}\n", self.inputs[0].shape, self.len()).as_bytes());
        self.values.iter().for_each(|x| _ = hasher.update(&x.to_le_bytes()));
        self.labels.iter().for_each(|label| _ = hasher.update(&label.unwrap_or(u16::MAX).to_le_bytes()));
        hasher.finalize().to_hex().to_string()
    }

    fn augmentation(&self) -> String {
        if self.augment == Augment::default() {
            return "none".into();
        }
        format!("{} along {:?}", self.augment.text(), self.time)
    }

    fn show(&self, sample: usize) -> Preview {
        let values = self.sample(sample);
        match self.shape.iter().copied().filter(|&n| n > 1).collect::<Vec<_>>()[..] {
            [height, width] => {
                let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(a, b), &x| (a.min(x), b.max(x)));
                let byte = |&x: &f32| (255.0 * (x - low) / (high - low).max(f32::MIN_POSITIVE)) as u8;
                Preview::Image { shape: [height, width, 1], pixels: values.iter().map(byte).collect() }
            }
            _ => Preview::Numbers { names: self.names.clone(), values: values.to_vec() },
        }
    }

    fn extents(&self) -> String {
        self.shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("×")
    }
}
