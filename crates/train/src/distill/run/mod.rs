//! A run under way: the network, what moves it, and what has to be remembered between two steps.

mod values;

use super::evaluate::evaluate;
use super::feed::Batch;
use super::forward;
use super::history::{Event, Hits, Part, Step, Tally, chosen};
use super::optimizer::Optimizer;
use super::teachers::LiveTeacher;
use super::term_inputs::TermInputs;
use super::terms::Route;
use super::trainables::{Snapshot, Trainables};
use super::{AuxParams, Checkpoint, ClassWeights, Config, Epoch, Error, Objective, TrainingSet};
use crate::data::{Reading, Task};
use burn::tensor::{Device, Tensor, TensorData};
use kdc_exec::{Mode, Network};
use kdc_ir::graph::Graph;
use std::path::{Path, PathBuf};
use values::hits;

/// What a run begins with.
pub struct InitialState<'a> {
    pub student: &'a Graph,
    /// What terms of an earlier run trained beside it, by name; what this run's terms have of that goes on from there.
    pub others: &'a [(String, Vec<f32>)],
    /// An epoch whose validation score is below this is not kept; where all are, [`Trained::best`] is 0 and the student is the
    /// one that it began with.
    pub floor: f64,
}

impl<'a> From<&'a Graph> for InitialState<'a> {
    fn from(student: &'a Graph) -> InitialState<'a> {
        InitialState { student, others: &[], floor: f64::NEG_INFINITY }
    }
}

/// The result of training.
#[derive(Clone, Debug)]
pub struct Trained {
    /// With the parameters of the best epoch.
    pub graph: Graph,
    pub history: Vec<Epoch>,
    /// The epoch that was best, from 1; 0: none was as good as what training began with, which is kept.
    pub best: usize,
    pub steps: usize,
    /// Peers, and what the terms trained and kept, by name: a stage that follows may go on from there.
    pub others: Vec<(String, Vec<f32>)>,
}

/// What became of a batch.
pub enum StepOutcome {
    /// It is part of a step whose other batches are still to come.
    Accumulated,
    /// The parameters moved.
    Updated(Step),
    /// The loss, or a gradient, is not finite. Nothing moved.
    NonFinite(f32),
}

/// A training run between two batches.
pub struct Run {
    trainables: Trainables,
    objective: Objective,
    term_inputs: TermInputs,
    /// Teachers that run at every step and do not learn, by source.
    live_teachers: Vec<Option<LiveTeacher>>,
    /// By source, whether it is a peer that a term teaches. One that only answers is run without a record for gradients,
    /// which nobody would come back for.
    taught: Vec<bool>,
    /// By source, networks that gradients go through and that do not change.
    relays: Vec<Option<Network>>,
    optimizer: Optimizer,
    device: Device,
    file: PathBuf,
    /// Whether there was a checkpoint that is damaged, so that this run begins from the front.
    pub is_anew: bool,
    /// Steps done.
    pub done: usize,
    pub history: Vec<Epoch>,
    tally: Tally,
    best: Snapshot,
    /// See [`InitialState::floor`].
    floor: f64,
    rollbacks: u32,
    /// By parameter, where one is kept.
    average: Vec<Tensor<1>>,
    /// By class; empty where all samples count alike.
    class_weights: Vec<f32>,
    classes: usize,
    /// What answers stand for.
    answers: Task,
    pending: Pending,
}

/// A step whose batches are not all there.
#[derive(Default)]
struct Pending {
    batches: usize,
    gradients: Vec<Option<Tensor<1>>>,
    loss: f64,
    parts: Vec<Part>,
    hits: Hits,
}

impl Run {
    /// How often numbers may be lost.
    pub const MOST_ROLLBACKS: u32 = 3;

