//! `kdc methods`: every way to distill that a recipe can name.

use crate::distill::{Entry, Family, METHODS, presets::PRESETS};
use clap::Args;
use std::error::Error;
use std::fmt::Write as _;
use std::process::ExitCode;

/// List the distillation methods and the presets of recipes
#[derive(Debug, Args)]
pub struct Arguments {
    /// One method, in full: formula, source, when to use it, settings; or one preset, as a file to start from
    name: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Prints the list, or one entry.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let text = match &arguments.name {
        _ if arguments.json => json()?,
        None => list(),
        Some(name) => match (METHODS.iter().find(|m| m.name == name), PRESETS.iter().find(|p| p.name == name)) {
            (Some(entry), _) => full(entry),
            (None, Some(preset)) => preset.text.to_string(),
            (None, None) => {
                let names = METHODS.iter().map(|m| m.name).chain(PRESETS.iter().map(|p| p.name));
                let names: Vec<&str> = names.collect();
                return Err(format!("there is no method or preset '{name}'; there are {}", names.join(", ")).into());
            }
        },
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn list() -> String {
    let mut text = String::new();
    for family in [Family::Instance, Family::Feature, Family::Model] {
        // Writing to a string cannot fail.
        _ = writeln!(text, "{}", family.title());
        for entry in METHODS.iter().filter(|m| m.family == family) {
            _ = writeln!(text, "  {:<18} {}", entry.name, entry.summary);
        }
        text.push('\n');
    }
    text += "presets of recipes (--recipe NAME)\n";
    for preset in PRESETS {
        _ = writeln!(text, "  {:<18} {}", preset.name, preset.summary);
    }
    text + "\n`kdc methods NAME` says more of one.\n"
}

/// An entry in full, ending with a recipe that runs.
fn full(entry: &Entry) -> String {
    format!(
        "{}: {}\n\n  {}\n\nsource: {}\nwhen: {}\n\n{}",
        entry.name,
        entry.summary,
        entry.formula,
        entry.source,
        entry.when,
        entry.recipe()
    )
}

fn json() -> Result<String, serde_json::Error> {
    let entry = |m: &Entry| {
        serde_json::json!({
            "name": m.name, "family": m.family, "summary": m.summary, "formula": m.formula, "source": m.source,
            "when": m.when, "weight": m.weight, "settings": m.defaults(), "recipe": m.recipe(),
        })
    };
    let presets: Vec<_> =
        PRESETS.iter().map(|p| serde_json::json!({ "name": p.name, "summary": p.summary, "recipe": p.text })).collect();
    let all = serde_json::json!({ "methods": METHODS.iter().map(entry).collect::<Vec<_>>(), "presets": presets });
    Ok(crate::escape::json(&serde_json::to_string_pretty(&all)?) + "\n")
}
