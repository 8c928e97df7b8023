//! Samples by inversion of the teacher: DeepInversion, Yin et al. 2020, <https://arxiv.org/abs/1912.08795>.
//!
//! Inputs begin as noise and are moved, by gradients through the teacher, to where it is sure of a class that was
//! drawn, where neighbours resemble each other, and where the statistics before every batch normalisation are those
//! that the teacher remembers of its training: the one trace of the data that a file may still have.

use super::variation::variation;
use super::{Synthesis, Synthesized};
use crate::distill::Error;
use crate::distill::forward::{classes, rows};
use crate::distill::step::cross_entropy;
use burn::optim::{AdamWConfig, AdamWState, Optimizer as _};
use burn::tensor::{Device, Int, Tensor, TensorData};
use kdc_exec::{Datum, Mode, Network, Value, in_pool};
use kdc_ir::files;
use kdc_ir::graph::{Graph, Op, Tensor as HostTensor, ValueId, shape_at};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use std::path::Path;

/// How a teacher comes to keep its batch normalisations, for people.
pub const EXPORT_AGAIN: &str = "export it again with them in training mode (torch.onnx.export with \
                                training=TrainingMode.PRESERVE, do_constant_folding=False)";

/// What the teacher remembers of the values before a batch normalisation.
struct Memory {
    value: ValueId,
    /// `[1, C]`
    mean: Tensor<2>,
    variance: Tensor<2>,
}

/// By what batch normalisations remember.
pub fn invert(
    teacher: &Graph,
    how: &Synthesis,
    seed: u64,
    device: &Device,
    folder: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Synthesized, Error> {
    let input = teacher.inputs[0];
    let tracked = device.clone().autodiff();
    let memories = memories(teacher, &tracked);
    if memories.is_empty() {
        let why = format!(
            "by = \"statistics\" makes samples from what batch normalisations remember, and this teacher has none; \
             {EXPORT_AGAIN}, or take by = \"generator\""
        );
        return Err(Error::inapplicable("data.synthetic", why));
    }
    let network = Network::new(teacher, &tracked)?.untrained();
    let shape = shape_at(&teacher.value(input).shape, 1)[1..].to_vec();
    let classes = classes(teacher);
    let (mut values, mut right) = (vec![], 0);
    for (index, first) in (0..how.samples).step_by(how.batch.max(1)).enumerate() {
        let count = how.batch.min(how.samples - first);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(index as u64);
        let mut wanted: Vec<i64> = (0..count).map(|i| ((first + i) % classes.max(1)) as i64).collect();
        wanted.shuffle(&mut rng);
        let make = || in_pool(|| moved(&network, &memories, how, (count, &shape), &wanted, &mut rng));
        let made = kept(&folder.join(format!("batch-{index}.f32")), count * shape.iter().product::<usize>(), make)?;
        let said = network.forward(vec![HostTensor::f32(whole(count, &shape), made.clone())], &[], Mode::Infer)?;
        let said = said.outputs.into_iter().next().map(|logits| logits.to_host()).transpose()?;
        let said = said.map(|logits| logits.to_f32().into_owned()).unwrap_or_default();
        right += said.chunks(classes.max(1)).zip(&wanted).filter(|(z, y)| crate::data::argmax(z) as i64 == **y).count();
        values.extend(made);
        progress(first + count, how.samples);
    }
    let share = 100.0 * right as f64 / how.samples.max(1) as f64;
    let note = format!(
        "{} samples by the teacher's statistics, of which it knows {share:.1}% as what they were made for (measured)",
        how.samples
    );
    Ok(Synthesized { shape, values, note })
}

/// So many numbers as an interrupted run has left them in a file, or made now and written there.
fn kept(path: &Path, numbers: usize, make: impl FnOnce() -> Result<Vec<f32>, Error>) -> Result<Vec<f32>, Error> {
    let failed = |e: std::io::Error| Error::Checkpoint { path: path.into(), what: e.to_string() };
    if let Some(bytes) = files::read_sealed(path).map_err(failed)?.filter(|bytes| bytes.len() == 4 * numbers) {
        return Ok(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect());
    }
    let made = make()?;
    let bytes: Vec<u8> = made.iter().flat_map(|x| x.to_le_bytes()).collect();
    files::write_sealed(path, &bytes).map_err(failed)?;
    Ok(made)
}

fn memories(teacher: &Graph, device: &Device) -> Vec<Memory> {
    let norms = teacher.nodes.iter().filter(|n| matches!(n.op, Op::BatchNormalization { .. }));
    let memory = |node: &kdc_ir::graph::Node| {
        let vector = |i: usize| {
            let values = teacher.constant(node.input(i)?)?.to_f32().into_owned();
            let count = values.len();
            Some(Tensor::<2>::from_data(TensorData::new(values, [1, count]), device))
        };
        Some(Memory { value: node.input(0)?, mean: vector(3)?, variance: vector(4)? })
    };
    norms.filter_map(memory).collect()
}

fn whole(count: usize, shape: &[usize]) -> Vec<usize> {
    std::iter::once(count).chain(shape.iter().copied()).collect()
}

/// A batch, from noise to samples.
fn moved(
    network: &Network,
    memories: &[Memory],
    how: &Synthesis,
    (count, shape): (usize, &[usize]),
    wanted: &[i64],
    rng: &mut ChaCha8Rng,
) -> Result<Vec<f32>, Error> {
    let (extents, size) = (whole(count, shape), count * shape.iter().product::<usize>());
    let device = memories[0].mean.device();
    let noise: Vec<f32> = (0..size).map(|_| StandardNormal.sample(rng)).collect();
    let mut x = Tensor::<1>::from_data(TensorData::new(noise, [size]), &device.clone().inner());
    let labels = Tensor::<1, Int>::from_data(TensorData::new(wanted.to_vec(), [count]), &device);
    let adam = AdamWConfig::new().with_beta_1(0.5).with_beta_2(0.9).with_weight_decay(0.0).build();
    let mut state: Option<AdamWState<1>> = None;
    let taps: Vec<ValueId> = memories.iter().map(|m| m.value).collect();
    for step in 0..how.steps {
        let leaf = Tensor::<1>::from_inner(x.clone()).require_grad();
        let value = Value::from_tensor(leaf.clone()).reshape(&extents);
        let seen = jittered(value, &extents, rng)?;
        let outputs = network.forward(vec![Datum::Float(seen)], &taps, Mode::Frozen)?;
        let logits = outputs.outputs.into_iter().next().ok_or(Error::NoOutput)?;
        let mut loss = cross_entropy(rows(logits.into_float()?)?, labels.clone()).mean();
        let mut distance: Option<Tensor<1>> = None;
        for (memory, tap) in memories.iter().zip(outputs.taps) {
            let one = apart(tap.into_float()?, memory)?;
            distance = Some(distance.map_or(one.clone(), |sum| sum + one));
        }
        if let Some(distance) = distance {
            loss = loss + distance.mul_scalar(how.statistics);
        }
        let value = Value::from_tensor(leaf.clone()).reshape(&extents);
        loss = loss + variation(value, &extents)?.mul_scalar(how.variation);
        loss = loss + leaf.clone().square().mean().mul_scalar(how.energy);
        let mut gradients = loss.backward();
        let gradient = leaf.grad_remove(&mut gradients).ok_or(Error::NoOutput)?;
        // From all of the way to none, as the source.
        let lr = how.lr * 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / how.steps as f64).cos());
        // The losses are means over the batch: a sample's own gradient is as large as that of a batch of one.
        let (next, kept) = adam.step(lr, x, gradient.mul_scalar(count as f64), state.take());
        (x, state) = (next.clamp(-how.bound, how.bound), kept);
    }
    Ok(x.into_data().iter::<f32>().collect())
}

