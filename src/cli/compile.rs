//! `kdc compile`: from a teacher to a measured program.

use super::progress::Terminal;
use super::training::TrainingArguments;
use super::{NOT_MET, values};
use crate::distill;
use crate::pipeline;
use crate::pipeline::options::{Artefact, Derivation, Options, Replace, Search, Start};
use crate::program::Precision;
use crate::quant::Calibration;
use crate::report::Report;
use crate::student::{self, Allocation, Budgets, Criterion, Template};
use clap::{Args, ValueEnum};
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// Derive, distill, quantize and build a student of MODEL for a target
///
/// Reads MODEL and, beside it, its sidecar (teacher.toml for teacher.onnx: data, preprocessing, labels), and writes
/// ONNX, int8 ONNX, NNEF, a generated no_std crate, the linked program and a report into ./NAME-TARGET/.
/// What was made before is not made again; an interrupted run goes on from its last checkpoint.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kdc compile models/fashion/teacher.onnx --target raspberry-pi
  kdc compile teacher.onnx --target host --data fashion-mnist --max-macs 5.6M --max-ram 64KiB
  kdc compile teacher.onnx --target raspberry-pi --dry-run

Exit codes: 0 all is well, 1 a budget or tolerance is not met, 2 any error.")]
pub struct Arguments {
    /// The teacher, an ONNX file
    model: PathBuf,

    /// The board to compile for; `kdc targets` lists them
    #[arg(short, long, value_name = "NAME")]
    target: String,

    /// Extents of an input that the file leaves open, e.g. tokens=1x24; the first is the batch. Repeatable
    #[arg(long = "input", value_name = "NAME=SHAPE", value_parser = values::input)]
    inputs: Vec<(String, Vec<usize>)>,

    /// The one of its outputs that is meant, where it has several [default: the one that the sidecar names]
    #[arg(long, value_name = "NAME")]
    output: Option<String>,

    /// File or folder with the samples [default: where the model's sidecar says]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// What the samples are, e.g. those of another task [default: the TOML file beside MODEL]
    #[arg(long, value_name = "FILE")]
    sidecar: Option<PathBuf>,

    /// Folder for the results [default: ./NAME-TARGET]
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// What the student is called: its crate, C symbols and header have names by it, so that a program may hold several
    /// students [default: as MODEL]
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    name: Option<String>,

    /// Make everything again, whatever the cache holds
    #[arg(long)]
    force: bool,

    /// Read, check and plan, and stop before training
    #[arg(long)]
    dry_run: bool,

    /// Decides everything random; the same seed gives the same bytes
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Print the report as JSON, and nothing else, on standard output
    #[arg(long)]
    json: bool,

    /// Print the whole report, as report.txt has it, in place of its summary
    #[arg(long, conflicts_with = "json")]
    full: bool,

    /// Show the output of external tools
    #[arg(short, long)]
    verbose: bool,

    /// Write only these: onnx (f32), qdq (int8 ONNX), nnef, crate, elf (the linked program)
    #[arg(long, value_name = "LIST", value_enum, value_delimiter = ',', hide_possible_values = true)]
    emit: Vec<ArtefactName>,

    /// Stop at the generated crate: no toolchain is needed
    #[arg(long)]
    no_build: bool,

    /// Folder with target profiles of your own, before those that come with kdc
    #[arg(long, value_name = "DIR")]
    targets: Vec<PathBuf>,

    #[command(flatten)]
    limits: Limits,

    #[command(flatten)]
    student: StudentArguments,

    #[command(flatten)]
    training: TrainingArguments,

    #[command(flatten)]
    quantization: Quantization,
}

/// What the student may cost, and what accuracy it may lose.
#[derive(Debug, Args)]
#[command(next_help_heading = "Budgets and tolerances (a breach exits 1)")]
struct Limits {
    /// Estimated time of an inference on the target, e.g. 5ms [default: the target's]
    #[arg(long, value_name = "TIME", value_parser = values::seconds)]
    max_latency: Option<f64>,

    /// Working memory, e.g. 64KiB [default: the target's]
    #[arg(long, value_name = "SIZE", value_parser = values::bytes)]
    max_ram: Option<u64>,

    /// Memory that stores weights and code, e.g. 256KiB [default: the target's]
    #[arg(long, value_name = "SIZE", value_parser = values::bytes)]
    max_flash: Option<u64>,

