//! `contrastive`: a sample's two embeddings, told from those of other samples.

use super::align::{self, Layers};
use super::{Entry, Family, Pairs, Reads, Term, defaults, made, positive, share};
use crate::distill::step::Plan;
use crate::distill::{AuxParams, BufferSlot, Error, StepValues};
use burn::tensor::{Device, Tensor, TensorData};
use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub const ENTRY: Entry = Entry {
    name: "contrastive",
    family: Family::Feature,
    summary: "a sample's student and teacher embeddings, told from those of other samples",
    formula: "−log h(s, t) − Σ_negatives log(1 − h), and the same with the networks' roles changed; h = p/(p + k/N), p = \
              exp(u·v/τ)/Z, u and v linear embeddings of the length one, v from a bank of all N samples that follows by \
              momentum, Z from the first batch",
    source: "Tian, Krishnan, Isola 2020, Contrastive Representation Distillation, https://arxiv.org/abs/1910.10699",
    when: "beside labels and soft labels, many samples, long training; it compares nothing but embeddings, so any two \
           networks will do",
    weight: 0.8,
    make: made::<Contrastive>,
    defaults: defaults::<Contrastive>,
};

/// Noise contrastive estimation between two banks of embeddings.
///
/// The source draws negatives for each sample. Here a step draws them once, and all its samples share them: the same in
/// expectation, with one product of matrices and a batch size less memory. They are different samples, never the one
/// itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Contrastive {
    /// Length of the embeddings.
    pub dim: usize,
    /// Negatives for each sample, k; all others where there are fewer.
    pub negatives: usize,
    /// τ > 0
    pub temperature: f64,
    /// Share of an old embedding in the bank that stays when its sample is seen again.
    pub momentum: f64,
    #[serde(skip)]
    kept: Option<BankEntries>,
}

/// What is kept from step to step.
#[derive(Clone, Debug, PartialEq)]
struct BankEntries {
    samples: usize,
    student: Side,
    teacher: Side,
    /// `Z` of the student's scores and of the teacher's; 0 before the first batch.
    scale: BufferSlot,
}

#[derive(Clone, Debug, PartialEq)]
struct Side {
    embed: Layers,
    /// `[N, dim]`
    bank: BufferSlot,
}

impl Default for Contrastive {
    fn default() -> Self {
        Contrastive { dim: 128, negatives: 16384, temperature: 0.07, momentum: 0.5, kept: None }
    }
}

impl Term for Contrastive {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: false, teacher_logits: false, pairs: Pairs::Embedding }
    }

    fn prepare(&mut self, plan: &Plan, aux: &mut AuxParams) -> Result<(), Error> {
        positive(ENTRY.name, "dim", &[self.dim as f64])?;
        positive(ENTRY.name, "negatives", &[self.negatives as f64])?;
        positive(ENTRY.name, "temperature", &[self.temperature])?;
        share(ENTRY.name, "momentum", self.momentum)?;
        let [((student, _), (teacher, _))] = plan.pairs[..] else {
            let why = format!("compares one embedding with one, not {}; name one pair with layers", plan.pairs.len());
            return Err(Error::inapplicable(ENTRY.name, why));
        };
        let mut side = |name: &str, channels: usize| Side {
            embed: Layers::add(aux, &format!("{}.{name}", plan.prefix), &[channels, self.dim]),
            bank: aux.add_bank(format!("{}.{name}.bank", plan.prefix), plan.samples, self.dim),
        };
        let (student, teacher) = (side("student", student), side("teacher", teacher));
        let scale = aux.add_buffer(format!("{}.scale", plan.prefix), vec![0.0; 2]);
        self.kept = Some(BankEntries { samples: plan.samples, student, teacher, scale });
        Ok(())
    }

    fn parts(&self, values: &StepValues, aux: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        let kept = self.kept.as_ref().expect("it was prepared");
        let pair = values.pairs.first().expect("a pair is compared");
        let student = align::embedding(values, &pair.student);
        let teacher = align::embedding(values, &pair.teacher.detached());
        let student = align::unit_rows(kept.student.embed.apply(student, aux));
        let teacher = align::unit_rows(kept.teacher.embed.apply(teacher, aux));
        let drawn = self.drawn(kept.samples, aux.seed(), values);
        let by_student = self.contrast(values, aux, &student, &kept.teacher, (kept.scale, 0), &drawn);
        let by_teacher = self.contrast(values, aux, &teacher, &kept.student, (kept.scale, 1), &drawn);
        self.update(values, aux, &kept.student, student);
        self.update(values, aux, &kept.teacher, teacher);
        vec![("student among teachers", by_student), ("teacher among students", by_teacher)]
    }
}

