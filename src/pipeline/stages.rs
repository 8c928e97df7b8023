//! The stages up to the program: each takes what the ones before made, and says what it needs in its arguments. A stage
//! returns its result and whether that was there already.

use super::prepared::Prepared;
use super::{Artefact, Error, Job, Progress};
use crate::bench::Emulator;
use crate::data::SampleView;
use crate::emit::{self, CrateOptions, nnef};
use crate::exec::{Mode, Network};
use crate::graph::{self, Graph};
use crate::program::{self, Plan, Precision, Program, RawBytes};
use crate::quant::{CalibratedModel, Observer, QuantizedModel, watched};
use crate::report::{Skipped, Tool};
use crate::target::toolchain::{self, Missing, Toolchain};
use crate::target::{self, Profile, cost};
use crate::{files, onnx, pass, teacher};
use burn::tensor::Device;
use std::path::PathBuf;

/// Samples that calibration watches.
pub const CALIBRATION_SAMPLES: usize = 512;

pub(super) fn choose_precision(job: &Job, float: &Program) -> Precision {
    job.options.precision.unwrap_or_else(|| cost::choose_precision(float, &job.profile))
}

/// A student in integers.
pub struct Integers {
    pub model: QuantizedModel,
    pub program: Program,
}

/// The student in all its forms.
pub struct Compiled {
    /// Batch norm folded, the teacher's softmax back on.
    pub float: Graph,
    pub float_program: Program,
    /// The student in integers, or why there is none; an error already where it was asked for.
    pub int8: Result<Integers, String>,
    /// Which of them is built.
    pub precision: Precision,
    pub plan: Plan,
}

impl Compiled {
    /// The program that is built.
    pub fn program(&self) -> &Program {
        match (&self.int8, self.precision) {
            (Ok(int8), Precision::Int8) => &int8.program,
            _ => &self.float_program,
        }
    }
}

/// What the program of a student that is not trained yet will be built in.
pub fn planned_precision(job: &Job, teacher: &Prepared, student: &Graph) -> Result<Precision, Error> {
    if let Some(asked) = job.options.precision {
        return Ok(asked);
    }
    let float = finished(teacher, student)?;
    Ok(choose_precision(job, &program::lower_f32(&float, raw_bytes(job).as_ref())?))
}

/// The student as it runs: batch norm folded, the teacher's softmax back on (see [`Prepared::deployed_softmax`]).
fn finished(teacher: &Prepared, student: &Graph) -> Result<Graph, Error> {
    let mut float = student.clone();
    pass::run(&mut float, pass::DEPLOY)?;
    if let Some(softmax) = teacher.deployed_softmax() {
        pass::apply(&mut float, "restore softmax", |graph| pass::restore_softmax(graph, softmax))?;
    }
    Ok(float)
}

/// Only images have raw bytes to take; every other student takes the network's own input alone.
fn raw_bytes(job: &Job) -> Option<RawBytes> {
    job.data.train.images().map(|images| RawBytes { tables: images.table(), axes: images.axes() })
}

/// Folds batch norm, lowers, and plans memory, in floats and in integers.
pub fn quantize(job: &Job, teacher: &Prepared, trained: &Graph) -> Result<Compiled, Error> {
    let float = finished(teacher, trained)?;
    let raw = raw_bytes(job);
    let float_program = program::lower_f32(&float, raw.as_ref())?;
    // Floats do not depend on whether there are integers.
    let (int8, precision) = match (integers(job, &float, raw.as_ref()), job.options.precision) {
        (Ok(int8), _) => (Ok(int8), choose_precision(job, &float_program)),
        // A network that is damaged is not compiled in another way without being asked for.
        (Err(why @ Error::Quant(crate::quant::Error::NotFinite { .. })), None) => return Err(why),
        (Err(why), Some(Precision::Int8)) => return Err(why),
        (Err(why), _) => (Err(why.to_string()), Precision::F32),
    };
    let mut compiled = Compiled { float, float_program, int8, precision, plan: Plan::default() };
    compiled.plan = program::plan(compiled.program())?;
    Ok(compiled)
}