    /// A fresh run, or the one that the file keeps. A fresh one is saved, so that there is always something to go back
    /// to.
    pub fn start(
        initial: &InitialState,
        set: &TrainingSet,
        config: &Config,
        device: &Device,
        file: &Path,
    ) -> Result<Run, Error> {
        let (student, tracked) = (initial.student, device.clone().autodiff());
        let (objective, term_inputs, aux) = set_up(student, set, config, device)?;
        let mut trainables = Trainables { student: Network::new(student, &tracked)?, peers: vec![], aux };
        let mut live_teachers = vec![];
        for (index, source) in set.teachers.iter().enumerate() {
            let (peer, other) = match LiveTeacher::by(source, term_inputs.reads_of(index), config.data.mixes(), device)?
            {
                Some(LiveTeacher::Here(network)) if source.is_peer => (Some((source.name.clone(), *network)), None),
                other => (None, other),
            };
            trainables.peers.push(peer);
            live_teachers.push(other);
        }
        trainables.adopt(initial.others);
        let mut relays: Vec<Option<Network>> = set.teachers.iter().map(|_| None).collect();
        for (index, term) in objective.terms().enumerate() {
            let (_, source) = term_inputs.places(index);
            let graph = set.teachers.get(source).and_then(|s| s.graph);
            if let (Route::Relay { .. }, Some(graph)) = (term.route(0.0), graph) {
                relays[source] = Some(Network::new(graph, &tracked)?.untrained());
            }
        }
        let mut taught = vec![false; set.teachers.len()];
        for (index, term) in objective.terms().enumerate().filter(|(_, term)| term.wants_peer()) {
            let source = term_inputs.places(index).1;
            if !set.teachers[source].is_peer {
                let (term, name) = (term.name(), &set.teachers[source].name);
                let what = "does not learn along; name a [[teacher]] of kind = \"peer\" or \"tuned\"";
                return Err(Error::Config(format!("'{term}' teaches whom it learns from, and '{name}' {what}")));
            }
            taught[source] = true;
        }
        let optimizer = Optimizer::new(config.optimizer, config.clip_norm, trainables.count());
        let classes = forward::classes(student);
        let average = match config.ema > 0.0 {
            true => trainables.student.params().iter().map(|p| p.tensor.clone().inner()).collect(),
            false => vec![],
        };
        let class_weights = match config.class_weights {
            ClassWeights::Even => vec![],
            ClassWeights::Balanced => balanced(set, classes),
        };
        let mut run = Run {
            trainables,
            objective,
            term_inputs,
            live_teachers,
            taught,
            relays,
            optimizer,
            device: device.clone(),
            file: file.into(),
            is_anew: false,
            done: 0,
            history: vec![],
            tally: Tally::default(),
            best: vec![],
            floor: initial.floor,
            rollbacks: 0,
            average,
            class_weights,
            classes,
            answers: set.answers.clone(),
            pending: Pending::default(),
        };
        let was_there = file.exists();
        match Checkpoint::load(file)? {
            Some(saved) => run.take(saved)?,
            None => {
                run.is_anew = was_there;
                run.save()?;
            }
        }
        Ok(run)
    }

    /// By source, whether its kept answers are read.
    pub fn asked(&self) -> Vec<bool> {
        (0..self.live_teachers.len()).map(|index| self.term_inputs.reads_of(index).0).collect()
    }

    /// A forward and a backward pass; with the last batch of a step the parameters move.
    pub fn learn(&mut self, batch: &Batch, config: &Config, steps: usize) -> Result<StepOutcome, Error> {
        let progress = self.done as f64 / steps as f64;
        // Running statistics of a student that is frozen stay as they are.
        let frozen = config.freeze.iter().any(|f| f == "student");
        let mode = Mode::Train { momentum: if frozen { 1.0 } else { config.norm_momentum } };
        let said = self.said(batch, mode)?;
        let given = self.mixed(batch, &said, mode, progress)?;
        let taps = self.term_inputs.student_taps();
        let student = forward::ask(&self.trainables.student, batch.inputs.clone(), &given, taps, mode)?;
        let logits = student.logits.ok_or(Error::NoOutput)?;
        let first = said.first().and_then(|s| s.logits.clone());
        let hits = hits(&logits, batch, first, &self.answers);
        let (mut values, teaches) = self.values(logits, &student.taps, &said, batch, config.seed, progress);
        self.reroute(batch, mode, &mut values)?;
        let mut parts = self.objective.parts(&values, &mut self.trainables.aux);
        parts.extend(teaches.into_iter().map(|loss| ("teacher weights".to_string(), loss)));
        let values = parts.iter().map(|(name, part)| Part { name: name.clone(), loss: number(part) });
        let values: Vec<Part> = values.collect();
        let loss = parts.into_iter().map(|(_, part)| part).reduce(|a, b| a + b);
        let loss = loss.ok_or_else(|| Error::Config("the objective is empty".into()))?;
        let value = number(&loss) as f32;
        if !value.is_finite() {
            self.pending = Pending::default();
            return Ok(StepOutcome::NonFinite(value));
        }
        let mut gradients = loss.backward();
        let gradients = self.trainables.take_gradients(&mut gradients, &config.freeze);
        self.pending.add(gradients, value, values, hits);
        if self.pending.batches < config.accumulate {
            return Ok(StepOutcome::Accumulated);
        }
        let Pending { batches, gradients, loss, parts, hits } = std::mem::take(&mut self.pending);
        let share = 1.0 / batches as f64;
        let mean = |g: Tensor<1>| if batches == 1 { g } else { g.mul_scalar(share) };
        let lr = config.learning_rate().at(progress) * self.factor();
        let gradients = gradients.into_iter().map(|g| g.map(mean)).collect();
        let norm = self.optimizer.step(&mut self.trainables, gradients, lr);
        if !norm.is_finite() {
            return Ok(StepOutcome::NonFinite(f32::NAN));
        }
        self.move_average(config.ema);
        let parts: Vec<Part> = parts.into_iter().map(|p| Part { loss: p.loss * share, ..p }).collect();
        let loss = (loss * share) as f32;
        self.tally.add(loss, &parts, &hits, lr);
        self.done += 1;
        let train_accuracy = self.tally.accuracy();
        Ok(StepOutcome::Updated(Step { done: self.done, total: steps, loss, parts, train_accuracy, lr }))
    }

