//! What a compilation is asked to do: one plain struct, filled by the command line or by another program.

use crate::distill::{self, ClassWeights, OptimizerConfig, Recipe, TermSpec, presets};
use crate::exec::Place;
use crate::program::Precision;
use crate::quant::Calibration;
use crate::student::{Allocation, Budgets, Criterion, Template};
use crate::teacher::{EngineChoice, Shard};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Everything that may be asked of [`compile`](super::compile). [`Options::new`] has the defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The teacher, an ONNX file.
    pub model: PathBuf,
    /// Extents of inputs that the file leaves open, by input.
    pub inputs: BTreeMap<String, Vec<usize>>,
    /// The one of its outputs that is meant; `None`: the one that the sidecar names, or its only one.
    pub output: Option<String>,
    /// Name of the target profile.
    pub target: String,
    /// Folders with target profiles of the user's own.
    pub target_folders: Vec<PathBuf>,
    /// Where the samples are; `None`: where the model's sidecar says.
    pub data: Option<PathBuf>,
    /// What the samples are; `None`: the TOML file beside the model.
    pub sidecar: Option<PathBuf>,
    /// Where the results go; `None`: `./NAME-TARGET/`.
    pub out: Option<PathBuf>,
    /// What the student is called, and its crate and C symbols by that; `None`: as the model's file.
    pub name: Option<String>,
    /// Files that these options were read from, e.g. a recipe's: no result takes the place of one.
    pub read: Vec<PathBuf>,
    /// Makes everything again, whatever the cache holds.
    pub force: bool,
    /// Plans only: reads, checks, derives the student, and stops before training.
    pub dry_run: bool,
    /// Decides everything random.
    pub seed: u64,
    /// Shows the output of external tools.
    pub verbose: bool,
    /// What the student may cost. `None`s take the defaults of the teacher and the target.
    pub budgets: Budgets,
    /// Allowed loss of accuracy from the teacher to the final program, in percentage points; `None`: not judged.
    pub max_accuracy_drop: Option<f64>,
    /// The same from the `f32` student to the `int8` student; `None`: 0.3, or what chance explains.
    pub max_quant_drop: Option<f64>,
    /// The accuracy that the final program has to reach, as a share; the search looks for the smallest student that is
    /// expected to. `None`: the best student inside the budgets.
    pub min_accuracy: Option<f64>,
    /// `None`: whichever the target's cost model says is faster.
    pub precision: Option<Precision>,
    /// What to write, without repetition, in the order of [`Artefact::ALL`].
    pub emit: Vec<Artefact>,
    /// Whether to build the program: `false` stops at the generated crate.
    pub build: bool,
    /// How the student is made of the teacher.
    pub derivation: Derivation,
    /// How the student is trained, where it differs from the defaults.
    pub training: Training,
    /// How ranges are chosen for quantization.
    pub calibration: Calibration,
    /// What runs the teacher.
    pub engine: EngineChoice,
    /// What trains the student.
    pub device: Place,
    /// Where the teacher's answers are kept; `None`: in the cache.
    pub labels: Option<PathBuf>,
}

/// How a student is made of its teacher.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Derivation {
    pub start: Start,
    /// By what channels are ranked; the least important ones are cut.
    pub criterion: Criterion,
    pub allocation: Allocation,
    pub search: Search,
    pub replace: Replace,
    /// Only this network of its own, instead of the teacher's.
    pub template: Option<Template>,
    /// A student that is brought: an ONNX file.
    pub student: Option<PathBuf>,
    /// A file that pins the student: what an earlier compilation wrote as `student.toml`.
    pub spec: Option<PathBuf>,
}

/// Whether candidates of several kinds are tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Search {
    /// Short trainings decide among them.
    #[default]
    On,
    /// The first kind is taken: the teacher's network, narrower.
    Off,
}

/// Whether operators that the target runs badly are replaced: those without which the teacher's network takes a tenth less
/// time by the cost model, or has a program at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replace {
    /// Short trainings decide, as among other kinds of student; always where there is no program otherwise.
    #[default]
    Auto,
    Always,
    Never,
}

/// Which weights a student starts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// The teacher's, of the channels that are kept.
    #[default]
    Teacher,
    /// Drawn by the seed.
    Random,
}

/// What `kdc label` is asked to do.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelOptions {
    /// The teacher, an ONNX file.
    pub model: PathBuf,
    /// Extents of inputs that the file leaves open, by input.
    pub inputs: BTreeMap<String, Vec<usize>>,
    /// The one of its outputs that is meant; `None`: the one that the sidecar names, or its only one.
    pub output: Option<String>,
    /// Where the samples are; `None`: where the model's sidecar says.
    pub data: Option<PathBuf>,
    /// Where the answers are kept; `None`: in the cache.
    pub labels: Option<PathBuf>,
    /// Which of them to make.
    pub shard: Shard,
    pub seed: u64,
    /// Views of each sample.
    pub views: usize,
    /// How many logits of each answer are kept; `None`: all.
    pub top_k: Option<usize>,
    pub engine: EngineChoice,
}

