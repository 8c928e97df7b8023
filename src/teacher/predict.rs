use super::{Error, Teacher};
use crate::data::{Dataset, Look};
use crate::graph::Tensor;

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
        let answers = teacher.run(&samples.batch(&Look::plain(start..samples.len().min(start + BATCH))))?;
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
