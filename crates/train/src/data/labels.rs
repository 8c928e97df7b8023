//! From what files say to classes.

use super::error::Location;
use super::{Error, Splits};
use kdc_ir::graph::{Graph, elements};
use std::cmp::Ordering;
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
        let sizes: Option<Vec<Number>> = names.iter().map(|name| Number::of(name)).collect();
        let class = |(spelling, at): &(String, Location)| {
            let named = names.iter().position(|name| name == spelling);
            // Numbers count classes, unless classes are named by numbers: then 3.0 is the class 3.
            let numbered = || match (&sizes, Number::of(spelling)?) {
                (Some(sizes), number) => sizes.iter().position(|size| *size == number),
                (None, Number::Whole(k)) => usize::try_from(k).ok().filter(|&k| k < names.len()),
                (None, Number::Real(_)) => None,
            };
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

/// A label that is a number, by its size: `7`, `07` and `7.0` are one. Whole numbers are exact.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Whole(i128),
    Real(f64),
}

impl Number {
    fn of(text: &str) -> Option<Number> {
        if let Ok(whole) = text.parse() {
            return Some(Number::Whole(whole));
        }
        let real: f64 = text.parse().ok().filter(|x: &f64| x.is_finite())?;
        // Below 2^53 every whole number is one of f64.
        let whole = real.fract() == 0.0 && real.abs() < 9_007_199_254_740_992.0;
        Some(if whole { Number::Whole(real as i128) } else { Number::Real(real) })
    }

    fn order(self, other: Number) -> Ordering {
        match (self, other) {
            (Number::Whole(a), Number::Whole(b)) => a.cmp(&b),
            (a, b) => a.real().total_cmp(&b.real()),
        }
    }

    fn real(self) -> f64 {
        match self {
            Number::Whole(x) => x as f64,
            Number::Real(x) => x,
        }
    }
}

/// Labels of both parts by class, and the names of the classes.
#[derive(Default)]
pub(super) struct Classes {
    pub train: Vec<Option<u16>>,
    pub test: Vec<Option<u16>>,
    pub names: Vec<String>,
    /// What to say about them.
    pub notes: Vec<String>,
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
    let (names, note) = match given {
        Some(names) => (names.to_vec(), None),
        None => names(train, outputs)?,
    };
    if names.len() > usize::from(u16::MAX) {
        let what = format!("{} different labels: more than the 65,535 classes that there can be", names.len());
        return Err(Error::Mismatch { what });
    }
    Ok(Classes { train: train.classes(&names)?, test: test.classes(&names)?, names, notes: note.into_iter().collect() })
}

/// The names of classes that nobody listed, and what to say about their order.
///
/// # Errors
/// Names the place of the first number that is no class of the network's, unless there are as many numbers as classes.
fn names(train: &Labels, outputs: usize) -> Result<(Vec<String>, Option<String>), Error> {
    let numbered = || (0..outputs).map(|k| k.to_string()).collect();
    let mut names: Vec<String> = train.spellings.iter().map(|(spelling, _)| spelling.clone()).collect();
    if names.is_empty() {
        return Ok((numbered(), None));
    }
    names.sort();
    let number = |name: &String| Some((Number::of(name)?, name.clone()));
    let Some(mut numbers) = names.iter().map(number).collect::<Option<Vec<(Number, String)>>>() else {
        return Ok((names, None));
    };
    numbers.sort_by(|(a, _), (b, _)| a.order(*b));
    numbers.dedup_by(|(a, _), (b, _)| a == b);
    let in_range = |number: &Number| matches!(number, Number::Whole(k) if (0..outputs as i128).contains(k));
    let all_in_range = numbers.iter().all(|(number, _)| in_range(number));
    if !all_in_range && outputs > 0 && numbers.len() != outputs {
        let outside = |(spelling, _): &&(String, Location)| !Number::of(spelling).is_some_and(|n| in_range(&n));
        if let Some((spelling, at)) = train.spellings.iter().find(outside) {
            let what = format!("label \"{spelling}\" is none of the network's {outputs} classes, which count from 0");
            return Err(at.clone().error(format!("{what}; correct it, or list the classes in [data] of the sidecar")));
        }
    }
    let (taken, how) = match all_in_range {
        true => (numbered(), "each is the class of its number"),
        false => {
            (numbers.into_iter().map(|(_, name)| name).collect::<Vec<_>>(), "their classes are in the order of size")
        }
    };
    let plain = names.iter().all(|name| name.parse::<u64>().is_ok_and(|k| k.to_string() == *name));
    let note = (!plain || !all_in_range).then(|| {
        let some = if names.len() > 3 { format!("{}, …", names[..3].join(", ")) } else { names.join(", ") };
        format!("the labels {some} are read as numbers: {how}; list classes in [data] of the sidecar if the network has another")
    });
    Ok((taken, note))
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
