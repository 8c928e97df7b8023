//! Puts everything into the output folder, and says what it came to.

use super::derivation::{Derived, Found};
use super::labelling::TeacherLabels;
use super::measured::{FLOAT_TOLERANCE, Measured, QDQ_STEPS, QdqCheck};
use super::output::{Manifest, Output};
use super::prepared::Prepared;
use super::stages::{Built, Compiled, Exports, Generated, calibration_samples};
use super::training::Trained;
use super::{Artefact, Error, Job};
use crate::bench::Origin;
use crate::graph::Cost;
use crate::program::{Precision, Program};
use crate::report::{
    Accuracy, Arena, Change, FileEntry, Header, Linked, Memory, Plan, Port, Quantity, Report, SCHEMA, Size, Skipped,
    Source, Stage, Storage, Tool, Verdict, layers,
};
use crate::student::Budgets;
use crate::target::{FlashBytes, RamBytes, cost};
use std::path::Path;

/// What all stages made.
pub struct Made {
    pub teacher: Prepared,
    pub student: Derived,
    pub labels: TeacherLabels,
    pub trained: Trained,
    pub compiled: Compiled,
    pub exports: Exports,
    pub generated: Generated,
    pub built: Built,
    pub measured: Measured,
}

/// What users' own engines do with the QDQ file.
const SATURATION: &str = "student.int8.onnx: ONNX Runtime on x86-64 processors without VNNI (Intel before 2019, AMD before Zen 4) \
                          saturates sums of two products in 16 bits and answers otherwise; set the session's entry \
                          session.x64quantprecision to 1 there, as kdc does";
const LOGITS: &str = "the teacher ends in a LogSoftmax, which the program and the exported students leave off: their outputs are \
                      logits, which differ from log-probabilities by one number for each sample; the class is the same";
/// Percentage points of accuracy that quantization may take where nothing is said.
const QUANT_DROP: f64 = 0.3;
/// A program that says something else than the reference interpreter: kept to be looked into, and not under its final name.
pub const REFUTED: &str = "bin/student.refuted";

/// Every setting that was used, as `plan.toml`.
pub fn plan_toml(job: &Job, teacher: &Prepared, student: &Found) -> String {
    let budgets = job.budgets(&teacher.cost);
    let number = |v: Option<u64>| v.map_or("none".to_string(), |v| v.to_string());
    let training = toml::to_string(&job.training).expect("settings are plain data");
    let spec = student.spec.as_ref().map(|s| toml::to_string(s).expect("a specification is plain data"));
    let spec = spec.unwrap_or_default();
    format!(
        "# The plan that was carried out. Paths do not decide anything and are left out.\n\
         kdc = \"{}\"\ntarget = \"{}\"\nseed = {}\nteacher = \"{}\"\ndata = \"{}\"\n\n\
         [budgets]\nmacs = \"{}\"\nparams = \"{}\"\nram_bytes = \"{}\"\nflash_bytes = \"{}\"\nlatency_s = \"{}\"\n\n\
         [student]\nname = {}\nmacs = {}\nparams = {}\n{}\n\
         [quantization]\ncalibration = \"{}\"\nsamples = {}\n\n\
         [training]\n{}",
        env!("CARGO_PKG_VERSION"),
        job.profile.id,
        job.options.seed,
        job.teacher_hash,
        job.data_hash,
        number(budgets.macs),
        number(budgets.params),
        number(budgets.ram_bytes),
        number(budgets.flash_bytes),
        budgets.latency_s.map_or("none".to_string(), |v| v.to_string()),
        toml::Value::from(student.name.as_str()),
        student.cost.macs,
        student.cost.params,
        spec.replace("[kind]", "\n[student.kind]").replace("[widths]", "[student.widths]"),
        job.options.calibration,
        calibration_samples(job),
        training.replace("\n[", "\n[training.").replace("[training.training.", "[training."),
    )
}

/// The report of a plan that is not carried out. `precision`: what the program would be built in.
pub fn plan(job: &Job, teacher: &Prepared, student: &Found, precision: Precision, stages: Vec<Stage>) -> Report {
    let cost = &student.cost;
    let mut report = skeleton(job, teacher, student, precision, stages);
    report.header.dry_run = true;
    let bytes = (cost.ram_bytes, cost.flash_bytes, cost.latency_s);
    report.verdicts = budget_verdicts(job, teacher, (cost.macs, cost.params), bytes, Some(Origin::Estimated));
    report
}

/// The student in words.
fn described(student: &Found) -> String {
    let widths: Vec<usize> = student.spec.iter().flat_map(|s| s.widths.values().copied()).collect();
    if widths.is_empty() { student.name.clone() } else { format!("{}; widths {widths:?}", student.name) }
}

