//! `binary-kl`: the entropies of every class by itself, without a softmax over all of them.

use super::{Entry, Family, Pairs, Reads, Term, defaults, made, positive, same_classes};
use crate::distill::step::Plan;
use crate::distill::{AuxParams, Error, Schedule, StepValues};
use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};

pub const ENTRY: Entry = Entry {
    name: "binary-kl",
    family: Family::Instance,
    summary: "every class by itself: yes or no, without a softmax",
    formula: "Σ_k BCE(σ(z_t,k/T), σ(z_s,k/T))",
    source: "the survey's lightweight distillation; sigmoid cross-entropy as in Goodfellow, Bengio, Courville 2016, 6.2.2.2",
    when: "several classes may hold at once, or a softmax over very many classes is too dear",
    weight: 1.0,
    make: made::<BinaryKl>,
    defaults: defaults::<BinaryKl>,
};

/// `Σ_k BCE(σ(z_t,k / T), σ(z_s,k / T))`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct BinaryKl {
    pub temperature: Schedule,
}

impl Default for BinaryKl {
    fn default() -> Self {
        BinaryKl { temperature: Schedule::Constant(4.0) }
    }
}

impl Term for BinaryKl {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: false, teacher_logits: true, pairs: Pairs::None }
    }

    fn prepare(&mut self, plan: &Plan, _: &mut AuxParams) -> Result<(), Error> {
        positive(ENTRY.name, "temperature", &self.temperature.ends())?;
        same_classes(ENTRY.name, plan)
    }

    fn parts(&self, values: &StepValues, _: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        let t = self.temperature.at(values.progress);
        let [rows, _] = values.student_logits.dims();
        let teacher = activation::sigmoid(values.teacher().div_scalar(t));
        let z = values.student_logits.clone().div_scalar(t);
        // −q log σ(z) − (1 − q) log(1 − σ(z)) = max(z, 0) − q z + log(1 + exp(−|z|))
        let softened = z.clone().abs().neg().exp().log1p();
        let each = z.clone().clamp_min(0.0) - teacher * z + softened;
        vec![("teacher", values.mean(each.sum_dim(1).reshape([rows])))]
    }
}