    /// Multiply-accumulates of an inference, e.g. 5.6M [default: 1/8 of the teacher's]
    #[arg(long, value_name = "COUNT", value_parser = values::count)]
    max_macs: Option<u64>,

    /// Parameters, e.g. 48k [default: 1/8 of the teacher's]
    #[arg(long, value_name = "COUNT", value_parser = values::count)]
    max_params: Option<u64>,

    /// Points of accuracy the final program may lose against the teacher [default: not judged]
    #[arg(long, value_name = "POINTS", value_parser = values::points)]
    max_accuracy_drop: Option<f64>,

    /// Accuracy the final program has to reach, e.g. 91%; the smallest student that is expected to is made
    #[arg(long, value_name = "PERCENT", value_parser = values::percent)]
    min_accuracy: Option<f64>,

    /// Points of accuracy the int8 student may lose against the f32 student [default: 0.3, or what chance explains on so
    /// many samples]
    #[arg(long, value_name = "POINTS", value_parser = values::points)]
    max_quant_drop: Option<f64>,
}

/// How the student is made of the teacher.
#[derive(Debug, Args)]
#[command(next_help_heading = "Student")]
pub(super) struct StudentArguments {
    /// Weights to start from: the teacher's, or drawn by the seed
    #[arg(long, value_enum, default_value = "teacher")]
    start: StartName,

    /// By what the teacher's channels are ranked; the last ones are cut
    #[arg(long, value_enum, default_value = "distinct")]
    importance: CriterionName,

    /// Every group of channels keeps the same share, or the ranking over all groups decides
    #[arg(long, value_enum, default_value = "uniform")]
    allocation: AllocationName,

    /// Take the teacher's network, narrower, without trying other kinds of student
    #[arg(long)]
    no_search: bool,

    /// Replace operators that the target runs badly by ones it runs well
    #[arg(long, value_enum, default_value = "auto")]
    replace: ReplaceName,

    /// Only this network of its own instead of the teacher's
    #[arg(long, value_enum, conflicts_with_all = ["student", "student_spec"])]
    template: Option<TemplateName>,

    /// A student of your own, an ONNX file that takes and gives what the teacher does
    #[arg(long, value_name = "FILE", conflicts_with = "student_spec")]
    student: Option<PathBuf>,

