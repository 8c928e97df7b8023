//! `virtual-label`: the teacher's confident answers as labels of samples that have none.

use super::{Entry, Family, Pairs, Reads, Term, defaults, made, same_classes, share};
use crate::distill::step::{Plan, cross_entropy, log_softmax};
use crate::distill::{AuxParams, Error, StepValues};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

pub const ENTRY: Entry = Entry {
    name: "virtual-label",
    family: Family::Instance,
    summary: "the teacher's confident answers as labels",
    formula: "mean over all samples of 1[max p_t ≥ τ]·CE(argmax p_t, z_s)",
    source: "Lee 2013, Pseudo-Label; with a threshold as in Sohn et al. 2020, https://arxiv.org/abs/2001.07685",
    when: "samples without labels, and a teacher of which only the class is to be trusted",
    weight: 1.0,
    make: made::<VirtualLabel>,
    defaults: defaults::<VirtualLabel>,
};

/// `mean 1[max p_t ≥ τ] · CE(argmax p_t, z_s)`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct VirtualLabel {
    /// The teacher's probability from which on it is believed, τ in 0..=1.
    pub threshold: f64,
}

impl Default for VirtualLabel {
    fn default() -> Self {
        VirtualLabel { threshold: 0.95 }
    }
}

impl Term for VirtualLabel {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: false, teacher_logits: true, pairs: Pairs::None }
    }

    fn prepare(&mut self, plan: &Plan, _: &mut AuxParams) -> Result<(), Error> {
        share(ENTRY.name, "threshold", self.threshold)?;
        same_classes(ENTRY.name, plan)
    }

    fn parts(&self, values: &StepValues, _: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        let [rows, _] = values.student_logits.dims();
        let teacher = values.teacher();
        let said = teacher.clone().argmax(1).reshape([rows]);
        let sure = log_softmax(teacher).exp().max_dim(1).reshape([rows]).greater_equal_elem(self.threshold).float();
        let each = cross_entropy(values.student_logits.clone(), said) * sure;
        vec![("virtual labels", values.mean(each))]
    }
}
