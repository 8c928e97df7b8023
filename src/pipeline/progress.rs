//! What a compilation tells whoever watches, while it runs.

/// Watches a compilation. Stages come one after another: `start`, any number of `position` and `note`, then `finish`.
pub trait Progress {
    /// A stage begins; `stage` is its name, e.g. `distill`.
    fn start(&self, stage: &str);

    /// So many units of work of the current stage are done, of how many; `text` says how it goes, e.g. `loss 0.412`.
    fn position(&self, done: u64, total: u64, text: &str);

    /// Something worth a line of its own, e.g. the end of an epoch.
    fn note(&self, line: &str);

    /// The stage is over.
    fn finish(&self, stage: &str, outcome: Outcome);
}

/// How a stage came to its end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// It ran, and took so many seconds.
    Ran { seconds: f64 },
    /// What it would have made was there already.
    Cached,
    /// It was not asked for, or could not run; the report says why.
    Skipped,
}

/// Watches and says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn start(&self, _: &str) {}
    fn position(&self, _: u64, _: u64, _: &str) {}
    fn note(&self, _: &str) {}
    fn finish(&self, _: &str, _: Outcome) {}
}
