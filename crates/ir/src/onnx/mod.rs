//! ONNX files: protobuf → [`Graph`] and back. Nothing else knows protobuf.
//!
//! What comes in: a model of opset 7 to 24 (<https://onnx.ai/onnx/operators/>), read without copying the file. What goes
//! out: a [`Graph`] in the one form of [`Op`](crate::graph::Op), whichever opset it was written for, with shapes for
//! every value, integer arithmetic on shapes evaluated, and quantize/dequantize pairs absorbed into
//! [`Value::quant`](crate::graph::Value::quant). [`export`] writes that form as one fixed opset; importing what it wrote
//! gives the same graph.

mod export;
mod file;
mod import;
mod limits;
mod proto;
mod tensor;
#[cfg(test)]
mod tests;

pub use export::{PortTypes, export, export_with};
pub use limits::{LIMITS, Limit, OPSETS, WRITTEN_AS_OTHERS, limit, since};

use crate::graph::{Graph, Op, Shape, Tensor, Unread, VerifyError};
use bytes::Bytes;
use prost::Message;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

/// Why a model could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be opened or mapped.
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: std::io::Error },
    /// Something in the named file.
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: Box<Error> },
    /// Another kind of file.
    #[error("not an ONNX model ({0})")]
    NotOnnx(String),
    /// The file ends too early.
    #[error("truncated: {0}; copy or export the model again")]
    Truncated(String),
    /// Protobuf that cannot be decoded, or that misses what every model has.
    #[error("damaged: {0}; copy or export the model again")]
    Damaged(String),
    /// A version this program does not read.
    #[error("opset {0} is not supported: kdc reads opset 7 to 24; convert the model with onnx.version_converter")]
    Opset(i64),
    /// Extents other than the batch that are left open.
    #[error(
        "symbolic dimensions other than the batch: {}; say how large they are with --input NAME=1x24, or export the \
         model with fixed sizes", .0.join(", ")
    )]
    Symbolic(Vec<String>),
    /// A node that contradicts the operator's specification or its operands.
    #[error("node '{node}' ({op}): {what}")]
    Node { node: String, op: String, what: String },
    /// An input, output or initializer that means nothing.
    #[error("value '{value}': {what}")]
    Value { value: String, what: String },
    /// A value of a kind that kdc does not read.
    #[error("value '{value}': {unread}")]
    Unread { value: String, unread: Unread },
    /// The graph that came out is not well formed.
    #[error(transparent)]
    Verify(#[from] VerifyError),
}

impl Error {
    /// The same without the file's name.
    pub fn inner(&self) -> &Error {
        match self {
            Error::File { error, .. } => error.inner(),
            other => other,
        }
    }
}

/// The limits of kdc's that a model meets, of those that [`LIMITS`] lists; of a model that is not read, that one.
pub fn unread(read: &Result<Graph, Error>) -> Vec<Unread> {
    match read {
        Ok(graph) => {
            let kept = graph.nodes.iter().filter_map(|node| match &node.op {
                Op::Opaque(kept) => kept.unread,
                _ => None,
            });
            kept.collect()
        }
        Err(error) => match error.inner() {
            Error::Unread { unread, .. } => vec![*unread],
            _ => vec![],
        },
    }
}

/// What a user says about a model's inputs that the file leaves open.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    /// Extents by input. The first is taken where the file fixes it; otherwise it stays the batch.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// The one output that is wanted; what only the others need is left out. `None`: all of them.
    pub output: Option<String>,
    /// Inputs that always have the same contents: they become constants.
    pub values: BTreeMap<String, Tensor>,
    /// Shapes of results of operators that kdc does not know, where the file does not say them; all are `f32`.
    pub results: BTreeMap<String, Shape>,
}

/// Reads a model from a file.
///
/// # Errors
/// When the file cannot be read, is no ONNX model, is damaged, or contradicts itself; the message names the file.
pub fn load(path: &Path) -> Result<Graph, Error> {
    load_with(path, &Given::default())
}

/// Reads a model from a file whose inputs are known better than the file says.
///
/// # Errors
/// As [`load`]; also when what is given does not fit the file.
pub fn load_with(path: &Path, given: &Given) -> Result<Graph, Error> {
    let in_file = |error| Error::File { path: path.to_path_buf(), error: Box::new(error) };
    let map = file::Map::new(path)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let model = file::decode(map.bytes().clone()).map_err(in_file)?;
    import::import(model, import::Source { folder: Some(folder), map: Some(map) }, given).map_err(in_file)
}

/// Reads a model from memory. External data is looked for inside `folder`; without one it is an error.
///
/// # Errors
/// As [`load`], without the file's name.
pub fn import(model: Bytes, folder: Option<&Path>) -> Result<Graph, Error> {
    import::import(file::decode(model)?, import::Source { folder, map: None }, &Given::default())
}

