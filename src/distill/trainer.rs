//! The training loop.

use super::optimizer::Optimizer;
use super::{Checkpoint, Config, Error, Objective, StepValues};
use crate::data::{Dataset, Look, View};
use crate::exec::{Mode, Network};
use crate::graph::Graph;
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The teacher's logits, by sample and view.
pub trait TeacherLogits {
    /// Writes the logits of `sample` (an index into the training set's samples) seen as view `view` into `out`.
    fn read(&self, sample: usize, view: usize, out: &mut [f32]);
}

/// What a student is trained on.
pub struct TrainingSet<'a> {
    pub samples: &'a dyn Dataset,
    /// Indices of the samples to learn from.
    pub train: &'a [usize],
    /// Indices of the samples that choose the best epoch; where empty, the last epoch is taken.
    pub validation: &'a [usize],
    /// Not needed when no term reads the teacher.
    pub teacher: Option<&'a dyn TeacherLogits>,
}

/// What an epoch came to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    /// From 1.
    pub epoch: usize,
    /// Mean objective over the epoch's steps.
    #[serde(with = "as_text")]
    pub loss: f64,
    /// Share of the validation samples classified rightly; NaN where there are none.
    #[serde(with = "as_text")]
    pub accuracy: f64,
}

/// JSON has no NaN, and a decimal that is written and read back must be the same number.
mod as_text {
    pub fn serialize<S: serde::Serializer>(v: &f64, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&v.to_string())
    }
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Told to whoever watches.
#[derive(Clone, Copy, Debug)]
pub enum Event {
    /// A step is done: how many so far, of how many, and this one's loss.
    Step { done: usize, total: usize, loss: f32 },
    /// An epoch is done.
    Epoch(Epoch),
}

/// The result of training.
#[derive(Clone, Debug)]
pub struct Trained {
    /// With the parameters of the best epoch.
    pub graph: Graph,
    pub history: Vec<Epoch>,
    /// The epoch that was best, from 1.
    pub best: usize,
    pub steps: usize,
}

/// A checkpoint is written at the end of every epoch and, within long ones, after this many steps.
const STEPS_PER_CHECKPOINT: usize = 200;
/// Samples per forward pass when nothing is learned.
const EVALUATION_BATCH: usize = 256;

/// Trains `student`, going on from `checkpoint` where that file exists.
///
/// # Errors
/// When a setting cannot work, the loss leaves the numbers or the checkpoint cannot be written.
pub fn train(
    student: &Graph,
    set: &TrainingSet,
    config: &Config,
    device: &Device,
    checkpoint: &Path,
    on_event: &mut dyn FnMut(Event),
) -> Result<Trained, Error> {
    config.check()?;
    let objective = config.objective();
    let per_epoch = set.train.len() / config.batch_size;
    if per_epoch == 0 {
        let (have, want) = (set.train.len(), config.batch_size);
        return Err(Error::Config(format!(
            "{have} training samples do not fill one batch; lower --batch-size (now {want})"
        )));
    }
    if objective.reads().teacher_logits && set.teacher.is_none() {
        return Err(Error::Config(format!("'{}' learns from the teacher, and there is none", objective.describe())));
    }
    let steps = per_epoch * config.epochs;
    let mut run = Run::start(student, set, config, device, checkpoint)?;
    if run.done == 0 {
        // So that there is a good checkpoint even if the first steps fail.
        run.checkpoint().save(checkpoint)?;
    }
    while run.done < steps {
        let epoch = run.done / per_epoch;
        let order = epoch_order(set.train, config.seed, epoch);
        for batch in order.chunks_exact(config.batch_size).skip(run.done % per_epoch) {
            let progress = run.done as f64 / steps as f64;
            let loss = run.step(set, config, &objective, batch, epoch, progress)?;
            if !loss.is_finite() {
                let lr = config.lr;
                let (step, epoch) = (run.done, epoch + 1);
                return Err(Error::NonFinite { loss, step, steps, epoch, lr, checkpoint: checkpoint.into() });
            }
            run.done += 1;
            run.loss_sum += f64::from(loss);
            on_event(Event::Step { done: run.done, total: steps, loss });
            if run.done % per_epoch != 0 && (run.done % per_epoch).is_multiple_of(STEPS_PER_CHECKPOINT) {
                run.checkpoint().save(checkpoint)?;
            }
        }
        on_event(Event::Epoch(run.end_epoch(set, epoch + 1, per_epoch)?));
        run.checkpoint().save(checkpoint)?;
    }
    run.finish(steps)
}

/// Share of the samples that the network classifies rightly, plain looks, and its logits in order.
///
/// # Errors
/// When the network cannot be run.
pub fn evaluate(network: &Network, samples: &dyn Dataset, indices: &[usize]) -> Result<(f64, Vec<f32>), Error> {
    let mut all = Vec::new();
    let mut right = 0;
    for batch in indices.chunks(EVALUATION_BATCH) {
        let inputs = samples.batch(&Look::plain(batch.iter().copied()));
        let logits = network.forward(inputs, &[], Mode::Infer)?.outputs.remove(0).to_host()?;
        let values = logits.to_f32();
        let classes = values.len() / batch.len().max(1);
        let hit = |(row, &sample): (&[f32], &usize)| samples.label(sample) == Some(argmax(row) as u16);
        right += values.chunks(classes.max(1)).zip(batch).filter(|pair| hit(*pair)).count();
        all.extend_from_slice(&values);
    }
    let accuracy = if indices.is_empty() { f64::NAN } else { right as f64 / indices.len() as f64 };
    Ok((accuracy, all))
}

fn argmax(row: &[f32]) -> usize {
    row.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (i, &v)| if v > best.1 { (i, v) } else { best }).0
}

