//! What a program takes on a target: counts of what its kernels do, times the profile's coefficients.
//!
//! For each step `cycles = max(Σ count · coefficient, streamed weight bytes / weight rate)`: [`super::terms`] counts the
//! rounds of the kernel's loops from its shape, and the profile says what each takes. Weights are streamed where the
//! program's constants exceed what a cache keeps from one inference to the next. Latency is the sum over the steps, and
//! over what takes the sample in and gives the result out, at the profile's clock, on one core: students run on one.
//! Everything here is *estimated*; `kdc calibrate` fits the coefficients.

use crate::program::{Kernel, Linear, Precision, Program, Step, Window};

use super::profile::{Cost, Profile, Rates};
use super::terms::{self, Counts, Family};

/// What a program is estimated to take.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// Of one inference.
    pub latency_s: f64,
    pub cycles: f64,
    /// Less the waiting for weights.
    pub busy_cycles: f64,
    /// In the program's order; they leave out what the sample takes to come in, and the result to get out.
    pub steps: Vec<StepEstimate>,
}

impl Estimate {
    /// The instructions that the cycles are worth, for a profile that was calibrated by counting them.
    pub fn instructions(&self, profile: &Profile) -> Option<f64> {
        Some(self.busy_cycles * profile.cost.instructions.as_ref()?.per_cycle)
    }
}

/// What one step is estimated to take.
#[derive(Clone, Debug, PartialEq)]
pub struct StepEstimate {
    /// The step's name.
    pub name: String,
    /// Its kernel's name.
    pub kernel: &'static str,
    /// Multiply-accumulates; 0 for kernels that have none.
    pub macs: u64,
    pub cycles: f64,
    pub seconds: f64,
}

/// Estimates one inference of a program, in its own precision.
pub fn estimate(program: &Program, profile: &Profile) -> Estimate {
    estimate_in(program, profile, program.precision)
}

/// Estimates a program as if its buffers were stored in `precision`: what it would take before it is quantized.
pub fn estimate_in(program: &Program, profile: &Profile, precision: Precision) -> Estimate {
    let clock = profile.cpu.clock_hz as f64;
    let rates = rates(&profile.cost, precision);
    let streamed = streamed(program, &profile.cost, precision);
    let mut busy_cycles = cycles(rates, Family::Ports, &terms::ports(program));
    let ports = busy_cycles;
    let steps: Vec<_> = program
        .steps
        .iter()
        .map(|step| {
            let body =
                terms::terms(program, step, precision).map_or(0.0, |(family, counts)| cycles(rates, family, &counts));
            busy_cycles += body;
            let cycles = body.max(weight_bytes(step, precision) * streamed / profile.cost.weight_bytes_per_cycle);
            let (name, kernel) = (step.name.clone(), step.kernel.name());
            StepEstimate { name, kernel, macs: macs(&step.kernel), cycles, seconds: cycles / clock }
        })
        .collect();
    let cycles: f64 = steps.iter().map(|s| s.cycles).sum::<f64>() + ports;
    Estimate { latency_s: cycles / clock, cycles, busy_cycles, steps }
}

fn rates(cost: &Cost, precision: Precision) -> &Rates {
    match precision {
        Precision::Int8 => &cost.int8,
        Precision::F32 => &cost.f32,
    }
}

fn cycles(rates: &Rates, family: Family, counts: &Counts) -> f64 {
    let terms = &rates.of(family).0;
    let cycles = family.terms().iter().zip(counts).filter(|(_, count)| **count != 0.0);
    cycles.map(|(term, count)| count * terms.get(*term).copied().unwrap_or(0.0)).sum()
}

/// The share of a program's weights that each inference fetches anew: none up to what a cache keeps, all of them from
/// twice that on.
fn streamed(program: &Program, cost: &Cost, precision: Precision) -> f64 {
    let bytes: f64 = program.steps.iter().map(|step| weight_bytes(step, precision)).sum();
    let cached = cost.cached_bytes as f64;
    if cached > 0.0 { ((bytes - cached) / cached).clamp(0.0, 1.0) } else { 1.0 }
}

