//! The IR of networks: what a teacher and a student *are*.
//!
//! A [`Graph`] is a list of [`Node`]s in topological order over [`Value`]s in single assignment, with ONNX
//! semantics (<https://onnx.ai/onnx/operators/>), NCHW layout and at most one symbolic dimension, the batch.
//! Names and node order of the source file are kept, so that users find their layers again.
//!
//! - [`Op`] is an enum with typed attributes. Every question about an operator (its output shape, its MACs, how it
//!   runs, how it lowers) is one exhaustive `match` in one place.
//! - [`verify`] is the definition of a well-formed graph: everything downstream may rely on what it checks.
//! - [`text`] prints a graph for people and tests.
//!
//! Nothing here knows about files, training or devices.

mod builder;
mod cost;
mod floats;
mod function;
mod infer;
mod names;
mod op;
mod recurrent;
mod tensor;
#[cfg(test)]
mod tests;
mod text;
mod verify;

pub use builder::Builder;
pub use cost::{Cost, LayerCost, cost};
pub use floats::Floats;
pub use function::{Binary, Reduction, Unary, Variadic};
pub(crate) use infer::pool_windows;
pub use infer::{InferError, infer_node, infer_shapes};
pub use names::Names;
pub use op::{
    AutoPad, Conv, ConvTranspose, Coordinates, Interpolation, Op, OpaqueNode, PadMode, Pool, Resize, Rounding, Unread,
};
pub use recurrent::{Activation, Cell, Direction, Recurrent};
pub use tensor::{DType, Data, Tensor};
pub use verify::{VerifyError, verify};

use std::collections::HashMap;
use std::sync::Arc;

/// One extent of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dim {
    /// A known extent.
    Fixed(usize),
    /// The one symbolic extent: how many samples are processed at once.
    Batch,
    /// So many times the batch, two or more: attention folds its heads into the batch.
    Batches(usize),
}

impl Dim {
    /// The extent when `batch` samples are processed.
    pub fn at(self, batch: usize) -> usize {
        match self {
            Dim::Fixed(n) => n,
            Dim::Batch => batch,
            Dim::Batches(times) => times * batch,
        }
    }

    /// So many times the batch.
    pub fn batches(times: usize) -> Dim {
        if times == 1 { Dim::Batch } else { Dim::Batches(times) }
    }

    /// Whether the extent depends on the batch.
    pub fn is_batched(self) -> bool {
        !matches!(self, Dim::Fixed(_))
    }
}

impl std::fmt::Display for Dim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Dim::Fixed(n) => write!(f, "{n}"),
            Dim::Batch => write!(f, "batch"),
            Dim::Batches(times) => write!(f, "{times}*batch"),
        }
    }
}

/// The shape of a value: its extents, outermost first.
pub type Shape = Vec<Dim>;

/// `[batch,3,32,32]`
pub fn shape_text(shape: &[Dim]) -> String {
    let dims: Vec<String> = shape.iter().map(Dim::to_string).collect();
    format!("[{}]", dims.join(","))
}

/// The shape with the symbolic dimension filled in.
pub fn shape_at(shape: &[Dim], batch: usize) -> Vec<usize> {
    shape.iter().map(|d| d.at(batch)).collect()
}

/// How many elements one sample of a value has (the batch dimension counted as 1).
pub fn elements(shape: &[Dim]) -> usize {
    shape.iter().map(|d| d.at(1)).product()
}

/// Names a [`Value`] of one graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

impl ValueId {
    /// The position in [`Graph::values`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// How real numbers are stored as integers: `real = scale[c] · (stored − zero_point[c])`.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantParams {
    /// One scale for the whole tensor, or one per index of `axis`. Positive and finite.
    pub scale: Vec<f32>,
    /// As many as scales; in the range of `dtype`.
    pub zero_point: Vec<i32>,
    /// The axis the parameters vary along; `None`: one pair for the whole tensor.
    pub axis: Option<usize>,
    /// The stored type: `I8` for activations and weights, `I32` for biases (zero point 0, along axis 0).
    pub dtype: DType,
}

impl QuantParams {
    /// The smallest and largest integer of the stored type; `None` for a type that nothing is quantized to.
    pub fn bounds(&self) -> Option<[i32; 2]> {
        match self.dtype {
            DType::I8 => Some([i8::MIN.into(), i8::MAX.into()]),
            DType::U8 => Some([u8::MIN.into(), u8::MAX.into()]),
            DType::I32 => Some([i32::MIN, i32::MAX]),
            _ => None,
        }
    }

