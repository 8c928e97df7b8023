//! Samples by a generator, for teachers that remember nothing of their data: no batch normalisation, or none that is left.
//!
//! Adversarial synthesis: a generator turns noise into inputs, against a critic, a student that learns from the teacher on
//! what it is shown. The generator is moved to where the two disagree (Micaelli, Storkey 2019,
//! <https://arxiv.org/abs/1905.09768>), among inputs of which the teacher is sure, and of all classes alike (Chen et al.
//! 2019, <https://arxiv.org/abs/1904.01186>). What it makes on its way is kept, evenly over the rounds but for the first:
//! the samples that some critic found hard. The critic is thrown away; the student that is wanted learns from the samples
//! as from any. Of an image teacher that takes an hour, so that the state is written down every so many rounds, and an
//! interrupted synthesis goes on from there.

use super::variation::variation;
use super::{Synthesis, Synthesized};
use crate::distill::decoder::{self, LATENT};
use crate::distill::forward::rows;
use crate::distill::optimizer::StateParts;
use crate::distill::step::{cross_entropy, kl, log_softmax};
use crate::distill::{Checkpoint, Error};
use crate::student;
use burn::optim::{AdamW, AdamWConfig, AdamWState, Optimizer as _};
use burn::tensor::{Device, Int, Tensor, TensorData};
use kdc_exec::{Datum, Mode, Network, Value, in_pool};
use kdc_ir::graph::{Graph, Tensor as HostTensor, shape_at};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use std::path::Path;

/// The share of the rounds from whose end on samples are kept.
const UNKEPT: f64 = 0.2;
/// How often the state is written down.
const CHECKPOINTS: usize = 50;

/// Makes samples. `student`: a network that takes and gives what the teacher does, for the critic; its weights are drawn
/// anew. `file`: where the state of a synthesis with the same networks and settings is written down, and taken up again.
///
/// # Errors
/// When the networks cannot be run, or the file cannot be read or written.
pub fn generate(
    teacher: &Graph,
    student: &Graph,
    how: &Synthesis,
    seed: u64,
    device: &Device,
    file: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Synthesized, Error> {
    let shape = shape_at(&teacher.value(teacher.inputs[0]).shape, 1)[1..].to_vec();
    let tracked = device.clone().autodiff();
    let mut of_noise = decoder::generator(&shape)?;
    student::redraw(&mut of_noise, seed);
    let mut critic = student.clone();
    student::redraw(&mut critic, seed ^ 1);
    let mut synthesis = AdversarialSynthesis {
        teacher: Network::new(teacher, &tracked)?.untrained(),
        critic: Learner::new(&critic, &tracked)?,
        generator: Learner::new(&of_noise, &tracked)?,
        how,
        size: shape.iter().product(),
        rng: ChaCha8Rng::seed_from_u64(seed),
        round: 0,
        values: vec![],
        agreed: 0.0,
    };
    if let Some(saved) = Checkpoint::load(file)? {
        synthesis.restore(saved)?;
    }
    let first = (UNKEPT * how.rounds as f64) as usize;
    while synthesis.round < how.rounds {
        // From all of the way to none.
        let rate = how.rate * 0.5 * (1.0 + (std::f64::consts::PI * synthesis.round as f64 / how.rounds as f64).cos());
        let shown = in_pool(|| synthesis.step(rate))?;
        if shown.values.iter().any(|x| !x.is_finite()) {
            return Err(Error::Generator { round: synthesis.round, rate: how.rate });
        }
        synthesis.agreed =
            if synthesis.round == 0 { shown.agreed } else { 0.95 * synthesis.agreed + 0.05 * shown.agreed };
        synthesis.round += 1;
        // As many as are due by now.
        let due = how.samples * (synthesis.round - first.min(synthesis.round)) / (how.rounds - first).max(1);
        synthesis.keep(&shown.values, due);
        if synthesis.round.is_multiple_of(how.rounds.div_ceil(CHECKPOINTS)) {
            synthesis.checkpoint().save(file)?;
        }
        progress(due, how.samples);
    }
    // Where a round shows fewer than are due of it.
    while synthesis.values.len() < how.samples * synthesis.size {
        let shown = in_pool(|| synthesis.show(Mode::Infer))?.0;
        synthesis.keep(&shown, how.samples);
    }
    let note = format!(
        "{} samples by a generator; at its end, its own student gives the teacher's class to {:.1}% of them (measured)",
        how.samples,
        100.0 * synthesis.agreed
    );
    Ok(Synthesized { shape, values: synthesis.values, note })
}

/// The generator, its critic, and what they have made so far.
struct AdversarialSynthesis<'a> {
    teacher: Network,
    /// A student that learns from the teacher on what the generator makes.
    critic: Learner,
    generator: Learner,
    how: &'a Synthesis,
    /// Numbers of a sample.
    size: usize,
    rng: ChaCha8Rng,
    /// Rounds that are over.
    round: usize,
    /// The samples that are kept.
    values: Vec<f32>,
    /// Share of a round's samples that teacher and critic put into one class, averaged over the last rounds.
    agreed: f64,
}

