//! `soft-label`: the teacher's softened distribution beside the true class.

use super::logit_mse::standardized;
use super::{Entry, Family, Pairs, Reads, Term, defaults, made, positive, same_classes, share};
use crate::distill::step::{Plan, kl, log_softmax};
use crate::distill::{AuxParams, Error, Schedule, StepValues};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

pub const ENTRY: Entry = Entry {
    name: "soft-label",
    family: Family::Instance,
    summary: "the teacher's softened distribution beside the labels",
    formula: "(1 − α)·CE(y, z_s) + α·T²·KL(softmax(z_t/T) ‖ softmax(z_s/T))",
    source: "Hinton, Vinyals, Dean 2015, https://arxiv.org/abs/1503.02531; standardised: Sun et al. 2024, \
             https://arxiv.org/abs/2403.01427",
    when: "first: it needs nothing but answers, works between any two networks, and most methods are held against it",
    weight: 1.0,
    make: made::<SoftLabel>,
    defaults: defaults::<SoftLabel>,
};

/// `(1 − α) · CE(y, z_s) + α · T² · KL(softmax(z_t / T) ‖ softmax(z_s / T))`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SoftLabel {
    /// Share of the teacher, α in 0..=1.
    pub alpha: f64,
    /// T > 0; the higher, the more the small probabilities count.
    pub temperature: Schedule,
    /// This share of the samples, always the same ones, hides its labels and learns from the teacher alone.
    pub strip_labels: f64,
    /// Whether each row of logits, the teacher's and the student's, is brought to mean 0 and deviation 1 before the
    /// temperature: a small student need not reach the teacher's scale (Sun et al. 2024).
    pub standardize: bool,
}

impl Default for SoftLabel {
    fn default() -> Self {
        SoftLabel { alpha: 0.9, temperature: Schedule::Constant(4.0), strip_labels: 0.0, standardize: false }
    }
}

impl Term for SoftLabel {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: self.alpha < 1.0, teacher_logits: self.alpha > 0.0, pairs: Pairs::None }
    }

    fn prepare(&mut self, plan: &Plan, _: &mut AuxParams) -> Result<(), Error> {
        share(ENTRY.name, "alpha", self.alpha)?;
        share(ENTRY.name, "strip-labels", self.strip_labels)?;
        positive(ENTRY.name, "temperature", &self.temperature.ends())?;
        if self.alpha > 0.0 { same_classes(ENTRY.name, plan) } else { Ok(()) }
    }

    fn parts(&self, values: &StepValues, _: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        let mut parts = vec![];
        if self.alpha < 1.0 {
            let mut hard = values.labelled();
            if self.strip_labels > 0.0 {
                // The mean is over the whole batch, so that a sample weighs the same whatever its neighbours hide.
                let shown = |&l: &f32| if f64::from(l) < self.strip_labels { 0.0 } else { 1.0 };
                hard = hard * values.row(values.lottery.iter().map(shown).collect());
            }
            parts.push(("labels", values.mean(hard).mul_scalar(1.0 - self.alpha)));
        }
        if self.alpha > 0.0 {
            let t = self.temperature.at(values.progress);
            let (mut student, mut teacher) = (values.student_logits.clone(), values.teacher());
            if self.standardize {
                (student, teacher) = (standardized(student), standardized(teacher));
            }
            let (log_p_s, log_p_t) = (log_softmax(student.div_scalar(t)), log_softmax(teacher.div_scalar(t)));
            parts.push(("teacher", values.mean(kl(log_p_t, log_p_s)).mul_scalar(self.alpha * t * t)));
        }
        parts
    }
}