impl Contrastive {
    /// Indices of samples to contrast with, one more than there are negatives, so that each sample can leave one out;
    /// different ones. A function of the seed, the samples and how far training is.
    fn drawn(&self, samples: usize, seed: u64, values: &StepValues) -> Vec<usize> {
        let count = self.negatives.saturating_add(1).min(samples);
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(&values.progress.to_le_bytes());
        values.samples.iter().for_each(|s| _ = hasher.update(&(*s as u64).to_le_bytes()));
        let mut rng = ChaCha8Rng::from_seed(*hasher.finalize().as_bytes());
        let mut drawn = sample(&mut rng, samples, count).into_vec();
        // Sums come out the same however all of them were drawn.
        drawn.sort_unstable();
        drawn
    }

    /// The loss of embeddings `[B, dim]` against the bank of the other network.
    fn contrast(
        &self,
        values: &StepValues,
        aux: &mut AuxParams,
        embeddings: &Tensor<2>,
        other: &Side,
        (scales, index): (BufferSlot, usize),
        drawn: &[usize],
    ) -> Tensor<1> {
        let [batch, _] = embeddings.dims();
        let device = embeddings.device();
        let rows = |samples: &[usize]| bank_rows(aux.buffer(other.bank), samples, self.dim, &device);
        let scaled = embeddings.clone().div_scalar(self.temperature);
        let positive = (scaled.clone() * rows(&values.samples)).sum_dim(1);
        let negative = scaled.matmul(rows(drawn).transpose());
        let is_negative = negatives(&values.samples, drawn, &device);

        let samples = aux.buffer(other.bank).len() / self.dim.max(1);
        if aux.buffer(scales)[index] <= 0.0 {
            let all = positive.clone().exp().sum() + (negative.clone().exp() * is_negative.clone()).sum();
            let count = batch as f32 + is_negative.clone().sum().into_data().iter::<f32>().sum::<f32>();
            let sum: f32 = all.into_data().iter::<f32>().sum();
            aux.buffer_mut(scales)[index] = (sum / count * samples as f32).max(f32::MIN_POSITIVE);
        }
        let log_scale = f64::from(aux.buffer(scales)[index]).ln();
        // k/N: what the noise gives a sample, times how many there are.
        let noise = drawn.len().saturating_sub(1) as f64 / samples.max(1) as f64;
        let log_p = positive.sub_scalar(log_scale);
        let right = log_p.clone() - log_p.exp().add_scalar(noise + EPSILON).log();
        let mut each = right.reshape([batch]);
        if noise > 0.0 {
            let p = negative.sub_scalar(log_scale).exp();
            let wrong = (p.add_scalar(EPSILON)).div_scalar(noise).log1p() * is_negative;
            each = each - wrong.sum_dim(1).reshape([batch]);
        }
        align::mean(values, each.neg().reshape([batch, 1]))
    }

    /// Lets a bank follow.
    fn update(&self, values: &StepValues, aux: &mut AuxParams, side: &Side, embeddings: Tensor<2>) {
        let new: Vec<f32> = embeddings.detach().into_data().iter::<f32>().collect();
        let present: Vec<f32> = align::present(values, values.samples.len()).into_data().iter::<f32>().collect();
        let (bank, momentum) = (aux.buffer_mut(side.bank), self.momentum as f32);
        for ((&sample, new), present) in values.samples.iter().zip(new.chunks(self.dim)).zip(present) {
            if present == 0.0 {
                continue;
            }
            let row = &mut bank[sample * self.dim..][..self.dim];
            row.iter_mut().zip(new).for_each(|(old, new)| *old = momentum * *old + (1.0 - momentum) * new);
            let length = row.iter().map(|v| v * v).sum::<f32>().sqrt();
            if length > 0.0 {
                row.iter_mut().for_each(|v| *v /= length);
            }
        }
    }
}

/// The source's, that keeps a logarithm finite.
const EPSILON: f64 = 1e-7;

/// Rows of a bank, `[samples, dim]`.
fn bank_rows(bank: &[f32], samples: &[usize], dim: usize, device: &Device) -> Tensor<2> {
    let rows: Vec<f32> = samples.iter().flat_map(|&sample| bank[sample * dim..][..dim].iter().copied()).collect();
    Tensor::from_data(TensorData::new(rows, [samples.len(), dim]), device)
}

/// Which of the drawn are negatives of which sample, 1 or 0, `[B, drawn]`: all but itself, or but the last where it was
/// not drawn.
fn negatives(samples: &[usize], drawn: &[usize], device: &Device) -> Tensor<2> {
    let mut is_negative = vec![1.0f32; samples.len() * drawn.len()];
    for (row, sample) in is_negative.chunks_mut(drawn.len().max(1)).zip(samples) {
        let own = drawn.binary_search(sample).unwrap_or(drawn.len() - 1);
        row[own] = 0.0;
    }
    Tensor::from_data(TensorData::new(is_negative, [samples.len(), drawn.len()]), device)
}
