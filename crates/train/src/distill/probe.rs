//! How similar activations of two networks are, by a look at some samples: linear centred kernel alignment, Kornblith et
//! al. 2019, <https://arxiv.org/abs/1905.00414>.

use super::{Engine, Error, TrainingSet};
use crate::data::SampleView;
use burn::tensor::Device;
use kdc_exec::{Mode, Network};
use kdc_ir::graph::{Graph, Tensor, ValueId};
use std::collections::HashMap;

/// Samples that are looked at.
const SAMPLES: usize = 64;
/// Fewer tell nothing.
const FEWEST: usize = 8;

/// What a network makes of the samples, value by value: which of them it puts close together.
pub struct Probe {
    count: usize,
    /// Centred Gram matrices of the length one, `count × count`.
    grams: HashMap<ValueId, Vec<f64>>,
}

impl Probe {
    /// Looks at the first samples of a set.
    ///
    /// # Errors
    /// When the network cannot be run.
    pub fn new(graph: &Graph, engine: Option<Engine>, values: &[ValueId], set: &TrainingSet) -> Result<Probe, Error> {
        let samples: Vec<usize> = set.train.iter().copied().take(SAMPLES).collect();
        let count = samples.len();
        let mut grams = HashMap::new();
        if count >= FEWEST && !values.is_empty() {
            let inputs = set.samples.batch(&SampleView::plain(samples));
            let seen = match engine {
                Some(engine) => engine.values(graph, values, &inputs)?,
                None => {
                    let taps = Network::new(graph, &Device::flex())?.forward(inputs, values, Mode::Infer)?.taps;
                    taps.iter().map(|tap| Ok(tap.to_host()?)).collect::<Result<_, Error>>()?
                }
            };
            for (&id, value) in values.iter().zip(seen) {
                grams.extend(gram(&value, count).map(|gram| (id, gram)));
            }
        }
        Ok(Probe { count, grams })
    }

    /// Of a value of this network and one of another, 0..=1; `None` where it cannot be told.
    pub fn similarity(&self, own: ValueId, other: &Probe, its: ValueId) -> Option<f64> {
        let (own, its) = (self.grams.get(&own)?, other.grams.get(&its)?);
        (self.count == other.count).then(|| own.iter().zip(its).map(|(a, b)| a * b).sum())
    }
}

/// `HKH / ‖HKH‖` of the activations as rows, `H = I − 1/n`; `None` where all samples are alike.
fn gram(value: &Tensor, count: usize) -> Option<Vec<f64>> {
    let values = value.to_f32();
    let width = values.len() / count;
    if width == 0 || values.len() != width * count || values.iter().any(|x| !x.is_finite()) {
        return None;
    }
    let means: Vec<f64> = (0..width)
        .map(|i| values.iter().skip(i).step_by(width).map(|&x| f64::from(x)).sum::<f64>() / count as f64)
        .collect();
    let rows: Vec<Vec<f64>> = values
        .chunks(width)
        .map(|row| row.iter().zip(&means).map(|(&x, mean)| f64::from(x) - mean).collect())
        .collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut gram: Vec<f64> = rows.iter().flat_map(|a| rows.iter().map(|b| dot(a, b))).collect();
    let norm = dot(&gram, &gram).sqrt();
    if norm <= f64::MIN_POSITIVE {
        return None;
    }
    gram.iter_mut().for_each(|x| *x /= norm);
    Some(gram)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f32], count: usize) -> Option<Vec<f64>> {
        let tensor = Tensor::f32([count, values.len() / count], values.to_vec());
        gram(&tensor, count)
    }

    #[test]
    fn turned_scaled_and_shifted_activations_are_the_same_and_others_are_not() {
        let plain = [0.0, 1.0, 2.0, 0.0, -1.0, 3.0, 0.5, 0.5];
        // Turned by a right angle, doubled, and moved.
        let turned: Vec<f32> = plain.chunks(2).flat_map(|p| [5.0 - 2.0 * p[1], 1.0 + 2.0 * p[0]]).collect();
        let other = [1.0, 0.0, 1.0, 0.1, -1.0, 0.0, -1.0, 0.2];
        let probe =
            |values: &[f32]| Probe { count: 4, grams: of(values, 4).map(|g| (ValueId(0), g)).into_iter().collect() };
        let id = ValueId(0);
        let plain = probe(&plain);
        assert!((plain.similarity(id, &probe(&turned), id).unwrap() - 1.0).abs() < 1e-9);
        assert!(plain.similarity(id, &probe(&other), id).unwrap() < 0.5);
        assert!(of(&[1.0; 8], 4).is_none());
    }
}
