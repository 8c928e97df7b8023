//! `adversarial`: activations that a discriminator cannot tell from the teacher's.

use super::align::{self, Layers, Projection};
use super::{Entry, Family, Pairs, Reads, Term, defaults, made, positive};
use crate::distill::step::Extents;
use crate::distill::step::{Pair, Plan};
use crate::distill::{AuxParams, Error, Schedule, StepValues};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

pub const ENTRY: Entry = Entry {
    name: "adversarial",
    family: Family::Feature,
    summary: "embeddings that a discriminator cannot tell from the teacher's",
    formula: "mean −log D(f_t) + mean −log(1 − D(R(proj(f_s)))): D learns to tell them apart, R gives the student −λ times \
              that gradient, λ = 2/(1 + exp(−10·progress)) − 1",
    source: "Ganin, Lempitsky 2015, Unsupervised Domain Adaptation by Backpropagation, https://arxiv.org/abs/1409.7495",
    when: "the student should match the distribution of the teacher's activations and not each of them; beside labels",
    weight: 1.0,
    make: made::<Adversarial>,
    defaults: defaults::<Adversarial>,
};

/// A discriminator behind a gradient reversal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adversarial {
    /// λ; not given: the source's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lambda: Option<Schedule>,
    /// Width of the discriminator's two hidden layers.
    pub hidden: usize,
    /// What is between the student's channels and the teacher's, where they differ.
    pub projection: Projection,
    #[serde(skip)]
    judges: Vec<Judge>,
}

#[derive(Clone, Debug, PartialEq)]
struct Judge {
    projection: Layers,
    discriminator: Layers,
}

impl Default for Adversarial {
    fn default() -> Self {
        Adversarial { lambda: None, hidden: 64, projection: Projection::Linear, judges: vec![] }
    }
}

impl Term for Adversarial {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: false, teacher_logits: false, pairs: Pairs::Embedding }
    }

    fn prepare(&mut self, plan: &Plan, aux: &mut AuxParams) -> Result<(), Error> {
        positive(ENTRY.name, "hidden", &[self.hidden as f64])?;
        let judge = |(i, ((student, _), (teacher, _))): (usize, &(Extents, Extents))| {
            let name = format!("{}.projection{i}", plan.prefix);
            let projection = self.projection.add(ENTRY.name, aux, &name, (*student, *teacher), false)?;
            let widths = [*teacher, self.hidden, self.hidden, 1];
            let discriminator = Layers::add(aux, &format!("{}.discriminator{i}", plan.prefix), &widths);
            Ok(Judge { projection, discriminator })
        };
        self.judges = plan.pairs.iter().enumerate().map(judge).collect::<Result<_, Error>>()?;
        Ok(())
    }

    fn parts(&self, values: &StepValues, aux: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        let lambda = match &self.lambda {
            Some(lambda) => lambda.at(values.progress),
            None => 2.0 / (1.0 + (-10.0 * values.progress).exp()) - 1.0,
        };
        let one = |(pair, judge): (&Pair, &Judge)| {
            let student = judge.projection.apply(align::embedding(values, &pair.student), aux);
            let teacher = align::embedding(values, &pair.teacher.detached());
            let said = |embedding| judge.discriminator.apply(embedding, aux);
            // −log σ(z) = softplus(−z), −log(1 − σ(z)) = softplus(z)
            let taught = align::mean(values, softplus(said(teacher).neg()));
            taught + align::mean(values, softplus(said(reversed(student, lambda))))
        };
        let losses = values.pairs.iter().zip(&self.judges).map(one);
        vec![("discriminator", losses.reduce(|a, b| a + b).expect("a pair is compared"))]
    }
}

/// `x` as it is; its gradient is `−λ` times what comes back.
pub fn reversed<const D: usize>(x: Tensor<D>, lambda: f64) -> Tensor<D> {
    let constant = x.clone().detach();
    constant.clone() + (constant - x).mul_scalar(lambda)
}

/// `log(1 + exp z)`
fn softplus(z: Tensor<2>) -> Tensor<2> {
    z.clone().clamp_min(0.0) + z.abs().neg().exp().log1p()
}
