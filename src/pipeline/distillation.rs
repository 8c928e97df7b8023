//! `kdc distill`: the student alone, trained and judged, without a program.

use super::choice::{self, Trial};
use super::labelling::{self, TeacherLabels};
use super::output::{Manifest, Output};
use super::prepared::{self, Prepared};
use super::training::{self, Trained};
use super::{Error, Job, Options, Progress, derivation, job, options, synthesis};
use crate::data::Task;
use crate::distill::{Recipe, evaluate};
use crate::exec::Network;
use crate::report::calibration_error;
use crate::{onnx, pass, target, teacher};
use burn::tensor::Device;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Instant;

/// What came of it, as JSON.
const JUDGEMENT: &str = "distilled.json";

/// What a distillation came to. Shares and errors are measured on the test samples.
#[derive(Clone, Debug, Serialize)]
pub struct Distilled {
    pub model: String,
    pub recipe: String,
    pub student: String,
    /// Where the files are.
    pub out: PathBuf,
    pub samples: usize,
    /// `None` where its classes are others.
    pub teacher: Option<Judged>,
    pub distilled: Judged,
    /// The same student from labels alone, where that was asked for.
    pub baseline: Option<Judged>,
    /// Share of the samples that student and teacher put into the same class; `None` where the teacher's are others.
    pub agreement: Option<f64>,
    /// Which share of the way from the baseline to the teacher the student came.
    pub gap_closed: Option<f64>,
    pub classes: Vec<Class>,
    /// Objectives that short trials chose from.
    pub trials: Vec<Trial>,
    /// Wall-clock time of the training, 0 where it was found done.
    pub seconds: f64,
    /// Epochs of training.
    pub epochs: usize,
}

/// How right a network is, and how rightly sure.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Judged {
    /// `None` where no test sample has a label.
    pub accuracy: Option<f64>,
    /// Expected calibration error over 15 bins (Guo et al. 2017, <https://arxiv.org/abs/1706.04599>); `None` where answers
    /// spell.
    pub calibration_error: Option<f64>,
    /// The share of the samples' variance that answers explain, where these are no classes; see
    /// [`Explained`](crate::data::Explained).
    pub explained_variance: Option<f64>,
}

impl Judged {
    /// What networks are compared by.
    fn score(&self) -> Option<f64> {
        self.accuracy.or(self.explained_variance)
    }
}

/// Shares of a class's samples that are found.
#[derive(Clone, Debug, Serialize)]
pub struct Class {
    pub name: String,
    pub teacher: Option<f64>,
    pub student: f64,
    pub baseline: Option<f64>,
}

/// Distills a student of the teacher, and with `with_baseline` the same student from labels alone.
///
/// # Errors
/// As [`compile`](super::compile), up to the training.
pub fn distill(options: Options, with_baseline: bool, progress: &dyn Progress) -> Result<Distilled, Error> {
    let profile = target::find(&options.target, &target::folders(&options.target_folders))?;
    let out =
        options.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}-student", options::name(&options.model))));
    let mut job = Job::prepare(options, profile, out)?;
    job.is_without_program = true;
    job.data.notes.iter().for_each(|note| progress.note(note));
    let distilled = carry_out(&mut job, with_baseline, progress);
    job.explained(distilled)
}

