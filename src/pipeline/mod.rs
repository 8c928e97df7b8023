//! The pipeline from teacher to report, stage by stage, and the cache that skips what is unchanged.
mod cache;
pub mod options;
pub mod progress;
pub use options::Options;
