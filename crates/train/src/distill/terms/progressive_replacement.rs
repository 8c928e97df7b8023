//! `progressive-replacement`: a relay of the teacher's and the student's modules, more and more of them the student's.

use super::align::Bridge;
use super::{Entry, Family, Pairs, Reads, Route, Side, Target, Term, defaults, made};
use crate::distill::step::{Feature, Plan};
use crate::distill::{AuxParams, Error, Schedule, StepValues};
use burn::tensor::Tensor;
use kdc_exec::Value;
use serde::{Deserialize, Serialize};

pub const ENTRY: Entry = Entry {
    name: "progressive-replacement",
    family: Family::Model,
    summary: "a relay of modules, each the student's with rising probability, else the teacher's",
    formula: "CE(y, z) of a network whose modules are the student's with the probability p, else the teacher's, which do \
              not change; p rises to 1",
    source: "Xu et al. 2020, BERT-of-Theseus, https://arxiv.org/abs/2002.02925",
    when: "teacher and student have modules that correspond, as encoders with fewer layers do; no other loss is needed",
    weight: 1.0,
    make: made::<ProgressiveReplacement>,
    defaults: defaults::<ProgressiveReplacement>,
};

/// `CE(y, z)` of a relay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ProgressiveReplacement {
    /// Probability of the student's module over training.
    pub probability: Schedule,
    #[serde(skip)]
    bridge: Bridge,
}

impl Default for ProgressiveReplacement {
    fn default() -> Self {
        let probability =
            Schedule::Step { from: 0.3, at: vec![0.15, 0.3, 0.45, 0.6], values: vec![0.5, 0.7, 0.85, 1.0] };
        ProgressiveReplacement { probability, bridge: Bridge::default() }
    }
}

impl Term for ProgressiveReplacement {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: true, teacher_logits: false, pairs: Pairs::Stages }
    }

    fn route(&self, progress: f64) -> Route {
        Route::Relay { student: self.probability.at(progress) }
    }

    fn prepare(&mut self, plan: &Plan, aux: &mut AuxParams) -> Result<(), Error> {
        self.bridge = Bridge::add(aux, plan);
        Ok(())
    }

    fn translated(&self, index: usize, from: &Feature, side: Side, target: &Target, aux: &AuxParams) -> Value {
        self.bridge.translated(index, from, side, target, aux)
    }

    fn parts(&self, values: &StepValues, _: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        vec![("labels of the relay", values.mean(values.labelled()))]
    }
}
