//! `kdc targets`: lists the boards that kdc knows, or shows one with the sources of its numbers.

use crate::escape::{self, line};
use crate::report::{Align, bytes, count, list, table};
use crate::target::terms::Family;
use crate::target::{self, Cost, MemoryKind, Profile, Rates};
use clap::Args;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// List the boards to compile for, or show one with its sources
#[derive(Debug, Args)]
pub struct Arguments {
    /// The board to show
    name: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Folder with target profiles of your own, before those that come with kdc
    #[arg(long, value_name = "DIR")]
    targets: Vec<PathBuf>,
}

/// Lists or shows.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let folders = target::folders(&arguments.targets);
    let text = match &arguments.name {
        Some(name) => {
            let profile = target::find(name, &folders)?;
            if arguments.json { json(&profile)? } else { shown(&profile) }
        }
        None => {
            let profiles = target::all(&folders)?;
            if arguments.json { json(&profiles)? } else { listed(&profiles) }
        }
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn json(value: &impl serde::Serialize) -> Result<String, serde_json::Error> {
    Ok(escape::json(&serde_json::to_string_pretty(value)?) + "\n")
}

fn listed(profiles: &[Profile]) -> String {
    let head = [
        ("target", Align::Left),
        ("also", Align::Left),
        ("CPU", Align::Left),
        ("RAM", Align::Right),
        ("what", Align::Left),
    ];
    let rows = profiles.iter().map(|p| {
        let cells =
            [p.id.clone(), p.aliases.join(", "), p.cpu.name.clone(), bytes(p.ram().0 as f64), p.description.clone()];
        cells.to_vec()
    });
    table(&head, rows)
}

/// Everything the profile says, each part with its source.
fn shown(profile: &Profile) -> String {
    let cpu = &profile.cpu;
    let clock = format!("{} cores at {} Hz", cpu.cores, count(cpu.clock_hz as f64));
    let mut rows = vec![
        ("also", profile.aliases.join(", ")),
        ("family", profile.family.clone()),
        ("boards", profile.boards.join(", ")),
        ("CPU", format!("{}, {clock}", cpu.name)),
        ("CPU features", cpu.features.join(", ")),
        ("", source(&cpu.source)),
    ];
    for memory in &profile.memory {
        let kind = match memory.kind {
            MemoryKind::Flash => "flash",
            MemoryKind::Ram => "RAM",
        };
        rows.push((kind, format!("{}, {}", memory.name, bytes(memory.bytes as f64))));
        rows.push(("", source(&memory.source)));
    }
    if let Some(system) = &profile.system {
        let glibc = system.glibc.map_or(String::new(), |v| format!(", glibc {v}"));
        rows.push(("system", format!("{}{glibc}", system.name)));
        rows.push(("", source(&system.source)));
    }
    let build = &profile.build;
    let linker = build.linker.as_ref().map_or(String::new(), |l| format!(", linked by {l}"));
    rows.push(("built for", format!("{}{linker}", build.triple)));
    rows.push(("", source(&build.source)));
    if let Some(emulator) = &profile.emulator {
        rows.push(("emulated by", format!("{} {}", emulator.program, emulator.arguments.join(" "))));
        rows.push(("", source(&emulator.source)));
    }
    let budgets = &profile.budgets;
    rows.push(("latency budget", format!("{} s", budgets.latency_s)));
    rows.push(("RAM budget", bytes(budgets.ram.0 as f64)));
    rows.push(("flash budget", bytes(budgets.flash.0 as f64)));
    rows.push(("", source(&budgets.source)));
    rows.retain(|(_, value)| !value.is_empty());
    let rows = rows.into_iter().map(|(name, value)| (name.to_owned(), value));
    format!("{}: {}\n{}\n{}", line(&profile.id), line(&profile.description), list(rows), coefficients(&profile.cost))
}

/// The cost model's coefficients, both precisions side by side.
fn coefficients(cost: &Cost) -> String {
    let cycles = |rates: &Rates, family: Family, term: &str| {
        rates.of(family).0.get(term).map_or_else(|| "-".to_owned(), f64::to_string)
    };
    let rows = Family::ALL.into_iter().flat_map(|family| {
        let row = move |term: &&str| {
            vec![format!("{} {term}", family.name()), cycles(&cost.int8, family, term), cycles(&cost.f32, family, term)]
        };
        family.terms().iter().map(row)
    });
    let head = [("cost model, cycles", Align::Left), ("int8", Align::Right), ("f32", Align::Right)];
    let cached = match cost.cached_bytes {
        0 => String::new(),
        cached => format!(", beyond {} of them", bytes(cached as f64)),
    };
    let mut other = vec![
        ("weights come in at", format!("{} bytes a cycle{cached}", cost.weight_bytes_per_cycle)),
        ("", source(&cost.source)),
    ];
    if let Some(instructions) = &cost.instructions {
        other.push(("instructions a cycle", instructions.per_cycle.to_string()));
        other.push(("", source(&instructions.source)));
    }
    other.extend([("int8", source(&cost.int8.source)), ("f32", source(&cost.f32.source))]);
    table(&head, rows.filter(|row| row[1..].iter().any(|cell| cell != "-")))
        + &list(other.into_iter().map(|(n, v)| (n.to_owned(), v)))
}

fn source(source: &str) -> String {
    format!("source: {source}")
}
