//! What the terms of a run see of a batch.

use super::Run;
use crate::data::{MaskedTokens, Reading, Task};
use crate::distill::feed::Batch;
use crate::distill::forward::{self, NetworkOutputs};
use crate::distill::history::Hits;
use crate::distill::partial_forward::PartialForward;
use crate::distill::step::MixedIn;
use crate::distill::term_inputs::Labels;
use crate::distill::terms::Route;
use crate::distill::{Error, StepValues};
use burn::tensor::{Tensor, TensorData};
use kdc_exec::{Mode, Value};
use kdc_ir::graph::ValueId;

impl Run {
    /// What the teachers say of a batch.
    pub(super) fn said(&self, batch: &Batch, mode: Mode) -> Result<Vec<NetworkOutputs>, Error> {
        let tracked = self.device.clone().autodiff();
        let one = |(index, kept): (usize, &Vec<f32>)| {
            let (_, taps) = self.term_inputs.reads_of(index);
            let mut said = match (&self.trainables.peers[index], &self.live_teachers[index]) {
                (Some((_, peer)), _) => {
                    let mode = if self.taught[index] { mode } else { Mode::Infer };
                    forward::ask(peer, batch.inputs.clone(), &[], taps, mode)?
                }
                (_, Some(fixed)) => fixed.ask(batch.inputs.clone(), taps)?,
                _ => NetworkOutputs { logits: None, taps: vec![] },
            };
            if !kept.is_empty() {
                let rows = batch.rows(kept.len(), self.classes);
                let data = TensorData::new(kept.clone(), [rows, kept.len() / rows.max(1)]);
                said.logits = Some(Tensor::from_data(data, &tracked));
            }
            Ok(said)
        };
        batch.kept.iter().enumerate().map(one).collect()
    }

    fn partial_forward<'a>(&'a self, batch: &'a Batch, mode: Mode) -> PartialForward<'a> {
        PartialForward { student: &self.trainables.student, inputs: &batch.inputs, mode, aux: &self.trainables.aux }
    }

    /// What takes the place of the student's activations, where a term mixes them.
    pub(super) fn mixed(
        &self,
        batch: &Batch,
        said: &[NetworkOutputs],
        mode: Mode,
        progress: f64,
    ) -> Result<Vec<(ValueId, Value)>, Error> {
        for (index, term) in self.objective.terms().enumerate() {
            if term.route(progress) == Route::Mixed {
                return self.partial_forward(batch, mode).mixed(term, &self.term_inputs.taught(index, said), progress);
            }
        }
        Ok(vec![])
    }

    /// Computes what terms read whose route is not a plain pass through the student.
    pub(super) fn reroute(&self, batch: &Batch, mode: Mode, values: &mut [StepValues]) -> Result<(), Error> {
        for (index, (term, values)) in self.objective.terms().zip(values).enumerate() {
            let (places, source) = self.term_inputs.places(index);
            match term.route(values.progress) {
                Route::Plain | Route::Mixed => {}
                Route::Blocks => {
                    let taught = places.into_iter().zip(&values.pairs).map(|((s, _), p)| (s, p.teacher.clone()));
                    values.pairs = self.partial_forward(batch, mode).blocks(term, &taught.collect::<Vec<_>>())?;
                }
                Route::Relay { student } => {
                    let teacher = self.relays[source].as_ref();
                    let teacher =
                        teacher.ok_or_else(|| Error::inapplicable(term.name(), "needs a network to teach"))?;
                    let key = [(self.done as u64).to_le_bytes(), self.trainables.aux.seed().to_le_bytes()].concat();
                    values.student_logits =
                        self.partial_forward(batch, mode).relay(term, teacher, &places, student, &key)?;
                }
            }
        }
        Ok(())
    }

