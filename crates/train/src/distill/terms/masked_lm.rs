//! `masked-lm`: the task of language models: tokens that are hidden.

use super::{Entry, Family, Pairs, Reads, Term, defaults, made};
use crate::distill::step::Plan;
use crate::distill::{AuxParams, Error, StepValues};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

pub const ENTRY: Entry = Entry {
    name: "masked-lm",
    family: Family::Instance,
    summary: "tokens that are hidden: language models",
    formula: "Σ over hidden tokens of CE(token, z_s) / their number",
    source: "Devlin et al. 2018, BERT, https://arxiv.org/abs/1810.04805",
    when: "the network answers with a token for each position (answers = \"tokens\" in the sidecar's [data]); beside soft \
           labels, position by position",
    weight: 1.0,
    make: made::<MaskedLm>,
    defaults: defaults::<MaskedLm>,
};

/// `Σ w CE(y, z_s) / Σ w` over the positions, `w` 1 where a token is hidden.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct MaskedLm {}

impl Term for MaskedLm {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: true, teacher_logits: false, pairs: Pairs::None }
    }

    fn prepare(&mut self, plan: &Plan, _: &mut AuxParams) -> Result<(), Error> {
        match plan.hides {
            true => Ok(()),
            false => {
                let why = "is for language models, and no tokens are hidden here; answers = \"tokens\" in the sidecar's \
                           [data] hides some";
                Err(Error::inapplicable("masked-lm", why))
            }
        }
    }

    fn parts(&self, values: &StepValues, _: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        let each = values.labelled();
        let counts = values.weights.clone().unwrap_or_else(|| each.ones_like().detach());
        let loss = match &values.mask {
            Some(mask) => (each * mask.clone()).sum() / (counts * mask.clone()).sum().clamp_min(1.0),
            None => each.sum() / counts.sum().clamp_min(1.0),
        };
        vec![("hidden tokens", loss)]
    }
}
