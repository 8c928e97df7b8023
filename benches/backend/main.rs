//! Random networks, or those of files, through everything behind the importer; `tests/networks/backend` says what must hold.
//!
//! `cargo bench --bench backend -- [--seeds A..B] [FILE.onnx…] [--whole] [--print] [--build N --to DIR] [--write DIR]`
//!
//! - `--seeds A..B`: the networks of the generator in `tests/networks/random`; each is narrowed by chance, unless `--whole`.
//! - `FILE.onnx…`: the networks of files, as they are.
//! - `--print`: each network as text.
//! - `--build N --to DIR`: the programs of the first N that compile, int8 and f32, are generated as one cargo workspace, built
//!   for this machine without a network, and run: what they answer equals the reference interpreter bit for bit.
//! - `--write DIR`: networks, samples and answers, for `benches/backend/peer.py`, which compares with ONNX Runtime.

#[path = "../../tests/networks/backend/mod.rs"]
mod backend;
mod built;
#[path = "../../tests/networks/random/mod.rs"]
mod random;
mod written;

use backend::{CALIBRATED, Case, Compiled, Figures, Outcome, check};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

/// Samples of each network.
const SAMPLES: usize = CALIBRATED + 16;
/// Networks that are held at once.
const CHUNK: usize = 64;

#[derive(Default)]
struct Options {
    seeds: std::ops::Range<u64>,
    files: Vec<PathBuf>,
    whole: bool,
    print: bool,
    build: usize,
    to: Option<PathBuf>,
    write: Option<PathBuf>,
}

fn options() -> Option<Options> {
    let mut arguments = std::env::args().skip(1).filter(|a| a != "--bench");
    let mut options = Options::default();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seeds" => {
                let range = arguments.next()?;
                let (from, to) = range.split_once("..")?;
                options.seeds = from.parse().ok()?..to.parse().ok()?;
            }
            "--whole" => options.whole = true,
            "--print" => options.print = true,
            "--build" => options.build = arguments.next()?.parse().ok()?,
            "--to" => options.to = Some(arguments.next()?.into()),
            "--write" => options.write = Some(arguments.next()?.into()),
            file if !file.starts_with('-') => options.files.push(file.into()),
            _ => return None,
        }
    }
    let complete = (options.build > 0) == options.to.is_some();
    (complete && (!options.seeds.is_empty() || !options.files.is_empty())).then_some(options)
}

/// Where a network comes from.
#[derive(Clone)]
enum Source {
    Seed(u64),
    File(PathBuf),
}

impl Source {
    fn name(&self) -> String {
        match self {
            Source::Seed(seed) => format!("seed-{seed}"),
            Source::File(path) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        }
    }

    /// # Errors
    /// When the file cannot be read.
    fn case(&self, whole: bool) -> Result<Case, String> {
        let (graph, seed) = match self {
            Source::Seed(seed) => (random::network(*seed), *seed),
            Source::File(path) => (kdc::onnx::load(path).map_err(|e| e.to_string())?, 0),
        };
        let derive = !whole && matches!(self, Source::Seed(_));
        Ok(Case { samples: random::samples(&graph, SAMPLES, seed), graph, seed, derive })
    }
}

fn main() -> ExitCode {
    let Some(options) = options() else {
        eprintln!(
            "usage: backend [--seeds A..B] [FILE.onnx...] [--whole] [--print] [--build N --to DIR] [--write DIR]; --build and --to go together"
        );
        return ExitCode::from(2);
    };
    match run(&options) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
    }
}

/// How many networks something was wrong with.
fn run(options: &Options) -> Result<usize, String> {
    std::panic::set_hook(Box::new(|panic| eprintln!("{panic}")));
    let files = options.files.iter().cloned().map(Source::File);
    let sources: Vec<Source> = options.seeds.clone().map(Source::Seed).chain(files).collect();
    let mut workspace = options.to.clone().map(built::Workspace::new).transpose()?;
    let (mut counts, mut none, mut figures) =
        (BTreeMap::<&str, usize>::new(), BTreeMap::<String, usize>::new(), vec![]);
    for chunk in sources.chunks(CHUNK) {
        let one = |source: &Source| {
            let case = source.case(options.whole)?;
            if options.print {
                println!("{}", case.graph);
            }
            let outcome =
                catch_unwind(AssertUnwindSafe(|| check(&case))).unwrap_or_else(|_| Err("it panicked".into()))?;
            Ok((case, outcome))
        };
        let results: Vec<Result<(Case, Outcome), String>> = chunk.par_iter().map(one).collect();
        for (source, result) in chunk.iter().zip(results) {
            let what = match result {
                Err(why) => {
                    println!("FAULT {}: {why}", source.name());
                    "faults"
                }
                Ok((_, Outcome::NoKernel(why))) => {
                    *none.entry(kind(&why)).or_default() += 1;
                    "without a kernel"
                }
                Ok((_, Outcome::NotFinite(_))) => "not finite",
                Ok((case, Outcome::Compiled(compiled))) => {
                    figures.push((compiled.figures, source.name()));
                    keep(&case, &compiled, &source.name(), options, workspace.as_mut())?;
                    "compiled"
                }
            };
            *counts.entry(what).or_default() += 1;
        }
    }
    println!("{} networks: {counts:?}", sources.len());
    none.iter().for_each(|(why, count)| println!("{count:6} without a kernel: {why}"));
    print_figures(figures);
    let faults = counts.get("faults").copied().unwrap_or(0);
    let differ = workspace.map(|w| w.run()).transpose()?.unwrap_or(0);
    Ok(faults + differ)
}

/// Keeps what later programs read.
fn keep(
    case: &Case,
    compiled: &Compiled,
    name: &str,
    options: &Options,
    workspace: Option<&mut built::Workspace>,
) -> Result<(), String> {
    if let Some(folder) = &options.write {
        written::write(&folder.join(name), case, compiled)?;
    }
    if let Some(workspace) = workspace.filter(|w| w.networks() < options.build) {
        workspace.add(name, &compiled.programs, &case.samples)?;
    }
    Ok(())
}

/// A message without the node's name.
fn kind(why: &str) -> String {
    why.split("' ").skip(1).collect::<Vec<_>>().join("' ")
}

fn print_figures(mut figures: Vec<(Figures, String)>) {
    if figures.is_empty() {
        return;
    }
    figures.sort_by(|a, b| a.0.program.total_cmp(&b.0.program));
    let at = |share: f64| &figures[((figures.len() - 1) as f64 * share) as usize];
    for (label, share) in [("median", 0.5), ("90%", 0.9), ("99%", 0.99), ("largest", 1.0)] {
        let (Figures { program, plain }, name) = at(share);
        println!(
            "off by, share of the output's range, {label}: {program:.4} (the plainest quantizer {plain:.4}; {name})"
        );
    }
}
