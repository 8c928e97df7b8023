//! `attention-map`: which tokens of a transformer attend to which.

use super::align::{self, Stages};
use super::{Entry, Family, Pairs, Reads, Term, defaults, made, positive};
use crate::distill::step::{Feature, Pair, Plan};
use crate::distill::{AuxParams, Error, StepValues};
use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};
use std::ops::Range;

pub const ENTRY: Entry = Entry {
    name: "attention-map",
    family: Family::Feature,
    summary: "which tokens of a transformer attend to which",
    formula: "mean over heads and tokens of KL(A_t ‖ A_s), A the rows of attention; of the heads' mean where their counts \
              differ; or of softmax(V·Vᵀ/√d), the relations of values",
    source: "Jiao et al. 2020, TinyBERT, https://arxiv.org/abs/1909.10351; Wang et al. 2020, MiniLM, \
             https://arxiv.org/abs/2002.10957",
    when: "transformers of one tokenizer; relations where heads or widths differ",
    weight: 1.0,
    make: made::<AttentionMap>,
    defaults: defaults::<AttentionMap>,
};

/// What is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Of {
    /// Probabilities, `[B, heads, tokens, tokens]`. Where the counts of heads differ, their mean, which is a distribution
    /// as well.
    #[default]
    Attention,
    /// `softmax(V·Vᵀ/√d)` of activations `[B, tokens, C]`: MiniLM's are the values of the last layer, to be named; else
    /// the ends of the stages. Head counts and widths of the networks do not matter.
    Relations,
}

/// `mean KL(A_t ‖ A_s)`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct AttentionMap {
    pub of: Of,
    /// Parts of the channels whose relations are taken apart; it divides both networks' channels.
    pub relation_heads: usize,
    /// Which layers are compared; the mean over them is taken.
    pub stages: Stages,
    #[serde(skip)]
    chosen: Range<usize>,
}

impl Default for AttentionMap {
    fn default() -> Self {
        AttentionMap { of: Of::Attention, relation_heads: 1, stages: Stages::All, chosen: 0..0 }
    }
}

impl Term for AttentionMap {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        let pairs = if self.of == Of::Attention { Pairs::Attention } else { Pairs::Stages };
        Reads { labels: false, teacher_logits: false, pairs }
    }

    fn prepare(&mut self, plan: &Plan, _: &mut AuxParams) -> Result<(), Error> {
        positive(ENTRY.name, "relation-heads", &[self.relation_heads as f64])?;
        self.chosen = self.stages.of(plan);
        for &((student, student_positions), (teacher, teacher_positions)) in &plan.pairs[self.chosen.clone()] {
            let heads = self.relation_heads;
            if self.of == Of::Attention && student_positions != teacher_positions {
                let why = format!(
                    "compares attention over as many tokens; the student's has {student_positions} numbers a head, the \
                     teacher's {teacher_positions}; compare of = \"relations\""
                );
                return Err(Error::inapplicable(ENTRY.name, why));
            }
            if self.of == Of::Relations && (student % heads != 0 || teacher % heads != 0) {
                let why = format!(
                    "has relation-heads {heads}, which does not divide {student} channels of the student and {teacher} of \
                     the teacher"
                );
                return Err(Error::inapplicable(ENTRY.name, why));
            }
        }
        Ok(())
    }

    fn parts(&self, values: &StepValues, _: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        let one = |pair: &Pair| match self.of {
            Of::Attention => attention(values, pair),
            Of::Relations => self.relations(values, pair),
        };
        let losses = values.pairs[self.chosen.clone()].iter().map(one).reduce(|a, b| a + b);
        vec![("attention", losses.expect("a pair is compared").div_scalar(self.chosen.len() as f64))]
    }
}

impl AttentionMap {
    fn relations(&self, values: &StepValues, pair: &Pair) -> Tensor<1> {
        let (student, teacher) = align::maps(pair);
        let [batch, _, tokens] = student.dims();
        let counted = align::counted(values, batch, tokens);
        let log_relations = |maps: Tensor<3>| {
            let [_, channels, _] = maps.dims();
            let dim = channels / self.relation_heads;
            let heads = maps.reshape([batch, self.relation_heads, dim, tokens]);
            let scores = heads.clone().swap_dims(2, 3).matmul(heads).div_scalar((dim as f64).sqrt());
            let scores = match &counted {
                // A token relates to no padding. A number that far below the others is a probability of zero.
                Some(counted) => {
                    let padding = counted.clone().neg().add_scalar(1.0).reshape([batch, 1, 1, tokens]);
                    scores - padding.mul_scalar(1e9)
                }
                None => scores,
            };
            activation::log_softmax(scores, 3)
        };
        let (student, teacher) = (log_relations(student), log_relations(teacher));
        let each = teacher.clone().exp() * (teacher - student);
        let [_, heads, _, _] = each.dims();
        let rows = each.sum_dim(3).reshape([batch, heads, tokens]).mean_dim(1);
        align::mean(values, rows.reshape([batch, tokens]))
    }
}

/// KL between rows of attention.
fn attention(values: &StepValues, pair: &Pair) -> Tensor<1> {
    let (student, teacher) = (probabilities(&pair.student), probabilities(&pair.teacher.detached()));
    let [batch, heads, tokens, _] = student.dims();
    let (student, teacher, heads) = match heads == teacher.dims()[1] {
        true => (student, teacher, heads),
        false => (student.mean_dim(1), teacher.mean_dim(1), 1),
    };
    let log = |p: Tensor<4>| p.clamp_min(LEAST).log();
    let each = teacher.clone() * (log(teacher) - log(student));
    let rows = each.sum_dim(3).reshape([batch, heads, tokens]).mean_dim(1);
    align::mean(values, rows.reshape([batch, tokens]))
}

/// Below this a probability is taken for this: padding has exactly zero.
const LEAST: f64 = 1e-8;

/// `[B, heads, tokens, tokens]`
fn probabilities(feature: &Feature) -> Tensor<4> {
    let shape = feature.value.shape();
    match shape[..] {
        [_, _, _, _] => feature.value.clone().into_tensor().expect("it has four axes"),
        // A single head.
        [batch, from, to] => feature.value.clone().reshape(&[batch, 1, from, to]).into_tensor().expect("so reshaped"),
        _ => {
            // Nothing that attends: a token of its own for each sample.
            let maps = feature.maps();
            let [batch, channels, positions] = maps.dims();
            maps.reshape([batch, 1, channels, positions])
        }
    }
}
