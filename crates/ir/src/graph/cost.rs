//! What a network costs, counted from its shapes: multiply-accumulates, parameters, activation elements.

use super::{Graph, Node, Op, elements};

/// Counts for one sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Cost {
    /// Multiply-accumulates of convolutions and matrix products, as MLPerf Tiny and most papers count them.
    pub macs: u64,
    /// Elements of the constants that float operators read (weights, biases, batch-norm vectors).
    pub params: u64,
}

/// Counts for one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerCost {
    /// Index into [`Graph::nodes`].
    pub node: usize,
    /// Its share of [`Cost::macs`].
    pub macs: u64,
    /// Parameters that this node is the first to read.
    pub params: u64,
    /// Elements of its results.
    pub activations: u64,
}

/// The cost of the whole network and of each node.
pub fn cost(graph: &Graph) -> (Cost, Vec<LayerCost>) {
    let mut counted = vec![false; graph.values.len()];
    let mut total = Cost::default();
    let mut layers = Vec::with_capacity(graph.nodes.len());
    for (index, node) in graph.nodes.iter().enumerate() {
        let mut params = 0;
        for id in node.inputs.iter().flatten() {
            let value = graph.value(*id);
            let first = !std::mem::replace(&mut counted[id.index()], true);
            if let (Some(data), true, true) = (&value.data, first, value.dtype.is_float()) {
                params += data.len() as u64;
            }
        }
        let macs = macs(graph, node);
        let activations = node.outputs.iter().map(|&id| elements(&graph.value(id).shape) as u64).sum();
        total.macs += macs;
        total.params += params;
        layers.push(LayerCost { node: index, macs, params, activations });
    }
    (total, layers)
}

fn macs(graph: &Graph, node: &Node) -> u64 {
    let shape = |i: usize| node.input(i).map(|id| graph.value(id).shape.as_slice()).unwrap_or(&[]);
    let out = elements(&graph.value(node.output()).shape) as u64;
    match &node.op {
        Op::Conv(conv) | Op::ConvInteger(conv) => {
            let per_output = shape(1).get(1).map_or(0, |d| d.at(1)) * conv.kernel.iter().product::<usize>();
            out * per_output as u64
        }
        Op::Gemm { trans_a, .. } => out * shape(0).get(usize::from(!trans_a)).map_or(0, |d| d.at(1)) as u64,
        Op::MatMul | Op::MatMulInteger => out * shape(0).last().map_or(0, |d| d.at(1)) as u64,
        Op::ConvTranspose(transposed) => {
            // Every element of the operand meets every weight of its channel.
            let weights = shape(1).get(1).map_or(0, |d| d.at(1)) * transposed.conv.kernel.iter().product::<usize>();
            (elements(shape(0)) * weights) as u64
        }
        Op::Recurrent(recurrent) => {
            let (x, hidden) = (shape(0), recurrent.hidden);
            let steps = elements(x.get(..2).unwrap_or(&[]));
            let width = x.get(2).map_or(0, |d| d.at(1)) + hidden;
            (steps * recurrent.direction.count() * recurrent.cell.gates() * hidden * width) as u64
        }
        Op::BatchNormalization { .. }
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Variadic(_)
        | Op::Where
        | Op::Reduce { .. }
        | Op::ArgExtreme { .. }
        | Op::CumSum { .. }
        | Op::TopK { .. }
        | Op::LayerNormalization { .. }
        | Op::InstanceNormalization { .. }
        | Op::GroupNormalization { .. }
        | Op::Lrn { .. }
        | Op::LpNormalization { .. }
        | Op::Expand { .. }
        | Op::Tile { .. }
        | Op::Split { .. }
        | Op::GatherElements { .. }
        | Op::GatherNd { .. }
        | Op::DepthToSpace { .. }
        | Op::SpaceToDepth { .. }
        | Op::Resize(_)
        | Op::Trilu { .. }
        | Op::OneHot { .. }
        | Op::Quantize { .. }
        | Op::Dequantize { .. }
        | Op::Relu
        | Op::Clip { .. }
        | Op::LeakyRelu { .. }
        | Op::Sigmoid
        | Op::Tanh
        | Op::HardSwish
        | Op::HardSigmoid { .. }
        | Op::Add
        | Op::Sub
        | Op::Mul
        | Op::Div
        | Op::Concat { .. }
        | Op::MaxPool(_)
        | Op::AveragePool(_)
        | Op::GlobalAveragePool
        | Op::GlobalMaxPool
        | Op::ReduceMean { .. }
        | Op::Flatten { .. }
        | Op::Reshape { .. }
        | Op::Transpose { .. }
        | Op::Squeeze { .. }
        | Op::Unsqueeze { .. }
        | Op::Pad { .. }
        | Op::Softmax { .. }
        | Op::LogSoftmax { .. }
        | Op::Dropout
        | Op::Identity
        | Op::Cast { .. }
        | Op::Gather { .. }
        | Op::Slice { .. }
        | Op::Opaque(_) => 0,
    }
}
