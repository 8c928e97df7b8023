//! Recipes as files.

use super::{Choice, Recipe, Stage, TeacherSpec, Until};
use crate::distill::objective::{TermSpec, Weighing};
use crate::distill::{DataSpec, Error, METHODS, Schedule, method};
use serde::Deserialize;
use std::path::Path;

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

/// The most bytes of a recipe.
const MOST_BYTES: u64 = 1 << 24;

const COMMON: [&str; 5] = ["method", "weight", "teacher", "weighing", "layers"];

fn one() -> f64 {
    1.0
}

impl Recipe {
    /// Reads a recipe from a file.
    ///
    /// # Errors
    /// With the file and the line, and what may stand there.
    pub fn read(path: &Path) -> Result<Recipe, Error> {
        let text = kdc_ir::files::read_text(path, MOST_BYTES).map_err(|e| Error::Recipe {
            path: path.into(),
            line: 0,
            what: format!("it cannot be read: {e}"),
        })?;
        let mut recipe = Recipe::parse(&text, path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        for model in recipe.teachers.iter_mut().filter_map(|t| t.model.as_mut()) {
            *model = super::absolute(&folder.join(&*model));
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
    let read = |table: toml::Table| table.try_into::<Common>();
    let common = read(common.clone()).map_err(|e| {
        // The key that is wrong by itself; that there is no method is nobody's line but the term's.
        let alone = |key: &&String| {
            let mut one = toml::Table::from_iter([("method".to_string(), "".into())]);
            one.insert((*key).clone(), common[*key].clone());
            read(one).is_err()
        };
        let wrong = common.keys().find(alone).cloned();
        let what = e.message().trim_end();
        let what = wrong.as_ref().map_or_else(|| what.to_string(), |key| format!("{key}: {what}"));
        (wrong, what)
    })?;
    let Some(entry) = method(&common.method) else {
        let known: Vec<&str> = METHODS.iter().map(|m| m.name).collect();
        let what = format!("there is no method '{}'; there are {}", common.method, known.join(", "));
        return Err((Some("method".into()), what));
    };
    if let Err(e) = entry.term(settings.clone()) {
        // Without the one that is wrong the others are understood; where several are, each of them fails alone.
        let understood = |keep: &dyn Fn(&String) -> bool| {
            let kept = settings.iter().filter(|(key, _)| keep(key)).map(|(key, value)| (key.clone(), value.clone()));
            entry.term(kept.collect()).is_ok()
        };
        let wrong = settings.keys().find(|key| understood(&|other| other != *key));
        let wrong = wrong.or_else(|| settings.keys().find(|key| !understood(&|other| other == *key)));
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
