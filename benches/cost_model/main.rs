//! How good the cost model is: `cargo bench --bench cost_model`.
//!
//! Twenty networks within a factor two of each other's multiply-accumulates are built for this machine in both
//! precisions. What the profile `host` predicts (*estimated*) stands beside what they take (*measured*): the least of
//! the medians of short runs, all programs taking turns. With `--target raspberry-pi`, instructions that the profile
//! predicts (*estimated*) stand beside those that the emulator counts (*simulated*). Other options: `--targets DIR` for a
//! profile of one's own, `--seed N` for other networks, `--rounds N`, `--parts` for errors by kind of kernel.

mod networks;

use burn::tensor::Device;
use kdc::bench::emulator::Counter;
use kdc::bench::{Arena, Emulator, Student};
use kdc::emit::{CrateOptions, write_crate};
use kdc::exec::{Datum, Mode, Network};
use kdc::graph::{Graph, Tensor, cost as graph_cost, shape_at};
use kdc::program::{self, Precision, Program};
use kdc::quant::{CalibratedModel, Calibration, Observer, watched};
use kdc::target::terms::terms;
use kdc::target::{self, Profile, cost, toolchain};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Options {
    target: String,
    targets: Vec<PathBuf>,
    seed: u64,
    rounds: usize,
    parts: bool,
}

struct Candidate {
    name: String,
    macs: u64,
    program: Program,
    student: Student,
    /// Microseconds, or instructions.
    predicted: f64,
    observed: f64,
    arena: Arena,
}

fn main() {
    let options = options();
    let folders = target::folders(&options.targets);
    let profile = target::find(&options.target, &folders).expect("a profile");
    println!("{}\n{}", profile.cost.int8.source, profile.cost.f32.source);
    let work = tempfile::tempdir().expect("a folder for work");
    let networks = networks::draw(options.seed);
    for precision in [Precision::F32, Precision::Int8] {
        let built = |(name, graph): &(String, Graph)| candidate(name, graph, precision, &profile, work.path());
        let mut candidates: Vec<Candidate> = networks.iter().map(built).collect();
        if profile.is_host() {
            measure(&mut candidates, options.rounds);
            show(precision, "measured µs", 1.0, &candidates);
        } else {
            count(&mut candidates, &profile, work.path());
            show(precision, "simulated k", 1e-3, &candidates);
        }
        if options.parts && profile.is_host() {
            show_parts(&candidates, &profile);
        }
    }
}

/// Seconds: the least of the medians of short runs, all taking turns.
fn measure(candidates: &mut [Candidate], rounds: usize) {
    for _ in 0..rounds {
        for candidate in candidates.iter_mut() {
            let mut times = candidate.student.bench(11, 3).expect("times").nanoseconds;
            times.sort_unstable();
            candidate.observed = candidate.observed.min(times[times.len() / 2] as f64 * 1e-3);
        }
    }
}

/// Instructions of one inference.
fn count(candidates: &mut [Candidate], profile: &Profile, work: &Path) {
    let emulator = Emulator::find(profile).expect("an emulator");
    for candidate in candidates {
        let program = candidate.student.program();
        let counter = Counter::new(&emulator, &work.join("tools"), program, &["info"]).expect("a counter");
        candidate.observed = counter.instructions(program, 2).expect("a count").per_inference;
        candidate.predicted = cost::estimate(&candidate.program, profile).instructions(profile).expect("a rate");
    }
}

fn options() -> Options {
    let mut options = Options { target: "host".into(), targets: Vec::new(), seed: 1, rounds: 15, parts: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{argument} needs a value"));
        match argument.as_str() {
            "--bench" => (), // cargo's own
            "--target" => options.target = value(),
            "--targets" => options.targets.push(value().into()),
            "--seed" => options.seed = value().parse().expect("a number"),
            "--rounds" => options.rounds = value().parse().expect("a number"),
            "--parts" => options.parts = true,
            other => panic!("unknown option {other}"),
        }
    }
    options
}

fn candidate(name: &str, graph: &Graph, precision: Precision, profile: &Profile, work: &Path) -> Candidate {
    let program = match precision {
        Precision::F32 => program::lower_f32(graph, None),
        Precision::Int8 => program::lower_int8(&quantized(graph), None),
    };
    let program = program.unwrap_or_else(|e| panic!("{name}: {e:?}"));
    let plan = program::plan(&program).expect("a plan");
    let folder = work.join(format!("{name}-{precision:?}"));
    write_crate(&program, &plan, &folder, &CrateOptions::default()).expect("a crate");
    let toolchain = toolchain::find(profile).expect("a toolchain");
    let binary = toolchain.build(&folder, profile, &folder.join("target"), false).expect("a program");
    let student = match profile.is_host() {
        true => Student::direct(binary),
        false => Student::emulated(binary, &Emulator::find(profile).expect("an emulator")),
    };
    let arena = student.arena().expect("the arena");
    let predicted = cost::estimate(&program, profile).latency_s * 1e6;
    let macs = graph_cost(graph).0.macs;
    Candidate { name: name.into(), macs, program, student, predicted, observed: f64::INFINITY, arena }
}

fn quantized(graph: &Graph) -> kdc::quant::QuantizedModel {
    let ids = watched(graph);
    let mut observers = vec![Observer::default(); ids.len()];
    let network = Network::new(graph, &Device::flex()).expect("a network");
    let shape = shape_at(&graph.value(graph.inputs[0]).shape, 1);
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for _ in 0..4 {
        let x = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect::<Vec<f32>>();
        let input = vec![Datum::from(Tensor::f32(shape.clone(), x))];
        let seen = network.forward(input, &ids, Mode::Infer).expect("a forward pass").taps;
        for (observer, values) in observers.iter_mut().zip(seen) {
            observer.see(&values.to_host().expect("values").to_f32()).expect("finite values");
        }
    }
    CalibratedModel::new(graph.clone(), &observers, Calibration::MinMax).and_then(|m| m.quantize()).expect("integers")
}

