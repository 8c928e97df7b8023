//! The derivation stage: from the teacher to an untrained student that fits the board.
//!
//! Every [`Variant`] of the teacher (narrower, without blocks, with convolutions taken apart, a template instead) is cut
//! to the widest that the budgets allow by the cost model ([`variants`]). Those that fit are distilled for a short while,
//! the better half of them for longer, and so on until one is left ([`halving`]). A search costs a sixth of the training
//! that follows, and two thirds as much again where a smaller student may do ([`goal`]).

mod evidence;
mod goal;
mod halving;
mod variants;

use super::labelling::TeacherLabels;
use super::options::{Search, Start};
use super::prepared::Prepared;
use super::{Error, Job, Progress, job as jobs};
use crate::files;
use crate::graph::{self, Graph};
use crate::onnx;
use crate::report::{CandidateRow, Replaced};
use crate::student::{self, Measured, Spec, Variant};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// An untrained student, and how it was found.
pub struct Derived {
    /// With batch norm, logits out.
    pub graph: Graph,
    pub found: Found,
}

/// How a student was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    /// In words.
    pub name: String,
    /// What pins it; `None` for one that was brought.
    pub spec: Option<Spec>,
    pub cost: Measured,
    /// Every candidate, in the order they were tried.
    pub candidates: Vec<CandidateRow>,
    /// Operators of the teacher that others stand for.
    #[serde(default)]
    pub replaced: Vec<Replaced>,
}

/// The student that a plan shows: where there is something to choose, the most promising candidate by the cost model.
///
/// # Errors
/// As [`derive`].
pub fn plan(job: &Job, teacher: &Prepared) -> Result<Derived, Error> {
    match derive(job, teacher)? {
        Candidates::Fixed(derived) => Ok(*derived),
        Candidates::Search(contenders) => Ok(contenders.first()),
        Candidates::Cached => Ok(halving::enter(job, teacher)?.first()),
    }
}

/// The student where there is nothing to choose: brought, pinned, or the first kind.
fn settled(job: &Job, teacher: &Prepared) -> Result<Derived, Error> {
    let asked = &job.options.derivation;
    if let Some(path) = &asked.student {
        return brought(job, teacher, path);
    }
    let mut builder = variants::CandidateBuilder::new(job, teacher);
    let spec = match (&asked.spec, asked.template) {
        (Some(path), _) => read_spec(path)?,
        (None, None) => Spec { kind: builder.plain(), ..Spec::default() },
        (None, template) => Spec { kind: Variant { template, ..Variant::default() }, ..Spec::default() },
    };
    let candidate = builder.candidate(&spec)?;
    Ok(Derived { graph: candidate.graph, found: candidate.found })
}

/// What the cost model leaves to choose from.
pub enum Candidates {
    /// Nothing to choose.
    Fixed(Box<Derived>),
    /// Candidates that fit.
    Search(halving::Contenders),
    /// The choice was made before.
    Cached,
}

/// Finds the candidates: by the cost model alone, before anything is trained or the teacher is asked.
///
/// # Errors
/// When no student can be made, or none fits the budgets.
pub fn derive(job: &Job, teacher: &Prepared) -> Result<Candidates, Error> {
    let options = &job.options.derivation;
    if options.student.is_some() || options.spec.is_some() || options.search == Search::Off {
        return Ok(Candidates::Fixed(Box::new(settled(job, teacher)?)));
    }
    if job.cache.has("search", &borrowed(&decided_by(job, teacher))) {
        return Ok(Candidates::Cached);
    }
    Ok(Candidates::Search(halving::enter(job, teacher)?))
}

