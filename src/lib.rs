//! kdc: an ahead-of-time student compiler for edge devices.
//!
//! ```text
//! teacher.onnx ─import→ Graph ─derive→ student Graph ─distill→ trained Graph ─calibrate, lower→ Program ─plan, emit→ crate ─build→ ELF ─bench→ report
//! ```
//!
//! The modules, in the order a network passes through them; imports run downhill, from the last to the first.

pub mod bench;
pub mod cli;
pub mod data;
pub mod distill;
pub mod emit;
pub mod exec;
pub mod files;
pub mod graph;
pub mod host;
pub mod onnx;
pub mod pass;
pub mod pipeline;
pub mod program;
pub mod quant;
pub mod report;
pub mod student;
pub mod target;
pub mod teacher;
