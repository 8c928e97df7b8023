//! Runs models with stored inputs and outputs on the executor, and on tract beside it: ONNX's own operator tests, or any
//! in their layout (`NAME/model.onnx`, `NAME/test_data_set_0/{input,output}_N.pb`).
//!
//! `cargo bench --bench conformance -- FOLDER [--each] [--exported] [--teacher] [--tolerance 1e-3 | --of-scale 1e-4]`; the operator
//! tests come with the Python package onnx 1.18, in `onnx/backend/test/data/node`. `--exported` runs what kdc writes after
//! reading the file. `--of-scale` judges by this share of the output's own scale alone, or by one quantization step of an
//! output that is quantized. `--teacher` runs tract as kdc runs it for a teacher: what tract cannot read or would answer
//! wrongly is written anew by kdc first. Every case passes, is excluded as SUPPORTED-OPERATORS.md says (`kdc::onnx::LIMITS`), is
//! unsupported (with the reason), is wrong, or panics; cases of several nodes (the expanded forms of functions) are
//! counted as one row.

#[path = "../../tests/networks/case.rs"]
mod case;
mod peer;

use kdc::graph::Tensor;
use kdc::teacher::{self, EngineChoice};
use kdc::{onnx, pass};
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    Passed,
    Excluded(&'static str),
    Unsupported(String),
    Wrong(String),
    Panicked,
}

impl Verdict {
    fn column(&self) -> usize {
        match self {
            Verdict::Passed => 0,
            Verdict::Excluded(_) => 1,
            Verdict::Unsupported(_) => 2,
            Verdict::Wrong(_) => 3,
            Verdict::Panicked => 4,
        }
    }
}

struct Options {
    folder: PathBuf,
    each: bool,
    tolerance: f64,
    of_scale: Option<f64>,
    exported: bool,
    teacher: bool,
}

fn options() -> Option<Options> {
    let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    let mut options = Options {
        folder: arguments.next()?.into(),
        each: false,
        tolerance: 1e-3,
        of_scale: None,
        exported: false,
        teacher: false,
    };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--each" => options.each = true,
            "--teacher" => options.teacher = true,
            "--exported" => options.exported = true,
            "--tolerance" => options.tolerance = arguments.next()?.parse().ok()?,
            "--of-scale" => options.of_scale = Some(arguments.next()?.parse().ok()?),
            _ => return None,
        }
    }
    Some(options)
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("usage: conformance FOLDER [--each] [--exported] [--teacher] [--tolerance SHARE] [--of-scale SHARE]");
        return ExitCode::from(2);
    };
    let Ok(entries) = fs::read_dir(&options.folder) else {
        eprintln!("{} cannot be read", options.folder.display());
        return ExitCode::from(2);
    };
    let mut cases: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| p.join("model.onnx").is_file()).collect();
    cases.sort();
    std::panic::set_hook(Box::new(|_| ()));
    let mut table: BTreeMap<String, [[usize; 5]; 2]> = BTreeMap::new();
    for path in &cases {
        let row = table.entry(operator(path)).or_default();
        for (engine, run) in [("kdc", run_kdc as fn(&Path, &Options) -> Verdict), ("tract", run_tract)] {
            let verdict = catch_unwind(AssertUnwindSafe(|| run(path, &options))).unwrap_or(Verdict::Panicked);
            row[usize::from(engine == "tract")][verdict.column()] += 1;
            let ours = engine == "kdc" && (options.each && verdict != Verdict::Passed || verdict.column() > 2);
            if ours || (options.each && verdict != Verdict::Passed) {
                println!("{engine} {}: {verdict:?}", path.file_name().unwrap_or_default().to_string_lossy());
            }
        }
    }
    let columns = "passed excluded unsupp. wrong panic".split(' ').map(|c| format!("{c:>9}")).collect::<String>();
    println!("{:<32} {columns}    tract: {columns}", "operator");
    let cells = |row: &[usize; 5]| row.iter().map(|n| format!("{n:>9}")).collect::<String>();
    let mut total = [[0; 5]; 2];
    for (operator, rows) in &table {
        println!("{operator:<32} {}           {}", cells(&rows[0]), cells(&rows[1]));
        for (sums, row) in total.iter_mut().zip(rows) {
            sums.iter_mut().zip(row).for_each(|(sum, n)| *sum += n);
        }
    }
    println!("{:<32} {}           {}", "all", cells(&total[0]), cells(&total[1]));
    let single = |name: &str| !name.contains(' ') && !name.starts_with('(');
    let whole = |which: usize| {
        table.iter().filter(|(name, rows)| single(name) && rows[which][0] > 0 && rows[which][2..] == [0, 0, 0]).count()
    };
    println!("operators with every case passed but those excluded: {}, tract: {}", whole(0), whole(1));
    let teachers: usize = if options.teacher { total[1][2..].iter().sum() } else { 0 };
    if total[0][3] + total[0][4] + teachers == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// The operator that a case is about.
