//! `attention`: where in the input an activation is large.

use super::align::{self, Stages};
use super::{Entry, Family, Pairs, Reads, Term, defaults, made};
use crate::distill::step::{Pair, Plan};
use crate::distill::{AuxParams, Error, StepValues};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use std::ops::Range;

pub const ENTRY: Entry = Entry {
    name: "attention",
    family: Family::Feature,
    summary: "where in the input the activations are large",
    formula: "Σ over stages of mean((â_s − â_t)²), â the mean over channels of f², brought to the length one",
    source: "Zagoruyko, Komodakis 2017, Paying More Attention to Attention, https://arxiv.org/abs/1612.03928",
    when: "networks over images whose stages have positions; needs no projection, so channels may differ; the weight is for \
           64 positions and more, a mean over fewer is larger: over signals of 10 take a tenth",
    weight: 1000.0,
    make: made::<Attention>,
    defaults: defaults::<Attention>,
};

/// `Σ mean (â_s − â_t)²`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Attention {
    /// Which stages are compared; the sum over them is taken.
    pub stages: Stages,
    #[serde(skip)]
    chosen: Range<usize>,
}

impl Default for Attention {
    fn default() -> Self {
        Attention { stages: Stages::All, chosen: 0..0 }
    }
}

impl Term for Attention {
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
            let (student, teacher) = align::maps(pair);
            let [batch, _, positions] = student.dims();
            let counted = align::counted(values, batch, positions);
            let attention = |maps: Tensor<3>| {
                let energy = maps.square().mean_dim(1).reshape([batch, positions]);
                align::unit_rows(match &counted {
                    Some(counted) => energy * counted.clone(),
                    None => energy,
                })
            };
            align::mean(values, (attention(student) - attention(teacher)).square())
        };
        let losses = values.pairs[self.chosen.clone()].iter().map(one);
        vec![("attention", losses.reduce(|a, b| a + b).expect("a pair is compared"))]
    }
}
