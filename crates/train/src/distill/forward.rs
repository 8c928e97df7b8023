//! What a network says of a batch: its logits as rows, and activations inside it.

use super::Error;
use burn::tensor::Tensor;
use kdc_exec::{Mode, Network, Value};
use kdc_ir::graph::{Graph, Tensor as HostTensor, ValueId, shape_at};

/// What a network says at a step.
pub struct NetworkOutputs {
    /// `[N, K]`; `None` where nobody asked.
    pub logits: Option<Tensor<2>>,
    /// In the order of its taps.
    pub taps: Vec<Value>,
}

/// Asks a network about a batch.
///
/// # Errors
/// When it cannot be run.
pub fn ask(
    network: &Network,
    inputs: Vec<HostTensor>,
    given: &[(ValueId, Value)],
    taps: &[ValueId],
    mode: Mode,
) -> Result<NetworkOutputs, Error> {
    let outputs = &network.graph().outputs;
    let wanted: Vec<ValueId> = outputs.iter().take(1).chain(taps).copied().collect();
    let on_side = |value: Value| if mode == Mode::Infer { value.autodiff() } else { value };
    let values = network.run(inputs, given, &wanted, mode)?.into_iter();
    let mut values = values.map(|value| Ok(on_side(value.into_float()?)));
    let logits = values.next().ok_or(Error::NoOutput)?;
    let logits = logits.and_then(rows)?;
    Ok(NetworkOutputs { logits: Some(logits), taps: values.collect::<Result<_, Error>>()? })
}

/// Logits as rows: `[B, K]` as they are, `[B, L, K]` position by position.
///
/// # Errors
/// Never for a network that was checked.
pub fn rows(logits: Value) -> Result<Tensor<2>, Error> {
    let shape = logits.shape();
    let classes = shape.last().copied().unwrap_or(1);
    let rows = shape.iter().product::<usize>() / classes.max(1);
    Ok(logits.reshape(&[rows, classes]).into_tensor()?)
}

/// Logits in a row of a network's first output.
pub fn classes(graph: &Graph) -> usize {
    let dims = graph.outputs.first().map(|&id| shape_at(&graph.value(id).shape, 1));
    dims.and_then(|dims| dims.last().copied()).unwrap_or(0)
}
