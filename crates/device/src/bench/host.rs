//! Times a student on this host: every figure is *measured*.

use serde::{Deserialize, Serialize};

use super::figure::{Figure, Unit};
use super::process::Error;
use super::student::Student;

/// What many runs of one thing took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Timing {
    /// How many were timed.
    pub runs: usize,
    /// The middle one of the sorted times; the mean of the two middle ones when their number is even.
    pub median_s: f64,
    /// The smallest time that at least 95% of the runs did not exceed (nearest rank).
    pub p95_s: f64,
}

impl Timing {
    /// Sums up times in nanoseconds; `None` for no times.
    pub fn of(nanoseconds: &[u64]) -> Option<Timing> {
        let mut sorted = nanoseconds.to_vec();
        sorted.sort_unstable();
        let at = |index: usize| sorted.get(index).map(|&ns| ns as f64 * 1e-9);
        let runs = sorted.len();
        let median_s = (at(runs.saturating_sub(1) / 2)? + at(runs / 2)?) / 2.0;
        let p95_s = at((runs * 95).div_ceil(100).saturating_sub(1))?;
        Some(Timing { runs, median_s, p95_s })
    }

    /// The median and the 95th percentile as figures of `what`.
    pub fn figures(&self, what: &str) -> [Figure; 2] {
        let label = |name: &str| format!("{what}, {name} of {} runs", self.runs);
        [
            Figure::measured(label("median"), self.median_s, Unit::Seconds),
            Figure::measured(label("95th percentile"), self.p95_s, Unit::Seconds),
        ]
    }
}

/// What a student takes on this host.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostBench {
    pub timing: Timing,
    /// The largest resident set of the whole program, where the system says it.
    pub peak_rss_bytes: Option<u64>,
}

/// Times `runs` inferences of a student after `warmup` untimed ones.
///
/// # Errors
/// When the student cannot be run or times nothing.
pub fn bench(student: &Student, runs: usize, warmup: usize) -> Result<HostBench, Error> {
    let timed = student.bench(runs, warmup)?;
    let nothing = || Error::NoRuns { command: student.program().display().to_string() };
    let timing = Timing::of(&timed.nanoseconds).ok_or_else(nothing)?;
    Ok(HostBench { timing, peak_rss_bytes: timed.peak_rss_bytes })
}

#[cfg(test)]
mod tests {
    use super::super::student::tests::scripted;
    use super::*;

    #[test]
    fn medians_and_percentiles_are_as_stated() {
        assert_eq!(Timing::of(&[]), None);
        let one = Timing::of(&[5]).unwrap();
        assert_eq!((one.median_s, one.p95_s), (5e-9, 5e-9));
        let four = Timing::of(&[40, 10, 30, 20]).unwrap();
        assert!((four.median_s - 25e-9).abs() < 1e-18 && (four.p95_s - 40e-9).abs() < 1e-18);
        let hundred: Vec<u64> = (1..=100).rev().collect();
        assert!((Timing::of(&hundred).unwrap().p95_s - 95e-9).abs() < 1e-18);
    }

    #[test]
    fn a_student_is_timed() {
        let folder = tempfile::tempdir().unwrap();
        let student = scripted(folder.path(), r#"echo '{"nanoseconds":[3000,1000,2000],"peak_rss_bytes":4096}'"#);
        let bench = bench(&student, 3, 1).unwrap();
        assert!((bench.timing.median_s - 2e-6).abs() < 1e-15);
        assert_eq!(bench.peak_rss_bytes, Some(4096));
        let [median, _] = bench.timing.figures("latency");
        assert_eq!(median.label, "latency, median of 3 runs");
    }
}
