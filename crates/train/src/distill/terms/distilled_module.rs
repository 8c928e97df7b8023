//! `distilled-module`: every block of the student by itself, from the teacher's activation before it to the one after it.

use super::align::{self, Bridge, Layers};
use super::{Entry, Family, Pairs, Reads, Route, Side, Target, Term, defaults, made};
use crate::distill::step::{Feature, Plan};
use crate::distill::{AuxParams, Error, StepValues};
use burn::tensor::Tensor;
use kdc_exec::Value;
use serde::{Deserialize, Serialize};

pub const ENTRY: Entry = Entry {
    name: "distilled-module",
    family: Family::Model,
    summary: "every block by itself, from the teacher's activation before it to the one after it",
    formula: "Σ over blocks of MSE(W_out·block(W_in·f_t before), f_t after) / variance of f_t after",
    source: "Li et al. 2020, DNA: Blockwisely Supervised Neural Architecture Search with Knowledge Distillation, \
             https://arxiv.org/abs/1911.13053",
    when: "as a first stage: blocks do not wait for each other; a stage that tunes them together has to follow",
    weight: 1.0,
    make: made::<DistilledModule>,
    defaults: defaults::<DistilledModule>,
};

/// `Σ MSE / variance`, over blocks. A first block starts from the inputs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DistilledModule {
    #[serde(skip)]
    bridge: Bridge,
}

impl Term for DistilledModule {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: false, teacher_logits: false, pairs: Pairs::Stages }
    }

    fn route(&self, _: f64) -> Route {
        Route::Blocks
    }

    fn prepare(&mut self, plan: &Plan, aux: &mut AuxParams) -> Result<(), Error> {
        self.bridge = Bridge::add(aux, plan);
        Ok(())
    }

    fn translated(&self, index: usize, from: &Feature, side: Side, target: &Target, aux: &AuxParams) -> Value {
        self.bridge.translated(index, from, side, target, aux)
    }

    fn parts(&self, values: &StepValues, aux: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        let one = |(pair, leave): (&_, &Layers)| {
            let (student, teacher) = align::maps(pair);
            let [batch, _, positions] = student.dims();
            let (student, teacher) = (leave.apply(align::rows(student), aux), align::rows(teacher));
            let by_position = |rows: Tensor<2>| align::mean(values, rows.mean_dim(1).reshape([batch, positions]));
            let counted = match align::counted(values, batch, positions) {
                Some(counted) => counted.reshape([batch * positions, 1]),
                None => Tensor::ones([batch * positions, 1], &teacher.device()),
            };
            let count = counted.clone().sum_dim(0).clamp_min(1.0);
            let mean = (teacher.clone() * counted).sum_dim(0) / count;
            let variance = by_position((teacher.clone() - mean).square()).clamp_min(1e-12);
            by_position((student - teacher).square()) / variance
        };
        let losses = values.pairs.iter().zip(self.bridge.leaving()).map(one);
        vec![("blocks", losses.reduce(|a, b| a + b).expect("there is a block"))]
    }
}
