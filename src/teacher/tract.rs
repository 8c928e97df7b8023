//! tract: an inference engine in Rust, built in (<https://github.com/sonos/tract>).

use super::chunks::{self, Input};
use super::file::{Model, no_value};
use super::{Answers, Error, Teacher};
use crate::graph::{Data, Tensor};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{TractResult, format_err};
use tract_onnx::tract_hir::infer::Factoid;

/// The release that is built in; a test compares it with the lock file.
pub(super) const VERSION: &str = "0.23.9";

/// Samples that go through one plan at once. On CPUs one is fastest, by a third and more: the working set stays in the
/// caches, and every core has its own sample. It also makes an answer independent of the rest of its batch.
const CHUNK: usize = 1;

/// A teacher run by tract.
pub(super) struct Tract {
    engine: String,
    note: Option<String>,
    input: Input,
    names: Vec<String>,
    outputs: usize,
    model: InferenceModel,
    /// By the shape of the input; tract specialises a plan to it.
    plans: Mutex<BTreeMap<Vec<usize>, Arc<TypedRunnableModel>>>,
}

impl Tract {
    pub fn open(model: &Model, note: Option<String>) -> Result<Tract, Error> {
        let engine = format!("tract {VERSION}");
        let fail =
            |e: TractError| Error::Engine { engine: engine.clone(), model: model.name.clone(), what: format!("{e:#}") };
        let names = model.wanted();
        let parsed = guarded(|| parse(model, &names)).map_err(|e| match e {
            ParseError::Tract(e) => fail(e),
            ParseError::NoValue(name) => no_value(&model.name, &name),
        })?;
        let teacher = Tract {
            note,
            input: model.input.clone(),
            outputs: model.outputs.len(),
            names,
            model: parsed,
            plans: Mutex::default(),
            engine: engine.clone(),
        };
        // Where the shape is known, find out now whether tract can run it, not in the middle of the work.
        if let Some([batch, rest @ ..]) = model.input.shape.as_deref()
            && let Some(rest) = rest.iter().copied().collect::<Option<Vec<usize>>>()
        {
            let shape = [vec![batch.unwrap_or(CHUNK)], rest].concat();
            guarded(|| teacher.plan(&shape, None)).map_err(fail)?;
        }
        Ok(teacher)
    }

    fn plan(&self, shape: &[usize], element: Option<DatumType>) -> TractResult<Arc<TypedRunnableModel>> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.get(shape) {
            return Ok(plan.clone());
        }
        let declared = self.model.input_fact(0)?.datum_type.concretize();
        let element = declared.or(element).unwrap_or(DatumType::F32);
        let fact = InferenceFact::dt_shape(element, shape);
        let plan = self.model.clone().with_input_fact(0, fact)?.into_optimized()?.into_runnable()?;
        plans.insert(shape.to_vec(), plan.clone());
        Ok(plan)
    }
}

/// tract checks most of a model, but not all, before it relies on it: a panic on a strange file is an error like others.
fn guarded<T, E: From<TractError>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(E::from(format_err!("it panicked on this model"))))
}

/// The network with the values of `names` as its outputs.
fn parse(model: &Model, names: &[String]) -> Result<InferenceModel, ParseError> {
    // Shapes of inner values and outputs may have been written for another batch; tract infers its own.
    let onnx = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
    let parsed = onnx.parse(&model.proto, model.folder.to_str())?;
    if let Some(name) = parsed.unresolved_inputs.into_iter().next() {
        return Err(ParseError::NoValue(name));
    }
    let outlet =
        |name: &String| parsed.outlets_by_name.get(name).copied().ok_or_else(|| ParseError::NoValue(name.clone()));
    let wanted: Vec<OutletId> = names.iter().map(outlet).collect::<Result<_, _>>()?;
    Ok(parsed.model.with_output_outlets(&wanted)?)
}

enum ParseError {
    Tract(TractError),
    NoValue(String),
}

impl From<TractError> for ParseError {
    fn from(error: TractError) -> ParseError {
        ParseError::Tract(error)
    }
}

impl Teacher for Tract {
    fn engine(&self) -> &str {
        &self.engine
    }

    fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    fn taps(&self) -> &[String] {
        &self.names[self.outputs..]
    }

    fn run(&self, batch: &Tensor) -> Result<Answers, Error> {
        let fail = |e: TractError| Error::Engine {
            engine: self.engine.clone(),
            model: self.input.model.clone(),
            what: format!("{e:#}"),
        };
        let size = self.input.chunk(batch, CHUNK)?;
        let pieces = chunks::cut(batch, size);
        let element = to_tract(&Tensor { shape: vec![0], data: empty(&batch.data) }).map_err(fail)?.datum_type();
        let plan = guarded(|| self.plan(&pieces[0].shape, Some(element))).map_err(fail)?;
        let answers: Result<Vec<Vec<Tensor>>, TractError> = pieces
            .par_iter()
            .map(|piece| plan.run(tvec!(to_tract(piece)?.into()))?.iter().map(|t| from_tract(t)).collect())
            .collect();
        let n = batch.shape[0];
        chunks::join(&self.input.model, &self.engine, &self.names, self.outputs, answers.map_err(fail)?, size, n)
    }
}

/// No elements, of the type of these.
fn empty(data: &Data) -> Data {
    match data {
        Data::F32(_) => Data::F32(vec![]),
        Data::I8(_) => Data::I8(vec![]),
        Data::U8(_) => Data::U8(vec![]),
        Data::I32(_) => Data::I32(vec![]),
        Data::I64(_) => Data::I64(vec![]),
        Data::Bool(_) => Data::Bool(vec![]),
    }
}

fn to_tract(tensor: &Tensor) -> TractResult<tract_onnx::prelude::Tensor> {
    use tract_onnx::prelude::Tensor as T;
    match &tensor.data {
        Data::F32(v) => T::from_shape(&tensor.shape, v),
        Data::I8(v) => T::from_shape(&tensor.shape, v),
        Data::U8(v) => T::from_shape(&tensor.shape, v),
        Data::I32(v) => T::from_shape(&tensor.shape, v),
        Data::I64(v) => T::from_shape(&tensor.shape, v),
        Data::Bool(v) => T::from_shape(&tensor.shape, v),
    }
}

fn from_tract(tensor: &tract_onnx::prelude::Tensor) -> TractResult<Tensor> {
    let cast = tensor.cast_to::<f32>()?;
    let values = cast.to_plain_array_view::<f32>()?.iter().copied().collect();
    Ok(Tensor::f32(tensor.shape(), values))
}