fn operator(case: &Path) -> String {
    let names = fs::read(case.join("model.onnx")).ok().and_then(|bytes| onnx::operators(bytes.into()).ok());
    match names.as_deref() {
        Some([one]) => one.clone(),
        Some(_) => "(several nodes)".into(),
        None => "(not decoded)".into(),
    }
}

fn run_kdc(path: &Path, options: &Options) -> Verdict {
    // The stored results wrap around where the specification saturates; ONNX Runtime's are those of kdc.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.starts_with("test_qlinearmatmul_") && name.contains("_int8_") {
        return Verdict::Excluded("the case contradicts the specification");
    }
    match judged(path, options, on_exec) {
        Verdict::Unsupported(why) => excluded(path).map_or(Verdict::Unsupported(why), Verdict::Excluded),
        other => other,
    }
}

/// What the table of operators says that is not read, if that is why a case cannot be run.
fn excluded(path: &Path) -> Option<&'static str> {
    let model = path.join("model.onnx");
    let whole = onnx::load(&model);
    if let Err(error) = &whole
        && matches!(error.inner(), onnx::Error::Opset(_))
    {
        return Some("the opset");
    }
    let limit = onnx::limit(&operator(path))?;
    let met = |read: &Result<_, _>| onnx::unread(read).iter().any(|unread| limit.unread.contains(unread));
    let known = || {
        let names = onnx::inputs(fs::read(&model).ok()?.into()).ok()?;
        let inputs = case::tensors(path, "input").ok()?;
        (0..LEVELS)
            .map(|level| given(&names, &inputs, level).0)
            .any(|given| met(&onnx::load_with(&model, &given)))
            .then_some(())
    };
    (met(&whole) || known().is_some()).then_some(limit.not)
}

fn run_tract(path: &Path, options: &Options) -> Verdict {
    judged(path, options, if options.teacher { as_teacher } else { peer::on_tract })
}

