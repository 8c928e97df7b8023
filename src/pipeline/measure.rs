//! How good the student is on samples that nothing was fitted to, and what its program takes.

use super::answers::{self, COMPARED, Expected, classes, floats, interpret, right, share, spread};
use super::exports::{self, Compared};
use super::labelling::TeacherLabels;
use super::measured::Measured;
use super::stages::{self, Built, Compiled, Exports};
use super::{Artefact, Error, Job, Progress};
use crate::bench::{self, Emulator, Input, Student, emulator::Counter, tract};
use crate::data::{Dataset, Task};
use crate::distill;
use crate::exec::Network;
use crate::files;
use crate::program::{Precision, Program};
use crate::report::{AccuracyRow, Changes, ClassRow, Equality, Measurement, Network as Name, Skipped, Tool};
use crate::target::{self, Profile, cost, elf};
use crate::teacher;
use burn::tensor::Device;
use std::path::Path;

/// Inferences counted under the emulator.
const COUNTED: usize = 3;

/// Measures, or finds what was measured of the same things before.
pub fn measure(
    job: &Job,
    labels: &TeacherLabels,
    compiled: &Compiled,
    exports: &Exports,
    built: &Built,
    progress: &dyn Progress,
) -> Result<(Measured, bool), Error> {
    let bytes = |path: Option<&Path>| path.map_or(Ok(String::new()), files::hash_file);
    let target = built.target.as_ref().and_then(|t| t.as_ref().ok()).map(|(path, _)| path.as_path());
    let hash = |path: Option<&Path>| bytes(path).map_err(|e| Error::read(path.unwrap_or(Path::new("")), e));
    // What is measured depends on what there is to measure with: more tools, and it is done again.
    let tools = [Tool::Emulator, Tool::CCompiler, Tool::OnnxRuntime].map(|tool| stages::is_there(tool, &job.profile));
    let here = target::find("host", &target::folders(&job.options.target_folders)).ok();
    let export = |bytes: &Option<Vec<u8>>| files::hash(bytes.as_deref().unwrap_or_default());
    let inputs = [
        export(&exports.onnx),
        export(&exports.qdq),
        export(&exports.nnef),
        hash(target)?,
        hash(built.host.as_deref())?,
        job.data_hash.clone(),
        format!("{} {} {:?} {tools:?} {here:?}", job.teacher_hash, labels.teacher.engine(), job.profile),
        format!("{:?} {:?} {:?}", job.options.emit, teacher::onnxruntime().ok(), exports.left_out),
    ];
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let stage = job.stage("measure", &inputs, progress, |folder| {
        let mut measured = Measured::default();
        let truth = accuracy(job, labels, compiled, built, &mut measured, progress)?;
        let accuracy = measured.rows.iter().find(|r| r.network == Name::StudentInt8).map(|row| row.accuracy);
        let (few, _) = spread(&truth, COMPARED);
        exports::check(job, compiled, exports, &Compared { truth: &truth, few: &few, accuracy }, &mut measured)?;
        times(job, compiled, exports, built, here.as_ref(), &mut measured)?;
        let path = folder.join("measured.json");
        let json = serde_json::to_vec(&measured).map_err(|e| Error::read(&path, e.into()))?;
        files::write_atomic(&path, &json).map_err(|source| Error::Output { path, source })
    })?;
    let path = stage.folder.join("measured.json");
    let json = std::fs::read(&path).map_err(|e| Error::read(&path, e))?;
    let measured = serde_json::from_slice(&json).map_err(|e| Error::read(&path, e.into()))?;
    Ok((measured, stage.cached))
}

