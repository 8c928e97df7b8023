//! Which candidate learns best: successive halving (Jamieson and Talwalkar 2016, <https://arxiv.org/abs/1502.07943>).
//!
//! All candidates are distilled for a short while on the same samples; the better half goes on for twice as long, from
//! where it stands. How long is a share of the training that follows, so that a search never costs more than that; no
//! clock is read.

use super::super::labelling::TeacherLabels;
use super::super::training;
use super::super::{Error, Job, Progress};
use super::variants::{Candidate, CandidateBuilder, row};
use super::{Derived, Start};
use crate::distill;
use crate::exec::Network;
use crate::graph::Graph;
use crate::pipeline::prepared::Prepared;
use crate::report::{CandidateRow, Outcome};
use crate::student::{self, Measured, Spec};
use crate::{data, files};
use burn::tensor::Device;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::path::Path;

/// The share of the training that a search may cost, in samples seen.
const SHARE: f64 = 1.0 / 6.0;
/// Steps below which nothing is learned that tells candidates apart.
const FEWEST_STEPS: usize = 16;
/// Samples that judge.
const JUDGES: usize = 1000;

struct Contender {
    candidate: Candidate,
    /// As far as it is trained.
    graph: Graph,
    accuracies: Vec<f64>,
    outcome: Option<Outcome>,
}

/// What short trainings are made of.
pub struct Proxies {
    /// Training samples, shuffled.
    pub order: Vec<usize>,
    /// Those that judge, which are not among them.
    pub judges: Vec<usize>,
    /// Samples that all trainings of a search may see together.
    pub affordable: usize,
    /// Samples below which nothing is learned that tells candidates apart.
    pub fewest: usize,
}

impl Proxies {
    pub fn new(job: &Job) -> Proxies {
        let config = &job.training;
        let (mut order, mut judges) =
            data::split(job.data.train.as_ref(), &job.data.answers, config.validation, job.options.seed);
        judges.truncate(JUDGES);
        let affordable = ((order.len() * config.epochs) as f64 * SHARE) as usize;
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(job.options.seed));
        Proxies { order, judges, affordable, fewest: FEWEST_STEPS * config.batch_size * config.accumulate }
    }

    /// What comes next of the samples, from the front again where they run out.
    pub fn part(&self, start: usize, length: usize) -> Vec<usize> {
        (start..start + length).map(|i| self.order[i % self.order.len()]).collect()
    }
}

/// The candidates that fit, and the lines of those that do not.
pub struct Contenders {
    those: Vec<Contender>,
    rejected: Vec<CandidateRow>,
}

impl Contenders {
    /// The most promising one, untrained.
    pub fn first(self) -> Derived {
        self.chosen(0)
    }

    fn chosen(mut self, index: usize) -> Derived {
        self.those[index].outcome = Some(Outcome::Chosen);
        let rows = self.those.iter().map(Contender::row).chain(self.rejected).collect();
        let Candidate { graph, mut found } = self.those.swap_remove(index).candidate;
        found.candidates = rows;
        Derived { graph, found }
    }
}

/// Makes a candidate of every kind of student that fits.
///
/// # Errors
/// When none does: then with what the nearest one exceeds.
pub fn enter(job: &Job, teacher: &Prepared) -> Result<Contenders, Error> {
    let mut builder = CandidateBuilder::new(job, teacher);
    if job.options.derivation.template.is_none() {
        builder = builder.within_teacher()?;
    }
    let mut field = Contenders { those: vec![], rejected: vec![] };
    let mut obstacles = vec![];
    for variant in builder.variants() {
        let name = variant.to_string();
        match builder.candidate(&Spec { kind: variant, ..Spec::default() }) {
            Ok(candidate) => match field.those.iter().find(|other| other.candidate.is_same(&candidate)) {
                Some(same) => {
                    let why = format!("it is the same network as '{}'", same.candidate.found.name);
                    field.rejected.push(row(&name, &candidate.found.cost, Outcome::Impossible { why }));
                }
                None => {
                    let graph = candidate.graph.clone();
                    field.those.push(Contender { candidate, graph, accuracies: vec![], outcome: None });
                }
            },
            Err(fault) if is_of_candidate(&fault) => {
                let why = fault.to_string();
                field.rejected.push(row(&name, &Measured::default(), Outcome::Impossible { why }));
                obstacles.push((name, fault));
            }
            Err(other) => return Err(other),
        }
    }
    // Where not all can compete, those with the best prospects do. Of equals the one that was named first.
    field.those.sort_by(|a, b| b.prospects().total_cmp(&a.prospects()));
    if field.those.is_empty() { Err(nothing_left(obstacles)) } else { Ok(field) }
}

