//! What a student was chosen from.

use serde::{Deserialize, Serialize};

/// A student that was considered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CandidateRow {
    /// Its kind, in words.
    pub name: String,
    pub macs: u64,
    pub params: u64,
    /// Estimated, as all costs of a candidate: nothing is built for them.
    pub ram_bytes: u64,
    pub flash_bytes: u64,
    pub latency_s: f64,
    /// Measured after each round of short trainings that it was in.
    pub accuracies: Vec<f64>,
    /// What it is expected to reach after all of the training: estimated, where `--min-accuracy` asks for it.
    #[serde(default)]
    pub expected: Option<f64>,
    pub outcome: Outcome,
}

/// An operator of the teacher that another one stands for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replaced {
    pub operator: String,
    pub by: String,
    /// How many of its nodes.
    pub nodes: usize,
    /// Estimated time of the teacher's network on the target with it; `None` where that has no program.
    pub before_s: Option<f64>,
    /// The same with what stands for it.
    pub after_s: Option<f64>,
}

/// What became of a candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Chosen,
    /// Others learned better in this round.
    Behind {
        round: usize,
    },
    /// It was not trained.
    Untried,
    /// A smaller one is expected to reach `--min-accuracy`.
    Larger,
    /// It is not expected to reach `--min-accuracy`.
    Short,
    /// It cannot be made, or does not fit.
    Impossible {
        why: String,
    },
}
