//! Which of a recipe's objectives suits a student: short trainings on the same samples decide, before the long one, by
//! successive halving (Jamieson, Talwalkar 2016, <https://arxiv.org/abs/1502.07943>): the shortest tell who learns fast,
//! and the few that do are trained longer to see who ends well. The first choice is what is done unless another is clearly
//! better: by more than one standard error (Breiman et al. 1984, Classification and Regression Trees, section 3.4.3).

use super::derivation::Found;
use super::labelling::TeacherLabels;
use super::training;
use super::{Error, Job, Progress};
use crate::distill::{self, Choice, Reads, TrainingSet, standard_error};
use crate::graph::{Graph, cost};
use crate::{data, files, onnx};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The share of the epochs that the trials of a round have.
const ROUNDS: [f64; 3] = [1.0 / 12.0, 1.0 / 4.0, 1.0];
/// The last round is for choices whose training takes no more multiply-accumulates (of a sample forward, with the teacher's
/// where it runs along, times samples, times epochs): about a minute of a core. What ends well cannot always be told from its
/// beginning: of 12,000 multiply-accumulates for MNIST-1D, two rounds chose objectives that end 8 points below labels alone.
const SHORT: f64 = 1e11;
/// How many go on to the next round beside the first choice: the best of the others. Where there is a last round those
/// without a teacher come too: they learn slowest, and are who has to be beaten.
const OTHERS: usize = 2;

/// An objective that was tried.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    pub name: String,
    /// Epochs of its longest trial.
    pub epochs: usize,
    /// After these, share of the validation samples classified rightly; of samples without labels, the agreement with the teacher.
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
    labels: &TeacherLabels,
    progress: &dyn Progress,
) -> Result<(Vec<Trial>, bool), Error> {
    if !job.trains() {
        return Ok((vec![], true));
    }
    let choices = suited(job, student, found, labels, progress)?;
    // One alone is nothing to choose from.
    if let [only] = &choices[..] {
        adopt(job, only);
    }
    if choices.len() < 2 {
        return Ok((vec![], true));
    }
    let field: Vec<Contestant> =
        choices.iter().map(|choice| contestant(job, student, labels, choice)).collect::<Result<_, Error>>()?;
    let settings =
        format!("{:?} {choices:?} {field:?} {:?} {:?}", job.training, job.recipe.data, job.options.training.top_k);
    let teacher = format!("{} {}", job.teacher_hash, labels.teacher.engine());
    let inputs = [files::hash(&onnx::export(student)?), job.data_hash.clone(), settings, teacher];
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let stage = job.stage("choose", &inputs, progress, |folder| {
        let parts = data::split(job.data.train.as_ref(), &job.data.answers, job.training.validation, job.options.seed);
        // Where no label judges, agreement with the teacher on what is learned from does.
        let judges = if parts.1.is_empty() { parts.0.len() } else { parts.1.len() };
        let tried = folder.join("tried");
        let ceiling = if parts.1.is_empty() { 1.0 } else { labels.accuracy(job, &parts.1) };
        let trials = halve(&field, job.training.epochs, (judges, ceiling), |index, epochs| {
            let name = choices[index].name.as_str();
            progress.position(index as u64, choices.len() as u64, name);
            let accuracy = kept(&tried, index, epochs, |scratch| {
                let set = training::set(job, labels, &parts.0, &parts.1);
                match trial(job, student, &set, &choices[index], epochs, scratch) {
                    // What this student cannot learn by is no choice; others may be.
                    Err(fault @ Error::Distill(distill::Error::NonFinite { .. })) => {
                        progress.note(&format!("{name}: {fault}"));
                        Ok(0.0)
                    }
                    other => other,
                }
            })?;
            let percent = 100.0 * accuracy;
            progress.note(&format!("{name}: {percent:.2}% after a trial of {epochs} epochs (measured)"));
            Ok::<f64, Error>(accuracy)
        })?;
        let path = folder.join("trials.json");
        let text = serde_json::to_vec(&trials).expect("plain data");
        files::write_atomic(&path, &text).map_err(|source| Error::Output { path, source })?;
        std::fs::remove_dir_all(&tried).map_err(|source| Error::Output { path: tried.clone(), source })
    })?;
    let path = stage.folder.join("trials.json");
    let text = std::fs::read(&path).map_err(|e| Error::read(&path, e))?;
    let trials: Vec<Trial> = serde_json::from_slice(&text).map_err(|e| Error::read(&path, e.into()))?;
    if let Some(chosen) = trials.iter().position(|t| t.chosen).and_then(|i| choices.get(i)) {
        adopt(job, chosen);
    }
    Ok((trials, stage.cached))
}

