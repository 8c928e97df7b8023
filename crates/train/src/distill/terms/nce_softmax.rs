//! `nce-softmax`: the matched score against a few noise classes instead of all.

use super::{Entry, Family, Pairs, Reads, Term, defaults, made, positive, same_classes};
use crate::distill::step::{Plan, log_softmax};
use crate::distill::{AuxParams, Error, StepValues};
use burn::tensor::{Int, Tensor, TensorData};
use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub const ENTRY: Entry = Entry {
    name: "nce-softmax",
    family: Family::Instance,
    summary: "the teacher's class against a few noise classes instead of all",
    formula: "−log(exp s_m / (exp s_m + Σ_k exp s_n)) + λ·log mean_{j≠m} exp(t_j): s and t the student's and the teacher's \
              logits, m the teacher's class, n k noise classes drawn among the others; the second summand moves only a \
              teacher that learns along",
    source: "the survey's section 4.1; contrast with noise after Gutmann, Hyvärinen 2010, \
             https://proceedings.mlr.press/v9/gutmann10a.html",
    when: "very many classes, so that a softmax over all of them dominates the step",
    weight: 1.0,
    make: made::<NceSoftmax>,
    defaults: defaults::<NceSoftmax>,
};

/// `−log softmax(s_m; s_n…) + λ · log mean_{j ≠ m} exp t_j`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct NceSoftmax {
    /// Noise classes for each sample; as many as there are, where there are fewer.
    pub k: usize,
    /// Weight of the regulariser.
    pub lambda: f64,
}

impl Default for NceSoftmax {
    fn default() -> Self {
        NceSoftmax { k: 16, lambda: 0.1 }
    }
}

impl Term for NceSoftmax {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: false, teacher_logits: true, pairs: Pairs::None }
    }

    fn prepare(&mut self, plan: &Plan, _: &mut AuxParams) -> Result<(), Error> {
        positive(ENTRY.name, "k", &[self.k as f64])?;
        same_classes(ENTRY.name, plan)
    }

    fn parts(&self, values: &StepValues, aux: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        let [rows, classes] = values.student_logits.dims();
        let teacher = values.teacher_logits.clone().expect("the term reads the teacher's logits");
        let matched = teacher.clone().detach().argmax(1);
        let noise = self.noise(&matched, classes, aux.seed(), values);
        let picked = Tensor::cat(vec![matched.clone(), noise], 1);
        let scores = log_softmax(values.student_logits.clone().gather(1, picked));
        let first = scores.slice([0..rows, 0..1]).neg().reshape([rows]);
        let mut parts = vec![("noise contrast", values.mean(first))];
        if self.lambda > 0.0 && classes > 1 {
            let all = log_softmax(teacher.clone());
            // log Σ_{j≠m} exp t_j = log Σ_j exp t_j + log(1 − p_m)
            let matched_score = all.clone().gather(1, matched.clone());
            let whole = teacher.gather(1, matched) - matched_score.clone();
            let others = whole + matched_score.exp().neg().add_scalar(1.0).clamp_min(1e-30).log();
            let mean = others.sub_scalar(((classes - 1) as f64).ln()).reshape([rows]);
            parts.push(("other classes", values.mean(mean).mul_scalar(self.lambda)));
        }
        parts
    }
}

impl NceSoftmax {
    /// Noise classes of every row, `[N, k]`: different ones, none of them the matched one; a function of the seed, the
    /// samples and how far training is.
    fn noise(&self, matched: &Tensor<2, Int>, classes: usize, seed: u64, values: &StepValues) -> Tensor<2, Int> {
        let [rows, _] = matched.dims();
        let k = self.k.min(classes.saturating_sub(1));
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(&values.progress.to_le_bytes());
        values.samples.iter().for_each(|s| _ = hasher.update(&(*s as u64).to_le_bytes()));
        let mut rng = ChaCha8Rng::from_seed(*hasher.finalize().as_bytes());
        let matched_classes: Vec<i64> = matched.clone().into_data().iter::<i64>().collect();
        let others = matched_classes.into_iter().flat_map(|m| {
            let drawn = sample(&mut rng, classes.saturating_sub(1), k).into_vec();
            drawn.into_iter().map(move |c| c as i64 + i64::from(c as i64 >= m))
        });
        let others: Vec<i64> = others.collect();
        Tensor::from_data(TensorData::new(others, [rows, k]), &matched.device())
    }
}