/// Whether an error says that this candidate cannot be, which says nothing of others.
fn is_of_candidate(fault: &Error) -> bool {
    matches!(
        fault,
        Error::Student(_)
            | Error::Exec(_)
            | Error::Pass(_)
            | Error::Quant(_)
            | Error::Lower(_)
            | Error::NoProgram { .. }
    )
}

/// Why there is no student: what the nearest exceeds where budgets alone are in the way, else everything that is.
fn nothing_left(mut obstacles: Vec<(String, Error)>) -> Error {
    let excess = |(_, fault): &(String, Error)| match fault {
        Error::Student(student::Error::DoesNotFit { breach, .. }) => {
            Some(breach.needed / breach.allowed.max(f64::MIN_POSITIVE))
        }
        _ => None,
    };
    let excesses: Option<Vec<f64>> = obstacles.iter().map(excess).collect();
    let nearest = excesses.and_then(|all| (0..all.len()).min_by(|&a, &b| all[a].total_cmp(&all[b])));
    if let Some(index) = nearest {
        let (name, fault) = obstacles.swap_remove(index);
        return match fault {
            Error::Student(student::Error::DoesNotFit { breach, .. }) => {
                student::Error::DoesNotFit { candidate: name, breach }.into()
            }
            other => other,
        };
    }
    match obstacles.len() {
        0 => {
            let why = "it takes no image, signal, tokens or vector that a template is made for".to_string();
            student::Error::Template { template: "any", why }.into()
        }
        1 => obstacles.remove(0).1,
        _ => {
            // Kinds that have the same in their way are named once, by the first.
            let mut seen: Vec<String> = vec![];
            obstacles.retain(|(_, fault)| {
                let why = fault.to_string();
                !seen.contains(&why) && {
                    seen.push(why);
                    true
                }
            });
            if obstacles.len() == 1 { obstacles.remove(0).1 } else { Error::NoCandidate { obstacles } }
        }
    }
}

/// Lets the candidates compete; the winner, untrained.
///
/// # Errors
/// When one cannot be trained.
pub fn compete(
    job: &Job,
    labels: &TeacherLabels,
    folder: &Path,
    mut field: Contenders,
    progress: &dyn Progress,
) -> Result<Derived, Error> {
    let winner = rounds_of(job, labels, folder, &mut field.those, progress)?;
    Ok(field.chosen(winner))
}

impl Contender {
    /// How promising a candidate is before it has learned anything: by what it computes and stores, and less so the further
    /// it is from the teacher it starts from.
    fn prospects(&self) -> f64 {
        let cost = &self.candidate.found.cost;
        let kind = self.candidate.found.spec.as_ref().map(|s| &s.kind);
        let strangeness = match kind {
            Some(kind) if kind.template.is_some() => 4.0,
            Some(kind) if kind.factoring.is_some() => 3.0,
            _ => 1.0,
        };
        (cost.macs as f64 * cost.params as f64).sqrt() / strangeness
    }

    /// Whether it knows nothing of the teacher's yet.
    fn is_drawn(&self, job: &Job) -> bool {
        let kind = self.candidate.found.spec.as_ref().map(|s| &s.kind);
        job.options.derivation.start == Start::Random || kind.is_some_and(|kind| kind.template.is_some())
    }

    /// The share of the judges that it classifies rightly before it has learned anything; 0 where nobody can say.
    fn start(&self, job: &Job, judges: &[usize]) -> Result<f64, Error> {
        if self.is_drawn(job) {
            return Ok(0.0);
        }
        let network = Network::new(&self.graph, &Device::flex())?;
        let (share, _) = distill::evaluate(&network, job.data.train.as_ref(), judges, &job.data.answers)?;
        Ok(if share.is_nan() { 0.0 } else { share })
    }

    fn row(&self) -> CandidateRow {
        let outcome = self.outcome.clone().unwrap_or(Outcome::Untried);
        let line = row(&self.candidate.found.name, &self.candidate.found.cost, outcome);
        CandidateRow { accuracies: self.accuracies.clone(), ..line }
    }
}

