//! The settings of a training run: what decides the student, and nothing else.

use super::{DataSpec, Error, Objective, Schedule, TermSpec};
use serde::{Deserialize, Serialize};

/// The most epochs of a training, by any stage.
pub const EPOCHS_LIMIT: usize = 1_000_000;
/// The most views of a sample that a teacher labels.
pub const VIEWS_LIMIT: usize = 10_000;
/// The most samples of a batch, and batches of a step.
pub const BATCH_LIMIT: usize = 1 << 20;

/// The optimizer and its constants.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "kebab-case")]
pub enum OptimizerConfig {
    /// Stochastic gradient descent with Nesterov momentum.
    Sgd { momentum: f64, weight_decay: f64 },
    /// Loshchilov, Hutter 2019, <https://arxiv.org/abs/1711.05101>.
    AdamW { weight_decay: f64 },
}

impl std::fmt::Display for OptimizerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OptimizerConfig::Sgd { momentum, weight_decay } => {
                write!(f, "SGD (Nesterov momentum {momentum}, weight decay {weight_decay})")
            }
            OptimizerConfig::AdamW { weight_decay } => write!(f, "AdamW (weight decay {weight_decay})"),
        }
    }
}

/// How much the labels of a class count in the loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClassWeights {
    /// All samples alike.
    #[default]
    Even,
    /// All classes alike: a sample counts `samples / (classes · samples of its class)`.
    Balanced,
}

/// Everything that decides what comes out of training, besides the student, the data and the teacher. What a recipe says
/// of a stage is not written with the rest: it stands in the recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// What is minimised: their sum.
    #[serde(skip)]
    pub terms: Vec<TermSpec>,
    /// Which labels and samples a batch has, and what becomes of them.
    #[serde(skip)]
    pub data: DataSpec,
    /// Parameters that stay as they are: those whose names begin so; `student`: all of the student's.
    #[serde(skip)]
    pub freeze: Vec<String>,
    /// Training ends before its epochs are over when this validation accuracy is reached.
    #[serde(skip)]
    pub until: Option<f64>,
    pub optimizer: OptimizerConfig,
    /// Peak learning rate.
    pub lr: f64,
    /// Share of the steps over which the learning rate rises from zero.
    pub warmup: f64,
    /// 0: the student stays as it is.
    pub epochs: usize,
    pub batch_size: usize,
    /// The gradient's global norm is clipped to this.
    pub clip_norm: f64,
    /// Share of the training samples that are held out to choose the best epoch.
    pub validation: f64,
    /// Share of old running statistics kept per step, in batch norm.
    pub norm_momentum: f64,
    /// How many augmented views of each sample the teacher has labelled.
    pub views: usize,
    /// Batches whose gradients are averaged before the parameters move: a step of `accumulate · batch_size` samples in
    /// the memory of `batch_size`.
    pub accumulate: usize,
    /// Decay of an exponential moving average of the parameters, which is what is validated and kept (Polyak, Juditsky
    /// 1992); 0: the parameters themselves.
    pub ema: f64,
    /// How much the labels of a class count.
    pub class_weights: ClassWeights,
    /// Training stops after so many epochs without a better validation accuracy; `None`: never.
    pub patience: Option<usize>,
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            terms: vec![TermSpec::new("soft-label")],
            data: DataSpec::default(),
            freeze: vec![],
            until: None,
            optimizer: OptimizerConfig::Sgd { momentum: 0.9, weight_decay: 5e-4 },
            lr: 0.1,
            warmup: 0.05,
            epochs: 12,
            batch_size: BATCHES[0],
            clip_norm: 5.0,
            validation: 0.05,
            norm_momentum: 0.9,
            views: 2,
            accumulate: 1,
            ema: 0.0,
            class_weights: ClassWeights::Even,
            patience: None,
            seed: 0,
        }
    }
}

/// How many samples a student sees at least where nobody said how many epochs: few samples are shown more often. Short of
/// it a small student is far from trained: with 100,000 multiply-accumulates it is right on 98.97% of MNIST-1D's test signals
/// after 30 epochs of batches of 32, and on 98.23% after 12 of 128 (measured by `benches/methods/default.py`).
const SEEN: usize = 120_000;
/// The most epochs that are the default.
const MOST_EPOCHS: usize = 60;
/// How many steps a training has at least, if smaller batches can make so many. On 12,000 images of Fashion-MNIST a
/// student comes to 93.3% in 12 epochs by batches of 32 or 64, and to 92.6% by batches of 128, in the same time (measured).
const STEPS: usize = 3_000;
/// The samples of a step, where nobody said: the first by which there are enough steps, or the last.
const BATCHES: [usize; 3] = [128, 64, 32];