fn skeleton(job: &Job, teacher: &Prepared, student: &Found, precision: Precision, stages: Vec<Stage>) -> Report {
    let training = &job.training;
    let data = &job.data;
    let value = |&id| Port::of(job.teacher.value(id));
    let classes = data.class_names.len();
    Report {
        schema: SCHEMA,
        header: Header {
            model: job.options.model.display().to_string(),
            teacher_hash: job.teacher_hash.clone(),
            teacher_engine: None,
            target: job.profile.id.clone(),
            target_description: job.profile.description.clone(),
            precision,
            seed: job.options.seed,
            kdc: env!("CARGO_PKG_VERSION").into(),
            dry_run: false,
            plan: Plan {
                data: format!(
                    "{}: {} training, {} test samples of {} in {classes} classes",
                    job.data_dir.display(),
                    data.train.len(),
                    data.test.len(),
                    data.train.extents()
                ),
                student: described(student),
                training: match job.trains() {
                    false => "none: the student is taken as it is".into(),
                    true => format!(
                        "{}, {}, lr {}, {} epochs of {} steps of {}",
                        training.objective().map_or_else(|e| e.to_string(), |o| o.describe()),
                        training.optimizer,
                        training.lr,
                        training.epochs,
                        (data.train.len() as f64 * (1.0 - training.validation)) as usize / training.batch_size,
                        training.batch_size
                    ),
                },
                quantization: (precision == Precision::Int8)
                    .then(|| format!("{} over {} training samples", job.options.calibration, calibration_samples(job))),
            },
        },
        inputs: job.teacher.inputs.iter().map(value).collect(),
        outputs: job.teacher.outputs.iter().map(value).collect(),
        size: Size { teacher: teacher.cost, student: Cost { macs: student.cost.macs, params: student.cost.params } },
        accuracy: None,
        memory: None,
        layers: vec![],
        arena: None,
        program: None,
        storage: None,
        measurements: vec![],
        verdicts: vec![],
        candidates: student.candidates.clone(),
        replaced: student.replaced.clone(),
        files: vec![],
        skipped: vec![],
        findings: vec![],
        stages,
    }
}

