//! What training minimises.

use super::step::{Plan, StepValues};
use super::terms::{self, Reads, Term};
use super::{AuxParams, Error, Schedule};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

/// A summand of an objective as a recipe has it: a method, its settings, and how much it counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TermSpec {
    /// The method's name.
    pub method: String,
    /// How much it counts over training.
    pub weight: Schedule,
    /// Which teachers it reads; empty: the first. Of several it reads the activations of the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub teachers: Vec<String>,
    /// How much each of several teachers counts.
    pub weighing: Weighing,
    /// What it compares, by names of values, student and teacher; empty: what corresponds by position, shape and
    /// likeness.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<(String, String)>,
    /// The method's own settings, where they are not the source's.
    pub settings: toml::Table,
}

/// How the answers of several teachers become one: a weighted mean of their logits, row by row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "WrittenWeighing", into = "WrittenWeighing")]
pub enum Weighing {
    /// All alike.
    #[default]
    Even,
    /// These weights, brought to the sum 1.
    Fixed(Vec<f64>),
    /// Whoever is surer of a sample counts more: `softmax(−entropy)`.
    Confidence,
    /// Weights that are learned along, on the labels.
    Learned,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "it is \"even\", \"confidence\", \"learned\" or a number for each teacher, as [0.8, 0.2]"
)]
enum WrittenWeighing {
    Weights(Vec<f64>),
    Word(WeighingWord),
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WeighingWord {
    Even,
    Confidence,
    Learned,
}

impl From<WrittenWeighing> for Weighing {
    fn from(written: WrittenWeighing) -> Weighing {
        match written {
            WrittenWeighing::Weights(weights) => Weighing::Fixed(weights),
            WrittenWeighing::Word(WeighingWord::Even) => Weighing::Even,
            WrittenWeighing::Word(WeighingWord::Confidence) => Weighing::Confidence,
            WrittenWeighing::Word(WeighingWord::Learned) => Weighing::Learned,
        }
    }
}

impl From<Weighing> for WrittenWeighing {
    fn from(weighing: Weighing) -> WrittenWeighing {
        match weighing {
            Weighing::Fixed(weights) => WrittenWeighing::Weights(weights),
            Weighing::Even => WrittenWeighing::Word(WeighingWord::Even),
            Weighing::Confidence => WrittenWeighing::Word(WeighingWord::Confidence),
            Weighing::Learned => WrittenWeighing::Word(WeighingWord::Learned),
        }
    }
}

impl TermSpec {
    /// A method as its source has it.
    ///
    /// # Panics
    /// If there is no such method.
    pub fn new(method: &str) -> TermSpec {
        let entry = terms::method(method).expect("a method of the list");
        TermSpec {
            method: method.into(),
            weight: Schedule::Constant(entry.weight),
            teachers: vec![],
            weighing: Weighing::Even,
            layers: vec![],
            settings: toml::Table::new(),
        }
    }

    /// With a setting of its own.
    #[must_use]
    pub fn with(mut self, setting: &str, value: impl Into<toml::Value>) -> TermSpec {
        self.settings.insert(setting.into(), value.into());
        self
    }

    /// Whether it reads what the teacher of this name answers; a term that names none means the first, `teacher`.
    pub fn reads_answers_of(&self, teacher: &str) -> bool {
        let meant =
            self.teachers.iter().any(|name| name == teacher) || self.teachers.is_empty() && teacher == "teacher";
        meant && self.term().is_ok_and(|term| term.reads().teacher_logits)
    }

    /// The term.
    ///
    /// # Errors
    /// When there is no such method or setting.
    pub fn term(&self) -> Result<Box<dyn Term>, Error> {
        let known = || terms::METHODS.iter().map(|m| m.name).collect::<Vec<_>>().join(", ");
        let entry = terms::method(&self.method)
            .ok_or_else(|| Error::Config(format!("there is no method '{}'; there are {}", self.method, known())))?;
        entry
            .term(self.settings.clone())
            .map_err(|e| Error::Config(format!("'{}': {}", self.method, e.message().trim_end())))
    }
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

    /// What the terms read, in order.
    pub fn reads(&self) -> Vec<Reads> {
        self.terms.iter().map(|(_, term)| term.reads()).collect()
    }

    /// The terms, in order.
    pub fn terms(&self) -> impl Iterator<Item = &dyn Term> {
        self.terms.iter().map(|(_, term)| term.as_ref())
    }

    /// Whether any term learns from labels, and whether any learns from a teacher.
    pub fn learns_from(&self) -> (bool, bool) {
        let reads = self.reads();
        let labels = reads.iter().any(|r| r.labels);
        (labels, reads.iter().any(|r| r.asks_teacher()))
    }

    /// Lets the terms add what they train to the auxiliary parameters; a plan for each.
    ///
    /// # Errors
    /// When a setting cannot work.
    pub fn prepare(&mut self, plans: &[Plan], aux: &mut AuxParams) -> Result<(), Error> {
        self.terms.iter_mut().zip(plans).try_for_each(|((_, term), plan)| term.prepare(plan, aux))
    }

    /// The value's summands at `progress` in 0..=1, by name; the values of each term, in order.
    pub fn parts(&self, values: &[StepValues], aux: &mut AuxParams) -> Vec<(String, Tensor<1>)> {
        let mut parts: Vec<(String, Tensor<1>)> = vec![];
        for ((schedule, term), values) in self.terms.iter().zip(values) {
            let weight = schedule.at(values.progress);
            for (name, part) in term.parts(values, aux) {
                let part = if weight == 1.0 { part } else { part.mul_scalar(weight) };
                parts.push((self.label(term.as_ref(), name), part));
            }
        }
        parts
    }

    /// The value: the sum of its summands.
    pub fn loss(&self, values: &[StepValues], aux: &mut AuxParams) -> Tensor<1> {
        self.parts(values, aux).into_iter().map(|(_, part)| part).reduce(|a, b| a + b).expect("there is a term")
    }

    /// A summand's name: with its term's, where there are several terms.
    fn label(&self, term: &dyn Term, part: &str) -> String {
        if self.terms.len() == 1 { part.into() } else { format!("{}: {part}", term.name()) }
    }

    /// The names of the terms, for reports.
    pub fn describe(&self) -> String {
        self.terms.iter().map(|(_, term)| term.name()).collect::<Vec<_>>().join(" + ")
    }
}
