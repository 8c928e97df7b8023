//! Fits the coefficients of the cost model to micro-benchmarks.
//!
//! Some hundred kernels of random shapes are generated, built for the target and observed: on this machine by its clock
//! (*measured*), for a board by the instructions that an emulator counts (*simulated*), which a stated number of
//! instructions a cycle turns into cycles. Each family of kernels gets the non-negative coefficients that explain its
//! observations best.

mod micro;
mod stream;

use std::path::{Path, PathBuf};

use super::emulator::{Counter, Emulator, Unavailable};
use super::process;
use super::student::Student;
use crate::emit;
use crate::program::Precision;
use crate::target::fit::{Observation, fit, predict};
use crate::target::terms::{self, Counts, Family};
use crate::target::toolchain::{self, BuildError, Missing, Toolchain};
use crate::target::{Cost, Instructions, Profile, Rates, Terms};
use micro::Micro;

/// Why coefficients could not be fitted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Toolchain(#[from] Missing),
    #[error(transparent)]
    Emulator(#[from] Unavailable),
    #[error(
        "the target {0} is neither this machine nor emulated, so nothing can be observed; calibrate `host`, or a target \
         whose profile has an [emulator]"
    )]
    Unobservable(String),
    #[error(
        "the profile of {0} does not say how many instructions its processor takes a cycle; add {{ per_cycle, source }} as [cost.instructions]"
    )]
    NoRate(String),
    #[error("the micro-benchmarks cannot be written")]
    Emit(#[from] emit::Error),
    #[error("the micro-benchmarks cannot be built")]
    Build(#[from] BuildError),
    #[error("the micro-benchmarks cannot be run")]
    Run(#[from] process::Error),
}

/// How much is observed.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Draws the shapes.
    pub seed: u64,
    /// Only every so many-th program is taken; 1 takes all of them.
    pub every: usize,
    /// How often all programs are timed, one after the other.
    pub rounds: usize,
}

impl Default for Effort {
    fn default() -> Effort {
        Effort { seed: 1, every: 1, rounds: 8 }
    }
}

/// Fitted coefficients, and how well they fit.
#[derive(Clone, Debug)]
pub struct Calibration {
    pub cost: Cost,
    pub families: Vec<FamilyFit>,
    /// What was observed and what the coefficients say of it: lines of columns parted by tabs.
    pub observations: String,
}

/// How well one family's coefficients fit its observations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FamilyFit {
    pub precision: Precision,
    pub family: Family,
    pub benchmarks: usize,
    /// The median of the errors, relative to what was observed.
    pub median_error: f64,
}

/// Observed times below this do not matter, in cycles: a call of anything takes as long.
const FLOOR_CYCLES: f64 = 300.0;
/// Calls of a kernel timed in each round, and those before them that are not.
const TIMED: usize = 10;
const WARM_UP: usize = 2;
/// Inferences that are counted for what is no kernel.
const COUNTED: usize = 2;

/// How a target is observed.
enum Observer {
    Clock,
    Emulator(Emulator),
}

/// Builds micro-benchmarks in the folder `work`, observes them and fits the coefficients of `profile`. `say` hears of
/// progress.
///
/// # Errors
/// When something that builds or emulates is missing, or the target can neither be timed nor emulated.
pub fn calibrate(profile: &Profile, effort: Effort, work: &Path, say: &dyn Fn(&str)) -> Result<Calibration, Error> {
    let observer = match (profile.is_host(), &profile.emulator) {
        (true, _) => Observer::Clock,
        (false, None) => return Err(Error::Unobservable(profile.id.clone())),
        (false, Some(_)) => Observer::Emulator(Emulator::find(profile)?),
    };
    let per_cycle = match (&observer, &profile.cost.instructions) {
        (Observer::Clock, _) => None,
        (Observer::Emulator(_), None) => return Err(Error::NoRate(profile.id.clone())),
        (Observer::Emulator(_), Some(instructions)) => Some(instructions.clone()),
    };
    let toolchain = toolchain::find(profile)?;
    let session = Session { profile, effort, toolchain, observer, work, say };
    let (mut families, mut observations) = (Vec::new(), HEAD.to_owned());
    let mut rates = |precision| session.rates(precision, per_cycle.as_ref(), &mut families, &mut observations);
    let (int8, f32) = (rates(Precision::Int8)?, rates(Precision::F32)?);
    let (weight_bytes_per_cycle, source) = match session.observer {
        Observer::Clock => session.weights()?,
        Observer::Emulator(_) => (profile.cost.weight_bytes_per_cycle, profile.cost.source.clone()),
    };
    let cached_bytes = profile.cost.cached_bytes;
    let cost = Cost { weight_bytes_per_cycle, cached_bytes, source, instructions: per_cycle, int8, f32 };
    Ok(Calibration { cost, families, observations })
}