fn show(precision: Precision, what: &str, scale: f64, candidates: &[Candidate]) {
    println!("\n{precision:?}");
    println!("student                     MACs  kernels  {what}     estimated   error  arena planned = used");
    for c in candidates {
        let error = c.predicted / c.observed - 1.0;
        println!(
            "{:22} {:>9}  {:>7}  {:>11.1}  {:>12.1}  {:>+5.1}%  {:>9} {} {}",
            c.name,
            c.macs,
            c.program.steps.len(),
            c.observed * scale,
            c.predicted * scale,
            error * 100.0,
            c.arena.planned_bytes,
            if c.arena.planned_bytes == c.arena.used_bytes { "=" } else { "≠" },
            c.arena.used_bytes,
        );
    }
    let observed: Vec<f64> = candidates.iter().map(|c| c.observed).collect();
    let predicted: Vec<f64> = candidates.iter().map(|c| c.predicted).collect();
    let macs: Vec<f64> = candidates.iter().map(|c| c.macs as f64).collect();
    let mut errors: Vec<f64> = candidates.iter().map(|c| (c.predicted / c.observed - 1.0).abs()).collect();
    errors.sort_by(f64::total_cmp);
    let exact = candidates.iter().filter(|c| c.arena.planned_bytes == c.arena.used_bytes).count();
    println!(
        "Spearman with what was observed: estimate {:.3}, MACs alone {:.3}; median error {:.1}%, largest {:.1}%; RAM exact in \
         {exact} of {}; MACs {:.2} × apart, observations {:.2} ×",
        spearman(&predicted, &observed),
        spearman(&macs, &observed),
        errors[errors.len() / 2] * 100.0,
        errors[errors.len() - 1] * 100.0,
        candidates.len(),
        spread(&macs),
        spread(&observed),
    );
}

fn spread(values: &[f64]) -> f64 {
    let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most / values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// Spearman's rank correlation; equal values share the mean of their ranks.
fn spearman(a: &[f64], b: &[f64]) -> f64 {
    let ranks = |values: &[f64]| -> Vec<f64> {
        let below = |x: f64| values.iter().filter(|&&v| v < x).count() as f64;
        let equal = |x: f64| values.iter().filter(|&&v| v == x).count() as f64;
        values.iter().map(|&x| below(x) + (equal(x) - 1.0) / 2.0).collect()
    };
    let (a, b) = (ranks(a), ranks(b));
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (ma, mb) = (mean(&a), mean(&b));
    let sum = |x: &[f64], mx: f64, y: &[f64], my: f64| x.iter().zip(y).map(|(x, y)| (x - mx) * (y - my)).sum::<f64>();
    sum(&a, ma, &b, mb) / (sum(&a, ma, &a, ma) * sum(&b, mb, &b, mb)).sqrt()
}

/// Each step by itself: what all kernels of a kind were measured to take, over all students.
fn show_parts(candidates: &[Candidate], profile: &Profile) {
    let mut kinds: BTreeMap<String, [f64; 2]> = BTreeMap::new();
    for c in candidates {
        let mut steps = vec![f64::INFINITY; c.program.steps.len()];
        let mut whole = f64::INFINITY;
        for _ in 0..4 {
            let parts = c.student.steps(11, 3).expect("times");
            let middle = |mut times: Vec<u64>| {
                times.sort_unstable();
                times[times.len() / 2] as f64 * 1e-9
            };
            whole = whole.min(middle(parts.input) + middle(parts.output));
            for step in parts.steps {
                steps[step.step] = steps[step.step].min(middle(step.nanoseconds));
            }
        }
        let estimate = cost::estimate(&c.program, profile);
        let ports = estimate.latency_s - estimate.steps.iter().map(|s| s.seconds).sum::<f64>();
        let sum: f64 = steps.iter().filter(|s| s.is_finite()).sum::<f64>() + whole;
        println!("{:22} sum of its parts {:.1} µs, whole {:.1} µs", c.name, sum * 1e6, c.observed);
        let mut add = |kind: &str, measured: f64, estimated: f64| {
            let entry = kinds.entry(kind.into()).or_default();
            entry[0] += measured;
            entry[1] += estimated;
        };
        add("ports", whole, ports);
        for ((step, estimated), measured) in c.program.steps.iter().zip(&estimate.steps).zip(steps) {
            if let Some((family, _)) = terms(&c.program, step, c.program.precision) {
                add(family.name(), measured, estimated.seconds);
                let shapes: Vec<String> =
                    step.inputs.iter().map(|&id| format!("{:?}", c.program.buffer(id).shape)).collect();
                println!(
                    "    {:18} {:>30} → {:14} measured {:8.2} µs, estimated {:8.2} µs",
                    estimated.kernel,
                    shapes.join(" "),
                    format!("{:?}", c.program.buffer(step.output).shape),
                    measured * 1e6,
                    estimated.seconds * 1e6
                );
            }
        }
    }
    for (kind, [measured, estimated]) in kinds {
        println!(
            "{kind:18} measured {:9.1} µs, estimated {:9.1} µs, {:.2} ×",
            measured * 1e6,
            estimated * 1e6,
            estimated / measured
        );
    }
}
