//! ONNX Runtime, through a library of the machine (<https://onnxruntime.ai>).

use super::chunks::{self, Inputs};
use super::file::Model;
use super::{Error, Reply, Teacher, library};
use kdc_ir::graph::{Data, Tensor};
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{Session, SessionInputValue};
use ort::value::{TensorElementType, TensorRef, ValueType};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

/// Samples per call: enough to keep every thread busy, few enough to stay in the caches.
const CHUNK: usize = 64;

/// Products of unsigned activations and signed weights as they are. On x86-64 without VNNI ONNX Runtime adds them in pairs
/// in 16 bits otherwise, which saturates (`vpmaddubsw`): quantized networks then answer something else
/// (onnxruntime_session_options_config_keys.h, `kOrtSessionOptionsAvx2PrecisionMode`). Elsewhere it changes nothing.
pub(super) const EXACT_INTEGERS: (&str, &str) = ("session.x64quantprecision", "1");

/// A teacher run by ONNX Runtime.
pub(super) struct OnnxRuntime {
    engine: String,
    inputs: Inputs,
    names: Vec<String>,
    outputs: usize,
    session: Mutex<Session>,
}

impl OnnxRuntime {
    pub fn open(model: &Model) -> Result<OnnxRuntime, Error> {
        let library = library::get().map_err(|why| Error::NoLibrary { what: why.into() })?;
        let fail = |what: String| Error::Engine { engine: library.engine.clone(), model: model.name.clone(), what };
        let bytes = model.with_taps()?;
        let session = catch_unwind(AssertUnwindSafe(|| session(library, &model.folder().to_string_lossy(), &bytes)))
            .map_err(|_| fail("it panicked while loading".into()))?
            .map_err(|e| fail(e.to_string()))?;
        Ok(OnnxRuntime {
            engine: library.engine.clone(),
            inputs: model.inputs.clone(),
            names: model.wanted(),
            outputs: model.outputs.len(),
            session: Mutex::new(session),
        })
    }

    fn call(&self, piece: &[Tensor]) -> Result<Vec<Tensor>, ort::Error> {
        let names = self.inputs.list.iter().map(|input| input.name.as_str());
        let parts = names.zip(piece).map(|(name, part)| Ok((name, view(part)?)));
        let parts = parts.collect::<Result<Vec<_>, ort::Error>>()?;
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let outputs = session.run(parts)?;
        self.names.iter().map(|name| read(name, outputs.get(name))).collect()
    }
}

/// A tensor as ONNX Runtime reads it.
fn view(part: &Tensor) -> Result<SessionInputValue<'_>, ort::Error> {
    let shape = part.shape.clone();
    Ok(match &part.data {
        Data::F32(v) => TensorRef::from_array_view((shape, &v[..]))?.into(),
        Data::I8(v) => TensorRef::from_array_view((shape, v.as_slice()))?.into(),
        Data::U8(v) => TensorRef::from_array_view((shape, v.as_slice()))?.into(),
        Data::I32(v) => TensorRef::from_array_view((shape, v.as_slice()))?.into(),
        Data::I64(v) => TensorRef::from_array_view((shape, v.as_slice()))?.into(),
        Data::Bool(v) => TensorRef::from_array_view((shape, v.as_slice()))?.into(),
    })
}

/// A session of fixed, deterministic settings.
fn session(library: &library::Loaded, folder: &str, bytes: &[u8]) -> Result<Session, ort::Error> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let builder = Session::builder(&library.environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(threads)?
        .with_inter_threads(1)?
        // Waiting threads sleep: the cores are wanted elsewhere between two calls, and it costs 1%.
        .with_intra_op_spinning(false)?
        .with_deterministic_compute(true)?
        .with_config_entry(EXACT_INTEGERS.0, EXACT_INTEGERS.1)?;
    // A model given as bytes has no folder of its own to find external weights in.
    let folder = if folder.is_empty() { "." } else { folder };
    builder.with_config_entry("session.model_external_initializers_file_folder_path", folder)?.commit_from_memory(bytes)
}

/// An output as `f32`.
fn read(name: &str, value: Option<&ort::value::DynValue>) -> Result<Tensor, ort::Error> {
    let value = value.ok_or_else(|| ort::Error::new(format!("it did not answer with \"{name}\"")))?;
    let ValueType::Tensor { ty, shape, .. } = value.dtype() else {
        return Err(ort::Error::new(format!("\"{name}\" is not a tensor")));
    };
    let shape: Vec<usize> = shape.iter().map(|&n| usize::try_from(n).unwrap_or(0)).collect();
    macro_rules! widen {
        ($t:ty, $f:expr) => {
            value.try_extract_tensor::<$t>()?.1.iter().map($f).collect::<Vec<f32>>()
        };
    }
    let values = match ty {
        TensorElementType::Float32 => value.try_extract_tensor::<f32>()?.1.to_vec(),
        TensorElementType::Float64 => widen!(f64, |&x| x as f32),
        TensorElementType::Int64 => widen!(i64, |&x| x as f32),
        TensorElementType::Int32 => widen!(i32, |&x| x as f32),
        TensorElementType::Int8 => widen!(i8, |&x| f32::from(x)),
        TensorElementType::Uint8 => widen!(u8, |&x| f32::from(x)),
        TensorElementType::Bool => widen!(bool, |&x| f32::from(u8::from(x))),
        other => return Err(ort::Error::new(format!("\"{name}\" is of type {other}, which is not read"))),
    };
    Ok(Tensor::f32(shape, values))
}

impl Teacher for OnnxRuntime {
    fn engine(&self) -> &str {
        &self.engine
    }

    fn taps(&self) -> &[String] {
        &self.names[self.outputs..]
    }

    fn run(&self, batch: &[Tensor]) -> Result<Reply, Error> {
        let size = self.inputs.chunk(batch, CHUNK)?;
        let answers: Result<Vec<Vec<Tensor>>, ort::Error> =
            chunks::cut(batch, size).iter().map(|piece| self.call(piece)).collect();
        let answers = answers.map_err(|e| Error::Engine {
            engine: self.engine.clone(),
            model: self.inputs.model.clone(),
            what: e.to_string(),
        })?;
        let n = batch[0].shape[0];
        chunks::join(&self.inputs.model, &self.engine, &self.names, self.outputs, answers, size, n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `_mm_maddubs_epi16`: a pair of products of unsigned and signed bytes, summed up in 16 bits.
    fn saturating([a, b]: [u8; 2], [x, y]: [i8; 2]) -> i32 {
        (i32::from(a) * i32::from(x) + i32::from(b) * i32::from(y)).clamp(-32768, 32767)
    }

    #[test]
    fn sums_of_two_products_saturate_with_signed_weights_and_the_entry_says_not_to() {
        // Half of what it is: what int8 students of ordinary range meet on such a processor.
        assert_eq!(saturating([255, 255], [127, 127]), 32767);
        assert_eq!(saturating([255, 255], [64, 64]), 255 * 128);
        assert!(saturating([255, 255], [65, 64]) < 255 * 129);
        // A key that the library does not know is ignored without a word.
        let Ok(library) = library::get() else { return eprintln!("skipped: no ONNX Runtime") };
        let file = std::fs::read(&library.path).unwrap();
        let key = EXACT_INTEGERS.0.as_bytes();
        assert!(file.windows(key.len()).any(|bytes| bytes == key), "{} is unknown to this library", EXACT_INTEGERS.0);
    }
}
