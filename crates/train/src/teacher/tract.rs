//! tract: an inference engine in Rust, built in (<https://github.com/sonos/tract>).
//!
//! tract gets the file as it comes. Where it cannot read that, it gets what kdc writes after reading it: shape arithmetic
//! evaluated, branches taken, one current opset. A file with quantized activations goes through kdc first, and its
//! quantization becomes arithmetic in `f32`: tract 0.23.9 makes a table of whatever stands between a DequantizeLinear and
//! a QuantizeLinear, of a Softmax too, which is no function of one element, and then answers wrongly.

use super::chunks::{self, Inputs};
use super::file::{Model, no_value};
use super::{Error, Reply, Teacher};
use kdc_ir::graph::{Data, Tensor};
use kdc_ir::{onnx, pass};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{TractResult, TypedModelPatch, format_err};
use tract_onnx::tract_core::ops::array::{CumSum, Gather, StridedSlice};
use tract_onnx::tract_core::ops::cast::cast;
use tract_onnx::tract_hir::infer::Factoid;

/// The release that is built in; a test compares it with the lock file.
pub(super) const VERSION: &str = "0.23.9";

/// Samples that go through one plan at once. On CPUs one is fastest, by a third and more: the working set stays in the
/// caches, and every core has its own sample. It also makes an answer independent of the rest of its batch.
const CHUNK: usize = 1;

/// A teacher run by tract.
pub(super) struct Tract {
    engine: String,
    inputs: Inputs,
    names: Vec<String>,
    outputs: usize,
    model: InferenceModel,
    /// By the shapes of the inputs; tract specialises a plan to them.
    plans: Mutex<BTreeMap<Vec<Vec<usize>>, Arc<TypedRunnableModel>>>,
}

impl Tract {
    pub fn open(model: &Model) -> Result<Tract, Error> {
        if quantized(&model.proto) {
            return match rewritten(model) {
                Some(rewritten) => Tract::load(&rewritten),
                None => Tract::load(model),
            };
        }
        Tract::load(model).or_else(|error| match (&error, rewritten(model)) {
            (Error::Engine { .. }, Some(rewritten)) => Tract::load(&rewritten).map_err(|_| error),
            _ => Err(error),
        })
    }

    fn load(model: &Model) -> Result<Tract, Error> {
        let engine = format!("tract {VERSION}");
        let fail =
            |e: TractError| Error::Engine { engine: engine.clone(), model: model.name.clone(), what: format!("{e:#}") };
        let names = model.wanted();
        let parsed = guarded(|| parse(model, &names)).map_err(|e| match e {
            ParseError::Tract(e) => fail(e),
            ParseError::NoValue(name) => no_value(&model.name, &name),
        })?;
        let teacher = Tract {
            inputs: model.inputs.clone(),
            outputs: model.outputs.len(),
            names,
            model: parsed,
            plans: Mutex::default(),
            engine: engine.clone(),
        };
        // Where the shapes are known, find out now whether tract can run it, not in the middle of the work.
        let known = |input: &chunks::Input| {
            let [batch, rest @ ..] = input.shape.as_deref()? else { return None };
            let rest = rest.iter().copied().collect::<Option<Vec<usize>>>()?;
            Some([vec![batch.unwrap_or(CHUNK)], rest].concat())
        };
        if let Some(shapes) = model.inputs.list.iter().map(known).collect::<Option<Vec<_>>>() {
            guarded(|| teacher.plan(&shapes, &[])).map_err(fail)?;
        }
        Ok(teacher)
    }

    /// The plan for inputs of these shapes. `elements` are their types where the file does not say.
    fn plan(&self, shapes: &[Vec<usize>], elements: &[DatumType]) -> TractResult<Arc<TypedRunnableModel>> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.get(shapes) {
            return Ok(plan.clone());
        }
        let mut model = self.model.clone();
        for (index, shape) in shapes.iter().enumerate() {
            let declared = model.input_fact(index)?.datum_type.concretize();
            let element = declared.or(elements.get(index).copied()).unwrap_or(DatumType::F32);
            model = model.with_input_fact(index, InferenceFact::dt_shape(element, shape))?;
        }
        let mut model = model.into_typed()?;
        sum_numbers(&mut model)?;
        choose_steps(&mut model)?;
        let plan = model.into_optimized()?.into_runnable()?;
        plans.insert(shapes.to_vec(), plan.clone());
        Ok(plan)
    }
}

/// Makes numbers of what is summed up. tract takes whatever an ONNX Cast makes 64-bit integers for extents, which may be
/// symbols, and has no cumulated sum of those; PyTorch exports the positions of a RoBERTa's tokens as such a sum.
fn sum_numbers(model: &mut TypedModel) -> TractResult<()> {
    let (extent, number) = (TDim::datum_type(), i64::datum_type());
    for id in model.eval_order()? {
        let node = model.node(id);
        let Some(sum) = node.op_as::<CumSum>() else { continue };
        if model.outlet_fact(node.inputs[0])?.datum_type != extent {
            continue;
        }
        let mut patch = TypedModelPatch::default();
        let tap = patch.tap_model(model, node.inputs[0])?;
        let x = patch.wire_node(format!("{}.numbers", node.name), cast(number), &[tap])?;
        let y = patch.wire_node(&node.name, sum.clone(), &x)?;
        let y = patch.wire_node(format!("{}.extents", node.name), cast(extent), &y)?;
        patch.shunt_outside(model, id.into(), y[0])?;
        patch.apply(model)?;
    }
    Ok(())
}

