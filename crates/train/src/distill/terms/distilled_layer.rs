//! `distilled-layer`: the student goes on from a mix of its own activation and the teacher's.

use super::align::{self, Layers, Stages};
use super::{Entry, Family, Pairs, Reads, Route, Term, defaults, made};
use crate::distill::step::{Pair, Plan};
use crate::distill::{AuxParams, Error, Schedule, StepValues};
use burn::tensor::Tensor;
use kdc_exec::Value;
use serde::{Deserialize, Serialize};
use std::ops::Range;

pub const ENTRY: Entry = Entry {
    name: "distilled-layer",
    family: Family::Feature,
    summary: "the student goes on from a mix of its own activation and the teacher's",
    formula: "CE(y, z_s) with f_s replaced by own·f_s + (1 − own)·W·[f_s; f_t], own rising to 1: the student alone",
    source: "the survey's section 6.2",
    when: "deep students whose early layers learn slowly: the later ones have something to learn from at once",
    weight: 1.0,
    make: made::<DistilledLayer>,
    defaults: defaults::<DistilledLayer>,
};

/// `CE(y, z_s)` of a student that is helped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DistilledLayer {
    /// Share of the student's own activation over training; has to end at 1.
    pub own: Schedule,
    /// Where it is helped. At the last stage the teacher's activation is the answer, and nothing is left to learn.
    pub stages: Stages,
    #[serde(skip)]
    chosen: Range<usize>,
    #[serde(skip)]
    mixers: Vec<Layers>,
}

impl Default for DistilledLayer {
    fn default() -> Self {
        let (own, stages) = (Schedule::Warmup { to: 1.0, over: 0.5 }, Stages::Middle);
        DistilledLayer { own, stages, chosen: 0..0, mixers: vec![] }
    }
}

impl Term for DistilledLayer {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: true, teacher_logits: false, pairs: Pairs::Stages }
    }

    fn route(&self, _: f64) -> Route {
        Route::Mixed
    }

    fn prepare(&mut self, plan: &Plan, aux: &mut AuxParams) -> Result<(), Error> {
        if (self.own.at(1.0) - 1.0).abs() > 1e-9 {
            let what = "'distilled-layer': own has to end at 1: there is no teacher to help when training is over";
            return Err(Error::Config(what.into()));
        }
        let mixer = |(i, &((student, _), (teacher, _))): (usize, &_)| {
            Layers::add(aux, &format!("{}.mixer{i}", plan.prefix), &[student + teacher, student])
        };
        self.chosen = self.stages.of(plan);
        let (first, count) = (self.chosen.start, self.chosen.len());
        self.mixers = plan.pairs.iter().enumerate().skip(first).take(count).map(mixer).collect();
        Ok(())
    }

    fn mixed(&self, index: usize, pair: &Pair, progress: f64, aux: &AuxParams) -> Value {
        let own = self.own.at(progress);
        if own >= 1.0 || !self.chosen.contains(&index) {
            return pair.student.value.clone();
        }
        let shape = pair.student.value.shape();
        let (maps, spatial) = (pair.student.maps(), align::spatial(&pair.student));
        let [batch, channels, positions] = maps.dims();
        // The teacher's, at the student's positions.
        let teacher = pair.teacher.detached();
        let [_, theirs, _] = teacher.maps().dims();
        let at = align::resized(teacher.maps(), &align::spatial(&teacher), &spatial);
        let both = Tensor::cat(vec![align::rows(maps.clone()), align::rows(at)], 1);
        debug_assert_eq!(both.dims(), [batch * positions, channels + theirs]);
        let helped = self.mixers[index - self.chosen.start]
            .apply(both, aux)
            .reshape([batch, positions, channels])
            .swap_dims(1, 2);
        let mix = maps.mul_scalar(own) + helped.mul_scalar(1.0 - own);
        align::in_place_of(mix, &spatial, &shape, pair.student.layout)
    }

    fn parts(&self, values: &StepValues, _: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        vec![("labels", values.mean(values.labelled()))]
    }
}
