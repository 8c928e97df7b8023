//! Every operator through [`Network`]: values against the host's plain arithmetic, gradients against differences.

use super::*;
use kdc_ir::graph::{DType, Dim, Graph, Node, Op, Tensor as HostTensor, Value as GraphValue, infer_node, verify};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

mod gradients;
mod network;
mod passes;
mod recurrent;
mod values;

/// A graph of one node. Operands are inputs, or constants, which makes those of floats parameters.
fn one_node(op: Op, operands: &[HostTensor], constant: bool) -> Graph {
    let mut graph = Graph { name: "one".into(), ..Graph::default() };
    let mut inputs = vec![];
    for (i, tensor) in operands.iter().enumerate() {
        let name = format!("x{i}");
        if constant {
            inputs.push(Some(graph.add_constant(name, tensor.clone())));
            continue;
        }
        let shape = tensor.shape.iter().map(|&n| Dim::Fixed(n)).collect();
        let id = graph.add_value(GraphValue { name, dtype: tensor.dtype(), shape, data: None, quant: None });
        graph.inputs.push(id);
        inputs.push(Some(id));
    }
    let mut node = Node { name: "node".into(), op, inputs, outputs: vec![] };
    for (i, (dtype, shape)) in infer_node(&graph, &node).unwrap().into_iter().enumerate() {
        let id = graph.add_value(GraphValue { name: format!("y{i}"), dtype, shape, data: None, quant: None });
        node.outputs.push(id);
        graph.outputs.push(id);
    }
    graph.nodes.push(node);
    verify(&graph).unwrap();
    graph
}

/// Element types and extents of the results.
fn results(graph: &Graph) -> Vec<(DType, Vec<usize>)> {
    let value = |&id: &kdc_ir::graph::ValueId| graph.value(id);
    graph.outputs.iter().map(value).map(|v| (v.dtype, v.shape.iter().map(|d| d.at(1)).collect())).collect()
}

/// Floats between two bounds.
fn floats(shape: &[usize], low: f32, high: f32, seed: u64) -> HostTensor {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let count = shape.iter().product();
    HostTensor::f32(shape, (0..count).map(|_| random.random_range(low..high)).collect())
}

fn integers(shape: &[usize], values: &[i64]) -> HostTensor {
    HostTensor::i64(shape, values.to_vec())
}
