//! The training stage: the student learns, and whoever watches is told how it goes.

use super::job::OtherTeacher;
use super::labelling::TeacherLabels;
use super::{Error, Job, Progress};
use crate::distill::{self, Engine, Epoch, Event, Part, Step, TeacherLogits, TeacherSource, TrainingSet};
use crate::graph::Graph;
use crate::{data, files, onnx, report};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::Path;

/// A trained student.
pub struct Trained {
    /// With batch norm, logits out.
    pub graph: Graph,
    pub log: TrainingLog,
}

/// What training came to, epoch by epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainingLog {
    pub history: Vec<Epoch>,
    /// The epoch whose parameters were kept, from 1; 0: those that training began with.
    pub best: usize,
    pub steps: usize,
}

impl TrainingLog {
    /// As `log.json`.
    pub fn json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("a log is plain data")
    }

    /// As `log.csv`, a line for each epoch; what is not known is empty. `score`: what the student is judged by.
    pub fn csv(&self, score: &str) -> String {
        let parts = self.history.first().map_or(&[][..], |e| &e.parts);
        let mut text = String::from("epoch,lr,loss");
        parts.iter().for_each(|part| _ = write!(text, ",loss by {}", part.name));
        _ = writeln!(text, ",training accuracy,agreement with the teacher,validation {score}");
        let field = |v: f64| if v.is_finite() { v.to_string() } else { String::new() };
        for e in &self.history {
            let shares = [e.train_accuracy, e.agreement, e.accuracy];
            let numbers = [e.lr, e.loss].into_iter().chain(e.parts.iter().map(|p| p.loss)).chain(shares);
            let fields: Vec<String> = numbers.map(field).collect();
            _ = writeln!(text, "{},{}", e.epoch, fields.join(","));
        }
        text
    }

    /// As `curves.svg`.
    pub fn curves(&self) -> Option<String> {
        report::curves(&self.history, self.best).ok().flatten()
    }
}

/// Trains the student, or finds it trained; goes on from a checkpoint where an earlier run was interrupted.
pub fn distill(
    job: &Job,
    student: &Graph,
    labels: &TeacherLabels,
    progress: &dyn Progress,
) -> Result<(Trained, bool), Error> {
    let (_, learns_from_teacher) = job.training.objective()?.learns_from();
    let teacher = match learns_from_teacher || job.recipe.stages.len() > 1 {
        true => format!("{} {} {:?}", job.teacher_hash, labels.teacher.engine(), job.options.training.top_k),
        false => String::new(),
    };
    let inputs = [
        files::hash(&onnx::export(student)?),
        job.data_hash.clone(),
        format!("{} {:?} {:?}", job.data.train.augmentation(), job.training, job.recipe),
        teacher,
        job.others.iter().map(|other| other.hash.as_str()).collect::<Vec<_>>().join(" "),
    ];
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let stage = job.stage("distill", &inputs, progress, |folder| train(job, student, labels, folder, progress))?;
    let (model, log) = (stage.folder.join("student.onnx"), stage.folder.join("log.json"));
    let text = std::fs::read(&log).map_err(|e| Error::read(&log, e))?;
    let log = serde_json::from_slice(&text).map_err(|e| Error::read(&log, e.into()))?;
    Ok((Trained { graph: onnx::load(&model)?, log }, stage.cached))
}

/// Whom the student learns from.
fn sources<'a>(job: &'a Job, labels: &'a TeacherLabels) -> Vec<TeacherSource<'a>> {
    let logits = labels.logits.as_ref().map(|l| l as &dyn TeacherLogits);
    let choice = job.options.engine;
    let engine = labels.network.has_opaque().then(|| Engine {
        output: job.output.as_deref(),
        model: &job.options.model,
        logits: labels.logits_value.as_deref(),
        choice,
    });
    let first = TeacherSource { name: "teacher".into(), logits, graph: Some(&labels.network), engine, is_peer: false };
    let other = |other: &'a OtherTeacher| {
        let kept = labels.others.iter().find(|(name, _)| *name == other.name);
        TeacherSource {
            name: other.name.clone(),
            logits: kept.map(|(_, l)| l as &dyn TeacherLogits),
            graph: Some(&other.network),
            engine: other.network.has_opaque().then(|| Engine {
                output: None,
                model: &other.path,
                logits: other.logits_value.as_deref(),
                choice,
            }),
            is_peer: other.is_peer,
        }
    };
    std::iter::once(first).chain(job.others.iter().map(other)).collect()
}

