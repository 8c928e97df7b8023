//! How good a network is on samples.

use super::Error;
use super::feed::{Next, ahead};
use crate::data::{Dataset, SampleView, Score, Task};
use kdc_exec::{Mode, Network, in_pool};

/// How good a network is, and its answers in order, to plain looks: see [`Score::share`]; NaN where nothing says. Answers of
/// tokens are not given back: they are too many.
///
/// # Errors
/// When the network cannot be run.
pub fn evaluate(
    network: &Network,
    samples: &dyn Dataset,
    indices: &[usize],
    answers: &Task,
) -> Result<(f64, Vec<f32>), Error> {
    let (mut all, mut score) = (Vec::new(), Score::new(answers));
    let make = |batch: &[usize]| {
        let looks = SampleView::plain(batch.iter().copied());
        (samples.batch(&looks), looks)
    };
    ahead(indices.chunks(score.batch()), make, |(inputs, looks)| {
        let outputs = in_pool(|| network.forward(inputs.clone(), &[], Mode::Infer))?.outputs;
        let output = outputs.into_iter().next().ok_or(Error::NoOutput)?;
        let output = output.to_host()?;
        let values = output.to_f32();
        score.add(samples, &looks, &inputs, &values);
        if *answers != Task::MaskedLm {
            all.extend_from_slice(&values);
        }
        Ok::<_, Error>(Next::Go)
    })?;
    Ok((score.share().unwrap_or(f64::NAN), all))
}
