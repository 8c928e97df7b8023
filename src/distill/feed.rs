//! Batches, made ahead of the steps that use them: decoding and augmentation hide behind training.

use super::trainer::{TrainingSet, argmax};
use crate::data::{Look, View};
use crate::graph::Tensor as HostTensor;
use std::sync::mpsc;

/// Batches that wait, at most.
const AHEAD: usize = 3;

/// What a pass needs, on the host. `B` samples, `K` classes.
pub struct Batch {
    /// The samples, as indices into the training set.
    pub samples: Vec<usize>,
    pub inputs: Vec<HostTensor>,
    /// The true class of each, or what the teacher takes it for where nobody said it.
    pub classes: Vec<u16>,
    /// Whether somebody said it.
    pub labelled: Vec<bool>,
    /// The teacher's logits, `[B, K]`; empty where nobody reads them.
    pub teacher: Vec<f32>,
}

impl Batch {
    /// Samples as view `view`, with the teacher's logits if `classes` says how many there are.
    pub fn new(set: &TrainingSet, samples: &[usize], view: View, classes: Option<usize>) -> Batch {
        let inputs = set.samples.batch(&Look::at(samples, view));
        let mut teacher = Vec::new();
        if let (Some(source), Some(classes)) = (set.teacher, classes) {
            teacher.resize(samples.len() * classes, 0.0);
            for (row, &sample) in teacher.chunks_mut(classes).zip(samples) {
                source.read(sample, view.number, row);
            }
        }
        let labels: Vec<Option<u16>> = samples.iter().map(|&sample| set.samples.label(sample)).collect();
        let pseudo = |row: usize| {
            let classes = teacher.len() / samples.len();
            argmax(&teacher[row * classes..][..classes]) as u16
        };
        let classes = labels.iter().enumerate().map(|(row, label)| label.unwrap_or_else(|| pseudo(row))).collect();
        let labelled = labels.iter().map(Option::is_some).collect();
        Batch { samples: samples.to_vec(), inputs, classes, labelled, teacher }
    }
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
