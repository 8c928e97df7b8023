//! Teachers with operators that kdc does not know: an engine runs them, and says what shapes their results have, so that
//! what follows is read as usual, and its activations can be compared.

use super::Error;
use crate::data::{Dataset, SampleView};
use crate::graph::{DType, Dim, Graph, Op, Shape};
use crate::onnx::{self, Given};
use crate::teacher::{self, EngineChoice};
use std::collections::BTreeMap;
use std::path::Path;

/// A model as `network`, read as it is in its file, with the shapes of results that the file leaves open, if an engine
/// can tell them from a sample. Results are taken for floats with a row for each sample; where one is not, nothing is
/// known, as before.
///
/// # Errors
/// When the file can no longer be read.
pub fn with_shapes(
    network: Graph,
    model: &Path,
    given: &Given,
    samples: &dyn Dataset,
    engine: EngineChoice,
) -> Result<Graph, Error> {
    let open = open_results(&network);
    if open.is_empty() || samples.is_empty() {
        return Ok(network);
    }
    let inputs = samples.batch(&SampleView::plain(vec![0]));
    // Only shapes are asked for.
    let engine = teacher::open_output(model, given.output.as_deref(), &open, engine, teacher::UNCOMPARED);
    let Ok(reply) = engine.and_then(|teacher| teacher.run(&inputs)) else {
        return Ok(network);
    };
    let first = network.inputs.first().and_then(|&id| network.value(id).shape.first().copied()).unwrap_or(Dim::Batch);
    let shape = |extents: &[usize]| -> Shape {
        let rest = extents.iter().skip(1).map(|&n| Dim::Fixed(n));
        std::iter::once(first).chain(rest).collect()
    };
    let results: BTreeMap<String, Shape> =
        open.into_iter().zip(reply.taps).map(|(name, tap)| (name, shape(&tap.shape))).collect();
    Ok(onnx::load_with(model, &Given { results, ..given.clone() })?)
}

/// Results of unknown operators whose shape nobody says.
fn open_results(network: &Graph) -> Vec<String> {
    let opaque = network.nodes.iter().filter(|node| matches!(node.op, Op::Opaque(_)));
    let values = opaque.flat_map(|node| &node.outputs).map(|&id| network.value(id));
    values.filter(|v| v.shape.is_empty() && v.dtype == DType::F32).map(|v| v.name.clone()).collect()
}
