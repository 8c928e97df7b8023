//! What networks say about samples.

use super::Error;
use crate::data::{Dataset, SampleView};
use crate::program::{Program, reference};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Samples on which the built program and the reference interpreter are compared bit for bit.
pub(super) const COMPARED: usize = 256;

/// So many samples of all, spread over the classes as evenly as there are samples of each, and within a class over the order
/// they are in, which may be one of their own (folders, recordings); and over how many classes. `truth`: the class of each
/// sample, where it is known; those of none are a class of their own.
pub(super) fn spread(truth: &[Option<u16>], count: usize) -> (Vec<usize>, usize) {
    let mut classes: BTreeMap<Option<u16>, Vec<usize>> = BTreeMap::new();
    truth.iter().enumerate().for_each(|(index, class)| classes.entry(*class).or_default().push(index));
    let mut shares = vec![0; classes.len()];
    let mut left = count.min(truth.len());
    while left > 0 {
        for (share, _) in shares.iter_mut().zip(classes.values()).filter(|(share, of)| **share < of.len()) {
            if left > 0 {
                *share += 1;
                left -= 1;
            }
        }
    }
    let named = shares.iter().zip(classes.keys()).filter(|(share, class)| **share > 0 && class.is_some()).count();
    let evenly = |(of, share): (&Vec<usize>, &usize)| {
        let middle = |i: usize| of[(2 * i + 1) * of.len() / (2 * share)];
        (0..*share).map(middle).collect::<Vec<_>>()
    };
    let mut chosen: Vec<usize> = classes.values().zip(&shares).flat_map(evenly).collect();
    chosen.sort_unstable();
    (chosen, named)
}

/// What a network says about each sample: the class with the highest logit, the first of equals.
pub(super) fn classes(logits: &[f32], classes: usize) -> Vec<u16> {
    let best = |row: &[f32]| {
        let better = |best: (usize, f32), (i, &v): (usize, &f32)| if v > best.1 { (i, v) } else { best };
        row.iter().enumerate().fold((0, f32::NEG_INFINITY), better).0 as u16
    };
    logits.chunks(classes.max(1)).map(best).collect()
}

/// The labels of some samples.
pub(super) fn labels(samples: &dyn Dataset) -> Vec<Option<u16>> {
    (0..samples.len()).map(|i| samples.label(i)).collect()
}

/// The share of the labelled samples that are put into their class; 0 where none is labelled.
pub(super) fn right(said: &[u16], truth: &[Option<u16>]) -> f64 {
    let labelled = || said.iter().zip(truth).filter_map(|(said, truth)| Some((*truth)? == *said));
    labelled().filter(|hit| *hit).count() as f64 / labelled().count().max(1) as f64
}

/// The share of samples on which two agree.
pub(super) fn share(a: &[u16], b: &[u16]) -> f64 {
    a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len().min(b.len()).max(1) as f64
}

/// What the reference interpreter says, sample by sample.
pub(super) struct Expected {
    runs: Vec<reference::Run>,
}

impl Expected {
    /// All outputs as real numbers, one after the other.
    pub fn concat_f32(&self) -> Vec<f32> {
        self.runs.iter().flat_map(reference::Run::output_f32).collect()
    }

    /// The stored outputs as bytes.
    pub fn stored(&self) -> Vec<u8> {
        let bytes = |run: &reference::Run| match run.stored_output() {
            reference::Activation::I8(v) => v.iter().map(|&x| x as u8).collect::<Vec<u8>>(),
            reference::Activation::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            reference::Activation::Tokens(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        };
        self.runs.iter().flat_map(bytes).collect()
    }
}

/// Runs the reference interpreter on some samples.
pub(super) fn interpret(program: &Program, samples: &dyn Dataset, indices: &[usize]) -> Result<Expected, Error> {
    let one = |&i: &usize| reference::run(program, &reference::Input::F32(&floats(samples, &[i])));
    Ok(Expected { runs: indices.par_iter().map(one).collect::<Result<_, _>>()? })
}

/// The inputs of some samples as programs take them: plain, one after the other, sample by sample, all as `f32`.
pub(super) fn floats(samples: &dyn Dataset, indices: &[usize]) -> Vec<f32> {
    let batch = samples.batch(&SampleView::plain(indices.iter().copied()));
    let parts: Vec<_> = batch.iter().map(|part| (part.to_f32(), part.len() / indices.len().max(1))).collect();
    let one = |i: usize| parts.iter().flat_map(move |(values, len)| values[i * len..][..*len].iter().copied());
    (0..indices.len()).flat_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// How many of each class were chosen.
    fn counts(truth: &[Option<u16>], chosen: &[usize]) -> BTreeMap<Option<u16>, usize> {
        let mut counts = BTreeMap::new();
        chosen.iter().for_each(|&index| *counts.entry(truth[index]).or_default() += 1);
        counts
    }

    #[test]
    fn samples_in_the_order_of_their_classes_are_all_represented() {
        let truth: Vec<_> = (0..2000).map(|i| Some((i / 200) as u16)).collect();
        let (chosen, classes) = spread(&truth, COMPARED);
        assert_eq!((chosen.len(), classes), (COMPARED, 10));
        assert!(counts(&truth, &chosen).values().all(|&n| n == 25 || n == 26));
        // Within a class from its beginning to its end.
        assert!(chosen[0] < 8 && (192..200).contains(&chosen[25]), "{chosen:?}");
    }

    #[test]
    fn however_samples_are_labelled_the_choice_is_even_whole_and_of_different_ones() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        for round in 0..300 {
            let (all, kinds) = (random.random_range(1..700), random.random_range(1..40));
            let label = |random: &mut ChaCha8Rng| random.random_ratio(9, 10).then(|| random.random_range(0..kinds));
            let mut truth: Vec<Option<u16>> = (0..all).map(|_| label(&mut random)).collect();
            if round % 2 == 0 {
                truth.sort();
            }
            let count = random.random_range(1..300);
            let (chosen, classes) = spread(&truth, count);
            assert_eq!(chosen.len(), count.min(all));
            assert!(chosen.is_sorted_by(|a, b| a < b) && chosen.iter().all(|&i| i < all));
            let (chosen, there) = (counts(&truth, &chosen), counts(&truth, &(0..all).collect::<Vec<_>>()));
            assert_eq!(classes, chosen.keys().flatten().count());
            let most = chosen.values().max().unwrap();
            for (class, all) in there {
                let has = chosen.get(&class).copied().unwrap_or(0);
                assert!(has == all || has + 1 >= *most, "{class:?}: {has} of {all}, others {most}");
            }
        }
    }
}
