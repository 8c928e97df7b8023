//! What a target profile says, as it stands in its TOML file.
//!
//! Every table has a `source`: the address of a data sheet or of a manufacturer's documentation, or `estimate: …` with
//! how the numbers were derived.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::terms::Family;

/// Bytes of the memory that a program is stored in: flash, or a file on a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FlashBytes(pub u64);

/// Bytes of the memory that a program works in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RamBytes(pub u64);

/// A board family: what kdc knows about a target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What users call it: lower case, words joined by hyphens.
    pub id: String,
    /// Other names for it.
    #[serde(default)]
    pub aliases: Vec<String>,
    pub family: String,
    /// The boards meant; numbers are those of the weakest.
    pub boards: Vec<String>,
    pub description: String,
    pub cpu: Cpu,
    pub memory: Vec<Memory>,
    /// `None` for programs without an operating system below.
    pub system: Option<System>,
    pub build: Build,
    /// How programs for it run on a workstation; `None` where they run directly, or not at all.
    pub emulator: Option<Emulator>,
    pub cost: Cost,
    pub budgets: Budgets,
}

/// The processor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cpu {
    /// As `rustc -C target-cpu` knows it; `native` for this machine.
    pub name: String,
    /// For `rustc -C target-feature`, beyond what the CPU's name implies.
    #[serde(default)]
    pub features: Vec<String>,
    pub clock_hz: u64,
    pub cores: u32,
    pub source: String,
}

/// One region of memory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    pub name: String,
    pub kind: MemoryKind,
    /// Its first address, where the linker must know (microcontrollers).
    pub start: Option<u64>,
    pub bytes: u64,
    pub source: String,
}

/// What a region of memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryKind {
    /// Keeps programs and constants.
    Flash,
    /// Variables.
    Ram,
}

/// The operating system that a program finds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct System {
    pub name: String,
    /// The C library's version; `None` when programs are built on the machine they run on.
    pub glibc: Option<Glibc>,
    /// Shared libraries that every installation has; empty when programs are built on the machine they run on.
    #[serde(default)]
    pub libraries: Vec<String>,
    pub source: String,
}

/// A version of the GNU C library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Glibc {
    pub major: u32,
    pub minor: u32,
}

impl fmt::Display for Glibc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl From<Glibc> for String {
    fn from(version: Glibc) -> String {
        version.to_string()
    }
}

impl TryFrom<String> for Glibc {
    type Error = String;

    /// Reads `2.36`; a third number (`2.2.5`, as old symbols have it) does not matter here.
    fn try_from(text: String) -> Result<Glibc, String> {
        let mut numbers = text.split('.').map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) => Ok(Glibc { major, minor }),
            _ => Err(format!("`{text}` is not a version like 2.36")),
        }
    }
}

/// What builds programs for it, and what they look like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// Rust's target triple.
    pub triple: String,
    /// The machine in the program's ELF header.
    pub machine: Machine,
    /// How floats are passed to functions.
    pub float_abi: FloatAbi,
    /// The program that links; `None` for the one that Rust takes by itself.
    pub linker: Option<String>,
    /// Debian packages with the linker and the C library it links.
    #[serde(default)]
    pub packages: Vec<String>,
    /// Debian packages with a Rust compiler and its standard library for the triple.
    #[serde(default)]
    pub rust_packages: Vec<String>,
    pub source: String,
}

/// A machine as ELF names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Machine {
    Aarch64,
    Arm,
    #[serde(rename = "x86_64")]
    X86_64,
    Riscv64,
}

impl Machine {
    /// The machine that this kdc runs on, if profiles know it.
    pub fn host() -> Option<Machine> {
        match std::env::consts::ARCH {
            "aarch64" => Some(Machine::Aarch64),
            "arm" => Some(Machine::Arm),
            "x86_64" => Some(Machine::X86_64),
            "riscv64" => Some(Machine::Riscv64),
            _ => None,
        }
    }