/// Makes a choice of indices of every slice in steps. tract moves the steps before the operators in front of them, and
/// where a convolution takes them in it forgets at which element they begin (tract-core 0.23.9,
/// `ops/downsample/conv.rs`): `x[1::2]` after a Conv was `x[0::2]`.
fn choose_steps(model: &mut TypedModel) -> TractResult<()> {
    for id in model.eval_order()? {
        let node = model.node(id);
        let Some(slice) = node.op_as::<StridedSlice>() else { continue };
        let known = |operand: usize| Ok::<_, TractError>(model.outlet_fact(node.inputs[operand])?.konst.clone());
        let Some(steps) = slice.optional_steps_input.map(known).transpose()?.flatten() else { continue };
        let (Some(begin), Some(end)) = (known(1)?, known(2)?) else { continue };
        let steps = integers(&steps)?;
        if steps.iter().all(|&step| step == 1) || slice.shrink_axis_mask != 0 {
            continue;
        }
        let shape = model.outlet_fact(node.inputs[0])?.shape.clone();
        let rank = shape.rank() as i64;
        let axes = match slice.optional_axes_input.map(known).transpose()?.flatten() {
            Some(axes) => integers(&axes)?.into_iter().map(|axis| axis.rem_euclid(rank) as usize).collect(),
            None => (0..steps.len()).collect::<Vec<usize>>(),
        };
        let narrow: Vec<i32> = steps.iter().map(|&step| step as i32).collect();
        let mut patch = TypedModelPatch::default();
        let mut wire = patch.tap_model(model, node.inputs[0])?;
        for (i, &axis) in axes.iter().enumerate() {
            let part = slice.prepare_one_dim(i, &shape[axis], &begin, &end, &narrow)?;
            let (first, last) = (part.begin.to_i64()?, part.end.to_i64()?);
            let step = steps[i];
            let indices =
                (0..).map(|k| first + k * step).take_while(|&at| if step > 0 { at < last } else { at > last });
            let indices = indices.collect::<Vec<i64>>();
            let chosen = patch.add_const(format!("{}.indices-{axis}", node.name), tensor1(&indices))?;
            let name = if i + 1 == axes.len() { node.name.clone() } else { format!("{}.axis-{axis}", node.name) };
            wire = patch.wire_node(name, Gather::new(axis), &[wire, chosen])?[0];
        }
        patch.shunt_outside(model, id.into(), wire)?;
        patch.apply(model)?;
    }
    Ok(())
}

fn integers(tensor: &tract_onnx::prelude::Tensor) -> TractResult<Vec<i64>> {
    Ok(tensor.cast_to::<i64>()?.try_as_plain_ram()?.as_slice::<i64>()?.to_vec())
}

/// Whether a network quantizes what it computes.
fn quantized(proto: &pb::ModelProto) -> bool {
    let nodes = proto.graph.iter().flat_map(|g| &g.node);
    let mut operators = nodes.map(|n| n.op_type.as_str());
    operators.any(|op| op.starts_with("QLinear") || op == "QuantizeLinear")
}

/// The model as kdc writes it, without quantization; `None` where kdc does not understand all of it.
fn rewritten(model: &Model) -> Option<Model> {
    let mut graph = onnx::load(&model.path).ok()?;
    pass::normalize(&mut graph).ok()?;
    if graph.has_opaque() {
        return None;
    }
    pass::run(&mut graph, &[("simulate quantization", pass::simulate_quantization)]).ok()?;
    model.replaced(onnx::export(&graph).ok()?)
}

/// tract checks most of a model, but not all, before it relies on it: a panic on a strange file is an error like others.
fn guarded<T, E: From<TractError>>(work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(E::from(format_err!("it panicked on this model"))))
}

/// The network with the values of `names` as its outputs.
fn parse(model: &Model, names: &[String]) -> Result<InferenceModel, ParseError> {
    // Shapes of inner values and outputs may have been written for another batch; tract infers its own.
    let onnx = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
    let parsed = onnx.parse(&model.proto, model.folder().to_str())?;
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

    fn taps(&self) -> &[String] {
        &self.names[self.outputs..]
    }

    fn run(&self, batch: &[Tensor]) -> Result<Reply, Error> {
        let fail = |e: TractError| Error::Engine {
            engine: self.engine.clone(),
            model: self.inputs.model.clone(),
            what: format!("{e:#}"),
        };
        let size = self.inputs.chunk(batch, CHUNK)?;
        let pieces = chunks::cut(batch, size);
        let shapes: Vec<Vec<usize>> = pieces[0].iter().map(|part| part.shape.clone()).collect();
        let elements: Vec<DatumType> = batch.iter().map(|part| element(&part.data)).collect();
        let plan = guarded(|| self.plan(&shapes, &elements)).map_err(fail)?;
        let one = |piece: &Vec<Tensor>| -> TractResult<Vec<Tensor>> {
            let inputs = piece.iter().map(|part| Ok(to_tract(part)?.into())).collect::<TractResult<TVec<TValue>>>()?;
            plan.run(inputs)?.iter().map(|t| from_tract(t)).collect()
        };
        let answers: TractResult<Vec<Vec<Tensor>>> = pieces.par_iter().map(one).collect();
        let n = batch[0].shape[0];
        chunks::join(&self.inputs.model, &self.engine, &self.names, self.outputs, answers.map_err(fail)?, size, n)
    }
}

/// tract's name for the type of some elements.
fn element(data: &Data) -> DatumType {
    match data {
        Data::F32(_) => DatumType::F32,
        Data::I8(_) => DatumType::I8,
        Data::U8(_) => DatumType::U8,
        Data::I32(_) => DatumType::I32,
        Data::I64(_) => DatumType::I64,
        Data::Bool(_) => DatumType::Bool,
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
