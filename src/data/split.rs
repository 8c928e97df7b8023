use super::Samples;
use super::view::mix;
use std::collections::BTreeMap;

/// Parts the samples into training and validation indices, both ascending. Of each class, `fraction` (rounded to the
/// nearest count) goes to validation; which ones depends on `seed` and the labels alone.
pub fn split(samples: &Samples, fraction: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let mut classes: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
    for (i, &label) in samples.labels.iter().enumerate() {
        classes.entry(label).or_default().push(i);
    }
    let (mut train, mut validation) = (Vec::new(), Vec::new());
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
