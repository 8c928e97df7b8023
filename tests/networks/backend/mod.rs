//! A network through everything behind the importer: prepared, narrowed, calibrated, quantized, lowered in both precisions,
//! given memory, and run by the reference interpreter. What must hold after each:
//!
//! - No panic, and no refusal but for want of a kernel: whatever the numbers are, there is a program.
//! - Prepared and narrowed graphs pass `verify`; the prepared one computes what the network does, the narrowed one has no
//!   more parameters.
//! - Every buffer of the int8 program is, to one step of its own scale, what the quantized graph makes of the buffers before
//!   it, in floats ([`steps`]); every buffer of the f32 program is that of the float graph to rounding.
//! - The int8 program's output is off from the float network's by no more than twice what the plainest quantizer's is
//!   ([`noise`]), and 2% of the output's range.
//! - The memory plan holds.

#![allow(dead_code, reason = "the tests read less of it than the benchmark")]

mod noise;
mod steps;

use burn::tensor::Device;
use kdc::exec::{Datum, Mode, Network};
use kdc::graph::{self, Graph, Tensor, ValueId};
use kdc::program::{self, LowerError, Plan, Program, reference};
use kdc::quant::{CalibratedModel, Calibration, Observer, QuantizedModel, watched};
use kdc::{pass, student};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How many samples calibration sees, of those of a case.
pub const CALIBRATED: usize = 16;

/// A network, samples of its input, and how it is to be narrowed.
pub struct Case {
    pub graph: Graph,
    /// One tensor for each input, batch 1. The first [`CALIBRATED`] are those of calibration.
    pub samples: Vec<Vec<Tensor>>,
    /// Seed of what is chosen by chance.
    pub seed: u64,
    /// Whether a student is derived, or the network taken as it is.
    pub derive: bool,
}

/// A network behind the last stage.
pub struct Compiled {
    pub float: Graph,
    pub quantized: QuantizedModel,
    /// int8 and f32, each with its plan.
    pub programs: [(Program, Plan); 2],
    /// The float network's outputs, by sample.
    pub outputs: Vec<Vec<f32>>,
    pub figures: Figures,
}

/// How far the int8 program is off, as shares of the output's range: the mean over all samples, of the element of the output
/// where it is largest. A largest error of one sample says little where networks amplify: one step more or less is another
/// answer, of either quantizer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub program: f32,
    /// The plainest quantizer.
    pub plain: f32,
}

/// How a case ended, where nothing was wrong.
pub enum Outcome {
    Compiled(Box<Compiled>),
    /// An operator of it has no kernel.
    NoKernel(String),
    /// The float network's own values are not finite.
    NotFinite(String),
}

/// Takes a case through everything.
///
/// # Errors
/// What does not hold.
pub fn check(case: &Case) -> Result<Outcome, String> {
    let fault = |what: &str| {
        let what = what.to_string();
        move |e: &dyn std::error::Error| format!("{what}: {}", chain(e))
    };
    graph::verify(&case.graph).map_err(|e| fault("the network")(&e))?;
    if let Err(unsuitable) = student::check_suitable(&case.graph) {
        return Ok(Outcome::NoKernel(unsuitable.to_string()));
    }
    let (prepared, softmax) = student::prepare(&case.graph).map_err(|e| fault("prepare")(&e))?;
    graph::verify(&prepared).map_err(|e| fault("prepared")(&e))?;
    let mut float = if case.derive { derived(&prepared, case.seed)? } else { prepared.clone() };
    pass::fold_batch_norm(&mut float);
    let mut whole = prepared;
    if let Some(softmax) = softmax {
        pass::restore_softmax(&mut float, softmax.clone());
        pass::restore_softmax(&mut whole, softmax);
    }
    graph::verify(&float).map_err(|e| fault("the student")(&e))?;
    same_outputs(case, &whole)?;
    if let Some(obstacle) = program::obstacles(&float).first() {
        return refused("lower_f32", obstacle);
    }

    let network = Network::new(&float, &Device::flex()).map_err(|e| fault("the executor")(&e))?;
    let outputs: Vec<Vec<f32>> = case.samples.iter().map(|x| forward(&network, x)).collect::<Result<_, _>>()?;
    let ids = watched(&float);
    let mut observers = vec![Observer::default(); ids.len()];
    let mut ranges = vec![(f32::INFINITY, f32::NEG_INFINITY); ids.len()];
    for sample in &case.samples[..CALIBRATED.min(case.samples.len())] {
        for (index, values) in taps(&network, sample, &ids)?.iter().enumerate() {
            if let Err(what) = observers[index].see(values) {
                return Ok(Outcome::NotFinite(format!("'{}' is {what}", float.value(ids[index]).name)));
            }
            let (low, high) = &mut ranges[index];
            values.iter().for_each(|&v| (*low, *high) = (low.min(v), high.max(v)));
        }
    }
    if outputs.iter().flatten().any(|v| !v.is_finite()) {
        return Ok(Outcome::NotFinite("an output".into()));
    }
    let calibrated = CalibratedModel::new(float.clone(), &observers, Calibration::MinMax);
    let quantized = calibrated.and_then(|c| c.quantize()).map_err(|e| fault("quantize")(&e))?;
    graph::verify(&quantized.graph).map_err(|e| fault("quantized")(&e))?;
    let int8 = match program::lower_int8(&quantized, None) {
        Ok(program) => program,
        Err(obstacle) => return refused("lower_int8", &obstacle),
    };
    let f32 = match program::lower_f32(&float, None) {
        Ok(program) => program,
        Err(obstacle) => return refused("lower_f32", &obstacle),
    };
    let programs = [planned(int8)?, planned(f32)?];
    steps::int8(&programs[0].0, &quantized, &case.samples)?;
    steps::f32(&programs[1].0, &float, &case.samples)?;
    let figures = noise::within(&programs[0].0, &float, &ids, &ranges, &case.samples, &outputs)?;
    Ok(Outcome::Compiled(Box::new(Compiled { float, quantized, programs, outputs, figures })))
}

