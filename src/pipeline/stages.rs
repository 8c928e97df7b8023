//! The stages up to the program: each takes what the one before made, and says what it needs in its arguments.

use super::progress::{Progress, Stage};
use super::{Error, Job, measure};
use crate::data;
use crate::distill::{self, TeacherLogits, TrainingSet};
use crate::exec::{Mode, Network, Value};
use crate::graph::{self, Cost, Graph};
use crate::program::{self, Precision, Program};
use crate::quant::{self, CalibratedModel, QuantizedModel};
use crate::student::{self, Candidate, ChannelGroups, Measured};
use crate::target;
use crate::teacher::{self, LogitCache, Teacher};
use crate::{onnx, pass};
use burn::tensor::Device;
use std::path::Path;

/// The teacher as a network to take apart: no trailing softmax, batch norm folded.
pub struct Prepared {
    pub graph: Graph,
    pub cost: Cost,
    /// What was taken off the end, to be put back on the student.
    pub softmax: Option<graph::Op>,
}

/// Takes off what a student is not trained with.
pub fn prepare_teacher(job: &Job) -> Prepared {
    let mut graph = job.teacher.clone();
    let softmax = pass::strip_softmax(&mut graph);
    pass::fold_batch_norm(&mut graph);
    let (cost, _) = graph::cost(&graph);
    Prepared { graph, cost, softmax }
}