    /// The integers that stand for a constant: `round(x / scale) + zero_point`, halves to even, held in the range of the
    /// stored type. **The** definition for exported files and programs alike. `None` where it is not of `f32`, or nothing
    /// is quantized to the stored type.
    pub fn store(&self, tensor: &Tensor) -> Option<Vec<i32>> {
        let [low, high] = self.bounds()?.map(f64::from);
        let inner: usize = self.axis.map_or(1, |axis| tensor.shape[axis + 1..].iter().product());
        let one = |(i, &x): (usize, &f32)| {
            let c = (i / inner.max(1)) % self.scale.len();
            let rounded = (f64::from(x) / f64::from(self.scale[c])).round_ties_even();
            (rounded + f64::from(self.zero_point[c])).clamp(low, high) as i32
        };
        Some(tensor.as_f32()?.iter().enumerate().map(one).collect())
    }

    /// The real number behind a stored integer of the channel `c`.
    pub fn real(&self, c: usize, stored: i32) -> f32 {
        ((f64::from(stored) - f64::from(self.zero_point[c])) * f64::from(self.scale[c])) as f32
    }
}

/// A tensor of the network: an input, an intermediate result, or a constant.
#[derive(Clone, Debug)]
pub struct Value {
    /// The name in the source file; unique within the graph.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The extents; known for every value of a verified graph.
    pub shape: Shape,
    /// The contents, when they are known before the network runs (weights, folded constants).
    pub data: Option<Arc<Tensor>>,
    /// Set on a value that is quantized at this point (a quantize/dequantize pair absorbed).
    pub quant: Option<QuantParams>,
}

/// One application of an operator.
#[derive(Clone, Debug)]
pub struct Node {
    /// The name in the source file (made up where the file has none); unique within the graph.
    pub name: String,
    /// What is computed.
    pub op: Op,
    /// Operands in ONNX order; `None` for an optional operand that is left out.
    pub inputs: Vec<Option<ValueId>>,
    /// Results in ONNX order.
    pub outputs: Vec<ValueId>,
}

impl Node {
    /// The operand at `index`, if it is there.
    pub fn input(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }

    /// The first result.
    pub fn output(&self) -> ValueId {
        self.outputs[0]
    }
}

/// A network.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// The name in the source file.
    pub name: String,
    /// Every value, found by [`ValueId`].
    pub values: Vec<Value>,
    /// In topological order: a node reads only what stands before it.
    pub nodes: Vec<Node>,
    /// What the caller supplies, in order.
    pub inputs: Vec<ValueId>,
    /// What the caller gets, in order.
    pub outputs: Vec<ValueId>,
}

impl Graph {
    /// The value behind an id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// The value behind an id, to change.
    pub fn value_mut(&mut self, id: ValueId) -> &mut Value {
        &mut self.values[id.index()]
    }

    /// Adds a value and names it.
    pub fn add_value(&mut self, value: Value) -> ValueId {
        self.values.push(value);
        ValueId(self.values.len() as u32 - 1)
    }

    /// Adds a constant.
    pub fn add_constant(&mut self, name: impl Into<String>, tensor: Tensor) -> ValueId {
        self.add_value(Value {
            name: name.into(),
            dtype: tensor.dtype(),
            shape: tensor.shape.iter().map(|&n| Dim::Fixed(n)).collect(),
            data: Some(Arc::new(tensor)),
            quant: None,
        })
    }

    /// Whether there are operators that kdc does not know.
    pub fn has_opaque(&self) -> bool {
        self.nodes.iter().any(|node| matches!(node.op, Op::Opaque(_)))
    }

    /// The value called `name`.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.values.iter().position(|v| v.name == name).map(|i| ValueId(i as u32))
    }

    /// The contents of a constant.
    pub fn constant(&self, id: ValueId) -> Option<&Tensor> {
        self.value(id).data.as_deref()
    }

    /// For each value, the node that makes it (none for inputs and constants).
    pub fn producers(&self) -> HashMap<ValueId, usize> {
        let outputs = |(i, n): (usize, &Node)| n.outputs.iter().map(move |&v| (v, i)).collect::<Vec<_>>();
        self.nodes.iter().enumerate().flat_map(outputs).collect()
    }

    /// For each value, the nodes that read it, in order. Graph outputs are not counted.
    pub fn consumers(&self) -> HashMap<ValueId, Vec<usize>> {
        let mut map: HashMap<ValueId, Vec<usize>> = HashMap::new();
        for (i, node) in self.nodes.iter().enumerate() {
            for id in node.inputs.iter().flatten() {
                map.entry(*id).or_default().push(i);
            }
        }
        map
    }

    /// A name that no value has yet, made from `stem`. For many, [`Graph::value_names`].
    pub fn fresh_name(&self, stem: &str) -> String {
        let taken = |name: &str| self.values.iter().any(|v| v.name == name);
        if !taken(stem) {
            return stem.to_string();
        }
        (1..).map(|i| format!("{stem}_{i}")).find(|n| !taken(n)).expect("an unused number exists")
    }
}
