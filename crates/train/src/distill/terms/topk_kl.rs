//! `topk-kl`: a distribution of which only the largest classes are known.

use super::{Entry, Family, Pairs, Reads, Term, defaults, made, positive, same_classes};
use crate::distill::step::{Plan, kl, log_softmax};
use crate::distill::{AuxParams, Error, Schedule, StepValues};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

pub const ENTRY: Entry = Entry {
    name: "topk-kl",
    family: Family::Instance,
    summary: "the teacher's k likeliest classes, the rest in one bucket",
    formula: "T²·KL over the k classes the teacher holds likeliest plus one bucket with the rest of the mass",
    source: "the survey's estimation of the divergence from partly known labels; equals the full divergence at k = K",
    when: "the teacher has very many classes, or only its first answers were kept (--top-k)",
    weight: 1.0,
    make: made::<TopkKl>,
    defaults: defaults::<TopkKl>,
};

/// `T² · KL((p_1 … p_k, 1 − Σ p)_t ‖ …_s)`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct TopkKl {
    /// Classes that are told apart, at least 1.
    pub k: usize,
    pub temperature: Schedule,
}

impl Default for TopkKl {
    fn default() -> Self {
        TopkKl { k: 5, temperature: Schedule::Constant(4.0) }
    }
}

impl Term for TopkKl {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: false, teacher_logits: true, pairs: Pairs::None }
    }

    fn prepare(&mut self, plan: &Plan, _: &mut AuxParams) -> Result<(), Error> {
        positive(ENTRY.name, "k", &[self.k as f64])?;
        positive(ENTRY.name, "temperature", &self.temperature.ends())?;
        same_classes(ENTRY.name, plan)
    }

    fn parts(&self, values: &StepValues, _: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        let t = self.temperature.at(values.progress);
        let [_, classes] = values.student_logits.dims();
        let log_p_s = log_softmax(values.student_logits.clone().div_scalar(t));
        let log_p_t = log_softmax(values.teacher().div_scalar(t));
        let each = if self.k >= classes {
            kl(log_p_t, log_p_s)
        } else {
            let (top, order) = log_p_t.clone().sort_descending_with_indices(1);
            let rest_t = rest(top.clone().slice([0..top.dims()[0], self.k..classes]));
            let head = [0..top.dims()[0], 0..self.k];
            let sorted_s = log_p_s.gather(1, order);
            let rest_s = rest(sorted_s.clone().slice([0..top.dims()[0], self.k..classes]));
            let known_t = Tensor::cat(vec![top.slice(head.clone()), rest_t], 1);
            kl(known_t, Tensor::cat(vec![sorted_s.slice(head), rest_s], 1))
        };
        vec![("teacher", values.mean(each).mul_scalar(t * t))]
    }
}

/// `log Σ p` along the rows, of logarithms, `[N, 1]`.
fn rest(log_p: Tensor<2>) -> Tensor<2> {
    let max = log_p.clone().max_dim(1).detach();
    (log_p - max.clone()).exp().sum_dim(1).log() + max
}