/// What is said about training; `None`: the default of [`distill::Config`], of the optimizer, or what suits the
/// number of samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Training {
    pub epochs: Option<usize>,
    pub batch_size: Option<usize>,
    pub optimizer: Optimizer,
    /// The peak learning rate.
    pub lr: Option<f64>,
    /// Softens the distributions that the student compares.
    pub temperature: Option<f64>,
    /// The teacher's share of the loss; the labels have the rest.
    pub alpha: Option<f64>,
    /// Trains on labels alone, the baseline of distillation.
    pub labels_only: bool,
    /// What is minimised, stage by stage; `None`: soft labels if `alpha` or `temperature` is said, else the preset `best`.
    pub recipe: Option<Recipe>,
    /// How many augmented views of each sample the teacher labels.
    pub views: Option<usize>,
    /// How many of the teacher's logits are kept, the largest ones; `None`: all.
    pub top_k: Option<usize>,
    /// Batches whose gradients make a step.
    pub accumulate: Option<usize>,
    /// The gradient's global norm is clipped to this.
    pub clip_norm: Option<f64>,
    /// Decay of the moving average of the parameters.
    pub ema: Option<f64>,
    pub class_weights: ClassWeights,
    /// Epochs without a gain after which training stops.
    pub patience: Option<usize>,
}

/// Which optimizer trains the student.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Optimizer {
    /// With Nesterov momentum.
    #[default]
    Sgd,
    AdamW,
}

/// Peak learning rate of AdamW where none is given.
const ADAMW_LR: f64 = 2e-3;
/// Weight decay of AdamW, decoupled from the learning rate's gradient step.
const ADAMW_WEIGHT_DECAY: f64 = 0.05;

/// Something that a compilation writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Artefact {
    /// `student.onnx`, in `f32`.
    Onnx,
    /// `student.int8.onnx`, with quantize/dequantize pairs.
    Qdq,
    /// `student.nnef.tgz`.
    Nnef,
    /// `crate/`, the generated program's source.
    Crate,
    /// `bin/student`, the linked program.
    Elf,
}

impl Artefact {
    /// All of them, in the order they are made.
    pub const ALL: [Artefact; 5] = [Artefact::Onnx, Artefact::Qdq, Artefact::Nnef, Artefact::Crate, Artefact::Elf];

    /// Where it lies in the output folder.
    pub fn path(self) -> &'static str {
        match self {
            Artefact::Onnx => "student.onnx",
            Artefact::Qdq => "student.int8.onnx",
            Artefact::Nnef => "student.nnef.tgz",
            Artefact::Crate => "crate",
            Artefact::Elf => "bin/student",
        }
    }

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Artefact::Onnx => "onnx",
            Artefact::Qdq => "qdq",
            Artefact::Nnef => "nnef",
            Artefact::Crate => "crate",
            Artefact::Elf => "elf",
        }
    }
}

impl Options {
    /// Compiles `model` for `target`, everything else as by default.
    pub fn new(model: impl Into<PathBuf>, target: impl Into<String>) -> Options {
        Options {
            model: model.into(),
            target: target.into(),
            inputs: BTreeMap::new(),
            output: None,
            target_folders: Vec::new(),
            data: None,
            sidecar: None,
            out: None,
            name: None,
            read: Vec::new(),
            force: false,
            dry_run: false,
            seed: 0,
            verbose: false,
            budgets: Budgets::default(),
            max_accuracy_drop: None,
            max_quant_drop: None,
            min_accuracy: None,
            precision: None,
            emit: Artefact::ALL.to_vec(),
            build: true,
            derivation: Derivation::default(),
            training: Training::default(),
            calibration: Calibration::MinMax,
            engine: EngineChoice::Auto,
            device: Place::Cpu,
            labels: None,
        }
    }

    /// Whether an artefact is wanted. The linked program is not while nothing is to be built.
    pub fn emits(&self, artefact: Artefact) -> bool {
        self.emit.contains(&artefact) && (self.build || artefact != Artefact::Elf)
    }

    /// Whether an artefact is all that is wanted: it cannot be left out then.
    pub fn asks_only_for(&self, artefact: Artefact) -> bool {
        self.emit == [artefact]
    }

    /// The settings of the training run, but for what [`distill::Config::suit`] finds by the number of samples.
    pub fn training(&self) -> distill::Config {
        let mut config = distill::Config { seed: self.seed, ..distill::Config::default() };
        let asked = &self.training;
        if asked.optimizer == Optimizer::AdamW {
            config.optimizer = OptimizerConfig::AdamW { weight_decay: ADAMW_WEIGHT_DECAY };
            config.lr = ADAMW_LR;
        }
        config.epochs = asked.epochs.unwrap_or(config.epochs);
        config.batch_size = asked.batch_size.unwrap_or(config.batch_size);
        config.lr = asked.lr.unwrap_or(config.lr);
        config.views = asked.views.unwrap_or(config.views);
        config.accumulate = asked.accumulate.unwrap_or(config.accumulate);
        config.clip_norm = asked.clip_norm.unwrap_or(config.clip_norm);
        config.ema = asked.ema.unwrap_or(config.ema);
        (config.class_weights, config.patience) = (asked.class_weights, asked.patience);
        // What a search tries candidates with.
        let recipe = self.recipe();
        config.terms = recipe.for_search();
        config.data = recipe.data;
        config
    }