/// Puts a choice in the place of the last stage's terms.
fn adopt(job: &mut Job, chosen: &Choice) {
    if let Some(last) = job.recipe.stages.last_mut() {
        last.terms.clone_from(&chosen.terms);
    }
    job.recipe.title = format!("{}, {}", job.recipe.title, chosen.name);
    job.recipe.choices.clear();
    job.training.terms = job.recipe.for_search();
}

/// The choices that can be meant: activations mean something else in a network of its own, labels teach nothing of samples
/// that have none, and what has nothing to compare in these networks is no choice.
///
/// # Errors
/// Why the first cannot be meant, where none can.
fn suited(
    job: &Job,
    student: &Graph,
    found: &Found,
    labels: &TeacherLabels,
    progress: &dyn Progress,
) -> Result<Vec<Choice>, Error> {
    let same_family = found.spec.as_ref().is_some_and(|spec| spec.kind.template.is_none());
    let train = &job.data.train;
    let all_labelled = (0..train.len()).all(|sample| train.label(sample).is_some());
    let (learned, judging) = data::split(train.as_ref(), &job.data.answers, job.training.validation, job.options.seed);
    let set = training::set(job, labels, &learned, &judging);
    let device = job.options.device.open()?;
    let (mut choices, mut obstacle) = (vec![], None);
    for choice in job.recipe.choices.iter().filter(|choice| same_family || !choice.same_family) {
        if !all_labelled && !reads(choice)?.iter().any(Reads::asks_teacher) {
            continue;
        }
        let config = distill::Config { terms: choice.terms.clone(), ..job.training.clone() };
        match distill::applies(student, &set, &config, &device) {
            Ok(()) => choices.push(choice.clone()),
            Err(why @ distill::Error::Inapplicable { .. }) => {
                progress.note(&format!("'{}' is no choice for this student: {why}", choice.name));
                obstacle.get_or_insert(why);
            }
            // A mistake in a setting is one whatever is chosen.
            Err(why) => return Err(why.into()),
        }
    }
    match obstacle {
        Some(why) if choices.is_empty() => Err(why.into()),
        _ => Ok(choices),
    }
}

/// What its terms read.
fn reads(choice: &Choice) -> Result<Vec<Reads>, Error> {
    let config = distill::Config { terms: choice.terms.clone(), ..distill::Config::default() };
    Ok(config.objective()?.reads())
}

/// A choice among others.
#[derive(Debug)]
struct Contestant<'a> {
    name: &'a str,
    /// May be tried to the end.
    is_short: bool,
    /// Learns from labels alone.
    is_alone: bool,
}

fn contestant<'a>(
    job: &Job,
    student: &Graph,
    labels: &TeacherLabels,
    choice: &'a Choice,
) -> Result<Contestant<'a>, Error> {
    let reads = reads(choice)?;
    let macs = |graph: &Graph| cost(graph).0.macs as f64;
    let runs_along = |r: &Reads| r.runs_teacher() || r.teacher_logits && labels.logits.is_none();
    let teacher = if reads.iter().any(runs_along) { macs(&labels.network) } else { 0.0 };
    let work = job.data.train.len() as f64 * job.training.epochs as f64 * (macs(student) + teacher);
    Ok(Contestant { name: &choice.name, is_short: work <= SHORT, is_alone: !reads.iter().any(Reads::asks_teacher) })
}

