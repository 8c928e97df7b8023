//! Networks as ONNX knows them: the IR and its arithmetic, reading and writing files, rewriting.
//!
//! Modules in the order in which they build on each other: [`files`] and [`escape`] (files that are either whole or not
//! there; names from files, made safe to print), [`graph`], [`host`], [`onnx`], [`pass`].

pub mod escape;
pub mod files;
pub mod graph;
pub mod host;
pub mod onnx;
pub mod pass;
#[doc(hidden)]
pub mod testing;