/// Fills in the rows; returns the classes that the networks were judged by.
fn accuracy(
    job: &Job,
    labels: &TeacherLabels,
    compiled: &Compiled,
    built: &Built,
    measured: &mut Measured,
    progress: &dyn Progress,
) -> Result<Vec<Option<u16>>, Error> {
    let test = job.data.test.as_ref();
    let mut truth = answers::labels(test);
    let count = job.data.class_names.len();
    let teacher = match job.recipe.data.new_classes {
        true => None,
        false => Some(teacher::predict(labels.teacher.as_ref(), test)?),
    };
    if let Some(teacher) = teacher.as_ref().filter(|_| truth.iter().all(Option::is_none)) {
        let why = "no test sample has one: accuracy is agreement with the teacher";
        let skipped = Skipped::new("accuracy by labels", why);
        measured.skipped.push(Skipped { enable: Some("label some test samples".into()), ..skipped });
        truth = teacher.iter().copied().map(Some).collect();
    }
    let all: Vec<usize> = (0..test.len()).collect();
    // What was said of some samples.
    let row_of = |network, engine: &str, said: &[u16], of: &[usize]| {
        let truth: Vec<_> = of.iter().map(|&i| truth[i]).collect();
        let as_teacher = |teacher: &Vec<u16>| share(said, &of.iter().map(|&i| teacher[i]).collect::<Vec<_>>());
        AccuracyRow {
            network,
            engine: engine.into(),
            samples: said.len(),
            accuracy: right(said, &truth),
            agreement: teacher.as_ref().filter(|_| network != Name::Teacher).map(as_teacher),
        }
    };
    let row = |network, engine: &str, said: &[u16]| row_of(network, engine, said, &all);
    match &teacher {
        Some(said) => measured.rows.push(row(Name::Teacher, labels.teacher.engine(), said)),
        None => {
            let why = "its classes are not those of the data (new-classes in the recipe)";
            measured.skipped.push(Skipped::new("accuracy of the teacher", why));
        }
    }

    let network = Network::new(&compiled.float, &Device::flex())?;
    let (_, logits) = distill::evaluate(&network, test, &all, &Task::Classification)?;
    let by_float = classes(&logits, count);
    measured.rows.push(row(Name::StudentF32, "burn", &by_float));
    let mut by_integers = None;

    // The interpreter is slow; the program on this machine is the same bits, which some samples of every class prove.
    let (few, spread_over) = spread(&truth, COMPARED);
    let few = few.as_slice();
    let program = compiled.program();
    let expected = interpret(program, test, few)?;
    let equality = |student: &Student| -> Result<Equality, Error> {
        Ok(Equality { classes: spread_over, ..equality(student, program, test, few, &expected)? })
    };
    let host = built.host.as_ref().map(Student::direct);
    let said_by = |student: &Student, indices: &[usize]| -> Result<Vec<u16>, Error> {
        let (input, bytes) = fed(test, indices);
        let outputs = student.run(input, &bytes, false)?;
        let floats: Vec<f32> = outputs.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        Ok(classes(&floats, count))
    };
    if compiled.precision == Precision::Int8
        && let Some(host) = &host
    {
        let equal = equality(host)?;
        if equal.differing == 0 {
            let engine = format!("this host's program, equal to the reference on {}", equal.samples);
            let said = said_by(host, &all)?;
            measured.rows.push(row(Name::StudentInt8, &engine, &said));
            by_integers = Some(said);
        }
        measured.equality = Some(equal);
    }
    let integers = [Artefact::Qdq, Artefact::Crate, Artefact::Elf].iter().any(|&a| job.options.emits(a));
    match &compiled.int8 {
        Ok(int8) if integers && !measured.rows.iter().any(|r| r.network == Name::StudentInt8) => {
            progress.note("running the reference interpreter, which is slow");
            let outputs = interpret(&int8.program, test, &all)?.concat_f32();
            let said = classes(&outputs, count);
            measured.rows.push(row(Name::StudentInt8, "reference interpreter", &said));
            by_integers = Some(said);
        }
        Err(why) => measured.skipped.push(Skipped::new("the student in int8", why.clone())),
        Ok(_) => (),
    }
    measured.quantization = by_integers.as_ref().map(|said| Changes::of(&by_float, said, &truth));
    let by_student = by_integers.as_ref().unwrap_or(&by_float);
    measured.classes = by_class(&job.data.class_names, &truth, teacher.as_deref(), by_student);
    match (&built.target, target_student(job, built)) {
        (Some(Ok(_)), Some(student)) => {
            let samples = if job.profile.is_host() { all.as_slice() } else { few };
            let engine = if job.profile.is_host() { "this host".into() } else { emulator_name(&job.profile) };
            measured.rows.push(row_of(Name::Program, &engine, &said_by(&student, samples)?, samples));
            measured.equality = Some(equality(&student)?);
            measured.arena_used = Some(student.arena()?.used_bytes);
            measured.stack_used = Some(student.stack()?.used_bytes);
        }
        (Some(Ok(_)), None) => {
            if let Err(unavailable) = Emulator::find(&job.profile) {
                let skipped = Skipped::new("running the program as the board would", unavailable.what);
                measured.skipped.push(skipped.for_want_of(Tool::Emulator, unavailable.install));
            }
        }
        _ => (),
    }
    if measured.arena_used.is_none()
        && let Some(host) = &host
    {
        measured.arena_used = Some(host.arena()?.used_bytes);
    }
    Ok(truth)
}