/// Tries all, then fewer for longer, as [`ROUNDS`] say: the first, the best of the others, and where there is a last round who
/// learns alone. Where all stand at the ceiling, no longer trial tells more. Chosen is the first that no other is better than by
/// more than a standard error. `samples`: those that judge; `ceiling`: the accuracy above which none is expected, the
/// teacher's. `try_it`: the accuracy of one after so many epochs.
fn halve<E>(
    field: &[Contestant],
    epochs: usize,
    (samples, ceiling): (usize, f64),
    mut try_it: impl FnMut(usize, usize) -> Result<f64, E>,
) -> Result<Vec<Trial>, E> {
    let untried = |one: &Contestant| Trial { name: one.name.to_string(), epochs: 0, accuracy: 0.0, chosen: false };
    let mut trials: Vec<Trial> = field.iter().map(untried).collect();
    let mut left: Vec<usize> = (0..field.len()).collect();
    let has_last = field.first().is_some_and(|first| first.is_short);
    let rounds = if has_last { &ROUNDS[..] } else { &ROUNDS[..ROUNDS.len() - 1] };
    let stays = |index: usize| index == 0 || has_last && field[index].is_alone;
    let mut before = 0;
    for share in rounds {
        let epochs = ((epochs as f64 * share).round() as usize).max(1);
        if epochs == before {
            // Of so little training no longer trials tell more.
            continue;
        }
        if *share == 1.0 {
            left.retain(|&index| field[index].is_short);
        }
        if before > 0 {
            let (stay, mut others): (Vec<usize>, Vec<usize>) = left.into_iter().partition(|&index| stays(index));
            others.sort_by(|&a, &b| trials[b].accuracy.total_cmp(&trials[a].accuracy).then(a.cmp(&b)));
            others.truncate(OTHERS);
            left = [stay, others].concat();
            left.sort_unstable();
        }
        for &index in &left {
            (trials[index].epochs, trials[index].accuracy) = (epochs, try_it(index, epochs)?);
        }
        before = epochs;
        let reached = left.iter().map(|&index| trials[index].accuracy);
        let (least, best) = reached.fold((f64::INFINITY, 0.0), |(low, high), a| (a.min(low), a.max(high)));
        if least >= best - resolution(best, samples) && least >= ceiling - resolution(ceiling, samples) {
            break;
        }
    }
    let best = left.iter().map(|&index| trials[index].accuracy).fold(0.0, f64::max);
    let error = resolution(best, samples);
    if let Some(&index) = left.iter().find(|&&index| trials[index].accuracy >= best - error) {
        trials[index].chosen = true;
    }
    Ok(trials)
}

/// The standard error of a share that so many samples were counted for, and no less than one of them. Nobody is known to be
/// right on every sample because these few were: it is that of one more of either kind (Laplace's rule of succession).
fn resolution(share: f64, samples: usize) -> f64 {
    if samples == 0 {
        return 0.0;
    }
    let count = samples as f64;
    // A hair more, so that one sample is one sample after rounding.
    standard_error((share * count + 1.0) / (count + 2.0), samples).max((1.0 + 1e-9) / count)
}

/// What a trial came to: as an interrupted run has left it, or tried now. A trial has a folder of its own, so that it goes on
/// from its own checkpoint and no other's.
fn kept(
    folder: &Path,
    index: usize,
    epochs: usize,
    try_it: impl FnOnce(&Path) -> Result<f64, Error>,
) -> Result<f64, Error> {
    let scratch = folder.join(format!("{index} {epochs}"));
    let path = scratch.with_extension("txt");
    let left = files::read_sealed(&path).map_err(|e| Error::read(&path, e))?;
    if let Some(accuracy) = left.and_then(|text| String::from_utf8(text).ok()?.parse().ok()) {
        return Ok(accuracy);
    }
    std::fs::create_dir_all(&scratch).map_err(|source| Error::Output { path: scratch.clone(), source })?;
    let accuracy = try_it(&scratch)?;
    files::write_sealed(&path, accuracy.to_string().as_bytes()).map_err(|source| Error::Output { path, source })?;
    std::fs::remove_dir_all(&scratch).map_err(|source| Error::Output { path: scratch, source })?;
    Ok(accuracy)
}

