//! Where buffers lie in the arena of a generated crate.

use super::Error;
use crate::program::{BufferId, Plan, Program};
use std::ops::Range;

/// Where buffers lie in the arena, in elements.
pub struct Places<'a> {
    pub program: &'a Program,
    pub plan: &'a Plan,
}

impl Places<'_> {
    pub fn of(&self, id: BufferId) -> Result<Range<usize>, Error> {
        let buffer = self.program.buffer(id);
        let size = self.program.precision.bytes();
        let misplaced = |offset| Error::Misplaced { buffer: buffer.name.clone(), offset };
        let offset = *self.plan.offsets.get(id.index()).ok_or_else(|| misplaced(usize::MAX))?;
        let places = self.program.places(id);
        let fits = (places * size).checked_add(offset).is_some_and(|end| end <= self.plan.arena_bytes);
        if !fits || offset % size != 0 {
            return Err(misplaced(offset));
        }
        Ok(offset / size..offset / size + places)
    }
}