/// The same model with more graph outputs, so that any engine that runs it also gives these intermediate values.
///
/// Protobuf merges a message that appears twice: appending a graph that has only outputs adds them, and every other
/// byte stays as it was, operators nobody knows included.
///
/// # Errors
/// When the model cannot be decoded or has no value of one of the names.
pub fn with_outputs(model: &[u8], names: &[String]) -> Result<Vec<u8>, Error> {
    let decoded = file::decode(Bytes::copy_from_slice(model))?;
    let graph = decoded.graph.unwrap_or_default();
    let mut known: HashSet<&str> = graph.node.iter().flat_map(|n| &n.output).map(String::as_str).collect();
    known.extend(graph.input.iter().map(|v| v.name.as_str()));
    let mut outputs: HashSet<&str> = graph.output.iter().map(|v| v.name.as_str()).collect();
    let mut added = proto::GraphProto::default();
    for name in names {
        if name.is_empty() || !known.contains(name.as_str()) {
            return Err(Error::Value { value: name.clone(), what: "the model has no such value to output".into() });
        }
        if outputs.insert(name) {
            let stated = graph.value_info.iter().find(|v| &v.name == name).cloned();
            let named = || proto::ValueInfoProto { name: name.clone(), ..Default::default() };
            added.output.push(stated.unwrap_or_else(named));
        }
    }
    let mut bytes = model.to_vec();
    if !added.output.is_empty() {
        let more = proto::ModelProto { graph: Some(added), ..Default::default() };
        bytes.extend(more.encode_to_vec());
    }
    Ok(bytes)
}

/// For each value of a model that is quantized, by the names before and after the quantize/dequantize pair, the name of the
/// tensor of its stored integers.
///
/// # Errors
/// When the model cannot be decoded.
pub fn stored_names(model: &[u8]) -> Result<BTreeMap<String, String>, Error> {
    let graph = file::decode(Bytes::copy_from_slice(model))?.graph.unwrap_or_default();
    let first = |names: &[String]| names.first().cloned().unwrap_or_default();
    let quantized: BTreeMap<String, String> = graph
        .node
        .iter()
        .filter(|node| node.op_type == "QuantizeLinear")
        .map(|node| (first(&node.output), first(&node.input)))
        .collect();
    let mut names = BTreeMap::new();
    for node in graph.node.iter().filter(|node| node.op_type == "DequantizeLinear") {
        if let Some(written) = quantized.get(&first(&node.input)) {
            names.insert(written.clone(), first(&node.input));
            names.insert(first(&node.output), first(&node.input));
        }
    }
    Ok(names)
}

/// Reads one tensor (ONNX `TensorProto`), as test data of ONNX comes.
///
/// # Errors
/// When it is damaged, or keeps its elements elsewhere.
pub fn import_tensor(bytes: &[u8]) -> Result<Tensor, Error> {
    let proto = proto::TensorProto::decode(bytes).map_err(|e| Error::Damaged(e.to_string()))?;
    tensor::read(&proto, &mut tensor::External::new(None, None)).map_err(|e| e.of(&proto.name))
}

/// The operators of a model's nodes, in order, as the file names them; those of other domains with the domain in front.
///
/// # Errors
/// As [`import`], of a model that cannot be decoded.
pub fn operators(model: Bytes) -> Result<Vec<String>, Error> {
    let named = |node: proto::NodeProto| match node.domain.as_str() {
        "" | "ai.onnx" => node.op_type,
        domain => format!("{domain}.{}", node.op_type),
    };
    Ok(file::decode(model)?.graph.unwrap_or_default().node.into_iter().map(named).collect())
}

/// The element types of a file's inputs and outputs, as the file has them: a graph has fewer types.
///
/// # Errors
/// As [`load`], of a file that cannot be decoded.
pub fn port_types(path: &Path) -> Result<PortTypes, Error> {
    let in_file = |error| Error::File { path: path.to_path_buf(), error: Box::new(error) };
    let graph = file::decode(file::Map::new(path)?.bytes().clone()).map_err(in_file)?.graph.unwrap_or_default();
    let port = |value: proto::ValueInfoProto| Some((value.name, value.r#type?.tensor_type?.elem_type));
    let known = |(_, code): &(String, i32)| tensor::graph_dtype(*code).is_some();
    Ok(graph.input.into_iter().chain(graph.output).filter_map(port).filter(known).collect())
}

/// The names of a model's inputs, in order, less those that only give an initializer a type.
///
/// # Errors
/// As [`import`], of a model that cannot be decoded.
pub fn inputs(model: Bytes) -> Result<Vec<String>, Error> {
    let graph = file::decode(model)?.graph.unwrap_or_default();
    let initializers: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let names = graph.input.iter().map(|v| v.name.clone());
    Ok(names.filter(|n| !initializers.contains(n.as_str())).collect())
}