/// The highest validation accuracy, or agreement with the teacher, of so many epochs by one of the choices.
fn trial(
    job: &Job,
    student: &Graph,
    set: &TrainingSet,
    choice: &Choice,
    epochs: usize,
    folder: &Path,
) -> Result<f64, Error> {
    let config = distill::Config { epochs, patience: None, ema: 0.0, ..job.training.clone() };
    let recipe = distill::Recipe { data: job.recipe.data.clone(), ..distill::Recipe::of("", choice.terms.clone()) };
    let trained = distill::follow(student, &recipe, set, &config, &job.options.device.open()?, folder, &mut |_| ())?;
    let best = trained.history.iter().map(|e| if e.accuracy.is_finite() { e.accuracy } else { e.agreement });
    Ok(best.fold(0.0, f64::max))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [usize; 5] = [0, 1, 2, 3, 4];

    /// Of five, the second learns alone; `short` may be tried to the end.
    fn chosen(epochs: usize, short: &[usize], accuracy: impl Fn(usize, usize) -> f64) -> (Option<usize>, Vec<usize>) {
        let try_it = |index, epochs| Ok::<_, ()>(accuracy(index, epochs));
        let one = |(index, name)| Contestant { name, is_short: short.contains(&index), is_alone: index == 1 };
        let field: Vec<Contestant> = ["a", "b", "c", "d", "e"].into_iter().enumerate().map(one).collect();
        let trials = halve(&field, epochs, (100, 1.0), try_it).unwrap();
        (trials.iter().position(|t| t.chosen), trials.iter().map(|t| t.epochs).collect())
    }

    #[test]
    fn who_learns_fast_is_overtaken_by_who_ends_well() {
        // "e" leads at first and stops there; "a" goes on as the first, "b" is last and out, "d" ends well.
        let learns = |index: usize, epochs: usize| match index {
            4 => 0.6,
            index => 0.1 * index as f64 + 0.03 * epochs as f64,
        };
        assert_eq!(chosen(60, &[], learns), (Some(3), vec![15, 5, 5, 15, 15]));
        // Too short for a second round: who leads wins.
        assert_eq!(chosen(4, &[], learns), (Some(4), vec![1; 5]));
        let none = |_, _| Err::<f64, _>(());
        assert!(halve(&[], 60, (100, 1.0), none).unwrap().is_empty());
    }

    #[test]
    fn who_has_no_teacher_is_tried_to_the_end_where_that_is_affordable() {
        let learns = |index: usize, epochs: usize| match index {
            1 => 0.015 * epochs as f64,
            index => 0.5 + 0.01 * index as f64,
        };
        assert_eq!(chosen(60, &[], learns), (Some(0), vec![15, 5, 5, 15, 15]));
        assert_eq!(chosen(60, &ALL, learns), (Some(1), vec![60, 60, 5, 60, 60]));
        // All of so few epochs are a round of their own.
        assert_eq!(chosen(4, &ALL, learns).1, [4, 4, 1, 4, 4]);
        // Whoever asks the teacher for activations may be too dear for it.
        assert_eq!(chosen(60, &[0, 1, 2, 3], learns).1, [60, 60, 5, 60, 15]);
    }

    #[test]
    fn trials_end_where_all_stand_at_the_ceiling() {
        // After a twelfth of the epochs all are right on every sample, or on all but one of 100.
        let saturated = |index: usize, _| if index == 0 { 0.99 } else { 1.0 };
        assert_eq!(chosen(60, &ALL, saturated), (Some(0), vec![5; 5]));
        // One that is behind may be who ends well.
        let behind = |index: usize, _| if index == 0 { 0.9 } else { 1.0 };
        assert_eq!(chosen(60, &ALL, behind).1, [60, 60, 60, 60, 5]);
        // The ceiling is the teacher's accuracy where that is known; alike, but below it, they have more to learn.
        let field: Vec<Contestant> =
            ["a", "b"].into_iter().map(|name| Contestant { name, is_short: true, is_alone: false }).collect();
        let epochs = |accuracy: f64| {
            let trials = halve(&field, 60, (100, 0.8), |_, _| Ok::<_, ()>(accuracy)).unwrap();
            trials.iter().map(|trial| trial.epochs).collect::<Vec<_>>()
        };
        assert_eq!((epochs(0.79), epochs(0.6)), (vec![5, 5], vec![60, 60]));
    }

    #[test]
    fn the_first_is_chosen_unless_another_is_clearly_better() {
        // A standard error of 0.04 at 0.8 of 100 samples.
        let other = |better: f64| move |index: usize, _| if index == 2 { 0.8 } else { 0.8 - better };
        assert_eq!(chosen(60, &[], other(0.03)).0, Some(0));
        assert_eq!(chosen(60, &[], other(0.05)).0, Some(2));
    }
}