/// Runs the rounds; the index of who is left. The first one, where there is too little training to spend.
fn rounds_of(
    job: &Job,
    labels: &TeacherLabels,
    folder: &Path,
    contenders: &mut [Contender],
    progress: &dyn Progress,
) -> Result<usize, Error> {
    let proxies = Proxies::new(job);
    let (whole, judges) = (proxies.affordable, &proxies.judges);
    let Some(entrants) = affordable(contenders.len(), whole, proxies.fewest).filter(|_| !judges.is_empty()) else {
        // Weights that were drawn have shown nothing: they win only where there is nobody else.
        return Ok(contenders.iter().position(|c| !c.is_drawn(job)).unwrap_or(0));
    };
    // Training never ends below what it began with: nor is a candidate judged by less.
    let starts = contenders[..entrants].iter().map(|c| c.start(job, judges)).collect::<Result<Vec<f64>, Error>>()?;
    let rounds = rounds(entrants);
    // Every round costs as much: half as many, twice as long.
    let samples = whole / (rounds * entrants);
    let mut alive: Vec<usize> = (0..entrants).collect();
    let (mut start, mut length) = (0, samples);
    for round in 1..=rounds {
        let part = proxies.part(start, length);
        for (place, &index) in alive.iter().enumerate() {
            let done = (place + (round - 1) * entrants) as u64;
            let text = format!("round {round} of {rounds}: {}", contenders[index].candidate.found.name);
            progress.position(done, (rounds * entrants) as u64, &text);
            let contender = &mut contenders[index];
            match taught(job, labels, &contender.graph, &part, judges, &folder.join("proxy")) {
                Ok((graph, accuracy)) => {
                    contender.graph = graph;
                    contender.accuracies.push(accuracy.max(starts[index]));
                }
                // One that cannot be trained so says nothing of others.
                Err(fault @ Error::Distill(distill::Error::NonFinite { .. })) => {
                    progress.note(&format!("{}: {fault}", contender.candidate.found.name));
                    contender.accuracies.push(starts[index]);
                    // The next round begins anew, and not where this one was lost.
                    let scratch = folder.join("proxy");
                    std::fs::remove_dir_all(&scratch).map_err(|source| Error::Output { path: scratch, source })?;
                }
                Err(other) => return Err(other),
            }
        }
        let last = |index: &usize| contenders[*index].accuracies.last().copied().unwrap_or(0.0);
        // Of equals the one that was named first.
        alive.sort_by(|a, b| last(b).total_cmp(&last(a)).then(a.cmp(b)));
        let keep = if round == rounds { 1 } else { alive.len().div_ceil(2) };
        for &index in &alive[keep..] {
            contenders[index].outcome = Some(Outcome::Behind { round });
        }
        alive.truncate(keep);
        (start, length) = (start + length, 2 * length);
    }
    progress.note(&format!(
        "of {} candidates: {} (short trainings of {samples} samples, then twice as many)",
        entrants, contenders[alive[0]].candidate.found.name
    ));
    Ok(alive[0])
}

/// How many candidates may compete, the first ones, so that each learns for at least `fewest` samples a round and all of
/// them together for `whole`; `None` where it is fewer than two.
fn affordable(contenders: usize, whole: usize, fewest: usize) -> Option<usize> {
    (2..=contenders).rev().find(|&n| whole / (rounds(n) * n) >= fewest)
}

/// How often a field is halved until one is left.
fn rounds(contenders: usize) -> usize {
    contenders.max(1).next_power_of_two().ilog2() as usize
}

/// Distills a candidate on some samples; what it became, and the share of the judges it classifies rightly.
pub fn taught(
    job: &Job,
    labels: &TeacherLabels,
    graph: &Graph,
    samples: &[usize],
    judges: &[usize],
    scratch: &Path,
) -> Result<(Graph, f64), Error> {
    let set = training::set(job, labels, samples, judges);
    // In so few steps statistics that move slowly would still be those of the start.
    let norm_momentum = job.training.norm_momentum.min(0.7);
    let config = distill::Config { epochs: 1, patience: None, ema: 0.0, norm_momentum, ..job.training.clone() };
    let device = job.options.device.open()?;
    std::fs::create_dir_all(scratch).map_err(|source| Error::Output { path: scratch.into(), source })?;
    let checkpoint = scratch.join(files::hash(&crate::onnx::export(graph)?));
    let trained = distill::train(&graph.into(), &set, &config, &device, &checkpoint, &mut |_| ())?;
    let accuracy =
        trained.history.last().map_or(0.0, |e| if e.accuracy.is_finite() { e.accuracy } else { e.agreement });
    std::fs::remove_dir_all(scratch).map_err(|source| Error::Output { path: scratch.into(), source })?;
    Ok((trained.graph, accuracy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_halved_until_one_is_left() {
        assert_eq!([1, 2, 3, 4, 5, 8, 9].map(rounds), [0, 1, 2, 2, 3, 3, 4]);
        assert_eq!(affordable(8, 24_000, 1000), Some(8));
        assert_eq!(affordable(8, 23_000, 1000), Some(7));
        assert_eq!(affordable(8, 2_000, 1000), Some(2));
        assert_eq!(affordable(8, 1_999, 1000), None);
        assert_eq!(affordable(1, 1_000_000, 1), None);
    }
}
