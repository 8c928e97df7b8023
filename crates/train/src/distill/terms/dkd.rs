//! `dkd`: what the teacher says of the true class, and how it ranks the others, weighed apart.

use super::{Entry, Family, Pairs, Reads, Term, defaults, made, positive, same_classes};
use crate::distill::step::{Plan, kl, log_softmax};
use crate::distill::{AuxParams, Error, Schedule, StepValues};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

pub const ENTRY: Entry = Entry {
    name: "dkd",
    family: Family::Instance,
    summary: "the true class and the ranking of the others, weighed apart",
    formula: "CE(y, z_s) + w·T²·(α·TCKD + β·NCKD), w rising over the first 1/12 of training; TCKD: KL of (p_y, 1 − p_y); \
              NCKD: KL of the distributions over the other classes",
    source: "Zhao et al. 2022, Decoupled Knowledge Distillation, https://arxiv.org/abs/2203.08679",
    when: "with labels and a confident teacher; β 2 within a family, up to 8 between unlike ones",
    weight: 1.0,
    make: made::<Dkd>,
    defaults: defaults::<Dkd>,
};

/// `CE + w · T² · (α · TCKD + β · NCKD)`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Dkd {
    /// Weight of the true class against the rest.
    pub alpha: f64,
    /// Weight of the distribution over the other classes.
    pub beta: f64,
    pub temperature: Schedule,
    /// Share of training over which `w` rises from zero to one.
    pub warmup: f64,
}

impl Default for Dkd {
    fn default() -> Self {
        Dkd { alpha: 1.0, beta: 2.0, temperature: Schedule::Constant(4.0), warmup: 1.0 / 12.0 }
    }
}

impl Term for Dkd {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: true, teacher_logits: true, pairs: Pairs::None }
    }

    fn prepare(&mut self, plan: &Plan, _: &mut AuxParams) -> Result<(), Error> {
        positive(ENTRY.name, "temperature", &self.temperature.ends())?;
        same_classes(ENTRY.name, plan)
    }

    fn parts(&self, values: &StepValues, _: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        let t = self.temperature.at(values.progress);
        let (target, others) = decoupled(values, t);
        let w = Schedule::Warmup { to: 1.0, over: self.warmup }.at(values.progress) * t * t;
        let (target, others) = (values.mean(target), values.mean(others));
        vec![
            ("labels", values.mean(values.labelled())),
            ("true class", target.mul_scalar(w * self.alpha)),
            ("other classes", others.mul_scalar(w * self.beta)),
        ]
    }
}

/// TCKD and NCKD per row, at the temperature `t`.
fn decoupled(values: &StepValues, t: f64) -> (Tensor<1>, Tensor<1>) {
    let [rows, classes] = values.student_logits.dims();
    let mut labels = values.labels.clone().reshape([rows, 1]);
    if let Some(weights) = &values.weights {
        // Where nobody said the true class, the teacher's stands for it.
        let unsaid = weights.clone().equal_elem(0.0).reshape([rows, 1]);
        labels = labels.mask_where(unsaid, values.teacher().argmax(1));
    }
    let all = Tensor::arange(0..classes as i64, &values.labels.device()).reshape([1, classes]);
    let is_true = labels.clone().repeat_dim(1, classes).equal(all.repeat_dim(0, rows));
    // log(1 − p_y) is the sum over the other classes, taken as logarithms: nothing cancels where p_y is all but one.
    let others_only = |z: Tensor<2>| z.mask_fill(is_true.clone(), FAR);
    let one = |z: Tensor<2>| {
        let log_p = log_softmax(z.clone());
        let log_rest = log_sum_exp(others_only(z.clone())) - log_sum_exp(z.clone());
        let log_true = log_p.gather(1, labels.clone());
        (Tensor::cat(vec![log_true, log_rest], 1), log_softmax(others_only(z)))
    };
    let (pair_t, others_t) = one(values.teacher().div_scalar(t));
    let (pair_s, others_s) = one(values.student_logits.clone().div_scalar(t));
    // The true class itself is outside of the distribution over the others: its probability there is exactly zero.
    let mass = others_t.clone().exp().mask_fill(is_true.clone(), 0.0);
    let others = (mass * (others_t - others_s)).sum_dim(1).reshape([rows]);
    (kl(pair_t, pair_s), others)
}

/// So far below any logit that its share is exactly zero.
const FAR: f32 = -1e30;

/// `log Σ exp z` along the rows, `[N, 1]`.
fn log_sum_exp(z: Tensor<2>) -> Tensor<2> {
    let max = z.clone().max_dim(1).detach();
    (z - max.clone()).exp().sum_dim(1).log() + max
}