/// Writes the output folder and its report. A missing toolchain becomes an error only after all else is there.
pub fn finish(
    job: &Job,
    made: Made,
    mut output: Output,
    fingerprint: String,
    stages: Vec<Stage>,
) -> Result<Report, Error> {
    let Made { teacher, student, labels, trained, compiled, exports, generated, built, measured } = made;
    // The folder is named by the files as they were before all of this.
    if super::job::fingerprint(&job.options, &job.profile)? != fingerprint {
        job.unchanged()?;
        return Err(Error::Changed { path: job.data_dir.clone() });
    }
    let mut report = skeleton(job, &teacher, &student.found, compiled.precision, stages);
    report.header.teacher_engine = Some(labels.teacher.engine().into());
    if let (Ok(int8), Precision::Int8) = (&compiled.int8, compiled.precision) {
        let graph = &int8.model.graph;
        report.inputs = graph.inputs.iter().map(|&id| Port::of(graph.value(id))).collect();
        report.outputs = graph.outputs.iter().map(|&id| Port::of(graph.value(id))).collect();
    }
    report.files = write(job, &mut output, &student.found, &trained, &exports, &generated, &built, &measured)?;
    report.layers = layers(compiled.program(), &job.profile);
    let memory = memory(&compiled)?;
    report.memory = Some(memory);
    report.arena = Some(Arena {
        planned: RamBytes(compiled.plan.arena_bytes as u64),
        lower_bound: RamBytes(compiled.plan.lower_bound as u64),
        used: measured.arena_used.map(RamBytes),
        alignment: compiled.plan.alignment,
    });
    report.accuracy = Some(Accuracy {
        split: "test".into(),
        origin: Origin::Measured,
        rows: measured.rows.clone(),
        equality: measured.equality,
        quantization: measured.quantization,
        classes: measured.classes.clone(),
    });
    let linked = built.target.as_ref().and_then(|t| t.as_ref().ok());
    if let (Some((_, toolchain)), Some(info)) = (linked, &measured.elf) {
        report.program = Some(Linked {
            path: if measured.is_refuted() { REFUTED } else { Artefact::Elf.path() }.into(),
            triple: toolchain.triple.clone(),
            rustc: toolchain.version.clone(),
            text: info.sections.text(),
            sections: info.sections.clone(),
            libraries: info.libraries.clone(),
            glibc: info.glibc.map(|g| g.to_string()),
            findings: measured.findings.clone(),
        });
    }
    let sections = measured.elf.as_ref().map(|e| &e.sections);
    let stack = measured.stack_used.map(RamBytes);
    let storage = Storage::new(&memory, job.profile.flash(), job.profile.ram(), sections, measured.own.as_ref(), stack);
    report.storage = Some(storage);
    report.measurements.clone_from(&measured.measurements);
    report.skipped.clone_from(&measured.skipped);
    report.verdicts = verdicts(job, &teacher, &compiled, &storage, &measured);
    report.findings = findings(job, &teacher, &compiled, &report.verdicts);
    if !job.options.build {
        let skipped = Skipped::new("building, and all that is measured with the program", "--no-build");
        report.skipped.push(Skipped { enable: Some("run without --no-build".into()), ..skipped });
    }
    // Without one, the folder counts as unfinished.
    let rustc = linked.filter(|_| !measured.is_refuted()).map(|(_, toolchain)| toolchain.version.clone());
    if let Some(Err(missing)) = &built.target {
        let skipped =
            Skipped::new(format!("building for {}", missing.triple), format!("no {}", missing.what.join(", no ")));
        report.skipped.push(skipped.for_want_of(Tool::Toolchain, Some(missing.command.clone())));
    }
    if let (Some(missing), false) = (&built.no_host, job.profile.is_host()) {
        let why = format!("no {}", missing.what.join(", no "));
        let skipped = Skipped::new("all that is measured with the program on this machine", why);
        report.skipped.push(skipped.for_want_of(Tool::HostToolchain, Some(missing.command.clone())));
    }
    if let (Some(_), Some(equality)) = (linked, measured.equality.filter(|_| measured.is_refuted())) {
        let why = format!(
            "{} of {} values differ from the reference interpreter's: the program is wrong, and is {REFUTED}, to be looked into; \
             please report it with the model",
            equality.differing, equality.values
        );
        report.skipped.push(Skipped::new(Artefact::Elf.path(), why));
    }
    output.put_unlisted("report.json", report.to_json().expect("a report is plain data").as_bytes())?;
    output.put_unlisted("report.txt", report.to_text().as_bytes())?;
    output.finish(Manifest {
        fingerprint,
        seed: job.options.seed,
        teacher: job.teacher_hash.clone(),
        data: job.data_hash.clone(),
        target: job.profile.id.clone(),
        rustc,
        ..Manifest::new()
    })?;
    match built.target {
        Some(Err(source)) => Err(Error::Toolchain { out: job.out.clone(), source }),
        _ => Ok(report),
    }
}

/// Puts what was asked for, and stood its checks, into the output folder.
#[allow(clippy::too_many_arguments, reason = "each is what one stage made")]
fn write(
    job: &Job,
    output: &mut Output,
    student: &Found,
    trained: &Trained,
    exports: &Exports,
    generated: &Generated,
    built: &Built,
    measured: &Measured,
) -> Result<Vec<FileEntry>, Error> {
    let fit = |artefact, made: &Option<Vec<u8>>| {
        let wanted = job.options.emits(artefact) && !measured.unfit.contains(&artefact);
        made.clone().filter(|_| wanted)
    };
    let mut files = vec![];
    let mut entry = |path: &str, bytes: usize, what: &str| {
        files.push(FileEntry { path: path.into(), bytes: bytes as u64, what: what.into() });
    };
    let forms = [
        (Artefact::Onnx, &exports.onnx, "the student in f32"),
        (Artefact::Qdq, &exports.qdq, "the student in int8, with quantize/dequantize pairs"),
        (Artefact::Nnef, &exports.nnef, "the student in f32, for tract"),
    ];
    for (artefact, made, what) in forms {
        if let Some(bytes) = fit(artefact, made) {
            output.put(artefact.path(), &bytes)?;
            entry(artefact.path(), bytes.len(), what);
        }
    }
    if job.options.emits(Artefact::Crate) {
        output.put_folder("crate", &generated.folder)?;
        entry("crate/", folder_bytes(&generated.folder), "the generated crate: student, kernels, runner, C header");
    }
    if let Some(Ok((path, _))) = &built.target {
        let bytes = std::fs::read(path).map_err(|e| Error::read(path, e))?;
        let (name, what) = match measured.is_refuted() {
            true => (REFUTED, "a program that differs from the reference interpreter: not for use"),
            false => (Artefact::Elf.path(), "the program for the board"),
        };
        output.put_program(name, &bytes)?;
        entry(name, bytes.len(), what);
    }
    if let Some(spec) = &student.spec {
        let text = toml::to_string(spec).expect("a specification is plain data");
        output.put("student.toml", text.as_bytes())?;
        entry("student.toml", text.len(), "what pins the student: for --student-spec");
    }
    if let Some(svg) = crate::report::pareto(&student.candidates).ok().flatten() {
        output.put("candidates.svg", svg.as_bytes())?;
        entry("candidates.svg", svg.len(), "the candidates: latency and accuracy, and which no other beats in both");
    }
    let (json, csv) = (trained.log.json(), trained.log.csv(job.data.answers.score()));
    output.put("train/log.json", &json)?;
    entry("train/log.json", json.len(), "losses and accuracies by epoch");
    output.put("train/log.csv", csv.as_bytes())?;
    entry("train/log.csv", csv.len(), "the same as a table");
    if let Some(svg) = trained.log.curves() {
        output.put("train/curves.svg", svg.as_bytes())?;
        entry("train/curves.svg", svg.len(), "the same as a picture");
    }
    Ok(files)
}