    /// The values of a step, for each term its own, and what the weights of several teachers learn from.
    pub(super) fn values(
        &self,
        logits: Tensor<2>,
        taps: &[Value],
        said: &[NetworkOutputs],
        batch: &Batch,
        seed: u64,
        progress: f64,
    ) -> (Vec<StepValues>, Vec<Tensor<1>>) {
        let [rows, _] = logits.dims();
        let positions = rows / batch.samples.len().max(1);
        let sample = |row: usize| row / positions.max(1);
        let each: Vec<usize> = (0..batch.samples.len()).collect();
        let own = self.labels(batch, &each, positions);
        let words = self.words(batch);
        let targets = (self.answers == Task::Reconstruction).then(|| batch.inputs.first()).flatten().map(|input| {
            let values = TensorData::new(input.to_f32().into_owned(), logits.dims());
            Tensor::from_data(values, &self.device.clone().autodiff())
        });
        let mixed = batch.mixed.as_ref().map(|mixed| {
            let other = self.labels(batch, &mixed.with, positions);
            MixedIn { labels: other.classes, weights: other.weights, share: 1.0 - mixed.own }
        });
        let lottery: Vec<f32> = (0..rows).map(|row| lottery(seed, batch.samples[sample(row)])).collect();
        let views = self.term_inputs.views(taps, said, &own, &self.trainables.aux);
        let mut teaches = vec![];
        let values = views.into_iter().map(|view| {
            teaches.extend(view.teaches_weights);
            let mask = self.mask(batch, &words, positions, view.logits.as_ref());
            StepValues {
                student_logits: logits.clone(),
                teacher_logits: view.logits,
                pairs: view.pairs,
                labels: own.classes.clone(),
                weights: own.weights.clone(),
                mixed: mixed.clone(),
                targets: targets.clone(),
                mask,
                words: words.clone(),
                lottery: lottery.clone(),
                samples: batch.samples.clone(),
                progress,
            }
        });
        (values.collect(), teaches)
    }

    /// The labels of some samples of a batch, a row for each position, and how much each counts.
    fn labels(&self, batch: &Batch, samples: &[usize], positions: usize) -> Labels {
        let tracked = self.device.clone().autodiff();
        let (mut classes, mut weights) = (vec![], vec![]);
        for &sample in samples {
            if let Some(hidden) = &batch.hidden {
                let rows = &hidden.tokens[sample * positions..][..positions];
                classes.extend(rows.iter().map(|token| i64::from(token.unwrap_or(0))));
                weights.extend(rows.iter().map(|token| if token.is_some() { 1.0 } else { 0.0 }));
                continue;
            }
            let class = batch.classes[sample];
            let counts = match (batch.labelled[sample], self.class_weights.get(usize::from(class))) {
                (false, _) => 0.0,
                (true, weight) => weight.copied().unwrap_or(1.0),
            };
            for position in 0..positions {
                let (symbol, counts) = match self.answers.words() {
                    None => (class, counts),
                    // Symbols have no place of their own in CTC.
                    Some(sequence) if sequence.reading == Reading::Ctc => (0, 0.0),
                    // The word, its end, and nothing that counts.
                    Some(sequence) => match sequence.word(class).get(position) {
                        Some(&symbol) => (symbol, counts),
                        None if position == sequence.word(class).len() => (0, counts),
                        None => (0, 0.0),
                    },
                };
                classes.push(i64::from(symbol));
                weights.push(counts);
            }
        }
        let rows = classes.len();
        let even = weights.iter().all(|&w| w == 1.0);
        let column = |weights: Vec<f32>| Tensor::from_data(TensorData::new(weights, [rows]), &tracked);
        Labels {
            classes: Tensor::from_data(TensorData::new(classes, [rows]), &tracked),
            weights: (!even).then(|| column(weights)),
        }
    }

    /// The words of a batch, where answers spell and somebody said them.
    fn words(&self, batch: &Batch) -> Vec<Option<Vec<u16>>> {
        let Some(sequence) = self.answers.words().filter(|_| batch.hidden.is_none()) else { return vec![] };
        let word = |(&class, &said): (&u16, &bool)| said.then(|| sequence.word(class).to_vec());
        batch.classes.iter().zip(&batch.labelled).map(word).collect()
    }

