//! Small named checks over a profile: what the types of its TOML file cannot say.

use super::profile::{MemoryKind, Profile};
use super::terms::Family;

/// One check: its name, and what is wrong with a profile that fails it.
pub type Check = (&'static str, fn(&Profile) -> Result<(), String>);

/// All checks, in the order they run.
pub const CHECKS: [Check; 9] = [
    ("names", names),
    ("boards", boards),
    ("cpu", cpu),
    ("memory", memory),
    ("machine", machine),
    ("emulator", emulator),
    ("cost", cost),
    ("budgets", budgets),
    ("sources", sources),
];

/// What is wrong with a profile: one line for each check that fails, starting with its name.
pub fn run(profile: &Profile) -> Vec<String> {
    CHECKS.iter().filter_map(|(name, check)| check(profile).err().map(|e| format!("{name}: {e}"))).collect()
}

fn ensure(condition: bool, message: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(message()) }
}

/// Ids and aliases are lower case, words joined by single hyphens.
fn names(profile: &Profile) -> Result<(), String> {
    let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    profile.names().try_for_each(|name| {
        ensure(name.split('-').all(word), || format!("`{name}` must be lower-case words joined by hyphens"))
    })
}

/// Boards and a description are there for people to find.
fn boards(profile: &Profile) -> Result<(), String> {
    ensure(!profile.boards.is_empty() && !profile.boards.iter().any(String::is_empty), || "none is named".into())?;
    ensure(!profile.family.is_empty() && !profile.description.is_empty(), || "family or description is empty".into())
}

/// A clock between 1 MHz and 10 GHz, and some cores.
fn cpu(profile: &Profile) -> Result<(), String> {
    let cpu = &profile.cpu;
    ensure(!cpu.name.is_empty(), || "no name".into())?;
    ensure((1_000_000..=10_000_000_000).contains(&cpu.clock_hz), || format!("a clock of {} Hz", cpu.clock_hz))?;
    ensure((1..=1024).contains(&cpu.cores), || format!("{} cores", cpu.cores))
}

/// There is flash and RAM; regions with addresses do not overlap.
fn memory(profile: &Profile) -> Result<(), String> {
    for (kind, name) in [(MemoryKind::Flash, "flash"), (MemoryKind::Ram, "ram")] {
        let some = profile.memory.iter().any(|m| m.kind == kind && m.bytes > 0);
        ensure(some, || format!("no region of kind `{name}`"))?;
    }
    let mut placed: Vec<_> = profile.memory.iter().filter_map(|m| Some((m.start?, m))).collect();
    placed.sort_by_key(|(start, _)| *start);
    placed.windows(2).try_for_each(|pair| match pair {
        [(start, a), (next, b)] => {
            let apart = start.checked_add(a.bytes).is_some_and(|end| end <= *next);
            ensure(apart, || format!("`{}` and `{}` overlap", a.name, b.name))
        }
        _ => Ok(()),
    })
}

/// The triple is one of the machine.
fn machine(profile: &Profile) -> Result<(), String> {
    let build = &profile.build;
    let arch = build.triple.split('-').next().unwrap_or_default();
    let prefixes: &[&str] = match build.machine {
        super::Machine::Aarch64 => &["aarch64"],
        super::Machine::Arm => &["arm", "thumb"],
        super::Machine::X86_64 => &["x86_64"],
        super::Machine::Riscv64 => &["riscv64"],
    };
    let fits = prefixes.iter().any(|prefix| arch.starts_with(prefix));
    ensure(fits, || format!("the triple `{}` is not for the machine `{}`", build.triple, build.machine))
}

/// QEMU is told the CPU: its default has instructions that no board has.
fn emulator(profile: &Profile) -> Result<(), String> {
    let Some(emulator) = &profile.emulator else { return Ok(()) };
    let qemu = emulator.program.starts_with("qemu-");
    let named = emulator.arguments.iter().any(|a| a == "-cpu" || a == "-M");
    ensure(!qemu || named, || "qemu needs `-cpu` or `-M` among its arguments".into())
}

/// Coefficients have names that the model knows, are finite and not negative; each kernel takes some time.
fn cost(profile: &Profile) -> Result<(), String> {
    let cost = &profile.cost;
    ensure(positive(cost.weight_bytes_per_cycle), || "`weight_bytes_per_cycle` must be positive".into())?;
    let per_cycle = cost.instructions.as_ref().map_or(1.0, |i| i.per_cycle);
    ensure(positive(per_cycle), || "`instructions.per_cycle` must be positive".into())?;
    for (precision, rates) in [("int8", &cost.int8), ("f32", &cost.f32)] {
        for family in Family::ALL {
            let (name, terms) = (family.name(), &rates.of(family).0);
            let known = |term: &String| family.terms().contains(&term.as_str());
            if let Some(term) = terms.keys().find(|term| !known(term)) {
                let known = family.terms().join("`, `");
                return Err(format!("`{precision}.{name}` has no term `{term}`; its terms are `{known}`"));
            }
            let sound = terms.values().all(|c| not_negative(*c)) && terms.values().any(|c| positive(*c));
            ensure(sound, || {
                format!("`{precision}.{name}` needs cycles that are not negative, and some that are positive")
            })?;
        }
    }
    Ok(())
}

/// Default budgets are within what the board has.
fn budgets(profile: &Profile) -> Result<(), String> {
    let budgets = &profile.budgets;
    ensure(positive(budgets.latency_s), || "`latency_s` must be positive".into())?;
    ensure(budgets.ram.0 > 0 && budgets.ram <= profile.ram(), || "`ram` must be some of the board's".into())?;
    ensure(budgets.flash.0 > 0 && budgets.flash <= profile.flash(), || "`flash` must be some of the board's".into())
}

/// Every source is an address, this machine, or an estimate that says how.
fn sources(profile: &Profile) -> Result<(), String> {
    let fixed = [
        ("cpu", &profile.cpu.source),
        ("build", &profile.build.source),
        ("cost", &profile.cost.source),
        ("cost.int8", &profile.cost.int8.source),
        ("cost.f32", &profile.cost.f32.source),
        ("budgets", &profile.budgets.source),
    ];
    let system = profile.system.iter().map(|s| ("system", &s.source));
    let emulator = profile.emulator.iter().map(|e| ("emulator", &e.source));
    let instructions = profile.cost.instructions.iter().map(|i| ("cost.instructions", &i.source));
    let memory = profile.memory.iter().map(|m| (m.name.as_str(), &m.source));
    let kinds = ["https://", "estimate: ", "this machine: "];
    fixed.into_iter().chain(system).chain(emulator).chain(instructions).chain(memory).try_for_each(|(table, source)| {
        let stated = kinds.iter().any(|kind| source.len() > kind.len() && source.starts_with(kind));
        ensure(stated, || format!("`{table}` needs a source: an https address, or `estimate: ` and how"))
    })
}

fn positive(x: f64) -> bool {
    x.is_finite() && x > 0.0
}

fn not_negative(x: f64) -> bool {
    x.is_finite() && x >= 0.0
}
