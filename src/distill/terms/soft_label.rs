//! `soft-label`: the teacher's softened distribution beside the true class.
//!
//! Hinton, Vinyals, Dean 2015, <https://arxiv.org/abs/1503.02531>.

use super::cross_entropy;
use crate::distill::objective::{Reads, StepValues, Term};
use burn::tensor::{Tensor, TensorData, activation};

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

    fn loss(&self, values: &StepValues) -> Tensor<1> {
        let z_s = values.student_logits.clone();
        let hard = (self.alpha < 1.0).then(|| self.labelled(values).mul_scalar(1.0 - self.alpha));
        let soft = values.teacher_logits.clone().filter(|_| self.alpha > 0.0).map(|z_t| {
            let t = self.temperature;
            let log_p_s = activation::log_softmax(z_s.div_scalar(t), 1);
            let log_p_t = activation::log_softmax(z_t.div_scalar(t), 1);
            let kl = (log_p_t.clone().exp() * (log_p_t - log_p_s)).sum_dim(1).mean();
            kl.mul_scalar(self.alpha * t * t)
        });
        match (hard, soft) {
            (Some(hard), Some(soft)) => hard + soft,
            (Some(only), None) | (None, Some(only)) => only,
            (None, None) => unreachable!("one of α < 1 and α > 0 holds, and logits come when asked for"),
        }
    }
}

impl SoftLabel {
    /// Cross-entropy over the samples that show their labels; the mean is over the whole batch, so that a sample weighs
    /// the same whatever its neighbours hide.
    fn labelled(&self, values: &StepValues) -> Tensor<1> {
        let each = cross_entropy(values.student_logits.clone(), values.labels.clone());
        if self.strip_labels <= 0.0 {
            return each.mean();
        }
        let shown = |&l: &f32| if f64::from(l) < self.strip_labels { 0.0 } else { 1.0 };
        let mask: Vec<f32> = values.lottery.iter().map(shown).collect();
        let count = mask.len();
        let mask = Tensor::<1>::from_data(TensorData::new(mask, [count]), &each.device());
        (each * mask).mean()
    }
}