/// Everything after what can be refused at once.
fn carry_out(job: &mut Job, with_baseline: bool, progress: &dyn Progress) -> Result<Distilled, Error> {
    let prepared = prepared::prepare_teacher(job)?;
    let names = ["student.onnx", "recipe.toml", "train/log.csv", "train/log.json", "train/curves.svg", JUDGEMENT];
    let mut output = Output::open(&job.out, &names, &job.inputs()?)?;
    if job.recipe.data.synthetic.is_some() {
        progress.start("synthesize");
        synthesis::replace_data(job, &prepared, progress)?;
    }
    let field = derivation::derive(job, &prepared)?;
    progress.start("label");
    let (labels, _) = labelling::ask(job, &prepared, progress)?;
    progress.start("search");
    let (derived, _) = derivation::search(job, &prepared, field, &labels, progress)?;
    progress.start("choose");
    let (trials, _) = choice::settle(job, &derived.graph, &derived.found, &labels, progress)?;
    progress.start("distill");
    let start = Instant::now();
    let (trained, cached) = training::distill(job, &derived.graph, &labels, progress)?;
    let seconds = if cached { 0.0 } else { start.elapsed().as_secs_f64() };
    let truth: Vec<Option<u16>> = (0..job.data.test.len()).map(|i| job.data.test.label(i)).collect();
    let of_teacher = match Some(&labels.network).filter(|network| !network.has_opaque()) {
        // Its classes are others.
        _ if job.recipe.data.new_classes => None,
        Some(network) => Some(answers(job, network)?),
        // With operators that kdc cannot run: as its engine has it, be that logits or probabilities.
        None => {
            let said = teacher::logits(labels.teacher.as_ref(), job.data.test.as_ref())?.to_f32().into_owned();
            Some((f64::NAN, said))
        }
    };
    let of_student = answers(job, &trained.graph)?;
    job.unchanged()?;
    write(job, &prepared, &trained, &mut output)?;
    let recipe = describe(&job.recipe);
    let baseline = match with_baseline {
        false => None,
        true => {
            progress.start("baseline");
            let trained = labels_only(job, &derived.graph, &labels, progress)?;
            Some(answers(job, &trained.graph)?)
        }
    };
    let judged = |(score, logits): &ScoredLogits| judge(*score, logits, &truth, &job.data.answers);
    let (t, s, b) = (of_teacher.as_ref().map(judged), judged(&of_student), baseline.as_ref().map(judged));
    let said = |(_, logits): &ScoredLogits| read(logits, truth.len(), &job.data.answers);
    let (by_teacher, by_student, by_baseline) =
        (of_teacher.as_ref().map(said), said(&of_student), baseline.as_ref().map(said));
    let class = |(index, name): (usize, &String)| {
        let found = |said: &[Option<u16>]| {
            let of = |i: &usize| truth[*i] == Some(index as u16);
            let (all, right) = (0..truth.len())
                .filter(of)
                .fold((0, 0), |(all, right), i| (all + 1, right + usize::from(said[i] == Some(index as u16))));
            f64::from(right as u32) / f64::from((all as u32).max(1))
        };
        let others = |said: &Option<Vec<Option<u16>>>| said.as_deref().map(found);
        let (teacher, baseline) = (others(&by_teacher), others(&by_baseline));
        Class { name: name.clone(), teacher, student: found(&by_student), baseline }
    };
    let agreement = by_teacher.as_ref().filter(|_| job.data.answers.are_classes()).map(|by_teacher| {
        let agree = by_teacher.iter().zip(&by_student).filter(|(a, b)| a == b).count();
        agree as f64 / truth.len().max(1) as f64
    });
    let distilled = Distilled {
        model: job.options.model.display().to_string(),
        recipe,
        student: derived.found.name.clone(),
        out: job.out.clone(),
        samples: truth.len(),
        teacher: t,
        distilled: s,
        baseline: b,
        agreement,
        gap_closed: t.as_ref().and_then(|t| closed(t, &s, b.as_ref())),
        classes: job.data.class_names.iter().enumerate().map(class).collect(),
        trials,
        seconds,
        epochs: trained.log.history.len(),
    };
    let mut text = serde_json::to_string_pretty(&distilled).expect("plain data");
    text.push('\n');
    output.put_unlisted(JUDGEMENT, text.as_bytes())?;
    output.finish(Manifest {
        fingerprint: "distill".into(),
        seed: job.options.seed,
        teacher: job.teacher_hash.clone(),
        data: job.data_hash.clone(),
        target: job.profile.id.clone(),
        ..Manifest::new()
    })?;
    Ok(distilled)
}

/// The share of the way from the baseline to the teacher that the student came; `None` where there is no such way.
fn closed(teacher: &Judged, student: &Judged, baseline: Option<&Judged>) -> Option<f64> {
    let (teacher, student, baseline) = (teacher.score()?, student.score()?, baseline?.score()?);
    (teacher != baseline).then(|| (student - baseline) / (teacher - baseline))
}

/// The same student, from the start it had, by labels alone.
fn labels_only(
    job: &mut Job,
    student: &crate::graph::Graph,
    labels: &TeacherLabels,
    progress: &dyn Progress,
) -> Result<Trained, Error> {
    let mut recipe = job::labels_only(&job.data.answers);
    // The few labels that the student had, and no others.
    recipe.data.labels = job.recipe.data.labels;
    recipe.data.new_classes = job.recipe.data.new_classes;
    recipe.data.labelled_share = recipe.data.labels.map(|_| 1.0);
    job.training.terms.clone_from(&recipe.stages[0].terms);
    job.training.data.clone_from(&recipe.data);
    job.recipe = recipe;
    Ok(training::distill(job, student, labels, progress)?.0)
}

