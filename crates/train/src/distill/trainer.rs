//! The training loop.

use super::feed::{Batch, Next, ahead};
use super::history::Event;
use super::run::{InitialState, Run, StepOutcome, Trained, set_up};
use super::{Config, Error, TrainingSet, mixing};
use crate::data::{Task, View};
use burn::tensor::Device;
use kdc_exec::in_pool;
use kdc_ir::graph::Graph;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::path::Path;

/// A checkpoint is written at the end of every epoch and, within long ones, after this many steps.
const STEPS_PER_CHECKPOINT: usize = 200;

/// Trains a student, going on from `checkpoint` where that file exists and is sound.
///
/// When the loss or a gradient leaves the numbers, training goes on from the last checkpoint with half the learning
/// rate, a few times ([`Run::MOST_ROLLBACKS`]).
///
/// # Errors
/// When a setting cannot work, the numbers are lost once too often or the checkpoint cannot be written.
pub fn train(
    initial: &InitialState,
    set: &TrainingSet,
    config: &Config,
    device: &Device,
    checkpoint: &Path,
    on_event: &mut dyn FnMut(Event),
) -> Result<Trained, Error> {
    config.check()?;
    check(set, config)?;
    let per_step = config.batch_size * config.accumulate;
    let per_epoch = set.train.len() / per_step;
    let steps = per_epoch * config.epochs;
    let mut run = Run::start(initial, set, config, device, checkpoint)?;
    if run.is_anew {
        on_event(Event::Anew { checkpoint: checkpoint.into() });
    }
    while run.done < steps {
        if let Some(without_gain) = run.epochs_without_gain().filter(|&n| Some(n) == config.patience) {
            on_event(Event::Stopped { after: run.history.len(), without_gain });
            break;
        }
        let epoch = run.done / per_epoch;
        let order = epoch_order(set, config, epoch);
        // What language models do not see is anew in every epoch: nobody keeps their teachers' answers.
        let number = if *set.answers == Task::MaskedLm { epoch } else { epoch % config.views };
        let view = View { seed: config.seed, number };
        let asked = run.asked();
        let left = order[..per_epoch * per_step].chunks(config.batch_size);
        let left = left.skip(run.done % per_epoch * config.accumulate);
        let make = |samples: &[usize]| Batch::new(set, samples, view, &asked, &config.data);
        let mut lost = None;
        ahead(left, make, |batch| {
            match in_pool(|| run.learn(&batch, config, steps))? {
                StepOutcome::Accumulated => return Ok(Next::Go),
                StepOutcome::NonFinite(loss) => {
                    lost = Some(loss);
                    return Ok(Next::Stop);
                }
                StepOutcome::Updated(step) => on_event(Event::Step(step)),
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
        let ended = run.end_epoch(set, epoch + 1)?;
        let reached = config.until.is_some_and(|wanted| ended.accuracy >= wanted);
        on_event(Event::Epoch(ended));
        run.save()?;
        if reached {
            break;
        }
    }
    let trained = run.finish(set)?;
    Ok(if trained.best == 0 { Trained { graph: initial.student.clone(), ..trained } } else { trained })
}

/// Whether a student can be trained so: that the objective's terms find what they compare in it and in its teachers.
///
/// # Errors
/// Why not.
pub fn applies(student: &Graph, set: &TrainingSet, config: &Config, device: &Device) -> Result<(), Error> {
    config.check()?;
    check(set, config)?;
    set_up(student, set, config, device).map(drop)
}

/// Refuses what could only fail later.
fn check(set: &TrainingSet, config: &Config) -> Result<(), Error> {
    let (have, want) = (set.train.len(), config.batch_size * config.accumulate);
    if have < want {
        return Err(Error::Config(format!(
            "{have} training samples do not fill one step; lower --batch-size (now {}) or --accumulate (now {})",
            config.batch_size, config.accumulate
        )));
    }
    mixing::check(&config.data, set.samples.inputs())?;
    let objective = config.objective()?;
    let (labels, teacher) = objective.learns_from();
    if *set.answers == Task::MaskedLm {
        // Every look has its labels: the tokens that it hides.
        return Ok(());
    }
    if *set.answers == Task::Reconstruction {
        return match config.terms.iter().find(|spec| spec.term().is_ok_and(|t| t.reads().labels)) {
            Some(spec) => {
                let why = "learns classes, and these samples have none (answers = \"input\" in the sidecar); 'regression' \
                           learns numbers";
                Err(Error::inapplicable(&spec.method, why))
            }
            None => Ok(()),
        };
    }
    match set.train.iter().find(|&&sample| set.samples.label(sample).is_none()) {
        Some(sample) if labels && !teacher && config.data.labelled_share != Some(1.0) => {
            let why = format!(
                "learns from labels alone, and sample {sample} has no label; distill instead, or see labelled samples alone: \
                 labelled-share = 1.0 in the recipe's [data]"
            );
            Err(Error::inapplicable(&objective.describe(), why))
        }
        _ => Ok(()),
    }
}

/// The order of the samples in an epoch: a function of seed and epoch alone. Where every batch is to have a share of
/// samples with labels, each kind is shuffled, and comes round and round until the epoch is full.
fn epoch_order(set: &TrainingSet, config: &Config, epoch: usize) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    rng.set_stream(epoch as u64 + 1);
    let mut order = set.train.to_vec();
    order.shuffle(&mut rng);
    let Some(share) = config.data.labelled_share else { return order };
    let (with, without): (Vec<usize>, Vec<usize>) =
        order.iter().partition(|&&sample| set.samples.label(sample).is_some());
    if with.is_empty() || without.is_empty() {
        return order;
    }
    let labelled = (share * config.batch_size as f64).round() as usize;
    let (mut with, mut without) = (with.iter().cycle(), without.iter().cycle());
    let next = |i: usize| if i % config.batch_size < labelled { with.next() } else { without.next() };
    (0..order.len()).filter_map(next).copied().collect()
}