/// How far a batch's statistics are from those remembered: distances of means, and of variances, by channel.
fn apart(value: Value, memory: &Memory) -> Result<Tensor<1>, Error> {
    let shape = value.shape();
    let (batch, channels) = (shape[0], shape[1]);
    let positions = shape[2..].iter().product::<usize>();
    let maps: Tensor<3> = value.reshape(&[batch, channels, positions]).into_tensor()?;
    // Of a channel: over its positions, then over the batch; no map is turned round for it.
    let over = |maps: Tensor<3>| maps.mean_dim(2).mean_dim(0);
    let mean = over(maps.clone());
    let variance = over((maps - mean.clone()).square()).reshape([1, channels]);
    let mean = mean.reshape([1, channels]);
    let norm = |difference: Tensor<2>| (difference.square().sum() + 1e-12).sqrt();
    Ok(norm(mean - memory.mean.clone()) + norm(variance - memory.variance.clone()))
}

/// Shifted round by up to a fourteenth of every spatial axis: what is made must not hang on single places.
fn jittered(value: Value, extents: &[usize], rng: &mut ChaCha8Rng) -> Result<Value, Error> {
    let mut value = value;
    for axis in 2..extents.len() {
        let (before, after) = (extents[..axis].iter().product::<usize>(), extents[axis + 1..].iter().product());
        let length = extents[axis];
        let most = length / 14;
        let shift = rng.random_range(0..=2 * most);
        let at = (length + shift - most) % length.max(1);
        if at == 0 {
            continue;
        }
        let lines: Tensor<3> = value.reshape(&[before, length, after]).into_tensor()?;
        let parts = vec![lines.clone().slice([0..before, at..length]), lines.slice([0..before, 0..at])];
        value = Value::from_tensor(Tensor::cat(parts, 1)).reshape(extents);
    }
    Ok(value)
}
