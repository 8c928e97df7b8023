//! Trains a student from a teacher's answers.
//!
//! In comes a student [`Graph`](kdc_ir::graph::Graph) with fresh weights, samples and the teacher's cached logits; out
//! goes the same graph, trained: the parameters of the best epoch on a validation split.
//!
//! - [`Objective`]: `Σ weightᵢ(progress) · termᵢ`. A method is a [`Term`] that says which values it reads and computes a
//!   scalar; the trainer knows no method by name. Hinton et al. 2015, <https://arxiv.org/abs/1503.02531>.
//! - [`Schedule`]: how a number (a weight, the learning rate) changes over training.
//! - [`Optimizer`]: burn's optimizers over flat parameters, with global-norm clipping.
//! - [`train`]: the loop. Batches are made on a thread of their own while the step before is computed. Everything random
//!   is a pure function of (seed, epoch, sample), so that a run picked up from a [`Checkpoint`] ends with the same bytes
//!   as one that was never stopped. That is also why the loop is our own and not
//!   burn-train's `Learner`: the learner checkpoints whole epochs, keeps its sampler's state to itself and has no place
//!   for a term that reads a cached teacher.
//!
//! Imports run downhill: teachers, the values of a step, terms, a run, the loop.

mod aux_params;
mod checkpoint;
mod config;
mod data_spec;
mod decoder;
mod evaluate;
mod feed;
mod forward;
mod history;
mod layers;
mod mixing;
mod objective;
mod optimizer;
mod partial_forward;
pub mod presets;
mod probe;
mod recipe;
mod run;
mod schedule;
mod stages;
mod step;
mod synthesis;
mod teachers;
mod term_inputs;
mod terms;
#[cfg(test)]
mod tests;
mod trainables;
mod trainer;
mod training_set;
mod weighing;

pub use aux_params::{AuxParams, BufferSlot, Init, Slot};
pub use checkpoint::Checkpoint;
pub use config::{BATCH_LIMIT, ClassWeights, Config, EPOCHS_LIMIT, OptimizerConfig, VIEWS_LIMIT};
pub use data_spec::DataSpec;
pub use evaluate::evaluate;
pub use history::{Epoch, Event, Part, Step, standard_error};
pub use objective::{Objective, TermSpec, Weighing};
pub use optimizer::Optimizer;
pub use recipe::{Choice, Recipe, Stage, TeacherKind, TeacherSpec, Until};
pub use run::{InitialState, Run, Trained};
pub use schedule::Schedule;
pub use stages::follow;
pub use step::{Feature, Layout, MixedIn, Pair, Plan, StepValues, cross_entropy};
pub use synthesis::{EXPORT_AGAIN, Maker, Synthesis, Synthesized, synthesize};
pub use teachers::{Engine, TeacherLogits, TeacherSource};
pub use terms::{Entry, Family, METHODS, Pairs, Reads, Term, method};
pub use trainables::Trainables;
pub use trainer::{applies, train};
pub use training_set::TrainingSet;

use std::path::PathBuf;

impl Error {
    fn inapplicable(method: &str, why: impl Into<String>) -> Error {
        Error::Inapplicable { method: method.into(), why: why.into() }
    }
}

/// Why training stopped short.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The student could not be run.
    #[error("the student cannot be trained")]
    Exec(#[from] kdc_exec::Error),
    /// The loss left the numbers.
    #[error(
        "the loss became {loss} at step {step} of {steps} (epoch {epoch}), after {} rollbacks with half the learning rate \
         each; the last good checkpoint is kept in {}; lower --lr (now {lr}) or check the data",
        Run::MOST_ROLLBACKS, checkpoint.display()
    )]
    NonFinite { loss: f32, step: usize, steps: usize, epoch: usize, lr: f64, checkpoint: PathBuf },
    /// A recipe that cannot be understood.
    #[error("{}:{line}: {what}", path.display())]
    Recipe { path: PathBuf, line: usize, what: String },
    /// A teacher that an engine runs.
    #[error(transparent)]
    Teacher(#[from] crate::teacher::Error),
    /// A setting that cannot work, whatever is trained.
    #[error("{0}")]
    Config(String),
    /// A method that finds nothing to learn from in these networks or samples; another one may.
    #[error("'{method}' {why}")]
    Inapplicable { method: String, why: String },
    /// A network without a result.
    #[error("a network has no output, or nothing that it computes reaches one")]
    NoOutput,
    /// A generator whose samples left the numbers.
    #[error(
        "what the generator makes became non-finite after round {round}; lower rate in [data.synthetic] (it is {rate})"
    )]
    Generator { round: usize, rate: f64 },
    /// A checkpoint of another objective.
    #[error("the checkpoint has no '{name}' of the objective's terms")]
    AuxParams { name: String },
    /// A checkpoint could not be written or read.
    #[error("checkpoint {}: {what}", path.display())]
    Checkpoint { path: PathBuf, what: String },
}
