//! Derives a student from a teacher.
//!
//! In comes the teacher's [`Graph`], out goes a narrower graph of the same shape, with fresh weights and batch norm
//! after every convolution, ready to be trained.
//!
//! - [`ChannelGroups`] finds which channels must stay equal in number: what an `Add` joins, a depthwise convolution
//!   couples or a flatten repeats (the dependency groups of Fang et al., DepGraph, 2023, <https://arxiv.org/abs/2301.12900>).
//! - [`scaled_copy`] rebuilds the graph for a width per group.
//! - [`search`] finds the widths: the widest uniform scale that holds every budget (Howard et al., MobileNets, 2017,
//!   <https://arxiv.org/abs/1704.04861>), then group by group what still fits.
//!
//! Nothing here trains or reads a clock; what a candidate costs is asked of the caller.

mod groups;
mod scale;
mod search;
#[cfg(test)]
mod tests;

pub use groups::{ChannelGroups, Group, Segment};
pub use scale::scaled_copy;
pub use search::{Budgets, Candidate, Limit, Measured, search};

use crate::graph::{Graph, VerifyError};

/// Why no student could be derived.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The teacher holds a node that a student may not have.
    #[error(
        "node '{node}' ({op}) cannot be part of a student: {why}; a student is a narrower copy of the teacher's own \
         network, so every node must be an operator kdc knows"
    )]
    Unsuitable { node: String, op: String, why: String },
    /// Not even the narrowest copy fits.
    #[error(
        "no student fits the budgets: the narrowest copy of the teacher (width 1/{narrowest}) still exceeds {breach}; \
         relax that budget"
    )]
    DoesNotFit { narrowest: usize, breach: String },
    /// A narrowed graph came out malformed.
    #[error("the narrowed network is malformed (a fault in kdc, please report it)")]
    Malformed(#[from] VerifyError),
    /// Measuring a candidate failed.
    #[error("a candidate could not be measured: {0}")]
    Measure(String),
}

/// Refuses teachers whose copy could not be trained.
fn check_suitable(graph: &Graph) -> Result<(), Error> {
    for node in &graph.nodes {
        if let crate::graph::Op::Opaque(opaque) = &node.op {
            let op = opaque.op_type.clone();
            return Err(Error::Unsuitable { node: node.name.clone(), op, why: opaque.why.clone() });
        }
    }
    Ok(())
}
