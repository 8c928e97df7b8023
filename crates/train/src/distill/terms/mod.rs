//! The methods, one file each, and the one list of them.

pub(super) mod adversarial;
mod align;
mod attention;
mod attention_map;
mod binary_kl;
mod contrastive;
mod ctc;
mod deep_supervision;
mod dist;
mod distilled_layer;
mod distilled_module;
mod dkd;
mod dynamic_temperature;
mod factor_transfer;
mod flow;
mod hard_label;
mod hint;
mod logit_mse;
mod masked_lm;
mod mutual;
mod nce_softmax;
mod progressive_replacement;
mod regression;
mod relational;
mod similarity;
mod soft_label;
mod topk_kl;
mod virtual_label;
mod virtual_teacher;

use super::step::{Feature, Layout, Pair, Plan, StepValues};
use super::{AuxParams, Error};
use burn::tensor::Tensor;
use kdc_exec::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Which values a term reads, so that the trainer fetches just those.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// The true classes.
    pub labels: bool,
    /// The teacher's logits.
    pub teacher_logits: bool,
    /// Activations inside the two networks, where they correspond.
    pub pairs: Pairs,
}

/// How many places inside the networks a term compares, where it is not told which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pairs {
    #[default]
    None,
    /// The activations before the classifier.
    Embedding,
    /// The end of every stage.
    Stages,
    /// The attention of every layer: probabilities, `[B, heads, tokens, tokens]`.
    Attention,
    /// The end of every stage of the student alone, which stands in the teacher's place as well.
    Own,
}

impl Reads {
    /// Whether anything of a teacher is read.
    pub fn asks_teacher(&self) -> bool {
        self.teacher_logits || self.runs_teacher()
    }

    /// Whether the teacher has to run along: its answers can be kept, its activations are too many.
    pub fn runs_teacher(&self) -> bool {
        !matches!(self.pairs, Pairs::None | Pairs::Own)
    }
}

/// How the student's values come about that a term reads.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Route {
    /// From the inputs through the student.
    #[default]
    Plain,
    /// Through the student, with activations that the term mixes in place of its own. All terms see what comes of it.
    Mixed,
    /// Block by block: each of the student's, from the teacher's activation where it begins.
    Blocks,
    /// Block by block, each of the student's with this probability, else of the teacher's.
    Relay { student: f64 },
}

/// Which network an activation is brought to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Student,
    Teacher,
}

/// What an activation is to become.
#[derive(Clone, Debug)]
pub struct Target {
    pub shape: Vec<usize>,
    pub layout: Layout,
}

/// One summand of the objective.
pub trait Term: Send + Sync {
    /// The method's name as in `kdc methods`.
    fn name(&self) -> &'static str;

    /// What it reads.
    fn reads(&self) -> Reads;

    /// Whether whom it learns from has to learn along.
    fn wants_peer(&self) -> bool {
        false
    }

    /// How the student's values come about that it reads; which kind it is never changes.
    fn route(&self, _progress: f64) -> Route {
        Route::Plain
    }

    /// What takes the place of the student's activation of the `index`-th pair. Only where the route is
    /// [`Route::Mixed`].
    fn mixed(&self, _index: usize, pair: &Pair, _progress: f64, _aux: &AuxParams) -> Value {
        pair.student.value.clone()
    }

    /// An activation of one network, of the `index`-th pair, as the other has it there: of the `target`'s extents. Only
    /// where the route goes from network to network.
    fn translated(&self, _index: usize, from: &Feature, _side: Side, _target: &Target, _aux: &AuxParams) -> Value {
        from.value.clone()
    }

    /// Refuses settings that cannot work, and adds what the term trains or keeps to the auxiliary parameters.
    ///
    /// # Errors
    /// With the setting and what it may be.
    fn prepare(&mut self, _plan: &Plan, _aux: &mut AuxParams) -> Result<(), Error> {
        Ok(())
    }

    /// The loss in summands, each by a name for people and a tensor of one element: a mean over the samples. At least
    /// one.
    fn parts(&self, values: &StepValues, aux: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)>;

    /// The sum of the parts.
    fn loss(&self, values: &StepValues, aux: &mut AuxParams) -> Tensor<1> {
        let parts = self.parts(values, aux).into_iter().map(|(_, part)| part);
        parts.reduce(|a, b| a + b).expect("a term has a part")
    }
}

/// What a method works on, as surveys group them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// The networks' answers.
    Instance,
    /// Activations inside.
    Feature,
    /// Whole layers and modules.
    Model,
}

impl Family {
    /// In the words of `kdc methods`.
    pub fn title(self) -> &'static str {
        match self {
            Family::Instance => "instance-based: the answers",
            Family::Feature => "feature-based: activations inside",
            Family::Model => "model-based: layers and modules",
        }
    }
}

