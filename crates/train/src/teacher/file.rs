//! The model file, as the engines get it.

use super::Error;
use super::chunks::{Input, Inputs};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use tract_onnx::pb;
use tract_onnx::prelude::Framework;

/// An ONNX file, and which of its values are wanted.
pub(super) struct Model {
    /// For messages.
    pub name: String,
    pub path: PathBuf,
    /// The file.
    pub bytes: Vec<u8>,
    /// The same, decoded.
    pub proto: pb::ModelProto,
    /// Its inputs, weights not among them.
    pub inputs: Inputs,
    /// The names of the outputs that it answers with.
    pub outputs: Vec<String>,
    /// The names of the values asked for beside them.
    pub taps: Vec<String>,
    /// Copies of the files of weights that it names: engines map them, and must neither see what somebody writes into the
    /// originals nor fault where these are cut short.
    copies: Option<Arc<tempfile::TempDir>>,
}

impl Model {
    pub fn read(path: &Path, output: Option<&str>, taps: &[String]) -> Result<Model, Error> {
        let bytes = kdc_ir::files::read(path, u64::MAX).map_err(|source| Error::Read { path: path.into(), source })?;
        let proto = decode(path, &bytes)?;
        let copies = copies(path, &external_files(path, &proto)?)?;
        let mut outputs: Vec<String> = proto.graph.iter().flat_map(|g| &g.output).map(|o| o.name.clone()).collect();
        let name = path.display().to_string();
        if let Some(output) = output {
            outputs.retain(|name| name == output);
            if outputs.is_empty() {
                return Err(no_value(&name, output));
            }
        }
        let inputs = inputs(&name, &proto);
        Ok(Model { name, path: path.into(), bytes, proto, inputs, outputs, taps: taps.to_vec(), copies })
    }

    /// The same network in another file's bytes, which name no other file. The batch is open where the bytes say so.
    pub fn replaced(&self, bytes: Vec<u8>) -> Option<Model> {
        let proto = decode(&self.path, &bytes).ok()?;
        let inputs = inputs(&self.name, &proto);
        let (name, path) = (self.name.clone(), self.path.clone());
        let (outputs, taps, copies) = (self.outputs.clone(), self.taps.clone(), self.copies.clone());
        Some(Model { name, path, bytes, proto, inputs, outputs, taps, copies })
    }

    /// Where external weights are looked for.
    pub fn folder(&self) -> &Path {
        match &self.copies {
            Some(copies) => copies.path(),
            None => self.path.parent().unwrap_or(Path::new("")),
        }
    }

    /// The names of every value the engine is asked for: outputs, then taps.
    pub fn wanted(&self) -> Vec<String> {
        self.outputs.iter().chain(&self.taps).cloned().collect()
    }

    /// The file with the taps among its outputs.
    pub fn with_taps(&self) -> Result<Cow<'_, [u8]>, Error> {
        let hidden: Vec<&str> = self.taps.iter().filter(|t| !self.outputs.contains(t)).map(String::as_str).collect();
        if hidden.is_empty() {
            return Ok(Cow::Borrowed(&self.bytes));
        }
        let made = |name: &str| {
            let graph = self.proto.graph.iter();
            graph.flat_map(|g| &g.node).flat_map(|n| &n.output).any(|output| output == name)
        };
        match hidden.iter().find(|name| !made(name)) {
            None => Ok(Cow::Owned(with_outputs(&self.bytes, &hidden))),
            Some(&name) => Err(no_value(&self.name, name)),
        }
    }
}

/// Copies the files of weights beside a model, if there are some.
fn copies(model: &Path, locations: &BTreeSet<&str>) -> Result<Option<Arc<tempfile::TempDir>>, Error> {
    if locations.is_empty() {
        return Ok(None);
    }
    let beside = model.parent().unwrap_or(Path::new(""));
    let failed = |path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::Read { path, source }
    };
    let folder = tempfile::tempdir().map_err(failed(model))?;
    for location in locations {
        let (from, to) = (beside.join(location), folder.path().join(location));
        to.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(failed(&from))?;
        let mut file = kdc_ir::files::open(&from).map_err(failed(&from))?;
        let copy = std::fs::File::create(&to).and_then(|mut to| std::io::copy(&mut file, &mut to));
        copy.map_err(failed(&from))?;
    }
    Ok(Some(Arc::new(folder)))
}

/// A tap that is in no file.
pub(super) fn no_value(model: &str, name: &str) -> Error {
    Error::Taps { model: model.into(), names: name.into(), what: "no node makes it".into() }
}

