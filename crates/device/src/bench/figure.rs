//! A number with its label, unit and origin: what benchmarks hand to the report.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a number comes from. Numbers of different origins never share a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A clock or a counter on the thing itself.
    Measured,
    /// Instructions counted by an emulator.
    Simulated,
    /// A model with coefficients.
    Estimated,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Origin::Measured => "measured",
            Origin::Simulated => "simulated",
            Origin::Estimated => "estimated",
        })
    }
}

/// What a [`Figure`] counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    Seconds,
    Bytes,
    Instructions,
    /// A quotient of two figures of one unit.
    Ratio,
}

/// One number of a report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What it is, e.g. `latency, median of 200 runs`.
    pub label: String,
    pub value: f64,
    pub unit: Unit,
    pub origin: Origin,
}

impl Figure {
    /// A figure.
    pub fn new(label: impl Into<String>, value: f64, unit: Unit, origin: Origin) -> Figure {
        Figure { label: label.into(), value, unit, origin }
    }

    /// A figure read from a clock or a counter on the thing itself.
    pub fn measured(label: impl Into<String>, value: f64, unit: Unit) -> Figure {
        Figure::new(label, value, unit, Origin::Measured)
    }

    /// A figure that an emulator counted.
    pub fn simulated(label: impl Into<String>, value: f64, unit: Unit) -> Figure {
        Figure::new(label, value, unit, Origin::Simulated)
    }

    /// A figure that a model computed.
    pub fn estimated(label: impl Into<String>, value: f64, unit: Unit) -> Figure {
        Figure::new(label, value, unit, Origin::Estimated)
    }
}

/// The value with its unit, in the prefix that suits it: `1.25 ms`, `14.5 KiB`, `2.31 M instructions`, `1.08 ×`.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&match self.unit {
            Unit::Seconds => scaled(self.value, &[(1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")]),
            Unit::Bytes => {
                scaled(self.value, &[(1_073_741_824.0, "GiB"), (1_048_576.0, "MiB"), (1024.0, "KiB"), (1.0, "B")])
            }
            Unit::Instructions => {
                let prefixes = [(1e9, "G instructions"), (1e6, "M instructions"), (1e3, "k instructions")];
                scaled(self.value, &[prefixes.as_slice(), &[(1.0, "instructions")]].concat())
            }
            Unit::Ratio => format!("{:.2} ×", self.value),
        })
    }
}

/// Three significant digits (all of them before the point) in the largest of the descending `prefixes` that leaves at
/// least 1.
fn scaled(value: f64, prefixes: &[(f64, &str)]) -> String {
    let fits = prefixes.iter().find(|(size, _)| value.abs() >= *size).or(prefixes.last());
    let Some((size, name)) = fits else { return value.to_string() };
    let value = value / size;
    let decimals = match value.abs() {
        v if v == v.trunc() && *size == 1.0 => 0,
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_printed_in_the_prefix_that_suits_them() {
        let shown = |value, unit| Figure::measured("", value, unit).to_string();
        assert_eq!(shown(0.00125, Unit::Seconds), "1.25 ms");
        assert_eq!(shown(4.2e-8, Unit::Seconds), "42.0 ns");
        assert_eq!(shown(14848.0, Unit::Bytes), "14.5 KiB");
        assert_eq!(shown(17.0, Unit::Bytes), "17 B");
        assert_eq!(shown(0.0, Unit::Bytes), "0 B");
        assert_eq!(shown(2_310_000.0, Unit::Instructions), "2.31 M instructions");
        assert_eq!(shown(1.084, Unit::Ratio), "1.08 ×");
    }

    #[test]
    fn origins_survive_json() {
        let figure = Figure::simulated("instructions per inference", 12345.0, Unit::Instructions);
        let text = serde_json::to_string(&figure).unwrap();
        assert!(text.contains("\"origin\":\"simulated\""), "{text}");
        assert_eq!(serde_json::from_str::<Figure>(&text).unwrap(), figure);
    }
}
