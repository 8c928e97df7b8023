//! `deep-supervision`: the network's last layer teaches exits on the way.

use super::align::{self, Layers, Stages};
use super::{Entry, Family, Pairs, Reads, Term, defaults, made, positive, share};
use crate::distill::step::{Pair, Plan, kl, log_softmax};
use crate::distill::{AuxParams, Error, Schedule, StepValues};
use burn::tensor::{Tensor, module};
use serde::{Deserialize, Serialize};
use std::ops::Range;

pub const ENTRY: Entry = Entry {
    name: "deep-supervision",
    family: Family::Model,
    summary: "the student's own answer teaches exits on the way",
    formula: "CE(y, z_s) + Σ over stages of (1 − α)·CE(y, z_e) + α·T²·KL(softmax(z_s/T) ‖ softmax(z_e/T)), z_e a linear layer of the \
              stage's mean, z_s the student's logits as a constant",
    source: "Zhang et al. 2019, Be Your Own Teacher, https://arxiv.org/abs/1905.08094; exits: Lee et al. 2015, \
             https://arxiv.org/abs/1409.5185",
    when: "without a teacher; deep students",
    weight: 1.0,
    make: made::<DeepSupervision>,
    defaults: defaults::<DeepSupervision>,
};

/// `CE(y, z_s) + Σ (1 − α) · CE(y, z_e) + α · T² · KL(softmax(z_s / T) ‖ softmax(z_e / T))`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeepSupervision {
    /// Share of the network's own answer, α in 0..=1.
    pub alpha: f64,
    pub temperature: Schedule,
    /// After which stages there is an exit.
    pub stages: Stages,
    #[serde(skip)]
    chosen: Range<usize>,
    #[serde(skip)]
    exits: Vec<Layers>,
}

impl Default for DeepSupervision {
    fn default() -> Self {
        let (chosen, exits) = Default::default();
        DeepSupervision { alpha: 0.3, temperature: Schedule::Constant(3.0), stages: Stages::All, chosen, exits }
    }
}

impl Term for DeepSupervision {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: true, teacher_logits: false, pairs: Pairs::Own }
    }

    fn prepare(&mut self, plan: &Plan, aux: &mut AuxParams) -> Result<(), Error> {
        share(ENTRY.name, "alpha", self.alpha)?;
        positive(ENTRY.name, "temperature", &self.temperature.ends())?;
        self.chosen = self.stages.of(plan);
        let exit = |i: usize| {
            let ((channels, _), _) = plan.pairs[i];
            Layers::add(aux, &format!("{}.exit{i}", plan.prefix), &[channels, plan.classes])
        };
        self.exits = self.chosen.clone().map(exit).collect();
        Ok(())
    }

    fn parts(&self, values: &StepValues, aux: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        let t = self.temperature.at(values.progress);
        let own = log_softmax(values.student_logits.clone().detach().div_scalar(t));
        let one = |(pair, exit): (&Pair, &Layers)| {
            let logits = exit.apply(self.positions(values, pair), aux);
            let labels = StepValues { student_logits: logits.clone(), ..values.clone() }.labelled();
            let taught = kl(own.clone(), log_softmax(logits.div_scalar(t)));
            (values.mean(labels), values.mean(taught))
        };
        let exits = values.pairs[self.chosen.clone()].iter().zip(&self.exits).map(one);
        let (labels, taught) = exits.reduce(|a, b| (a.0 + b.0, a.1 + b.1)).expect("there is an exit");
        vec![
            ("labels", values.mean(values.labelled())),
            ("labels at the exits", labels.mul_scalar(1.0 - self.alpha)),
            ("own answer at the exits", taught.mul_scalar(self.alpha * t * t)),
        ]
    }
}

impl DeepSupervision {
    /// As many rows of a stage as there are of logits, `[N, C]`: the mean over all positions where there is one answer
    /// for a sample, else over those that belong to each answer.
    fn positions(&self, values: &StepValues, pair: &Pair) -> Tensor<2> {
        let maps = pair.student.maps();
        let [batch, _, positions] = maps.dims();
        let [rows, _] = values.student_logits.dims();
        match rows / batch.max(1) {
            1 => align::embedding(values, &pair.student),
            answers if answers == positions => align::rows(maps),
            answers => align::rows(module::adaptive_avg_pool1d(maps, answers)),
        }
    }
}