/// An obstacle that is no fault: there is no kernel for what the network computes.
fn refused(stage: &str, obstacle: &LowerError) -> Result<Outcome, String> {
    match obstacle {
        LowerError::NoKernel { .. } => Ok(Outcome::NoKernel(obstacle.to_string())),
        // Whatever the numbers are, there is a program.
        _ => Err(format!("{stage}: {}", chain(obstacle))),
    }
}

/// An error and its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text += &format!(": {next}");
        cause = next.source();
    }
    text
}

/// A student: without a block, taken apart, narrowed, or the network itself, by chance.
fn derived(prepared: &Graph, seed: u64) -> Result<Graph, String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let blocks: Vec<String> = student::droppable(prepared).into_iter().map(|b| b.name).collect();
    let mut variant = student::Variant::default();
    if rng.random_bool(0.25) && !blocks.is_empty() {
        variant.without = vec![blocks[rng.random_range(0..blocks.len())].clone()];
    }
    if rng.random_bool(0.2) {
        let how = [student::Factoring::Separable, student::Factoring::LowRank];
        variant.factoring = Some(how[usize::from(rng.random_bool(0.5))]);
    }
    let graph = variant.of(prepared).map_err(|e| format!("{variant}: {}", chain(&e)))?;
    graph::verify(&graph).map_err(|e| format!("{variant}: {e}"))?;
    let share = [1.0, 1.0, 0.75, 0.5, 0.25][rng.random_range(0..5)];
    let groups = student::Groups::find(&graph);
    let criterion = student::Criterion::ALL[rng.random_range(0..student::Criterion::ALL.len())];
    let importance = student::importance(&graph, &groups, criterion, &student::Evidence::default(), seed);
    let widths = match rng.random_bool(0.7) {
        true => student::uniform(&groups, share),
        false => student::ranked(&groups, &importance, share),
    };
    let kept = student::keep(&importance, &widths);
    let narrowed = student::shrink(&graph, &groups, &kept).map_err(|e| format!("shrink: {}", chain(&e)))?;
    let (before, after) = (graph::cost(&graph).0, graph::cost(&narrowed).0);
    let fewer = groups.groups.iter().zip(&widths).any(|(group, &width)| width < group.extent);
    if after.params > before.params || fewer && after.params == before.params {
        return Err(format!(
            "narrowed to {widths:?}, the network has {} of {} parameters",
            after.params, before.params
        ));
    }
    Ok(narrowed)
}

/// What was prepared computes what the network does.
fn same_outputs(case: &Case, prepared: &Graph) -> Result<(), String> {
    let network = |graph: &Graph| Network::new(graph, &Device::flex()).map_err(|e| chain(&e));
    let (own, theirs) = (network(prepared)?, network(&case.graph)?);
    for sample in case.samples.iter().take(2) {
        let (own, theirs) = (forward(&own, sample)?, forward(&theirs, sample)?);
        let size = theirs.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let off = own.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        if size.is_finite() && off > 1e-3 * size {
            return Err(format!("prepared, the network is off by {off} of {size}"));
        }
    }
    Ok(())
}

/// A program and its plan.
fn planned(program: Program) -> Result<(Program, Plan), String> {
    let plan = program::plan(&program).map_err(|e| format!("the plan: {e}"))?;
    program::check(&program, &plan).map_err(|e| format!("the plan: {e}"))?;
    if plan.arena_bytes < plan.lower_bound || plan.offsets.iter().any(|o| o % plan.alignment != 0) {
        return Err(format!("the plan: {} bytes, at least {}", plan.arena_bytes, plan.lower_bound));
    }
    Ok((program, plan))
}

/// The output of a network for one sample.
fn forward(network: &Network, sample: &[Tensor]) -> Result<Vec<f32>, String> {
    let inputs: Vec<Datum> = sample.iter().cloned().map(Datum::from).collect();
    let out = network.forward(inputs, &[], Mode::Infer).map_err(|e| chain(&e))?;
    host(&out.outputs[0])
}

/// Values inside of a network for one sample.
fn taps(network: &Network, sample: &[Tensor], ids: &[ValueId]) -> Result<Vec<Vec<f32>>, String> {
    let inputs: Vec<Datum> = sample.iter().cloned().map(Datum::from).collect();
    let out = network.forward(inputs, ids, Mode::Infer).map_err(|e| chain(&e))?;
    out.taps.iter().map(host).collect()
}

fn host(value: &Datum) -> Result<Vec<f32>, String> {
    Ok(value.to_host().map_err(|e| e.to_string())?.to_f32().into_owned())
}

/// What a program makes of one sample.
pub fn interpret(program: &Program, sample: &[Tensor]) -> Result<reference::Run, String> {
    reference::run(program, &reference::Input::F32(&flat(sample))).map_err(|e| e.to_string())
}

/// A sample as programs take it.
pub fn flat(sample: &[Tensor]) -> Vec<f32> {
    sample.iter().flat_map(|x| x.to_f32().into_owned()).collect()
}
