//! What a program takes on a target: a linear model with the profile's coefficients.
//!
//! For each step `cycles = call + max(work / rate, weight bytes / weight rate) + outputs · cycles per output`, where
//! work is multiply-accumulates (for pools, the elements of all windows) and the rate is that of the kind of kernel in
//! the program's precision. Kernels without a reduction take cycles for each output element only. Latency is the sum
//! over the steps at the profile's clock, on one core: students run on one. Everything here is *estimated*.

use crate::program::{Kernel, Precision, Program, Step, Window};

use super::profile::{LinearRate, Profile, Rates};

/// What a program is estimated to take.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// Of one inference.
    pub latency_s: f64,
    pub cycles: f64,
    /// In the program's order.
    pub steps: Vec<StepEstimate>,
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
    let steps: Vec<_> = program
        .steps
        .iter()
        .map(|step| {
            let cycles = cycles(program, step, profile, precision);
            let (name, kernel) = (step.name.clone(), step.kernel.name());
            StepEstimate { name, kernel, macs: macs(&step.kernel), cycles, seconds: cycles / clock }
        })
        .collect();
    let cycles: f64 = steps.iter().map(|s| s.cycles).sum();
    Estimate { latency_s: cycles / clock, cycles, steps }
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
        Kernel::MaxPool { .. }
        | Kernel::AveragePool { .. }
        | Kernel::Add(_)
        | Kernel::Mul { .. }
        | Kernel::Lookup { .. }
        | Kernel::Map(_)
        | Kernel::Softmax { .. }
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

fn cycles(program: &Program, step: &Step, profile: &Profile, precision: Precision) -> f64 {
    let cost = &profile.cost;
    let rates: &Rates = match precision {
        Precision::Int8 => &cost.int8,
        Precision::F32 => &cost.f32,
    };
    let outputs = program.buffers.get(step.output.index()).map_or(0, |b| b.len()) as f64;
    let reduce = |rate: LinearRate, work: u64, weights: u64| {
        let stream = weights as f64 * precision.bytes() as f64 / cost.weight_bytes_per_cycle;
        (work as f64 / rate.work_per_cycle).max(stream) + outputs * rate.cycles_per_output
    };
    let work = macs(&step.kernel);
    let body = match &step.kernel {
        Kernel::Conv2d { window, .. } => reduce(rates.conv2d, work, work / positions(window)),
        Kernel::DepthwiseConv2d { window, .. } => reduce(rates.depthwise_conv2d, work, work / positions(window)),
        Kernel::FullyConnected { rows, .. } => reduce(rates.fully_connected, work, work / (*rows).max(1) as u64),
        Kernel::MaxPool { window, channels } | Kernel::AveragePool { window, channels, .. } => {
            reduce(rates.pool, taps(window).saturating_mul(*channels as u64), 0)
        }
        Kernel::Add(_) | Kernel::Mul { .. } => outputs * rates.elementwise,
        Kernel::Lookup { .. } | Kernel::Map(_) => outputs * rates.function,
        Kernel::Softmax { .. } => outputs * rates.softmax,
        Kernel::Pad { .. } | Kernel::Concat { .. } | Kernel::Transpose { .. } => outputs * rates.copy,
        Kernel::Reshape => return 0.0,
    };
    cost.call_cycles + body
}

/// How often a window is placed; at least 1.
fn positions(window: &Window) -> u64 {
    window.output.iter().fold(1u64, |p, &f| p.saturating_mul(f as u64)).max(1)
}

#[cfg(test)]
mod tests {
    use crate::program::{Buffer, BufferId, Linear, Port};

    use super::*;

    /// `rows` rows of 10 features to 20.
    fn dense(rows: usize) -> Program {
        let buffer = |name: &str, len| Buffer { name: name.into(), shape: vec![rows, len], quant: None };
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
            input: port("x", 0, 10),
            output: port("y", 1, 20),
            raw_input: None,
        }
    }

    fn profile() -> Profile {
        let mut profile = crate::target::find("raspberry-pi-4", &[]).unwrap();
        profile.cpu.clock_hz = 1_000_000;
        profile.cost.call_cycles = 100.0;
        profile.cost.weight_bytes_per_cycle = 8.0;
        profile.cost.f32.fully_connected = LinearRate { work_per_cycle: 4.0, cycles_per_output: 2.0 };
        profile.cost.int8.fully_connected = LinearRate { work_per_cycle: 2.0, cycles_per_output: 2.0 };
        profile
    }

    #[test]
    fn the_formula_is_as_stated() {
        // one row: 200 MACs at 4 are 50 cycles, but 800 bytes at 8 are 100; 20 outputs at 2; 100 for the call
        let one = estimate(&dense(1), &profile());
        assert_eq!(one.cycles, 100.0 + 100.0 + 40.0);
        assert_eq!(one.latency_s, 240e-6);
        assert_eq!((one.steps[0].macs, one.steps[0].kernel), (200, "fully_connected"));
        // four rows: 800 MACs at 4 outweigh the weights
        assert_eq!(estimate(&dense(4), &profile()).cycles, 200.0 + 160.0 + 100.0);
    }

    #[test]
    fn auto_is_the_faster_precision_and_int8_when_equal() {
        let mut profile = profile();
        assert_eq!(choose_precision(&dense(4), &profile), Precision::F32);
        profile.cost.int8.fully_connected.work_per_cycle = 4.0;
        assert_eq!(choose_precision(&dense(4), &profile), Precision::Int8);
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
