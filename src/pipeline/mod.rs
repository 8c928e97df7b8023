//! The pipeline from teacher to report, stage by stage, and the cache that skips what is unchanged.
//!
//! [`compile`] is the whole of kdc, read from top to bottom: import, derive, label, search, distill, quantize, plan memory, emit,
//! build, measure, report. What it takes is [`Options`], what it tells while it runs goes to a [`Progress`], what it came
//! to is a [`Report`].
//!
//! Expensive stages (the teacher's answers, training, builds) are kept in a [`Cache`] under a hash of everything that
//! decides them, and an interrupted training goes on where it stopped. A second compilation of the same thing finds its
//! output folder whole and does nothing.

mod answers;
mod cache;
mod choice;
mod derivation;
mod distillation;
mod evaluation;
mod exports;
mod inspection;
mod job;
mod labelling;
mod measure;
mod measured;
mod opaque;
mod operators;
pub mod options;
mod output;
mod prepared;
pub mod progress;
mod report;
mod stages;
mod synthesis;
mod training;

pub use cache::Cache;
pub use choice::Trial;
pub use distillation::{Distilled, Judged, distill};
pub use evaluation::{ClassResult, Evaluation, SampleSource, evaluate};
pub use inspection::{Arena, Coupling, Inspection, LayerLine, Range, Sample, Unsupported, inspect};
pub use job::Job;
pub use labelling::label;
pub use options::{Artefact, Derivation, LabelOptions, Optimizer, Options, Replace, Search, Start, Training};
pub use output::Manifest;
pub use progress::{Outcome, Progress, Silent};

