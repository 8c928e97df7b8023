//! `dist`: predictions that correlate with the teacher's, over classes and over the batch.

use super::align::unit_rows;
use super::{Entry, Family, Pairs, Reads, Term, defaults, made, positive, same_classes};
use crate::distill::step::{Plan, log_softmax};
use crate::distill::{AuxParams, Error, Schedule, StepValues};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

pub const ENTRY: Entry = Entry {
    name: "dist",
    family: Family::Instance,
    summary: "predictions that correlate with the teacher's, over classes and over the batch",
    formula: "T²·(β·(1 − mean over samples of ρ(p_s, p_t)) + γ·(1 − mean over classes of ρ(p_s, p_t))), ρ Pearson's \
              correlation",
    source: "Huang et al. 2022, Knowledge Distillation from A Stronger Teacher, https://arxiv.org/abs/2205.10536",
    when: "the teacher is much stronger than the student, so that its exact probabilities are out of reach",
    weight: 1.0,
    make: made::<Dist>,
    defaults: defaults::<Dist>,
};

/// `T² · (β · inter + γ · intra)`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Dist {
    /// Weight of the correlation over the classes of a sample.
    pub beta: f64,
    /// Weight of the correlation over the samples of a class.
    pub gamma: f64,
    pub temperature: Schedule,
}

impl Default for Dist {
    fn default() -> Self {
        Dist { beta: 1.0, gamma: 1.0, temperature: Schedule::Constant(4.0) }
    }
}

impl Term for Dist {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: false, teacher_logits: true, pairs: Pairs::None }
    }

    fn prepare(&mut self, plan: &Plan, _: &mut AuxParams) -> Result<(), Error> {
        positive(ENTRY.name, "temperature", &self.temperature.ends())?;
        same_classes(ENTRY.name, plan)
    }

    fn parts(&self, values: &StepValues, _: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        let t = self.temperature.at(values.progress);
        let [rows, classes] = values.student_logits.dims();
        let student = log_softmax(values.student_logits.clone().div_scalar(t)).exp();
        let teacher = log_softmax(values.teacher().div_scalar(t)).exp();
        let over_classes = uncorrelated(student.clone(), teacher.clone(), None).reshape([rows]);
        let over_batch = uncorrelated(student.transpose(), teacher.transpose(), values.mask.clone()).reshape([classes]);
        vec![
            ("over classes", values.mean(over_classes).mul_scalar(self.beta * t * t)),
            ("over samples", over_batch.mean().mul_scalar(self.gamma * t * t)),
        ]
    }
}

/// `1 − ρ` of the rows, `[rows, 1]`, ρ Pearson's correlation over the columns that `counted` has as 1.
///
/// Taken as half the squared distance of the centred rows brought to the length one, which is the same and loses nothing
/// where rows are nearly alike, or nearly constant at a high temperature. A row that is constant has no correlation: it
/// is 0 from another such row, ½ from any other.
fn uncorrelated(a: Tensor<2>, b: Tensor<2>, counted: Option<Tensor<1>>) -> Tensor<2> {
    let [_, columns] = a.dims();
    let counted = counted.map_or_else(|| Tensor::ones([1, columns], &a.device()), |c| c.reshape([1, columns]));
    let count = counted.clone().sum_dim(1).clamp_min(1.0);
    let centred = |x: Tensor<2>| {
        let mean = (x.clone() * counted.clone()).sum_dim(1) / count.clone();
        let centred = (x.clone() - mean) * counted.clone();
        // What is left of a constant is rounding, and has no direction.
        let largest = |x: &Tensor<2>| x.clone().detach().abs().max_dim(1);
        let varies = largest(&centred).greater(largest(&x).mul_scalar(1e-6)).float();
        unit_rows(centred * varies)
    };
    (centred(a) - centred(b)).square().sum_dim(1).mul_scalar(0.5)
}
