//! Graph → Program: NHWC, batch 1, fused.
//!
//! One walk over the nodes. [`lower_int8`] and [`lower_f32`] differ only in the numbers that a kernel gets, which are
//! made in [`numbers`](super::numbers).

use super::numbers::{Bounds, Numbers};
use super::reference::transpose;
use super::{Buffer, BufferId, Function, Kernel, Port, Precision, Program, Quant, RawInput, Step, Window};
use crate::graph::{Conv, Graph, Node, Op, PadMode, Pool, ValueId, shape_at, shape_text};
use crate::quant::{QuantizedModel, fused_activations, quantize};
use std::collections::HashMap;

/// Why a network has no program.
#[derive(Debug, thiserror::Error)]
#[error("node '{node}' ({op}) cannot run on the device: {why}")]
pub struct LowerError {
    pub node: String,
    pub op: String,
    pub why: String,
}

/// The integer program of a quantized network. `raw` says what input each byte stands for, per channel.
///
/// # Errors
/// The first node that has no kernel.
pub fn lower_int8(model: &QuantizedModel, raw: Option<&[[f32; 256]]>) -> Result<Program, LowerError> {
    Lowering::new(&model.graph, Precision::Int8).run(raw)
}

/// The float program of a network (batch norm folded).
///
/// # Errors
/// The first node that has no kernel.
pub fn lower_f32(graph: &Graph, raw: Option<&[[f32; 256]]>) -> Result<Program, LowerError> {
    Lowering::new(graph, Precision::F32).run(raw)
}

/// Every node that keeps a network from being a float program, in order; nothing for one that can be.
pub fn obstacles(graph: &Graph) -> Vec<LowerError> {
    let mut lowering = Lowering::new(graph, Precision::F32);
    graph.inputs.iter().for_each(|&id| _ = lowering.buffer(id));
    let mut found = vec![];
    for node in &graph.nodes {
        if let Err(obstacle) = lowering.node(node, None) {
            found.push(obstacle);
            // What comes after is judged as if it had been computed.
            node.outputs.iter().for_each(|&id| _ = lowering.buffer(id));
        }
    }
    found
}

struct Lowering<'a> {
    graph: &'a Graph,
    program: Program,
    of: HashMap<ValueId, BufferId>,
    /// Values whose elements lie in NHWC order although the network means NCHW: flattened images whose reader takes the
    /// permutation into its weights. The image's extents, `[height, width, channels]`.
    unordered: HashMap<ValueId, [usize; 3]>,
    numbers: Numbers<'a>,
}

type Result1<T> = Result<T, LowerError>;