fn weight_bytes(step: &Step, precision: Precision) -> f64 {
    let count = match &step.kernel {
        Kernel::Conv2d { linear, .. }
        | Kernel::DepthwiseConv2d { linear, .. }
        | Kernel::FullyConnected { linear, .. } => match linear {
            Linear::Int8 { weights, .. } => weights.len(),
            Linear::F32 { weights, .. } => weights.len(),
        },
        // Few rows of an embedding's table are read.
        _ => 0,
    };
    (count * precision.bytes()) as f64
}

/// The precision that `auto` means: `f32` where it is estimated to be faster, else `int8`, which is smaller.
pub fn choose_precision(program: &Program, profile: &Profile) -> Precision {
    let cycles = |precision| estimate_in(program, profile, precision).cycles;
    if cycles(Precision::F32) < cycles(Precision::Int8) { Precision::F32 } else { Precision::Int8 }
}

/// Multiply-accumulates of one call of a kernel: padding counts, as it does in the network's own count.
pub fn macs(kernel: &Kernel) -> u64 {
    let product = |factors: &[usize]| factors.iter().fold(1u64, |p, &f| p.saturating_mul(f as u64));
    match kernel {
        Kernel::Conv2d { window, in_channels, out_channels, groups, .. } => {
            taps(window).saturating_mul(product(&[in_channels / (*groups).max(1), *out_channels]))
        }
        Kernel::DepthwiseConv2d { window, channels, .. } => taps(window).saturating_mul(*channels as u64),
        Kernel::FullyConnected { rows, in_features, out_features, .. } => {
            product(&[*rows, *in_features, *out_features])
        }
        Kernel::MatMul { batch, rows, inner, columns, .. } => product(&[*batch, *rows, *inner, *columns]),
        Kernel::MaxPool { .. }
        | Kernel::AveragePool { .. }
        | Kernel::Add(_)
        | Kernel::Mul { .. }
        | Kernel::Div(_)
        | Kernel::Choose { .. }
        | Kernel::Lookup { .. }
        | Kernel::Map(_)
        | Kernel::Softmax { .. }
        | Kernel::LayerNorm { .. }
        | Kernel::Embedding { .. }
        | Kernel::View { .. }
        | Kernel::Pad { .. }
        | Kernel::Concat { .. }
        | Kernel::Transpose { .. }
        | Kernel::Reshape => 0,
    }
}

/// Positions of a window times the elements it covers, for one channel.
fn taps(window: &Window) -> u64 {
    window.output.iter().chain(&window.kernel).fold(1u64, |p, &f| p.saturating_mul(f as u64))
}

/// Bytes of code and tables that a program's steps compile to, beside its weights: *estimated*, rather too many than too
/// few, from generated students for AArch64 at `opt-level = 3`, where every step is code of its own and a convolution
/// takes 2.8 KB (wide layers) to 3.7 KB (layers of 8 channels).
pub fn code_bytes(program: &Program) -> u64 {
    let of = |step: &Step| match step.kernel {
        Kernel::Conv2d { .. } | Kernel::DepthwiseConv2d { .. } => 3700,
        Kernel::FullyConnected { .. } => 2000,
        Kernel::Reshape => 0,
        _ => 600,
    };
    1024 + program.steps.iter().map(of).sum::<u64>()
}

/// Bytes of RAM that a student takes beside its arena: static data of its crate and the stack of an inference. *Estimated*,
/// rather too many than too few, from generated students for AArch64.
pub fn beside_arena_bytes(program: &Program) -> u64 {
    let steps = program.steps.iter().filter(|step| !matches!(step.kernel, Kernel::Reshape)).count();
    1024 + 512 + 80 * steps as u64
}

#[cfg(test)]
mod tests {
    use crate::program::{Buffer, BufferId, Port};
    use crate::target::Terms;

    use super::*;

