//! `virtual-teacher`: a teacher made by hand, that is always right and never quite sure.

use super::{Entry, Family, Pairs, Reads, Term, defaults, made, positive, share};
use crate::distill::step::{Plan, log_softmax};
use crate::distill::{AuxParams, Error, Schedule, StepValues};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

pub const ENTRY: Entry = Entry {
    name: "virtual-teacher",
    family: Family::Instance,
    summary: "a teacher made by hand: always right, never quite sure",
    formula: "(1 − α)·CE(y, z_s) + α·T²·KL(p_d^T ‖ softmax(z_s/T)), p_d = a for the true class, (1 − a)/(K − 1) for the \
              others, softened: p_d^T ∝ p_d^(1/T)",
    source: "Yuan et al. 2020, Revisiting Knowledge Distillation via Label Smoothing Regularization, \
             https://arxiv.org/abs/1909.11723",
    when: "no teacher is at hand; a regulariser as label smoothing is",
    weight: 1.0,
    make: made::<VirtualTeacher>,
    defaults: defaults::<VirtualTeacher>,
};

/// `(1 − α) · CE + α · T² · KL(p_d^T ‖ p_s^T)`. The T² is as in soft labels: T changes the shape, not the weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct VirtualTeacher {
    /// Share of the made teacher, α in 0..=1.
    pub alpha: f64,
    /// Its probability of the true class, a in 0..=1.
    pub correct: f64,
    pub temperature: Schedule,
}

impl Default for VirtualTeacher {
    fn default() -> Self {
        VirtualTeacher { alpha: 0.1, correct: 0.99, temperature: Schedule::Constant(20.0) }
    }
}

impl Term for VirtualTeacher {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: true, teacher_logits: false, pairs: Pairs::None }
    }

    fn prepare(&mut self, _: &Plan, _: &mut AuxParams) -> Result<(), Error> {
        share(ENTRY.name, "alpha", self.alpha)?;
        share(ENTRY.name, "correct", self.correct)?;
        positive(ENTRY.name, "temperature", &self.temperature.ends())
    }

    fn parts(&self, values: &StepValues, _: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        let [rows, classes] = values.student_logits.dims();
        let t = self.temperature.at(values.progress);
        let others = (classes.max(2) - 1) as f64;
        let softened = |p: f64| p.max(1e-30).powf(1.0 / t);
        let (of_true, of_other) = (softened(self.correct), softened((1.0 - self.correct) / others));
        // A single class is always the true one.
        let sum = if classes == 1 { of_true } else { of_true + others * of_other };
        let (of_true, of_other) = (of_true / sum, of_other / sum);
        let log_p = log_softmax(values.student_logits.clone().div_scalar(t));
        let truth = log_p.clone().gather(1, values.labels.clone().reshape([rows, 1]));
        let rest = log_p.sum_dim(1) - truth.clone();
        // Σ p_d log p_d is the same for every sample.
        let entropy = of_true * of_true.ln() + if classes == 1 { 0.0 } else { others * of_other * of_other.ln() };
        let cross = truth.mul_scalar(of_true) + rest.mul_scalar(of_other);
        let mut kl = cross.neg().add_scalar(entropy).reshape([rows]);
        if let Some(weights) = &values.weights {
            kl = kl * weights.clone();
        }
        vec![
            ("labels", values.mean(values.labelled()).mul_scalar(1.0 - self.alpha)),
            ("virtual teacher", values.mean(kl).mul_scalar(self.alpha * t * t)),
        ]
    }
}
