//! The teacher, as students are made from it.

use super::{Error, Job};
use crate::graph::{self, Cost, Graph, Op};
use crate::pass::TrailingSoftmax;
use crate::student;

/// The teacher as a network to take apart.
pub struct Prepared {
    pub graph: Graph,
    pub cost: Cost,
    /// What was taken off the end, to be put back on the student.
    pub softmax: Option<TrailingSoftmax>,
}

impl Prepared {
    /// The Softmax that the student's program ends in, as its teacher does. A LogSoftmax is left off: the class is the same
    /// without it, and nothing but a sample's sum of scores differs.
    pub fn deployed_softmax(&self) -> Option<TrailingSoftmax> {
        self.softmax.clone().filter(|softmax| matches!(softmax.op, Op::Softmax { .. }))
    }
}

/// Takes off what a student is not trained with.
///
/// # Errors
/// When a pass breaks the graph.
pub fn prepare_teacher(job: &Job) -> Result<Prepared, Error> {
    let (graph, softmax) = student::prepare(&job.teacher)?;
    let (cost, _) = graph::cost(&graph);
    Ok(Prepared { graph, cost, softmax })
}
