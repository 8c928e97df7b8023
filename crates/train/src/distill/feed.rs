//! Batches, made ahead of the steps that use them: decoding and augmentation hide behind training.

use super::mixing::{Mixed, mix};
use super::{DataSpec, TeacherSource, TrainingSet};
use crate::data::{MaskedTokens, SampleView, View};
use kdc_ir::graph::Tensor as HostTensor;
use std::sync::mpsc;

/// Batches that wait, at most.
const AHEAD: usize = 3;

/// What a pass needs, on the host. `B` samples, `K` classes.
pub struct Batch {
    /// The samples, as indices into the training set.
    pub samples: Vec<usize>,
    pub inputs: Vec<HostTensor>,
    /// The true class of each; 0 where nobody said it.
    pub classes: Vec<u16>,
    /// What is hidden from language models.
    pub hidden: Option<MaskedTokens>,
    /// Whether somebody said it.
    pub labelled: Vec<bool>,
    /// How samples were mixed, if they were.
    pub mixed: Option<Mixed>,
    /// Kept logits by source, `[N, K]`; empty where nobody reads them, or they are not kept.
    pub kept: Vec<Vec<f32>>,
}

impl Batch {
    /// Samples as view `view`, with the kept answers of the sources that are marked.
    pub fn new(set: &TrainingSet, samples: &[usize], view: View, asked: &[bool], spec: &DataSpec) -> Batch {
        let mut inputs = set.samples.batch(&SampleView::at(samples, view));
        let mixed = spec.mixes().then(|| mix(spec, &mut inputs, &key(samples, view))).flatten();
        let answers = |(source, asked): (&TeacherSource, &bool)| {
            let Some(logits) = source.logits.filter(|_| *asked && !spec.mixes()) else { return vec![] };
            let width = logits.width();
            let mut all = vec![0.0; samples.len() * width];
            for (row, &sample) in all.chunks_mut(width.max(1)).zip(samples) {
                logits.read(sample, view.number, row);
            }
            all
        };
        let kept: Vec<Vec<f32>> = set.teachers.iter().zip(asked).map(answers).collect();
        let labels: Vec<Option<u16>> = samples.iter().map(|&sample| set.samples.label(sample)).collect();
        let classes = labels.iter().map(|label| label.unwrap_or(0)).collect();
        let labelled = labels.iter().map(Option::is_some).collect();
        let hidden = set.samples.hidden(&SampleView::at(samples, view));
        Batch { samples: samples.to_vec(), inputs, hidden, classes, labelled, mixed, kept }
    }

    /// How many rows of logits so many numbers are: one for each sample where rows have any length.
    pub fn rows(&self, numbers: usize, classes: usize) -> usize {
        let samples = self.samples.len();
        let per_sample = numbers / samples.max(1);
        if classes > 0 && per_sample.is_multiple_of(classes) { numbers / classes } else { samples }
    }
}

/// Names a batch: seed, view and samples.
fn key(samples: &[usize], view: View) -> Vec<u8> {
    let numbers = [view.seed, view.number as u64].into_iter().chain(samples.iter().map(|&s| s as u64));
    numbers.flat_map(u64::to_le_bytes).collect()
}

/// Whether to go on.
pub enum Next {
    Go,
    Stop,
}

/// Makes one item of each task on a thread of its own, at most [`AHEAD`] before they are used, in order.
///
/// # Errors
/// The user's; what is under way is dropped then.
pub fn ahead<X: Send, T: Send, E>(
    tasks: impl Iterator<Item = X> + Send,
    make: impl Fn(X) -> T + Send,
    mut each: impl FnMut(T) -> Result<Next, E>,
) -> Result<(), E> {
    std::thread::scope(|scope| {
        let (send, receive) = mpsc::sync_channel(AHEAD);
        scope.spawn(move || {
            for task in tasks {
                // Nobody listens any more: training was stopped.
                if send.send(make(task)).is_err() {
                    break;
                }
            }
        });
        for item in receive {
            if let Next::Stop = each(item)? {
                break;
            }
        }
        Ok(())
    })
}