/// What networks find of each class that some sample is of.
fn by_class(names: &[String], truth: &[Option<u16>], teacher: Option<&[u16]>, student: &[u16]) -> Vec<ClassRow> {
    let row = |(class, name): (usize, &String)| {
        let class = class as u16;
        let of: Vec<usize> = (0..truth.len()).filter(|&i| truth[i] == Some(class)).collect();
        let found = |said: &[u16]| of.iter().filter(|&&i| said[i] == class).count() as f64 / of.len() as f64;
        let (teacher, student) = (teacher.map(found), found(student));
        (!of.is_empty()).then(|| ClassRow { name: name.clone(), samples: of.len(), teacher, student })
    };
    names.iter().enumerate().filter_map(row).collect()
}

/// The target's program and how to start it here.
fn target_student(job: &Job, built: &Built) -> Option<Student> {
    let (path, _) = built.target.as_ref()?.as_ref().ok()?;
    if job.profile.is_host() {
        return Some(Student::direct(path));
    }
    Some(Student::emulated(path, &Emulator::find(&job.profile).ok()?))
}

fn emulator_name(profile: &Profile) -> String {
    let emulator = profile.emulator.as_ref();
    emulator.map_or_else(String::new, |e| format!("{} {}", e.program, e.arguments.join(" ")))
}

/// What a program is fed for some samples: raw bytes where they are images, else the network's own input.
fn fed(samples: &dyn Dataset, indices: &[usize]) -> (Input, Vec<u8>) {
    match samples.images() {
        Some(images) => (Input::U8, images.samples().select(indices).pixels),
        None => (Input::F32, floats(samples, indices).iter().flat_map(|x| x.to_le_bytes()).collect()),
    }
}

/// Runs a program on samples and compares what it stores with what the interpreter stored for the same samples as
/// real numbers: arithmetic and, where it takes raw bytes, preprocessing at once.
fn equality(
    student: &Student,
    program: &Program,
    samples: &dyn Dataset,
    indices: &[usize],
    expected: &Expected,
) -> Result<Equality, Error> {
    let (input, bytes) = fed(samples, indices);
    let stored = student.run(input, &bytes, true)?;
    let (size, expected) = (program.precision.bytes(), expected.stored());
    let pairs = stored.chunks(size).zip(expected.chunks(size));
    let missing = stored.len().abs_diff(expected.len()) / size;
    let differing = pairs.filter(|(a, b)| a != b).count() + missing;
    Ok(Equality { samples: indices.len(), values: expected.len() / size, differing, classes: 0 })
}

