//! How a number changes over training.

use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// A number as a function of progress, from 0 (the first step) to 1 (the last).
///
/// In a recipe: `4.0`, or a shape by name, as `{ linear = { from = 0.0, to = 1.0 } }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub enum Schedule {
    /// Always the same.
    Constant(f64),
    /// A straight line.
    Linear { from: f64, to: f64 },
    /// Half a cosine wave (Loshchilov, Hutter 2017, <https://arxiv.org/abs/1608.03983>), after a linear rise from zero over
    /// the first `warmup` share of training.
    Cosine { from: f64, to: f64, warmup: f64 },
    /// `values[i]` from the `i`-th of the places `at` on, and `from` before the first; places in 0..1, rising.
    Step { from: f64, at: Vec<f64>, values: Vec<f64> },
    /// A straight line from zero to `to` over the first share `over` of training, then constant.
    Warmup { to: f64, over: f64 },
}

/// As it stands in a file.
#[derive(Clone, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "it is a number or a shape, as { linear = { from = 8.0, to = 2.0 } }; there are linear, cosine, step, warmup"
)]
enum Written {
    Number(f64),
    Shape(Shape),
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Shape {
    Linear {
        from: f64,
        to: f64,
    },
    Cosine {
        from: f64,
        to: f64,
        #[serde(default)]
        warmup: f64,
    },
    Step {
        from: f64,
        at: Vec<f64>,
        values: Vec<f64>,
    },
    Warmup {
        to: f64,
        over: f64,
    },
}

impl TryFrom<Written> for Schedule {
    type Error = String;

    fn try_from(written: Written) -> Result<Schedule, String> {
        let schedule = match written {
            Written::Number(value) => Schedule::Constant(value),
            Written::Shape(Shape::Linear { from, to }) => Schedule::Linear { from, to },
            Written::Shape(Shape::Cosine { from, to, warmup }) => Schedule::Cosine { from, to, warmup },
            Written::Shape(Shape::Step { from, at, values }) => Schedule::Step { from, at, values },
            Written::Shape(Shape::Warmup { to, over }) => Schedule::Warmup { to, over },
        };
        schedule.check()?;
        Ok(schedule)
    }
}

impl From<Schedule> for Written {
    fn from(schedule: Schedule) -> Written {
        match schedule {
            Schedule::Constant(value) => Written::Number(value),
            Schedule::Linear { from, to } => Written::Shape(Shape::Linear { from, to }),
            Schedule::Cosine { from, to, warmup } => Written::Shape(Shape::Cosine { from, to, warmup }),
            Schedule::Step { from, at, values } => Written::Shape(Shape::Step { from, at, values }),
            Schedule::Warmup { to, over } => Written::Shape(Shape::Warmup { to, over }),
        }
    }
}

impl From<f64> for Schedule {
    fn from(value: f64) -> Schedule {
        Schedule::Constant(value)
    }
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
            Schedule::Step { from, ref at, ref values } => {
                let passed = at.iter().zip(values).take_while(|(place, _)| **place <= t);
                passed.last().map_or(from, |(_, value)| *value)
            }
            Schedule::Warmup { to, over } if t < over => to * t / over,
            Schedule::Warmup { to, .. } => to,
        }
    }

    /// Refuses shapes that mean nothing.
    fn check(&self) -> Result<(), String> {
        if let Schedule::Step { at, values, .. } = self {
            let rising = at.windows(2).all(|w| w[0] < w[1]) && at.iter().all(|t| (0.0..=1.0).contains(t));
            if at.len() != values.len() || !rising {
                return Err("a step schedule has as many values as places, and places rise from 0 to 1".into());
            }
        }
        match self.ends().iter().all(|v| v.is_finite()) {
            true => Ok(()),
            false => Err("it is not a number".into()),
        }
    }

    /// The numbers that it goes through: the value anywhere lies between two of them.
    pub fn ends(&self) -> Vec<f64> {
        match self {
            Schedule::Constant(value) => vec![*value],
            Schedule::Linear { from, to } | Schedule::Cosine { from, to, .. } => vec![*from, *to],
            Schedule::Step { from, values, .. } => std::iter::once(*from).chain(values.iter().copied()).collect(),
            Schedule::Warmup { to, .. } => vec![0.0, *to],
        }
    }
}