struct Session<'a> {
    profile: &'a Profile,
    effort: Effort,
    toolchain: Toolchain,
    observer: Observer,
    work: &'a Path,
    say: &'a dyn Fn(&str),
}

/// What one kernel did, and what it took in cycles, or in instructions where they were counted.
type Observed = (Family, Counts, f64);

impl Session<'_> {
    fn rates(
        &self,
        precision: Precision,
        per_cycle: Option<&Instructions>,
        families: &mut Vec<FamilyFit>,
        log: &mut String,
    ) -> Result<Rates, Error> {
        let name = name(precision);
        let micros: Vec<Micro> =
            micro::programs(precision, self.effort.seed).into_iter().step_by(self.effort.every.max(1)).collect();
        let mut programs = Vec::new();
        for (index, micro) in micros.iter().enumerate() {
            (self.say)(&format!("building {name} kernels, part {} of {}", index + 1, micros.len()));
            programs.push(self.build(&format!("{name}-{index}"), micro)?);
        }
        let observed = match &self.observer {
            Observer::Clock => self.time(precision, &micros, &programs)?,
            Observer::Emulator(emulator) => self.count(emulator, precision, &micros, &programs)?,
        };
        let divisor = per_cycle.map_or(1.0, |i| i.per_cycle);
        let mut errors = Vec::new();
        let mut fitted = |family: Family| {
            let of = |(_, counts, value): &Observed| Observation { counts: counts.to_vec(), value: value / divisor };
            let observations: Vec<Observation> = observed.iter().filter(|(f, ..)| *f == family).map(of).collect();
            let fit = fit(&observations, family.terms().len(), FLOOR_CYCLES);
            let (benchmarks, median_error) = (observations.len(), fit.median_error);
            families.push(FamilyFit { precision, family, benchmarks, median_error });
            errors.push(median_error);
            let rounded: Vec<f64> = fit.coefficients.into_iter().map(significant).collect();
            observations.iter().for_each(|o| *log += &line(precision, family, o, predict(&o.counts, &rounded)));
            Terms::from_order(family, &rounded)
        };
        let mut rates = Rates::build(String::new(), &mut fitted);
        rates.source = self.origin(observed.len(), &mut errors, per_cycle);
        Ok(rates)
    }

    /// How the coefficients came about.
    fn origin(&self, benchmarks: usize, errors: &mut [f64], per_cycle: Option<&Instructions>) -> String {
        errors.sort_by(f64::total_cmp);
        let percent = |x: Option<&f64>| format!("{:.0}%", x.copied().unwrap_or(0.0) * 100.0);
        let (median, worst) = (percent(errors.get(errors.len() / 2)), percent(errors.last()));
        let profile = self.profile;
        let how = match per_cycle {
            None => format!("timed on {}, its clock taken as {} GHz", machine(), profile.cpu.clock_hz as f64 * 1e-9),
            Some(i) => {
                let emulator = profile.emulator.as_ref().map_or("an emulator", |e| e.program.as_str());
                format!(
                    "instructions of {} counted under {emulator}, {} of them taken as a cycle",
                    profile.cpu.name, i.per_cycle
                )
            }
        };
        format!(
            "estimate: fitted by kdc calibrate to {benchmarks} kernels: {how}; {}; median error of a family's fit {median}, \
             of the worst {worst}",
            self.toolchain.version
        )
    }

    /// Writes and builds one crate; the program is moved out of cargo's way.
    fn build(&self, name: &str, micro: &Micro) -> Result<PathBuf, Error> {
        let folder = self.work.join(name);
        emit::write_crate(&micro.program, &micro.plan, &folder, &emit::CrateOptions::default())?;
        Ok(self.toolchain.build(&folder, self.profile, &self.work.join(format!("{name}-target")), false)?)
    }

    /// Cycles of each kernel by this machine's clock: the least of the medians of all rounds. Rounds of all programs
    /// take turns, so that whatever disturbs the machine for a while disturbs few of a kernel's.
    fn time(&self, precision: Precision, micros: &[Micro], programs: &[PathBuf]) -> Result<Vec<Observed>, Error> {
        let students: Vec<Student> = programs.iter().map(Student::direct).collect();
        let mut least: Vec<Vec<f64>> = micros.iter().map(|m| vec![f64::INFINITY; m.program.steps.len() + 1]).collect();
        for round in 0..self.effort.rounds.max(1) {
            (self.say)(&format!("timing {} kernels, round {} of {}", name(precision), round + 1, self.effort.rounds));
            for (student, least) in students.iter().zip(&mut least) {
                let parts = student.steps(TIMED, WARM_UP)?;
                let ports = median(&parts.input) + median(&parts.output);
                let all = parts.steps.iter().map(|s| (s.step, median(&s.nanoseconds)));
                for (at, nanoseconds) in all.chain([(least.len() - 1, ports)]) {
                    if let Some(least) = least.get_mut(at) {
                        *least = least.min(nanoseconds);
                    }
                }
            }
        }
        let cycles = self.profile.cpu.clock_hz as f64 * 1e-9;
        let values = least.into_iter().map(|program| program.into_iter().map(|ns| ns * cycles).collect::<Vec<f64>>());
        Ok(micros.iter().zip(values).flat_map(|(micro, values)| observed(micro, precision, &values)).collect())
    }

    /// Instructions of each kernel.
    fn count(
        &self,
        emulator: &Emulator,
        precision: Precision,
        micros: &[Micro],
        programs: &[PathBuf],
    ) -> Result<Vec<Observed>, Error> {
        let mut all = Vec::new();
        for (index, (micro, program)) in micros.iter().zip(programs).enumerate() {
            (self.say)(&format!("counting {} kernels, part {} of {}", name(precision), index + 1, micros.len()));
            let counter = Counter::new(emulator, &self.work.join("tools"), program, &["info"])?;
            let steps: Vec<usize> = (0..micro.program.steps.len()).collect();
            let mut values = counter.step_instructions(program, &steps)?;
            let whole = counter.instructions(program, COUNTED)?.per_inference;
            values.push((whole - values.iter().sum::<f64>()).max(0.0));
            all.extend(observed(micro, precision, &values));
        }
        Ok(all)
    }

    /// Bytes a cycle at which weights come in that no near cache keeps, with its origin.
    fn weights(&self) -> Result<(f64, String), Error> {
        (self.say)("timing weights that come from far");
        let micro = stream::program();
        let student = Student::direct(self.build("weights", &micro)?);
        let mut least = f64::INFINITY;
        for _ in 0..self.effort.rounds.max(1) {
            least = least.min(median(&student.bench(TIMED, WARM_UP)?.nanoseconds));
        }
        let cycles = least * self.profile.cpu.clock_hz as f64 * 1e-9;
        let rate = significant(stream::BYTES as f64 / cycles);
        let (megabytes, machine) = (stream::BYTES >> 20, machine());
        let source = format!(
            "estimate: matrix products of {megabytes} MiB of weights timed by kdc calibrate on {machine}; what a cache keeps \
             is its second level's size"
        );
        Ok((rate, source))
    }
}

