//! How good answers are.

use super::{Dataset, SampleView, Task, argmax};
use kdc_ir::graph::Tensor;

/// Adds up how good answers are.
#[derive(Debug)]
pub struct Score<'a> {
    answers: &'a Task,
    right: usize,
    /// Samples with a label, or hidden tokens.
    judged: usize,
    explained: Explained,
}

impl<'a> Score<'a> {
    pub fn new(answers: &'a Task) -> Score<'a> {
        Score { answers, right: 0, judged: 0, explained: Explained::default() }
    }

    /// Takes in what a network answers to looks at samples, look by look; `inputs`: what it was given.
    pub fn add(&mut self, samples: &dyn Dataset, looks: &[SampleView], inputs: &[Tensor], values: &[f32]) {
        let rows = |count: usize| values.chunks((values.len() / count.max(1)).max(1));
        match self.answers {
            Task::Classification | Task::Sequence(_) => {
                for (row, look) in rows(looks.len()).zip(looks) {
                    let Some(label) = samples.label(look.sample) else { continue };
                    self.judged += 1;
                    self.right += usize::from(self.answers.class(row) == Some(label));
                }
            }
            Task::Reconstruction => {
                let asked = inputs.first().map(Tensor::to_f32).unwrap_or_default();
                let width = (asked.len() / looks.len().max(1)).max(1);
                asked.chunks(width).zip(rows(looks.len())).for_each(|(x, y)| self.explained.add(x, y));
            }
            Task::MaskedLm => {
                let hidden = samples.hidden(looks).unwrap_or_default();
                for (row, token) in rows(hidden.tokens.len()).zip(&hidden.tokens) {
                    let Some(token) = *token else { continue };
                    self.judged += 1;
                    self.right += usize::from(argmax(row) == token as usize);
                }
            }
        }
    }

    /// The share of the labelled samples that are classified rightly, of the hidden tokens that are found, or of the
    /// variance that is explained; `None` where nothing says.
    pub fn share(&self) -> Option<f64> {
        match self.answers {
            Task::Reconstruction => self.explained.share(),
            _ => (self.judged > 0).then(|| self.right as f64 / self.judged as f64),
        }
    }

    /// How many samples go through a network at once: fewer where an answer is a vocabulary for each position.
    pub fn batch(&self) -> usize {
        if *self.answers == Task::MaskedLm { 16 } else { 256 }
    }
}

/// How much of what varies in the samples is in the answers: `1 − Σ (x − x̂)² / Σ (x − x̄)²`, with the mean of each number
/// over the samples. 1: all of it, 0: no more than the means say; below 0 where those are nearer.
#[derive(Clone, Debug, Default)]
pub struct Explained {
    samples: f64,
    /// By number of a sample: sums and sums of squares.
    sums: Vec<(f64, f64)>,
    errors: f64,
}

impl Explained {
    /// Takes in a sample and the answer to it.
    pub fn add(&mut self, sample: &[f32], answer: &[f32]) {
        self.sums.resize(sample.len(), (0.0, 0.0));
        self.samples += 1.0;
        for ((&x, &y), (sum, squares)) in sample.iter().zip(answer).zip(&mut self.sums) {
            let (x, y) = (f64::from(x), f64::from(y));
            (*sum, *squares) = (*sum + x, *squares + x * x);
            self.errors += (x - y) * (x - y);
        }
    }

    /// The share so far; `None` where nothing varies.
    pub fn share(&self) -> Option<f64> {
        let varies: f64 = self.sums.iter().map(|(sum, squares)| squares - sum * sum / self.samples).sum();
        (varies > 0.0).then(|| 1.0 - self.errors / varies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_explained_is_a_share_of_what_varies() {
        let samples = [[1.0, 5.0], [3.0, 5.0], [5.0, 8.0]];
        let of = |answers: [[f32; 2]; 3]| {
            let mut explained = Explained::default();
            samples.iter().zip(&answers).for_each(|(x, y)| explained.add(x, y));
            explained.share().unwrap()
        };
        assert_eq!(of(samples), 1.0);
        assert!(of([[3.0, 6.0]; 3]).abs() < 1e-12, "the means explain nothing");
        // What varies: 8 + 6; one number is off by 1.
        assert!((of([[2.0, 5.0], [3.0, 5.0], [5.0, 8.0]]) - 13.0 / 14.0).abs() < 1e-12);
        assert_eq!(Explained::default().share(), None);
    }

    #[test]
    fn only_answers_that_name_classes_do() {
        assert_eq!(Task::Classification.class(&[0.0, 2.0, 2.0]), Some(1));
        assert_eq!(Task::Reconstruction.class(&[0.0, 2.0]), None);
    }
}
