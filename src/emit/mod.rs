//! Program → generated crate; Graph → NNEF.