    /// `rows` rows of 10 features to 20.
    fn dense(rows: usize) -> Program {
        let buffer = |name: &str, len| Buffer { name: name.into(), shape: vec![rows, len], ..Buffer::default() };
        let port =
            |name: &str, id, len| Port { name: name.into(), shape: vec![rows, len], buffer: BufferId(id), perm: None };
        let linear =
            Linear::F32 { weights: vec![0.5; 200], bias: vec![0.0; 20], min: f32::NEG_INFINITY, max: f32::INFINITY };
        let step = Step {
            name: "fc".into(),
            kernel: Kernel::FullyConnected { rows, in_features: 10, out_features: 20, linear },
            inputs: vec![BufferId(0)],
            output: BufferId(1),
        };
        Program {
            name: "dense".into(),
            precision: Precision::F32,
            buffers: vec![buffer("x", 10), buffer("y", 20)],
            steps: vec![step],
            inputs: vec![port("x", 0, 10)],
            output: port("y", 1, 20),
            raw_input: None,
        }
    }

    /// A profile whose matrix products take what is given; nothing else takes any time.
    fn profile(f32: &[(&str, f64)], int8: &[(&str, f64)]) -> Profile {
        let mut profile = crate::target::find("raspberry-pi-4", &[]).unwrap();
        let terms = |given: &[(&str, f64)]| Terms(given.iter().map(|(term, c)| ((*term).to_owned(), *c)).collect());
        let only = |given: &[(&str, f64)]| {
            Rates::build(String::new(), |family| match family {
                Family::FullyConnected => terms(given),
                _ => Terms::default(),
            })
        };
        profile.cpu.clock_hz = 1_000_000;
        (profile.cost.f32, profile.cost.int8) = (only(f32), only(int8));
        (profile.cost.weight_bytes_per_cycle, profile.cost.cached_bytes) = (8.0, 0);
        profile
    }

    #[test]
    fn the_formula_is_as_stated() {
        // 10 rounds for 20 outputs, which fill up two blocks of 16 or three of 8
        let profile = profile(&[("call", 5.0), ("step_8", 3.0), ("ragged", 2.0)], &[]);
        // one row: 5 + 3 · 10 · 3 + 3 · 2 = 101 cycles, more than 800 bytes at 8
        let one = estimate(&dense(1), &profile);
        assert_eq!((one.cycles, one.latency_s), (101.0, 101e-6));
        assert_eq!((one.steps[0].macs, one.steps[0].kernel), (200, "fully_connected"));
        assert_eq!(estimate(&dense(4), &profile).cycles, 5.0 + 4.0 * 96.0);
    }

    #[test]
    fn weights_bound_what_takes_less_once_they_exceed_the_cache() {
        let mut profile = profile(&[("call", 5.0)], &[("call", 5.0)]);
        let one = estimate(&dense(1), &profile);
        assert_eq!((one.cycles, one.busy_cycles), (100.0, 5.0));
        assert_eq!(one.instructions(&profile), Some(5.0 * 1.5), "waiting takes none");
        for (cached, cycles) in [(800, 5.0), (640, 25.0), (400, 100.0)] {
            profile.cost.cached_bytes = cached;
            assert_eq!(estimate(&dense(1), &profile).cycles, cycles, "{cached}");
        }
        // the same network in bytes instead of floats
        profile.cost.cached_bytes = 0;
        assert_eq!(estimate_in(&dense(1), &profile, Precision::Int8).cycles, 25.0);
    }

    #[test]
    fn auto_is_the_faster_precision_and_int8_when_equal() {
        assert_eq!(choose_precision(&dense(4), &profile(&[("call", 500.0)], &[("call", 501.0)])), Precision::F32);
        assert_eq!(choose_precision(&dense(4), &profile(&[("call", 500.0)], &[("call", 500.0)])), Precision::Int8);
    }

    #[test]
    fn convolutions_count_what_their_windows_cover() {
        let window =
            Window { input: [8, 8], output: [4, 4], kernel: [3, 3], strides: [2, 2], pads: [1, 1], dilations: [1, 1] };
        let linear = Linear::F32 { weights: vec![], bias: vec![], min: 0.0, max: 6.0 };
        let grouped = Kernel::Conv2d { window, in_channels: 8, out_channels: 16, groups: 4, linear: linear.clone() };
        assert_eq!(macs(&grouped), 16 * 9 * 2 * 16);
        assert_eq!(macs(&Kernel::DepthwiseConv2d { window, channels: 8, linear }), 16 * 9 * 8);
        assert_eq!(macs(&Kernel::Reshape), 0);
    }
}
