//! `relational`: distances between samples, and the angles they make.

use super::align;
use super::{Entry, Family, Pairs, Reads, Term, defaults, made};
use crate::distill::{AuxParams, StepValues};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

pub const ENTRY: Entry = Entry {
    name: "relational",
    family: Family::Feature,
    summary: "distances and angles between the samples of a batch",
    formula: "25·mean huber(d_s − d_t) + 50·mean huber(a_s − a_t): d the distance of two embeddings over the batch's mean \
              distance, a the cosine of the angle that two make at a third",
    source: "Park et al. 2019, Relational Knowledge Distillation, https://arxiv.org/abs/1904.05068",
    when: "embeddings of different lengths, metric learning, families that differ; batches of 32 to 256",
    weight: 1.0,
    make: made::<Relational>,
    defaults: defaults::<Relational>,
};

/// `distance · mean huber(d_s − d_t) + angle · mean huber(a_s − a_t)`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Relational {
    /// Weight of the distances of pairs.
    pub distance: f64,
    /// Weight of the angles of triples. They take B³ numbers.
    pub angle: f64,
}

impl Default for Relational {
    fn default() -> Self {
        Relational { distance: 25.0, angle: 50.0 }
    }
}

impl Term for Relational {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: false, teacher_logits: false, pairs: Pairs::Embedding }
    }

    fn parts(&self, values: &StepValues, _: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        let pair = |pair: &crate::distill::step::Pair| {
            let student = Relations::of(values, align::embedding(values, &pair.student));
            let teacher = Relations::of(values, align::embedding(values, &pair.teacher.detached()));
            let [batch, _] = student.distances.dims();
            let count = align::present(values, batch).sum().clamp_min(1.0);
            let distances = huber(student.distances - teacher.distances).sum() / count.clone().square();
            let angles = huber(student.angles - teacher.angles).sum() / count.powi_scalar(3);
            (distances, angles)
        };
        let both = values.pairs.iter().map(pair).reduce(|a, b| (a.0 + b.0, a.1 + b.1)).expect("a pair is compared");
        vec![("distances", both.0.mul_scalar(self.distance)), ("angles", both.1.mul_scalar(self.angle))]
    }
}

/// How the embeddings of a batch lie to each other.
struct Relations {
    /// Over their mean, `[B, B]`.
    distances: Tensor<2>,
    /// `cos ∠(j, i, k)` at `[i, j, k]`, `[B, B, B]`.
    angles: Tensor<3>,
}

impl Relations {
    /// Of the embeddings `[B, C]`. Nothing relates to a sample that is left out, to itself, or to one in the same place.
    fn of(values: &StepValues, embeddings: Tensor<2>) -> Relations {
        let [batch, channels] = embeddings.dims();
        // Scale and place cancel. With these no square is too large, and what is nearly in one place is told apart.
        let embeddings = embeddings.clone() / embeddings.detach().abs().max().clamp_min(1e-30).unsqueeze::<2>();
        let to = embeddings.clone().reshape([1, batch, channels]);
        let from = embeddings.reshape([batch, 1, channels]);
        let differences = to - from;
        let squares = differences.clone().square().sum_dim(2).reshape([batch, batch]);
        let present = align::present(values, batch);
        let related =
            squares.clone().detach().greater_elem(1e-12).float() * present.clone().matmul(present.transpose());
        // The root of what does not relate is that of 1, so that no gradient is infinite, and counts nothing.
        let apart = squares * related.clone() + related.clone().neg().add_scalar(1.0);
        let lengths = apart.sqrt();
        let distances = lengths.clone() * related.clone();
        let mean = distances.clone().sum() / related.clone().sum().clamp_min(1.0);
        let directions = differences / lengths.unsqueeze_dim::<3>(2) * related.unsqueeze_dim::<3>(2);
        let distances = distances / mean.clamp_min(1e-12).unsqueeze::<2>();
        Relations { distances, angles: directions.clone().matmul(directions.swap_dims(1, 2)) }
    }
}

/// `½ d²` for `|d| ≤ 1`, else `|d| − ½`.
fn huber<const D: usize>(distance: Tensor<D>) -> Tensor<D> {
    let magnitude = distance.abs();
    let near = magnitude.clone().clamp_max(1.0);
    near.clone().square().mul_scalar(0.5) + (magnitude - near)
}
