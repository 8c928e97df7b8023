//! `hint`: the teacher's activations themselves.

use super::align::{self, Layers, Projection, Stages};
use super::{Entry, Family, Pairs, Reads, Term, defaults, made};
use crate::distill::step::Plan;
use crate::distill::{AuxParams, Error, StepValues};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};
use std::ops::Range;

pub const ENTRY: Entry = Entry {
    name: "hint",
    family: Family::Feature,
    summary: "the teacher's activations themselves",
    formula: "MSE(f_t, proj(f_s)), a mean over samples, positions and channels; proj, where channels differ, a linear layer \
              or two",
    source: "Romero et al. 2015, FitNets, https://arxiv.org/abs/1412.6550",
    when: "teacher and student are of one family, so that their layers mean the same; deep and thin students",
    weight: 100.0,
    make: made::<Hint>,
    defaults: defaults::<Hint>,
};

/// `mean (f_t − proj(f_s))²`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hint {
    /// What is between the student's channels and the teacher's.
    pub projection: Projection,
    /// Whether it is there also where the channels are as many.
    pub always_project: bool,
    /// Which stages are compared; the mean over them is taken.
    pub stages: Stages,
    #[serde(skip)]
    chosen: Range<usize>,
    #[serde(skip)]
    projections: Vec<Layers>,
}

impl Default for Hint {
    fn default() -> Self {
        let (chosen, projections) = Default::default();
        Hint { projection: Projection::Linear, always_project: false, stages: Stages::Middle, chosen, projections }
    }
}

impl Term for Hint {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: false, teacher_logits: false, pairs: Pairs::Stages }
    }

    fn prepare(&mut self, plan: &Plan, aux: &mut AuxParams) -> Result<(), Error> {
        self.chosen = self.stages.of(plan);
        let project = |i: usize| {
            let ((student, _), (teacher, _)) = plan.pairs[i];
            let name = format!("{}.projection{i}", plan.prefix);
            self.projection.add(ENTRY.name, aux, &name, (student, teacher), self.always_project)
        };
        self.projections = self.chosen.clone().map(project).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn parts(&self, values: &StepValues, aux: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        let one = |(pair, projection): (&_, &Layers)| {
            let (student, teacher) = align::maps(pair);
            let [batch, _, positions] = student.dims();
            let distance = projection.apply(align::rows(student), aux) - align::rows(teacher);
            align::mean(values, distance.square().mean_dim(1).reshape([batch, positions]))
        };
        let losses = values.pairs[self.chosen.clone()].iter().zip(&self.projections).map(one);
        let sum = losses.reduce(|a, b| a + b).expect("a pair is compared");
        vec![("activations", sum.div_scalar(self.projections.len() as f64))]
    }
}
