//! The training loop.

use super::feed::{Batch, Next, ahead};
use super::history::Event;
use super::run::{Learned, Run};
use super::{Config, Epoch, Error, Objective};
use crate::data::{Dataset, Look, View};
use crate::exec::{Mode, Network, in_pool};
use crate::graph::Graph;
use burn::tensor::Device;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::path::Path;

/// The teacher's logits, by sample and view.
pub trait TeacherLogits: Sync {
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
/// When the loss or a gradient leaves the numbers, training goes on from the last checkpoint with half the learning
/// rate, a few times ([`Run::MOST_ROLLBACKS`]).
///
/// # Errors
/// When a setting cannot work, the numbers are lost once too often or the checkpoint cannot be written.
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
    check(set, config, &objective)?;
    let per_step = config.batch_size * config.accumulate;
    let per_epoch = set.train.len() / per_step;
    let steps = per_epoch * config.epochs;
    let mut run = Run::start(student, set, config, device, checkpoint)?;
    while run.done < steps {
        if let Some(without_gain) = run.epochs_without_gain().filter(|&n| Some(n) == config.patience) {
            on_event(Event::Stopped { after: run.history.len(), without_gain });
            break;
        }
        let epoch = run.done / per_epoch;
        let order = epoch_order(set.train, config.seed, epoch);
        let view = View { seed: config.seed, number: epoch % config.views };
        let classes = objective.reads().teacher_logits.then(|| run.classes());
        let left = order[..per_epoch * per_step].chunks(config.batch_size);
        let left = left.skip(run.done % per_epoch * config.accumulate);
        let make = |samples: &[usize]| Batch::new(set, samples, view, classes);
        let mut lost = None;
        ahead(left, make, |batch| {
            match in_pool(|| run.learn(&batch, config, &objective, steps))? {
                Learned::Batch => return Ok(Next::Go),
                Learned::Lost(loss) => {
                    lost = Some(loss);
                    return Ok(Next::Stop);
                }
                Learned::Step(step) => on_event(Event::Step(step)),
            }
            let within = run.done % per_epoch;
            if within != 0 && within.is_multiple_of(STEPS_PER_CHECKPOINT) {
                run.save()?;
            }
            Ok::<_, Error>(Next::Go)
        })?;
        if let Some(loss) = lost {
            on_event(run.roll_back(loss, config, steps)?);
            continue;
        }
        on_event(Event::Epoch(run.end_epoch(set, epoch + 1)?));
        run.save()?;
    }
    run.finish()
}

/// Refuses what could only fail later.
fn check(set: &TrainingSet, config: &Config, objective: &Objective) -> Result<(), Error> {
    let (have, want) = (set.train.len(), config.batch_size * config.accumulate);
    if have < want {
        return Err(Error::Config(format!(
            "{have} training samples do not fill one step; lower --batch-size (now {}) or --accumulate (now {})",
            config.batch_size, config.accumulate
        )));
    }
    let asks = objective.reads().teacher_logits;
    if asks && set.teacher.is_none() {
        return Err(Error::Config(format!("'{}' learns from the teacher, and there is none", objective.describe())));
    }
    match set.train.iter().find(|&&sample| set.samples.label(sample).is_none()) {
        Some(sample) if !asks => Err(Error::Config(format!(
            "sample {sample} has no label, and '{}' learns from labels alone; distill instead (--alpha above 0)",
            objective.describe()
        ))),
        _ => Ok(()),
    }
}

/// Share of the samples that the network classifies rightly, plain looks, and its logits in order.
///
/// # Errors
/// When the network cannot be run.
pub fn evaluate(network: &Network, samples: &dyn Dataset, indices: &[usize]) -> Result<(f64, Vec<f32>), Error> {
    let mut all = Vec::new();
    let (mut right, mut labelled) = (0usize, 0usize);
    let make = |batch: &[usize]| (samples.batch(&Look::plain(batch.iter().copied())), batch.to_vec());
    ahead(indices.chunks(EVALUATION_BATCH), make, |(inputs, batch)| {
        let outputs = in_pool(|| network.forward(inputs, &[], Mode::Infer))?.outputs;
        let logits = outputs.into_iter().next().ok_or_else(|| Error::Config("the network has no output".into()))?;
        let logits = logits.to_host()?;
        let values = logits.to_f32();
        let classes = values.len() / batch.len().max(1);
        for (row, &sample) in values.chunks(classes.max(1)).zip(&batch) {
            if let Some(label) = samples.label(sample) {
                labelled += 1;
                right += usize::from(label == argmax(row) as u16);
            }
        }
        all.extend_from_slice(&values);
        Ok::<_, Error>(Next::Go)
    })?;
    let accuracy = if labelled == 0 { f64::NAN } else { right as f64 / labelled as f64 };
    Ok((accuracy, all))
}

/// The index of the largest number, the first of equals.
pub fn argmax(row: &[f32]) -> usize {
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
