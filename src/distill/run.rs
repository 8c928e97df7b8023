//! A run under way: the network, what moves it, and what has to be remembered between two steps.

use super::feed::Batch;
use super::history::{Event, Hits, Step, Tally};
use super::objective::Part;
use super::optimizer::Optimizer;
use super::trainer::{Trained, TrainingSet, argmax, evaluate};
use super::{Checkpoint, ClassWeights, Config, Epoch, Error, Objective, StepValues};
use crate::exec::{Mode, Network};
use crate::graph::{Graph, elements};
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::path::{Path, PathBuf};

/// What became of a batch.
pub enum Learned {
    /// It is part of a step.
    Batch,
    /// The parameters moved.
    Step(Step),
    /// The loss, or a gradient, is no number. Nothing moved.
    Lost(f32),
}

/// Parameters and running statistics by name.
type Snapshot = Vec<(String, Vec<f32>)>;

pub struct Run {
    network: Network,
    optimizer: Optimizer,
    device: Device,
    file: PathBuf,
    /// Steps done.
    pub done: usize,
    pub history: Vec<Epoch>,
    tally: Tally,
    best: Snapshot,
    rollbacks: u32,
    /// By parameter, where one is kept.
    average: Vec<Tensor<1>>,
    /// By class; empty where all samples count alike.
    class_weights: Vec<f32>,
    classes: usize,
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
        student: &Graph,
        set: &TrainingSet,
        config: &Config,
        device: &Device,
        file: &Path,
    ) -> Result<Run, Error> {
        let network = Network::new(student, &device.clone().autodiff())?;
        let optimizer = Optimizer::new(config.optimizer, config.clip_norm, network.params().len());
        let classes = student.outputs.first().map_or(0, |&id| elements(&student.value(id).shape));
        let average = match config.ema > 0.0 {
            true => network.params().iter().map(|p| p.tensor.clone().inner()).collect(),
            false => vec![],
        };
        let class_weights = match config.class_weights {
            ClassWeights::Even => vec![],
            ClassWeights::Balanced => balanced(set, classes),
        };
        let mut run = Run {
            network,
            optimizer,
            device: device.clone(),
            file: file.into(),
            done: 0,
            history: vec![],
            tally: Tally::default(),
            best: vec![],
            rollbacks: 0,
            average,
            class_weights,
            classes,
            pending: Pending::default(),
        };
        match Checkpoint::load(file)? {
            Some(saved) => run.take(saved)?,
            None => run.save()?,
        }
        Ok(run)
    }

    /// What the student tells apart.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// A forward and a backward pass; with the last batch of a step the parameters move.
    pub fn learn(
        &mut self,
        batch: &Batch,
        config: &Config,
        objective: &Objective,
        steps: usize,
    ) -> Result<Learned, Error> {
        let progress = self.done as f64 / steps as f64;
        let mode = Mode::Train { momentum: config.norm_momentum };
        let outputs = self.network.forward(batch.inputs.clone(), &[], mode)?.outputs;
        let logits = outputs.into_iter().next().ok_or_else(|| Error::Config("the student has no output".into()))?;
        let logits = logits.into_float()?.into_tensor::<2>()?;
        let hits = hits(&logits, batch);
        let parts = objective.parts(&self.values(logits, batch, config.seed), progress);
        let values = parts.iter().map(|(name, part)| Part { name: name.clone(), loss: number(part) });
        let values: Vec<Part> = values.collect();
        let loss = parts.into_iter().map(|(_, part)| part).reduce(|a, b| a + b);
        let loss = loss.ok_or_else(|| Error::Config("the objective is empty".into()))?;
        let value = number(&loss) as f32;
        if !value.is_finite() {
            self.pending = Pending::default();
            return Ok(Learned::Lost(value));
        }
        let mut gradients = loss.backward();
        let gradients = self.network.take_gradients(&mut gradients);
        self.pending.add(gradients, value, values, hits);
        if self.pending.batches < config.accumulate {
            return Ok(Learned::Batch);
        }
        let Pending { batches, gradients, loss, parts, hits } = std::mem::take(&mut self.pending);
        let share = 1.0 / batches as f64;
        let mean = |g: Tensor<1>| if batches == 1 { g } else { g.mul_scalar(share) };
        let lr = config.learning_rate().at(progress) * self.factor();
        let norm = self.optimizer.step(&mut self.network, gradients.into_iter().map(|g| g.map(mean)).collect(), lr);
        if !norm.is_finite() {
            return Ok(Learned::Lost(f32::NAN));
        }
        self.move_average(config.ema);
        let parts: Vec<Part> = parts.into_iter().map(|p| Part { loss: p.loss * share, ..p }).collect();
        let loss = (loss * share) as f32;
        self.tally.add(loss, &parts, &hits, lr);
        self.done += 1;
        let train_accuracy = self.tally.accuracy();
        Ok(Learned::Step(Step { done: self.done, total: steps, loss, parts, train_accuracy, lr }))
    }

    /// What rollbacks have left of the learning rate.
    fn factor(&self) -> f64 {
        0.5f64.powi(self.rollbacks as i32)
    }

    fn values(&self, student_logits: Tensor<2>, batch: &Batch, seed: u64) -> StepValues {
        let tracked = self.device.clone().autodiff();
        let shape = student_logits.dims();
        let row = |values: Vec<f32>| Tensor::<1>::from_data(TensorData::new(values, [shape[0]]), &tracked);
        let teacher = (!batch.teacher.is_empty()).then(|| TensorData::new(batch.teacher.clone(), shape));
        let weights = (!self.class_weights.is_empty())
            .then(|| row(batch.classes.iter().map(|&c| self.class_weights[usize::from(c)]).collect()));
        let labels: Vec<i64> = batch.classes.iter().map(|&c| i64::from(c)).collect();
        StepValues {
            student_logits,
            teacher_logits: teacher.map(|data| Tensor::from_data(data, &tracked)),
            labels: Tensor::<1, Int>::from_data(TensorData::new(labels, [shape[0]]), &tracked),
            weights,
            lottery: batch.samples.iter().map(|&s| lottery(seed, s)).collect(),
        }
    }

    /// `average = d · average + (1 − d) · parameter`, with a decay that starts lower: the first averages would be of the
    /// random start.
    fn move_average(&mut self, decay: f64) {
        let decay = decay.min((1.0 + self.done as f64) / (10.0 + self.done as f64));
        for (average, param) in self.average.iter_mut().zip(self.network.params()) {
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
        let gone = || Error::Checkpoint { path: self.file.clone(), what: "it was removed during the run".into() };
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
            evaluate(&self.network, set.samples, set.validation)?.0
        } else {
            let running = self.network.snapshot();
            self.network.restore(&kept)?;
            let (accuracy, _) = evaluate(&self.network, set.samples, set.validation)?;
            self.network.restore(&running)?;
            accuracy
        };
        let best = self.history.iter().map(|e| e.accuracy).fold(f64::NEG_INFINITY, f64::max);
        // The later of two equals: it has learned longer. Without validation samples every epoch is better than the last.
        if accuracy.is_nan() || accuracy >= best {
            self.best = kept;
        }
        let done = std::mem::take(&mut self.tally).epoch(epoch, accuracy);
        self.history.push(done.clone());
        Ok(done)
    }

    /// The network as it would be kept: with averages in place of parameters, where there are some.
    fn kept(&self) -> Snapshot {
        let mut kept = self.network.snapshot();
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
        let names = self.network.params().iter().map(|p| p.name.clone());
        let checkpoint = Checkpoint {
            step: self.done,
            network: self.network.snapshot(),
            best: self.best.clone(),
            moments: state.tensors,
            counters: state.counters,
            history: self.history.clone(),
            tally: self.tally.clone(),
            average: names.zip(self.average.iter().map(numbers)).collect(),
            rollbacks: self.rollbacks,
        };
        checkpoint.save(&self.file)
    }

    fn take(&mut self, saved: Checkpoint) -> Result<(), Error> {
        let damaged = |what: String| Error::Checkpoint { path: self.file.clone(), what };
        self.network.restore(&saved.network).map_err(|e| damaged(e.to_string()))?;
        for (average, param) in self.average.iter_mut().zip(self.network.params()) {
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
    pub fn finish(mut self) -> Result<Trained, Error> {
        self.network.restore(&self.best)?;
        let mut best: Option<&Epoch> = None;
        for epoch in &self.history {
            if best.is_none_or(|b| epoch.accuracy.is_nan() || epoch.accuracy >= b.accuracy) {
                best = Some(epoch);
            }
        }
        let best = best.map_or(0, |e| e.epoch);
        Ok(Trained { graph: self.network.to_graph(), history: self.history, best, steps: self.done })
    }
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

/// What the student made of a batch.
fn hits(logits: &Tensor<2>, batch: &Batch) -> Hits {
    let [_, classes] = logits.dims();
    let values: Vec<f32> = logits.clone().inner().into_data().iter::<f32>().collect();
    let mut hits = Hits::default();
    for (row, logits) in values.chunks(classes.max(1)).enumerate() {
        let class = argmax(logits);
        hits.samples += 1;
        hits.labelled += u64::from(batch.labelled[row]);
        hits.right += u64::from(batch.labelled[row] && usize::from(batch.classes[row]) == class);
        if let Some(teacher) = batch.teacher.chunks(classes.max(1)).nth(row) {
            hits.asked += 1;
            hits.agreed += u64::from(argmax(teacher) == class);
        }
    }
    hits
}

fn numbers(tensor: &Tensor<1>) -> Vec<f32> {
    tensor.clone().into_data().iter::<f32>().collect()
}

fn number(loss: &Tensor<1>) -> f64 {
    loss.clone().inner().into_data().iter::<f64>().next().unwrap_or(f64::NAN)
}

/// A number in 0..1 that belongs to a sample: SplitMix64 of seed and index (Steele et al. 2014).
fn lottery(seed: u64, sample: usize) -> f32 {
    let mut z = seed ^ (sample as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
}
