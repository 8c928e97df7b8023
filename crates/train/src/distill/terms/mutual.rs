//! `mutual`: two networks that learn at once, each from the labels and from the other.

use super::{Entry, Family, Pairs, Reads, Term, defaults, made, positive, same_classes};
use crate::distill::step::{Plan, cross_entropy, kl, log_softmax};
use crate::distill::{AuxParams, Error, Schedule, StepValues};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

pub const ENTRY: Entry = Entry {
    name: "mutual",
    family: Family::Instance,
    summary: "two networks that learn at once, each from the labels and the other",
    formula: "CE(y, z_s) + T²·KL(p_p ‖ p_s) + CE(y, z_p) + T²·KL(p_s ‖ p_p), z_p the peer's; each divergence moves only \
              its second network",
    source: "Zhang et al. 2018, Deep Mutual Learning, https://arxiv.org/abs/1706.00384",
    when: "no teacher, or one that is hardly better than the student; the recipe has a teacher of kind = \"peer\"",
    weight: 1.0,
    make: made::<Mutual>,
    defaults: defaults::<Mutual>,
};

/// `CE_s + T² KL(p_p ‖ p_s) + CE_p + T² KL(p_s ‖ p_p)`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Mutual {
    pub temperature: Schedule,
    /// How much the divergences count; 0: each network learns from the labels alone.
    pub divergence: f64,
}

impl Default for Mutual {
    fn default() -> Self {
        Mutual { temperature: Schedule::Constant(1.0), divergence: 1.0 }
    }
}

impl Term for Mutual {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: true, teacher_logits: true, pairs: Pairs::None }
    }

    fn wants_peer(&self) -> bool {
        true
    }

    fn prepare(&mut self, plan: &Plan, _: &mut AuxParams) -> Result<(), Error> {
        positive(ENTRY.name, "temperature", &self.temperature.ends())?;
        if !(self.divergence >= 0.0 && self.divergence.is_finite()) {
            return Err(Error::Config(format!("'mutual': divergence {} is below 0", self.divergence)));
        }
        same_classes(ENTRY.name, plan)
    }

    fn parts(&self, values: &StepValues, _: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        let t = self.temperature.at(values.progress);
        let factor = self.divergence * t * t;
        let student = values.student_logits.clone();
        let peer = values.teacher_logits.clone().expect("the term reads the peer's logits");
        let softened = |z: &Tensor<2>| log_softmax(z.clone().div_scalar(t));
        let (of_student, of_peer) = (softened(&student), softened(&peer));
        let mut peers = cross_entropy(peer, values.labels.clone());
        if let Some(weights) = &values.weights {
            peers = peers * weights.clone();
        }
        let to_student = kl(of_peer.clone().detach(), of_student.clone());
        let to_peer = kl(of_student.detach(), of_peer);
        vec![
            ("labels", values.mean(values.labelled())),
            ("from the peer", values.mean(to_student).mul_scalar(factor)),
            ("the peer's labels", values.mean(peers)),
            ("to the peer", values.mean(to_peer).mul_scalar(factor)),
        ]
    }
}