fn times(
    job: &Job,
    compiled: &Compiled,
    exports: &Exports,
    built: &Built,
    here: Option<&Profile>,
    measured: &mut Measured,
) -> Result<(), Error> {
    let estimate = cost::estimate(compiled.program(), &job.profile);
    let model = |profile: &Profile| format!("cost model of {}, one core", profile.id);
    let mut add = |key: &str, on: &str, figure| measured.measurements.push(Measurement::new(key, on, figure));
    if let Some(host) = &built.host {
        let student = Student::direct(host);
        let opened = exports.onnx.as_deref().map(tract::Tract::open).transpose();
        let compared = opened.and_then(|tract| {
            let by = |tract: tract::Tract| tract::interleaved(&student, &tract, tract::Schedule::default());
            tract.map(by).transpose()
        });
        // tract is there to compare with: where it does not run the student, the program has its times all the same.
        let figures = match compared {
            Ok(Some(comparison)) => comparison.figures(),
            other => {
                let why = other.err().map_or("there is no student.onnx".to_string(), |why| why.to_string());
                measured.skipped.push(Skipped::new("tract's latency on the same student", why));
                tract::alone(&student, tract::Schedule::default())?
            }
        };
        let all = ["student.latency.median", "student.latency.p95", "student.peak_rss"];
        let tract_keys = ["tract.latency.median", "tract.latency.p95", "tract.ratio"];
        // Where the system does not say the peak, there is one figure less.
        let own = if matches!(figures.len(), 3 | 6) { &all[..] } else { &all[..2] };
        for (key, figure) in own.iter().chain(&tract_keys).zip(figures) {
            add(key, "this host, one core", figure);
        }
        if let Some(here) = here {
            let seconds = cost::estimate(compiled.program(), here).latency_s;
            let figure = bench::Figure::estimated("latency on this host", seconds, bench::Unit::Seconds);
            add("host.latency.estimated", &model(here), figure);
        }
    }
    if let (Some(Ok((path, _))), Ok(emulator)) = (&built.target, Emulator::find(&job.profile)) {
        let counter = Counter::new(&emulator, &job.cache.folder("tools"), path, &["info"]);
        let skipped = |what: String| Skipped::new("counting instructions under the emulator", what);
        match counter.map(|counter| counter.instructions(path, COUNTED)) {
            Ok(Ok(counted)) => {
                add("student.instructions", &emulator_name(&job.profile), counted.figure());
                if let Some(count) = estimate.instructions(&job.profile) {
                    let figure =
                        bench::Figure::estimated("instructions per inference", count, bench::Unit::Instructions);
                    add("student.instructions.estimated", &model(&job.profile), figure);
                }
            }
            Ok(Err(why)) => measured.skipped.push(skipped(why.to_string())),
            Err(what) if stages::is_there(Tool::CCompiler, &job.profile) => measured.skipped.push(skipped(what.what)),
            Err(what) => measured.skipped.push(skipped(what.what).for_want_of(Tool::CCompiler, what.install)),
        }
    }
    let figure = bench::Figure::estimated("latency", estimate.latency_s, bench::Unit::Seconds);
    add("student.latency.estimated", &model(&job.profile), figure);
    if let Some(Ok((path, _))) = &built.target {
        let info = elf::inspect(path)?;
        measured.findings = elf::check(&info, &job.profile).iter().map(ToString::to_string).collect();
        measured.elf = Some(info);
        measured.own = stages::own(path);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_counted_one_by_one_and_those_without_samples_left_out() {
        let names: Vec<String> = ["cat", "dog", "cow"].map(String::from).to_vec();
        let truth = [Some(0), Some(0), None, Some(2), Some(0)];
        let rows = by_class(&names, &truth, Some(&[0, 0, 0, 1, 0]), &[0, 2, 0, 2, 0]);
        let row = |name: &str, samples, teacher, student| ClassRow { name: name.into(), samples, teacher, student };
        assert_eq!(rows, [row("cat", 3, Some(1.0), 2.0 / 3.0), row("cow", 1, Some(0.0), 1.0)]);
        assert_eq!(by_class(&names, &truth, None, &[0; 5])[0].teacher, None);
    }
}
