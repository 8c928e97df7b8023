//! Why a teacher cannot be run, or its answers not be kept.

use super::difference::Difference;
use std::path::PathBuf;

/// Why a teacher cannot be run, or its answers not be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// The operating system refused.
    #[error("cannot write the cache: {source}; free or name another cache folder")]
    Write { source: std::io::Error },
    /// The file is not an ONNX model, or not one that may be opened.
    #[error("{} is not a usable ONNX model: {what}", path.display())]
    NotOnnx { path: PathBuf, what: String },
    /// A value asked for is not in the file.
    #[error("{model}: the value \"{names}\" cannot be read out: {what}; `kdc inspect` lists the names")]
    Taps { model: String, names: String, what: String },
    /// The batch has more or fewer parts than the network has inputs.
    #[error("{model} has {wanted} inputs, the samples have {given}")]
    Inputs { model: String, wanted: usize, given: usize },
    /// The batch does not fit the input.
    #[error("{model}: the input \"{input}\" is {expected}, the batch is {given:?}")]
    Shape { model: String, input: String, expected: String, given: Vec<usize> },
    /// An engine does not take this model.
    #[error("{engine} cannot run {model}: {what}")]
    Engine { engine: String, model: String, what: String },
    /// An engine computes another network than the file's.
    #[error(
        "{engine} computes something else than kdc on samples of the data, for {model}: {difference}; leave --engine out, \
         and another one answers"
    )]
    Differs { engine: String, model: String, difference: Difference },
    /// There is no usable library of ONNX Runtime.
    #[error(
        "no ONNX Runtime: {what}; install it (`pip install onnxruntime`) and set ORT_DYLIB_PATH to its libonnxruntime.so"
    )]
    NoLibrary { what: String },
    /// Neither engine takes this model.
    #[error("no engine can run the model: {tract}; {onnxruntime}")]
    NoEngine { tract: Box<Error>, onnxruntime: Box<Error> },
    /// An answer is infinite or not a number.
    #[error(
        "{model}: the value \"{value}\" is {what} for sample {sample} of the batch; check the preprocessing and the model"
    )]
    NotFinite { model: String, value: String, what: f32, sample: usize },
    /// The labelling names a value that was not opened as a tap, or that is not one vector per sample.
    #[error("the logits cannot be kept: {what}")]
    Logits { what: String },
}
