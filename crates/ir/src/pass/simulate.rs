//! Quantization in floats, for programs that do not compute quantized networks or do so in another way.

use crate::graph::{DType, Data, Graph, Node, Op, QuantParams, Tensor, Unary, Value, ValueId};
use std::collections::HashSet;
use std::sync::Arc;

/// Replaces every quantization by arithmetic in `f32` that gives the same real numbers: `x / scale`, rounded with halves to
/// the even integer, held in the range of the stored type, times the scale (Jacob et al. 2018,
/// <https://arxiv.org/abs/1712.05877>, section 3). A quantized value keeps its name. What takes its parameters from the
/// network itself stays.
pub fn simulate_quantization(graph: &mut Graph) {
    let names = graph.nodes.iter().map(|n| n.name.clone()).collect();
    let mut work = Simulation { nodes: vec![], names, graph };
    work.constants();
    for id in work.graph.inputs.clone() {
        work.input(id);
    }
    for node in std::mem::take(&mut work.graph.nodes) {
        work.node(node);
    }
    work.graph.nodes = std::mem::take(&mut work.nodes);
    super::drop_unused_values(work.graph);
}

struct Simulation<'g> {
    graph: &'g mut Graph,
    nodes: Vec<Node>,
    /// Of nodes.
    names: HashSet<String>,
}

/// The smallest and largest stored integer.
fn bounds(dtype: DType) -> Option<[f32; 2]> {
    match dtype {
        DType::I8 => Some([-128.0, 127.0]),
        DType::U8 => Some([0.0, 255.0]),
        _ => None,
    }
}