    /// What rollbacks have left of the learning rate.
    fn factor(&self) -> f64 {
        0.5f64.powi(self.rollbacks as i32)
    }

    /// `average = d · average + (1 − d) · parameter`, with a decay that starts lower: the first averages would be of the
    /// random start.
    fn move_average(&mut self, decay: f64) {
        let decay = decay.min((1.0 + self.done as f64) / (10.0 + self.done as f64));
        for (average, param) in self.average.iter_mut().zip(self.trainables.student.params()) {
            let param = param.tensor.clone().inner();
            *average = average.clone().mul_scalar(decay) + param.mul_scalar(1.0 - decay);
        }
    }

    /// Goes back to the last checkpoint, with half the learning rate.
    pub fn roll_back(&mut self, loss: f32, config: &Config, steps: usize) -> Result<Event, Error> {
        let (step, rollbacks) = (self.done, self.rollbacks + 1);
        if rollbacks > Run::MOST_ROLLBACKS {
            let (epoch, lr, checkpoint) = (self.history.len() + 1, config.lr * self.factor(), self.file.clone());
            return Err(Error::NonFinite { loss, step, steps, epoch, lr, checkpoint });
        }
        let gone =
            || Error::Checkpoint { path: self.file.clone(), what: "it was removed or damaged during the run".into() };
        let saved = Checkpoint::load(&self.file)?.ok_or_else(gone)?;
        self.take(saved)?;
        self.rollbacks = rollbacks;
        self.save()?;
        Ok(Event::RolledBack { loss, step, to: self.done, lr: config.lr * self.factor() })
    }

    /// Validates, and remembers the parameters if they are the best so far.
    pub fn end_epoch(&mut self, set: &TrainingSet, epoch: usize) -> Result<Epoch, Error> {
        let kept = self.kept();
        let accuracy = if self.average.is_empty() {
            evaluate(&self.trainables.student, set.samples, set.validation, set.answers)?.0
        } else {
            let running = self.trainables.student.snapshot();
            self.trainables.student.restore(&kept)?;
            let (accuracy, _) = evaluate(&self.trainables.student, set.samples, set.validation, set.answers)?;
            self.trainables.student.restore(&running)?;
            accuracy
        };
        let done = std::mem::take(&mut self.tally).epoch(epoch, accuracy);
        self.history.push(done.clone());
        if chosen(&self.history, judges(set), self.floor) == Some(self.history.len() - 1) {
            self.best = kept;
        }
        Ok(done)
    }

    /// The network as it would be kept: with averages in place of parameters, where there are some.
    fn kept(&self) -> Snapshot {
        let mut kept = self.trainables.student.snapshot();
        for ((_, values), average) in kept.iter_mut().zip(&self.average) {
            *values = numbers(average);
        }
        kept
    }

    /// How many epochs at the end brought no better validation accuracy; `None` where nothing is validated.
    pub fn epochs_without_gain(&self) -> Option<usize> {
        let mut best = (0, f64::NEG_INFINITY);
        for (index, epoch) in self.history.iter().enumerate() {
            if epoch.accuracy.is_nan() {
                return None;
            }
            if epoch.accuracy > best.1 {
                best = (index, epoch.accuracy);
            }
        }
        Some(self.history.len().saturating_sub(best.0 + 1))
    }

    /// Writes the checkpoint.
    pub fn save(&self) -> Result<(), Error> {
        let state = self.optimizer.state();
        let names = self.trainables.student.params().iter().map(|p| p.name.clone());
        let checkpoint = Checkpoint {
            step: self.done,
            network: self.trainables.student.snapshot(),
            best: self.best.clone(),
            moments: state.tensors,
            counters: state.counters,
            history: self.history.clone(),
            tally: self.tally.clone(),
            average: names.zip(self.average.iter().map(numbers)).collect(),
            others: self.trainables.others(),
            rollbacks: self.rollbacks,
        };
        checkpoint.save(&self.file)
    }

