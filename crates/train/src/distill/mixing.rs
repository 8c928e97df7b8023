//! Samples that are made of samples: what teacher and student both see, and nobody kept answers for.
//!
//! - mixup, Zhang et al. 2018, <https://arxiv.org/abs/1710.09412>: `λ·a + (1 − λ)·b`, λ by Beta(α, α).
//! - cutmix, Yun et al. 2019, <https://arxiv.org/abs/1905.04899>: a patch of `b` in `a`; of signals, a stretch.
//! - SpecAugment, Park et al. 2019, <https://arxiv.org/abs/1904.08779>: a stretch and a band of zeros (the masks alone,
//!   no warping of time).

use super::{DataSpec, Error};
use crate::data::Input;
use kdc_ir::graph::{Data, Tensor as HostTensor};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Beta, Distribution};

/// How a batch was mixed.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixed {
    /// By row, the row that was mixed in.
    pub with: Vec<usize>,
    /// The share of the row's own, in 0..=1.
    pub own: f64,
}

/// Refuses to change inputs that cannot be changed so.
///
/// # Errors
/// When there are other inputs than numbers, or none with places where that is needed.
pub fn check(spec: &DataSpec, inputs: &[Input]) -> Result<(), Error> {
    let refuse = |what: &str| Err(Error::Config(format!("the recipe's [data] has {what}")));
    let places = |input: &Input| input.shape.len() == 2 || input.shape.len() == 3;
    match spec {
        _ if !spec.mixes() => Ok(()),
        _ if inputs.iter().any(|input| !input.dtype.is_float()) => {
            refuse("mixup, cutmix or spec-augment, and the samples are no numbers that could be mixed, but tokens")
        }
        _ if spec.cutmix > 0.0 && !inputs.iter().all(places) => {
            refuse("cutmix, and the samples have no places to cut; mixup takes any numbers")
        }
        _ => Ok(()),
    }
}

/// Changes a batch in place, as the spec says; where both mixups are asked for, each in half of the batches. A function
/// of `key`, which names seed, epoch and samples.
pub fn mix(spec: &DataSpec, inputs: &mut [HostTensor], key: &[u8]) -> Option<Mixed> {
    let mut rng = ChaCha8Rng::from_seed(*blake3::hash(key).as_bytes());
    if spec.spec_augment > 0.0 {
        inputs.iter_mut().for_each(|input| mask(input, spec.spec_augment, &mut rng));
    }
    let (up, cut) = (spec.mixup > 0.0, spec.cutmix > 0.0);
    let cuts = cut && (!up || rng.random_bool(0.5));
    let alpha = if cuts { spec.cutmix } else { spec.mixup };
    let own = Beta::new(alpha, alpha).ok()?.sample(&mut rng);
    let rows = inputs.first()?.shape.first().copied()?;
    let mut with: Vec<usize> = (0..rows).collect();
    with.shuffle(&mut rng);
    if !cuts {
        inputs.iter_mut().for_each(|input| blend(input, &with, own as f32));
        return Some(Mixed { with, own });
    }
    let place = (rng.random::<f64>(), rng.random::<f64>());
    let mut kept = own;
    inputs.iter_mut().for_each(|input| kept = patch(input, &with, own, place).unwrap_or(kept));
    Some(Mixed { with, own: kept })
}

/// The elements of an input of floats, and how many a sample has.
fn floats(input: &mut HostTensor) -> Option<(&mut Vec<f32>, usize, Vec<usize>)> {
    let shape = input.shape.clone();
    let size = shape.get(1..)?.iter().product();
    match &mut input.data {
        Data::F32(values) => Some((values.to_mut(), size, shape)),
        _ => None,
    }
}

fn blend(input: &mut HostTensor, with: &[usize], own: f32) {
    let Some((values, size, _)) = floats(input) else { return };
    let before = values.clone();
    for (row, &other) in with.iter().enumerate() {
        let other = &before[other * size..][..size];
        values[row * size..][..size].iter_mut().zip(other).for_each(|(a, b)| *a = own * *a + (1.0 - own) * b);
    }
}