impl Simulation<'_> {
    /// Constants become what their stored integers stand for.
    fn constants(&mut self) {
        for value in &mut self.graph.values {
            let (Some(data), Some(quant)) = (&value.data, &value.quant) else { continue };
            if let Some(real) = representable(data, quant) {
                value.data = Some(Arc::new(real));
                value.quant = None;
            }
        }
    }

    /// What reads a quantized input reads its simulation; the input stays as the caller gives it.
    fn input(&mut self, id: ValueId) {
        let Some(quant) = self.graph.value(id).quant.clone().filter(|q| bounds(q.dtype).is_some()) else { return };
        self.graph.value_mut(id).quant = None;
        let copy = self.copy(id, "simulated");
        for node in &mut self.graph.nodes {
            node.inputs.iter_mut().flatten().filter(|i| **i == id).for_each(|i| *i = copy);
        }
        self.graph.outputs.iter_mut().filter(|o| **o == id).for_each(|o| *o = copy);
        self.rounded(id, copy, &quant);
    }

    fn node(&mut self, mut node: Node) {
        let done = match node.op {
            Op::Quantize { axis, to } => self.quantize(&node, axis, to),
            Op::Dequantize { axis } => self.dequantize(&node, axis),
            _ => None,
        };
        if done.is_some() {
            return;
        }
        let mut later = vec![];
        for output in &mut node.outputs {
            let Some(quant) = self.graph.value(*output).quant.clone().filter(|q| bounds(q.dtype).is_some()) else {
                continue;
            };
            self.graph.value_mut(*output).quant = None;
            let exact = self.copy(*output, "exact");
            later.push((exact, *output, quant));
            *output = exact;
        }
        self.nodes.push(node);
        for (exact, output, quant) in later {
            self.rounded(exact, output, &quant);
        }
    }

    /// `to = clamp(round(from / scale), low − zero, high − zero) · scale`
    fn rounded(&mut self, from: ValueId, to: ValueId, quant: &QuantParams) {
        let [low, high] = bounds(quant.dtype).unwrap_or([f32::MIN, f32::MAX]);
        let rank = self.graph.value(to).shape.len();
        let along = |v: Vec<f32>| shaped(v, quant.axis, rank);
        let scale = self.constant(along(quant.scale.clone()));
        let zeros: Vec<f32> = quant.zero_point.iter().map(|&z| z as f32).collect();
        let x = self.step(Op::Div, &[from, scale], to);
        let x = self.step(Op::Unary(Unary::Round), &[x], to);
        let x = match zeros[..] {
            [zero] => self.step(Op::Clip { min: low - zero, max: high - zero }, &[x], to),
            _ => {
                let zero = self.constant(along(zeros));
                let x = self.step(Op::Add, &[x, zero], to);
                let x = self.step(Op::Clip { min: low, max: high }, &[x], to);
                self.step(Op::Sub, &[x, zero], to)
            }
        };
        self.last(Op::Mul, &[x, scale], to);
    }

    /// `clamp(round(x / scale) + zero)` as integers; `None` where the parameters are not known.
    fn quantize(&mut self, node: &Node, axis: usize, to: DType) -> Option<()> {
        let ([low, high], x, out) = (bounds(to)?, node.input(0)?, node.output());
        let [scale, zero] = self.parameters(node, axis)?;
        let float = self.graph.add_value(Value { dtype: DType::F32, ..self.graph.value(out).clone() });
        self.graph.value_mut(float).name = self.graph.fresh_name(&format!("{}_float", self.graph.value(out).name));
        let x = self.step(Op::Div, &[x, scale], float);
        let x = self.step(Op::Unary(Unary::Round), &[x], float);
        let x = self.step(Op::Add, &[x, zero], float);
        self.last(Op::Clip { min: low, max: high }, &[x], float);
        self.last(Op::Cast { to }, &[float], out);
        Some(())
    }

    /// `(x − zero) · scale`; `None` where the parameters are not known.
    fn dequantize(&mut self, node: &Node, axis: usize) -> Option<()> {
        let (x, out) = (node.input(0)?, node.output());
        let [scale, zero] = self.parameters(node, axis)?;
        let x = self.step(Op::Cast { to: DType::F32 }, &[x], out);
        let x = self.step(Op::Sub, &[x, zero], out);
        self.last(Op::Mul, &[x, scale], out);
        Some(())
    }

    /// Scale and zero point of a quantizing node, as constants that broadcast to its operand.
    fn parameters(&mut self, node: &Node, axis: usize) -> Option<[ValueId; 2]> {
        let rank = self.graph.value(node.input(0)?).shape.len();
        let scale = self.graph.constant(node.input(1)?)?.to_f32().into_owned();
        let zero = match node.input(2) {
            Some(zero) => self.graph.constant(zero)?.to_f32().into_owned(),
            None => vec![0.0; scale.len()],
        };
        let axis = (scale.len() > 1).then_some(axis);
        Some([scale, zero].map(|v| self.constant(shaped(v, axis, rank))))
    }

    fn constant(&mut self, tensor: Tensor) -> ValueId {
        let name = self.graph.fresh_name("simulated_parameter");
        self.graph.add_constant(name, tensor)
    }

    /// A value like another, without numbers and parameters.
    fn copy(&mut self, id: ValueId, suffix: &str) -> ValueId {
        let value = self.graph.value(id).clone();
        let name = self.graph.fresh_name(&format!("{}_{suffix}", value.name));
        self.graph.add_value(Value { name, data: None, quant: None, ..value })
    }

    /// A node whose result is shaped as `like`.
    fn step(&mut self, op: Op, inputs: &[ValueId], like: ValueId) -> ValueId {
        let out = self.copy(like, "step");
        self.graph.value_mut(out).dtype = DType::F32;
        self.last(op, inputs, out);
        out
    }

    fn last(&mut self, op: Op, inputs: &[ValueId], out: ValueId) {
        let mut name = format!("simulated_{}", self.nodes.len());
        while !self.names.insert(name.clone()) {
            name.push('_');
        }
        let inputs = inputs.iter().map(|&i| Some(i)).collect();
        self.nodes.push(Node { name, op, inputs, outputs: vec![out] });
    }
}

/// One number, or a vector that broadcasts along an axis.
fn shaped(values: Vec<f32>, axis: Option<usize>, rank: usize) -> Tensor {
    let shape = match axis {
        Some(axis) if axis < rank => (0..rank).map(|i| if i == axis { values.len() } else { 1 }).collect(),
        _ => vec![],
    };
    Tensor::f32(shape, values)
}

/// What the stored integers of a constant stand for.
fn representable(tensor: &Tensor, quant: &QuantParams) -> Option<Tensor> {
    let inner: usize = quant.axis.map_or(1, |axis| tensor.shape[axis + 1..].iter().product());
    let real = |(i, &q): (usize, &i32)| quant.real((i / inner.max(1)) % quant.scale.len(), q);
    let data = quant.store(tensor)?.iter().enumerate().map(real).collect();
    Some(Tensor::new(tensor.shape.clone(), Data::F32(data)))
}
