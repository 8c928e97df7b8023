//! What a run tells: sums over an epoch, one line for each epoch, and the events for whoever watches.

use super::objective::Part;
use serde::{Deserialize, Serialize};

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
pub(super) mod as_text {
    pub fn serialize<S: serde::Serializer>(v: &f64, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&v.to_string())
    }
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
