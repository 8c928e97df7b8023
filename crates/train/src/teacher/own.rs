//! kdc's own executor as an engine: what the others are compared with, and what answers where they are wrong.

use super::chunks::{self, Inputs};
use super::file::{Model, no_value};
use super::{Error, Reply, Teacher};
use burn::tensor::Device;
use kdc_exec::{Datum, Mode, Network, in_pool};
use kdc_ir::graph::{Graph, Op, Tensor, Unary, ValueId};
use kdc_ir::onnx::{self, Given};
use kdc_ir::pass;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Samples that go through at once.
const CHUNK: usize = 16;

/// A teacher run by kdc itself.
pub(super) struct Own {
    engine: String,
    inputs: Inputs,
    names: Vec<String>,
    outputs: usize,
    network: Network,
    taps: Vec<ValueId>,
    has_steps: bool,
}

impl Own {
    /// Reads a model whole. What its file leaves open of the inputs' extents is that of `samples`.
    ///
    /// # Errors
    /// When kdc does not know all of its operators, or cannot tell its extents.
    pub fn open(model: &Model, samples: &[Tensor]) -> Result<Own, Error> {
        let engine = format!("kdc {}", env!("CARGO_PKG_VERSION"));
        let fail = |what: String| Error::Engine { engine: engine.clone(), model: model.name.clone(), what };
        let mut graph = onnx::load_with(&model.path, &given(model, samples)).map_err(|e| fail(e.to_string()))?;
        let is_quantized = graph.values.iter().any(|value| value.quant.is_some())
            || graph.nodes.iter().any(|n| matches!(n.op, Op::Quantize { .. } | Op::Dequantize { .. }));
        if is_quantized {
            pass::run(&mut graph, &[("simulate quantization", pass::simulate_quantization)])
                .map_err(|e| fail(e.to_string()))?;
        }
        let found = |name: &String| graph.find(name).ok_or_else(|| no_value(&model.name, name));
        let taps: Vec<ValueId> = model.taps.iter().map(found).collect::<Result<_, _>>()?;
        // One of several may have been chosen.
        graph.outputs = model.outputs.iter().map(found).collect::<Result<Vec<_>, _>>()?;
        let network = Network::new(&graph, &Device::flex()).map_err(|e| fail(e.to_string()))?;
        Ok(Own {
            has_steps: is_quantized || has_steps(&graph),
            inputs: model.inputs.clone(),
            names: model.wanted(),
            outputs: model.outputs.len(),
            network,
            taps,
            engine,
        })
    }

    /// Whether a rounding error may grow to a step: where numbers are rounded or compared.
    pub fn has_steps(&self) -> bool {
        self.has_steps
    }

    fn call(&self, piece: Vec<Tensor>) -> Result<Vec<Tensor>, kdc_exec::Error> {
        let outputs = in_pool(|| self.network.forward(piece, &self.taps, Mode::Infer))?;
        let plain = |datum: &Datum| {
            let tensor = datum.to_host()?;
            Ok(Tensor::f32(tensor.shape.clone(), tensor.to_f32().into_owned()))
        };
        outputs.outputs.iter().chain(&outputs.taps).map(plain).collect()
    }
}

/// The extents of samples, for inputs that the file leaves open beside the batch.
fn given(model: &Model, samples: &[Tensor]) -> Given {
    let mut given = Given::default();
    for (input, sample) in model.inputs.list.iter().zip(samples) {
        let Some([first, rest @ ..]) = input.shape.as_deref() else { continue };
        if rest.iter().any(Option::is_none) && sample.shape.len() == rest.len() + 1 {
            let mut extents = sample.shape.clone();
            extents[0] = first.unwrap_or(extents[0]);
            given.shapes.insert(input.name.clone(), extents);
        }
    }
    given
}

/// Whether something rounds, or makes integers or truth values of floats.
fn has_steps(graph: &Graph) -> bool {
    let is_float = |id: ValueId| graph.value(id).dtype.is_float();
    graph.nodes.iter().any(|node| {
        let rounds = matches!(node.op, Op::Unary(Unary::Round | Unary::Floor | Unary::Ceil | Unary::Sign));
        let mut computed = node.inputs.iter().flatten().filter(|&&id| graph.value(id).data.is_none());
        rounds || (computed.any(|&id| is_float(id)) && node.outputs.iter().any(|&id| !is_float(id)))
    })
}

impl Teacher for Own {
    fn engine(&self) -> &str {
        &self.engine
    }

    fn taps(&self) -> &[String] {
        &self.names[self.outputs..]
    }

    fn run(&self, batch: &[Tensor]) -> Result<Reply, Error> {
        let fail = |what: String| Error::Engine { engine: self.engine.clone(), model: self.inputs.model.clone(), what };
        let size = self.inputs.chunk(batch, CHUNK)?;
        let answers: Result<Vec<_>, _> = chunks::cut(batch, size).into_iter().map(|piece| self.call(piece)).collect();
        let n = batch[0].shape[0];
        let answers = answers.map_err(|e| fail(e.to_string()))?;
        chunks::join(&self.inputs.model, &self.engine, &self.names, self.outputs, answers, size, n)
    }
}

/// What kdc itself says about some samples, and who says so.
///
/// # Errors
/// When it cannot run the model; also when it panics on it.
pub(super) fn answer(model: &Model, samples: &[Tensor]) -> Result<(Own, Reply), Error> {
    let work = || {
        let own = Own::open(model, samples)?;
        let reply = own.run(samples)?;
        Ok((own, reply))
    };
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let (engine, what) = ("kdc".into(), "it panicked on this model".into());
        Err(Error::Engine { engine, model: model.name.clone(), what })
    })
}
