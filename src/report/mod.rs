//! What a compilation came to: one data model, and its views.
//!
//! [`Report`] goes to `report.json` as it is (versioned, see [`SCHEMA`]) and to `report.txt` through [`text`]. Both say
//! the same in the same order: what was compiled, inputs and outputs, size, accuracy, memory, layers, the linked
//! program, times, budgets and verdicts, files, what was left out, stages.
//!
//! Counts (multiply-accumulates, parameters, bytes of tensors, files and sections) are exact. Every other number says
//! whether it is *measured*, *simulated* or *estimated*: it is a [`Figure`](crate::bench::Figure) or stands beside an
//! [`Origin`](crate::bench::Origin).
//!
#![doc = include_str!("REPORT.md")]

mod calibration;
mod candidates;
mod changes;
mod curves;
mod document;
mod format;
mod layers;
mod model;
mod pareto;
mod summary;
mod table;
mod text;
mod verdict;

pub use calibration::calibration_error;
pub use candidates::{CandidateRow, Outcome, Replaced};
pub use changes::Changes;
pub use curves::curves;
pub use document::{Block, Section, document};
pub use format::{bytes, count};
pub use layers::{constant_bytes, layers};
pub use model::{
    Accuracy, AccuracyRow, Arena, Change, ClassRow, Equality, Extent, FileEntry, Header, Layer, Linked, Measurement,
    Memory, Network, Plan, Port, Quantization, Report, SCHEMA, Size, Skipped, Stage, Storage, Tool,
};
pub use pareto::pareto;
pub use table::{Align, list, table};
pub use verdict::{Quantity, Source, Verdict};

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
