//! `factor-transfer`: what a paraphraser makes of the teacher's layer, and a translator of the student's.

use super::align::{self, Stages};
use super::{Entry, Family, Pairs, Reads, Term, defaults, made, positive};
use crate::distill::step::{Pair, Plan};
use crate::distill::{AuxParams, Error, Init, Slot, StepValues};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Tensor, activation, module};
use serde::{Deserialize, Serialize};
use std::ops::Range;

pub const ENTRY: Entry = Entry {
    name: "factor-transfer",
    family: Family::Model,
    summary: "the teacher's layer paraphrased, the student's translated",
    formula: "mean |F_t/‖F_t‖ − F_s/‖F_s‖|^p, F_t the factors of a paraphraser that learns to rebuild the teacher's layer \
              from them (mean squares), F_s those of a translator of the student's layer",
    source: "Kim, Park, Kwak 2018, Paraphrasing Complex Network, https://arxiv.org/abs/1802.04977",
    when: "teacher and student differ much inside; best after a stage with freeze = [\"student\"], in which the paraphraser \
           learns first, as in the source",
    weight: 500.0,
    make: made::<FactorTransfer>,
    defaults: defaults::<FactorTransfer>,
};

/// `mean |F_t / ‖F_t‖ − F_s / ‖F_s‖|^p`, and the mean square of what the paraphraser rebuilds wrongly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FactorTransfer {
    /// The factors' channels, as a share of the teacher's.
    pub rate: f64,
    /// Power of the distance, 1 or 2.
    pub power: usize,
    /// Weight of rebuilding the teacher's layer, beside which the transfer counts 1. It moves the paraphraser alone.
    pub rebuild: f64,
    /// Which stages are compared; the sum over them is taken.
    pub stages: Stages,
    #[serde(skip)]
    chosen: Range<usize>,
    #[serde(skip)]
    pairs: Vec<Coders>,
}

#[derive(Clone, Debug, PartialEq)]
struct Coders {
    paraphraser: Convolutions,
    rebuilder: Convolutions,
    translator: Convolutions,
}

impl Default for FactorTransfer {
    fn default() -> Self {
        let (chosen, pairs) = Default::default();
        // Weighed by 500 as a whole, rebuilding counts 1.
        FactorTransfer { rate: 0.5, power: 1, rebuild: 1.0 / ENTRY.weight, stages: Stages::Last, chosen, pairs }
    }
}

impl Term for FactorTransfer {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: false, teacher_logits: false, pairs: Pairs::Stages }
    }

    fn prepare(&mut self, plan: &Plan, aux: &mut AuxParams) -> Result<(), Error> {
        positive(ENTRY.name, "rate", &[self.rate])?;
        positive(ENTRY.name, "rebuild", &[self.rebuild])?;
        if !(1..=2).contains(&self.power) {
            return Err(Error::Config(format!("'{}': power {} is neither 1 nor 2", ENTRY.name, self.power)));
        }
        self.chosen = self.stages.of(plan);
        let coders = |i: usize| {
            let ((student, _), (teacher, _)) = plan.pairs[i];
            let factors = ((teacher as f64 * self.rate) as usize).max(1);
            let mut add = |name: &str, channels: [usize; 4]| {
                Convolutions::add(aux, &format!("{}.{name}{i}", plan.prefix), channels)
            };
            Coders {
                paraphraser: add("paraphraser", [teacher, teacher, factors, factors]),
                rebuilder: add("rebuilder", [factors, factors, teacher, teacher]),
                translator: add("translator", [student, student, factors, factors]),
            }
        };
        self.pairs = self.chosen.clone().map(coders).collect();
        Ok(())
    }

    fn parts(&self, values: &StepValues, aux: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        let one = |(pair, coders): (&Pair, &Coders)| {
            let (student, teacher) = align::maps(pair);
            let [batch, _, positions] = student.dims();
            let (height, width) = plane(pair, positions);
            let image = |maps: Tensor<3>| {
                let [_, channels, _] = maps.dims();
                maps.reshape([batch, channels, height, width])
            };
            let (student, teacher) = (image(student), image(teacher));
            let factors = coders.paraphraser.apply(teacher.clone(), aux);
            let wrong = (coders.rebuilder.apply(factors.clone(), aux) - teacher).square();
            let rebuilt = align::mean(values, wrong.mean_dim(1).reshape([batch, positions]));
            let counted = align::counted(values, batch, positions);
            let unit = |factors: Tensor<4>| {
                let [_, channels, _, _] = factors.dims();
                let maps = factors.reshape([batch, channels, positions]);
                let maps = match &counted {
                    Some(counted) => maps * counted.clone().reshape([batch, 1, positions]),
                    None => maps,
                };
                align::unit_rows(maps.reshape([batch, channels * positions]))
            };
            let distance = unit(factors.detach()) - unit(coders.translator.apply(student, aux));
            let distance = if self.power == 1 { distance.abs() } else { distance.square() };
            let [_, all] = distance.dims();
            let distance = distance.reshape([batch, all / positions.max(1), positions]).mean_dim(1);
            (align::mean(values, distance.reshape([batch, positions])), rebuilt)
        };
        let pairs = values.pairs[self.chosen.clone()].iter().zip(&self.pairs).map(one);
        let (transfer, rebuilt) = pairs.reduce(|a, b| (a.0 + b.0, a.1 + b.1)).expect("a pair is compared");
        vec![("factors", transfer), ("paraphraser", rebuilt.mul_scalar(self.rebuild))]
    }
}

/// Positions as a plane: images as they are, everything else in a row.
fn plane(pair: &Pair, positions: usize) -> (usize, usize) {
    match (&align::spatial(&pair.student)[..], &align::spatial(&pair.teacher)[..]) {
        (&[a, b], &[c, d]) => (a.min(c), b.min(d)),
        _ => (1, positions),
    }
}

/// Three convolutions of 3×3, each with a leaky ReLU (slope 0.1) behind it; over a row of positions only the middle line
/// of a kernel meets anything. The source rebuilds with transposed ones, which at a stride of 1 are the same.
#[derive(Clone, Debug, PartialEq)]
struct Convolutions([(Slot, Slot); 3]);

impl Convolutions {
    fn add(aux: &mut AuxParams, name: &str, channels: [usize; 4]) -> Convolutions {
        let layer = |i: usize| {
            let (from, to) = (channels[i], channels[i + 1]);
            let init = Init::Normal { fan_in: 9 * from };
            let weight = aux.add(format!("{name}.{i}.weight"), &[to, from, 3, 3], init);
            (weight, aux.add(format!("{name}.{i}.bias"), &[to], Init::Constant(0.0)))
        };
        Convolutions([0, 1, 2].map(layer))
    }

    /// `[B, C, H, W]` to as many positions.
    fn apply(&self, images: Tensor<4>, aux: &AuxParams) -> Tensor<4> {
        self.0.iter().fold(images, |images, &(weight, bias)| {
            let options = ConvOptions::new([1, 1], [1, 1], [1, 1], 1);
            let images = module::conv2d(images, aux.get(weight), Some(aux.get(bias)), options);
            activation::leaky_relu(images, 0.1)
        })
    }
}
