//! `logit-mse`: the squared distance between logits.

use super::{Entry, Family, Pairs, Reads, Term, defaults, made, same_classes};
use crate::distill::step::Plan;
use crate::distill::{AuxParams, Error, StepValues};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

pub const ENTRY: Entry = Entry {
    name: "logit-mse",
    family: Family::Instance,
    summary: "the squared distance between logits",
    formula: "mean over classes of (z_s − z_t)², each row standardised first where asked for",
    source: "Ba, Caruana 2014, https://arxiv.org/abs/1312.6184; standardised: Sun et al. 2024, \
             https://arxiv.org/abs/2403.01427",
    when: "without labels, or where the teacher's scale matters; standardised where the networks' scales differ",
    weight: 1.0,
    make: made::<LogitMse>,
    defaults: defaults::<LogitMse>,
};

/// `mean (z_s − z_t)²`
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct LogitMse {
    /// Every row is brought to the mean 0 and the variance 1 first.
    pub standardize: bool,
}

impl Term for LogitMse {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: false, teacher_logits: true, pairs: Pairs::None }
    }

    fn prepare(&mut self, plan: &Plan, _: &mut AuxParams) -> Result<(), Error> {
        same_classes(ENTRY.name, plan)
    }

    fn parts(&self, values: &StepValues, _: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        let [rows, _] = values.student_logits.dims();
        let (mut student, mut teacher) = (values.student_logits.clone(), values.teacher());
        if self.standardize {
            (student, teacher) = (standardized(student), standardized(teacher));
        }
        vec![("logits", values.mean((student - teacher).square().mean_dim(1).reshape([rows])))]
    }
}

/// Each row with the mean 0 and the variance 1. A row of equals becomes zeros.
pub(super) fn standardized(z: Tensor<2>) -> Tensor<2> {
    let centred = z.clone() - z.mean_dim(1);
    let variance = centred.clone().square().mean_dim(1);
    centred / (variance + 1e-12).sqrt()
}