/// Puts a patch around `place` into every row; what is left of the row's own. `None` where an input has no places.
fn patch(input: &mut HostTensor, with: &[usize], own: f64, place: (f64, f64)) -> Option<f64> {
    let (values, size, shape) = floats(input)?;
    let spatial = shape.get(2..)?;
    // A signal is an image of one line.
    let (height, width) = match *spatial {
        [length] => (1, length),
        [height, width] => (height, width),
        _ => return None,
    };
    let side = if height == 1 { 1.0 - own } else { (1.0 - own).sqrt() };
    let range = |extent: usize, at: f64| {
        let half = side * extent as f64 / 2.0;
        let centre = at * extent as f64;
        let end = |x: f64| x.round().clamp(0.0, extent as f64) as usize;
        if extent == 1 { 0..1 } else { end(centre - half)..end(centre + half) }
    };
    let (rows, columns) = (range(height, place.0), range(width, place.1));
    let before = values.clone();
    for (row, &other) in with.iter().enumerate() {
        for channel in 0..size / (height * width).max(1) {
            for y in rows.clone() {
                let at = |sample: usize| sample * size + (channel * height + y) * width;
                let (to, from) = (at(row), at(other));
                values[to + columns.start..to + columns.end]
                    .copy_from_slice(&before[from + columns.start..from + columns.end]);
            }
        }
    }
    Some(1.0 - (rows.len() * columns.len()) as f64 / (height * width).max(1) as f64)
}

/// Zeros in a stretch of places and in a band of channels (of images: of lines), in each row its own.
fn mask(input: &mut HostTensor, most: f64, rng: &mut ChaCha8Rng) {
    let Some((values, size, shape)) = floats(input) else { return };
    let rows = shape[0];
    let (Some(&length), true) = (shape.last(), shape.len() >= 3) else { return };
    let lines = size / length.max(1);
    let mut draw = |extent: usize| {
        let longest = (most * extent as f64).floor() as usize;
        let count = rng.random_range(0..=longest);
        let start = rng.random_range(0..=extent - count);
        start..start + count
    };
    for row in 0..rows {
        let (stretch, band) = (draw(length), if lines > 1 { draw(lines) } else { 0..0 });
        for line in 0..lines {
            let line_values = &mut values[row * size + line * length..][..length];
            let masked = if band.contains(&line) { 0..length } else { stretch.clone() };
            line_values[masked].fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdc_ir::graph::DType;

    fn input(rows: usize, length: usize) -> HostTensor {
        HostTensor::f32([rows, 1, length], (0..rows * length).map(|i| 1.0 + (i / length) as f32).collect())
    }

    #[test]
    fn mixtures_are_what_they_say() {
        for seed in 0..20u8 {
            let mut inputs = [input(4, 10)];
            let mixed = mix(&DataSpec { mixup: 0.5, ..DataSpec::default() }, &mut inputs, &[seed]).unwrap();
            let values = inputs[0].to_f32().into_owned();
            for (row, &other) in mixed.with.iter().enumerate() {
                let want = mixed.own as f32 * (row + 1) as f32 + (1.0 - mixed.own as f32) * (other + 1) as f32;
                assert!((values[row * 10] - want).abs() < 1e-5);
            }
            let mut inputs = [input(4, 10)];
            let mixed = mix(&DataSpec { cutmix: 1.0, ..DataSpec::default() }, &mut inputs, &[seed]).unwrap();
            let values = inputs[0].to_f32().into_owned();
            for (row, &other) in mixed.with.iter().enumerate().filter(|(row, other)| row != *other) {
                let of = |who: usize| values[row * 10..][..10].iter().filter(|v| **v == (who + 1) as f32).count();
                assert_eq!((of(row), of(other)), ((mixed.own * 10.0).round() as usize, 10 - of(row)));
            }
        }
    }

    #[test]
    fn what_cannot_be_mixed_is_refused() {
        let input = |dtype, shape: &[usize]| Input { name: None, dtype, shape: shape.to_vec() };
        let (up, cut) =
            (DataSpec { mixup: 0.5, ..DataSpec::default() }, DataSpec { cutmix: 1.0, ..DataSpec::default() });
        let tokens = [input(DType::I64, &[24])];
        assert!(check(&DataSpec::default(), &tokens).is_ok());
        assert!(check(&up, &tokens).unwrap_err().to_string().contains("tokens"));
        let numbers = [input(DType::F32, &[16])];
        assert!(check(&up, &numbers).is_ok());
        assert!(check(&cut, &numbers).unwrap_err().to_string().contains("no places to cut"));
        assert!(check(&cut, &[input(DType::F32, &[1, 40])]).is_ok());
    }

    #[test]
    fn masks_are_no_larger_than_asked_and_the_same_for_the_same_key() {
        let spec = DataSpec { spec_augment: 0.3, ..DataSpec::default() };
        let (mut a, mut b) = ([input(8, 20)], [input(8, 20)]);
        assert_eq!((mix(&spec, &mut a, b"x"), mix(&spec, &mut b, b"x")), (None, None));
        assert_eq!(a[0], b[0]);
        let zeros: Vec<usize> = a[0].to_f32().chunks(20).map(|r| r.iter().filter(|v| **v == 0.0).count()).collect();
        assert!(zeros.iter().all(|n| *n <= 6) && zeros.iter().any(|n| *n > 0), "{zeros:?}");
    }
}