    fn take(&mut self, saved: Checkpoint) -> Result<(), Error> {
        let damaged = |what: String| Error::Checkpoint { path: self.file.clone(), what };
        self.trainables.student.restore(&saved.network).map_err(|e| damaged(e.to_string()))?;
        self.trainables.restore_others(&saved.others).map_err(|e| damaged(e.to_string()))?;
        for (average, param) in self.average.iter_mut().zip(self.trainables.student.params()) {
            let values = saved.average.iter().find(|(name, _)| *name == param.name);
            let (_, values) = values.ok_or_else(|| damaged(format!("the average of '{}' is missing", param.name)))?;
            *average = Tensor::from_data(TensorData::new(values.clone(), [values.len()]), &self.device);
        }
        self.optimizer.set_state(saved.optimizer_state(), &self.device);
        (self.done, self.tally, self.history, self.best) = (saved.step, saved.tally, saved.history, saved.best);
        self.rollbacks = saved.rollbacks;
        self.pending = Pending::default();
        Ok(())
    }

    /// The result: the parameters of the best epoch.
    pub fn finish(mut self, set: &TrainingSet) -> Result<Trained, Error> {
        let best = chosen(&self.history, judges(set), self.floor).map_or(0, |index| self.history[index].epoch);
        if best > 0 {
            self.trainables.student.restore(&self.best)?;
        }
        let others = self.trainables.others();
        Ok(Trained { graph: self.trainables.student.to_graph(), history: self.history, best, steps: self.done, others })
    }
}

/// The objective of a run, what its terms compare, and what they train beside the student.
///
/// # Errors
/// When a term has nothing to compare in these networks, or a setting cannot work.
pub fn set_up(
    student: &Graph,
    set: &TrainingSet,
    config: &Config,
    device: &Device,
) -> Result<(Objective, TermInputs, AuxParams), Error> {
    let mut objective = config.objective()?;
    let mut aux = AuxParams::new(device, config.seed);
    let (term_inputs, mut plans) = TermInputs::new(student, set, &config.terms, &objective.reads(), &mut aux)?;
    let spells = set.answers.words().is_some_and(|sequence| sequence.reading == Reading::Ctc);
    let (numbers, hides) = (*set.answers == Task::Reconstruction, *set.answers == Task::MaskedLm);
    plans.iter_mut().for_each(|plan| (plan.spells, plan.numbers, plan.hides) = (spells, numbers, hides));
    objective.prepare(&plans, &mut aux)?;
    Ok((objective, term_inputs, aux))
}

/// How many samples' shares of right answers an epoch's score is; 0 where it is none.
fn judges(set: &TrainingSet) -> usize {
    if *set.answers == Task::Reconstruction { 0 } else { set.validation.len() }
}

impl Pending {
    fn add(&mut self, gradients: Vec<Option<Tensor<1>>>, loss: f32, parts: Vec<Part>, hits: Hits) {
        self.batches += 1;
        self.loss += f64::from(loss);
        if self.batches == 1 {
            (self.gradients, self.parts, self.hits) = (gradients, parts, hits);
            return;
        }
        for (sum, gradient) in self.gradients.iter_mut().zip(gradients) {
            *sum = match (sum.take(), gradient) {
                (Some(sum), Some(gradient)) => Some(sum + gradient),
                (one, other) => one.or(other),
            };
        }
        self.parts.iter_mut().zip(parts).for_each(|(sum, part)| sum.loss += part.loss);
        self.hits = self.hits.with(hits);
    }
}

/// `samples / (classes · samples of the class)`; a class without samples never asks.
pub(super) fn balanced(set: &TrainingSet, classes: usize) -> Vec<f32> {
    let mut counts = vec![0usize; classes];
    let labels = set.train.iter().filter_map(|&sample| set.samples.label(sample));
    labels.for_each(|label| counts[usize::from(label)] += 1);
    let (all, there) = (counts.iter().sum::<usize>() as f32, counts.iter().filter(|&&n| n > 0).count() as f32);
    counts.into_iter().map(|n| all / (there * n.max(1) as f32)).collect()
}

fn numbers(tensor: &Tensor<1>) -> Vec<f32> {
    tensor.clone().into_data().iter::<f32>().collect()
}

fn number(loss: &Tensor<1>) -> f64 {
    loss.clone().inner().into_data().iter::<f64>().next().unwrap_or(f64::NAN)
}
