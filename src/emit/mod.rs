//! Program → generated crate; Graph → NNEF.

pub mod nnef;
