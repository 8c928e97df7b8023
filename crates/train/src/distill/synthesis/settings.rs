//! How samples are made of a teacher: the recipe's `[data.synthetic]`.

use kdc_ir::graph::{Graph, Op};
use serde::{Deserialize, Serialize};

/// The most samples, steps and rounds that may be asked for.
const MOST: usize = 10_000_000;

/// How samples are made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Synthesis {
    /// By whom.
    pub by: Maker,
    /// How many.
    pub samples: usize,
    /// Steps that a batch of them is moved.
    pub steps: usize,
    /// Samples that are moved together; their statistics are compared.
    pub batch: usize,
    /// How far a step goes.
    pub lr: f64,
    /// Weight of the statistics.
    pub statistics: f64,
    /// Weight of the differences between neighbours.
    pub variation: f64,
    /// Weight of the inputs' squares.
    pub energy: f64,
    /// Inputs stay within ± this.
    pub bound: f64,
    /// Steps of a generator.
    pub rounds: usize,
    /// The learning rate of the generator and of its student.
    pub rate: f64,
    /// Steps of its student to each of its own.
    pub student_steps: usize,
    /// Weight of the teacher's being sure of what is generated.
    pub sure: f64,
    /// Weight of the classes' being as frequent as each other.
    pub even: f64,
    /// Weight of the student's disagreement with the teacher.
    pub disagreement: f64,
}

/// Who makes samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Maker {
    /// Statistics where the teacher has batch normalisations, else a generator.
    #[default]
    Auto,
    /// What batch normalisations remember.
    Statistics,
    /// A network against a student.
    Generator,
}

impl Default for Synthesis {
    fn default() -> Self {
        Synthesis {
            by: Maker::Auto,
            samples: 4000,
            steps: 200,
            batch: 250,
            lr: 0.1,
            statistics: 1.0,
            variation: 2.5e-3,
            energy: 1e-3,
            bound: 3.0,
            rounds: 1000,
            rate: 2e-3,
            student_steps: 5,
            sure: 1.0,
            even: 5.0,
            disagreement: 1.0,
        }
    }
}

impl Synthesis {
    /// Whether a generator makes the samples, and not what the teacher remembers.
    pub fn by_generator(&self, teacher: &Graph) -> bool {
        let remembers = teacher.nodes.iter().any(|n| matches!(n.op, Op::BatchNormalization { .. }));
        self.by == Maker::Generator || self.by == Maker::Auto && !remembers
    }

    /// Refuses what cannot work.
    ///
    /// # Errors
    /// The first setting that cannot.
    pub fn check(&self) -> Result<(), String> {
        let counts = [("samples", self.samples), ("steps", self.steps), ("batch", self.batch), ("rounds", self.rounds)];
        if let Some((key, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(format!("[data.synthetic] {key} is 0"));
        }
        if let Some((key, count)) = counts.iter().find(|(_, count)| *count > MOST) {
            return Err(format!("[data.synthetic] {key} {count} is more than {MOST}"));
        }
        let above = |v: f64| v > 0.0 && v.is_finite();
        let least = |v: f64| v >= 0.0 && v.is_finite();
        let weights = [self.statistics, self.variation, self.energy, self.sure, self.even, self.disagreement];
        match above(self.lr) && above(self.bound) && above(self.rate) && weights.iter().all(|&w| least(w)) {
            true => Ok(()),
            false => Err("[data.synthetic] needs lr, bound and rate above 0, and weights of 0 or more".into()),
        }
    }
}
