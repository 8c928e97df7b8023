//! The data model of a report, and so the form of `report.json`.

use super::{CandidateRow, Changes, Replaced, Verdict};
use crate::bench::{Figure, Origin};
use crate::graph::{self, Cost, Dim};
use crate::program::Precision;
use crate::target::elf::Sections;
use crate::target::{FlashBytes, RamBytes};
use serde::{Deserialize, Serialize};

/// Version of the form. It grows when a field changes its meaning or goes; new fields do not count.
pub const SCHEMA: u32 = 1;

/// What a compilation came to.
///
/// Seconds are seconds, bytes are bytes, shares are from 0 to 1, drops are in percentage points. A field that is absent
/// was not made: a plan (`--dry-run`) has no accuracy, a compilation without a toolchain has no linked program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    pub header: Header,
    /// Of the student, which are the teacher's in name, type and shape.
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    pub size: Size,
    pub accuracy: Option<Accuracy>,
    pub memory: Option<Memory>,
    /// Of the program, in the order they run.
    pub layers: Vec<Layer>,
    pub arena: Option<Arena>,
    pub program: Option<Linked>,
    pub storage: Option<Storage>,
    /// Times and what else was observed of the running program.
    pub measurements: Vec<Measurement>,
    /// One per budget and tolerance.
    pub verdicts: Vec<Verdict>,
    /// What the student was chosen from.
    #[serde(default)]
    pub candidates: Vec<CandidateRow>,
    /// Operators of the teacher that others stand for in the student.
    #[serde(default)]
    pub replaced: Vec<Replaced>,
    pub files: Vec<FileEntry>,
    pub skipped: Vec<Skipped>,
    /// What is to be known of the exported files where other engines run them.
    #[serde(default)]
    pub findings: Vec<String>,
    pub stages: Vec<Stage>,
}

impl Report {
    /// Whether every budget and tolerance is met.
    pub fn is_met(&self) -> bool {
        self.breaches().next().is_none()
    }

    /// The budgets and tolerances that are not met, but for those that decide nothing.
    pub fn breaches(&self) -> impl Iterator<Item = &Verdict> {
        self.verdicts.iter().filter(|v| !v.met && v.decides())
    }

    /// `report.json`, with a newline at its end.
    ///
    /// # Errors
    /// Does not happen with a report that a compilation made; serde's word for it if it does.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        Ok(crate::escape::json(&serde_json::to_string_pretty(self)?) + "\n")
    }
}

/// What was compiled, by what, into what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The teacher's file, as it was named.
    pub model: String,
    /// BLAKE3 of the teacher's contents, in hexadecimal.
    pub teacher_hash: String,
    /// What ran the teacher, with its version; `None` where nothing did.
    pub teacher_engine: Option<String>,
    /// Id of the target profile.
    pub target: String,
    /// What the profile says of it in a line.
    pub target_description: String,
    pub precision: Precision,
    pub seed: u64,
    /// Version of kdc.
    pub kdc: String,
    /// Nothing was trained: the report is a plan.
    pub dry_run: bool,
    pub plan: Plan,
}

/// What is done, in words; `plan.toml` has every setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The samples, e.g. `models/fashion/data: 12,000 training, 2,000 test samples of 28×28×1 in 10 classes`.
    pub data: String,
    /// How the student is made from the teacher.
    pub student: String,
    /// How it is trained.
    pub training: String,
    /// How it is quantized; `None` for an `f32` program.
    pub quantization: Option<String>,
}

/// An input or output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Port {
    pub name: String,
    /// The element type that callers see, e.g. `f32`.
    pub dtype: String,
    pub shape: Vec<Extent>,
    /// Of one sample, in that type.
    pub bytes: u64,
    /// How the program stores it, where that differs.
    pub quantization: Option<Quantization>,
}

impl Port {
    /// From a network's value; its quantization is taken along where it is the same for the whole tensor.
    pub fn of(value: &graph::Value) -> Port {
        let quantization = value.quant.as_ref().and_then(|q| match (&q.scale[..], &q.zero_point[..]) {
            (&[scale], &[zero_point]) => Some(Quantization { dtype: q.dtype.to_string(), scale, zero_point }),
            _ => None,
        });
        Port {
            name: value.name.clone(),
            dtype: value.dtype.to_string(),
            shape: value.shape.iter().copied().map(Extent::from).collect(),
            bytes: (graph::elements(&value.shape) * value.dtype.size()) as u64,
            quantization,
        }
    }
}