/// A method as the list has it.
pub struct Entry {
    pub name: &'static str,
    pub family: Family,
    /// One line.
    pub summary: &'static str,
    /// What is minimised.
    pub formula: &'static str,
    /// Where it is published.
    pub source: &'static str,
    /// When to use it.
    pub when: &'static str,
    /// The weight that the source gives it.
    pub weight: f64,
    make: fn(toml::Table) -> Result<Box<dyn Term>, toml::de::Error>,
    defaults: fn() -> toml::Table,
}

impl Entry {
    /// The term with these settings; those that are not named are the source's.
    ///
    /// # Errors
    /// When a setting is unknown or of the wrong type.
    pub fn term(&self, settings: toml::Table) -> Result<Box<dyn Term>, toml::de::Error> {
        (self.make)(settings)
    }

    /// A recipe of this method alone, with all its settings; beside the labels where it does not read them.
    pub fn recipe(&self) -> String {
        // Schedules in one line: a table of its own would end the term.
        let settings: String = self.defaults().iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
        let term = self.term(toml::Table::new()).expect("the defaults are settings");
        let (peer, teacher) = match term.wants_peer() {
            true => ("[[teacher]]\nname = \"peer\"\nkind = \"peer\"\n\n", "teacher = \"peer\"\n"),
            false => ("", ""),
        };
        let labels = match term.reads().labels {
            true => "",
            false => "\n[[term]]\nmethod = \"hard-label\"\nweight = 1.0\n",
        };
        format!("{peer}[[term]]\nmethod = \"{}\"\nweight = {:?}\n{teacher}{settings}{labels}", self.name, self.weight)
    }

    /// The settings and what they are where nothing is said.
    pub fn defaults(&self) -> toml::Table {
        (self.defaults)()
    }
}

/// All methods, in the order of the documentation.
pub const METHODS: &[Entry] = &[
    soft_label::ENTRY,
    dkd::ENTRY,
    logit_mse::ENTRY,
    dist::ENTRY,
    binary_kl::ENTRY,
    topk_kl::ENTRY,
    virtual_label::ENTRY,
    nce_softmax::ENTRY,
    mutual::ENTRY,
    hard_label::ENTRY,
    ctc::ENTRY,
    masked_lm::ENTRY,
    regression::ENTRY,
    hint::ENTRY,
    attention::ENTRY,
    attention_map::ENTRY,
    relational::ENTRY,
    similarity::ENTRY,
    contrastive::ENTRY,
    adversarial::ENTRY,
    flow::ENTRY,
    factor_transfer::ENTRY,
    deep_supervision::ENTRY,
    distilled_layer::ENTRY,
    distilled_module::ENTRY,
    progressive_replacement::ENTRY,
    dynamic_temperature::ENTRY,
    virtual_teacher::ENTRY,
];

/// The method of this name.
pub fn method(name: &str) -> Option<&'static Entry> {
    METHODS.iter().find(|entry| entry.name == name)
}

/// A term out of its settings.
fn made<T: Term + DeserializeOwned + 'static>(settings: toml::Table) -> Result<Box<dyn Term>, toml::de::Error> {
    Ok(Box::new(T::deserialize(toml::Value::Table(settings))?))
}

/// The settings of a term by default.
fn defaults<T: Default + Serialize>() -> toml::Table {
    // A setting that may be absent is not written: TOML has no null.
    toml::Table::try_from(T::default()).expect("settings are numbers, words and lists")
}

/// Refuses a number that is not positive.
fn positive(method: &str, name: &str, values: &[f64]) -> Result<(), Error> {
    match values.iter().find(|v| !(v.is_finite() && **v > 0.0)) {
        None => Ok(()),
        Some(v) => Err(Error::Config(format!("'{method}': {name} {v} is not a positive number"))),
    }
}

/// Refuses a number that is no share.
fn share(method: &str, name: &str, value: f64) -> Result<(), Error> {
    match (0.0..=1.0).contains(&value) {
        true => Ok(()),
        false => Err(Error::Config(format!("'{method}': {name} {value} is not in 0..1"))),
    }
}

/// Refuses logits of different lengths.
fn same_classes(method: &str, plan: &Plan) -> Result<(), Error> {
    match plan.classes == plan.teacher_classes {
        true => Ok(()),
        false => {
            let why = format!(
                "compares answers, and the teacher gives {} numbers, the student {}; compare activations inside instead, \
                 as 'hint' does",
                plan.teacher_classes, plan.classes
            );
            Err(Error::inapplicable(method, why))
        }
    }
}
