//! `regression`: outputs that are not classes, as those of autoencoders and dense maps.

use super::{Entry, Family, Pairs, Reads, Term, defaults, made, positive, same_classes, share};
use crate::distill::step::Plan;
use crate::distill::{AuxParams, Error, StepValues};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

pub const ENTRY: Entry = Entry {
    name: "regression",
    family: Family::Instance,
    summary: "numbers instead of classes: Huber's loss or squares, to the target and to the teacher",
    formula: "(1 − α)·mean of ρ(z_s − y) + α·mean of ρ(z_s − z_t); ρ(d) = huber_δ(d), or d² where δ is not given; without targets \
              y the second mean alone",
    source: "Huber 1964, https://doi.org/10.1214/aoms/1177703732",
    when: "the network answers with numbers that are no logits: reconstructions, distances, maps",
    weight: 1.0,
    make: made::<Regression>,
    defaults: defaults::<Regression>,
};

/// `(1 − α) mean ρ(z_s − y) + α mean ρ(z_s − z_t)`; Huber's `ρ(d)` is `½ d²` for `|d| ≤ δ`, else `δ (|d| − ½ δ)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Regression {
    /// The teacher's share, 0 to 1, where there are targets.
    pub alpha: f64,
    /// Where squares end and magnitudes begin; not given: squares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta: Option<f64>,
}

impl Default for Regression {
    fn default() -> Self {
        Regression { alpha: 0.5, delta: None }
    }
}

impl Regression {
    /// `mean ρ(distance)` of each row, over the rows.
    fn mean(&self, values: &StepValues, distance: Tensor<2>) -> Tensor<1> {
        let [rows, _] = distance.dims();
        let each = match self.delta {
            None => distance.square(),
            // With m = min(|d|, δ): ½ m² + δ (|d| − m).
            Some(delta) => {
                let magnitude = distance.abs();
                let near = magnitude.clone().clamp_max(delta);
                near.clone().square().mul_scalar(0.5) + (magnitude - near).mul_scalar(delta)
            }
        };
        values.mean(each.mean_dim(1).reshape([rows]))
    }
}

impl Term for Regression {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: false, teacher_logits: self.alpha > 0.0, pairs: Pairs::None }
    }

    fn prepare(&mut self, plan: &Plan, _: &mut AuxParams) -> Result<(), Error> {
        positive(ENTRY.name, "delta", self.delta.as_slice())?;
        share(ENTRY.name, "alpha", self.alpha)?;
        if self.alpha == 0.0 && !plan.numbers {
            let why = "with alpha = 0 learns from targets alone, and there are none; answers = \"input\" in the sidecar's \
                       [data] says that a network is to answer with its input";
            return Err(Error::inapplicable(ENTRY.name, why));
        }
        if self.alpha > 0.0 { same_classes(ENTRY.name, plan) } else { Ok(()) }
    }

    fn parts(&self, values: &StepValues, _: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        let student = || values.student_logits.clone();
        let mut parts = vec![];
        // Without targets the teacher is all there is.
        let teachers = if values.targets.is_some() { self.alpha } else { 1.0 };
        if let Some(targets) = values.targets.clone().filter(|_| teachers < 1.0) {
            parts.push(("targets", self.mean(values, student() - targets).mul_scalar(1.0 - teachers)));
        }
        if teachers > 0.0 && values.teacher_logits.is_some() {
            parts.push(("teacher", self.mean(values, student() - values.teacher()).mul_scalar(teachers)));
        }
        parts
    }
}