/// What a student is trained on.
pub(super) fn set<'a>(
    job: &'a Job,
    labels: &'a TeacherLabels,
    train: &'a [usize],
    validation: &'a [usize],
) -> TrainingSet<'a> {
    TrainingSet {
        samples: job.data.train.as_ref(),
        train,
        validation,
        teachers: sources(job, labels),
        answers: &job.data.answers,
    }
}

fn train(
    job: &Job,
    student: &Graph,
    labels: &TeacherLabels,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let (train, validation) =
        data::split(job.data.train.as_ref(), &job.data.answers, job.training.validation, job.options.seed);
    let set = set(job, labels, &train, &validation);
    let mut narrator = Narrator {
        epochs: job.recipe.epochs(job.training.epochs).iter().sum(),
        score: job.data.answers.score(),
        ..Narrator::default()
    };
    let mut on = |event: Event| narrator.tell(event, progress);
    let device = job.options.device.open()?;
    let trained = distill::follow(student, &job.recipe, &set, &job.training, &device, folder, &mut on)?;
    if trained.best == 0 && !trained.history.is_empty() {
        progress.note("no epoch ended better than the weights that training began with: these are kept");
    }
    let log = TrainingLog { history: trained.history, best: trained.best, steps: trained.steps };
    for (name, bytes) in [("student.onnx", onnx::export(&trained.graph)?), ("log.json", log.json())] {
        let path = folder.join(name);
        files::write_atomic(&path, &bytes).map_err(|source| Error::Output { path, source })?;
    }
    Ok(())
}

/// Losses that the dashboard's line is drawn from.
const RECENT: usize = 48;

/// Puts events into words: a line for each epoch, and what a terminal shows in between.
#[derive(Default)]
struct Narrator {
    epochs: usize,
    /// What networks are judged by.
    score: &'static str,
    /// Mean losses of stretches of steps, the latest last.
    recent: VecDeque<f32>,
    /// Losses of the stretch under way: their sum and number.
    stretch: (f32, usize),
    /// Epoch and validation accuracy.
    best: Option<(usize, f64)>,
    finished: usize,
}

impl Narrator {
    fn tell(&mut self, event: Event, progress: &dyn Progress) {
        match event {
            Event::Step(step) => {
                self.note(&step);
                progress.position(step.done as u64, step.total as u64, &self.dashboard(&step));
            }
            Event::Epoch(e) => {
                self.finished = e.epoch;
                if self.best.is_none_or(|(_, best)| e.accuracy >= best) && e.accuracy.is_finite() {
                    self.best = Some((e.epoch, e.accuracy));
                }
                progress.note(&self.line(&e));
            }
            Event::RolledBack { loss, step, to, lr } => progress.note(&format!(
                "the loss became {loss} at step {step}: back to step {to}, with a peak learning rate of {lr}"
            )),
            Event::Anew { checkpoint } => progress
                .note(&format!("the checkpoint {} is damaged: training begins from the front", checkpoint.display())),
            Event::Stopped { after, without_gain } => progress.note(&format!(
                "stopped after epoch {after}: {without_gain} epochs without a better validation accuracy"
            )),
        }
    }

    fn line(&self, e: &Epoch) -> String {
        let percent =
            |name: &str, v: f64| if v.is_finite() { format!(", {name} {:.2}%", 100.0 * v) } else { String::new() };
        format!(
            "epoch {}/{}: loss {:.4}{}{}{}{} (measured)",
            e.epoch,
            self.epochs,
            e.loss,
            summands(&e.parts),
            percent("training accuracy", e.train_accuracy),
            percent("agreement with the teacher", e.agreement),
            percent(&format!("validation {}", self.score), e.accuracy),
        )
    }