/// Calibrates, gives every value its integers, and lowers.
fn integers(job: &Job, float: &Graph, raw: Option<&RawBytes>) -> Result<Integers, Error> {
    let ids = watched(float);
    let mut observers = vec![Observer::default(); ids.len()];
    let mut fault = None;
    observe(job, float, &ids, CALIBRATION_SAMPLES, &mut |index, values| {
        // A tensor without elements may be anything.
        let values = if values.is_empty() { &[0.0] } else { values };
        if let Err(what) = observers[index].see(values) {
            let value = float.value(ids[index]).name.clone();
            fault.get_or_insert(crate::quant::Error::NotFinite { value, what });
        }
    })?;
    if let Some(fault) = fault {
        return Err(fault.into());
    }
    let model = CalibratedModel::new(float.clone(), &observers, job.options.calibration)?.quantize()?;
    graph::verify(&model.graph).map_err(|source| pass::Error { pass: "quantize", source })?;
    let program = program::lower_int8(&model, raw)?;
    Ok(Integers { model, program })
}

/// How many training samples ranges are taken from.
pub fn calibration_samples(job: &Job) -> usize {
    CALIBRATION_SAMPLES.min(job.data.train.len())
}

/// Runs a network on some training samples, batch by batch, and shows what its values become.
pub(super) fn observe(
    job: &Job,
    graph: &Graph,
    taps: &[graph::ValueId],
    samples: usize,
    see: &mut dyn FnMut(usize, &[f32]),
) -> Result<(), Error> {
    let device = Device::flex();
    let network = Network::new(graph, &device)?;
    let data = job.data.train.as_ref();
    let indices = crate::data::sample(data, samples, job.options.seed);
    for batch in indices.chunks(64) {
        let inputs = data.batch(&SampleView::plain(batch.iter().copied()));
        let outputs = network.forward(inputs, taps, Mode::Infer)?;
        for (index, value) in outputs.taps.iter().enumerate() {
            see(index, &value.to_host()?.to_f32());
        }
    }
    Ok(())
}

/// The student as files that other programs read. `None` where a form was not asked for, or cannot be written.
#[derive(Default)]
pub struct Exports {
    /// Also where it was not asked for: others are made of it, and it is what tract is timed with.
    pub onnx: Option<Vec<u8>>,
    pub qdq: Option<Vec<u8>>,
    pub nnef: Option<Vec<u8>>,
    /// Why one is missing.
    pub left_out: Vec<Skipped>,
}

impl Exports {
    /// The result, or why it is left out. The program is what is wanted: beside it, a form of the student that does not come
    /// about is no error. Where it is all that was asked for, it is.
    fn made<T, E: Into<Error>>(
        &mut self,
        job: &Job,
        artefact: Artefact,
        made: Result<T, E>,
    ) -> Result<Option<T>, Error> {
        match made.map_err(E::into) {
            Ok(made) => Ok(Some(made)),
            Err(why) if job.options.asks_only_for(artefact) => Err(why),
            Err(why) => {
                if job.options.emits(artefact) {
                    self.left_out.push(Skipped::new(artefact.path(), why.to_string()));
                }
                Ok(None)
            }
        }
    }
}

/// Writes ONNX in `f32` and with quantize/dequantize pairs, and NNEF. They are read back and compared later.
pub fn export(job: &Job, compiled: &Compiled) -> Result<Exports, Error> {
    let mut exports = Exports::default();
    exports.onnx = exports.made(job, Artefact::Onnx, onnx::export(&compiled.float))?;
    // Why there may be no student in integers is told where it is measured.
    if let Ok(int8) = &compiled.int8 {
        exports.qdq = exports.made(job, Artefact::Qdq, onnx::export(&int8.model.graph))?;
    }
    if job.options.emits(Artefact::Nnef) {
        let shape = |&id: &graph::ValueId| compiled.float.value(id).shape.clone();
        let inputs: Vec<_> = compiled.float.inputs.iter().map(shape).collect();
        let written = match &exports.onnx {
            Some(onnx) => nnef::nnef(onnx, &inputs).map_err(Error::from),
            // The same error again: without the one there is not the other.
            None => onnx::export(&compiled.float).map(|_| vec![]).map_err(Error::from),
        };
        exports.nnef = exports.made(job, Artefact::Nnef, written)?;
    }
    Ok(exports)
}

/// A generated crate, in the cache.
pub struct Generated {
    pub folder: PathBuf,
    /// Names its contents.
    pub key: String,
}

/// Generates the crate.
pub fn emit(job: &Job, compiled: &Compiled, progress: &dyn Progress) -> Result<(Generated, bool), Error> {
    let source = job.options.model.file_name().map(|n| n.to_string_lossy().into_owned());
    let options = CrateOptions { name: job.options.student_name(), source };
    let program = compiled.program();
    let hash = files::hash(format!("{program:?} {:?} {options:?}", compiled.plan).as_bytes());
    let stage = job.stage("emit", &[&hash, env!("CARGO_PKG_VERSION")], progress, |folder| {
        Ok(emit::write_crate(program, &compiled.plan, &folder.join("crate"), &options)?)
    })?;
    Ok((Generated { folder: stage.folder.join("crate"), key: stage.key }, stage.cached))
}

