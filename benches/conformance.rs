//! Runs models with stored inputs and outputs on the executor: ONNX's own operator tests, or any in their layout
//! (`NAME/model.onnx`, `NAME/test_data_set_0/{input,output}_N.pb`).
//!
//! `cargo bench --bench conformance -- FOLDER [--each] [--tolerance 1e-3]`; the operator tests come with the Python
//! package onnx 1.18, in `onnx/backend/test/data/node`. Every case passes, is unsupported (with the reason), is wrong,
//! or panics; cases of several nodes (the expanded forms of functions) are counted as one row.

use kdc::exec::{Datum, Mode, Network};
use kdc::graph::{Graph, Tensor};
use kdc::host::Numbers;
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

fn tensors(case: &Path, kind: &str) -> Result<Vec<Tensor>, String> {
    let file = |i: usize| case.join("test_data_set_0").join(format!("{kind}_{i}.pb"));
    let read = |path: PathBuf| {
        let bytes = fs::read(path).map_err(|e| e.to_string())?;
        onnx::import_tensor(&bytes).map_err(|e| e.to_string())
    };
    (0..).map(file).take_while(|p| p.is_file()).map(read).collect()
}

fn run(case: &Path, options: &Options) -> Verdict {
    let (inputs, expected) = match (tensors(case, "input"), tensors(case, "output")) {
        (Ok(inputs), Ok(expected)) => (inputs, expected),
        (Err(why), _) | (_, Err(why)) => return Verdict::Unsupported(why),
    };
    match on_exec(case, inputs) {
        Err(why) => Verdict::Unsupported(why),
        Ok(computed) => compare(&computed, &expected, options.tolerance),
    }
}

fn on_exec(case: &Path, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, String> {
    let mut graph: Graph = onnx::load(&case.join("model.onnx")).map_err(|e| e.to_string())?;
    pass::normalize(&mut graph).map_err(|e| e.to_string())?;
    // Inputs that nobody reads are still inputs; those that an initializer names are not.
    let network = Network::new(&graph, &burn::tensor::Device::flex()).map_err(|e| e.to_string())?;
    let inputs: Vec<Datum> = inputs.into_iter().map(Datum::from).collect();
    let outputs = network.forward(inputs, &[], Mode::Infer).map_err(|e| e.to_string())?;
    outputs.outputs.iter().map(|o| o.to_host().map_err(|e| e.to_string())).collect()
}

/// As ONNX's own runner: relative and absolute tolerance together; here the absolute one is relative to the output's
/// scale, since sums of many numbers round at the size of the numbers.
fn compare(computed: &[Tensor], expected: &[Tensor], tolerance: f64) -> Verdict {
    if computed.len() < expected.len() {
        return Verdict::Wrong(format!("{} outputs, expected {}", computed.len(), expected.len()));
    }
    for (c, e) in computed.iter().zip(expected) {
        if c.shape != e.shape {
            return Verdict::Wrong(format!("shape {:?}, expected {:?}", c.shape, e.shape));
        }
        let (c, e) = (Numbers::of(c).real(), Numbers::of(e).real());
        let scale = e.iter().filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max(v.abs()));
        for (i, (c, e)) in c.iter().zip(&e).enumerate() {
            let near = (c - e).abs() <= tolerance * e.abs() + 1e-2 * tolerance * scale + 1e-7;
            let alike = c == e || (c.is_nan() && e.is_nan()) || near;
            if !alike {
                return Verdict::Wrong(format!("element {i} is {c}, expected {e}"));
            }
        }
    }
    Verdict::Passed
}
