//! How good a student is, on samples that nothing was fitted to.

use crate::data::{Preprocess, Samples};
use crate::graph::Tensor;
use crate::program::{Program, reference};
use rayon::prelude::*;

/// What a network says about each sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdicts {
    /// The class with the highest logit, per sample; the first of equals.
    pub classes: Vec<u16>,
}

impl Verdicts {
    /// From logits, `[samples, classes]` row by row.
    pub fn from_logits(logits: &[f32], classes: usize) -> Verdicts {
        let best = |row: &[f32]| {
            let better = |best: (usize, f32), (i, &v): (usize, &f32)| if v > best.1 { (i, v) } else { best };
            row.iter().enumerate().fold((0, f32::NEG_INFINITY), better).0 as u16
        };
        Verdicts { classes: logits.chunks(classes.max(1)).map(best).collect() }
    }

    /// Share of the samples whose class is the true one.
    pub fn accuracy(&self, labels: &[u16]) -> f64 {
        share(&self.classes, labels)
    }

    /// Share of the samples on which two networks say the same.
    pub fn agreement(&self, other: &Verdicts) -> f64 {
        share(&self.classes, &other.classes)
    }
}

fn share(a: &[u16], b: &[u16]) -> f64 {
    a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len().max(1) as f64
}

/// Runs the reference interpreter on samples, all cores at work. Returns outputs as `f32`, row by row.
///
/// # Errors
/// When the program does not take the samples.
pub fn interpret(program: &Program, samples: &Samples, indices: &[usize], preprocess: &Preprocess) -> Result<Vec<f32>, reference::Error> {
    let rows: Vec<Vec<f32>> = indices
        .par_iter()
        .map(|&i| {
            let input: Tensor = preprocess.batch(samples, &[i], None);
            Ok(reference::run(program, &reference::Input::F32(&input.to_f32()))?.output_f32())
        })
        .collect::<Result<_, reference::Error>>()?;
    Ok(rows.concat())
}
