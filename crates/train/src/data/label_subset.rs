//! Samples of which only some labels are looked at.

use super::{Dataset, Images, Input, MaskedTokens, Preview, SampleView};
use kdc_ir::graph::Tensor;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A set with the labels of most samples hidden from whoever asks: training, validation, search and all.
#[derive(Clone, Debug)]
pub struct LabelSubset {
    samples: Arc<dyn Dataset>,
    /// By sample.
    shown: Vec<bool>,
}

impl LabelSubset {
    /// Shows `labels` of the labels (a count, or a share below 1), of every class in proportion and at least one; 0: none.
    /// Which ones, the seed decides.
    pub fn new(samples: Arc<dyn Dataset>, labels: f64, seed: u64) -> LabelSubset {
        let mut order: Vec<usize> = (0..samples.len()).filter(|&i| samples.label(i).is_some()).collect();
        let share = if labels < 1.0 { labels } else { labels / order.len().max(1) as f64 };
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let mut by_class: BTreeMap<Option<u16>, Vec<usize>> = BTreeMap::new();
        order.into_iter().for_each(|sample| by_class.entry(samples.label(sample)).or_default().push(sample));
        let mut shown = vec![false; samples.len()];
        for members in by_class.values().filter(|_| share > 0.0) {
            let count = ((share * members.len() as f64).round() as usize).clamp(1, members.len());
            members[..count].iter().for_each(|&i| shown[i] = true);
        }
        LabelSubset { samples, shown }
    }
}

impl Dataset for LabelSubset {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn label(&self, sample: usize) -> Option<u16> {
        self.samples.label(sample).filter(|_| self.shown[sample])
    }

    fn hidden(&self, looks: &[SampleView]) -> Option<MaskedTokens> {
        self.samples.hidden(looks)
    }

    fn inputs(&self) -> &[Input] {
        self.samples.inputs()
    }

    fn batch(&self, looks: &[SampleView]) -> Vec<Tensor> {
        self.samples.batch(looks)
    }

    fn hash(&self) -> String {
        let shown: Vec<u8> = self.shown.iter().map(|&s| s.into()).collect();
        kdc_ir::files::hash(&[self.samples.hash().as_bytes(), &shown].concat())
    }

    fn augmentation(&self) -> String {
        self.samples.augmentation()
    }

    fn show(&self, sample: usize) -> Preview {
        self.samples.show(sample)
    }

    fn extents(&self) -> String {
        self.samples.extents()
    }

    fn images(&self) -> Option<&Images> {
        self.samples.images()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Preprocess, Vectors};

    #[test]
    fn as_many_labels_as_asked_for_of_every_class() {
        // 90 of class 0, 9 of class 1, one of class 2, 20 without.
        let labels: Vec<Option<u16>> = (0..120)
            .map(|i| match i {
                0..90 => Some(0),
                90..99 => Some(1),
                99 => Some(2),
                _ => None,
            })
            .collect();
        let all: Arc<dyn Dataset> =
            Arc::new(Vectors::new(vec![1], vec![], vec![0.5; 120], labels, &Preprocess::default(), &[1]).unwrap());
        let counts = |labels: f64, seed: u64| {
            let partly = LabelSubset::new(all.clone(), labels, seed);
            let of = |class: Option<u16>| (0..120).filter(|&i| partly.label(i) == class).count();
            ([of(Some(0)), of(Some(1)), of(Some(2))], partly.hash())
        };
        assert_eq!(counts(20.0, 1).0, [18, 2, 1]);
        assert_eq!(counts(0.2, 1).0, [18, 2, 1]);
        assert_eq!(counts(0.0, 1).0, [0, 0, 0]);
        assert_eq!(counts(1e9, 1).0, [90, 9, 1]);
        assert_eq!(counts(20.0, 1).1, counts(20.0, 1).1);
        assert_ne!(counts(20.0, 1).1, counts(20.0, 2).1);
    }
}