    /// The name in profiles.
    pub fn name(self) -> &'static str {
        match self {
            Machine::Aarch64 => "aarch64",
            Machine::Arm => "arm",
            Machine::X86_64 => "x86_64",
            Machine::Riscv64 => "riscv64",
        }
    }

    /// Whether programs are 64-bit ELF files.
    pub fn is_64(self) -> bool {
        !matches!(self, Machine::Arm)
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How floats are passed to functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FloatAbi {
    /// In floating-point registers.
    Hard,
    /// In integer registers.
    Soft,
}

impl fmt::Display for FloatAbi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            FloatAbi::Hard => "hard",
            FloatAbi::Soft => "soft",
        })
    }
}

/// An emulator of user programs: `PROGRAM ARGUMENTS… STUDENT …`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Emulator {
    pub program: String,
    pub arguments: Vec<String>,
    /// Debian packages with the emulator and the board's C library.
    pub packages: Vec<String>,
    pub source: String,
}

/// Coefficients of the cost model; see [`super::cost`] for the formula.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    /// How fast weights come in, in bytes a cycle: a bound for layers that use each weight once or twice.
    pub weight_bytes_per_cycle: f64,
    /// Constants of a program that stay in a cache from one inference to the next, where weights come in as fast as the
    /// kernels take them: the bound begins beyond. 0: it always holds.
    #[serde(default)]
    pub cached_bytes: u64,
    pub source: String,
    /// What turned instructions into cycles, where the coefficients come from an emulator.
    pub instructions: Option<Instructions>,
    pub int8: Rates,
    pub f32: Rates,
}

/// How fast a processor takes instructions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instructions {
    pub per_cycle: f64,
    pub source: String,
}

/// Cycles of the terms of each family of kernels, in one precision; [`Family::terms`] says what they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    pub source: String,
    pub conv2d: Terms,
    pub depthwise_conv2d: Terms,
    pub fully_connected: Terms,
    pub max_pool: Terms,
    pub average_pool: Terms,
    pub add: Terms,
    pub mul: Terms,
    pub function: Terms,
    pub softmax: Terms,
    pub copy: Terms,
    pub ports: Terms,
}

/// Cycles by term; terms that are left out take none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Terms(pub BTreeMap<String, f64>);

impl Rates {
    /// The cycles of a family's terms.
    pub fn of(&self, family: Family) -> &Terms {
        match family {
            Family::Conv2d => &self.conv2d,
            Family::DepthwiseConv2d => &self.depthwise_conv2d,
            Family::FullyConnected => &self.fully_connected,
            Family::MaxPool => &self.max_pool,
            Family::AveragePool => &self.average_pool,
            Family::Add => &self.add,
            Family::Mul => &self.mul,
            Family::Function => &self.function,
            Family::Softmax => &self.softmax,
            Family::Copy => &self.copy,
            Family::Ports => &self.ports,
        }
    }

    /// The rates that `terms` gives for each family.
    pub fn build(source: String, mut terms: impl FnMut(Family) -> Terms) -> Rates {
        Rates {
            source,
            conv2d: terms(Family::Conv2d),
            depthwise_conv2d: terms(Family::DepthwiseConv2d),
            fully_connected: terms(Family::FullyConnected),
            max_pool: terms(Family::MaxPool),
            average_pool: terms(Family::AveragePool),
            add: terms(Family::Add),
            mul: terms(Family::Mul),
            function: terms(Family::Function),
            softmax: terms(Family::Softmax),
            copy: terms(Family::Copy),
            ports: terms(Family::Ports),
        }
    }
}

impl Terms {
    /// Coefficients in the order of [`Family::terms`].
    pub fn in_order(&self, family: Family) -> Vec<f64> {
        family.terms().iter().map(|term| self.0.get(*term).copied().unwrap_or(0.0)).collect()
    }

    /// From coefficients in the order of [`Family::terms`]; those that are zero are left out.
    pub fn from_order(family: Family, coefficients: &[f64]) -> Terms {
        let named = family.terms().iter().zip(coefficients).filter(|(_, c)| **c != 0.0);
        Terms(named.map(|(term, &c)| ((*term).to_owned(), c)).collect())
    }
}

