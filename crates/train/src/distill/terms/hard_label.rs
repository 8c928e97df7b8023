//! `hard-label`: cross-entropy with the true class, the baseline every distillation is held against.

use super::{Entry, Family, Pairs, Reads, Term, defaults, made};
use crate::distill::{AuxParams, StepValues};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

pub const ENTRY: Entry = Entry {
    name: "hard-label",
    family: Family::Instance,
    summary: "the true classes alone: the baseline",
    formula: "CE(y, z_s)",
    source: "Goodfellow, Bengio, Courville 2016, Deep Learning, section 6.2",
    when: "as the baseline, and beside a term that has no labels in it",
    weight: 1.0,
    make: made::<HardLabel>,
    defaults: defaults::<HardLabel>,
};

/// `CE(y, z_s)`
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HardLabel {}

impl Term for HardLabel {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: true, teacher_logits: false, pairs: Pairs::None }
    }

    fn parts(&self, values: &StepValues, _: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        vec![("labels", values.mean(values.labelled()))]
    }
}