/// What a round made.
struct Round {
    values: Vec<f32>,
    /// Share of it that teacher and critic put into one class.
    agreed: f64,
}

impl AdversarialSynthesis<'_> {
    /// Keeps of what was shown what is missing of so many samples.
    fn keep(&mut self, shown: &[f32], due: usize) {
        let missing = (due * self.size).saturating_sub(self.values.len()).min(shown.len());
        self.values.extend_from_slice(&shown[..missing]);
    }

    /// The state between two rounds.
    fn checkpoint(&self) -> Checkpoint {
        let mut saved = Checkpoint { step: self.round, ..Checkpoint::default() };
        for (name, learner) in [(CRITIC, &self.critic), ("generator", &self.generator)] {
            let StateParts { tensors, counters } = StateParts::of(&learner.states);
            saved.network.extend(prefixed(name, learner.network.snapshot()));
            saved.moments.extend(prefixed(name, tensors));
            saved.counters.extend(prefixed(name, counters));
        }
        let position = u64::try_from(self.rng.get_word_pos()).expect("fewer numbers are drawn in any synthesis");
        saved.counters.extend([(RNG.to_string(), position), (AGREED.to_string(), self.agreed.to_bits())]);
        saved.others.push((VALUES.to_string(), self.values.clone()));
        saved
    }

    /// Goes on where the state was written down.
    fn restore(&mut self, saved: Checkpoint) -> Result<(), Error> {
        for (name, learner) in [(CRITIC, &mut self.critic), ("generator", &mut self.generator)] {
            learner.network.restore(&unprefixed(name, &saved.network))?;
            let parts =
                StateParts { tensors: unprefixed(name, &saved.moments), counters: unprefixed(name, &saved.counters) };
            learner.states = parts.into_states(learner.states.len(), &learner.device.clone().inner());
        }
        let counter = |name| saved.counters.iter().find(|(own, _)| own == name).map_or(0, |(_, count)| *count);
        self.rng.set_word_pos(counter(RNG).into());
        self.agreed = f64::from_bits(counter(AGREED));
        self.round = saved.step;
        self.values = saved.others.into_iter().find(|(name, _)| name == VALUES).map_or_else(Vec::new, |(_, x)| x);
        Ok(())
    }

    /// A round: the generator's step, and the critic's.
    fn step(&mut self, rate: f64) -> Result<Round, Error> {
        let (_, x) = self.show(Mode::Train { momentum: 0.9 })?;
        let rough = variation(x.clone(), &x.shape())?;
        let t = self.teacher_on(x.clone())?;
        let outputs = self.critic.network.forward(vec![Datum::Float(x)], &[], Mode::Frozen)?;
        let s = logits(outputs.outputs)?;
        let sure = cross_entropy(t.clone(), classes(&t)).mean();
        let all = log_softmax(t.clone()).exp().mean_dim(0);
        let even = (all.clone() * all.add_scalar(1e-8).log()).sum();
        let apart = kl(log_softmax(t), log_softmax(s)).mean();
        let Synthesis { sure: by_sure, even: by_even, variation: by_variation, disagreement, .. } = self.how;
        let loss = sure.mul_scalar(*by_sure) + even.mul_scalar(*by_even) - apart.mul_scalar(*disagreement);
        // Neighbours resemble each other, in whatever a network has been trained on.
        let loss = loss + rough.mul_scalar(*by_variation);
        self.generator.step(&loss, rate);

        let mut round = Round { values: vec![], agreed: 0.0 };
        for step in 0..self.how.student_steps.max(1) {
            // New noise each time; the generator only moves in its own step.
            let (values, x) = self.show(Mode::Infer)?;
            // Nobody asks for gradients here: the teacher answers as fast as it can.
            let shown = HostTensor::f32(x.shape(), values.clone());
            let said = self.teacher.forward(vec![shown], &[], Mode::Infer)?.outputs;
            let said = said.into_iter().map(|y| Ok(Datum::Float(y.into_float()?.autodiff())));
            let t = logits(said.collect::<Result<_, Error>>()?)?.detach();
            let x = Datum::Float(x);
            let outputs = self.critic.network.forward(vec![x], &[], Mode::Train { momentum: 0.9 })?;
            let s = logits(outputs.outputs)?;
            if step == 0 {
                let same = classes(&t).equal(classes(&s)).int().sum().into_data().iter::<i64>().sum::<i64>();
                round = Round { values, agreed: same as f64 / self.how.batch as f64 };
            }
            let loss = kl(log_softmax(t), log_softmax(s)).mean();
            self.critic.step(&loss, rate);
        }
        Ok(round)
    }

    fn teacher_on(&self, x: Value) -> Result<Tensor<2>, Error> {
        logits(self.teacher.forward(vec![Datum::Float(x)], &[], Mode::Frozen)?.outputs)
    }

    /// What the generator makes of new noise: its numbers where they are asked for, and a value that leads back to it
    /// where it learns.
    fn show(&mut self, mode: Mode) -> Result<(Vec<f32>, Value), Error> {
        let count = self.how.batch;
        let noise: Vec<f32> = (0..count * LATENT).map(|_| StandardNormal.sample(&mut self.rng)).collect();
        let noise = HostTensor::f32([count, LATENT], noise);
        let made = self.generator.network.forward(vec![noise], &[], mode)?.outputs.remove(0);
        if mode != Mode::Infer {
            return Ok((vec![], made.into_float()?));
        }
        let host = made.to_host()?;
        let shape = host.shape.clone();
        let values = host.to_f32().into_owned();
        let device = self.critic.device.clone();
        let flat = Tensor::<1>::from_data(TensorData::new(values.clone(), [values.len()]), &device);
        Ok((values, Value::from_tensor(flat).reshape(&shape)))
    }
}

