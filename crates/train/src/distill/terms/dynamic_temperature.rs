//! `dynamic-temperature`: soft labels whose temperature is learned against the student.

use super::adversarial::reversed;
use super::{Entry, Family, Pairs, Reads, Term, defaults, made, positive, same_classes, share};
use crate::distill::step::{Plan, kl, log_softmax};
use crate::distill::{AuxParams, Error, Init, Schedule, Slot, StepValues};
use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};

pub const ENTRY: Entry = Entry {
    name: "dynamic-temperature",
    family: Family::Instance,
    summary: "soft labels at a temperature that is learned against the student",
    formula: "(1 − α)·CE(y, z_s) + α·T²·KL(p_t^T ‖ p_s^T), T = low + range·σ(θ), θ learned through a gradient reversal by λ",
    source: "Li et al. 2023, Curriculum Temperature for Knowledge Distillation, https://arxiv.org/abs/2211.16231",
    when: "no time to search for a temperature; λ makes it harder from easy to hard",
    weight: 1.0,
    make: made::<DynamicTemperature>,
    defaults: defaults::<DynamicTemperature>,
};

/// `(1 − α) · CE + α · T² · KL`, T learned.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DynamicTemperature {
    /// Share of the teacher, α in 0..=1.
    pub alpha: f64,
    /// The lowest temperature.
    pub low: f64,
    /// How much higher it may be.
    pub range: f64,
    /// How strongly θ learns against the student.
    pub lambda: Schedule,
    #[serde(skip)]
    theta: Option<Slot>,
}

impl Default for DynamicTemperature {
    fn default() -> Self {
        let lambda = Schedule::Cosine { from: 0.0, to: 1.0, warmup: 0.0 };
        DynamicTemperature { alpha: 0.9, low: 1.0, range: 20.0, lambda, theta: None }
    }
}

impl Term for DynamicTemperature {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: true, teacher_logits: true, pairs: Pairs::None }
    }

    fn prepare(&mut self, plan: &Plan, aux: &mut AuxParams) -> Result<(), Error> {
        share(ENTRY.name, "alpha", self.alpha)?;
        positive(ENTRY.name, "low", &[self.low])?;
        positive(ENTRY.name, "range", &[self.range])?;
        // As the source: the middle of the range where θ is 0 would start hot; 1 is where it starts there.
        self.theta = Some(aux.add(format!("{}.theta", plan.prefix), &[1], Init::Constant(1.0)));
        same_classes(ENTRY.name, plan)
    }

    fn parts(&self, values: &StepValues, aux: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        let theta = aux.get::<1>(self.theta.expect("it was prepared"));
        let theta = reversed(theta, self.lambda.at(values.progress));
        let t = activation::sigmoid(theta).mul_scalar(self.range).add_scalar(self.low);
        let wide = t.clone().reshape([1, 1]);
        let log_p_s = log_softmax(values.student_logits.clone() / wide.clone());
        let log_p_t = log_softmax(values.teacher() / wide);
        let soft = values.mean(kl(log_p_t, log_p_s)) * t.square();
        vec![
            ("labels", values.mean(values.labelled()).mul_scalar(1.0 - self.alpha)),
            ("teacher", soft.mul_scalar(self.alpha)),
        ]
    }
}