/// One extent of a shape: a number, or `"batch"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Extent {
    Fixed(usize),
    Symbolic(String),
}

impl From<Dim> for Extent {
    fn from(dim: Dim) -> Extent {
        match dim {
            Dim::Fixed(n) => Extent::Fixed(n),
            Dim::Batch | Dim::Batches(_) => Extent::Symbolic(dim.to_string()),
        }
    }
}

impl std::fmt::Display for Extent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Extent::Fixed(n) => write!(f, "{n}"),
            Extent::Symbolic(name) => f.write_str(name),
        }
    }
}

/// `real = scale · (stored − zero_point)`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantization {
    pub dtype: String,
    pub scale: f32,
    pub zero_point: i32,
}

/// How large teacher and student are. The budgets are among the verdicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    pub teacher: Cost,
    pub student: Cost,
}

/// How often networks are right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// Which part of the data, e.g. `test`. Nothing was fitted to it.
    pub split: String,
    pub origin: Origin,
    pub rows: Vec<AccuracyRow>,
    /// Whether the built program says exactly what the reference interpreter says.
    pub equality: Option<Equality>,
    /// What quantization changed: the int8 student beside the f32 student.
    #[serde(default)]
    pub quantization: Option<Changes>,
    /// Class by class, in the order of their labels.
    #[serde(default)]
    pub classes: Vec<ClassRow>,
}

impl Accuracy {
    /// The row of a network.
    pub fn row(&self, network: Network) -> Option<&AccuracyRow> {
        self.rows.iter().find(|r| r.network == network)
    }
}

/// How often one network is right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccuracyRow {
    pub network: Network,
    /// What ran it, e.g. `reference interpreter`.
    pub engine: String,
    /// How many samples it was asked about.
    pub samples: usize,
    /// Share of them whose class it names.
    pub accuracy: f64,
    /// Share of them on which it says what the teacher says; `None` for the teacher.
    pub agreement: Option<f64>,
}

/// How often the networks know one class: shares of its samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassRow {
    pub name: String,
    /// How many samples are of it.
    pub samples: usize,
    /// `None` where its classes are others.
    pub teacher: Option<f64>,
    /// By the student that will run: int8 where there is one, else f32.
    pub student: f64,
}

/// The networks of a compilation, from the first to the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    Teacher,
    StudentF32,
    StudentInt8,
    /// The linked program.
    Program,
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Network::Teacher => "teacher",
            Network::StudentF32 => "student, f32",
            Network::StudentInt8 => "student, int8",
            Network::Program => "built program",
        })
    }
}

/// The built program beside the reference interpreter, bit for bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Equality {
    pub samples: usize,
    /// Output values compared.
    pub values: usize,
    /// How many of them differ.
    pub differing: usize,
    /// The classes over which the samples are spread, as evenly as there are samples of each; 0 where nothing says.
    #[serde(default)]
    pub classes: usize,
}

/// What the student keeps, counted from its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Read-only: weights, biases, requantization and tables.
    pub weights: Change<FlashBytes>,
    /// Read-write: the arena of activations.
    pub activations: Change<RamBytes>,
}

/// Bytes as stored, and what the same network takes in `f32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change<T> {
    pub bytes: T,
    pub float_bytes: T,
}

/// One step of the program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// From 0, in the order they run.
    pub id: usize,
    pub kernel: String,
    /// The network's node.
    pub name: String,
    /// Of one sample, as the program stores it (images: height, width, channels).
    pub output_shape: Vec<usize>,
    /// Weights and biases.
    pub params: u64,
    /// Multiply-accumulates.
    pub macs: u64,
    /// Constants it reads, in bytes.
    pub bytes: u64,
    /// Estimated seconds on the target.
    pub estimated_s: f64,
}

/// The memory of activations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arena {
    /// What the planner reserved.
    pub planned: RamBytes,
    /// No plan can take less: the most that is alive at once.
    pub lower_bound: RamBytes,
    /// What the running program was seen to use, *measured*; `None` where none ran.
    pub used: Option<RamBytes>,
    pub alignment: usize,
}

/// The linked program, as its headers have it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Linked {
    /// Relative to the output folder.
    pub path: String,
    pub triple: String,
    /// What `rustc --version` says.
    pub rustc: String,
    /// `text` is what `size` calls text: code and read-only data.
    pub text: u64,
    pub sections: Sections,
    pub libraries: Vec<String>,
    /// The newest version of the C library that a symbol asks for.
    pub glibc: Option<String>,
    /// What does not suit the target; empty when all does.
    pub findings: Vec<String>,
}