/// The critic's name in a checkpoint; files have always called it so.
const CRITIC: &str = "student";
/// Names in a checkpoint beside those of the networks.
const RNG: &str = "rng";
const AGREED: &str = "agreed";
const VALUES: &str = "values";

/// Names with what they belong to before them.
fn prefixed<T>(what: &str, list: Vec<(String, T)>) -> impl Iterator<Item = (String, T)> {
    list.into_iter().map(move |(name, value)| (format!("{what}/{name}"), value))
}

/// What belongs to something, by its own names.
fn unprefixed<T: Clone>(what: &str, list: &[(String, T)]) -> Vec<(String, T)> {
    let own = |name: &str| Some(name.strip_prefix(what)?.strip_prefix('/')?.to_string());
    list.iter().filter_map(|(name, value)| Some((own(name)?, value.clone()))).collect()
}

fn logits(outputs: Vec<Datum>) -> Result<Tensor<2>, Error> {
    let first = outputs.into_iter().next().ok_or(Error::NoOutput)?;
    rows(first.into_float()?)
}

/// The likeliest class of each row.
fn classes(logits: &Tensor<2>) -> Tensor<1, Int> {
    let [rows, _] = logits.dims();
    logits.clone().detach().argmax(1).reshape([rows])
}

/// A network with Adam, as both papers have it.
struct Learner {
    network: Network,
    adam: AdamW,
    states: Vec<Option<AdamWState<1>>>,
    device: Device,
}

impl Learner {
    fn new(graph: &Graph, device: &Device) -> Result<Learner, Error> {
        let network = Network::new(graph, device)?;
        let adam = AdamWConfig::new().with_beta_1(0.5).with_weight_decay(0.0).build();
        let states = vec![None; network.params().len()];
        Ok(Learner { network, adam, states, device: device.clone() })
    }

    fn step(&mut self, loss: &Tensor<1>, rate: f64) {
        let mut gradients = loss.backward();
        let gradients = self.network.take_gradients(&mut gradients);
        for (index, gradient) in gradients.into_iter().enumerate() {
            let parameter = &self.network.params()[index];
            // Samples stay of mean 0 and deviation 1 by channel, as inputs of networks are.
            let Some(gradient) = gradient.filter(|_| !parameter.name.starts_with(decoder::LAST)) else { continue };
            let (next, state) =
                self.adam.step(rate, parameter.tensor.clone().inner(), gradient, self.states[index].take());
            self.states[index] = state;
            self.network.set_param(index, next);
        }
    }
}
