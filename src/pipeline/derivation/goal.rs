//! The smallest student that is expected to reach an accuracy: what `--min-accuracy` asks for.
//!
//! The kind of student that won is cut to a half, a quarter and an eighth of its multiply-accumulates. Each is trained for
//! a short while and for three times as long; errors fall with the length of training as a power law (Hestness et al. 2017,
//! <https://arxiv.org/abs/1712.00409>), down to the teacher's own, and so the error after all of the training is estimated.

use super::super::labelling::TeacherLabels;
use super::super::{Error, Job, Progress};
use super::Derived;
use super::halving::{Proxies, taught};
use super::variants::{Candidate, CandidateBuilder};
use crate::pipeline::prepared::Prepared;
use crate::report::{CandidateRow, Outcome};
use crate::student::{self, Budgets, Spec};
use std::path::Path;

/// Parts of the winner's multiply-accumulates that are tried.
const PARTS: [u64; 3] = [2, 4, 8];
/// Each candidate learns from so many samples as a share of those that a whole search may cost: all of them together
/// cost less than two thirds of a search.
const SHARE: usize = 3;
/// The second length of a short training over the first.
const LONGER: usize = 3;
/// Exponents that are believed: others are noise of short trainings.
const EXPONENTS: [f64; 2] = [0.2, 0.7];

/// The smallest of the winner and its narrower likes that is expected to reach `goal`; where none is, the one that is
/// expected to come nearest.
///
/// # Errors
/// When a candidate cannot be made or trained.
pub fn smallest(
    job: &Job,
    teacher: &Prepared,
    labels: &TeacherLabels,
    folder: &Path,
    winner: Derived,
    goal: f64,
    progress: &dyn Progress,
) -> Result<Derived, Error> {
    let proxies = Proxies::new(job);
    let samples = proxies.affordable / SHARE / LONGER;
    let Some(spec) = winner.found.spec.clone().filter(|_| samples >= proxies.fewest && !proxies.judges.is_empty())
    else {
        progress.note("too little training to tell which smaller student would reach --min-accuracy");
        return Ok(winner);
    };
    let narrower = |part: &u64| narrower(job, teacher, &winner, &spec, *part);
    let narrower: Vec<Derived> =
        PARTS.iter().map(narrower).collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    let floor = 1.0 - labels.accuracy(job, &proxies.judges);
    let whole = job.training.epochs * proxies.order.len();
    let mut ladder = vec![];
    let steps = 1 + narrower.len();
    for (index, mut derived) in std::iter::once(winner).chain(narrower).enumerate() {
        let (mut graph, mut start, mut errors) = (derived.graph.clone(), 0, vec![]);
        for length in [samples, (LONGER - 1) * samples] {
            progress.position(index as u64, steps as u64, &derived.found.name);
            let part = proxies.part(start, length);
            let accuracy;
            (graph, accuracy) = taught(job, labels, &graph, &part, &proxies.judges, &folder.join("goal"))?;
            errors.push(1.0 - accuracy);
            start += length;
        }
        if index > 0 {
            // The winner's are those of its rounds.
            let accuracies: Vec<f64> = errors.iter().map(|error| 1.0 - error).collect();
            derived.found.candidates.iter_mut().for_each(|row| row.accuracies.clone_from(&accuracies));
        }
        ladder.push((derived, [errors[0], errors[1]]));
    }
    // They are of one kind, and learn from the same samples: what is common to them is less noisy than each alone.
    let exponents = ladder.iter().map(|(_, errors)| exponent(*errors, floor));
    let exponent = exponents.sum::<f64>() / ladder.len() as f64;
    let longer = whole as f64 / (LONGER * samples) as f64;
    let expect = |(mut derived, errors): (Derived, [f64; 2])| {
        let expected = 1.0 - expected_error(errors[1], floor, longer, exponent);
        let own = derived.found.candidates.iter_mut().find(|row| row.outcome == Outcome::Chosen);
        own.into_iter().for_each(|row| row.expected = Some(expected));
        (derived, expected)
    };
    let mut ladder: Vec<(Derived, f64)> = ladder.into_iter().map(expect).collect();
    let reaches = |(_, (_, expected)): &(usize, &(Derived, f64))| *expected >= goal;
    // They become smaller one after the other.
    let last = ladder.iter().enumerate().filter(reaches).map(|(index, _)| index).next_back();
    let best = (0..ladder.len()).max_by(|&a, &b| ladder[a].1.total_cmp(&ladder[b].1).then(b.cmp(&a)));
    let chosen = last.or(best).unwrap_or(0);
    let mut rows: Vec<CandidateRow> = vec![];
    for (index, (derived, _)) in ladder.iter().enumerate() {
        rows.extend(derived.found.candidates.iter().cloned().map(|row| match row.outcome {
            Outcome::Chosen if index < chosen => CandidateRow { outcome: Outcome::Larger, ..row },
            Outcome::Chosen if index > chosen => CandidateRow { outcome: Outcome::Short, ..row },
            _ => row,
        }));
    }
    let (mut derived, expected) = ladder.swap_remove(chosen);
    derived.found.candidates = rows;
    progress.note(&format!("{}: expected to reach {:.1}% (estimated)", derived.found.name, 100.0 * expected));
    Ok(derived)
}