    /// The student that an earlier compilation found: its student.toml
    #[arg(long, value_name = "FILE")]
    student_spec: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TemplateName {
    /// Images: depthwise separable convolutions
    ImageSeparable,
    /// Images: residual blocks
    ImageResidual,
    /// Features over time: separable 1-D convolutions
    Signal,
    /// Token ids: embeddings and separable convolutions
    Tokens,
    /// Token ids: a small transformer
    Transformer,
    /// Vectors: a perceptron
    Vector,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ReplaceName {
    /// Where short trainings say so, or nothing else has a program
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StartName {
    Teacher,
    Random,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CriterionName {
    L1,
    L2,
    /// What the others do not say already
    Distinct,
    /// Scales of the normalisations
    Scale,
    /// First-order change of the loss
    Taylor,
    /// Mean magnitude of what a channel carries
    Activation,
    Random,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AllocationName {
    Uniform,
    Ranked,
}

impl StudentArguments {
    pub(super) fn derivation(self) -> Derivation {
        Derivation {
            search: if self.no_search { Search::Off } else { Search::On },
            replace: match self.replace {
                ReplaceName::Auto => Replace::Auto,
                ReplaceName::Always => Replace::Always,
                ReplaceName::Never => Replace::Never,
            },
            template: self.template.map(|t| match t {
                TemplateName::ImageSeparable => Template::ImageSeparable,
                TemplateName::ImageResidual => Template::ImageResidual,
                TemplateName::Signal => Template::Signal,
                TemplateName::Tokens => Template::Tokens,
                TemplateName::Transformer => Template::Transformer,
                TemplateName::Vector => Template::Vector,
            }),
            student: self.student,
            spec: self.student_spec,
            start: match self.start {
                StartName::Teacher => Start::Teacher,
                StartName::Random => Start::Random,
            },
            criterion: match self.importance {
                CriterionName::L1 => Criterion::L1,
                CriterionName::L2 => Criterion::L2,
                CriterionName::Distinct => Criterion::Distinct,
                CriterionName::Scale => Criterion::Scale,
                CriterionName::Taylor => Criterion::Taylor,
                CriterionName::Activation => Criterion::Activation,
                CriterionName::Random => Criterion::Random,
            },
            allocation: match self.allocation {
                AllocationName::Uniform => Allocation::Uniform,
                AllocationName::Ranked => Allocation::Ranked,
            },
        }
    }
}

/// Numbers on the device.
#[derive(Debug, Args)]
#[command(next_help_heading = "Quantization")]
struct Quantization {
    /// Numbers on the device; auto takes what the target's cost model says is faster
    #[arg(long, value_enum, default_value = "auto")]
    precision: PrecisionName,

    /// How ranges of activations are chosen
    #[arg(long, value_enum, default_value = "minmax")]
    calibration: CalibrationName,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ArtefactName {
    Onnx,
    Qdq,
    Nnef,
    Crate,
    Elf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PrecisionName {
    Auto,
    Int8,
    F32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum CalibrationName {
    /// The smallest and largest value seen
    Minmax,
    /// The range of all but the 0.01% outermost values
    Percentile,
}

/// Percentage of the values that `--calibration percentile` keeps.
const PERCENTILE: f64 = 99.99;

impl Arguments {
    /// The same, as the library has it.
    fn options(self) -> Result<Options, distill::Error> {
        let (limits, training, quantization) = (self.limits, self.training, self.quantization);
        let derivation = self.student.derivation();
        let defaults = Options::new(self.model, self.target);
        let mut emit: Vec<Artefact> = self.emit.into_iter().map(Artefact::from).collect();
        emit.sort_unstable();
        emit.dedup();
        Ok(Options {
            inputs: self.inputs.into_iter().collect(),
            output: self.output,
            target_folders: self.targets,
            data: self.data,
            sidecar: self.sidecar,
            out: self.out,
            name: self.name,
            read: training.files(),
            force: self.force,
            dry_run: self.dry_run,
            seed: self.seed,
            verbose: self.verbose,
            budgets: Budgets {
                macs: limits.max_macs,
                params: limits.max_params,
                ram_bytes: limits.max_ram,
                flash_bytes: limits.max_flash,
                latency_s: limits.max_latency,
            },
            max_accuracy_drop: limits.max_accuracy_drop,
            max_quant_drop: limits.max_quant_drop,
            min_accuracy: limits.min_accuracy,
            precision: match quantization.precision {
                PrecisionName::Auto => None,
                PrecisionName::Int8 => Some(Precision::Int8),
                PrecisionName::F32 => Some(Precision::F32),
            },
            emit: if emit.is_empty() { defaults.emit } else { emit },
            build: !self.no_build,
            calibration: match quantization.calibration {
                CalibrationName::Minmax => Calibration::MinMax,
                CalibrationName::Percentile => Calibration::Percentile(PERCENTILE),
            },
            engine: training.engine.into(),
            labels: training.labels.clone(),
            device: training.device,
            derivation,
            training: training.training()?,
            ..defaults
        })
    }
}

impl From<ArtefactName> for Artefact {
    fn from(name: ArtefactName) -> Artefact {
        match name {
            ArtefactName::Onnx => Artefact::Onnx,
            ArtefactName::Qdq => Artefact::Qdq,
            ArtefactName::Nnef => Artefact::Nnef,
            ArtefactName::Crate => Artefact::Crate,
            ArtefactName::Elf => Artefact::Elf,
        }
    }
}

/// Compiles, and prints the report.
pub fn run(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let (json, full) = (arguments.json, arguments.full);
    let progress = Terminal::new();
    let options = arguments.options()?;
    let folder = pipeline::results_folder(&options)?;
    let report = match pipeline::compile(options, &progress) {
        // A budget that nothing meets is a budget that is not met.
        Err(pipeline::Error::Student(fault @ student::Error::DoesNotFit { .. })) => {
            drop(progress);
            super::say(&format!("not met: {fault}"));
            return Ok(ExitCode::from(NOT_MET));
        }
        other => other?,
    };
    drop(progress);
    match (json, full) {
        (true, _) => super::print_json(&report.to_json()?)?,
        (_, true) => super::print(&report.to_text())?,
        _ => super::print(&report.to_summary(&folder))?,
    }
    Ok(verdict(&report))
}

/// The exit code, and on standard error what is not met.
fn verdict(report: &Report) -> ExitCode {
    for breach in report.breaches() {
        super::say(&format!("not met: {breach}"));
    }
    if report.is_met() { ExitCode::SUCCESS } else { ExitCode::from(NOT_MET) }
}