/// The order of the samples in an epoch: a function of seed and epoch alone.
fn epoch_order(train: &[usize], seed: u64, epoch: usize) -> Vec<usize> {
    let mut order = train.to_vec();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch as u64 + 1);
    order.shuffle(&mut rng);
    order
}

/// A run under way.
struct Run {
    network: Network,
    optimizer: Optimizer,
    device: Device,
    done: usize,
    loss_sum: f64,
    history: Vec<Epoch>,
    best: Vec<(String, Vec<f32>)>,
}

impl Run {
    fn start(student: &Graph, set: &TrainingSet, config: &Config, device: &Device, file: &Path) -> Result<Run, Error> {
        let tracked = device.clone().autodiff();
        let network = Network::new(student, &tracked)?;
        let params = network.params().len();
        let optimizer = Optimizer::new(config.optimizer, config.clip_norm, config.learning_rate(), params);
        let device = device.clone();
        let mut run = Run { network, optimizer, device, done: 0, loss_sum: 0.0, history: vec![], best: vec![] };
        if let Some(saved) = Checkpoint::load(file)? {
            let damaged = |what: String| Error::Checkpoint { path: file.into(), what };
            run.network.restore(&saved.network).map_err(|e| damaged(e.to_string()))?;
            run.optimizer.set_state(saved.optimizer_state(), &run.device);
            (run.done, run.loss_sum, run.history, run.best) = (saved.step, saved.loss_sum, saved.history, saved.best);
        }
        debug_assert!(set.train.iter().all(|&i| i < set.samples.len()));
        Ok(run)
    }

    /// One forward and backward pass and a move of the parameters; returns the loss. Nothing moves when it is not finite.
    fn step(
        &mut self,
        set: &TrainingSet,
        config: &Config,
        objective: &Objective,
        batch: &[usize],
        epoch: usize,
        progress: f64,
    ) -> Result<f32, Error> {
        let tracked = self.device.clone().autodiff();
        let view = epoch % config.views;
        let looks = Look::at(batch, View { seed: config.seed, number: view });
        let inputs = set.samples.batch(&looks);
        let mode = Mode::Train { momentum: config.norm_momentum };
        let logits = self.network.forward(inputs, &[], mode)?.outputs.remove(0).into_float()?.into_tensor::<2>()?;
        let [rows, classes] = logits.dims();
        let mut teacher_values = Vec::new();
        let teacher_logits = set.teacher.filter(|_| objective.reads().teacher_logits).map(|teacher| {
            teacher_values.resize(rows * classes, 0.0);
            for (row, &sample) in teacher_values.chunks_mut(classes).zip(batch) {
                teacher.read(sample, view, row);
            }
            Tensor::<2>::from_data(TensorData::new(teacher_values.clone(), [rows, classes]), &tracked)
        });
        // A sample that nobody labelled counts as what the teacher takes it for.
        let pseudo = |row: usize| teacher_values.get(row * classes..(row + 1) * classes).map_or(0, argmax) as u16;
        let label = |(row, &s): (usize, &usize)| i64::from(set.samples.label(s).unwrap_or_else(|| pseudo(row)));
        let labels: Vec<i64> = batch.iter().enumerate().map(label).collect();
        let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [rows]), &tracked);
        let lottery = batch.iter().map(|&s| lottery(config.seed, s)).collect();
        let loss = objective.loss(&StepValues { student_logits: logits, teacher_logits, labels, lottery }, progress);
        let value = loss.clone().inner().into_data().iter::<f32>().next().unwrap_or(f32::NAN);
        if value.is_finite() {
            let mut gradients = loss.backward();
            let norm = self.optimizer.step(&mut self.network, &mut gradients, progress);
            if !norm.is_finite() {
                return Ok(f32::NAN);
            }
        }
        Ok(value)
    }

    fn end_epoch(&mut self, set: &TrainingSet, epoch: usize, steps: usize) -> Result<Epoch, Error> {
        let loss = std::mem::take(&mut self.loss_sum) / steps as f64;
        let (accuracy, _) = evaluate(&self.network, set.samples, set.validation)?;
        let best = self.history.iter().map(|e| e.accuracy).fold(f64::NEG_INFINITY, f64::max);
        // The later of two equals: it has learned longer. Without validation samples every epoch is better than the last.
        if accuracy.is_nan() || accuracy >= best {
            self.best = self.network.snapshot();
        }
        let done = Epoch { epoch, loss, accuracy };
        self.history.push(done);
        Ok(done)
    }

    fn checkpoint(&self) -> Checkpoint {
        let state = self.optimizer.state();
        Checkpoint {
            step: self.done,
            network: self.network.snapshot(),
            best: self.best.clone(),
            moments: state.tensors,
            counters: state.counters,
            history: self.history.clone(),
            loss_sum: self.loss_sum,
        }
    }

    fn finish(mut self, steps: usize) -> Result<Trained, Error> {
        self.network.restore(&self.best)?;
        let better =
            |best: Option<&Epoch>, e: &Epoch| best.is_none_or(|b| e.accuracy.is_nan() || e.accuracy >= b.accuracy);
        let mut best = None;
        for epoch in &self.history {
            if better(best, epoch) {
                best = Some(epoch);
            }
        }
        let best = best.map_or(0, |e| e.epoch);
        Ok(Trained { graph: self.network.to_graph(), history: self.history, best, steps })
    }
}

/// A number in 0..1 that belongs to a sample: SplitMix64 of seed and index (Steele et al. 2014).
fn lottery(seed: u64, sample: usize) -> f32 {
    let mut z = seed ^ (sample as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
}
