//! Small named checks over a profile: what the types of its TOML file cannot say.

use super::profile::{MemoryKind, Profile};
use super::terms::Family;

/// One check: its name, and what is wrong with a profile that fails it.
pub type Check = (&'static str, fn(&Profile) -> Result<(), String>);

/// All checks, in the order they run.
pub const CHECKS: [Check; 10] = [
    ("words", words),
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

/// What a profile says becomes arguments of compilers, names of programs that run, commands that people copy, and text on
/// terminals: each is of a form that can be nothing else.
fn words(profile: &Profile) -> Result<(), String> {
    let (cpu, build) = (&profile.cpu, &profile.build);
    let all = |field: &str, words: &[String], form: Form| words.iter().try_for_each(|word| of_form(field, word, form));
    of_form("cpu.name", &cpu.name, Form::Word)?;
    all("cpu.features", &cpu.features, Form::Feature)?;
    of_form("build.triple", &build.triple, Form::Word)?;
    if let Some(linker) = &build.linker {
        of_form("build.linker", linker, Form::Linker)?;
    }
    all("build.packages", &build.packages, Form::Package)?;
    all("build.rust_packages", &build.rust_packages, Form::Package)?;
    if let Some(emulator) = &profile.emulator {
        of_form("emulator.program", &emulator.program, Form::Qemu)?;
        all("emulator.packages", &emulator.packages, Form::Package)?;
        arguments(&emulator.arguments)?;
    }
    if let Some(system) = &profile.system {
        of_form("system.name", &system.name, Form::Line)?;
        all("system.libraries", &system.libraries, Form::Word)?;
    }
    of_form("family", &profile.family, Form::Line)?;
    of_form("description", &profile.description, Form::Line)?;
    all("boards", &profile.boards, Form::Line)?;
    profile.memory.iter().try_for_each(|memory| of_form("memory.name", &memory.name, Form::Line))
}

/// What a text of a profile may be.
#[derive(Clone, Copy)]
enum Form {
    /// A letter or digit, then letters, digits and `._+-`.
    Word,
    /// `+`, `-` or nothing, then a word.
    Feature,
    /// A Debian package, perhaps with an architecture.
    Package,
    /// A compiler or linker, perhaps with a triple in front and a version behind; found in `PATH`.
    Linker,
    /// `qemu-` and a machine; found in `PATH`.
    Qemu,
    /// An absolute path of words.
    Path,
    /// A line of text.
    Line,
}

/// Linkers, and compilers that link.
const LINKERS: [&str; 10] = ["gcc", "g++", "clang", "clang++", "cc", "c++", "ld", "ld.lld", "lld", "rust-lld"];

fn of_form(field: &str, text: &str, form: Form) -> Result<(), String> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
    let word = |w: &str| w.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric()) && w.bytes().all(plain);
    let (fits, what) = match form {
        Form::Word => (word(text), "letters, digits and . _ + -"),
        Form::Feature => (word(text.strip_prefix(['+', '-']).unwrap_or(text)), "the name of a feature, after + or -"),
        Form::Package => (text.splitn(2, ':').all(word), "the name of a Debian package"),
        Form::Linker => {
            // Less the version at its end.
            let name = text.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
            let known =
                LINKERS.iter().any(|known| name.strip_suffix(known).is_some_and(|r| r.is_empty() || r.ends_with('-')));
            (word(text) && known, "a compiler or linker in PATH, such as aarch64-linux-gnu-gcc")
        }
        Form::Qemu => (word(text) && text.starts_with("qemu-"), "a qemu-… in PATH"),
        Form::Path => (
            text.starts_with('/') && text.split('/').skip(1).all(word),
            "an absolute path of letters, digits and . _ + -",
        ),
        Form::Line => (
            !text.chars().any(|c| {
                c.is_control()
                    || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            }),
            "one line, without control characters",
        ),
    };
    ensure(fits, || format!("`{field}` is {text:?}, and has to be {what}"))
}

/// Those of QEMU's arguments that only say which machine it is and where that machine's files are: others load code into the
/// emulator, or write files.
fn arguments(arguments: &[String]) -> Result<(), String> {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let form = match argument.as_str() {
            "-cpu" | "-M" | "-machine" | "-s" | "-m" => Form::Word,
            "-L" => Form::Path,
            other => {
                return Err(format!(
                    "`emulator.arguments` has {other:?}; they may be -cpu, -M, -m, -s and -L, each with a value"
                ));
            }
        };
        let value =
            rest.next().ok_or_else(|| format!("`emulator.arguments` ends with {argument}, which wants a value"))?;
        // A CPU may have properties behind commas.
        let parts = if matches!(form, Form::Word) { value.split([',', '=']).collect() } else { vec![value.as_str()] };
        parts.into_iter().try_for_each(|part| of_form("emulator.arguments", part, form))?;
    }
    Ok(())
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
        of_form(&format!("{table}.source"), source, Form::Line)?;
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
