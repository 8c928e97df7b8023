//! How a number changes over training.

use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// A number as a function of progress, from 0 (the first step) to 1 (the last).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// Always the same.
    Constant(f64),
    /// A straight line.
    Linear { from: f64, to: f64 },
    /// Half a cosine wave (Loshchilov, Hutter 2017, <https://arxiv.org/abs/1608.03983>), after a linear rise from zero over
    /// the first `warmup` share of training.
    Cosine { from: f64, to: f64, warmup: f64 },
}

impl Schedule {
    /// The value at `progress` in 0..=1.
    pub fn at(&self, progress: f64) -> f64 {
        let t = progress.clamp(0.0, 1.0);
        match *self {
            Schedule::Constant(value) => value,
            Schedule::Linear { from, to } => from + (to - from) * t,
            Schedule::Cosine { from, warmup, .. } if t < warmup => from * t / warmup,
            Schedule::Cosine { from, to, warmup } => {
                let t = if warmup < 1.0 { (t - warmup) / (1.0 - warmup) } else { 1.0 };
                to + (from - to) * 0.5 * (1.0 + (PI * t).cos())
            }
        }
    }
}
