//! The labelling stage, and `kdc label`, which does that alone: the teacher is asked about every sample and view.

use super::options::LabelOptions;
use super::prepared::Prepared;
use super::{Cache, Error, Job, Progress, job};
use crate::data::{self, Task};
use crate::distill::TeacherLogits;
use crate::graph::Graph;
use crate::onnx;
use crate::teacher::{self, Labelled, Labelling, LogitCache, Teacher};
use std::path::{Path, PathBuf};

/// The teacher, and what it says about the training samples.
pub struct TeacherLabels {
    pub teacher: Box<dyn Teacher>,
    /// `None` when training does not ask.
    pub logits: Option<CachedLogits>,
    /// Of the recipe's own teachers, by name, what they say.
    pub others: Vec<(String, CachedLogits)>,
    /// The teacher with logits at its end; with operators that kdc cannot run it is asked through its engine.
    pub network: Graph,
    /// The value of its file that holds the logits, where its output is something else.
    pub logits_value: Option<String>,
}

/// What a teacher says, kept, as a student reads it.
pub struct CachedLogits {
    answers: LogitCache,
    /// Numbers of a row: all, those of a position where answers spell, or those of the last extent.
    row: usize,
}

impl CachedLogits {
    fn new(job: &Job, answers: LogitCache) -> CachedLogits {
        let last =
            || job.teacher.outputs.first().and_then(|&id| job.teacher.value(id).shape.last().map(|dim| dim.at(1)));
        let row = match &job.data.answers {
            Task::Classification | Task::MaskedLm => answers.classes(),
            Task::Sequence(sequence) => sequence.symbols,
            Task::Reconstruction => last().unwrap_or(answers.classes()),
        };
        CachedLogits { answers, row }
    }

    /// What to look into where its classes are right no more often than by chance.
    fn doubt(&self, job: &Job) -> Option<String> {
        if job.data.answers != Task::Classification || job.recipe.data.new_classes {
            return None;
        }
        let samples = job.asked_about.as_ref();
        let mut row = vec![0.0; self.answers.classes()];
        let mut class = |sample| {
            self.answers.read(sample, 0, &mut row);
            data::argmax(&row) as u16
        };
        let said: Vec<u16> = (0..samples.len()).map(&mut class).collect();
        teacher::doubt(&said, samples, &job.data.class_names)
    }
}

impl TeacherLogits for CachedLogits {
    fn classes(&self) -> usize {
        self.row
    }

    fn width(&self) -> usize {
        self.answers.classes()
    }

    fn read(&self, sample: usize, view: usize, out: &mut [f32]) {
        self.answers.read(sample, view, out);
    }
}

impl TeacherLabels {
    /// The teacher's accuracy on some training samples; 1 where it was not asked, or none has a label.
    pub fn accuracy(&self, job: &Job, samples: &[usize]) -> f64 {
        let Some(logits) =
            self.logits.as_ref().filter(|_| job.data.answers == Task::Classification && !job.recipe.data.new_classes)
        else {
            return 1.0;
        };
        let data = job.data.train.as_ref();
        let mut row = vec![0.0; logits.width()];
        let (mut right, mut labelled) = (0, 0);
        for &sample in samples {
            let Some(label) = data.label(sample) else { continue };
            logits.read(sample, 0, &mut row);
            labelled += 1;
            right += usize::from(data::argmax(&row) == usize::from(label));
        }
        if labelled == 0 { 1.0 } else { right as f64 / f64::from(labelled) }
    }
}

