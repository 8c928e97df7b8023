//! Builds graphs in code: for tests, and for students made from nothing.

use super::infer::InferError;
use super::{Conv, DType, Dim, Graph, Node, Op, Tensor, Value, ValueId, infer_node};

/// Adds nodes one after another; shapes are inferred as they come.
#[derive(Debug, Default)]
pub struct Builder {
    graph: Graph,
}

impl Builder {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Builder {
        Builder { graph: Graph { name: name.into(), ..Graph::default() } }
    }

    /// A graph input of type `f32`.
    pub fn input(&mut self, name: &str, shape: &[Dim]) -> ValueId {
        let value = Value { name: name.into(), dtype: DType::F32, shape: shape.to_vec(), data: None, quant: None };
        let id = self.graph.add_value(value);
        self.graph.inputs.push(id);
        id
    }

    /// A graph input like another graph's: its name, type and extents.
    pub fn input_like(&mut self, value: &Value) -> ValueId {
        let id = self.graph.add_value(Value { data: None, quant: None, ..value.clone() });
        self.graph.inputs.push(id);
        id
    }

    /// A constant.
    pub fn constant(&mut self, name: &str, tensor: Tensor) -> ValueId {
        self.graph.add_constant(name, tensor)
    }

    /// A node with one result, which gets the node's name.
    ///
    /// # Errors
    /// When the operands do not fit.
    pub fn node(&mut self, name: &str, op: Op, inputs: &[ValueId]) -> Result<ValueId, InferError> {
        let mut node =
            Node { name: name.into(), op, inputs: inputs.iter().map(|&i| Some(i)).collect(), outputs: vec![] };
        let (dtype, shape) = infer_node(&self.graph, &node)?.remove(0);
        let id = self.graph.add_value(Value { name: name.into(), dtype, shape, data: None, quant: None });
        node.outputs.push(id);
        self.graph.nodes.push(node);
        Ok(id)
    }

    /// A square 2-D convolution with bias; `weights` is `[out, in / group, k, k]`.
    ///
    /// # Errors
    /// When the operands do not fit.
    pub fn conv2d(
        &mut self,
        name: &str,
        x: ValueId,
        weights: Tensor,
        bias: Vec<f32>,
        (stride, pad, group): (usize, usize, usize),
    ) -> Result<ValueId, InferError> {
        let kernel = weights.shape[2..].to_vec();
        let w = self.constant(&format!("{name}.weight"), weights);
        let b = self.constant(&format!("{name}.bias"), Tensor::f32([bias.len()], bias));
        let conv = Conv { kernel, strides: vec![stride; 2], pads: vec![pad; 4], dilations: vec![1; 2], group };
        self.node(name, Op::Conv(conv), &[x, w, b])
    }

    /// The graph, with these outputs.
    pub fn finish(mut self, outputs: &[ValueId]) -> Graph {
        self.graph.outputs = outputs.to_vec();
        self.graph
    }
}
