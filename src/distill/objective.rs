//! What training minimises.

use super::Schedule;
use super::history::as_text;
use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

/// Which values a term reads, so that the trainer fetches just those.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// The true classes.
    pub labels: bool,
    /// The teacher's logits.
    pub teacher_logits: bool,
}

impl Reads {
    fn or(self, other: Reads) -> Reads {
        Reads { labels: self.labels || other.labels, teacher_logits: self.teacher_logits || other.teacher_logits }
    }
}

/// The values of one step. `B` samples, `K` classes.
pub struct StepValues {
    /// The student's logits, `[B, K]`, tracked for gradients.
    pub student_logits: Tensor<2>,
    /// The teacher's logits, `[B, K]`; there when a term asked for them.
    pub teacher_logits: Option<Tensor<2>>,
    /// The true classes, `[B]`.
    pub labels: Tensor<1, Int>,
    /// How much each sample's label counts, `[B]`; `None`: all the same.
    pub weights: Option<Tensor<1>>,
    /// Per sample a number in 0..1 that stays the same for all of training; a term may hide the labels of those below
    /// its share.
    pub lottery: Vec<f32>,
}

/// One summand of the objective.
pub trait Term: Send + Sync {
    /// The method's name as in `kdc methods`.
    fn name(&self) -> &'static str;

    /// What it reads.
    fn reads(&self) -> Reads;

    /// The loss in summands, each by a name for people and a tensor of one element: a mean over the samples. At least
    /// one.
    fn parts(&self, values: &StepValues) -> Vec<(&'static str, Tensor<1>)>;

    /// The sum of the parts.
    fn loss(&self, values: &StepValues) -> Tensor<1> {
        let parts = self.parts(values).into_iter().map(|(_, part)| part);
        parts.reduce(|a, b| a + b).expect("a term has a part")
    }
}

/// A summand of the objective, by name and value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Part {
    pub name: String,
    #[serde(with = "as_text")]
    pub loss: f64,
}

/// `Σ weightᵢ(progress) · termᵢ`
pub struct Objective {
    terms: Vec<(Schedule, Box<dyn Term>)>,
}

impl Objective {
    /// The sum of these terms. An empty sum trains nothing: give at least one.
    pub fn new(terms: Vec<(Schedule, Box<dyn Term>)>) -> Objective {
        assert!(!terms.is_empty(), "an objective needs a term");
        Objective { terms }
    }

    /// What all terms together read.
    pub fn reads(&self) -> Reads {
        self.terms.iter().fold(Reads::default(), |reads, (_, term)| reads.or(term.reads()))
    }

    /// The value at `progress` in 0..=1.
    pub fn loss(&self, values: &StepValues, progress: f64) -> Tensor<1> {
        self.parts(values, progress).into_iter().map(|(_, part)| part).reduce(|a, b| a + b).expect("there is a term")
    }

    /// The value's summands at `progress`, by name.
    pub fn parts(&self, values: &StepValues, progress: f64) -> Vec<(String, Tensor<1>)> {
        let weighted = |(schedule, term): &(Schedule, Box<dyn Term>)| {
            let weight = schedule.at(progress);
            let scaled = move |part: Tensor<1>| if weight == 1.0 { part } else { part.mul_scalar(weight) };
            let named = move |(name, part): (&str, Tensor<1>)| (name.to_string(), scaled(part));
            term.parts(values).into_iter().map(named)
        };
        self.terms.iter().flat_map(weighted).collect()
    }

    /// The names of the terms, for reports.
    pub fn describe(&self) -> String {
        self.terms.iter().map(|(_, term)| term.name()).collect::<Vec<_>>().join(" + ")
    }
}