/// On tract, as kdc runs it.
fn as_teacher(path: &Path, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, String> {
    let teacher = teacher::open(&path.join("model.onnx"), &[], EngineChoice::Tract, teacher::UNCOMPARED)
        .map_err(|e| e.to_string())?;
    Ok(teacher.run(&inputs).map_err(|e| e.to_string())?.outputs)
}

fn judged(path: &Path, options: &Options, run: fn(&Path, Vec<Tensor>) -> Result<Vec<Tensor>, String>) -> Verdict {
    let (inputs, expected) = match (case::tensors(path, "input"), case::tensors(path, "output")) {
        (Ok(inputs), Ok(expected)) => (inputs, expected),
        (Err(why), _) | (_, Err(why)) => {
            let refused = onnx::load(&path.join("model.onnx")).err().map(|e| e.to_string());
            return Verdict::Unsupported(refused.unwrap_or(why));
        }
    };
    // numpy has no bfloat16: the tests store its bits as integers, and only their names say so.
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let bits = |tensors: Vec<Tensor>, stored: bool| match stored {
        true => tensors.iter().map(from_bfloat16).collect(),
        false => tensors,
    };
    let (inputs, expected) =
        (bits(inputs, name.contains("_BFLOAT16_to")), bits(expected, name.contains("_to_BFLOAT16")));
    let computed = match options.exported {
        true => written(path).and_then(|copy| run(copy.path(), inputs)),
        false => run(path, inputs),
    };
    match computed {
        Err(why) => Verdict::Unsupported(why),
        Ok(computed) => {
            // Half precision is computed in f32 here; what is cut to eight bits differs by up to the last one.
            let coarse = name.contains("_to_BFLOAT16");
            let tolerance = if coarse { 1.0 / 128.0 } else { options.tolerance };
            let wrong = match options.of_scale {
                None => case::difference(&computed, &expected, tolerance, 1e-2 * options.tolerance),
                Some(share) => case::difference(&computed, &expected, 0.0, step(path, &expected).unwrap_or(share)),
            };
            wrong.map_or(Verdict::Passed, Verdict::Wrong)
        }
    }
}

/// The quantization step of the first output as a share of its scale, if it has one; that of stored integers is 1.
fn step(path: &Path, expected: &[Tensor]) -> Option<f64> {
    let graph = onnx::load(&path.join("model.onnx")).ok()?;
    let output = graph.value(*graph.outputs.first()?);
    let step = if output.dtype.is_float() { output.quant.as_ref()?.scale[0] } else { 1.0 };
    let scale = expected.first()?.to_f32().iter().fold(0.0f32, |m, v| m.max(v.abs()));
    Some(1.01 * f64::from(step / scale))
}

/// A copy of a case whose model kdc has read and written.
fn written(path: &Path) -> Result<tempfile::TempDir, String> {
    let mut graph = onnx::load(&path.join("model.onnx")).map_err(|e| e.to_string())?;
    pass::normalize(&mut graph).map_err(|e| e.to_string())?;
    let copy = tempfile::tempdir().map_err(|e| e.to_string())?;
    let model = onnx::export(&graph).map_err(|e| e.to_string())?;
    fs::write(copy.path().join("model.onnx"), model).map_err(|e| e.to_string())?;
    let data = "test_data_set_0";
    fs::create_dir(copy.path().join(data)).map_err(|e| e.to_string())?;
    for file in fs::read_dir(path.join(data)).map_err(|e| e.to_string())?.flatten() {
        fs::copy(file.path(), copy.path().join(data).join(file.file_name())).map_err(|e| e.to_string())?;
    }
    Ok(copy)
}

/// Numbers whose upper half is stored.
fn from_bfloat16(tensor: &Tensor) -> Tensor {
    let bits = kdc::host::Numbers::of(tensor).real();
    Tensor::f32(tensor.shape.clone(), bits.into_iter().map(|b| f32::from_bits((b as u32) << 16)).collect())
}

/// First as the file is. Where that needs more (extents, axes, indices, statistics that ONNX's tests pass as inputs and
/// networks hold as constants), with the shapes and the contents of ever more inputs given beforehand: what is integer
/// or a scalar, all but the first, all.
fn on_exec(path: &Path, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, String> {
    let first = as_given(path, inputs.clone(), &onnx::Given::default());
    let Err(mut why) = first else { return first };
    let model = fs::read(path.join("model.onnx")).map_err(|e| e.to_string())?;
    let names = onnx::inputs(model.into()).map_err(|e| e.to_string())?;
    for level in 0..LEVELS {
        let (given, rest) = given(&names, &inputs, level);
        match as_given(path, rest, &given) {
            Ok(outputs) => return Ok(outputs),
            // Less may be known of the operands than of why they will not do.
            Err(other) if !why.contains(&other) => why += &format!("; {other}"),
            Err(_) => {}
        }
    }
    Err(why)
}

/// How much is given beforehand, at most.
const LEVELS: usize = 4;

/// What is known of the inputs beforehand, and those that are not.
fn given(names: &[String], inputs: &[Tensor], level: usize) -> (onnx::Given, Vec<Tensor>) {
    let small = |t: &Tensor| !t.dtype().is_float() || t.len() <= 1;
    let fixed = |i: usize, t: &Tensor| match level {
        0 => false,
        1 => i > 0 && small(t),
        2 => i > 0,
        _ => true,
    };
    let (mut given, mut rest) = (onnx::Given::default(), vec![]);
    for (i, (name, tensor)) in names.iter().cloned().zip(inputs.iter().cloned()).enumerate() {
        match fixed(i, &tensor) {
            true => _ = given.values.insert(name, tensor),
            false => {
                given.shapes.insert(name, tensor.shape.clone());
                rest.push(tensor);
            }
        }
    }
    (given, rest)
}

fn as_given(path: &Path, inputs: Vec<Tensor>, given: &onnx::Given) -> Result<Vec<Tensor>, String> {
    let mut graph = onnx::load_with(&path.join("model.onnx"), given).map_err(|e| e.to_string())?;
    pass::normalize(&mut graph).map_err(|e| e.to_string())?;
    case::computed_apart(&graph, inputs)
}
