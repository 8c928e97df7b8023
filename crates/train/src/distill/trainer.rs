//! The training loop.

use super::feed::{Batch, Next, ahead};
use super::history::Event;
use super::run::{Learned, Run, set_up};
use super::teachers::Source;
use super::{Config, Epoch, Error, mixing};
use crate::data::{Answers, Dataset, Look, Score, View};
use burn::tensor::Device;
use kdc_exec::{Mode, Network, in_pool};
use kdc_ir::graph::Graph;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::path::Path;

/// Kept answers of a teacher, by sample and view.
pub trait TeacherLogits: Sync {
    /// Logits in a row.
    fn classes(&self) -> usize;

    /// Numbers of an answer: the logits of all positions.
    fn width(&self) -> usize {
        self.classes()
    }

    /// Writes the logits of `sample` (an index into the training set's samples) seen as view `view` into `out`.
    fn read(&self, sample: usize, view: usize, out: &mut [f32]);
}

/// What a run begins with.
pub struct Beginning<'a> {
    pub student: &'a Graph,
    /// What terms of an earlier run trained beside it, by name; what this run's terms have of that goes on from there.
    pub others: &'a [(String, Vec<f32>)],
    /// An epoch whose validation score is below this is not kept; where all are, [`Trained::best`] is 0 and the student is the
    /// one that it began with.
    pub floor: f64,
}

impl<'a> From<&'a Graph> for Beginning<'a> {
    fn from(student: &'a Graph) -> Beginning<'a> {
        Beginning { student, others: &[], floor: f64::NEG_INFINITY }
    }
}

/// What a student is trained on.
#[derive(Clone)]
pub struct TrainingSet<'a> {
    pub samples: &'a dyn Dataset,
    /// Indices of the samples to learn from.
    pub train: &'a [usize],
    /// Indices of the samples that choose the best epoch: the last that is not worse than another by more than their
    /// standard error. Where empty, the last epoch is taken.
    pub validation: &'a [usize],
    /// Whom terms may learn from; the first is meant where a term names none.
    pub teachers: Vec<Source<'a>>,
    /// What answers stand for.
    pub answers: &'a Answers,
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
    beginning: &Beginning,
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
    let mut run = Run::start(beginning, set, config, device, checkpoint)?;
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
        let number = if *set.answers == Answers::Tokens { epoch } else { epoch % config.views };
        let view = View { seed: config.seed, number };
        let asked = run.asked();
        let left = order[..per_epoch * per_step].chunks(config.batch_size);
        let left = left.skip(run.done % per_epoch * config.accumulate);
        let make = |samples: &[usize]| Batch::new(set, samples, view, &asked, &config.data);
        let mut lost = None;
        ahead(left, make, |batch| {
            match in_pool(|| run.learn(&batch, config, steps))? {
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
        let ended = run.end_epoch(set, epoch + 1)?;
        let reached = config.until.is_some_and(|wanted| ended.accuracy >= wanted);
        on_event(Event::Epoch(ended));
        run.save()?;
        if reached {
            break;
        }
    }
    let trained = run.finish(set)?;
    Ok(if trained.best == 0 { Trained { graph: beginning.student.clone(), ..trained } } else { trained })
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
    if *set.answers == Answers::Tokens {
        // Every look has its labels: the tokens that it hides.
        return Ok(());
    }
    if *set.answers == Answers::Input {
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

/// How good a network is, and its answers in order, to plain looks: see [`Score::share`]; NaN where nothing says. Answers of
/// tokens are not given back: they are too many.
///
/// # Errors
/// When the network cannot be run.
pub fn evaluate(
    network: &Network,
    samples: &dyn Dataset,
    indices: &[usize],
    answers: &Answers,
) -> Result<(f64, Vec<f32>), Error> {
    let (mut all, mut score) = (Vec::new(), Score::new(answers));
    let make = |batch: &[usize]| {
        let looks = Look::plain(batch.iter().copied());
        (samples.batch(&looks), looks)
    };
    ahead(indices.chunks(score.batch()), make, |(inputs, looks)| {
        let outputs = in_pool(|| network.forward(inputs.clone(), &[], Mode::Infer))?.outputs;
        let output = outputs.into_iter().next().ok_or(Error::NoOutput)?;
        let output = output.to_host()?;
        let values = output.to_f32();
        score.add(samples, &looks, &inputs, &values);
        if *answers != Answers::Tokens {
            all.extend_from_slice(&values);
        }
        Ok::<_, Error>(Next::Go)
    })?;
    Ok((score.share().unwrap_or(f64::NAN), all))
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
