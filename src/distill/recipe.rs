//! Recipes: what is minimised, with whom to learn from, on which data, stage after stage. A TOML file:
//!
//! ```toml
//! title = "first the projections, then everything"
//!
//! [[teacher]]                 # beside the model that is compiled, which is "teacher"
//! name = "second"
//! model = "other.onnx"        # or kind = "peer": a network like the student, that learns along
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
//! A recipe may have `[[choice]]`s instead of the last stage's terms: objectives of which a short trial takes the best.
//!
//! Where there is only one stage, its terms may stand as `[[term]]`. Whatever is not a key of every term (`method`,
//! `weight`, `teacher`, `weighing`, `layers`) is a setting of its method.

use super::objective::{TermSpec, Weighing};
use super::{Error, Schedule, Synthesis, method};
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
    /// Objectives of which a short trial takes the best for the last stage, whose own terms are the first of them; none:
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
}

/// Which of the data are seen, and how.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct DataSpec {
    /// How many labels are looked at, of each class in proportion: a count, or a share below 1; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<f64>,
    /// Samples with labels in every batch, as a share; absent: as they come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labelled_share: Option<f64>,
    /// α of mixup (Zhang et al. 2018, <https://arxiv.org/abs/1710.09412>); 0: none.
    pub mixup: f64,
    /// α of cutmix (Yun et al. 2019, <https://arxiv.org/abs/1905.04899>); 0: none.
    pub cutmix: f64,
    /// The largest share of a signal's length, or of its channels, that is masked (SpecAugment, Park et al. 2019,
    /// <https://arxiv.org/abs/1904.08779>); 0: none.
    pub spec_augment: f64,
    /// Samples that are made from the teacher alone, in place of those there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synthetic: Option<Synthesis>,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    title: String,
    #[serde(default, rename = "teacher")]
    teachers: Vec<TeacherSpec>,
    #[serde(default)]
    data: DataSpec,
    #[serde(default, rename = "stage")]
    stages: Vec<StageFile>,
    #[serde(default, rename = "term")]
    terms: Vec<toml::Spanned<toml::Table>>,
    #[serde(default, rename = "choice")]
    choices: Vec<ChoiceFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ChoiceFile {
    name: String,
    #[serde(default)]
    same_family: bool,
    #[serde(rename = "term")]
    terms: Vec<toml::Spanned<toml::Table>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct StageFile {
    #[serde(default)]
    name: String,
    share: Option<f64>,
    epochs: Option<usize>,
    #[serde(default = "one")]
    lr: f64,
    #[serde(default)]
    freeze: Vec<String>,
    until: Option<Until>,
    #[serde(default = "one")]
    samples: f64,
    #[serde(default)]
    anew: bool,
    keep: Option<String>,
    #[serde(rename = "term")]
    terms: Vec<toml::Spanned<toml::Table>>,
}

/// The keys that every term has.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Common {
    method: String,
    weight: Option<Schedule>,
    #[serde(default)]
    teacher: Names,
    #[serde(default)]
    weighing: Weighing,
    #[serde(default)]
    layers: Vec<(String, String)>,
}

/// One name or several.
#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Names {
    #[default]
    None,
    One(String),
    Several(Vec<String>),
}

const COMMON: [&str; 5] = ["method", "weight", "teacher", "weighing", "layers"];

