//! A head for other classes: transfer learning keeps a teacher's body and forgets what its last layer said.

use super::{Error, init};
use kdc_ir::graph::{Dim, Graph, Op, Tensor, ValueId, VerifyError, infer_shapes, verify};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The network with a head for so many classes in the place of its own: the last layer with weights, drawn by the seed
/// as in [`redraw`](super::redraw). Everything before it computes what it did.
///
/// # Errors
/// When what ends the network is no linear layer or convolution.
pub fn with_head(network: &Graph, classes: usize, seed: u64) -> Result<Graph, Error> {
    let mut graph = network.clone();
    let producers = graph.producers();
    let mut at = graph.outputs.first().copied().ok_or_else(|| no_head("the network", "it has no output"))?;
    let before = graph.value(at).shape.last().map_or(0, |d| d.at(1));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    loop {
        let name = graph.value(at).name.clone();
        let index = *producers.get(&at).ok_or_else(|| no_head(&name, "nothing before it has weights"))?;
        let node = graph.nodes[index].clone();
        let operand = |i: usize| node.input(i).filter(|&id| graph.constant(id).is_some());
        let layer = match &node.op {
            Op::Gemm { trans_b, .. } => operand(1).map(|w| (w, usize::from(!*trans_b))),
            Op::MatMul => operand(1).map(|w| (w, graph.value(w).shape.len() - 1)),
            Op::Conv(conv) if conv.group == 1 => operand(1).map(|w| (w, 0)),
            _ => None,
        };
        if let Some((weights, axis)) = layer {
            let mut shape = graph.constant(weights).map(|t| t.shape.clone()).unwrap_or_default();
            shape[axis] = classes;
            // Fan-in: everything that goes into one class.
            let drawn = init::linear(shape.clone(), shape.iter().product::<usize>() / classes.max(1), &mut rng);
            graph.nodes[index].inputs[1] = Some(replaced(&mut graph, weights, drawn));
            if let Some(bias) = operand_of(&graph, index, 2) {
                let zeros = Tensor::f32([classes], vec![0.0; classes]);
                graph.nodes[index].inputs[2] = Some(replaced(&mut graph, bias, zeros));
            }
            break;
        }
        match &node.op {
            Op::Add => {
                let constant = (0..2).find_map(|i| Some((i, operand_of(&graph, index, i)?)));
                let (place, bias) = constant.ok_or_else(|| no_head(&node.name, "it adds two activations"))?;
                let mut shape = graph.constant(bias).map(|t| t.shape.clone()).unwrap_or_default();
                if let Some(extent) = shape.iter_mut().rev().find(|n| **n == before) {
                    *extent = classes;
                }
                let zeros = Tensor::f32(shape.clone(), vec![0.0; shape.iter().product()]);
                graph.nodes[index].inputs[place] = Some(replaced(&mut graph, bias, zeros));
                at = node.input(1 - place).ok_or_else(|| no_head(&node.name, "an operand is missing"))?;
                continue;
            }
            Op::Reshape { .. } => {
                if let Op::Reshape { shape } = &mut graph.nodes[index].op
                    && let Some(extent) = shape.iter_mut().rev().find(|d| **d == Dim::Fixed(before))
                {
                    *extent = Dim::Fixed(classes);
                }
            }
            Op::Softmax { .. }
            | Op::LogSoftmax { .. }
            | Op::Flatten { .. }
            | Op::Squeeze { .. }
            | Op::Transpose { .. } => {}
            Op::GlobalAveragePool | Op::AveragePool(_) | Op::ReduceMean { .. } | Op::Relu | Op::Identity => {}
            other => return Err(no_head(&node.name, &format!("{} stands between it and the output", other.name()))),
        }
        at = node.input(0).ok_or_else(|| no_head(&node.name, "an operand is missing"))?;
    }
    infer_shapes(&mut graph).map_err(VerifyError::from)?;
    verify(&graph)?;
    Ok(graph)
}

fn operand_of(graph: &Graph, node: usize, index: usize) -> Option<ValueId> {
    graph.nodes[node].input(index).filter(|&id| graph.constant(id).is_some())
}

/// Another constant instead of one that others may read too.
fn replaced(graph: &mut Graph, old: ValueId, tensor: Tensor) -> ValueId {
    let name = graph.fresh_name(&format!("{}_anew", graph.value(old).name));
    graph.add_constant(name, tensor)
}

fn no_head(node: &str, why: &str) -> Error {
    Error::Head { node: node.into(), why: why.into() }
}