fn folder_bytes(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |e: std::fs::DirEntry| match e.metadata() {
        Ok(m) if m.is_dir() => folder_bytes(&e.path()),
        Ok(m) => m.len() as usize,
        Err(_) => 0,
    };
    entries.map(size).sum()
}

/// Weights and activations, and what they would be in `f32`.
fn memory(compiled: &Compiled) -> Result<Memory, Error> {
    let weights = |p: &Program| {
        let constants = crate::report::constant_bytes(p);
        FlashBytes(constants)
    };
    let float_plan = crate::program::plan(&compiled.float_program)?;
    Ok(Memory {
        weights: Change { bytes: weights(compiled.program()), float_bytes: weights(&compiled.float_program) },
        activations: Change {
            bytes: RamBytes(compiled.plan.arena_bytes as u64),
            float_bytes: RamBytes(float_plan.arena_bytes as u64),
        },
    })
}

fn verdicts(
    job: &Job,
    teacher: &Prepared,
    compiled: &Compiled,
    storage: &Storage,
    measured: &Measured,
) -> Vec<Verdict> {
    let (total, _) = crate::graph::cost(&compiled.float);
    let latency = cost::estimate(compiled.program(), &job.profile).latency_s;
    // What the student takes, code included, where it was built; else what is known. The runtime around it on a board with
    // a system of its own is not the student's.
    let ram = storage.own_ram.map_or(storage.activations.0, |r| r.0);
    let flash = storage.own_flash.map_or(storage.weights.0, |f| f.0);
    let bytes = (ram, flash, latency);
    let seen = storage.stack.and(Some(Origin::Measured));
    let mut verdicts = budget_verdicts(job, teacher, (total.macs, total.params), bytes, seen);
    let accuracy = |name| measured.rows.iter().find(|r| r.network == name).map(|r| r.accuracy);
    use crate::report::Network::{StudentF32, StudentInt8, Teacher};
    // Rounded, so that a drop of exactly the limit is not a breach by what binary fractions cannot say.
    let points = |from: Option<f64>, to: Option<f64>| Some((1e11 * (from? - to?)).round() / 1e9);
    let mut judge = |name: &str, source, quantity, value: Option<f64>, limit, origin| {
        verdicts.extend(value.map(|v| Verdict::new(name, source, quantity, (v, limit), origin)));
    };
    let exact = Some(Origin::Measured);
    if compiled.precision == Precision::Int8 {
        let drop = points(accuracy(StudentF32), accuracy(StudentInt8));
        let chance = measured.quantization.map_or(0.0, |changes| (1e9 * changes.by_chance()).round() / 1e9);
        let (source, limit) = match job.options.max_quant_drop {
            Some(asked) => (Source::Asked, asked),
            // What chance explains says nothing of the quantization.
            None => (Source::Default, QUANT_DROP.max(chance)),
        };
        judge("--max-quant-drop", source, Quantity::Points, drop, limit, exact);
    }
    // Where no integers were asked for, the student in floats is all there is.
    let integers = accuracy(StudentInt8).filter(|_| compiled.precision == Precision::Int8);
    let last = integers.or(accuracy(StudentF32));
    if let Some(limit) = job.options.max_accuracy_drop {
        let drop = points(accuracy(Teacher), last);
        judge("--max-accuracy-drop", Source::Asked, Quantity::Points, drop, limit, exact);
    }
    if let Some(goal) = job.options.min_accuracy {
        let name = format!("--min-accuracy {}%: points short of it", (1e6 * goal).round() / 1e4);
        let short = points(Some(goal), last).map(|p| p.max(0.0));
        judge(&name, Source::Asked, Quantity::Points, short, 0.0, exact);
    }
    let differing = measured.equality.map(|e| e.differing as f64);
    judge("values that differ from the reference", Source::Default, Quantity::Count, differing, 0.0, exact);
    let planned = compiled.plan.arena_bytes as f64;
    let off = measured.arena_used.map(|used| (used as f64 - planned).abs());
    judge("arena used against planned", Source::Default, Quantity::Bytes, off, 0.0, exact);
    // Of what is left out nothing is judged: it is no part of what was made.
    let nnef = measured.nnef.filter(|_| !measured.unfit.contains(&Artefact::Nnef));
    let parts = nnef.map(|n| (n.difference / FLOAT_TOLERANCE).ceil());
    judge("NNEF outputs, in ten-thousandths of their scale", Source::Export, Quantity::Count, parts, 1.0, exact);
    let other_class = nnef.map(|n| n.other_class as f64);
    judge(
        "samples that tract classifies otherwise from NNEF",
        Source::Export,
        Quantity::Count,
        other_class,
        0.0,
        exact,
    );
    // The whole network is judged by its accuracy: see the module on operators.
    let qdq = measured.qdq.filter(|_| job.options.emits(Artefact::Qdq) && !measured.unfit.contains(&Artefact::Qdq));
    let compared = qdq.map(|q| q.operators).filter(|check| check.operators > 0);
    let (largest, steps) = (compared.map(|check| f64::from(check.largest)), f64::from(QDQ_STEPS));
    judge(
        "largest per-operator difference of the QDQ file, in quantization steps",
        Source::Export,
        Quantity::Count,
        largest,
        steps,
        exact,
    );
    let (points, limit) = (qdq.map(|q| q.points()), QdqCheck::allowed(job.data.test.len()));
    judge("accuracy by the QDQ file, difference", Source::Export, Quantity::Points, points, limit, exact);
    let findings = measured.elf.as_ref().map(|_| measured.findings.len() as f64);
    judge("what does not suit the target", Source::Target, Quantity::Count, findings, 0.0, None);
    verdicts
}

