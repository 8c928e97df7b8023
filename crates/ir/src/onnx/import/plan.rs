//! What a node of the file becomes.

use super::fault::Fault;
use crate::graph::Op;

/// What a node becomes: operators in a row, the first of which reads these operands of the node.
pub struct Plan {
    pub operands: Vec<usize>,
    pub ops: Vec<Op>,
}

impl Plan {
    pub fn new(operands: std::ops::Range<usize>, op: Op) -> Result<Plan, Fault> {
        Ok(Plan { operands: operands.collect(), ops: vec![op] })
    }
}