/// Asks the teacher about every training sample and view, or finds what it said before.
pub fn ask(job: &Job, prepared: &Prepared, progress: &dyn Progress) -> Result<(TeacherLabels, bool), Error> {
    // A trailing softmax hides the logits: they are its operand.
    let value = job::logits_name(&job.teacher);
    let samples = job.asked_about.as_ref();
    let (output, engine) = (job.output.as_deref(), job.options.engine);
    let teacher = open(&job.options.model, output, value.as_deref(), samples, engine, progress)?;
    // What the engine has read from here on is in memory.
    job.unchanged()?;
    let mut on = |done: usize, total: usize| progress.position(done as u64, total as u64, "");
    let kept = |teacher: &dyn Teacher, hash: &str, value: Option<&str>, on: &mut dyn FnMut(usize, usize)| {
        let labelling = Labelling {
            teacher,
            teacher_hash: hash,
            value,
            samples: job.asked_about.as_ref(),
            seed: job.options.seed,
            views: job.training.views,
            top: job.options.training.top_k,
            anew: job.options.force,
        };
        let answers = LogitCache::fill(&labelling, &folder(job.options.labels.as_deref(), &job.cache), on)?;
        Ok::<_, Error>(CachedLogits::new(job, answers))
    };
    // Answers to inputs that change from step to step cannot be kept, and a vocabulary for each position is too much.
    let keeps = job.trains() && !job.recipe.data.mixes() && job.data.answers != Task::MaskedLm;
    let logits = match keeps && reads_answers(job, "teacher") {
        true => Some(kept(teacher.as_ref(), &job.teacher_hash, value.as_deref(), &mut on)?),
        false => None,
    };
    // Better said before the training than after it.
    if let Some(doubt) = logits.as_ref().and_then(|kept| kept.doubt(job)) {
        progress.note(&doubt);
    }
    let mut others = vec![];
    for other in job.others.iter().filter(|other| keeps && !other.is_peer && reads_answers(job, &other.name)) {
        let value = other.logits_value.as_deref();
        let teacher = open(&other.path, None, value, samples, engine, progress)?;
        job.unchanged()?;
        let logits = kept(teacher.as_ref(), &other.hash, value, &mut on)?;
        others.push((other.name.clone(), logits));
    }
    let all = logits.iter().chain(others.iter().map(|(_, logits)| logits));
    let cached = all.map(|kept| kept.answers.asked()).sum::<usize>() == 0;
    Ok((TeacherLabels { teacher, logits, others, network: prepared.graph.clone(), logits_value: value }, cached))
}

/// Whether a term reads the answers of the teacher of this name.
fn reads_answers(job: &Job, name: &str) -> bool {
    job.recipe.stages.iter().flat_map(|stage| &stage.terms).any(|term| term.reads_answers_of(name))
}

/// Asks the teacher about a shard of the training samples, and keeps what it says for compilations to come.
///
/// # Errors
/// When the model or the data cannot be read, do not fit, no engine runs the model, or the folder cannot be written.
pub fn label(options: &LabelOptions, progress: &dyn Progress) -> Result<Labelled, Error> {
    let contents = job::contents(&options.model)?;
    let (sidecar, data) = job::locate_data(&options.model, None, options.data.as_deref())?;
    let output = options.output.clone().or(sidecar.output.clone());
    let given = onnx::Given { shapes: options.inputs.clone(), output: output.clone(), ..Default::default() };
    let network = job::load_one_output(&options.model, &given)?;
    let data = job::load_data(&options.model, &sidecar, &data, &network)?;
    data.notes.iter().for_each(|note| progress.note(note));
    if data.answers == Task::MaskedLm {
        return Err(Error::TooMuch { model: options.model.clone() });
    }
    let value = job::logits_name(&network);
    let samples = data.train.as_ref();
    let teacher = open(&options.model, output.as_deref(), value.as_deref(), samples, options.engine, progress)?;
    let hash = job::teacher_hash(&options.model, output.as_deref())?;
    job::same_model(&options.model, &contents)?;
    let labelling = Labelling {
        teacher: teacher.as_ref(),
        teacher_hash: &hash,
        value: value.as_deref(),
        samples: data.train.as_ref(),
        seed: options.seed,
        views: options.views,
        top: options.top_k,
        anew: false,
    };
    let mut on = |done: usize, total: usize| progress.position(done as u64, total as u64, "");
    let folder = folder(options.labels.as_deref(), &Cache::open(false)?);
    Ok(labelling.label(&folder, options.shard, &mut on)?)
}

fn folder(asked: Option<&Path>, cache: &Cache) -> PathBuf {
    asked.map_or_else(|| cache.folder("labels"), Path::to_path_buf)
}

fn open(
    model: &Path,
    output: Option<&str>,
    value: Option<&str>,
    samples: &dyn data::Dataset,
    engine: teacher::EngineChoice,
    progress: &dyn Progress,
) -> Result<Box<dyn Teacher>, Error> {
    let taps: Vec<String> = value.into_iter().map(String::from).collect();
    let teacher = teacher::open_output(model, output, &taps, engine, &teacher::probe(samples))?;
    if let Some(note) = teacher.note() {
        progress.note(&format!("the teacher runs on {}: {note}", teacher.engine()));
    }
    Ok(teacher)
}