/// Flash and RAM of the target, and what the program takes of them. Without a linked program, code and runtime are
/// not known and absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Storage {
    pub weights: FlashBytes,
    /// All that is stored beside weights: code, constants of the runtime, initial values.
    pub code: Option<FlashBytes>,
    /// What the target has.
    pub flash: FlashBytes,
    pub activations: RamBytes,
    /// Static variables beside the arena. The system's own stack and heap are not counted.
    pub runtime: Option<RamBytes>,
    /// The stack of an inference, from where it begins to the deepest byte that it writes: *measured*, on the target's
    /// program.
    #[serde(default)]
    pub stack: Option<RamBytes>,
    /// What the target has.
    pub ram: RamBytes,
    /// What the student alone stores: weights, constants and code of the generated crate, whatever calls it. What
    /// `--max-flash` is about.
    #[serde(default)]
    pub own_flash: Option<FlashBytes>,
    /// What the student alone works in: the arena, static variables of the generated crate, and the stack of an
    /// inference where it is known. What `--max-ram` is about.
    #[serde(default)]
    pub own_ram: Option<RamBytes>,
}

impl Storage {
    /// Splits what a linked program takes (as [`Sections::flash`] and [`Sections::ram`] count it) into the student's
    /// share and the rest.
    /// `own` is what the generated crate takes before it is linked, `stack` what an inference was seen to use.
    pub fn new(
        memory: &Memory,
        flash: FlashBytes,
        ram: RamBytes,
        linked: Option<&Sections>,
        own: Option<&Sections>,
        stack: Option<RamBytes>,
    ) -> Storage {
        let (weights, activations) = (memory.weights.bytes, memory.activations.bytes);
        Storage {
            weights,
            code: linked.map(|s| FlashBytes(s.flash().0.saturating_sub(weights.0))),
            flash,
            activations,
            runtime: linked.map(|s| RamBytes(s.ram().0.saturating_sub(activations.0))),
            stack,
            ram,
            own_flash: own.map(Sections::flash),
            own_ram: own.map(|s| RamBytes(activations.0 + s.ram().0 + stack.map_or(0, |s| s.0))),
        }
    }

    /// All that is known to be stored.
    pub fn flash_used(&self) -> FlashBytes {
        FlashBytes(self.weights.0 + self.code.map_or(0, |c| c.0))
    }

    /// All that is known to be worked in.
    pub fn ram_used(&self) -> RamBytes {
        RamBytes([self.runtime, self.stack].into_iter().flatten().fold(self.activations.0, |sum, part| sum + part.0))
    }
}

/// A figure, and the thing it is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// For programs that look it up, e.g. `student.latency.median`.
    pub key: String,
    /// On what: a machine, an emulator, a cost model.
    pub on: String,
    #[serde(flatten)]
    pub figure: Figure,
}

impl Measurement {
    /// A figure under a key.
    pub fn new(key: impl Into<String>, on: impl Into<String>, figure: Figure) -> Measurement {
        Measurement { key: key.into(), on: on.into(), figure }
    }
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative to the output folder; a folder ends in `/`.
    pub path: String,
    /// Of a folder: of all files in it.
    pub bytes: u64,
    /// What it is, in a few words.
    pub what: String,
}

/// Something that was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    pub what: String,
    pub why: String,
    /// The one command that makes it possible, where there is one.
    pub enable: Option<String>,
    /// What it takes and was not there; a later run does it when it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool: Option<Tool>,
}

impl Skipped {
    /// Something that was not done, and why.
    pub fn new(what: impl Into<String>, why: impl Into<String>) -> Skipped {
        Skipped { what: what.into(), why: why.into(), enable: None, tool: None }
    }

    /// The same for want of a tool, which a command may install.
    pub fn for_want_of(self, tool: Tool, enable: Option<String>) -> Skipped {
        Skipped { enable, tool: Some(tool), ..self }
    }
}

/// Something of the machine that checks take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tool {
    /// Builds programs for the target.
    Toolchain,
    /// Builds programs for this machine.
    HostToolchain,
    /// Runs the target's programs.
    Emulator,
    /// Builds the plugin that counts instructions.
    CCompiler,
    /// Runs exported files.
    OnnxRuntime,
}

/// One stage of the compilation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    pub name: String,
    /// Its result was there already.
    pub cached: bool,
    /// *Measured*; of a cached stage, the time to find it.
    pub seconds: f64,
}
