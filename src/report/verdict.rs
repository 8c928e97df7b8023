//! Budgets and tolerances, and whether they are met.

use super::format::{bytes, count, seconds};
use crate::bench::Origin;
use serde::{Deserialize, Serialize};

/// What a limit is about; decides how numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantity {
    Macs,
    Parameters,
    Bytes,
    Seconds,
    /// Percentage points of accuracy.
    Points,
    /// A share, in percent.
    Percent,
    /// Things counted, e.g. values that differ.
    Count,
}

impl Quantity {
    /// A number of this kind, for people.
    pub fn show(self, value: f64) -> String {
        match self {
            Quantity::Percent => format!("{value:.2}%"),
            Quantity::Macs => format!("{} MACs", count(value)),
            Quantity::Parameters => format!("{} parameters", count(value)),
            Quantity::Bytes => bytes(value),
            Quantity::Seconds => seconds(value),
            Quantity::Points => format!("{value:.2} points"),
            Quantity::Count => count(value),
        }
    }
}

/// Who set a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The user.
    Asked,
    /// The target's profile.
    Target,
    /// kdc, where nobody else did.
    Default,
    /// kdc, for a file that other engines run: what they make of it decides nothing about the program.
    Export,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Source::Asked => "asked",
            Source::Target => "target",
            Source::Default => "default",
            Source::Export => "export",
        })
    }
}

/// A limit, what was found, and whether it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The option that sets the limit, e.g. `--max-ram`; or the tolerance in words.
    pub name: String,
    pub source: Source,
    pub quantity: Quantity,
    /// The most that is allowed.
    pub limit: f64,
    pub value: f64,
    /// `None` for exact counts.
    pub origin: Option<Origin>,
    pub met: bool,
}

impl Verdict {
    /// Judges `value` by `limit`. What is not a number does not meet a limit.
    pub fn new(
        name: impl Into<String>,
        source: Source,
        quantity: Quantity,
        (value, limit): (f64, f64),
        origin: Option<Origin>,
    ) -> Verdict {
        Verdict { name: name.into(), source, quantity, limit, value, origin, met: value <= limit }
    }

    /// Whether the compilation fails with it.
    pub fn decides(&self) -> bool {
        self.source != Source::Export
    }

    /// By how much the limit is exceeded, in words; `None` when it is met.
    pub fn excess(&self) -> Option<String> {
        let over = self.value - self.limit;
        let share = if self.limit > 0.0 { format!(" (+{:.1}%)", 100.0 * over / self.limit) } else { String::new() };
        (!self.met).then(|| format!("over by {}{share}", self.quantity.show(over)))
    }
}

impl std::fmt::Display for Verdict {
    /// `--max-ram: 80.0 KiB (81,920 B) of at most 64.0 KiB (65,536 B), breached: over by …`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let show = |v| self.quantity.show(v);
        write!(f, "{}: {} of at most {}", self.name, show(self.value), show(self.limit))?;
        match self.excess() {
            None => write!(f, ", met"),
            Some(excess) => write!(f, ", breached: {excess}"),
        }
    }
}
