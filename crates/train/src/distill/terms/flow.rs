//! `flow`: how activations change from one layer to the next.

use super::align::{self, Layers, Projection};
use super::{Entry, Family, Pairs, Reads, Term, defaults, made};
use crate::distill::step::Extents;
use crate::distill::step::{Feature, Plan};
use crate::distill::{AuxParams, Error, StepValues};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

pub const ENTRY: Entry = Entry {
    name: "flow",
    family: Family::Model,
    summary: "how activations change from one stage to the next",
    formula: "Σ over neighbouring stages of mean((G_s − G_t)²), G = f_a·f_bᵀ/positions: channels of a stage against those of \
              the next",
    source: "Yim et al. 2017, A Gift from Knowledge Distillation, https://doi.org/10.1109/CVPR.2017.754",
    when: "as a stage before the labels, networks with two stages or more that correspond",
    weight: 50.0,
    make: made::<Flow>,
    defaults: defaults::<Flow>,
};

/// `Σ mean (G_s − G_t)²`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flow {
    /// What is between the student's channels and the teacher's, where they differ.
    pub projection: Projection,
    #[serde(skip)]
    projections: Vec<Layers>,
}

impl Term for Flow {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: false, teacher_logits: false, pairs: Pairs::Stages }
    }

    fn prepare(&mut self, plan: &Plan, aux: &mut AuxParams) -> Result<(), Error> {
        if plan.pairs.len() < 2 {
            let why = format!(
                "compares how activations change from one stage to the next, and only {} corresponds; name two or more \
                 with layers",
                plan.pairs.len()
            );
            return Err(Error::inapplicable(ENTRY.name, why));
        }
        let project = |(i, ((student, _), (teacher, _))): (usize, &(Extents, Extents))| {
            let name = format!("{}.projection{i}", plan.prefix);
            self.projection.add(ENTRY.name, aux, &name, (*student, *teacher), false)
        };
        self.projections = plan.pairs.iter().enumerate().map(project).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn parts(&self, values: &StepValues, aux: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        let identity = Layers::default();
        let one = |i: usize| {
            let (first, second) = (&values.pairs[i], &values.pairs[i + 1]);
            let student = [(&first.student, &self.projections[i]), (&second.student, &self.projections[i + 1])];
            let teacher = [(&first.teacher.detached(), &identity), (&second.teacher.detached(), &identity)];
            let distance = gram(values, student, aux) - gram(values, teacher, aux);
            let [batch, _, _] = distance.dims();
            align::mean(values, distance.square().mean_dim(2).mean_dim(1).reshape([batch, 1]))
        };
        let losses = (0..values.pairs.len() - 1).map(one);
        vec![("flow", losses.reduce(|a, b| a + b).expect("there are two pairs"))]
    }
}

/// `[B, C_a, C_b]`: the mean over positions of the products of channels.
fn gram(values: &StepValues, [a, b]: [(&Feature, &Layers); 2], aux: &AuxParams) -> Tensor<3> {
    let (first, second) = align::together(a.0, b.0);
    let [batch, _, positions] = first.dims();
    let projected = |maps: Tensor<3>, layers: &Layers| {
        let rows = layers.apply(align::rows(maps), aux);
        let [_, channels] = rows.dims();
        rows.reshape([batch, positions, channels])
    };
    let first = projected(first, a.1);
    let second = projected(second, b.1);
    match align::counted(values, batch, positions) {
        None => first.swap_dims(1, 2).matmul(second).div_scalar(positions as f64),
        Some(counted) => {
            let count = counted.clone().sum_dim(1).clamp_min(1.0).reshape([batch, 1, 1]);
            let first = first * counted.reshape([batch, positions, 1]);
            first.swap_dims(1, 2).matmul(second) / count
        }
    }
}