impl<'a> Lowering<'a> {
    fn new(graph: &'a Graph, precision: Precision) -> Lowering<'a> {
        let none = Port { name: String::new(), shape: vec![], buffer: BufferId(0), perm: None };
        let program = Program {
            name: graph.name.clone(),
            precision,
            buffers: vec![],
            steps: vec![],
            input: none.clone(),
            output: none,
            raw_input: None,
        };
        let numbers = Numbers { graph, precision };
        Lowering { graph, program, of: HashMap::new(), unordered: HashMap::new(), numbers }
    }

    fn run(mut self, raw: Option<&[[f32; 256]]>) -> Result1<Program> {
        let port = |what: &str, count: usize| LowerError {
            node: "the network".into(),
            op: what.into(),
            why: format!("it has {count} {what}; programs have one"),
        };
        let [input] = self.graph.inputs[..] else { return Err(port("inputs", self.graph.inputs.len())) };
        let [output] = self.graph.outputs[..] else { return Err(port("outputs", self.graph.outputs.len())) };
        let buffer = self.buffer(input);
        self.program.input = self.port(input, buffer);
        let fused: HashMap<usize, usize> = fused_activations(self.graph).into_iter().collect();
        let absorbed: Vec<usize> = fused.values().copied().collect();
        for (index, node) in self.graph.nodes.iter().enumerate() {
            if absorbed.contains(&index) {
                continue;
            }
            let activation = fused.get(&index).map(|&i| &self.graph.nodes[i]);
            self.node(node, activation)?;
        }
        let buffer = self.of.get(&output).copied().ok_or_else(|| port("outputs", 0))?;
        self.program.output = self.port(output, buffer);
        self.program.raw_input = raw.map(|tables| self.raw_input(tables));
        Ok(self.program)
    }

    fn raw_input(&self, tables: &[[f32; 256]]) -> RawInput {
        match self.program.buffer(self.program.input.buffer).quant {
            None => RawInput::F32(tables.to_vec()),
            Some(q) => {
                let store = |x: f32| quantize(x, q.scale, q.zero_point.into(), -128, 127) as i8;
                RawInput::Int8(tables.iter().map(|t| t.map(store)).collect())
            }
        }
    }

    fn port(&self, id: ValueId, buffer: BufferId) -> Port {
        let value = self.graph.value(id);
        let shape = shape_at(&value.shape, 1);
        // The caller's [channels, height, width] (or [channels, length], seen as [channels, 1, length]) is permuted,
        // where that changes anything.
        let moved = image(&shape).is_some_and(|[h, w, c]| h * w > 1 && c > 1);
        Port { name: value.name.clone(), shape, buffer, perm: moved.then(|| vec![1, 2, 0]) }
    }

    /// The buffer of a value, made on first sight.
    fn buffer(&mut self, id: ValueId) -> BufferId {
        if let Some(&buffer) = self.of.get(&id) {
            return buffer;
        }
        let value = self.graph.value(id);
        let (shape, name) = (nhwc(&shape_at(&value.shape, 1)), value.name.clone());
        let quant = value.quant.as_ref().filter(|_| self.program.precision == Precision::Int8);
        let quant = quant.map(|q| Quant { scale: q.scale[0], zero_point: q.zero_point[0] as i8 });
        let buffer = self.add(Buffer { name, shape, quant });
        self.of.insert(id, buffer);
        buffer
    }

    fn add(&mut self, buffer: Buffer) -> BufferId {
        self.program.buffers.push(buffer);
        BufferId(self.program.buffers.len() as u32 - 1)
    }

    fn step(&mut self, node: &Node, kernel: Kernel, inputs: Vec<BufferId>, output: BufferId) {
        self.program.steps.push(Step { name: node.name.clone(), kernel, inputs, output });
    }

    fn node(&mut self, node: &Node, activation: Option<&Node>) -> Result1<()> {
        let fail = |why: String| LowerError { node: node.name.clone(), op: node.op.name().into(), why };
        let x = node.input(0).ok_or_else(|| fail("it has no operand".into()))?;
        let out = activation.map_or(node.output(), Node::output);
        let bounds = Bounds::of(activation.map(|a| &a.op));
        if let Op::Add | Op::Sub | Op::Mul | Op::Div = node.op {
            return self.arithmetic(node, out, bounds);
        }
        let input = *self.of.get(&x).ok_or_else(|| fail("its operand is a constant; fold it first".into()))?;
        let kernel = match &node.op {
            Op::Conv(conv) => self.conv(node, conv, x, out, bounds)?,
            Op::Gemm { .. } | Op::MatMul => self.fully_connected(node, x, out, bounds)?,
            Op::MaxPool(pool) => Kernel::MaxPool { window: self.window(node, x, pool)?, channels: self.channels(x) },
            Op::AveragePool(pool) => {
                let window = self.window(node, x, pool)?;
                let axes = pool.kernel.len();
                let hangs = |d: usize| {
                    let reach = (window.output[d] - 1) * window.strides[d] + window.kernel[d];
                    let end = pool.pads.get((d + 2 * axes).wrapping_sub(2)).copied().unwrap_or(0);
                    reach > window.pads[d] + window.input[d] + end
                };
                if pool.count_include_pad && (hangs(0) || hangs(1)) {
                    return Err(fail("with ceil_mode its last window hangs over padding that counts".into()));
                }
                let params = self.numbers.average(x, out, window.kernel[0] * window.kernel[1]).map_err(fail)?;
                Kernel::AveragePool { window, channels: self.channels(x), count_pads: pool.count_include_pad, params }
            }
            Op::GlobalAveragePool | Op::GlobalMaxPool => self.global(node, x, out)?,
            Op::ReduceMean { axes, .. } => {
                let spatial: Vec<usize> = (2..self.graph.value(x).shape.len()).collect();
                if *axes != spatial {
                    return Err(fail(format!("it averages axes {axes:?}; only all spatial axes have a kernel")));
                }
                self.global(node, x, out)?
            }
            Op::Relu
            | Op::Clip { .. }
            | Op::LeakyRelu { .. }
            | Op::Sigmoid
            | Op::Tanh
            | Op::HardSwish
            | Op::HardSigmoid { .. } => {
                let function = function(&node.op).ok_or_else(|| fail("it is no function of one variable".into()))?;
                self.numbers.map(x, out, function)
            }
            Op::Softmax { axis } => {
                let shape = &self.graph.value(x).shape;
                let rows = self.program.buffer(input).len() / shape.get(1).map_or(1, |d| d.at(1)).max(1);
                if *axis != 1 {
                    return Err(fail(format!("it runs over axis {axis}; only the channels have a kernel")));
                }
                let len = shape[1].at(1);
                Kernel::Softmax { rows, len, exp: self.numbers.exponentials(x) }
            }
            Op::Pad { pads, mode: PadMode::Constant(value) } => self.pad(node, x, pads, *value)?,
            Op::Slice { starts, axes, steps, .. } => self.sampled(node, x, starts, axes, steps)?,
            Op::Concat { axis } => return self.concat(node, *axis),
            Op::Flatten { .. } | Op::Reshape { .. } | Op::Squeeze { .. } | Op::Unsqueeze { .. } => {
                return self.reshape(node, x);
            }
            Op::Identity | Op::Dropout => Kernel::Reshape,
            Op::Cast { to } if to.is_float() => Kernel::Reshape,
            Op::Transpose { perm } => return self.transposed(node, x, perm),
            Op::BatchNormalization { .. } => return Err(fail("it could not be folded into a layer before it".into())),
            Op::Opaque(opaque) => return Err(fail(opaque.why.clone())),
            Op::LogSoftmax { .. }
            | Op::Cast { .. }
            | Op::Gather { .. }
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
            | Op::ConvTranspose(_)
            | Op::Recurrent(_)
            | Op::Trilu { .. }
            | Op::OneHot { .. }
            | Op::Quantize { .. }
            | Op::Dequantize { .. }
            | Op::ConvInteger(_)
            | Op::MatMulInteger
            | Op::Pad { .. } => {
                return Err(fail("there is no kernel for it".into()));
            }
            Op::Add | Op::Sub | Op::Mul | Op::Div => unreachable!("handled above"),
        };
        if let (Some(&shape), true) = (self.unordered.get(&x), kernel.in_place()) {
            self.unordered.insert(out, shape);
        }
        let output = self.buffer(out);
        self.step(node, kernel, vec![input], output);
        Ok(())
    }

    fn channels(&self, id: ValueId) -> usize {
        self.graph.value(id).shape.get(1).map_or(1, |d| d.at(1))
    }

    fn conv(&self, node: &Node, conv: &Conv, x: ValueId, out: ValueId, bounds: Bounds) -> Result1<Kernel> {
        let fail = |why: String| LowerError { node: node.name.clone(), op: "Conv".into(), why };
        let pool = Pool {
            kernel: conv.kernel.clone(),
            strides: conv.strides.clone(),
            pads: conv.pads.clone(),
            dilations: conv.dilations.clone(),
            ceil_mode: false,
            count_include_pad: false,
        };
        let window = self.window(node, x, &pool)?;
        let (in_channels, out_channels) = (self.channels(x), self.channels(out));
        let taps = window.kernel[0] * window.kernel[1];
        let depthwise = conv.group == in_channels && out_channels == in_channels && conv.group > 1;
        let (shape, perm) = match depthwise {
            // [channels][1 · taps] to [taps][channels]
            true => (vec![out_channels, taps], vec![1, 0]),
            // [out][in / groups][taps] to [out][taps][in / groups]
            false => (vec![out_channels, in_channels / conv.group, taps], vec![0, 2, 1]),
        };
        let linear =
            self.numbers.linear(node, x, out, 0, 1.0, 1.0, bounds, &|w| transpose(&shape, &perm, w)).map_err(fail)?;
        Ok(match depthwise {
            true => Kernel::DepthwiseConv2d { window, channels: in_channels, linear },
            false => Kernel::Conv2d { window, in_channels, out_channels, groups: conv.group, linear },
        })
    }

    fn fully_connected(&self, node: &Node, x: ValueId, out: ValueId, bounds: Bounds) -> Result1<Kernel> {
        let fail = |why: &str| LowerError { node: node.name.clone(), op: node.op.name().into(), why: why.into() };
        let (alpha, beta, trans_b) = match node.op {
            Op::Gemm { trans_a: true, .. } => return Err(fail("its first operand is transposed")),
            Op::Gemm { alpha, beta, trans_b, .. } => (alpha, beta, trans_b),
            _ => (1.0, 1.0, false),
        };
        let weights = node.input(1).and_then(|w| self.graph.constant(w)).filter(|t| t.shape.len() == 2);
        let weights = weights.ok_or_else(|| fail("its second operand is not a constant matrix"))?;
        let (rows, columns) = (weights.shape[0], weights.shape[1]);
        let (out_features, in_features) = if trans_b { (rows, columns) } else { (columns, rows) };
        let image = self.unordered.get(&x).copied();
        let arrange = |w: &[f32]| {
            let w = if trans_b { w.to_vec() } else { transpose(&[rows, columns], &[1, 0], w) };
            match image {
                None => w,
                // Columns in the network's order, [channels][height · width], to the buffer's.
                Some([h, width, c]) => transpose(&[out_features, c, h * width], &[0, 2, 1], &w),
            }
        };
        let axis = usize::from(!trans_b);
        let linear =
            self.numbers.linear(node, x, out, axis, alpha, beta, bounds, &arrange).map_err(|why| fail(&why))?;
        let rows = crate::graph::elements(&self.graph.value(x).shape) / in_features.max(1);
        Ok(Kernel::FullyConnected { rows, in_features, out_features, linear })
    }

    /// A window that covers the whole image.
    fn global(&self, node: &Node, x: ValueId, out: ValueId) -> Result1<Kernel> {
        let fail = |why: String| LowerError { node: node.name.clone(), op: node.op.name().into(), why };
        let [h, w, channels] = nhwc(&shape_at(&self.graph.value(x).shape, 1))[..] else {
            return Err(fail(format!("its operand {} is not an image", shape_text(&self.graph.value(x).shape))));
        };
        let window =
            Window { input: [h, w], output: [1, 1], kernel: [h, w], strides: [1, 1], pads: [0, 0], dilations: [1, 1] };
        if node.op == Op::GlobalMaxPool {
            return Ok(Kernel::MaxPool { window, channels });
        }
        let params = self.numbers.average(x, out, h * w).map_err(fail)?;
        Ok(Kernel::AveragePool { window, channels, count_pads: false, params })
    }

    fn window(&self, node: &Node, x: ValueId, pool: &Pool) -> Result1<Window> {
        let fail = |why: String| LowerError { node: node.name.clone(), op: node.op.name().into(), why };
        let n = pool.kernel.len();
        if n != 1 && n != 2 {
            return Err(fail(format!("{n}-D windows have no kernel")));
        }
        let pair = |v: &[usize], one: usize| if n == 1 { [one, v[0]] } else { [v[0], v[1]] };
        let spatial = |id: ValueId| -> Vec<usize> { self.graph.value(id).shape[2..].iter().map(|d| d.at(1)).collect() };
        Ok(Window {
            input: pair(&spatial(x), 1),
            output: pair(&spatial(node.output()), 1),
            kernel: pair(&pool.kernel, 1),
            strides: pair(&pool.strides, 1),
            pads: pair(&pool.pads[..n], 0),
            dilations: pair(&pool.dilations, 1),
        })
    }

    fn arithmetic(&mut self, node: &Node, out: ValueId, bounds: Bounds) -> Result1<()> {
        let fail = |why: String| LowerError { node: node.name.clone(), op: node.op.name().into(), why };
        let (Some(a), Some(b)) = (node.input(0), node.input(1)) else {
            return Err(fail("an operand is missing".into()));
        };
        let scalar = |id: ValueId| self.graph.constant(id).filter(|t| t.len() == 1).map(|t| t.to_f32()[0]);
        let affine = match (&node.op, scalar(a), scalar(b)) {
            (Op::Add, Some(c), None) => Some((b, 1.0, c)),
            (Op::Add, None, Some(c)) => Some((a, 1.0, c)),
            (Op::Sub, Some(c), None) => Some((b, -1.0, c)),
            (Op::Sub, None, Some(c)) => Some((a, 1.0, -c)),
            (Op::Mul, Some(c), None) => Some((b, c, 0.0)),
            (Op::Mul, None, Some(c)) => Some((a, c, 0.0)),
            (Op::Div, None, Some(c)) if c != 0.0 => Some((a, 1.0 / c, 0.0)),
            _ => None,
        };
        if let (Some((x, gain, offset)), true) = (affine, bounds.is_open()) {
            let kernel = self.numbers.map(x, out, Function::Affine { gain, offset });
            let input = self.of.get(&x).copied().ok_or_else(|| fail("both operands are constants".into()))?;
            let output = self.buffer(out);
            self.step(node, kernel, vec![input], output);
            return Ok(());
        }
        let (Some(&first), Some(&second)) = (self.of.get(&a), self.of.get(&b)) else {
            return Err(fail("a constant operand that is not a single number has no kernel".into()));
        };
        let (sa, sb) = (self.program.buffer(first).shape.clone(), self.program.buffer(second).shape.clone());
        if self.unordered.get(&a) != self.unordered.get(&b) {
            return Err(fail("its operands lie in different orders".into()));
        }
        let channels = |s: &[usize]| s.last().copied().unwrap_or(1);
        let gate = |gated: &[usize], gate: &[usize]| {
            channels(gated) == channels(gate) && gate.iter().product::<usize>() == channels(gate)
        };
        let (kernel, inputs) = match &node.op {
            Op::Add if sa == sb => {
                (Kernel::Add(self.numbers.add(a, b, out, bounds).map_err(fail)?), vec![first, second])
            }
            Op::Mul if sa == sb => {
                let params = self.numbers.mul(a, b, out, bounds).map_err(fail)?;
                (Kernel::Mul { params, broadcast: false }, vec![first, second])
            }
            Op::Mul if gate(&sa, &sb) => {
                let params = self.numbers.mul(a, b, out, bounds).map_err(fail)?;
                (Kernel::Mul { params, broadcast: true }, vec![first, second])
            }
            Op::Mul if gate(&sb, &sa) => {
                let params = self.numbers.mul(b, a, out, bounds).map_err(fail)?;
                (Kernel::Mul { params, broadcast: true }, vec![second, first])
            }
            _ => return Err(fail(format!("there is no kernel for operands of {sa:?} and {sb:?}"))),
        };
        let output = self.buffer(out);
        self.step(node, kernel, inputs, output);
        Ok(())
    }

    /// Every so many pixels: the maximum over windows of one pixel.
    fn sampled(&self, node: &Node, x: ValueId, starts: &[i64], axes: &[usize], steps: &[i64]) -> Result1<Kernel> {
        let fail = |why: &str| LowerError { node: node.name.clone(), op: "Slice".into(), why: why.into() };
        let n = self.graph.value(x).shape.len().saturating_sub(2);
        let mut strides = vec![1; n];
        for ((&start, &axis), &step) in starts.iter().zip(axes).zip(steps) {
            let (Some(stride), Ok(step @ 1..), 0) =
                (strides.get_mut(axis.wrapping_sub(2)), usize::try_from(step), start)
            else {
                return Err(fail("only every so many pixels of an image, from the first one on, have a kernel"));
            };
            *stride = step;
        }
        let (kernel, pads, dilations) = (vec![1; n], vec![0; 2 * n], vec![1; n]);
        let pool = Pool { kernel, strides, pads, dilations, ceil_mode: false, count_include_pad: false };
        Ok(Kernel::MaxPool { window: self.window(node, x, &pool)?, channels: self.channels(x) })
    }

    fn pad(&self, node: &Node, x: ValueId, pads: &[i64], value: f32) -> Result1<Kernel> {
        let fail = |why: &str| LowerError { node: node.name.clone(), op: "Pad".into(), why: why.into() };
        let shape = nhwc(&shape_at(&self.graph.value(x).shape, 1));
        let rank = pads.len() / 2;
        let ([h, w, c], 3 | 4) = (shape[..].try_into().unwrap_or([0; 3]), rank) else {
            return Err(fail("only images have a kernel"));
        };
        let grow = |i: usize| usize::try_from(pads[i]).map_err(|_| fail("negative padding has no kernel"));
        if pads[0] != 0 || pads[rank] != 0 {
            return Err(fail("it pads the batch"));
        }
        let stored = self.numbers.stored(x, value);
        if pads[1] != 0 || pads[rank + 1] != 0 {
            // Channels lie innermost: they are the columns of a picture with a row for each pixel.
            if pads[2..rank].iter().chain(&pads[rank + 2..]).any(|&p| p != 0) {
                return Err(fail("padding of channels and of pixels at once has no kernel"));
            }
            return Ok(Kernel::Pad { input: [h * w, c, 1], pads: [0, grow(1)?, 0, grow(rank + 1)?], value, stored });
        }
        let grown = match rank {
            3 => [0, grow(2)?, 0, grow(5)?],
            _ => [grow(2)?, grow(3)?, grow(6)?, grow(7)?],
        };
        Ok(Kernel::Pad { input: [h, w, c], pads: grown, value, stored })
    }

    fn concat(&mut self, node: &Node, axis: usize) -> Result1<()> {
        let fail = |why: &str| LowerError { node: node.name.clone(), op: "Concat".into(), why: why.into() };
        if axis != 1 {
            return Err(fail("only channels have a kernel"));
        }
        let inputs: Option<Vec<BufferId>> = node.inputs.iter().map(|id| self.of.get(&(*id)?).copied()).collect();
        let inputs = inputs.ok_or_else(|| fail("an operand is a constant"))?;
        if node.inputs.iter().flatten().any(|id| self.unordered.contains_key(id)) {
            return Err(fail("an operand is a flattened image"));
        }
        let inner: Vec<usize> =
            inputs.iter().map(|&b| self.program.buffer(b).shape.last().copied().unwrap_or(1)).collect();
        let output = self.buffer(node.output());
        let outer = self.program.buffer(output).len() / inner.iter().sum::<usize>().max(1);
        self.step(node, Kernel::Concat { outer, inner }, inputs, output);
        Ok(())
    }

    /// Only the extents change; where NHWC order differs from the network's own, elements move as well.
    fn reshape(&mut self, node: &Node, x: ValueId) -> Result1<()> {
        let out = node.output();
        let input = self.of[&x];
        let (from, to) = (shape_at(&self.graph.value(x).shape, 1), shape_at(&self.graph.value(out).shape, 1));
        let (from_image, to_image) = (image(&from), image(&to));
        let plain = |i: Option<[usize; 3]>| i.is_none_or(|[h, w, c]| h * w == 1 || c == 1);
        let same = from_image == to_image && from_image.is_some();
        let readers: Vec<&Node> = self.graph.nodes.iter().filter(|n| n.inputs.contains(&Some(out))).collect();
        let matrices = |n: &&Node| matches!(n.op, Op::Gemm { trans_a: false, .. } | Op::MatMul);
        if let (Some(shape), false, false, true) = (from_image, plain(from_image), same, plain(to_image)) {
            let absorbed = readers.iter().all(matrices) && !readers.is_empty() && !self.graph.outputs.contains(&out);
            if absorbed && to.len() == 2 {
                self.unordered.insert(out, shape);
            } else {
                return self.moved(node, input, out, shape.to_vec(), vec![2, 0, 1]);
            }
        } else if let (Some([h, w, c]), false, false) = (to_image, plain(to_image), same) {
            if !plain(from_image) {
                let why = format!("it turns one image, {from:?}, into another, {to:?}");
                return Err(LowerError { node: node.name.clone(), op: node.op.name().into(), why });
            }
            return self.moved(node, input, out, vec![c, h, w], vec![1, 2, 0]);
        }
        let output = self.buffer(out);
        self.step(node, Kernel::Reshape, vec![input], output);
        Ok(())
    }

    /// A transposition, and the result under its new extents.
    fn moved(
        &mut self,
        node: &Node,
        input: BufferId,
        out: ValueId,
        shape: Vec<usize>,
        perm: Vec<usize>,
    ) -> Result1<()> {
        let output = self.buffer(out);
        self.step(node, Kernel::Transpose { shape, perm }, vec![input], output);
        Ok(())
    }

    fn transposed(&mut self, node: &Node, x: ValueId, perm: &[usize]) -> Result1<()> {
        let fail = |why: &str| LowerError { node: node.name.clone(), op: "Transpose".into(), why: why.into() };
        if perm.first() != Some(&0) {
            return Err(fail("it moves the batch"));
        }
        let shape = shape_at(&self.graph.value(x).shape, 1);
        let input = self.of[&x];
        let output = self.buffer(node.output());
        let kernel = match perm {
            // The result's image axes, in the order of the buffer: [2, 3, 1] of the result are perm[2], perm[3], perm[1]
            // of the operand, whose buffer is [2, 3, 1] as well.
            [0, ..] if perm.len() == 4 => {
                let place = |axis: usize| [2, 3, 1].iter().position(|&a| a == axis).unwrap_or(0);
                let moved: Vec<usize> = [2, 3, 1].iter().map(|&axis| place(perm[axis])).collect();
                Kernel::Transpose { shape: nhwc(&shape), perm: moved }
            }
            [0, ..] if perm.len() == 3 => match perm[1] {
                1 => Kernel::Reshape,
                // [1, length, channels] to [1, channels, length]
                _ => Kernel::Transpose { shape: nhwc(&shape), perm: vec![0, 2, 1] },
            },
            _ => return Err(fail("there is no kernel for this rank")),
        };
        self.step(node, kernel, vec![input], output);
        Ok(())
    }
}

/// `[1, channels, height, width]` and `[1, channels, length]` as images.
fn image(shape: &[usize]) -> Option<[usize; 3]> {
    match *shape {
        [_, c, h, w] => Some([h, w, c]),
        [_, c, l] => Some([1, l, c]),
        _ => None,
    }
}

/// A buffer's extents for a value's, batch 1 taken off.
fn nhwc(shape: &[usize]) -> Vec<usize> {
    match image(shape) {
        Some(image) => image.to_vec(),
        None => shape.get(1..).unwrap_or(&[]).to_vec(),
    }
}

/// The function of one variable that an operator is.
fn function(op: &Op) -> Option<Function> {
    Some(match *op {
        Op::Relu => Function::Clip { min: 0.0, max: f32::INFINITY },
        Op::Clip { min, max } => Function::Clip { min, max },
        Op::LeakyRelu { alpha } => Function::LeakyRelu { alpha },
        Op::Sigmoid => Function::Sigmoid,
        Op::Tanh => Function::Tanh,
        Op::HardSwish => Function::HardSwish,
        Op::HardSigmoid { alpha, beta } => Function::HardSigmoid { alpha, beta },
        _ => return None,
    })
}
