//! Which samples are for training, which for validation, which for the final figures.

use super::augment::mix;
use super::{Dataset, Rule, Task};
use serde::Deserialize;
use std::collections::BTreeMap;

/// How a source is parted into training and test samples.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Keys")]
pub enum Split {
    /// Folders, files or arrays, by name below the data's own path.
    Parts { train: String, test: String },
    /// A share of the samples, 0 to 1, is for testing. Which ones depends on their contents and the seed alone: equal
    /// samples are on one side, and adding samples moves no other.
    Ratio { ratio: f64, seed: u64 },
    /// Samples that obey are for testing.
    Rule(Rule),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    train: Option<String>,
    test: Option<String>,
    ratio: Option<f64>,
    #[serde(default)]
    seed: u64,
    rule: Option<Rule>,
}

impl TryFrom<Keys> for Split {
    type Error = String;

    fn try_from(keys: Keys) -> Result<Split, String> {
        match (keys.train, keys.test, keys.ratio, keys.rule) {
            (Some(train), Some(test), None, None) => Ok(Split::Parts { train, test }),
            (None, None, Some(ratio), None) if ratio > 0.0 && ratio < 1.0 => {
                Ok(Split::Ratio { ratio, seed: keys.seed })
            }
            (None, None, Some(ratio), None) => Err(format!("ratio is {ratio}: the test share lies between 0 and 1")),
            (None, None, None, Some(rule)) => Ok(Split::Rule(rule)),
            _ => Err("say one of: train and test (folders or files), ratio (the test share), rule".into()),
        }
    }
}

/// Where a sample goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Train,
    Test,
}

impl Split {
    /// Where a sample goes that is not in a part of its own: `field` gives what its name or row says, `content` the
    /// hash of what it is.
    ///
    /// # Errors
    /// When the rule reads a field that the sample has not.
    pub(super) fn side<'a>(
        &self,
        field: impl FnOnce(&str) -> Option<std::borrow::Cow<'a, str>>,
        content: impl FnOnce() -> blake3::Hash,
    ) -> Result<Side, String> {
        let test = match self {
            Split::Parts { .. } => false,
            Split::Ratio { ratio, seed } => {
                let mut first = [0; 8];
                first.copy_from_slice(&content().as_bytes()[..8]);
                // 53 bits are a fraction that f64 holds exactly.
                let draw = mix(mix(*seed) ^ u64::from_le_bytes(first)) >> 11;
                (draw as f64) < ratio * (1u64 << 53) as f64
            }
            Split::Rule(rule) => match field(&rule.field) {
                Some(value) => rule.holds(&value),
                None => return Err(format!("the rule of [split] reads \"{}\", which is not there", rule.field)),
            },
        };
        Ok(if test { Side::Test } else { Side::Train })
    }
}

/// Parts the samples into training and validation indices, both ascending. Of each class, `fraction` (rounded to the
/// nearest count) goes to validation; which ones depends on `seed` and the labels alone. Samples without a label
/// all go to training: they can judge nothing, unless a network is to answer with the sample itself.
pub fn split(samples: &dyn Dataset, answers: &Task, fraction: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let (mut train, mut validation) = (Vec::new(), Vec::new());
    for (class, members) in classes(samples, seed) {
        let judges = class.is_some() || !answers.are_classes();
        let taken = if judges { share(members.len(), fraction) } else { 0 };
        validation.extend_from_slice(&members[..taken]);
        train.extend_from_slice(&members[taken..]);
    }
    train.sort_unstable();
    validation.sort_unstable();
    (train, validation)
}

/// About `count` samples, ascending, as many of each class (and of those without a label) as there are in proportion;
/// all where there are no more.
pub fn sample(samples: &dyn Dataset, count: usize, seed: u64) -> Vec<usize> {
    let fraction = count as f64 / samples.len().max(1) as f64;
    let taken = |(_, members): (_, Vec<usize>)| members[..share(members.len(), fraction)].to_vec();
    let mut indices: Vec<usize> = classes(samples, seed).into_iter().flat_map(taken).collect();
    indices.sort_unstable();
    indices
}

fn share(count: usize, fraction: f64) -> usize {
    (count as f64 * fraction.clamp(0.0, 1.0)).round() as usize
}

/// The samples of each class, in an order that the seed makes.
fn classes(samples: &dyn Dataset, seed: u64) -> BTreeMap<Option<u16>, Vec<usize>> {
    let mut classes: BTreeMap<Option<u16>, Vec<usize>> = BTreeMap::new();
    for i in 0..samples.len() {
        classes.entry(samples.label(i)).or_default().push(i);
    }
    classes.values_mut().for_each(|members| members.sort_by_key(|&i| (mix(mix(seed) ^ i as u64), i)));
    classes
}
