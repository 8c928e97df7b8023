//! What networks say about samples.

use super::Error;
use crate::data::{Dataset, Look};
use crate::program::{Program, reference};
use rayon::prelude::*;

/// Samples on which the built program and the reference interpreter are compared bit for bit.
pub(super) const COMPARED: usize = 256;

/// What a network says about each sample: the class with the highest logit, the first of equals.
pub(super) fn classes(logits: &[f32], classes: usize) -> Vec<u16> {
    let best = |row: &[f32]| {
        let better = |best: (usize, f32), (i, &v): (usize, &f32)| if v > best.1 { (i, v) } else { best };
        row.iter().enumerate().fold((0, f32::NEG_INFINITY), better).0 as u16
    };
    logits.chunks(classes.max(1)).map(best).collect()
}

/// The labels of some samples.
pub(super) fn labels(samples: &dyn Dataset) -> Vec<Option<u16>> {
    (0..samples.len()).map(|i| samples.label(i)).collect()
}

/// The share of the labelled samples that are put into their class; 0 where none is labelled.
pub(super) fn right(said: &[u16], truth: &[Option<u16>]) -> f64 {
    let labelled = || said.iter().zip(truth).filter_map(|(said, truth)| Some((*truth)? == *said));
    labelled().filter(|hit| *hit).count() as f64 / labelled().count().max(1) as f64
}

/// The share of samples on which two agree.
pub(super) fn share(a: &[u16], b: &[u16]) -> f64 {
    a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len().min(b.len()).max(1) as f64
}

/// What the reference interpreter says, sample by sample.
pub(super) struct Expected {
    runs: Vec<reference::Run>,
}

impl Expected {
    /// All outputs as real numbers, one after the other.
    pub fn concat_f32(&self) -> Vec<f32> {
        self.runs.iter().flat_map(reference::Run::output_f32).collect()
    }

    /// The stored outputs as bytes.
    pub fn stored(&self) -> Vec<u8> {
        let bytes = |run: &reference::Run| match run.stored_output() {
            reference::Activation::I8(v) => v.iter().map(|&x| x as u8).collect::<Vec<u8>>(),
            reference::Activation::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
            reference::Activation::Tokens(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        };
        self.runs.iter().flat_map(bytes).collect()
    }
}

/// Runs the reference interpreter on some samples.
pub(super) fn interpret(program: &Program, samples: &dyn Dataset, indices: &[usize]) -> Result<Expected, Error> {
    let one = |&i: &usize| reference::run(program, &reference::Input::F32(&floats(samples, &[i])));
    Ok(Expected { runs: indices.par_iter().map(one).collect::<Result<_, _>>()? })
}

/// The inputs of some samples as programs take them: plain, one after the other, sample by sample, all as `f32`.
pub(super) fn floats(samples: &dyn Dataset, indices: &[usize]) -> Vec<f32> {
    let batch = samples.batch(&Look::plain(indices.iter().copied()));
    let parts: Vec<_> = batch.iter().map(|part| (part.to_f32(), part.len() / indices.len().max(1))).collect();
    let one = |i: usize| parts.iter().flat_map(move |(values, len)| values[i * len..][..*len].iter().copied());
    (0..indices.len()).flat_map(one).collect()
}