use crate::data::Task;
use crate::report::{Report, Stage};
use crate::target;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Why a compilation stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} has no sidecar {}, which says what its input means (see models/fashion/teacher.toml); write one beside the model", model.display(), wanted.display())]
    NoSidecar { model: PathBuf, wanted: PathBuf },
    #[error("there is no data to train on: {} names none; give it with --data, or describe it there in [data]", sidecar.display())]
    NoData { sidecar: PathBuf },
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("cannot write {}: {source}; choose another folder with --out, or make room", path.display())]
    Output { path: PathBuf, source: std::io::Error },
    #[error("{} and the data in {} do not go together: {source}; name the right data with --data, or correct the model's sidecar", model.display(), data.display())]
    Fit { model: PathBuf, data: PathBuf, source: crate::data::Error },
    #[error("{}: {source}", model.display())]
    NotSupported { model: PathBuf, source: crate::data::Error },
    #[error("the answers of {} {what} by its sidecar, and no classes: generated programs, their checks and new classes are for classifiers yet; `kdc distill` makes and judges its students, `kdc export` writes them", model.display())]
    Answers { model: PathBuf, what: &'static str },
    #[error("the answers of {} are a vocabulary for each position: they are asked for at every step of training, and not kept", model.display())]
    TooMuch { model: PathBuf },
    #[error("{} has {} outputs, and a student has one: say which with --output NAME, or with output = \"NAME\" at the start of the sidecar; they are {}", model.display(), names.len(), names.join(", "))]
    Outputs { model: PathBuf, names: Vec<String> },
    #[error("{} is there, and no run of kdc has put it there (the manifest.json beside it lists what did): nothing was written; choose another folder with --out, or move it away", path.display())]
    NotOurs { path: PathBuf },
    #[error("{} would take the place of {}, which this run reads: nothing was written; choose another folder with --out", path.display(), input.display())]
    IsInput { path: PathBuf, input: PathBuf },
    #[error("{} was changed while kdc ran: nothing that was made of it since is kept; run again when it is as it shall be", path.display())]
    Changed { path: PathBuf },
    #[error("{}, which is all that was asked for, is not fit for use: {why}", artefact.path())]
    Unfit { artefact: Artefact, why: String },
    #[error("{} cannot be the student: {why}; it has to take and give what the teacher does", path.display())]
    Brought { path: PathBuf, why: String },
    #[error(
        "the network has no program: {}; replace what is named, or take another kind of student (--template)",
        named(obstacles)
    )]
    NoProgram { obstacles: Vec<crate::program::LowerError> },
    #[error("no kind of student can be made of this teacher:{}", listed(obstacles))]
    NoCandidate { obstacles: Vec<(String, Error)> },
    #[error(
        "--epochs 0 leaves {what} untrained; train for one epoch or more, or bring a trained network with --student"
    )]
    Untaught { what: &'static str },
    #[error("{}: {source}", path.display())]
    SpecFile { path: PathBuf, source: Box<toml::de::Error> },
    #[error("{source}; everything up to the generated crate is in {}", out.display())]
    Toolchain { out: PathBuf, source: target::toolchain::Missing },
    #[error(transparent)]
    Cache(#[from] cache::Error),
    #[error(transparent)]
    Target(#[from] target::Error),
    #[error(transparent)]
    Onnx(#[from] crate::onnx::Error),
    #[error(transparent)]
    Data(#[from] crate::data::Error),
    #[error(transparent)]
    Teacher(#[from] crate::teacher::Error),
    #[error(transparent)]
    Student(#[from] crate::student::Error),
    #[error(transparent)]
    Distill(#[from] crate::distill::Error),
    #[error(transparent)]
    Exec(#[from] crate::exec::Error),
    #[error(transparent)]
    Pass(#[from] crate::pass::Error),
    #[error(transparent)]
    Quant(#[from] crate::quant::Error),
    #[error(transparent)]
    Lower(#[from] crate::program::LowerError),
    #[error(transparent)]
    Plan(#[from] crate::program::PlanError),
    #[error(transparent)]
    Reference(#[from] crate::program::reference::Error),
    #[error(transparent)]
    Emit(#[from] crate::emit::Error),
    #[error(transparent)]
    Nnef(#[from] crate::emit::nnef::NnefError),
    #[error(transparent)]
    Build(#[from] target::toolchain::BuildError),
    #[error(transparent)]
    Elf(#[from] target::elf::Error),
    #[error(transparent)]
    Bench(#[from] crate::bench::Error),
    #[error(transparent)]
    Tract(#[from] crate::bench::tract::Error),
}

fn named(obstacles: &[crate::program::LowerError]) -> String {
    obstacles.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

fn listed(obstacles: &[(String, Error)]) -> String {
    obstacles.iter().map(|(candidate, why)| format!("\n  {candidate}: {why}")).collect()
}

impl Error {
    /// Refuses networks whose answers are no classes.
    fn unless_classes(answers: &Task, model: &Path) -> Result<(), Error> {
        let what = match answers {
            Task::Classification => return Ok(()),
            Task::Sequence(_) => "spell words ([sequence])",
            Task::Reconstruction => "are its input again (answers = \"input\")",
            Task::MaskedLm => "are tokens (answers = \"tokens\")",
        };
        Err(Error::Answers { model: model.into(), what })
    }

    fn read(path: &Path, source: std::io::Error) -> Error {
        Error::Read { path: path.into(), source }
    }
}

/// Where the results of a compilation go: the folder that is named, or `./NAME-TARGET`.
///
/// # Errors
/// When there is no such target.
pub fn results_folder(options: &Options) -> Result<PathBuf, Error> {
    let profile = target::find(&options.target, &target::folders(&options.target_folders))?;
    Ok(job::default_out(options, &profile))
}

/// Compiles a teacher into a student for a board.
///
/// # Errors
/// When something cannot work. A missing toolchain is an error too, after all that can be made without it is made. A
/// budget or tolerance that is not met is no error: see [`Report::is_met`].
pub fn compile(options: Options, progress: &dyn Progress) -> Result<Report, Error> {
    let profile = target::find(&options.target, &target::folders(&options.target_folders))?;
    let out = job::default_out(&options, &profile);
    let fingerprint = job::fingerprint(&options, &profile);
    if let (Ok(fingerprint), false, false) = (&fingerprint, options.force, options.dry_run)
        && let Some(report) = output::up_to_date(&out, fingerprint, options.emits(Artefact::Elf), &|tool| {
            stages::is_there(tool, &profile)
        })
    {
        return Ok(nothing_to_do(report, progress));
    }
    let mut clock = Clock { progress, stages: vec![] };
    let mut job = clock.stage("import", || Ok((Job::prepare(options, profile, out)?, false)))?;
    job.data.notes.iter().for_each(|note| progress.note(note));
    let fingerprint = fingerprint?;
    Error::unless_classes(&job.data.answers, &job.options.model)?;
    let report = carry_out(&mut job, fingerprint, clock, progress);
    job.explained(report)
}

/// Everything after what can be refused at once.
fn carry_out(job: &mut Job, fingerprint: String, mut clock: Clock, progress: &dyn Progress) -> Result<Report, Error> {
    let teacher = prepared::prepare_teacher(job)?;
    let mut output = output::Output::open(&job.out, &outputs(&job.options), &job.inputs()?)?;
    if job.options.dry_run {
        let student = clock.stage("derive", || Ok((derivation::plan(job, &teacher)?, false)))?;
        let precision = stages::planned_precision(job, &teacher, &student.graph)?;
        output.put("plan.toml", report::plan_toml(job, &teacher, &student.found).as_bytes())?;
        return Ok(report::plan(job, &teacher, &student.found, precision, clock.stages));
    }
    output.changed().iter().for_each(|note| progress.note(note));
    stages::tell_what_is_missing(job, progress);
    if job.recipe.data.synthetic.is_some() {
        clock.stage("synthesize", || synthesis::replace_data(job, &teacher, progress).map(|cached| ((), cached)))?;
    }
    let field = clock.stage("derive", || Ok((derivation::derive(job, &teacher)?, false)))?;
    let labels = clock.stage("label", || labelling::ask(job, &teacher, progress))?;
    let student = clock.stage("search", || derivation::search(job, &teacher, field, &labels, progress))?;
    if !job.recipe.choices.is_empty() {
        clock.stage("choose", || choice::settle(job, &student.graph, &student.found, &labels, progress))?;
    }
    output.put("plan.toml", report::plan_toml(job, &teacher, &student.found).as_bytes())?;
    output.put("recipe.toml", job.recipe.text().as_bytes())?;
    let trained = clock.stage("distill", || training::distill(job, &student.graph, &labels, progress))?;
    let compiled = clock.stage("quantize", || Ok((stages::quantize(job, &teacher, &trained.graph)?, false)))?;
    let exports = clock.stage("export", || Ok((stages::export(job, &compiled)?, false)))?;
    let generated = clock.stage("emit", || stages::emit(job, &compiled, progress))?;
    let built = match job.options.build {
        true => clock.stage("build", || stages::build(job, &generated, progress))?,
        false => stages::Built::default(),
    };
    let measured = clock.stage("measure", || measure::measure(job, &labels, &compiled, &exports, &built, progress))?;
    let made = report::Made { teacher, student, labels, trained, compiled, exports, generated, built, measured };
    report::finish(job, made, output, fingerprint, clock.stages)
}

/// What a compilation puts into its output folder.
fn outputs(options: &Options) -> Vec<&'static str> {
    let artefacts = Artefact::ALL.into_iter().filter(|&artefact| options.emits(artefact)).map(Artefact::path);
    let always = ["plan.toml"];
    let trained = [
        "recipe.toml",
        "student.toml",
        "candidates.svg",
        "train/log.json",
        "train/log.csv",
        "train/curves.svg",
        "report.json",
        "report.txt",
        report::REFUTED,
    ];
    match options.dry_run {
        true => always.to_vec(),
        false => always.into_iter().chain(trained).chain(artefacts).collect(),
    }
}

/// The report of an earlier run, which is still true.
fn nothing_to_do(mut report: Report, progress: &dyn Progress) -> Report {
    for stage in &mut report.stages {
        stage.cached = true;
        stage.seconds = 0.0;
        progress.start(&stage.name);
        progress.finish(&stage.name, Outcome::Cached);
    }
    report
}

/// Names and times the stages.
struct Clock<'a> {
    progress: &'a dyn Progress,
    stages: Vec<Stage>,
}

impl Clock<'_> {
    /// Runs a stage, which says whether its result was there already.
    fn stage<T>(&mut self, name: &str, run: impl FnOnce() -> Result<(T, bool), Error>) -> Result<T, Error> {
        self.progress.start(name);
        let start = Instant::now();
        let (result, cached) = run()?;
        let seconds = start.elapsed().as_secs_f64();
        self.progress.finish(name, if cached { Outcome::Cached } else { Outcome::Ran { seconds } });
        self.stages.push(Stage { name: name.into(), cached, seconds });
        Ok(result)
    }
}