    /// How the student is trained, stage by stage.
    pub fn recipe(&self) -> Recipe {
        let asked = &self.training;
        if asked.labels_only {
            return Recipe::of("labels only", vec![TermSpec::new("hard-label")]);
        }
        if let Some(recipe) = &asked.recipe {
            return recipe.clone();
        }
        let says_how_soft = asked.alpha.is_some() || asked.temperature.is_some();
        presets::preset("best").filter(|_| !says_how_soft).unwrap_or_else(|| self.soft_labels())
    }

    /// The teacher's softened answers beside the labels, as they were asked for.
    pub fn soft_labels(&self) -> Recipe {
        let mut term = TermSpec::new("soft-label");
        for (name, value) in [("alpha", self.training.alpha), ("temperature", self.training.temperature)] {
            if let Some(value) = value {
                term = term.with(name, value);
            }
        }
        Recipe::of("soft labels", vec![term])
    }

    /// What the student is called.
    pub fn student_name(&self) -> String {
        self.name.clone().unwrap_or_else(|| name(&self.model))
    }

    /// Every setting that decides what is made, as one text. Files and the target's profile are named by their
    /// contents, not here; where results go and how much is said decides nothing.
    pub fn cache_key(&self) -> String {
        let Options {
            model: _,
            inputs,
            output,
            target: _,
            target_folders: _,
            data: _,
            sidecar: _,
            out: _,
            name: _,
            read: _,
            force: _,
            dry_run: _,
            verbose: _,
            labels: _,
            training: _,
            derivation,
            seed,
            budgets,
            max_accuracy_drop,
            max_quant_drop,
            min_accuracy,
            precision,
            emit,
            build,
            calibration,
            engine,
            device,
        } = self;
        let settings =
            (seed, budgets, max_accuracy_drop, max_quant_drop, min_accuracy, precision, emit, build, calibration);
        let Training { top_k, epochs, batch_size, .. } = self.training;
        let (training, recipe, name) = (self.training(), self.recipe(), self.student_name());
        format!(
            "{settings:?} {derivation:?} {engine:?} {device:?} {training:?} {recipe:?} {top_k:?} {epochs:?} {batch_size:?} {inputs:?} {output:?} {name:?}"
        )
    }
}

/// The stem of the model's file.
pub fn name(model: &Path) -> String {
    model.file_stem().map_or_else(|| "model".into(), |s| s.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decides_the_result_is_told_from_what_does_not() {
        let plain = Options::new("a.onnx", "host");
        let elsewhere = Options { out: Some("x".into()), force: true, verbose: true, ..plain.clone() };
        assert_eq!(plain.cache_key(), elsewhere.cache_key());
        let explicit = Training { views: Some(distill::Config::default().views), ..Training::default() };
        assert_eq!(
            plain.cache_key(),
            Options { training: explicit, ..plain.clone() }.cache_key(),
            "a default said aloud"
        );
        // Where nobody said, the number of samples decides.
        let epochs = Training { epochs: Some(distill::Config::default().epochs), ..Training::default() };
        assert_ne!(plain.cache_key(), Options { training: epochs, ..plain.clone() }.cache_key());
        let longer = Training { epochs: Some(77), ..Training::default() };
        assert_ne!(plain.cache_key(), Options { training: longer, ..plain.clone() }.cache_key());
        assert_ne!(plain.cache_key(), Options { seed: 1, ..plain.clone() }.cache_key());
    }

    #[test]
    fn training_settings_replace_the_defaults_one_by_one() {
        let mut options = Options { seed: 9, ..Options::new("a.onnx", "host") };
        options.training = Training { optimizer: Optimizer::AdamW, alpha: Some(0.25), ..Training::default() };
        let config = options.training();
        assert_eq!((config.seed, config.lr), (9, ADAMW_LR));
        assert_eq!(config.terms, [TermSpec::new("soft-label").with("alpha", 0.25)]);
        options.training.labels_only = true;
        options.training.lr = Some(0.5);
        let config = options.training();
        assert_eq!((config.lr, config.terms), (0.5, vec![TermSpec::new("hard-label")]));
    }

    #[test]
    fn nothing_is_linked_when_nothing_is_built() {
        let options = Options { build: false, ..Options::new("a.onnx", "host") };
        assert!(options.emits(Artefact::Crate) && !options.emits(Artefact::Elf));
    }
}