impl Cost {
    /// The `[cost]` tables of a profile: a line for each family.
    pub fn to_toml(&self) -> String {
        use fmt::Write;
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let mut text = format!("[cost]\nweight_bytes_per_cycle = {:?}\n", self.weight_bytes_per_cycle);
        if self.cached_bytes > 0 {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "cached_bytes = {}", self.cached_bytes);
        }
        let _ = writeln!(text, "source = {}", quoted(&self.source));
        if let Some(instructions) = &self.instructions {
            let (per_cycle, source) = (instructions.per_cycle, quoted(&instructions.source));
            let _ = writeln!(text, "\n[cost.instructions]\nper_cycle = {per_cycle:?}\nsource = {source}");
        }
        for (name, rates) in [("int8", &self.int8), ("f32", &self.f32)] {
            let _ = writeln!(text, "\n[cost.{name}]\nsource = {}", quoted(&rates.source));
            for family in Family::ALL {
                let named = family.terms().iter().filter_map(|term| Some((term, rates.of(family).0.get(*term)?)));
                let terms: Vec<String> = named.map(|(term, cycles)| format!("{term} = {cycles:?}")).collect();
                let _ = writeln!(text, "{} = {{ {} }}", family.name(), terms.join(", "));
            }
        }
        text
    }
}

/// What a student may take when the user states no budget.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    /// Seconds for one inference.
    pub latency_s: f64,
    pub ram: RamBytes,
    pub flash: FlashBytes,
    pub source: String,
}

impl Profile {
    /// The id, then the aliases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.id.as_str()).chain(self.aliases.iter().map(String::as_str))
    }

    /// All of its RAM.
    pub fn ram(&self) -> RamBytes {
        RamBytes(self.total(MemoryKind::Ram))
    }

    /// All of its flash (or what stands for it).
    pub fn flash(&self) -> FlashBytes {
        FlashBytes(self.total(MemoryKind::Flash))
    }

    fn total(&self, kind: MemoryKind) -> u64 {
        self.memory.iter().filter(|m| m.kind == kind).fold(0, |sum, m| sum.saturating_add(m.bytes))
    }

    /// Whether programs for it are meant for the machine that kdc runs on.
    pub fn is_host(&self) -> bool {
        self.cpu.name == "native"
    }

    /// Reads a profile. A profile of the CPU `native` leaves out what this machine says itself: cores, RAM, triple,
    /// machine and float ABI.
    pub(super) fn from_toml(text: &str) -> Result<Profile, toml::de::Error> {
        let mut table: toml::Table = text.parse()?;
        let cpu = table.get("cpu").and_then(|cpu| cpu.get("name")).and_then(toml::Value::as_str);
        if cpu == Some("native") {
            fill_in_this_machine(&mut table);
            return table.try_into();
        }
        toml::from_str(text) // a second time, for errors with line and column
    }
}

fn fill_in_this_machine(profile: &mut toml::Table) {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    let machine = Machine::host().map_or(std::env::consts::ARCH, Machine::name);
    let mut fill = |table: &str, key: &str, value: toml::Value| {
        if let Some(toml::Value::Table(table)) = profile.get_mut(table) {
            table.entry(key).or_insert(value);
        }
    };
    fill("cpu", "cores", toml::Value::Integer(cores.try_into().unwrap_or(i64::MAX)));
    fill("build", "triple", toml::Value::String(host_triple()));
    fill("build", "machine", toml::Value::String(machine.into()));
    fill("build", "float_abi", toml::Value::String("hard".into()));
    if let Some(toml::Value::Array(regions)) = profile.get_mut("memory") {
        let ram = toml::toml! {
            name = "RAM"
            kind = "ram"
            source = "this machine: sysconf(_SC_PHYS_PAGES)"
        };
        let bytes = ("bytes".into(), physical_memory());
        regions.push(toml::Value::Table(ram.into_iter().chain([bytes]).collect()));
    }
}

/// Rust's triple of the machine that kdc runs on.
fn host_triple() -> String {
    let system = match std::env::consts::OS {
        "linux" if cfg!(target_env = "musl") => "unknown-linux-musl",
        "linux" => "unknown-linux-gnu",
        "macos" => "apple-darwin",
        other => other,
    };
    format!("{}-{system}", std::env::consts::ARCH)
}

fn physical_memory() -> toml::Value {
    // SAFETY: `sysconf` reads two constants of the system.
    let (pages, size) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    toml::Value::from(pages.saturating_mul(size))
}
