//! Which of a recipe's objectives suits a student: short trainings on the same samples decide, before the long one.

use super::derivation::Found;
use super::labelling::Asked;
use super::training;
use super::{Error, Job, Progress};
use crate::distill::{self, Choice};
use crate::graph::Graph;
use crate::{data, files, onnx};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The share of the epochs that a trial has.
const SHARE: f64 = 1.0 / 12.0;

/// An objective that was tried.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    pub name: String,
    /// Share of the validation samples classified rightly; of samples without labels, the agreement with the teacher.
    pub accuracy: f64,
    pub chosen: bool,
}

/// Tries the recipe's choices, if it has any, and puts the best in the place of the last stage's terms; what came of the
/// trials, and whether that was known.
///
/// # Errors
/// When one cannot be trained.
pub fn settle(
    job: &mut Job,
    student: &Graph,
    found: &Found,
    asked: &Asked,
    progress: &dyn Progress,
) -> Result<(Vec<Trial>, bool), Error> {
    // Of a network of its own activations mean something else.
    let same_family = found.spec.as_ref().is_some_and(|spec| spec.kind.template.is_none());
    let choices: Vec<Choice> = job.recipe.choices.iter().filter(|c| same_family || !c.same_family).cloned().collect();
    if choices.is_empty() {
        return Ok((vec![], true));
    }
    let settings = format!("{:?} {:?} {:?} {:?}", job.training, choices, job.recipe.data, job.options.training.top_k);
    let teacher = format!("{} {}", job.teacher_hash, asked.teacher.engine());
    let inputs = [files::hash(&onnx::export(student)?), job.data_hash.clone(), settings, teacher];
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let stage = job.cache.stage("choose", super::CODE_VERSION, &inputs, |folder| {
        let mut trials = vec![];
        for (index, choice) in choices.iter().enumerate() {
            progress.position(index as u64, choices.len() as u64, &choice.name);
            let accuracy = tried(job, student, asked, choice, &folder.join("trial"))?;
            progress.note(&format!("{}: {:.2}% after a short trial (measured)", choice.name, 100.0 * accuracy));
            trials.push(Trial { name: choice.name.clone(), accuracy, chosen: false });
        }
        // Of equals the first.
        let best = data::argmax(&trials.iter().map(|t| t.accuracy as f32).collect::<Vec<_>>());
        trials[best].chosen = true;
        let path = folder.join("trials.json");
        let text = serde_json::to_vec(&trials).expect("plain data");
        files::write_atomic(&path, &text).map_err(|source| Error::Output { path, source })
    })?;
    let path = stage.folder.join("trials.json");
    let text = std::fs::read(&path).map_err(|e| Error::read(&path, e))?;
    let trials: Vec<Trial> = serde_json::from_slice(&text).map_err(|e| Error::read(&path, e.into()))?;
    if let Some(chosen) = trials.iter().position(|t| t.chosen).and_then(|i| choices.get(i)) {
        if let Some(last) = job.recipe.stages.last_mut() {
            last.terms.clone_from(&chosen.terms);
        }
        job.recipe.title = format!("{}, {}", job.recipe.title, chosen.name);
        job.recipe.choices.clear();
        job.training.terms = job.recipe.for_search();
    }
    Ok((trials, stage.cached))
}

fn tried(job: &Job, student: &Graph, asked: &Asked, choice: &Choice, scratch: &Path) -> Result<f64, Error> {
    let (train, validation) =
        data::split(job.data.train.as_ref(), &job.data.answers, job.training.validation, job.options.seed);
    let set = training::set(job, asked, &train, &validation);
    let epochs = ((job.training.epochs as f64 * SHARE).round() as usize).max(1);
    let config = distill::Config { epochs, patience: None, ema: 0.0, ..job.training.clone() };
    let recipe = distill::Recipe { data: job.recipe.data.clone(), ..distill::Recipe::of("", choice.terms.clone()) };
    std::fs::create_dir_all(scratch).map_err(|source| Error::Output { path: scratch.into(), source })?;
    let trained = distill::follow(student, &recipe, &set, &config, &job.options.device.open()?, scratch, &mut |_| ())?;
    std::fs::remove_dir_all(scratch).map_err(|source| Error::Output { path: scratch.into(), source })?;
    let best = trained.history.iter().map(|e| if e.accuracy.is_finite() { e.accuracy } else { e.agreement });
    Ok(best.fold(0.0, f64::max))
}
