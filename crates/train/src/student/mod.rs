//! Derives a student from a teacher.
//!
//! In comes the teacher's [`Graph`], out goes a smaller graph of the same kind that starts from the teacher's weights,
//! ready to be trained.
//!
//! - [`prepare()`] takes off the teacher what a student is not made with.
//! - [`with_head`] gives it a last layer for other classes.
//! - [`Groups`] finds what must be cut together: channels, heads, hidden units, columns of embeddings.
//! - [`replaced`] puts operators that a board runs well in the place of others.
//! - [`importance()`] ranks the indices of each group, [`Allocation`] says how many stay.
//! - [`shrink`] cuts the graph, weights and all; [`redraw`] forgets the weights.
//! - [`widest`] finds the widths: the widest share of the teacher that holds every budget, then group by group what still
//!   fits.
//!
//! Nothing here trains or reads a clock; what a candidate costs is asked of the caller.

mod allocate;
mod blocks;
mod factor;
mod groups;
mod head;
mod importance;
mod init;
mod prepare;
mod replace;
mod saturation;
mod search;
mod shrink;
mod spec;
mod template;
#[cfg(test)]
mod tests;

pub use allocate::{Allocation, keep, ranked, uniform};
pub use blocks::{Block, droppable, without_blocks};
pub use factor::{Factoring, factorable, factored};
pub use groups::{Across, Fixed, Group, Groups, KeptIndices, Trigger};
pub use head::with_head;
pub use importance::{Criterion, Evidence, Importance, importance};
pub use init::redraw;
pub use prepare::prepare;
pub use replace::{Affine, Normalisation, Replacement, normalisations, replaceable, replaced};
pub use search::{Budgets, Candidate, Limit, Measured, Teacher, widest};
pub use shrink::shrink;
pub use spec::{Spec, Variant};
pub use template::Template;

use kdc_ir::graph::{Graph, VerifyError};

/// Why no student could be derived.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The teacher holds a node that a student may not have.
    #[error(
        "node '{node}' ({op}) cannot be part of a student: {why}; a student that is a smaller copy of its teacher has \
         operators that kdc knows (--template makes one with a network of its own)"
    )]
    Unsuitable { node: String, op: String, why: String },
    /// Not even the smallest candidate fits.
    #[error("no student fits the budgets: the smallest candidate ({candidate}) exceeds {breach}; relax that budget")]
    DoesNotFit { candidate: String, breach: Limit },
    /// A pinned student does not go with the teacher.
    #[error("the width of group '{group}': {why}; `kdc inspect --groups` lists the groups of a teacher")]
    Spec { group: String, why: String },
    /// A pinned student leaves out what is no block.
    #[error("'{node}' is no residual block that can be left out; the nodes that end one are: {blocks}")]
    Block { node: String, blocks: String },
    /// A pinned student replaces what cannot be replaced.
    #[error("the operator '{operator}' cannot be replaced in this network; those that can be: {known}")]
    Replace { operator: String, known: String },
    /// A template does not go with the teacher.
    #[error("the template '{template}' does not go with the teacher: {why}")]
    Template { template: &'static str, why: String },
    /// The network does not end in a layer that tells classes apart.
    #[error(
        "'{node}' is no layer that could be made anew for other classes: {why}; a network for a transfer ends in a linear layer or a convolution"
    )]
    Head { node: String, why: String },
    /// A narrowed graph came out malformed.
    #[error("the narrowed network is malformed (a fault in kdc, please report it)")]
    Malformed(#[from] VerifyError),
    /// Nobody can say what a candidate costs.
    #[error(transparent)]
    Measure(Box<dyn std::error::Error + Send + Sync>),
}

/// Refuses teachers whose copy could not be trained.
///
/// # Errors
/// The first node that is not known to kdc.
pub fn check_suitable(graph: &Graph) -> Result<(), Error> {
    for node in &graph.nodes {
        if let kdc_ir::graph::Op::Opaque(opaque) = &node.op {
            let op = opaque.op_type.clone();
            return Err(Error::Unsuitable { node: node.name.clone(), op, why: opaque.why.clone() });
        }
    }
    Ok(())
}
