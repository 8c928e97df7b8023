//! What a run tells: sums over an epoch, one line for each epoch, and the events for whoever watches.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A summand of the objective, by name and value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    pub name: String,
    #[serde(with = "as_text")]
    pub loss: f64,
}

/// What an epoch came to. Means are over its steps, shares over its samples; NaN where there is nothing to compare.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// From 1.
    pub epoch: usize,
    /// Mean objective.
    #[serde(with = "as_text")]
    pub loss: f64,
    /// The objective's summands.
    pub parts: Vec<Part>,
    /// Share of the training samples classified rightly, while the student was still learning from them.
    #[serde(with = "as_text")]
    pub train_accuracy: f64,
    /// Share of the training samples that student and teacher put into the same class.
    #[serde(with = "as_text")]
    pub agreement: f64,
    /// Share of the validation samples classified rightly at the epoch's end.
    #[serde(with = "as_text")]
    pub accuracy: f64,
    /// Learning rate of the last step.
    #[serde(with = "as_text")]
    pub lr: f64,
}

/// Told to whoever watches.
#[derive(Clone, Debug)]
pub enum Event {
    /// A step is done.
    Step(Step),
    /// An epoch is done.
    Epoch(Epoch),
    /// The numbers were lost; training goes on from the last good checkpoint with half the learning rate.
    RolledBack {
        /// What the loss was.
        loss: f32,
        /// At which step.
        step: usize,
        /// From where it goes on.
        to: usize,
        /// The peak learning rate from now on.
        lr: f64,
    },
    /// The checkpoint of an interrupted run is damaged: training begins from the front.
    Anew { checkpoint: PathBuf },
    /// So many epochs brought nothing; the rest is left out.
    Stopped { after: usize, without_gain: usize },
}

/// A step that is done.
#[derive(Clone, Debug)]
pub struct Step {
    /// How many so far, and of how many.
    pub done: usize,
    pub total: usize,
    /// The objective.
    pub loss: f32,
    /// Its summands.
    pub parts: Vec<Part>,
    /// Share of the epoch's samples so far that were classified rightly.
    pub train_accuracy: f64,
    pub lr: f64,
}

/// Sums over the epoch under way, kept in checkpoints to the last bit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    #[serde(with = "as_text")]
    loss: f64,
    parts: Vec<Part>,
    hits: Hits,
    steps: u64,
    #[serde(with = "as_text")]
    lr: f64,
}

impl Tally {
    /// Takes in a step.
    pub fn add(&mut self, loss: f32, parts: &[Part], hits: &Hits, lr: f64) {
        self.loss += f64::from(loss);
        if self.parts.is_empty() {
            self.parts = parts.iter().map(|p| Part { name: p.name.clone(), loss: 0.0 }).collect();
        }
        self.parts.iter_mut().zip(parts).for_each(|(sum, part)| sum.loss += part.loss);
        self.hits = self.hits.with(*hits);
        self.steps += 1;
        self.lr = lr;
    }

    /// Share of the samples so far that were classified rightly.
    pub fn accuracy(&self) -> f64 {
        share(self.hits.right, self.hits.labelled)
    }

    /// The epoch as it ends.
    pub fn epoch(&self, epoch: usize, accuracy: f64) -> Epoch {
        let mean = |sum: f64| sum / self.steps.max(1) as f64;
        let parts = self.parts.iter().map(|p| Part { name: p.name.clone(), loss: mean(p.loss) }).collect();
        let agreement = share(self.hits.agreed, self.hits.asked);
        Epoch { epoch, loss: mean(self.loss), parts, train_accuracy: self.accuracy(), agreement, accuracy, lr: self.lr }
    }
}

/// Samples of a step by what was known of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hits {
    pub samples: u64,
    /// Of those with a label, the ones classified rightly.
    pub right: u64,
    pub labelled: u64,
    /// Of those that the teacher was asked about, the ones put into its class.
    pub agreed: u64,
    pub asked: u64,
}

impl Hits {
    pub fn with(self, other: Hits) -> Hits {
        Hits {
            samples: self.samples + other.samples,
            right: self.right + other.right,
            labelled: self.labelled + other.labelled,
            agreed: self.agreed + other.agreed,
            asked: self.asked + other.asked,
        }
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { f64::NAN } else { part as f64 / whole as f64 }
}

/// JSON has no NaN, and a decimal that is written and read back must be the same number.
mod as_text {
    pub fn serialize<S: serde::Serializer>(v: &f64, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&v.to_string())
    }
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The standard error of a share that so many samples were counted for; 0 where none was.
pub fn standard_error(share: f64, samples: usize) -> f64 {
    if samples == 0 { 0.0 } else { (share * (1.0 - share) / samples as f64).sqrt() }
}

/// The epoch whose parameters are kept, an index into the history: the last that is not clearly worse than the best
/// before it, by more than a standard error of the samples that judge. It has learned longest, at the lowest rate; a few samples
/// that judge would choose by chance. `None` where all are below `floor`.
pub(super) fn chosen(history: &[Epoch], judges: usize, floor: f64) -> Option<usize> {
    let (mut chosen, mut best) = (None, f64::NEG_INFINITY);
    for (index, epoch) in history.iter().enumerate() {
        let score = epoch.accuracy;
        best = best.max(score);
        let stands = chosen.is_none() || score >= best - standard_error(best, judges);
        if score.is_nan() || score >= floor && stands {
            chosen = Some(index);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: f64 = f64::NEG_INFINITY;

    fn after(accuracies: &[f64]) -> Vec<Epoch> {
        let epoch = |(index, &accuracy): (usize, &f64)| Tally::default().epoch(index + 1, accuracy);
        accuracies.iter().enumerate().map(epoch).collect()
    }

    #[test]
    fn the_last_epoch_is_kept_that_is_not_clearly_worse() {
        // Of 50 samples a standard error of 0.04; of 5,000 one of 0.004.
        let history = after(&[0.7, 0.92, 0.89, 0.9, 0.87]);
        assert_eq!(chosen(&history, 50, NONE), Some(3));
        assert_eq!(chosen(&history, 5_000, NONE), Some(1));
        // The later of equals, whatever judges.
        assert_eq!(chosen(&after(&[-0.5, 0.4, 0.4, 0.39]), 0, NONE), Some(2));
        assert_eq!(chosen(&after(&[f64::NAN; 3]), 0, NONE), Some(2));
        assert_eq!(chosen(&[], 50, NONE), None);
        // Never one below what training began with.
        assert_eq!(chosen(&history, 50, 0.895), Some(3));
        assert_eq!(chosen(&history, 50, 0.91), Some(1));
        assert_eq!(chosen(&history, 50, 0.95), None);
    }
}
