use super::{Error, Teacher};
use crate::data::{Dataset, SampleView};
use kdc_ir::graph::Tensor;
use std::collections::BTreeMap;

/// Samples handed to the teacher at once: bounds memory, and is a multiple of every engine's chunk.
pub(super) const BATCH: usize = 256;

/// What the teacher's first output says about the samples as they are: `[samples, …]`.
///
/// # Errors
/// As [`Teacher::run`].
pub fn logits(teacher: &dyn Teacher, samples: &dyn Dataset) -> Result<Tensor, Error> {
    let mut values = Vec::new();
    let mut shape = vec![0];
    for start in (0..samples.len()).step_by(BATCH) {
        let answers = teacher.run(&samples.batch(&SampleView::plain(start..samples.len().min(start + BATCH))))?;
        let Some(first) = answers.outputs.first() else {
            return Err(Error::Logits { what: "the teacher has no output".into() });
        };
        values.extend_from_slice(&first.to_f32());
        shape = first.shape.clone();
    }
    shape[0] = samples.len();
    Ok(Tensor::f32(shape, values))
}

/// The class the teacher gives each sample: where its first output is largest, the first such place in a tie.
///
/// # Errors
/// As [`Teacher::run`].
pub fn predict(teacher: &dyn Teacher, samples: &dyn Dataset) -> Result<Vec<u16>, Error> {
    let logits = logits(teacher, samples)?;
    let classes: usize = logits.shape[1..].iter().product();
    let best = |row: &[f32]| row.iter().enumerate().fold(0, |best, (i, x)| if *x > row[best] { i } else { best });
    Ok(logits.to_f32().chunks_exact(classes.max(1)).map(|row| best(row) as u16).collect())
}

/// The share of the labelled samples whose predicted class is their label, 0 to 1; `None` where none has a label.
pub fn accuracy(predicted: &[u16], samples: &dyn Dataset) -> Option<f64> {
    let labelled = predicted.iter().enumerate().filter_map(|(i, said)| Some(samples.label(i)? == *said));
    let (right, count) = labelled.fold((0usize, 0usize), |(right, count), hit| (right + usize::from(hit), count + 1));
    (count > 0).then(|| right as f64 / count as f64)
}

/// With fewer labels nothing is said of chance.
const FEW: usize = 50;
/// Of sums of shares.
const ROUNDING: f64 = 1e-9;

/// What to look into where chance explains how often the predicted classes are right, to within two standard errors: classes
/// as frequent as these, named without looking (Cohen 1960, A Coefficient of Agreement for Nominal Scales; the error by
/// Fleiss, Cohen, Everitt 1969, Large Sample Standard Errors of Kappa and Weighted Kappa). Such a model sees other inputs than
/// it was trained on, or its classes are in another order; where the answers tell which, that is said instead.
pub fn doubt(predicted: &[u16], samples: &dyn Dataset, class_names: &[String]) -> Option<String> {
    let right = accuracy(predicted, samples)?;
    if let Some(order) = super::other_order(predicted, samples, class_names) {
        return Some(order);
    }
    // How often a class is the label, and how often it is named.
    let mut shares: BTreeMap<u16, [f64; 2]> = BTreeMap::new();
    let labels: Vec<(u16, u16)> =
        predicted.iter().enumerate().filter_map(|(i, said)| Some((samples.label(i)?, *said))).collect();
    let one = 1.0 / labels.len() as f64;
    for (label, said) in &labels {
        shares.entry(*label).or_default()[0] += one;
        shares.entry(*said).or_default()[1] += one;
    }
    let chance: f64 = shares.values().map(|[p, q]| p * q).sum();
    let both: f64 = shares.values().map(|[p, q]| p * q * (p + q)).sum();
    let error = ((chance + chance * chance - both).max(0.0) * one).sqrt();
    (labels.len() >= FEW && right <= chance + 2.0 * error + ROUNDING).then(|| {
        format!(
            "this network is right on {:.1}% of {} labelled samples (measured), which chance explains: look at scale, mean, \
             std and layout in its sidecar's [input], and whether the classes are in its order",
            100.0 * right,
            labels.len()
        )
    })
}
