//! Runs models with stored inputs and outputs on the executor: ONNX's own operator tests, or any in their layout
//! (`NAME/model.onnx`, `NAME/test_data_set_0/{input,output}_N.pb`).
//!
//! `cargo bench --bench conformance -- FOLDER [--each] [--tolerance 1e-3]`; the operator tests come with the Python
//! package onnx 1.18, in `onnx/backend/test/data/node`. Every case passes, is unsupported (with the reason), is wrong,
//! or panics; cases of several nodes (the expanded forms of functions) are counted as one row.

#[path = "../tests/networks/case.rs"]
mod case;

use kdc::graph::Tensor;
use kdc::{onnx, pass};
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Clone, Debug, PartialEq)]
enum Verdict {
    Passed,
    Unsupported(String),
    Wrong(String),
    Panicked,
}

struct Options {
    folder: PathBuf,
    each: bool,
    tolerance: f64,
}

fn options() -> Option<Options> {
    let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    let mut options = Options { folder: arguments.next()?.into(), each: false, tolerance: 1e-3 };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--each" => options.each = true,
            "--tolerance" => options.tolerance = arguments.next()?.parse().ok()?,
            _ => return None,
        }
    }
    Some(options)
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!("usage: conformance FOLDER [--each] [--tolerance SHARE]");
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
    let mut table: BTreeMap<String, [usize; 4]> = BTreeMap::new();
    for case in &cases {
        let verdict = catch_unwind(AssertUnwindSafe(|| run(case, &options))).unwrap_or(Verdict::Panicked);
        let column = match verdict {
            Verdict::Passed => 0,
            Verdict::Unsupported(_) => 1,
            Verdict::Wrong(_) => 2,
            Verdict::Panicked => 3,
        };
        if options.each && verdict != Verdict::Passed || column > 1 {
            println!("{}: {verdict:?}", case.file_name().unwrap_or_default().to_string_lossy());
        }
        table.entry(operator(case)).or_default()[column] += 1;
    }
    println!("{:<28} {:>7} {:>12} {:>6} {:>9}", "operator", "passed", "unsupported", "wrong", "panicked");
    let mut total = [0; 4];
    for (operator, row) in &table {
        println!("{operator:<28} {:>7} {:>12} {:>6} {:>9}", row[0], row[1], row[2], row[3]);
        total.iter_mut().zip(row).for_each(|(sum, n)| *sum += n);
    }
    println!("{:<28} {:>7} {:>12} {:>6} {:>9}", "all", total[0], total[1], total[2], total[3]);
    let whole = table.iter().filter(|(name, row)| !name.contains(' ') && row[0] > 0 && row[1..] == [0, 0, 0]).count();
    println!("operators with every case passed: {whole}");
    if total[2] + total[3] == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
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

fn run(case: &Path, options: &Options) -> Verdict {
    let (inputs, expected) = match (case::tensors(case, "input"), case::tensors(case, "output")) {
        (Ok(inputs), Ok(expected)) => (inputs, expected),
        (Err(why), _) | (_, Err(why)) => return Verdict::Unsupported(why),
    };
    // numpy has no bfloat16: the tests store its bits as integers, and only their names say so.
    let name = case.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let bits = |tensors: Vec<Tensor>, stored: bool| match stored {
        true => tensors.iter().map(from_bfloat16).collect(),
        false => tensors,
    };
    let (inputs, expected) =
        (bits(inputs, name.contains("_BFLOAT16_to")), bits(expected, name.contains("_to_BFLOAT16")));
    match on_exec(case, inputs) {
        Err(why) => Verdict::Unsupported(why),
        Ok(computed) => {
            // Half precision is computed in f32 here; what is cut to eight bits differs by up to the last one.
            let coarse = name.contains("_to_BFLOAT16");
            let tolerance = if coarse { 1.0 / 128.0 } else { options.tolerance };
            let wrong = case::difference(&computed, &expected, tolerance, 1e-2 * options.tolerance);
            wrong.map_or(Verdict::Passed, Verdict::Wrong)
        }
    }
}

/// Numbers whose upper half is stored.
fn from_bfloat16(tensor: &Tensor) -> Tensor {
    let bits = kdc::host::Numbers::of(tensor).real();
    Tensor::f32(tensor.shape.clone(), bits.into_iter().map(|b| f32::from_bits((b as u32) << 16)).collect())
}

/// First as the file is. Where that needs the contents of an operand (extents, axes, indices that ONNX's tests pass as
/// inputs and networks hold as constants), with the integer inputs and scalars given beforehand.
fn on_exec(path: &Path, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, String> {
    let first = as_given(path, inputs.clone(), &onnx::Given::default());
    let Err(why) = first else { return first };
    let model = fs::read(path.join("model.onnx")).map_err(|e| e.to_string())?;
    let names = onnx::inputs(model.into()).map_err(|e| e.to_string())?;
    let fixed = |t: &Tensor| !t.dtype().is_float() || t.len() <= 1;
    let (mut given, mut rest) = (onnx::Given::default(), vec![]);
    for (i, (name, tensor)) in names.into_iter().zip(inputs).enumerate() {
        match i > 0 && fixed(&tensor) || (i == 0 && !tensor.dtype().is_float() && why.contains("computed while")) {
            true => _ = given.values.insert(name, tensor),
            false => rest.push(tensor),
        }
    }
    if given.values.is_empty() { Err(why) } else { as_given(path, rest, &given) }
}

fn as_given(path: &Path, inputs: Vec<Tensor>, given: &onnx::Given) -> Result<Vec<Tensor>, String> {
    let mut graph = onnx::load_with(&path.join("model.onnx"), given).map_err(|e| e.to_string())?;
    pass::normalize(&mut graph).map_err(|e| e.to_string())?;
    case::computed(&graph, inputs)
}
