//! Every method's loss and gradients against those of an independent implementation, tests/methods/golden.py.

use super::trial::{Numbers, Trial};
use crate::distill::step::Layout;
use crate::distill::{TermSpec, terms};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Deserialize)]
struct Case {
    name: String,
    method: String,
    settings: toml::Table,
    progress: f64,
    inputs: BTreeMap<String, Numbers>,
    /// Where the channels of each pair are.
    pairs: Vec<String>,
    parts: Vec<f64>,
    gradients: BTreeMap<String, Numbers>,
    #[serde(rename = "kept samples")]
    samples: Option<usize>,
    /// What takes the place of the student's activations.
    #[serde(default)]
    mixed: Vec<Numbers>,
    /// Buffers after the step.
    #[serde(default)]
    after: BTreeMap<String, Numbers>,
}

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("../../../../../tests/methods/golden.json")).unwrap()
}

/// Relative to the largest of the numbers.
const TOLERANCE: f64 = 1e-4;

fn hold(what: &str, got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1e-6, |most: f64, v| most.max(v.abs()));
    let worst = got.iter().zip(want).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst <= TOLERANCE * scale, "{what}: {got:?} against {want:?}");
}

#[test]
fn losses_and_gradients_are_those_of_another_implementation() {
    for case in cases() {
        let layout = |word: &String| match word.as_str() {
            "first" => Layout::ChannelsFirst,
            "last" => Layout::ChannelsLast,
            _ => panic!("{word}"),
        };
        let rows = case.inputs["student logits"].shape[0];
        let trial = Trial {
            spec: TermSpec { settings: case.settings, ..TermSpec::new(&case.method) },
            inputs: case.inputs,
            layouts: case.pairs.iter().map(layout).collect(),
            progress: case.progress,
            samples: case.samples.unwrap_or(rows),
        };
        let outcome = trial.run().unwrap_or_else(|e| panic!("{}: {e}", case.name));
        hold(&format!("{}: loss", case.name), &outcome.parts, &case.parts);
        for (name, want) in &case.gradients {
            let what = format!("{}: gradient of {name}", case.name);
            let got = outcome.gradients.get(name).unwrap_or_else(|| panic!("{what}: there is none"));
            hold(&what, got, &want.data);
        }
        for (name, got) in &outcome.gradients {
            let moved = got.iter().any(|v| *v != 0.0);
            assert!(!moved || case.gradients.contains_key(name), "{}: {name} has a gradient {got:?}", case.name);
        }
        assert_eq!(outcome.mixed.len(), case.mixed.len(), "{}", case.name);
        for (got, want) in outcome.mixed.iter().zip(&case.mixed) {
            hold(&format!("{}: the mix", case.name), got, &want.data);
        }
        for (name, want) in &case.after {
            let (_, got) = outcome.after.iter().find(|(other, _)| other == name).unwrap();
            let got: Vec<f64> = got.iter().map(|&v| f64::from(v)).collect();
            hold(&format!("{}: {name} afterwards", case.name), &got, &want.data);
        }
    }
}

#[test]
fn every_method_has_a_case() {
    let tried: BTreeSet<String> = cases().into_iter().map(|case| case.method).collect();
    for entry in terms::METHODS {
        assert!(tried.contains(entry.name), "{}", entry.name);
    }
}
