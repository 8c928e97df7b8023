//! `similarity`: which samples of a batch look alike inside.

use super::align::{self, Stages};
use super::{Entry, Family, Pairs, Reads, Term, defaults, made};
use crate::distill::step::{Pair, Plan};
use crate::distill::{AuxParams, Error, StepValues};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use std::ops::Range;

pub const ENTRY: Entry = Entry {
    name: "similarity",
    family: Family::Feature,
    summary: "which samples of a batch excite a layer alike",
    formula: "‖G_t − G_s‖²/B², G the batch's Gram matrix f·fᵀ of whole activations, each row brought to the length one",
    source: "Tung, Mori 2019, Similarity-Preserving Knowledge Distillation, https://arxiv.org/abs/1907.09682",
    when: "layers of different extents: nothing of them is compared but how samples relate; batches of 64 and more",
    weight: 3000.0,
    make: made::<Similarity>,
    defaults: defaults::<Similarity>,
};

/// `‖G_t − G_s‖² / B²`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Similarity {
    /// Which stages are compared; the sum over them is taken.
    pub stages: Stages,
    #[serde(skip)]
    chosen: Range<usize>,
}

impl Default for Similarity {
    fn default() -> Self {
        Similarity { stages: Stages::Last, chosen: 0..0 }
    }
}

impl Term for Similarity {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: false, teacher_logits: false, pairs: Pairs::Stages }
    }

    fn prepare(&mut self, plan: &Plan, _: &mut AuxParams) -> Result<(), Error> {
        self.chosen = self.stages.of(plan);
        Ok(())
    }

    fn parts(&self, values: &StepValues, _: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        let one = |pair: &Pair| {
            let gram = |maps: Tensor<3>| {
                let [batch, channels, positions] = maps.dims();
                // Padding is as zeros, and a sample of nothing else is like none.
                let maps = match align::counted(values, batch, positions) {
                    Some(counted) => maps * counted.reshape([batch, 1, positions]),
                    None => maps,
                };
                // The rows' lengths are divided out: any scale will do, and with this one no product is too large.
                let flat = maps.reshape([batch, channels * positions]);
                let flat = flat.clone() / flat.detach().abs().max().clamp_min(1e-30).unsqueeze::<2>();
                align::unit_rows(flat.clone().matmul(flat.transpose()))
            };
            let distance = gram(pair.student.maps()) - gram(pair.teacher.detached().maps());
            let [batch, _] = distance.dims();
            let count = align::present(values, batch).sum().clamp_min(1.0);
            distance.square().sum() / count.square()
        };
        let losses = values.pairs[self.chosen.clone()].iter().map(one);
        vec![("similarity", losses.reduce(|a, b| a + b).expect("a pair is compared"))]
    }
}