/// Chooses among the candidates by short trainings.
///
/// # Errors
/// When a candidate cannot be trained.
pub fn search(
    job: &Job,
    teacher: &Prepared,
    field: Candidates,
    labels: &TeacherLabels,
    progress: &dyn Progress,
) -> Result<(Derived, bool), Error> {
    let contenders = match field {
        Candidates::Fixed(derived) => return Ok((*derived, false)),
        Candidates::Search(contenders) => Some(contenders),
        Candidates::Cached => None,
    };
    let stage = job.stage("search", &borrowed(&decided_by(job, teacher)), progress, |folder| {
        // Another process may have swept the cache in between.
        let contenders = contenders.map_or_else(|| halving::enter(job, teacher), Ok)?;
        let winner = halving::compete(job, labels, folder, contenders, progress)?;
        let derived = match job.options.min_accuracy {
            Some(goal) => goal::smallest(job, teacher, labels, folder, winner, goal, progress)?,
            None => winner,
        };
        let found = serde_json::to_vec(&derived.found).expect("plain data");
        for (name, bytes) in [("student.onnx", onnx::export(&derived.graph)?), ("found.json", found)] {
            let path = folder.join(name);
            files::write_atomic(&path, &bytes).map_err(|source| Error::Output { path, source })?;
        }
        Ok(())
    })?;
    let path = stage.folder.join("found.json");
    let text = std::fs::read(&path).map_err(|e| Error::read(&path, e))?;
    let found = serde_json::from_slice(&text).map_err(|e| Error::read(&path, e.into()))?;
    Ok((Derived { graph: onnx::load(&stage.folder.join("student.onnx"))?, found }, stage.cached))
}

/// Everything that decides which student is found.
fn decided_by(job: &Job, teacher: &Prepared) -> [String; 5] {
    let options = &job.options;
    [
        job.teacher_hash.clone(),
        job.data_hash.clone(),
        format!(
            "{:?} {:?} {:?} {:?}",
            options.derivation,
            job.budgets(&teacher.cost),
            options.precision,
            options.min_accuracy
        ),
        format!("{:?} {:?} {:?}", job.profile.cost, job.profile.cpu, options.inputs),
        format!(
            "{} {:?} {:?} {:?}",
            job.data.train.augmentation(),
            job.training,
            options.engine,
            options.training.top_k
        ),
    ]
}

fn borrowed(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

/// A student that the user brings. It must take and give what the teacher does.
fn brought(job: &Job, teacher: &Prepared, path: &Path) -> Result<Derived, Error> {
    let mut network = onnx::load(path)?;
    if network.outputs.len() > 1 {
        network = jobs::load_one_output(path, &onnx::Given { output: job.output.clone(), ..Default::default() })?;
    }
    let ports = |graph: &Graph, ids: &[graph::ValueId]| -> Vec<_> {
        ids.iter().map(|&id| (graph.value(id).dtype, graph.value(id).shape.clone())).collect()
    };
    for (what, theirs, ours) in [
        ("inputs", ports(&network, &network.inputs), ports(&job.teacher, &job.teacher.inputs)),
        ("outputs", ports(&network, &network.outputs), ports(&job.teacher, &job.teacher.outputs)),
    ] {
        if theirs != ours {
            let why = format!("its {what} are {theirs:?}, the teacher's {ours:?}");
            return Err(Error::Brought { path: path.into(), why });
        }
    }
    let (mut graph, _) = student::prepare(&network)?;
    student::check_suitable(&graph)?;
    // It goes by the teacher's names: what comes after the student knows those.
    for (mine, teachers) in graph
        .inputs
        .clone()
        .into_iter()
        .chain(graph.outputs.clone())
        .zip(teacher.graph.inputs.iter().chain(&teacher.graph.outputs))
    {
        let name = teacher.graph.value(*teachers).name.clone();
        if let Some(other) = graph.find(&name).filter(|&other| other != mine) {
            graph.value_mut(other).name = graph.fresh_name(&format!("{name}_inside"));
        }
        graph.value_mut(mine).name = name;
    }
    if job.options.derivation.start == Start::Random {
        student::redraw(&mut graph, job.options.seed);
    }
    let mut builder = variants::CandidateBuilder::new(job, teacher);
    let name = format!("brought: {}", path.display());
    let candidate = builder.whole(graph, name)?;
    Ok(Derived { graph: candidate.graph, found: candidate.found })
}

fn read_spec(path: &Path) -> Result<Spec, Error> {
    let text = crate::files::read_text(path, 1 << 20).map_err(|e| Error::read(path, e))?;
    toml::from_str(&text).map_err(|source| Error::SpecFile { path: path.into(), source: Box::new(source) })
}
