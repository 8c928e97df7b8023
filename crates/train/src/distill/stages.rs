//! A recipe's stages, one after the other.
//!
//! Each is a training run of its own, with a checkpoint of its own: what is done is found done, what was interrupted
//! goes on. The student goes from stage to stage; so does what terms of the same method trained beside it. A student
//! that a stage keeps is a teacher of those that follow: born-again generations (Furlanello et al. 2018,
//! <https://arxiv.org/abs/1805.04770>), a network's own earlier self (Yuan et al. 2020,
//! <https://arxiv.org/abs/1909.11723>) and ensembles are recipes, and no code. Before the first stage, autoencoders learn
//! what activations they have to offer.

use super::evaluate::evaluate;
use super::history::{Epoch, Event, standard_error};
use super::recipe::{Recipe, Stage, TeacherKind};
use super::run::{InitialState, Trained};
use super::trainer::train;
use super::{ClassWeights, Config, DataSpec, Error, TeacherSource, TermSpec, TrainingSet, decoder};
use crate::data::Task;
use crate::student;
use burn::tensor::Device;
use kdc_exec::Network;
use kdc_ir::graph::Graph;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::path::Path;

/// Trains `student` as `recipe` says. `set` has the teachers that are models, under the names that the recipe gives them;
/// of `config` the terms and what belongs to a stage are the recipe's. No epochs leave the student as it is.
///
/// What comes out is never worse than `student` on the samples that validate, nor clearly worse on those that it learned
/// from: where training has lost, `student` itself is the result, with [`Trained::best`] 0.
///
/// # Errors
/// As [`train`], stage by stage.
pub fn follow(
    student: &Graph,
    recipe: &Recipe,
    set: &TrainingSet,
    config: &Config,
    device: &Device,
    folder: &Path,
    on_event: &mut dyn FnMut(Event),
) -> Result<Trained, Error> {
    if config.epochs == 0 {
        return Ok(Trained { graph: student.clone(), history: vec![], best: 0, steps: 0, others: vec![] });
    }
    let epochs = recipe.epochs(config.epochs);
    let per_step = config.batch_size * config.accumulate;
    let parts: Vec<Vec<usize>> =
        recipe.stages.iter().map(|stage| part(set.train, stage.samples, config.seed)).collect();
    let steps = |i: usize| parts[i].len() / per_step * epochs[i];
    let total: usize = (0..recipe.stages.len()).map(steps).sum();
    let mut kept = autoencoders(recipe, set, config, device, folder)?;
    let begins = Scores::of(student, set, device)?;
    let mut whole: Option<Trained> = None;
    let (mut before, mut epochs_before) = (0, 0);
    for (index, stage) in recipe.stages.iter().enumerate() {
        let start = begun(student, whole.as_ref(), stage, config.seed.wrapping_add(index as u64));
        let mut teachers = set.teachers.clone();
        let peers = peers(recipe, set, &start, config.seed)?;
        let own = kept.iter().chain(&peers).map(|(name, graph)| TeacherSource {
            name: name.clone(),
            logits: None,
            graph: Some(graph),
            engine: None,
            is_peer: peers.iter().any(|(peer, _)| peer == name),
        });
        teachers.extend(own);
        let stage_set = TrainingSet { train: &parts[index], teachers, ..set.clone() };
        let stage_config = stage_config(stage, &recipe.data, config, epochs[index]);
        // A single stage keeps its checkpoint where it always was.
        let checkpoint = folder.join(if index == 0 { "checkpoint".into() } else { format!("checkpoint.{index}") });
        let mut on = |event: Event| on_event(shifted(event, before, total, epochs_before));
        let others = whole.as_ref().map_or(&[][..], |w| &w.others);
        // Stages before the last may be on their way.
        let floor = if index + 1 == recipe.stages.len() { begins.validation } else { f64::NEG_INFINITY };
        let initial = InitialState { student: &start, others, floor };
        let trained = train(&initial, &stage_set, &stage_config, device, &checkpoint, &mut on)?;
        before += steps(index);
        if let Some(name) = &stage.keep {
            kept.push((name.clone(), trained.graph.clone()));
        }
        whole = Some(joined(whole, trained, epochs_before));
        epochs_before += epochs[index];
    }
    let whole = whole.ok_or_else(|| Error::Config("the recipe has no stage".into()))?;
    let has_lost = || Ok::<_, Error>(Scores::of(&whole.graph, set, device)?.are_below(&begins));
    Ok(if whole.best == 0 || has_lost()? { Trained { graph: student.clone(), best: 0, ..whole } } else { whole })
}

/// Training samples by which a student is compared with what it began with, beside those that validate: these may be few.
const WITNESSES: usize = 1000;

/// How good a student is on the samples that validate, and on some of those that it learns from.
struct Scores {
    /// As a floor: what is not known is below everything.
    validation: f64,
    training: f64,
    samples: usize,
}

impl Scores {
    fn of(student: &Graph, set: &TrainingSet, device: &Device) -> Result<Scores, Error> {
        let network = Network::new(student, device)?;
        // Evenly: samples may be sorted by class.
        let step = set.train.len().div_ceil(WITNESSES).max(1);
        let witnesses: Vec<usize> = set.train.iter().step_by(step).copied().collect();
        let score = |samples: &[usize]| {
            let (score, _) = evaluate(&network, set.samples, samples, set.answers)?;
            Ok::<_, Error>(if score.is_nan() { f64::NEG_INFINITY } else { score })
        };
        let validation = if set.validation.is_empty() { f64::NEG_INFINITY } else { score(set.validation)? };
        // Only shares of right answers have a standard error.
        let training = if *set.answers == Task::Reconstruction { f64::NEG_INFINITY } else { score(&witnesses)? };
        Ok(Scores { validation, training, samples: witnesses.len() })
    }

