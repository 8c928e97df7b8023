//! Where samples come from: one file per format.

pub(super) mod idx;
pub(super) mod images;
mod jpeg;
pub(super) mod npz;
pub(super) mod table;
pub(super) mod wav;