/// What the student takes of a program, beside it in the cache.
const OWN: &str = "own.json";

/// What the student itself takes of a program that was built: code, weights and constants, without the runtime around
/// it; `None` where the build did not say.
pub fn own(program: &std::path::Path) -> Option<target::elf::Sections> {
    serde_json::from_slice(&std::fs::read(program.with_file_name(OWN)).ok()?).ok()
}

/// The linked programs.
#[derive(Default)]
pub struct Built {
    /// For the target, with the compiler's version; or what is missing; `None` when none was asked for.
    pub target: Option<Result<(PathBuf, Toolchain), Missing>>,
    /// For this machine, to measure with; `None` where there is no compiler.
    pub host: Option<PathBuf>,
    /// What that takes and is missing.
    pub no_host: Option<Missing>,
}

/// Builds the crate for the target, and for this machine to measure on.
pub fn build(job: &Job, generated: &Generated, progress: &dyn Progress) -> Result<(Built, bool), Error> {
    let mut cached = true;
    let mut one = |profile: &Profile| -> Result<Result<(PathBuf, Toolchain), Missing>, Error> {
        let toolchain = match toolchain::find(profile) {
            Ok(toolchain) => toolchain,
            Err(missing) => return Ok(Err(missing)),
        };
        let settings = format!("{:?} {:?}", profile.build, profile.cpu);
        let inputs = [generated.key.as_str(), &toolchain.version, &toolchain.triple, &settings];
        let stage = job.stage("build", &inputs, progress, |folder| {
            // Of an interrupted build nothing is believed.
            let scratch = folder.join("target");
            let failed = |path: &std::path::Path| {
                let path = path.to_path_buf();
                move |source| Error::Output { path, source }
            };
            files::remove_folder(&scratch).map_err(failed(&scratch))?;
            let program = toolchain.build(&generated.folder, profile, &scratch, job.options.verbose)?;
            let to = folder.join(toolchain::PROGRAM);
            std::fs::copy(&program, &to).map_err(failed(&to))?;
            if let Some(library) = toolchain.library(&crate::escape::identifier(&job.options.student_name()), &scratch)
            {
                let own = serde_json::to_vec(&target::elf::library(&library)?).expect("plain data");
                let to = folder.join(OWN);
                std::fs::write(&to, own).map_err(failed(&to))?;
            }
            files::remove_folder(&scratch).map_err(failed(&scratch))
        })?;
        cached &= stage.cached;
        Ok(Ok((stage.folder.join(toolchain::PROGRAM), toolchain)))
    };
    let target = if job.options.emits(Artefact::Elf) { Some(one(&job.profile)?) } else { None };
    // The host's program is for measuring; where it cannot be built, the report says what is missing.
    let (host, no_host) = match one(&target::find("host", &[])?)? {
        Ok((path, _)) => (Some(path), None),
        Err(missing) => (None, Some(missing)),
    };
    Ok((Built { target, host, no_host }, cached))
}

/// Whether a tool that checks take is there now.
pub fn is_there(tool: Tool, profile: &Profile) -> bool {
    match tool {
        Tool::Toolchain => toolchain::find(profile).is_ok(),
        Tool::HostToolchain => target::find("host", &[]).is_ok_and(|host| toolchain::find(&host).is_ok()),
        Tool::Emulator => Emulator::find(profile).is_ok(),
        Tool::CCompiler => toolchain::in_path("cc").is_some(),
        Tool::OnnxRuntime => teacher::onnxruntime().is_ok(),
    }
}

/// Says before the long work, and not after it, what the machine lacks.
pub fn tell_what_is_missing(job: &Job, progress: &dyn Progress) {
    if !job.options.emits(Artefact::Elf) {
        return;
    }
    match (toolchain::find(&job.profile), Emulator::find(&job.profile)) {
        (Err(missing), _) => progress.note(&format!(
            "{missing}; what else was asked for is made all the same, and the program by a later run, which finds it made"
        )),
        (Ok(_), Err(unavailable)) if !job.profile.is_host() => {
            progress.note(&format!("{unavailable}; without it the program is built, and not run as the board would"));
        }
        _ => (),
    }
}
