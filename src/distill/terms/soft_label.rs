//! `soft-label`: the teacher's softened distribution beside the true class.
//!
//! Hinton, Vinyals, Dean 2015, <https://arxiv.org/abs/1503.02531>.

use super::labelled;
use crate::distill::objective::{Reads, StepValues, Term};
use burn::tensor::{Tensor, activation};

/// `(1 − α) · CE(y, z_s) + α · T² · KL(softmax(z_t / T) ‖ softmax(z_s / T))`
#[derive(Clone, Copy, Debug)]
pub struct SoftLabel {
    /// Share of the teacher, α in 0..=1.
    pub alpha: f64,
    /// T > 0; the higher, the more the small probabilities count.
    pub temperature: f64,
    /// This share of the samples, always the same ones, hides its labels and learns from the teacher alone.
    pub strip_labels: f64,
}

impl Default for SoftLabel {
    fn default() -> Self {
        SoftLabel { alpha: 0.9, temperature: 4.0, strip_labels: 0.0 }
    }
}

impl Term for SoftLabel {
    fn name(&self) -> &'static str {
        "soft-label"
    }

    fn reads(&self) -> Reads {
        Reads { labels: self.alpha < 1.0, teacher_logits: self.alpha > 0.0 }
    }

    fn parts(&self, values: &StepValues) -> Vec<(&'static str, Tensor<1>)> {
        // The mean is over the whole batch, so that a sample weighs the same whatever its neighbours hide.
        let shown = |&l: &f32| if f64::from(l) < self.strip_labels { 0.0 } else { 1.0 };
        let shown = (self.strip_labels > 0.0).then(|| values.lottery.iter().map(shown).collect());
        let hard = (self.alpha < 1.0).then(|| labelled(values, shown).mean().mul_scalar(1.0 - self.alpha));
        let soft = values.teacher_logits.clone().filter(|_| self.alpha > 0.0).map(|z_t| {
            let t = self.temperature;
            let log_p_s = activation::log_softmax(values.student_logits.clone().div_scalar(t), 1);
            let log_p_t = activation::log_softmax(z_t.div_scalar(t), 1);
            let kl = (log_p_t.clone().exp() * (log_p_t - log_p_s)).sum_dim(1).mean();
            kl.mul_scalar(self.alpha * t * t)
        });
        // One of α < 1 and α > 0 holds, and logits come when asked for.
        [hard.map(|hard| ("labels", hard)), soft.map(|soft| ("teacher", soft))].into_iter().flatten().collect()
    }
}
