//! Random networks through the whole back end: `backend` says what must hold. Thousands, and built programs:
//! `cargo bench --bench backend`.

use crate::backend::{CALIBRATED, Case, Outcome, check};
use crate::random::{network, samples};
use rayon::prelude::*;
use std::panic::{AssertUnwindSafe, catch_unwind};

const SEEDS: std::ops::Range<u64> = 0..300;

#[test]
fn random_networks_pass_the_back_end() {
    let one = |seed: u64| {
        let graph = network(seed);
        let samples = samples(&graph, CALIBRATED + 4, seed);
        let case = Case { graph, samples, seed, derive: true };
        let checked = catch_unwind(AssertUnwindSafe(|| check(&case)));
        checked.unwrap_or_else(|_| Err("it panicked".into())).map_err(|why| format!("seed {seed}: {why}"))
    };
    let results: Vec<_> = SEEDS.into_par_iter().map(one).collect();
    let faults: Vec<&String> = results.iter().filter_map(|r| r.as_ref().err()).collect();
    assert!(faults.is_empty(), "{} of {}: {faults:#?}", faults.len(), results.len());
    let compiled = results.iter().filter(|r| matches!(r, Ok(Outcome::Compiled(_)))).count();
    assert!(10 * compiled > 9 * results.len(), "only {compiled} of {} were compiled", results.len());
}