/// An ONNX file with more graph outputs. Protobuf defines a file followed by a message of the same type as the two
/// merged, lists appended: so the file is not decoded, and nothing in it can be lost.
fn with_outputs(model: &[u8], names: &[&str]) -> Vec<u8> {
    /// A field that holds bytes: number and kind, length, contents.
    fn field(number: u8, contents: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2];
        let mut length = contents.len();
        while length > 0x7f {
            bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend_from_slice(contents);
        bytes
    }
    // ModelProto.graph = 7, GraphProto.output = 12, ValueInfoProto.name = 1 (onnx.proto)
    let outputs: Vec<u8> = names.iter().flat_map(|name| field(12, &field(1, name.as_bytes()))).collect();
    [model, &field(7, &outputs)].concat()
}

/// The BLAKE3 hash of a model: of the file, and of the files of external weights it names.
///
/// # Errors
/// When a file cannot be read or the model is not ONNX.
pub fn content_hash(path: &Path) -> Result<String, Error> {
    let read = |path: &Path| kdc_ir::files::hash_file(path).map_err(|source| Error::Read { path: path.into(), source });
    let bytes = kdc_ir::files::read(path, u64::MAX).map_err(|source| Error::Read { path: path.into(), source })?;
    let proto = decode(path, &bytes)?;
    let mut text = kdc_ir::files::hash(&bytes);
    for location in external_files(path, &proto)? {
        let file = path.parent().unwrap_or(Path::new("")).join(location);
        text.push_str(&format!("\n{location} {}", read(&file)?));
    }
    Ok(kdc_ir::files::hash(text.as_bytes()))
}

/// The files that a model consists of: its own, and those of external weights.
///
/// # Errors
/// As [`content_hash`].
pub fn files(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let bytes = kdc_ir::files::read(path, u64::MAX).map_err(|source| Error::Read { path: path.into(), source })?;
    let proto = decode(path, &bytes)?;
    let beside = |location: &str| path.parent().unwrap_or(Path::new("")).join(location);
    let external = external_files(path, &proto)?.into_iter().map(beside);
    Ok(std::iter::once(path.to_path_buf()).chain(external).collect())
}

/// The files of weights that a model names, sorted, each once.
///
/// # Errors
/// When one lies outside the model's folder.
pub(super) fn external_files<'a>(path: &Path, proto: &'a pb::ModelProto) -> Result<BTreeSet<&'a str>, Error> {
    let graph = proto.graph.iter();
    let constants = graph.clone().flat_map(|g| &g.node).flat_map(|n| &n.attribute).filter_map(|a| a.t.as_ref());
    let tensors = graph.flat_map(|g| &g.initializer).chain(constants);
    let locations = tensors.flat_map(|t| &t.external_data).filter(|e| e.key == "location").map(|e| e.value.as_str());
    let files: BTreeSet<&str> = locations.collect();
    let inside =
        |file: &&str| Path::new(file).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    match files.iter().find(|file| !inside(file)) {
        None => Ok(files),
        Some(file) => {
            let what = format!("its weights are in \"{file}\", outside its folder; put them beside it");
            Err(Error::NotOnnx { path: path.into(), what })
        }
    }
}

fn decode(path: &Path, mut bytes: &[u8]) -> Result<pb::ModelProto, Error> {
    let not_onnx = |what: String| Error::NotOnnx { path: path.into(), what };
    let proto =
        tract_onnx::onnx().proto_model_for_read(&mut bytes).map_err(|e| not_onnx(format!("{e}; write it again")))?;
    match &proto.graph {
        Some(graph) if !graph.output.is_empty() => Ok(proto),
        _ => Err(not_onnx("it holds no network; write it again".into())),
    }
}

fn inputs(model: &str, proto: &pb::ModelProto) -> Inputs {
    use pb::tensor_shape_proto::dimension::Value;
    use pb::type_proto;
    let graph = proto.graph.iter();
    // Files of IR version 3 list their weights among the inputs.
    let inputs = graph.flat_map(|g| g.input.iter().filter(|i| !g.initializer.iter().any(|t| t.name == i.name)));
    let extent = |value: &Option<Value>| match value {
        Some(Value::DimValue(n)) => usize::try_from(*n).ok(),
        _ => None,
    };
    let one = |input: &pb::ValueInfoProto| {
        let kind = input.r#type.as_ref().and_then(|t| t.value.as_ref());
        let shape = kind.and_then(|type_proto::Value::TensorType(tensor)| tensor.shape.as_ref());
        let shape = shape.map(|s| s.dim.iter().map(|d| extent(&d.value)).collect());
        Input { name: input.name.clone(), shape }
    };
    Inputs { model: model.into(), list: inputs.map(one).collect() }
}