/// The winner's kind within a part of its multiply-accumulates; `None` where that is too little for it.
fn narrower(job: &Job, teacher: &Prepared, winner: &Derived, spec: &Spec, part: u64) -> Result<Option<Derived>, Error> {
    let budgets = Budgets { macs: Some(winner.found.cost.macs / part), ..job.budgets(&teacher.cost) };
    let mut builder = CandidateBuilder::new(job, teacher);
    builder.budgets = budgets;
    match builder.candidate(&Spec { kind: spec.kind.clone(), ..Spec::default() }) {
        Ok(Candidate { graph, mut found }) => {
            found.name = format!("{}, 1/{part} of the MACs", found.name);
            found.candidates.iter_mut().for_each(|row| row.name.clone_from(&found.name));
            Ok(Some(Derived { graph, found }))
        }
        Err(Error::Student(student::Error::DoesNotFit { .. })) => Ok(None),
        Err(other) => Err(other),
    }
}

/// An error above `floor`, below which no training goes.
fn above(error: f64, floor: f64) -> f64 {
    (error - floor).max(1e-3)
}

/// The power of the length of training by which errors fall, from those of two trainings, the second [`LONGER`] times as
/// long as the first.
fn exponent([first, second]: [f64; 2], floor: f64) -> f64 {
    let [low, high] = EXPONENTS;
    ((above(first, floor) / above(second, floor)).ln() / (LONGER as f64).ln()).clamp(low, high)
}

/// The error after a training `longer` times as long as the one that ended with `error`.
fn expected_error(error: f64, floor: f64, longer: f64, exponent: f64) -> f64 {
    floor + above(error, floor) * longer.max(1.0).powf(-exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_fall_as_a_power_law_down_to_the_teachers() {
        // Above 0.05: 0.2 · n^-½, seen at n = 1 and 3, asked for at 12.
        let at = |n: f64| 0.05 + 0.2 * n.powf(-0.5);
        let found = exponent([at(1.0), at(3.0)], 0.05);
        let expected = expected_error(at(3.0), 0.05, 4.0, found);
        assert!((found - 0.5).abs() < 1e-12 && (expected - at(12.0)).abs() < 1e-12, "{found} {expected}");
        // What falls faster than is believed, or rises, is taken for the nearest exponent that is.
        assert_eq!([exponent([0.9, 0.01], 0.0), exponent([0.1, 0.2], 0.0)], [0.7, 0.2]);
        // A student that is already better than the teacher.
        assert!(expected_error(0.03, 0.05, 4.0, 0.5) < 0.052);
    }
}
