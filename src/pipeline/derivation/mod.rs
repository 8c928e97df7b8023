//! The derivation stage: from the teacher to an untrained student that fits the board.

mod evidence;

use super::options::Start;
use super::stages::choose_precision;
use super::{Error, Job};
use crate::graph::{self, Cost, Graph};
use crate::pass::{self, TrailingSoftmax};
use crate::program::{self, LowerError};
use crate::student::{self, Candidate, Groups, Measured};
use crate::target::cost;
use std::collections::HashMap;

/// The teacher as a network to take apart.
pub struct Prepared {
    pub graph: Graph,
    pub cost: Cost,
    /// What was taken off the end, to be put back on the student.
    pub softmax: Option<TrailingSoftmax>,
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

/// Finds the widest student inside the budgets.
///
/// # Errors
/// When the teacher cannot be cut, or nothing fits.
pub fn derive(job: &Job, teacher: &Prepared) -> Result<Candidate, Error> {
    let asked = &job.options.derivation;
    student::check_suitable(&teacher.graph)?;
    let mut graph = teacher.graph.clone();
    let moments = match asked.start {
        Start::Teacher => evidence::moments(job, &graph)?,
        Start::Random => HashMap::new(),
    };
    pass::insert_batch_norm(&mut graph, &moments);
    let groups = Groups::find(&graph);
    let evidence = evidence::gather(job, &graph, &groups, asked.criterion)?;
    let importance = student::importance(&graph, &groups, asked.criterion, &evidence, job.options.seed);
    let budgets = job.budgets(&teacher.cost);
    let whole = student::Teacher { graph: &graph, groups: &groups, importance: &importance };
    let mut measure = |graph: &Graph| candidate_cost(job, graph).map_err(|e| student::Error::Measure(e.to_string()));
    let mut found = student::widest(&whole, asked.allocation, &budgets, &mut measure)?;
    if asked.start == Start::Random {
        student::redraw(&mut found.graph, job.options.seed);
    }
    Ok(found)
}

/// What a student would cost on the target. Its weights are not trained yet, and what they are does not matter here.
fn candidate_cost(job: &Job, graph: &Graph) -> Result<Measured, LowerError> {
    let mut folded = graph.clone();
    pass::fold_batch_norm(&mut folded);
    let (total, _) = graph::cost(&folded);
    let mut program = program::lower_f32(&folded, None)?;
    let precision = choose_precision(job, &program);
    let latency_s = cost::estimate_in(&program, &job.profile, precision).latency_s;
    // The plan depends on shapes and element size only.
    program.precision = precision;
    let ram_bytes = program::plan(&program).arena_bytes as u64;
    let flash_bytes = total.params * precision.bytes() as u64;
    Ok(Measured { macs: total.macs, params: total.params, ram_bytes, flash_bytes, latency_s })
}
