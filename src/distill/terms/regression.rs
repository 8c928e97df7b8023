//! `regression`: outputs that are not classes, as those of autoencoders and dense maps.

use super::{Entry, Family, Pairs, Reads, Term, defaults, made, positive, same_classes};
use crate::distill::step::Plan;
use crate::distill::{Error, Extras, StepValues};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

pub const ENTRY: Entry = Entry {
    name: "regression",
    family: Family::Instance,
    summary: "numbers instead of classes: Huber's loss or squares, to the teacher",
    formula: "mean of huber_δ(z_s − z_t), or of (z_s − z_t)² where δ is not given",
    source: "Huber 1964, https://doi.org/10.1214/aoms/1177703732",
    when: "the network answers with numbers that are no logits: reconstructions, distances, maps",
    weight: 1.0,
    make: made::<Regression>,
    defaults: defaults::<Regression>,
};

/// `mean huber_δ(z_s − z_t)`: `½ d²` for `|d| ≤ δ`, else `δ (|d| − ½ δ)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Regression {
    /// Where squares end and magnitudes begin; not given: squares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delta: Option<f64>,
}

impl Term for Regression {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: false, teacher_logits: true, pairs: Pairs::None }
    }

    fn prepare(&mut self, plan: &Plan, _: &mut Extras) -> Result<(), Error> {
        positive(ENTRY.name, "delta", self.delta.as_slice())?;
        same_classes(ENTRY.name, plan)
    }

    fn parts(&self, values: &StepValues, _: &mut Extras) -> Vec<(&'static str, Tensor<1>)> {
        let [rows, _] = values.student_logits.dims();
        let distance = values.student_logits.clone() - values.teacher();
        let each = match self.delta {
            None => distance.square(),
            // With m = min(|d|, δ): ½ m² + δ (|d| − m).
            Some(delta) => {
                let magnitude = distance.abs();
                let near = magnitude.clone().clamp_max(delta);
                near.clone().square().mul_scalar(0.5) + (magnitude - near).mul_scalar(delta)
            }
        };
        vec![("numbers", values.mean(each.mean_dim(1).reshape([rows])))]
    }
}
