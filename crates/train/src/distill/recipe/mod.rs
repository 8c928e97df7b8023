//! Recipes: what is minimised, with whom to learn from, on which data, stage after stage. A TOML file:
//!
//! ```toml
//! title = "first the projections, then everything"
//!
//! [[teacher]]                 # beside the model that is compiled, which is "teacher"
//! name = "second"
//! model = "other.onnx"        # or kind = "peer", a network like the student that learns along; "tuned", a copy of the
//!                             # teacher that does; "autoencoder", trained first, on the samples without their labels
//!
//! # A term's teacher is one of them, several, or "*": every trained one, the first included.
//!
//! [data]
//! labels = 1000               # so many labels are looked at; a share below 1; 0: none
//! labelled-share = 0.25       # of every batch
//! mixup = 0.2                 # of two samples, by Beta(α, α)
//!
//! [[stage]]
//! name = "warm up"
//! share = 0.2                 # of the epochs
//! freeze = ["student"]
//! [[stage.term]]
//! method = "hint"
//!
//! [[stage]]
//! keep = "first"              # the student as it is then, a teacher of the stages that follow
//! [[stage.term]]
//! method = "soft-label"
//! alpha = 0.5
//! ```
//!
//! A recipe may have `[[choice]]`s instead of the last stage's terms: objectives that are tried for a few
//! epochs. The first is taken unless another is clearly better.
//!
//! Where there is only one stage, its terms may stand as `[[term]]`. Whatever is not a key of every term (`method`,
//! `weight`, `teacher`, `weighing`, `layers`) is a setting of its method.

mod file;

use super::objective::TermSpec;
use super::{DataSpec, EPOCHS_LIMIT, Error};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// How a student is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    pub title: String,
    /// Beside the model that is compiled.
    pub teachers: Vec<TeacherSpec>,
    pub data: DataSpec,
    /// One after the other, at least one.
    pub stages: Vec<Stage>,
    /// Objectives of which short trials choose one for the last stage, whose own terms are the first of them; none:
    /// nothing is tried.
    pub choices: Vec<Choice>,
}

/// An objective that is tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    pub name: String,
    /// Only for students that are made of their teacher's own network.
    pub same_family: bool,
    pub terms: Vec<TermSpec>,
}

/// Somebody to learn from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TeacherSpec {
    pub name: String,
    /// An ONNX file; in a recipe's file, from its folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    #[serde(default)]
    pub kind: TeacherKind,
    /// Of an autoencoder's training; `None`: as many as the student's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<usize>,
}

/// What a teacher is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TeacherKind {
    /// A trained network.
    #[default]
    Model,
    /// A network that learns along, from its own start; without a model, one like the student.
    Peer,
    /// A copy of the teacher that learns along: with `new-classes`, the teacher becomes one of the data's classes.
    Tuned,
    /// A small network that learns, before the student does, to give its input again through a few numbers: it has seen
    /// all samples, those without labels too, and what it has learned of them is in its activations. It answers nothing.
    Autoencoder,
}

/// A part of training.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    pub name: String,
    /// Of the epochs; stages without one divide what is left.
    pub share: Option<f64>,
    /// Epochs, instead of a share.
    pub epochs: Option<usize>,
    /// Times the learning rate.
    pub lr: f64,
    /// See [`Config::freeze`](super::Config::freeze).
    pub freeze: Vec<String>,
    /// Ends the stage early.
    pub until: Option<Until>,
    /// Share of the training samples that it sees.
    pub samples: f64,
    /// Whether the student begins anew: from weights drawn by the seed and the stage's place.
    pub anew: bool,
    /// What the student is called as a teacher of later stages.
    pub keep: Option<String>,
    pub terms: Vec<TermSpec>,
}

/// When a stage is over before its epochs are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Until {
    /// This validation accuracy is reached, 0..1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// So many epochs brought nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plateau: Option<usize>,
}

impl Recipe {
    /// One stage of these terms on all data.
    pub fn of(title: &str, terms: Vec<TermSpec>) -> Recipe {
        Recipe {
            title: title.into(),
            teachers: vec![],
            data: DataSpec::default(),
            stages: vec![Stage::of(terms)],
            choices: vec![],
        }
    }

