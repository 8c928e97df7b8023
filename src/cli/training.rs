//! What is said of training on the command line, by `compile` and `distill` alike.

use super::values;
use crate::distill::{self, BATCH_LIMIT, ClassWeights, EPOCHS_LIMIT, Recipe, VIEWS_LIMIT, presets};
use crate::exec::Place;
use crate::pipeline::options::{Optimizer, Training};
use crate::teacher::EngineChoice;
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};

/// The most classes that there can be.
pub(super) const MOST_CLASSES: usize = 65_535;

/// How the student is trained.
#[derive(Debug, Args)]
#[command(next_help_heading = "Training")]
pub(super) struct TrainingArguments {
    /// Passes over the training samples; 0: none, a --student compiles as it is [default: 12, and up to 60 where they are fewer than 10,000]
    #[arg(long, value_name = "N", value_parser = values::at_most::<EPOCHS_LIMIT>)]
    epochs: Option<usize>,

    /// Samples a step [default: 128, or 64 or 32 where that leaves fewer than 3,000 steps]
    #[arg(long, value_name = "N", value_parser = values::up_to::<BATCH_LIMIT>)]
    batch_size: Option<usize>,

    #[arg(long, value_enum, default_value = "sgd", help = "Optimizer: SGD with momentum, or AdamW")]
    optimizer: OptimizerName,

    /// Peak learning rate [default: the optimizer's]
    #[arg(long, value_name = "RATE", value_parser = values::above_zero)]
    lr: Option<f64>,

    /// Temperature that softens the teacher's answers
    #[arg(long, value_name = "T", value_parser = values::above_zero, conflicts_with_all = ["labels_only", "recipe"])]
    temperature: Option<f64>,

    /// The teacher's share of the loss, 0 to 1; the labels have the rest
    #[arg(long, value_name = "SHARE", value_parser = values::share, conflicts_with_all = ["labels_only", "recipe"])]
    alpha: Option<f64>,

    /// How to distill: a recipe's file, or a preset by name; `kdc methods` lists both [default: best, or soft labels where
    /// --alpha or --temperature is given]
    #[arg(long, value_name = "FILE|NAME", conflicts_with = "labels_only")]
    recipe: Option<String>,

    /// A further trained network to learn from, an ONNX file of the same classes. Repeatable; see several-teachers
    #[arg(long = "teacher", value_name = "FILE", requires = "recipe")]
    teachers: Vec<PathBuf>,

    /// Train on labels alone: the baseline to compare distillation with
    #[arg(long)]
    labels_only: bool,

    /// Augmented views of each sample that the teacher labels
    #[arg(long, value_name = "K", value_parser = values::up_to::<VIEWS_LIMIT>)]
    views: Option<usize>,

    /// Keep only the K largest logits of each of the teacher's answers, and one for the others [default: all]
    #[arg(long, value_name = "K", value_parser = values::up_to::<MOST_CLASSES>)]
    top_k: Option<usize>,

    /// Folder with the teacher's answers, as `kdc label` makes it; what is missing is made [default: in the cache]
    #[arg(long, value_name = "DIR")]
    pub(super) labels: Option<PathBuf>,

    /// Batches whose gradients are averaged into one step
    #[arg(long, value_name = "N", value_parser = values::up_to::<BATCH_LIMIT>)]
    accumulate: Option<usize>,

    /// The global norm that gradients are clipped to
    #[arg(long, value_name = "NORM", value_parser = values::above_zero)]
    clip_norm: Option<f64>,

    /// Keep an exponential moving average of the weights with this decay, e.g. 0.999 [default: none]
    #[arg(long, value_name = "DECAY", value_parser = values::share)]
    ema: Option<f64>,

    /// How much the labels of a class count
    #[arg(long, value_enum, default_value = "even")]
    class_weights: ClassWeightsName,

    /// Stop after so many epochs without a better validation accuracy [default: never]
    #[arg(long, value_name = "EPOCHS", value_parser = values::up_to::<EPOCHS_LIMIT>)]
    patience: Option<usize>,

    /// What runs the teacher; auto takes the built-in tract, and ONNX Runtime, which is faster, where tract cannot
    #[arg(long, value_enum, default_value = "auto")]
    pub(super) engine: EngineName,

    /// What trains the student: cpu, cuda:N or wgpu:N, the latter two where kdc was built with that feature
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(super) device: Place,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OptimizerName {
    Sgd,
    Adamw,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ClassWeightsName {
    /// All samples count alike
    Even,
    /// All classes count alike, however many samples they have
    Balanced,
}

impl TrainingArguments {
    /// The files that they are read from.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        self.recipe.iter().map(PathBuf::from).filter(|path| path.exists()).collect()
    }

    /// The same, as the library has it.
    ///
    /// # Errors
    /// When the recipe cannot be read, or there is no preset of its name.
    pub(super) fn training(self) -> Result<Training, distill::Error> {
        Ok(Training {
            epochs: self.epochs,
            batch_size: self.batch_size,
            optimizer: match self.optimizer {
                OptimizerName::Sgd => Optimizer::Sgd,
                OptimizerName::Adamw => Optimizer::AdamW,
            },
            lr: self.lr,
            temperature: self.temperature,
            alpha: self.alpha,
            labels_only: self.labels_only,
            recipe: match self.recipe.as_deref() {
                Some(word) => Some(recipe(word)?.with_teachers(&self.teachers)?),
                None => None,
            },
            views: self.views,
            top_k: self.top_k,
            accumulate: self.accumulate,
            clip_norm: self.clip_norm,
            ema: self.ema,
            class_weights: match self.class_weights {
                ClassWeightsName::Even => ClassWeights::Even,
                ClassWeightsName::Balanced => ClassWeights::Balanced,
            },
            patience: self.patience,
        })
    }
}

/// A preset by its name, or a file.
fn recipe(word: &str) -> Result<Recipe, distill::Error> {
    let path = Path::new(word);
    match presets::preset(word) {
        Some(recipe) => Ok(recipe),
        None if path.exists() || word.ends_with(".toml") => Recipe::read(path),
        None => {
            let names: Vec<&str> = presets::PRESETS.iter().map(|p| p.name).collect();
            let what = format!("--recipe {word} is no file and no preset; the presets are {}", names.join(", "));
            Err(distill::Error::Config(what))
        }
    }
}

/// What runs a teacher, as the command line names it.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum EngineName {
    Auto,
    Tract,
    Onnxruntime,
    /// kdc's own executor
    Kdc,
}

impl From<EngineName> for EngineChoice {
    fn from(name: EngineName) -> EngineChoice {
        match name {
            EngineName::Auto => EngineChoice::Auto,
            EngineName::Tract => EngineChoice::Tract,
            EngineName::Onnxruntime => EngineChoice::OnnxRuntime,
            EngineName::Kdc => EngineChoice::Own,
        }
    }
}
