//! Graph → Program: batch 1, images NHWC, everything else in the network's own order, fused.
//!
//! The network is first brought to a single sample ([`single`]). One walk over its nodes then adds steps. Every value is
//! held in the order of axes in which it came out ([`order`]); an operator that wants another gets a transposition, so
//! that a Transpose itself costs nothing. [`lower_int8`] and [`lower_f32`] differ in the numbers that a kernel gets, which
//! are made in [`numbers`](super::numbers), and in functions of one variable, which are tables in `i8` programs.

mod elementwise;
mod image;
mod linear;
mod movement;
mod order;
mod single;
mod sweep;

use super::numbers::{Bounds, Numbers};
use super::{BufferId, Element, Kernel, Port, Precision, Program, RawBytes, RawInput, RawTables, Step, verify};
use crate::quant::{Fusion, QuantizedModel, fusions, quantize};
use kdc_ir::graph::{DType, Graph, Node, Op, QuantParams, ValueId};
use order::{Order, ValueLayouts, image_order};
use std::collections::{HashMap, HashSet};

/// Why a network has no program.
#[derive(Debug, thiserror::Error)]
pub enum LowerError {
    /// No kernel computes what a node does.
    #[error("node '{node}' ({op}) cannot run on the device: {why}")]
    NoKernel { node: String, op: String, why: String },
    /// Programs have one output, and at least one step.
    #[error("the network has {count} {what}; programs have one")]
    Ports { what: &'static str, count: usize },
    /// In an `i8` program: a value that a node reads or makes was left without parameters of quantization.
    #[error("node '{node}' ({op}): its value '{value}' has no parameters of quantization")]
    Unquantized { node: String, op: String, value: String },
    /// The network for one sample is not well formed.
    #[error("the network of one sample is not well formed; this is a fault of kdc, please report it")]
    Graph(#[from] kdc_ir::graph::VerifyError),
    /// The program is not well formed.
    #[error("the program of the network is not well formed")]
    Program(#[from] super::verify::ProgramError),
}

type Result1<T> = Result<T, LowerError>;

fn fail(node: &Node, why: impl Into<String>) -> LowerError {
    LowerError::NoKernel { node: node.name.clone(), op: node.op.name().into(), why: why.into() }
}

/// The integer program of a quantized network. `raw` says what input each byte stands for.
///
/// # Errors
/// The first node that has no kernel.
pub fn lower_int8(model: &QuantizedModel, raw: Option<&RawBytes>) -> Result<Program, LowerError> {
    let mut graph = single::single(&model.graph)?;
    // Whole numbers and truth values are stored as they are, from 0 to 255.
    for value in graph.values.iter_mut().filter(|v| v.dtype != DType::F32) {
        let (scale, zero_point) = (vec![1.0], vec![-128]);
        value.quant = Some(QuantParams { scale, zero_point, axis: None, dtype: DType::I8 });
    }
    Lowering::new(&graph, Precision::Int8).run(raw)
}

/// The float program of a network (batch norm folded).
///
/// # Errors
/// The first node that has no kernel.
pub fn lower_f32(graph: &Graph, raw: Option<&RawBytes>) -> Result<Program, LowerError> {
    Lowering::new(&single::single(graph)?, Precision::F32).run(raw)
}

/// Every node that keeps a network from being a float program, in order; nothing for one that can be.
pub fn obstacles(graph: &Graph) -> Vec<LowerError> {
    let graph = match single::single(graph) {
        Ok(graph) => graph,
        Err(broken) => return vec![broken],
    };
    let mut lowering = Lowering::new(&graph, Precision::F32);
    lowering.inputs();
    let mut found = vec![];
    for (index, node) in graph.nodes.iter().enumerate() {
        let Some(fusion) = lowering.fusion(index) else { continue };
        if let Err(obstacle) = lowering.node(node, fusion) {
            found.push(obstacle);
            // What comes after is judged as if it had been computed.
            for &id in &node.outputs {
                lowering.enter(id, (0..graph.value(id).shape.len()).collect(), Element::Real);
            }
        }
    }
    found
}

struct Lowering<'a> {
    graph: &'a Graph,
    program: Program,
    held: HashMap<ValueId, ValueLayouts>,
    /// Values whose elements lie in NHWC order although the network means NCHW: flattened images whose reader takes the
    /// permutation into its weights. The image's extents, `[pixels, channels]`.
    unordered: HashMap<ValueId, [usize; 2]>,
    /// In an `i8` program, sums that only a softmax reads: what is added, and the mask that is added to it.
    masked: HashMap<ValueId, (ValueId, ValueId)>,
    fusions: HashMap<usize, Fusion>,
    /// Nodes that run as part of another.
    absorbed: HashSet<usize>,
    numbers: Numbers<'a>,
}

impl<'a> Lowering<'a> {
    fn new(graph: &'a Graph, precision: Precision) -> Lowering<'a> {
        let program = Program {
            name: graph.name.clone(),
            precision,
            buffers: vec![],
            steps: vec![],
            inputs: vec![],
            output: Port { name: String::new(), shape: vec![], buffer: BufferId(0), perm: None },
            raw_input: None,
        };
        let fusions = fusions(graph);
        let absorbed = fusions.iter().flat_map(|f| f.bias.map(|(node, _)| node).into_iter().chain(f.activation));
        Lowering {
            graph,
            program,
            held: HashMap::new(),
            unordered: HashMap::new(),
            masked: HashMap::new(),
            absorbed: absorbed.collect(),
            fusions: fusions.into_iter().map(|f| (f.producer, f)).collect(),
            numbers: Numbers { graph, precision },
        }
    }

    fn run(mut self, raw: Option<&RawBytes>) -> Result1<Program> {
        let port = |what, count| LowerError::Ports { what, count };
        let [output] = self.graph.outputs[..] else { return Err(port("outputs", self.graph.outputs.len())) };
        let inputs = self.inputs();
        self.program.inputs = self.graph.inputs.iter().zip(inputs).map(|(&id, buffer)| self.port(id, buffer)).collect();
        for (index, node) in self.graph.nodes.iter().enumerate() {
            let Some(fusion) = self.fusion(index) else { continue };
            self.node(node, fusion)?;
        }
        for held in self.unordered.keys().filter_map(|id| self.held.get(id)) {
            held.layouts.iter().for_each(|(_, buffer)| self.program.buffers[buffer.index()].order.clear());
        }
        let last = self.graph.nodes.last().ok_or_else(|| port("nodes", 0))?;
        // The batch comes first for the caller.
        let order = match self.order(output) {
            order if order.first().is_none_or(|&axis| axis == 0) => order,
            order => (0..order.len()).collect(),
        };
        let buffer = self.materialize(last, output, &order)?;
        let buffer = self.shaped(last, output, buffer, order);
        self.program.output = self.port(output, buffer);
        if let (Some(raw), [_]) = (raw, &self.program.inputs[..]) {
            self.program.raw_input = Some(self.raw_input(raw));
        }
        sweep::sweep(&mut self.program);
        verify(&self.program)?;
        Ok(self.program)
    }

    /// Buffers for the network's inputs.
    fn inputs(&mut self) -> Vec<BufferId> {
        let graph = self.graph;
        let enter = |&id: &ValueId| {
            let element = if self.leads_to_table(id) { Element::Token } else { Element::Real };
            let order = self.wanted_order(id);
            self.enter(id, order, element)
        };
        graph.inputs.iter().map(enter).collect()
    }

    /// What runs together with a node, activation included; `None` for a node that runs as part of another.
    fn fusion(&self, index: usize) -> Option<Fusion> {
        let alone = Fusion { producer: index, bias: None, activation: None };
        (!self.absorbed.contains(&index)).then(|| self.fusions.get(&index).copied().unwrap_or(alone))
    }

    fn raw_input(&self, raw: &RawBytes) -> RawInput {
        let tables = match self.program.buffer(self.program.inputs[0].buffer).quant {
            None => RawTables::F32(raw.tables.clone()),
            Some(q) => {
                let store = |x: f32| quantize(x, q.scale, q.zero_point.into(), -128, 127) as i8;
                RawTables::Int8(raw.tables.iter().map(|t| t.map(store)).collect())
            }
        };
        RawInput { tables, axes: raw.axes.clone() }
    }

    fn port(&self, id: ValueId, buffer: BufferId) -> Port {
        let shape = self.shape(id);
        let order = self.held.get(&id).and_then(|held| held.layouts.iter().find(|(_, layout)| *layout == buffer));
        let batched = order.filter(|(order, _)| order.first() == Some(&0) && shape[0] == 1);
        let perm: Option<Order> = batched.map(|(order, _)| order[1..].iter().map(|axis| axis - 1).collect::<Vec<_>>());
        // Axes of one element may stand anywhere.
        let wide = |perm: &Vec<usize>| perm.iter().copied().filter(|&axis| shape[axis + 1] > 1).is_sorted();
        let perm = perm.filter(|perm| !wide(perm));
        Port { name: self.graph.value(id).name.clone(), shape, buffer, perm }
    }

    /// Whether the numbers of an input are looked up in a table.
    fn leads_to_table(&self, id: ValueId) -> bool {
        self.graph.nodes.iter().filter(|node| node.inputs.contains(&Some(id))).any(|node| match &node.op {
            Op::Gather { .. } => node.input(1) == Some(id),
            Op::Cast { to: DType::I64 | DType::I32 }
            | Op::Reshape { .. }
            | Op::Squeeze { .. }
            | Op::Unsqueeze { .. }
            | Op::Flatten { .. } => self.leads_to_table(node.output()),
            _ => false,
        })
    }

    /// The order in which the first operator that is particular about it wants a value: channels innermost for those that
    /// work on images.
    fn wanted_order(&self, id: ValueId) -> Order {
        let plain = || (0..self.graph.value(id).shape.len()).collect();
        let readers: Vec<&Node> = self.graph.nodes.iter().filter(|n| n.inputs.contains(&Some(id))).collect();
        let Some(reader) = readers.first() else { return plain() };
        match &reader.op {
            Op::Conv(_)
            | Op::MaxPool(_)
            | Op::AveragePool(_)
            | Op::GlobalAveragePool
            | Op::GlobalMaxPool
            | Op::Pad { .. } => image_order(self.graph.value(id).shape.len()),
            Op::Transpose { perm } => {
                let order = self.wanted_order(reader.output());
                order.iter().map(|&axis| perm[axis]).collect()
            }
            op if elementwise::function(op).is_some() || matches!(op, Op::Add | Op::Sub | Op::Mul | Op::Div) => {
                let order = self.wanted_order(reader.output());
                if order.len() == self.graph.value(id).shape.len() { order } else { plain() }
            }
            // An image that nobody is particular about has its channels innermost as well: so raw bytes have them.
            _ if self.graph.value(id).shape.len() == 4 && self.graph.inputs.contains(&id) => image_order(4),
            _ => plain(),
        }
    }

    fn node(&mut self, node: &Node, fusion: Fusion) -> Result1<()> {
        let bias = fusion.bias.map(|(_, constant)| constant);
        let activation = fusion.activation.map(|i| &self.graph.nodes[i]);
        let out = activation.or(fusion.bias.map(|(i, _)| &self.graph.nodes[i])).unwrap_or(node).output();
        let bounds = Bounds::of(activation.map(|a| &a.op));
        let x = node.input(0).ok_or_else(|| fail(node, "it has no operand"))?;
        if let Some(empty) = node.inputs.iter().flatten().chain(&node.outputs).find(|id| self.shape(**id).contains(&0))
        {
            return Err(fail(node, format!("'{}' has no elements", self.graph.value(*empty).name)));
        }
        let tokens = node.inputs.iter().flatten().any(|&id| self.is_token(id));
        match &node.op {
            Op::Gather { axis } if tokens => self.embedding(node, *axis, out),
            Op::Cast { to: DType::I64 | DType::I32 } | Op::Identity if tokens => self.renamed(node, x, out),
            Op::Reshape { .. } | Op::Flatten { .. } | Op::Squeeze { .. } | Op::Unsqueeze { .. } => {
                self.reshape(node, x, out)
            }
            _ if tokens => {
                Err(fail(node, "it computes with the numbers of tokens; they can only be looked up in a table"))
            }
            Op::Add | Op::Sub | Op::Mul | Op::Div => self.arithmetic(node, out, bounds),
            Op::Binary(_) | Op::Where => self.choice(node, out),
            Op::Conv(conv) => self.conv(node, conv, x, out, bounds),
            Op::Gemm { .. } | Op::MatMul if node.input(1).is_some_and(|w| self.is_constant(w)) => {
                self.fully_connected(node, x, bias, out, bounds)
            }
            Op::MatMul => self.matmul(node, out),
            Op::Gemm { .. } => Err(fail(node, "its second operand is not a constant matrix")),
            Op::MaxPool(pool) => self.max_pool(node, pool, x, out),
            Op::AveragePool(pool) => self.average_pool(node, pool, x, out),
            Op::GlobalAveragePool | Op::GlobalMaxPool => self.global(node, x, out),
            Op::ReduceMean { axes, .. } => self.reduce(node, axes, x, out),
            Op::Reduce { reduction: kdc_ir::graph::Reduction::Sum, axes, .. } => self.reduce(node, axes, x, out),
            Op::Relu
            | Op::Clip { .. }
            | Op::LeakyRelu { .. }
            | Op::Sigmoid
            | Op::Tanh
            | Op::HardSwish
            | Op::HardSigmoid { .. }
            | Op::Unary(_)
            | Op::Cast { .. } => self.unary(node, x, out),
            Op::Softmax { axis } => self.softmax(node, *axis, x, out),
            Op::LayerNormalization { axis, epsilon } => self.layer_norm(node, *axis, *epsilon, x, out),
            Op::Pad { pads, mode: kdc_ir::graph::PadMode::Constant(value) } => self.pad(node, x, pads, *value),
            Op::Slice { starts, axes, steps, .. } => self.slice(node, x, starts, axes, steps),
            Op::Split { axis, sizes } => self.split(node, x, *axis, sizes),
            Op::Gather { axis } => self.gather(node, *axis, x),
            Op::Expand { .. } => self.expand(node, x, out),
            Op::Concat { axis } => self.concat(node, *axis),
            Op::Identity | Op::Dropout => self.renamed(node, x, out),
            Op::Transpose { perm } => self.transposed(node, x, perm),
            Op::BatchNormalization { .. } => Err(fail(node, "it could not be folded into a layer before it")),
            Op::Opaque(opaque) => Err(fail(node, opaque.why.clone())),
            Op::LogSoftmax { .. }
            | Op::Variadic(_)
            | Op::Reduce { .. }
            | Op::ArgExtreme { .. }
            | Op::CumSum { .. }
            | Op::TopK { .. }
            | Op::InstanceNormalization { .. }
            | Op::GroupNormalization { .. }
            | Op::Lrn { .. }
            | Op::LpNormalization { .. }
            | Op::Tile { .. }
            | Op::GatherElements { .. }
            | Op::GatherNd { .. }
            | Op::DepthToSpace { .. }
            | Op::SpaceToDepth { .. }
            | Op::Resize(_)
            | Op::ConvTranspose(_)
            | Op::Recurrent(_)
            | Op::Trilu { .. }
            | Op::OneHot { .. }
            | Op::Quantize { .. }
            | Op::Dequantize { .. }
            | Op::ConvInteger(_)
            | Op::MatMulInteger
            | Op::Pad { .. } => Err(fail(node, "there is no kernel for it")),
        }
    }

    /// The buffer under the extents of its value.
    fn shaped(&mut self, node: &Node, id: ValueId, buffer: BufferId, order: Order) -> BufferId {
        let shape = self.shape(id);
        let mut wanted: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
        if wanted.len() > 1 && wanted[0] == 1 {
            wanted.remove(0);
        }
        if self.program.buffer(buffer).shape == wanted {
            return buffer;
        }
        self.moving(node, Kernel::Reshape, (id, buffer), id, order);
        self.program.steps.last().map_or(buffer, |step: &Step| step.output)
    }
}