    /// With these networks as further teachers, named `second`, `third` and so on where the recipe has no others, and with
    /// the names in the place of every `*`: all trained networks, the first included.
    ///
    /// # Errors
    /// When a name is taken, or `*` is the first teacher alone.
    pub fn with_teachers(mut self, models: &[PathBuf]) -> Result<Recipe, Error> {
        const NAMES: [&str; 6] = ["second", "third", "fourth", "fifth", "sixth", "seventh"];
        if models.len() > NAMES.len() {
            return Err(Error::Config(format!(
                "{} teachers beside the first; {} are the most",
                models.len(),
                NAMES.len()
            )));
        }
        for (name, model) in NAMES.iter().zip(models) {
            if self.teachers.iter().any(|teacher| teacher.name == *name) {
                return Err(Error::Config(format!(
                    "--teacher adds a teacher '{name}', and the recipe has one of that name"
                )));
            }
            let (name, model) = ((*name).to_string(), Some(absolute(model)));
            self.teachers.push(TeacherSpec { name, model, kind: TeacherKind::Model, epochs: None });
        }
        let trained = self.teachers.iter().filter(|t| t.kind == TeacherKind::Model).map(|t| t.name.clone());
        let all: Vec<String> = std::iter::once("teacher".to_string()).chain(trained).collect();
        let stages = self.stages.iter_mut().flat_map(|s| &mut s.terms);
        for term in stages.chain(self.choices.iter_mut().flat_map(|c| &mut c.terms)) {
            if term.teachers != [ALL] {
                continue;
            }
            if all.len() < 2 {
                let what = "the recipe learns from several teachers (teacher = \"*\"); name the others with --teacher FILE, or \
                            as [[teacher]] in the recipe";
                return Err(Error::Config(what.into()));
            }
            term.teachers.clone_from(&all);
        }
        Ok(self)
    }

    /// Refuses what cannot work, whatever the model and the data.
    fn check(&self) -> Result<(), String> {
        if self.stages.is_empty() {
            return Err("it has no term; add [[term]] with a method, as method = \"soft-label\"".into());
        }
        let mut known = vec!["teacher".to_string(), ALL.to_string()];
        for teacher in &self.teachers {
            if known.contains(&teacher.name) {
                return Err(format!("there are two teachers '{}'", teacher.name));
            }
            if teacher.kind == TeacherKind::Model && teacher.model.is_none() {
                return Err(format!("the teacher '{}' has no model, and is no peer", teacher.name));
            }
            if teacher.kind == TeacherKind::Tuned && teacher.model.is_some() {
                let name = &teacher.name;
                return Err(format!("the teacher '{name}' is tuned: a copy of the first, without a model of its own"));
            }
            if teacher.epochs.is_some_and(|epochs| epochs > EPOCHS_LIMIT) {
                return Err(format!("the teacher '{}' has more than {EPOCHS_LIMIT} epochs", teacher.name));
            }
            if teacher.kind == TeacherKind::Autoencoder {
                autoencoder(teacher, self)?;
            } else if teacher.epochs.is_some() {
                return Err(format!("the teacher '{}' has epochs, which are an autoencoder's", teacher.name));
            }
            known.push(teacher.name.clone());
        }
        for (index, stage) in self.stages.iter().enumerate() {
            let named = stage.terms.iter().flat_map(|t| &t.teachers);
            if let Some(name) = named.into_iter().find(|n| !known.contains(n)) {
                let place = index + 1;
                return Err(format!("stage {place} learns from '{name}', and there is {} then", without_all(&known)));
            }
            let shares = [("share", stage.share.unwrap_or(1.0)), ("samples", stage.samples)];
            if let Some((key, value)) = shares.iter().find(|(_, v)| !(*v > 0.0 && *v <= 1.0)) {
                return Err(format!("stage {}: {key} {value} is no share above 0 up to 1", index + 1));
            }
            let place = index + 1;
            if !(stage.lr > 0.0 && stage.lr.is_finite()) {
                return Err(format!("stage {place}: lr {} is no positive factor", stage.lr));
            }
            if stage.epochs.is_some_and(|epochs| epochs > EPOCHS_LIMIT) {
                return Err(format!("stage {place} has more than {EPOCHS_LIMIT} epochs"));
            }
            if stage.epochs == Some(0) || stage.epochs.is_some() && stage.share.is_some() {
                return Err(format!("stage {place} has either epochs, one or more, or a share of them"));
            }
            if let Some(accuracy) = stage.until.and_then(|u| u.accuracy).filter(|a| !(0.0..=1.0).contains(a)) {
                return Err(format!("stage {place}: until.accuracy {accuracy} is not in 0..1"));
            }
            if stage.until.and_then(|u| u.plateau) == Some(0) {
                return Err(format!("stage {place}: until.plateau 0 leaves no epoch to train"));
            }
            if let Some(name) = stage.keep.as_ref().filter(|name| known.contains(name)) {
                return Err(format!("stage {place} keeps a teacher '{name}', and there is one of that name"));
            }
            if stage.terms.is_empty() && (self.choices.is_empty() || index + 1 < self.stages.len()) {
                return Err(format!("stage {} has no term; add [[stage.term]]", index + 1));
            }
            known.extend(stage.keep.clone());
        }
        let data = &self.data;
        let positive = [("mixup", data.mixup), ("cutmix", data.cutmix), ("spec-augment", data.spec_augment)];
        if let Some((key, value)) = positive.iter().find(|(_, v)| !(*v >= 0.0 && v.is_finite())) {
            return Err(format!("[data] {key} {value} is below 0"));
        }
        if data.spec_augment > 1.0 {
            return Err(format!("[data] spec-augment {} is no share up to 1", data.spec_augment));
        }
        if let Some(labels) = data.labels.filter(|labels| !(*labels >= 0.0 && labels.is_finite())) {
            return Err(format!("[data] labels {labels} is no count and no share"));
        }
        if let Some(how) = &data.synthetic {
            how.check()?;
        }
        if data.new_classes {
            let mut terms = self.stages.iter().flat_map(|s| &s.terms).chain(self.choices.iter().flat_map(|c| &c.terms));
            if let Some(term) = terms.find(|t| t.reads_answers_of("teacher")) {
                return Err(format!(
                    "'{}' reads the teacher's answers, which are of other classes (new-classes); learn from labels and \
                     from its activations, or from a student of an earlier stage (keep)",
                    term.method
                ));
            }
            if data.synthetic.is_some() {
                return Err("[data] new-classes needs labelled samples, and synthetic ones have no labels".into());
            }
        }
        match data.labelled_share {
            Some(share) if !(0.0..=1.0).contains(&share) => {
                Err(format!("[data] labelled-share {share} is not in 0..1"))
            }
            _ => Ok(()),
        }
    }