    /// Which positions count, where not all do: tokens that are no padding, symbols of a word and its end. Where nobody
    /// said the word, what the teacher spells is it: what follows its end symbol has been taught by nothing.
    fn mask(
        &self,
        batch: &Batch,
        words: &[Option<Vec<u16>>],
        positions: usize,
        teacher: Option<&Tensor<2>>,
    ) -> Option<Tensor<1>> {
        let mask: Vec<f32> = if let Some(hidden) = &batch.hidden {
            hidden.real.iter().map(|&real| if real { 1.0 } else { 0.0 }).collect()
        } else {
            let sequence = self.answers.words().filter(|sequence| sequence.reading == Reading::Positions)?;
            let spelled = teacher.filter(|_| words.contains(&None)).map(|logits| {
                let values: Vec<f32> = logits.clone().inner().into_data().iter::<f32>().collect();
                values.chunks(values.len() / words.len().max(1)).map(|said| sequence.length(said)).collect::<Vec<_>>()
            });
            let length = |(sample, word): (usize, &Option<Vec<u16>>)| match (word, &spelled) {
                (Some(word), _) => word.len() + 1,
                (None, Some(spelled)) => spelled[sample],
                (None, None) => positions,
            };
            let counts = |length| (0..positions).map(move |p| if p < length { 1.0 } else { 0.0 });
            words.iter().enumerate().map(length).flat_map(counts).collect()
        };
        let rows = mask.len();
        Some(Tensor::from_data(TensorData::new(mask, [rows]), &self.device.clone().autodiff()))
    }
}

/// What the student made of a batch.
pub(super) fn hits(logits: &Tensor<2>, batch: &Batch, teacher: Option<Tensor<2>>, answers: &Task) -> Hits {
    if let Some(hidden) = &batch.hidden {
        return found(logits, hidden, teacher);
    }
    if *answers == Task::Reconstruction {
        return Hits { samples: batch.samples.len() as u64, ..Hits::default() };
    }
    let [rows, symbols] = logits.dims();
    let each = rows / batch.samples.len().max(1) * symbols;
    let said = |logits: Tensor<2>| -> Vec<Option<u16>> {
        let values: Vec<f32> = logits.inner().into_data().iter::<f32>().collect();
        values.chunks(each.max(1)).map(|row| answers.class(row)).collect()
    };
    let student = said(logits.clone());
    let mut hits = Hits { samples: student.len() as u64, ..Hits::default() };
    for (sample, class) in student.iter().enumerate() {
        hits.labelled += u64::from(batch.labelled[sample]);
        hits.right += u64::from(batch.labelled[sample] && *class == Some(batch.classes[sample]));
    }
    // Answers that stand for something else do not agree or disagree.
    if let Some(teacher) = teacher.filter(|t| t.dims() == logits.dims()) {
        hits.asked = student.len() as u64;
        hits.agreed = student.iter().zip(said(teacher)).filter(|(a, b)| *a == b).count() as u64;
    }
    hits
}

/// Which hidden tokens were found.
fn found(logits: &Tensor<2>, hidden: &MaskedTokens, teacher: Option<Tensor<2>>) -> Hits {
    let said = |logits: &Tensor<2>| -> Vec<i64> {
        let classes = logits.clone().inner().argmax(1);
        classes.into_data().iter::<i64>().collect()
    };
    let (student, teacher) = (said(logits), teacher.as_ref().map(said));
    let mut hits = Hits::default();
    for (row, token) in hidden.tokens.iter().enumerate() {
        let Some(token) = *token else { continue };
        hits.samples += 1;
        hits.labelled += 1;
        hits.right += u64::from(student[row] == i64::from(token));
        if let Some(teacher) = &teacher {
            hits.asked += 1;
            hits.agreed += u64::from(student[row] == teacher[row]);
        }
    }
    hits
}

/// A number in 0..1 that belongs to a sample: SplitMix64 of seed and index (Steele et al. 2014).
fn lottery(seed: u64, sample: usize) -> f32 {
    let mut z = seed ^ (sample as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 24) as f32
}