fn describe(recipe: &Recipe) -> String {
    let terms =
        |stage: &crate::distill::Stage| stage.terms.iter().map(|t| t.method.as_str()).collect::<Vec<_>>().join(" + ");
    let stages: Vec<String> = recipe.stages.iter().map(terms).collect();
    match recipe.title.as_str() {
        "" => stages.join(", then "),
        title => format!("{title}: {}", stages.join(", then ")),
    }
}

/// What a network scores and says on the test samples; NaN where it was not judged.
type ScoredLogits = (f64, Vec<f32>);

/// What a network says about the test samples.
fn answers(job: &Job, graph: &crate::graph::Graph) -> Result<ScoredLogits, Error> {
    let network = Network::new(graph, &Device::flex())?;
    let all: Vec<usize> = (0..job.data.test.len()).collect();
    Ok(evaluate(&network, job.data.test.as_ref(), &all, &job.data.answers)?)
}

/// The class that each answer stands for.
fn read(logits: &[f32], samples: usize, answers: &Task) -> Vec<Option<u16>> {
    logits.chunks((logits.len() / samples.max(1)).max(1)).map(|row| answers.class(row)).collect()
}

fn judge(score: f64, logits: &[f32], truth: &[Option<u16>], answers: &Task) -> Judged {
    if *answers == Task::MaskedLm {
        let accuracy = score.is_finite().then_some(score);
        return Judged { accuracy, calibration_error: None, explained_variance: None };
    }
    if *answers == Task::Reconstruction {
        let explained_variance = score.is_finite().then_some(score);
        return Judged { accuracy: None, calibration_error: None, explained_variance };
    }
    let said = read(logits, truth.len(), answers);
    let labelled = || said.iter().zip(truth).filter_map(|(said, label)| Some((*said, (*label)?)));
    let right = labelled().filter(|(said, label)| *said == Some(*label)).count();
    let count = labelled().count();
    let row = (logits.len() / truth.len().max(1)).max(1);
    let rows = || logits.chunks(row).zip(truth).filter_map(|(row, label)| Some((row, (*label)?)));
    Judged {
        accuracy: (count > 0).then(|| right as f64 / count as f64),
        calibration_error: (count > 0 && *answers == Task::Classification).then(|| calibration_error(rows())),
        explained_variance: None,
    }
}

/// The student, and how it came about.
fn write(job: &Job, teacher: &Prepared, trained: &Trained, output: &mut Output) -> Result<(), Error> {
    let mut student = trained.graph.clone();
    pass::run(&mut student, &[("fold batch norm", pass::fold_batch_norm)])?;
    if let Some(softmax) = teacher.softmax.clone() {
        pass::apply(&mut student, "restore softmax", |graph| pass::restore_softmax(graph, softmax))?;
    }
    output.put("student.onnx", &onnx::export(&student)?)?;
    output.put("recipe.toml", job.recipe.text().as_bytes())?;
    output.put("train/log.csv", trained.log.csv(job.data.answers.score()).as_bytes())?;
    output.put("train/log.json", &trained.log.json())?;
    if let Some(curves) = trained.log.curves() {
        output.put("train/curves.svg", curves.as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_judged_by_the_samples_that_have_a_label() {
        let logits = [3.0, 0.0, 0.0, 3.0, 3.0, 0.0];
        let judged = judge(0.5, &logits, &[Some(0), Some(0), None], &Task::Classification);
        assert_eq!(judged.accuracy, Some(0.5));
        // Sure to 0.953 of both, and right about one.
        assert!((judged.calibration_error.unwrap() - 0.4526).abs() < 1e-3);
        let nobody = judge(f64::NAN, &logits, &[None, None, None], &Task::Classification);
        assert_eq!((nobody.accuracy, nobody.calibration_error), (None, None));
    }

    #[test]
    fn a_gap_is_closed_in_part_overtaken_or_not_there() {
        let of = |accuracy| Judged { accuracy, calibration_error: None, explained_variance: None };
        let closed = |t, s, b| closed(&of(t), &of(s), Some(&of(b)));
        assert_eq!(closed(Some(0.75), Some(0.625), Some(0.5)), Some(0.5));
        assert_eq!(closed(Some(0.75), Some(1.0), Some(0.5)), Some(2.0));
        assert_eq!(closed(Some(0.75), Some(0.25), Some(0.5)), Some(-1.0));
        assert_eq!(closed(Some(0.5), Some(0.5), Some(0.5)), None);
        assert_eq!(closed(None, Some(0.5), Some(0.5)), None);
    }
}