    /// What short trainings minimise, that tell candidates apart: the last stage's terms, where all of them can be had
    /// before any stage has run; else the teacher's answers, or the labels where nobody teaches.
    pub fn for_search(&self) -> Vec<TermSpec> {
        let kept: Vec<&String> = self.stages.iter().filter_map(|s| s.keep.as_ref()).collect();
        let peers = self.teachers.iter().filter(|t| t.kind != TeacherKind::Model).map(|t| &t.name);
        let later: Vec<&String> = kept.into_iter().chain(peers).collect();
        let terms = self.stages.last().map(|s| s.terms.clone()).unwrap_or_default();
        if terms.iter().all(|t| t.teachers.iter().all(|name| !later.contains(&name))) {
            return terms;
        }
        let mut all = self.stages.iter().flat_map(|s| &s.terms);
        let asks = all.any(|term| term.reads_answers_of("teacher"));
        vec![TermSpec::new(if asks { "soft-label" } else { "hard-label" })]
    }

    /// How many of `epochs` each stage has: its own, its share, or an even part of what is left; at least one, and none
    /// of no epochs.
    pub fn epochs(&self, epochs: usize) -> Vec<usize> {
        if epochs == 0 {
            return vec![0; self.stages.len()];
        }
        let given: f64 = self.stages.iter().filter_map(|s| s.share).sum();
        let open = self.stages.iter().filter(|s| s.share.is_none() && s.epochs.is_none()).count();
        let rest = (1.0 - given).max(0.0) / open.max(1) as f64;
        let of = |stage: &Stage| match stage.epochs {
            Some(epochs) => epochs.max(1),
            None => ((stage.share.unwrap_or(rest) * epochs as f64).round() as usize).max(1),
        };
        self.stages.iter().map(of).collect()
    }
}

impl Stage {
    /// All epochs, all samples.
    pub fn of(terms: Vec<TermSpec>) -> Stage {
        Stage {
            name: String::new(),
            share: None,
            epochs: None,
            lr: 1.0,
            freeze: vec![],
            until: None,
            samples: 1.0,
            anew: false,
            keep: None,
            terms,
        }
    }
}

/// Refuses what an autoencoder has not.
fn autoencoder(teacher: &TeacherSpec, recipe: &Recipe) -> Result<(), String> {
    let name = &teacher.name;
    if teacher.model.is_some() || teacher.epochs == Some(0) {
        return Err(format!("the teacher '{name}' is an autoencoder: without a model, and with an epoch at least"));
    }
    let mut terms = recipe.stages.iter().flat_map(|s| &s.terms).chain(recipe.choices.iter().flat_map(|c| &c.terms));
    match terms.find(|t| t.reads_answers_of(name)) {
        Some(term) => Err(format!(
            "'{}' reads the answers of '{name}', which is an autoencoder; its activations can be compared, as 'hint' and \
             'similarity' do",
            term.method
        )),
        None => Ok(()),
    }
}

/// The same file wherever the recipe is written to.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

/// Stands for all teachers in a term.
const ALL: &str = "*";

fn without_all(names: &[String]) -> String {
    names.iter().filter(|n| *n != ALL).map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