pub const HEAD: &str = "precision\tkernels\tobserved cycles\testimated cycles\tterms\n";

fn line(precision: Precision, family: Family, observation: &Observation, estimated: f64) -> String {
    let named = family.terms().iter().zip(&observation.counts).filter(|(_, count)| **count != 0.0);
    let terms: Vec<String> = named.map(|(term, count)| format!("{term}={count}")).collect();
    let (precision, family, observed) = (name(precision), family.name(), observation.value);
    format!("{precision}\t{family}\t{observed:.1}\t{estimated:.1}\t{}\n", terms.join(" "))
}

/// What each step of a program was observed to take, and last what is no step.
fn observed(micro: &Micro, precision: Precision, values: &[f64]) -> Vec<Observed> {
    let program = &micro.program;
    let steps = program.steps.iter().map(|step| terms::terms(program, step, precision));
    let all = steps.chain([Some((Family::Ports, terms::ports(program)))]);
    all.zip(values).filter_map(|(counted, &value)| counted.map(|(family, counts)| (family, counts, value))).collect()
}

fn name(precision: Precision) -> &'static str {
    match precision {
        Precision::Int8 => "int8",
        Precision::F32 => "f32",
    }
}

fn median(nanoseconds: &[u64]) -> f64 {
    super::host::Timing::of(nanoseconds).map_or(f64::INFINITY, |timing| timing.median_s * 1e9)
}

/// Four significant digits: more would only be noise.
fn significant(x: f64) -> f64 {
    format!("{x:.3e}").parse().unwrap_or(x)
}

/// The processor of this machine, as the system calls it.
fn machine() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, name)| name));
    model.map_or_else(
        || format!("this machine ({})", std::env::consts::ARCH),
        |name| format!("one core of an {}", name.trim()),
    )
}

#[cfg(test)]
mod tests;