    /// Whether these are clearly below others on what both have learned from.
    fn are_below(&self, others: &Scores) -> bool {
        self.training < others.training - standard_error(others.training, self.samples)
    }
}

/// The student at the beginning of a stage.
fn begun(student: &Graph, whole: Option<&Trained>, stage: &Stage, seed: u64) -> Graph {
    let mut graph = whole.map_or(student, |w| &w.graph).clone();
    if stage.anew {
        graph = student.clone();
        student::redraw(&mut graph, seed);
    }
    graph
}

/// The autoencoders of a recipe, trained on the samples alone.
fn autoencoders(
    recipe: &Recipe,
    set: &TrainingSet,
    config: &Config,
    device: &Device,
    folder: &Path,
) -> Result<Vec<(String, Graph)>, Error> {
    let mut trained = vec![];
    for spec in recipe.teachers.iter().filter(|t| t.kind == TeacherKind::Autoencoder) {
        let [input] = set.samples.inputs() else {
            return Err(Error::inapplicable(&spec.name, "is an autoencoder, which takes samples of one part"));
        };
        if !input.dtype.is_float() {
            let why = format!("is an autoencoder, which takes numbers, and samples are {}", input.dtype);
            return Err(Error::inapplicable(&spec.name, why));
        }
        let mut graph = decoder::autoencoder(input.name.as_deref().unwrap_or("input"), &input.shape)?;
        student::redraw(&mut graph, config.seed.wrapping_add(0xC0DE + trained.len() as u64));
        let config = Config {
            terms: vec![TermSpec::new("regression").with("alpha", 0.0)],
            data: DataSpec::default(),
            class_weights: ClassWeights::default(),
            freeze: vec![],
            until: None,
            epochs: spec.epochs.unwrap_or(config.epochs),
            ..config.clone()
        };
        let set = TrainingSet { teachers: vec![], answers: &Task::Reconstruction, ..set.clone() };
        // By number: a name may be anything.
        let checkpoint = folder.join(format!("checkpoint.autoencoder.{}", trained.len()));
        let learned = train(&(&graph).into(), &set, &config, device, &checkpoint, &mut |_| ())?;
        trained.push((spec.name.clone(), decoder::encoder(learned.graph)));
    }
    Ok(trained)
}

/// Peers that are like the student, from weights of their own, and copies of the teacher.
fn peers(recipe: &Recipe, set: &TrainingSet, student: &Graph, seed: u64) -> Result<Vec<(String, Graph)>, Error> {
    let mut peers = vec![];
    let learn = |kind| matches!(kind, TeacherKind::Peer | TeacherKind::Tuned);
    for spec in recipe.teachers.iter().filter(|t| learn(t.kind) && t.model.is_none()) {
        let graph = match spec.kind {
            TeacherKind::Tuned => {
                set.teachers.first().filter(|t| t.engine.is_none()).and_then(|t| t.graph).cloned().ok_or_else(|| {
                    let why = "is a copy of the teacher that is to learn along, and has operators that kdc cannot run";
                    Error::inapplicable(&spec.name, why)
                })?
            }
            _ => {
                let mut graph = student.clone();
                student::redraw(&mut graph, seed.wrapping_add(0x5EED + peers.len() as u64));
                graph
            }
        };
        peers.push((spec.name.clone(), graph));
    }
    Ok(peers)
}

fn stage_config(stage: &Stage, data: &DataSpec, config: &Config, epochs: usize) -> Config {
    Config {
        terms: stage.terms.clone(),
        data: data.clone(),
        freeze: stage.freeze.clone(),
        until: stage.until.and_then(|u| u.accuracy),
        patience: stage.until.and_then(|u| u.plateau).or(config.patience),
        lr: config.lr * stage.lr,
        epochs,
        ..config.clone()
    }
}

/// An event as one of the whole run.
fn shifted(event: Event, steps: usize, total: usize, epochs: usize) -> Event {
    match event {
        Event::Step(step) => Event::Step(super::Step { done: step.done + steps, total, ..step }),
        Event::Epoch(epoch) => Event::Epoch(Epoch { epoch: epoch.epoch + epochs, ..epoch }),
        Event::Anew { checkpoint } => Event::Anew { checkpoint },
        Event::Stopped { after, without_gain } => Event::Stopped { after: after + epochs, without_gain },
        Event::RolledBack { loss, step, to, lr } => Event::RolledBack { loss, step: step + steps, to: to + steps, lr },
    }
}

/// The runs so far and one more, as one.
fn joined(whole: Option<Trained>, part: Trained, epochs: usize) -> Trained {
    let Some(whole) = whole else { return part };
    let renumbered = part.history.into_iter().map(|e| Epoch { epoch: e.epoch + epochs, ..e });
    Trained {
        history: whole.history.into_iter().chain(renumbered).collect(),
        best: if part.best == 0 { 0 } else { part.best + epochs },
        steps: whole.steps + part.steps,
        ..part
    }
}

/// A share of the samples; which ones, the seed decides.
fn part(train: &[usize], share: f64, seed: u64) -> Vec<usize> {
    if share >= 1.0 {
        return train.to_vec();
    }
    let mut some = train.to_vec();
    some.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    some.truncate(((share * train.len() as f64).round() as usize).max(1));
    some.sort_unstable();
    some
}