impl Config {
    /// Sets the number of epochs and the samples a step: those that were asked for, or those that suit so many training
    /// samples.
    pub fn resolve_defaults(&mut self, samples: usize, epochs: Option<usize>, batch_size: Option<usize>) {
        let fewest = Config::default().epochs;
        self.epochs = epochs.unwrap_or_else(|| SEEN.div_ceil(samples.max(1)).clamp(fewest, MOST_EPOCHS));
        let seen = (samples as f64 * (1.0 - self.validation)) as usize;
        let seen = seen.saturating_mul(self.epochs);
        let smallest = BATCHES[BATCHES.len() - 1];
        let by_steps = || BATCHES.into_iter().find(|&size| seen / size >= STEPS).unwrap_or(smallest);
        self.batch_size = batch_size.unwrap_or_else(by_steps);
    }

    /// Refuses settings that cannot work.
    ///
    /// # Errors
    /// The first such setting, by its name on the command line.
    pub fn check(&self) -> Result<(), Error> {
        let counts = [
            ("--epochs", self.epochs, EPOCHS_LIMIT),
            ("--batch-size", self.batch_size, BATCH_LIMIT),
            ("--views", self.views, VIEWS_LIMIT),
            ("--accumulate", self.accumulate, BATCH_LIMIT),
        ];
        if let Some((name, value, most)) = counts.iter().find(|(_, value, most)| value > most) {
            return Err(Error::Config(format!("{name} {value} is more than {most}")));
        }
        let positive = |name: &str, value: f64| match value.is_finite() && value > 0.0 {
            true => Ok(()),
            false => Err(Error::Config(format!("{name} {value} is not a positive number"))),
        };
        positive("--lr", self.lr)?;
        positive("--batch-size", self.batch_size as f64)?;
        positive("--views", self.views as f64)?;
        positive("--clip-norm", self.clip_norm)?;
        positive("--accumulate", self.accumulate as f64)?;
        if !(0.0..1.0).contains(&self.ema) {
            return Err(Error::Config(format!("--ema {} is not from 0 to below 1", self.ema)));
        }
        if self.patience == Some(0) {
            return Err(Error::Config("--patience 0 leaves no epoch to train".into()));
        }
        if !(0.0..0.9).contains(&self.validation) {
            return Err(Error::Config(format!(
                "a validation share of {} leaves too little to train on",
                self.validation
            )));
        }
        self.objective().map(drop)
    }

    /// The objective that these settings ask for.
    ///
    /// # Errors
    /// When there is no such method or setting.
    pub fn objective(&self) -> Result<Objective, Error> {
        if self.terms.is_empty() {
            return Err(Error::Config("the objective has no term; name one, as 'soft-label'".into()));
        }
        let term = |spec: &TermSpec| Ok((spec.weight.clone(), spec.term()?));
        Ok(Objective::new(self.terms.iter().map(term).collect::<Result<_, Error>>()?))
    }

    /// The learning rate over training.
    pub fn learning_rate(&self) -> Schedule {
        Schedule::Cosine { from: self.lr, to: 0.0, warmup: self.warmup }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_samples_are_seen_more_often_and_in_smaller_batches() {
        let suited = |samples, epochs, batch_size| {
            let mut config = Config::default();
            config.resolve_defaults(samples, epochs, batch_size);
            (config.epochs, config.batch_size)
        };
        assert_eq!(suited(60_000, None, None), (12, 128));
        assert_eq!(suited(60_000, Some(4), None), (4, 64));
        assert_eq!(suited(10_000, None, None), (12, 32));
        assert_eq!(suited(4_000, None, None), (30, 32));
        assert_eq!(suited(300, None, None), (60, 32));
        assert_eq!(suited(0, None, None), (60, 32));
        assert_eq!(suited(300, Some(2), Some(100)), (2, 100), "what was asked for");
        assert_eq!(suited(4_000, None, Some(128)), (30, 128));
    }
}