    /// Takes in a step for the line of losses: a stretch is a 48th of training, or a step where there are few.
    fn note(&mut self, step: &Step) {
        self.stretch = (self.stretch.0 + step.loss, self.stretch.1 + 1);
        if self.stretch.1 >= step.total.div_ceil(RECENT) {
            self.recent.push_back(self.stretch.0 / self.stretch.1 as f32);
            self.stretch = (0.0, 0);
        }
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    /// What a terminal shows under the bar.
    fn dashboard(&self, step: &Step) -> String {
        let best = match self.best {
            Some((epoch, accuracy)) => {
                format!("; best validation {} {:.2}% (epoch {epoch})", self.score, 100.0 * accuracy)
            }
            None => String::new(),
        };
        let accuracy = match step.train_accuracy {
            share if share.is_finite() => format!(", training accuracy {:.2}%", 100.0 * share),
            _ => String::new(),
        };
        format!(
            "epoch {}/{}, learning rate {:.5}{best}\nloss {:.4}{}{accuracy}\nloss so far {}",
            self.finished + 1,
            self.epochs,
            step.lr,
            step.loss,
            summands(&step.parts),
            sparkline(&self.recent),
        )
    }
}

/// ` (labels 0.12 + teacher 0.30)`, where there are several.
fn summands(parts: &[Part]) -> String {
    if parts.len() < 2 {
        return String::new();
    }
    let parts: Vec<String> = parts.iter().map(|p| format!("{} {:.4}", p.name, p.loss)).collect();
    format!(" ({})", parts.join(" + "))
}

/// Numbers as blocks of eight heights.
fn sparkline(values: &VecDeque<f32>) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(low, high), &v| (low.min(v), high.max(v)));
    let block = |v: &f32| BLOCKS[(((v - low) / (high - low).max(f32::MIN_POSITIVE)) * 7.0).round() as usize];
    values.iter().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[derive(Default)]
    struct Heard(RefCell<Vec<String>>);

    impl Progress for Heard {
        fn start(&self, _: &str) {}
        fn position(&self, _: u64, _: u64, text: &str) {
            self.0.borrow_mut().push(text.into());
        }
        fn note(&self, line: &str) {
            self.0.borrow_mut().push(line.into());
        }
        fn finish(&self, _: &str, _: super::super::Outcome) {}
    }

    fn parts() -> Vec<Part> {
        vec![Part { name: "labels".into(), loss: 0.5 }, Part { name: "teacher".into(), loss: 1.5 }]
    }

    fn epoch(accuracy: f64) -> Epoch {
        let agreement = f64::NAN;
        Epoch { epoch: 1, loss: 2.0, parts: parts(), train_accuracy: 0.25, agreement, accuracy, lr: 0.1 }
    }

    #[test]
    fn what_is_told_of_training() {
        let (heard, mut narrator) =
            (Heard::default(), Narrator { epochs: 2, score: "accuracy", ..Narrator::default() });
        narrator.tell(Event::Epoch(epoch(0.5)), &heard);
        for (done, loss) in [(3, 4.0), (4, 1.0)] {
            let step = Step { done, total: 4, loss, parts: parts(), train_accuracy: 0.75, lr: 0.01 };
            narrator.tell(Event::Step(step), &heard);
        }
        let lines = heard.0.into_inner();
        assert_eq!(
            lines[0],
            "epoch 1/2: loss 2.0000 (labels 0.5000 + teacher 1.5000), training accuracy 25.00%, \
             validation accuracy 50.00% (measured)"
        );
        let want = "epoch 2/2, learning rate 0.01000; best validation accuracy 50.00% (epoch 1)\n\
                    loss 1.0000 (labels 0.5000 + teacher 1.5000), training accuracy 75.00%\nloss so far █▁";
        assert_eq!(lines[2], want);
    }

    #[test]
    fn logs_say_what_is_known() {
        let log = TrainingLog { history: vec![epoch(f64::NAN)], best: 1, steps: 4 };
        let want = "epoch,lr,loss,loss by labels,loss by teacher,training accuracy,agreement with the teacher,\
                    validation accuracy\n1,0.1,2,0.5,1.5,0.25,,\n";
        assert_eq!(log.csv("accuracy"), want);
        let read: TrainingLog = serde_json::from_slice(&log.json()).unwrap();
        assert_eq!((read.history[0].loss, read.history[0].accuracy.is_nan()), (2.0, true));
        assert!(log.curves().unwrap().starts_with("<svg"));
    }
}
