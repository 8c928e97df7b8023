//! A teacher as a training run is given it: its kept answers, its network, or both.

use super::Engine;
use crate::distill::forward::classes;
use kdc_ir::graph::Graph;

/// Kept answers of a teacher, by sample and view.
pub trait TeacherLogits: Sync {
    /// Logits in a row.
    fn classes(&self) -> usize;

    /// Numbers of an answer: the logits of all positions.
    fn width(&self) -> usize {
        self.classes()
    }

    /// Writes the logits of `sample` (an index into the training set's samples) seen as view `view` into `out`.
    fn read(&self, sample: usize, view: usize, out: &mut [f32]);
}

/// A teacher: its kept answers, its network, or both.
#[derive(Clone)]
pub struct TeacherSource<'a> {
    /// What terms call it.
    pub name: String,
    /// Its answers, kept; `None`: it is asked at every step.
    pub logits: Option<&'a dyn TeacherLogits>,
    /// The network with logits as its output: for what happens inside, and for inputs of which nobody kept the answers.
    pub graph: Option<&'a Graph>,
    /// Who runs the network where it has operators that kdc cannot run.
    pub engine: Option<Engine<'a>>,
    /// Learns along, from the same samples; else it never changes.
    pub is_peer: bool,
}

impl TeacherSource<'_> {
    /// Logits of an answer, in a row.
    pub fn classes(&self) -> usize {
        self.logits.map(TeacherLogits::classes).or_else(|| self.graph.map(classes)).unwrap_or(0)
    }
}
