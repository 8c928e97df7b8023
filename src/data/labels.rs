//! From what files say to classes.

use super::error::Location;
use super::{Error, Splits};
use crate::graph::{Graph, elements};
use std::collections::HashMap;

/// The labels of one part of a set as they stand in the files, each spelling kept once.
#[derive(Clone, Debug, Default)]
pub(super) struct Labels {
    /// Each spelling, and where it stands first.
    spellings: Vec<(String, Location)>,
    known: HashMap<String, usize>,
    /// By sample: an index into the spellings; `None` without a label.
    of: Vec<Option<usize>>,
}

impl Labels {
    /// The next sample's label.
    pub fn push(&mut self, label: Option<&str>, at: impl FnOnce() -> Location) {
        let index = label.map(|label| match self.known.get(label) {
            Some(&index) => index,
            None => {
                self.spellings.push((label.to_string(), at()));
                self.known.insert(label.to_string(), self.spellings.len() - 1);
                self.spellings.len() - 1
            }
        });
        self.of.push(index);
    }

    /// The class of each sample.
    ///
    /// # Errors
    /// Where a spelling that is no class stands first.
    fn classes(&self, names: &[String]) -> Result<Vec<Option<u16>>, Error> {
        let class = |(spelling, at): &(String, Location)| {
            let named = names.iter().position(|name| name == spelling);
            // Numbers count classes, unless classes are named by numbers.
            let numbered = || spelling.parse().ok().filter(|&k: &usize| k < names.len() && !numeric(names));
            let index = named.or_else(numbered).ok_or_else(|| {
                let listed = if names.len() > 12 { format!("{}, …", names[..12].join(", ")) } else { names.join(", ") };
                at.clone().error(format!(
                    "label \"{spelling}\" names none of the {} classes ({listed}); correct the label or the list of classes",
                    names.len()
                ))
            })?;
            Ok(index as u16)
        };
        let classes = self.spellings.iter().map(class).collect::<Result<Vec<u16>, Error>>()?;
        Ok(self.of.iter().map(|of| of.map(|index| classes[index])).collect())
    }
}

fn numeric(names: &[String]) -> bool {
    names.iter().all(|name| name.parse::<i64>().is_ok())
}

/// Labels of both parts by class, and the names of the classes.
pub(super) struct Classes {
    pub train: Vec<Option<u16>>,
    pub test: Vec<Option<u16>>,
    pub names: Vec<String>,
}

/// Gives labels their classes. Without names given, classes are what the training samples are labelled with: numbers by
/// size, else in alphabetical order. Whole numbers below `outputs` (how many classes the network tells apart) stand for
/// themselves.
///
/// # Errors
/// Names the place of a label that is no class.
pub(super) fn resolve(
    train: &Labels,
    test: &Labels,
    given: Option<&[String]>,
    outputs: usize,
) -> Result<Classes, Error> {
    let names = match given {
        Some(names) => names.to_vec(),
        None => names(train, outputs),
    };
    if names.len() > usize::from(u16::MAX) {
        let what = format!("{} different labels: more than the 65,535 classes that there can be", names.len());
        return Err(Error::Mismatch { what });
    }
    Ok(Classes { train: train.classes(&names)?, test: test.classes(&names)?, names })
}

fn names(train: &Labels, outputs: usize) -> Vec<String> {
    let numbered = || (0..outputs).map(|k| k.to_string()).collect();
    let mut names: Vec<String> = train.spellings.iter().map(|(spelling, _)| spelling.clone()).collect();
    if names.is_empty() {
        return numbered();
    }
    if !numeric(&names) {
        names.sort();
        return names;
    }
    let number = |name: &String| name.parse::<i64>().unwrap_or(0);
    let in_range = |name: &String| usize::try_from(number(name)).is_ok_and(|k| k < outputs && k.to_string() == *name);
    if names.iter().all(in_range) {
        return numbered();
    }
    names.sort_by_key(number);
    names
}

/// How many classes a network tells apart.
pub(super) fn outputs(network: &Graph) -> usize {
    network.outputs.first().map_or(0, |&id| elements(&network.value(id).shape))
}

/// Checks that there is something to learn from and something to judge by.
///
/// # Errors
/// Names the part that is empty.
pub(super) fn not_empty(splits: &Splits, at: &Location) -> Result<(), Error> {
    for (part, samples) in [("training", &splits.train), ("test", &splits.test)] {
        if samples.is_empty() {
            return Err(at.clone().error(format!("no {part} samples; see [split] in the sidecar")));
        }
    }
    Ok(())
}
