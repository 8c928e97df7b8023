use super::Dataset;
use super::augment::mix;
use std::collections::BTreeMap;

/// Parts the samples into training and validation indices, both ascending. Of each class, `fraction` (rounded to the
/// nearest count) goes to validation; which ones depends on `seed` and the labels alone. Samples without a label
/// all go to training: they can judge nothing.
pub fn split(samples: &dyn Dataset, fraction: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let mut classes: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    let (mut train, mut validation) = (Vec::new(), Vec::new());
    for i in 0..samples.len() {
        match samples.label(i) {
            Some(label) => classes.entry(label).or_default().push(i),
            None => train.push(i),
        }
    }
    for mut members in classes.into_values() {
        members.sort_by_key(|&i| (mix(mix(seed) ^ i as u64), i));
        let taken = (members.len() as f64 * fraction.clamp(0.0, 1.0)).round() as usize;
        validation.extend_from_slice(&members[..taken]);
        train.extend_from_slice(&members[taken..]);
    }
    train.sort_unstable();
    validation.sort_unstable();
    (train, validation)
}