/// What is to be known of the exported files: where engines answer otherwise than the student, here and elsewhere.
fn findings(job: &Job, teacher: &Prepared, compiled: &Compiled, verdicts: &[Verdict]) -> Vec<String> {
    let differing = verdicts.iter().filter(|v| !v.met && !v.decides());
    let mut lines: Vec<String> = differing
        .map(|v| format!("{v}; the program is not concerned, but whoever runs that file gets other answers"))
        .collect();
    if job.options.emits(Artefact::Qdq) && compiled.precision == Precision::Int8 {
        lines.push(SATURATION.into());
    }
    if teacher.softmax.is_some() && teacher.deployed_softmax().is_none() {
        lines.push(LOGITS.into());
    }
    lines
}

fn budget_verdicts(
    job: &Job,
    teacher: &Prepared,
    (macs, params): (u64, u64),
    (ram, flash, latency): (u64, u64, f64),
    ram_origin: Option<Origin>,
) -> Vec<Verdict> {
    let asked: &Budgets = &job.options.budgets;
    let budgets = job.budgets(&teacher.cost);
    let source = |asked: bool, otherwise| if asked { Source::Asked } else { otherwise };
    let estimated = Some(Origin::Estimated);
    let count = |v: Option<u64>| v.map(|v| v as f64);
    let (default, target) = (Source::Default, Source::Target);
    let all = [
        ("--max-macs", source(asked.macs.is_some(), default), Quantity::Macs, macs as f64, count(budgets.macs), None),
        (
            "--max-params",
            source(asked.params.is_some(), default),
            Quantity::Parameters,
            params as f64,
            count(budgets.params),
            None,
        ),
        (
            "--max-ram",
            source(asked.ram_bytes.is_some(), target),
            Quantity::Bytes,
            ram as f64,
            count(budgets.ram_bytes),
            ram_origin,
        ),
        (
            "--max-flash",
            source(asked.flash_bytes.is_some(), target),
            Quantity::Bytes,
            flash as f64,
            count(budgets.flash_bytes),
            None,
        ),
        (
            "--max-latency",
            source(asked.latency_s.is_some(), target),
            Quantity::Seconds,
            latency,
            budgets.latency_s,
            estimated,
        ),
    ];
    let verdict = |(name, source, quantity, value, limit, origin): (&str, _, _, _, Option<f64>, _)| {
        Some(Verdict::new(name, source, quantity, (value, limit?), origin))
    };
    all.into_iter().filter_map(verdict).collect()
}