fn one() -> f64 {
    1.0
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

    /// Reads a recipe from a file.
    ///
    /// # Errors
    /// With the file and the line, and what may stand there.
    pub fn read(path: &Path) -> Result<Recipe, Error> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::Recipe {
            path: path.into(),
            line: 0,
            what: format!("it cannot be read: {e}"),
        })?;
        let mut recipe = Recipe::parse(&text, path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for model in recipe.teachers.iter_mut().filter_map(|t| t.model.as_mut()) {
            *model = folder.join(&*model);
        }
        Ok(recipe)
    }

    /// Reads a recipe; `path` is for messages.
    ///
    /// # Errors
    /// As [`Recipe::read`].
    pub fn parse(text: &str, path: &Path) -> Result<Recipe, Error> {
        let at = |offset: usize, what: String| {
            let line = text[..offset.min(text.len())].matches('\n').count() + 1;
            Error::Recipe { path: path.into(), line, what }
        };
        let file: File = toml::from_str(text)
            .map_err(|e| at(e.span().map_or(0, |s| s.start), e.message().trim_end().to_string()))?;
        let term = |table: &toml::Spanned<toml::Table>| {
            // A setting that is wrong is sought in the lines of its term.
            let span = table.span();
            spec(table.get_ref()).map_err(|(key, what)| {
                let lines = &text[span.start.min(text.len())..];
                let place = key.and_then(|key| line_of(lines, &key)).unwrap_or(0);
                at(span.start + place, what)
            })
        };
        let whole = |text: &str| at(0, text.to_string());
        let mut stages = vec![];
        if !file.terms.is_empty() {
            if !file.stages.is_empty() {
                return Err(whole("it has [[term]] beside [[stage]]; move the terms into a stage, as [[stage.term]]"));
            }
            stages.push(Stage::of(file.terms.iter().map(term).collect::<Result<_, _>>()?));
        }
        for stage in &file.stages {
            let terms = stage.terms.iter().map(term).collect::<Result<_, _>>()?;
            let StageFile { name, share, epochs, lr, freeze, until, samples, anew, keep, .. } = stage;
            stages.push(Stage {
                name: name.clone(),
                share: *share,
                epochs: *epochs,
                lr: *lr,
                freeze: freeze.clone(),
                until: *until,
                samples: *samples,
                anew: *anew,
                keep: keep.clone(),
                terms,
            });
        }
        let choice = |choice: &ChoiceFile| -> Result<Choice, Error> {
            let terms = choice.terms.iter().map(term).collect::<Result<_, _>>()?;
            Ok(Choice { name: choice.name.clone(), same_family: choice.same_family, terms })
        };
        let choices = file.choices.iter().map(choice).collect::<Result<Vec<_>, _>>()?;
        if let (true, Some(first)) = (stages.is_empty(), choices.first()) {
            stages.push(Stage::of(first.terms.clone()));
        }
        let recipe = Recipe { title: file.title, teachers: file.teachers, data: file.data, stages, choices };
        recipe.check().map_err(|what| whole(&what))?;
        Ok(recipe)
    }

    /// Refuses what cannot work, whatever the model and the data.
    fn check(&self) -> Result<(), String> {
        if self.stages.is_empty() {
            return Err("it has no term; add [[term]] with a method, as method = \"soft-label\"".into());
        }
        let mut known = vec!["teacher".to_string()];
        for teacher in &self.teachers {
            if known.contains(&teacher.name) {
                return Err(format!("there are two teachers '{}'", teacher.name));
            }
            if teacher.kind == TeacherKind::Model && teacher.model.is_none() {
                return Err(format!("the teacher '{}' has no model, and is no peer", teacher.name));
            }
            known.push(teacher.name.clone());
        }
        for (index, stage) in self.stages.iter().enumerate() {
            let named = stage.terms.iter().flat_map(|t| &t.teachers);
            if let Some(name) = named.into_iter().find(|n| !known.contains(n)) {
                let place = index + 1;
                return Err(format!("stage {place} learns from '{name}', and there is {} then", known.join(", ")));
            }
            let shares = [("share", stage.share.unwrap_or(1.0)), ("samples", stage.samples)];
            if let Some((key, value)) = shares.iter().find(|(_, v)| !(*v > 0.0 && *v <= 1.0)) {
                return Err(format!("stage {}: {key} {value} is no share above 0 up to 1", index + 1));
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
        let peers = self.teachers.iter().filter(|t| t.kind == TeacherKind::Peer).map(|t| &t.name);
        let later: Vec<&String> = kept.into_iter().chain(peers).collect();
        let terms = self.stages.last().map(|s| s.terms.clone()).unwrap_or_default();
        if terms.iter().all(|t| t.teachers.iter().all(|name| !later.contains(&name))) {
            return terms;
        }
        let all = self.stages.iter().flat_map(|s| &s.terms);
        let asks = |t: &TermSpec| {
            let first = t.teachers.is_empty() || t.teachers.iter().any(|n| n == "teacher");
            first && t.term().is_ok_and(|term| term.reads().teacher_logits)
        };
        vec![TermSpec::new(if all.into_iter().any(asks) { "soft-label" } else { "hard-label" })]
    }

    /// How many of `epochs` each stage has: its own, its share, or an even part of what is left; at least one.
    pub fn epochs(&self, epochs: usize) -> Vec<usize> {
        let given: f64 = self.stages.iter().filter_map(|s| s.share).sum();
        let open = self.stages.iter().filter(|s| s.share.is_none() && s.epochs.is_none()).count();
        let rest = (1.0 - given).max(0.0) / open.max(1) as f64;
        let of = |stage: &Stage| match stage.epochs {
            Some(epochs) => epochs.max(1),
            None => ((stage.share.unwrap_or(rest) * epochs as f64).round() as usize).max(1),
        };
        self.stages.iter().map(of).collect()
    }

    /// As a file.
    pub fn text(&self) -> String {
        let mut root = toml::Table::new();
        root.insert("title".into(), self.title.clone().into());
        let table = |value: toml::Table| toml::Value::Table(value);
        let plain = |value: Result<toml::Table, toml::ser::Error>| table(value.expect("numbers and words"));
        if !self.teachers.is_empty() {
            let all = self.teachers.iter().map(|t| plain(toml::Table::try_from(t))).collect();
            root.insert("teacher".into(), toml::Value::Array(all));
        }
        if self.data != DataSpec::default() {
            root.insert("data".into(), plain(toml::Table::try_from(&self.data)));
        }
        let stages = self.stages.iter().map(|stage| table(stage.table())).collect();
        root.insert("stage".into(), toml::Value::Array(stages));
        toml::to_string(&root).expect("numbers and words")
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

    fn table(&self) -> toml::Table {
        let mut t = toml::Table::new();
        let mut put = |key: &str, value: Option<toml::Value>| value.map(|value| t.insert(key.into(), value));
        put("name", Some(self.name.clone()).filter(|n| !n.is_empty()).map(Into::into));
        put("share", self.share.map(Into::into));
        put("epochs", self.epochs.map(|n| toml::Value::Integer(n as i64)));
        put("lr", Some(self.lr).filter(|lr| *lr != 1.0).map(Into::into));
        put("freeze", Some(self.freeze.clone()).filter(|f| !f.is_empty()).map(Into::into));
        put("until", self.until.map(|u| toml::Value::try_from(u).expect("numbers")));
        put("samples", Some(self.samples).filter(|s| *s != 1.0).map(Into::into));
        put("anew", Some(self.anew).filter(|a| *a).map(Into::into));
        put("keep", self.keep.clone().map(Into::into));
        put("term", Some(toml::Value::Array(self.terms.iter().map(|spec| spec.table().into()).collect())));
        t
    }
}

impl TermSpec {
    /// As in a recipe.
    fn table(&self) -> toml::Table {
        let mut t = toml::Table::new();
        t.insert("method".into(), self.method.clone().into());
        t.insert("weight".into(), toml::Value::try_from(&self.weight).expect("numbers"));
        match self.teachers.as_slice() {
            [] => {}
            [one] => _ = t.insert("teacher".into(), one.clone().into()),
            several => _ = t.insert("teacher".into(), several.to_vec().into()),
        }
        if self.weighing != Weighing::default() {
            t.insert("weighing".into(), toml::Value::try_from(&self.weighing).expect("numbers and words"));
        }
        if !self.layers.is_empty() {
            let pair = |(s, u): &(String, String)| toml::Value::from(vec![s.clone(), u.clone()]);
            t.insert("layers".into(), toml::Value::Array(self.layers.iter().map(pair).collect()));
        }
        t.extend(self.settings.clone());
        t
    }
}

/// A term out of its table; else what is wrong, and the key that it is about.
fn spec(table: &toml::Table) -> Result<TermSpec, (Option<String>, String)> {
    let (mut common, mut settings) = (toml::Table::new(), toml::Table::new());
    for (key, value) in table {
        let side = if COMMON.contains(&key.as_str()) { &mut common } else { &mut settings };
        side.insert(key.clone(), value.clone());
    }
    let common: Common = common.try_into().map_err(|e: toml::de::Error| {
        let key = COMMON.iter().find(|key| e.message().contains(&format!("`{key}`")));
        (key.map(|k| (*k).to_string()), e.message().trim_end().to_string())
    })?;
    let Some(entry) = method(&common.method) else {
        let known: Vec<&str> = super::METHODS.iter().map(|m| m.name).collect();
        let what = format!("there is no method '{}'; there are {}", common.method, known.join(", "));
        return Err((Some("method".into()), what));
    };
    if let Err(e) = entry.term(settings.clone()) {
        let wrong = settings.keys().find(|key| {
            let unknown = e.message().contains(&format!("unknown field `{key}`"));
            let alone = toml::Table::from_iter([((*key).clone(), settings[*key].clone())]);
            unknown || !e.message().contains("unknown field") && entry.term(alone).is_err()
        });
        return Err((wrong.cloned(), format!("'{}': {}", common.method, e.message().trim_end())));
    }
    let teachers = match common.teacher {
        Names::None => vec![],
        Names::One(name) => vec![name],
        Names::Several(names) => names,
    };
    let weight = common.weight.unwrap_or(Schedule::Constant(entry.weight));
    let (weighing, layers) = (common.weighing, common.layers);
    Ok(TermSpec { method: common.method, weight, teachers, weighing, layers, settings })
}

/// Where the line of a key begins.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let rest = line.trim_start();
        if rest.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('=')) {
            return Some(offset);
        }
        offset += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Recipe, Error> {
        Recipe::parse(text, Path::new("r.toml"))
    }

    #[test]
    fn a_recipe_is_written_as_it_is_read() {
        let text = r#"
title = "all of it"
[[teacher]]
name = "second"
model = "b.onnx"
[[teacher]]
name = "pal"
kind = "peer"
[data]
labels = 100
labelled-share = 0.5
mixup = 0.2
[[stage]]
name = "first"
share = 0.25
lr = 0.5
freeze = ["student"]
samples = 0.5
until = { accuracy = 0.9 }
keep = "young"
[[stage.term]]
method = "soft-label"
teacher = ["teacher", "second"]
weighing = [0.25, 0.75]
temperature = { linear = { from = 8.0, to = 2.0 } }
[[stage]]
anew = true
[[stage.term]]
method = "hard-label"
[[stage.term]]
method = "dkd"
teacher = "young"
weight = { warmup = { to = 1.0, over = 0.1 } }
beta = 8.0
"#;
        let recipe = parse(text).unwrap();
        assert_eq!(recipe.stages.len(), 2);
        assert_eq!(recipe.stages[0].terms[0].teachers, ["teacher", "second"]);
        assert_eq!(recipe.epochs(8), [2, 6]);
        assert_eq!(recipe.stages[1].terms[1].weight, Schedule::Warmup { to: 1.0, over: 0.1 });
        assert_eq!(parse(&recipe.text()).unwrap(), recipe);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let cases = [
            ("[[term]]\nmethod = \"dkd\"\nalpha = 1\nbta = 2\n", 4, "bta"),
            ("[[term]]\nmethod = \"dkd\"\nbeta = \"two\"\n", 3, "dkd"),
            ("[[term]]\nmethod = \"magic\"\n", 2, "there is no method 'magic'; there are soft-label, dkd"),
            ("\n[[term]]\nweight = 1\n", 2, "method"),
            ("title = \"x\"\n[dta]\nlabels = 3\n", 2, "dta"),
            ("[data]\nlabels = \"many\"\n", 2, "invalid type"),
            ("title = \"x\"\n", 1, "it has no term"),
            ("[[term]]\nmethod = \"dkd\"\nteacher = \"B\"\n", 1, "learns from 'B', and there is teacher then"),
            ("[[term]]\nmethod = \"dkd\"\n[[teacher]]\nname = \"B\"\n", 1, "'B' has no model"),
        ];
        for (text, line, word) in cases {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("r.toml:{line}: ")) && error.contains(word), "{text}: {error}");
        }
    }
}
