//! One pass through a network: an exhaustive match from operators to burn.
//!
//! Floats are computed on the device, where gradients flow. Integers and truth values, and what is decided by comparing
//! floats, are computed on the host by [`host::compute`]: they are small, and nothing is differentiated by them.

mod elementwise;
mod linear;
mod movement;
mod normalisation;
mod pooling;
mod recurrent;
mod reduction;
mod resize;

use super::network::Network;
use super::ops::Function;
use super::plan::{Fusion, Kind};
use super::{Datum, Error, Mode, Outputs, Value};
use burn::backend::Dispatch;
use burn::backend::ops::FloatTensorOps;
use burn::tensor::ops::PadMode as BurnPad;
use burn::tensor::{Slice, Tensor};
use elementwise::function;
use kdc_ir::graph::{DType, Graph, Node, Op, Tensor as HostTensor, Unary, Value as GraphValue, ValueId, shape_at};
use kdc_ir::host;
use std::collections::HashMap;
use std::sync::Arc;

impl Network {
    /// Runs the network. `inputs` in the graph's order; floats on this network's device (the plain one for
    /// [`Mode::Infer`]) or on the host, from where they are copied.
    ///
    /// # Errors
    /// When the inputs do not fit, or a node cannot be run.
    pub fn forward(&self, inputs: Vec<impl Into<Datum>>, taps: &[ValueId], mode: Mode) -> Result<Outputs, Error> {
        let wanted: Vec<ValueId> = self.graph.outputs.iter().chain(taps).copied().collect();
        let mut outputs = self.run(inputs, &[], &wanted, mode)?;
        let taps = outputs.split_off(self.graph.outputs.len());
        Ok(Outputs { outputs, taps })
    }

    /// Computes the values that are wanted, and only what they need. Some may be given: the network goes on from there, as
    /// if it had computed them. Shapes of given values are those of the graph, on the side of the device where the pass
    /// computes.
    ///
    /// # Errors
    /// As [`Network::forward`].
    pub fn run(
        &self,
        inputs: Vec<impl Into<Datum>>,
        given: &[(ValueId, Value)],
        wanted: &[ValueId],
        mode: Mode,
    ) -> Result<Vec<Datum>, Error> {
        let placed = |input: Datum| match input {
            Datum::Host(tensor) if tensor.dtype().is_float() => self.upload(&tensor, mode).map(Datum::Float),
            other => Ok(other),
        };
        let inputs: Vec<Datum> = inputs.into_iter().map(Into::into).map(placed).collect::<Result<_, _>>()?;
        self.check(&inputs)?;
        run(self, inputs, given, wanted, mode)
    }
}

/// Computes the wanted values, in order. `given` values are taken as they are: what only leads to them is not computed.
fn run(
    network: &Network,
    inputs: Vec<Datum>,
    given: &[(ValueId, Value)],
    wanted: &[ValueId],
    mode: Mode,
) -> Result<Vec<Datum>, Error> {
    let graph = &network.graph;
    let batch = inputs.first().and_then(|v| v.shape().first().copied()).unwrap_or(1);
    // A given value that a fusion would hide inside is asked for, so that the fusion is none.
    let seen: Vec<ValueId> = wanted.iter().copied().chain(given.iter().map(|(id, _)| *id)).collect();
    let fused = network.plan.by_node(graph, &seen, mode);
    let needed = (!given.is_empty()).then(|| needed(graph, given, wanted));
    // Where a node is computed: with the last one of its fusion.
    let place = |index: usize| fused[index].map_or(index, Fusion::last);
    // A value is dropped after its last reader, so that memory is what the network needs at once.
    let mut last_use: HashMap<ValueId, usize> = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        for &id in node.inputs.iter().flatten() {
            let last = last_use.entry(id).or_default();
            *last = place(index).max(*last);
        }
    }
    wanted.iter().for_each(|&id| _ = last_use.insert(id, usize::MAX));
    let inputs = graph.inputs.iter().zip(inputs).map(|(&id, input)| (id, as_stored(input, graph.value(id))));
    let mut values: HashMap<ValueId, Datum> = inputs.collect();
    values.extend(given.iter().map(|(id, value)| (*id, Datum::Float(value.clone()))));
    for (at, node) in graph.nodes.iter().enumerate() {
        if place(at) != at || needed.as_ref().is_some_and(|needed| !needed[at]) {
            continue;
        }
        let nodes = fused[at].map_or(std::slice::from_ref(&at), |fusion| &fusion.nodes);
        let mut pass = Pass { network, node, index: at, nodes, values: &mut values, last_use: &last_use, mode, batch };
        let results = match fused[at] {
            Some(fusion) => pass.fused(fusion)?,
            None => pass.compute()?,
        };
        for (id, result) in node.outputs.iter().copied().zip(results).filter(|(id, _)| last_use.contains_key(id)) {
            // Of a node with several results some may be given.
            if !given.iter().any(|(other, _)| *other == id) {
                values.insert(id, as_stored(result, graph.value(id)));
            }
        }
        for id in nodes.iter().flat_map(|&i| graph.nodes[i].inputs.iter().flatten()) {
            if last_use[id] == at {
                values.remove(id);
            }
        }
    }
    let get = |id: &ValueId| {
        let known = values.get(id).cloned().or_else(|| network.operand(*id, mode));
        let name = || graph.value(*id).name.clone();
        known.ok_or_else(|| Error::Input { wanted: format!("'{}'", name()), given: "nothing that makes it".into() })
    };
    wanted.iter().map(get).collect()
}

/// By node, whether the wanted values need it where some are given.
fn needed(graph: &Graph, given: &[(ValueId, Value)], wanted: &[ValueId]) -> Vec<bool> {
    let mut open: Vec<ValueId> = wanted.to_vec();
    let mut needed = vec![false; graph.nodes.len()];
    let makers = graph.producers();
    while let Some(id) = open.pop() {
        if given.iter().any(|(other, _)| *other == id) {
            continue;
        }
        if let Some(&index) = makers.get(&id).filter(|&&index| !needed[index]) {
            needed[index] = true;
            open.extend(graph.nodes[index].inputs.iter().flatten());
        }
    }
    needed
}

/// A value that the network stores as integers takes the nearest of those they stand for. Gradients pass unchanged
/// (straight-through: Bengio, Léonard, Courville 2013), so that a quantized teacher differentiates as its float self.
fn as_stored(datum: Datum, value: &GraphValue) -> Datum {
    let parameters = value.quant.as_ref().filter(|q| q.dtype == DType::I8).map(|q| (&q.scale[..], &q.zero_point[..]));
    let (Datum::Float(float), Some((&[scale], &[zero]))) = (&datum, parameters) else { return datum };
    let (shape, x) = (float.shape(), float.clone().flattened());
    let (low, high) = (-128 - zero, 127 - zero);
    let stored = (x.clone().detach() / scale).round().clamp(low, high) * scale;
    Value::flat(x.clone() + (stored - x.detach()), &shape).into()
}

/// One node of a pass.
struct Pass<'a> {
    network: &'a Network,
    node: &'a Node,
    /// The node's.
    index: usize,
    /// All nodes that are computed here as one, in order.
    nodes: &'a [usize],
    values: &'a mut HashMap<ValueId, Datum>,
    last_use: &'a HashMap<ValueId, usize>,
    mode: Mode,
    batch: usize,
}

impl Pass<'_> {
    fn datum(&mut self, index: usize) -> Result<Datum, Error> {
        let missing = || Error::Operand { node: self.node.name.clone(), index };
        let id = self.node.input(index).ok_or_else(missing)?;
        let reads = |&index: &usize| self.network.graph.nodes[index].inputs.iter().filter(|i| **i == Some(id)).count();
        let again = self.nodes.iter().map(reads).sum::<usize>() > 1;
        let last = self.last_use.get(&id) == self.nodes.last() && !again;
        let value = if last { self.values.remove(&id) } else { self.values.get(&id).cloned() };
        value.or_else(|| self.network.operand(id, self.mode)).ok_or_else(missing)
    }

    /// An operand on the device.
    fn operand(&mut self, index: usize) -> Result<Value, Error> {
        match self.datum(index)? {
            Datum::Float(value) => Ok(value),
            Datum::Host(tensor) => {
                Err(self.unsupported(format!("operand {index} is of {}, floats are wanted", tensor.dtype())))
            }
        }
    }

    /// An operand on the device, integers as floats.
    fn float_or_converted(&mut self, index: usize) -> Result<Value, Error> {
        match self.datum(index)? {
            Datum::Float(value) => Ok(value),
            Datum::Host(tensor) => self.network.upload(&tensor, self.mode),
        }
    }

    /// The extents of an operand, now.
    fn shape_of(&self, index: usize) -> Option<Vec<usize>> {
        Some(shape_at(&self.network.graph.value(self.node.input(index)?).shape, self.batch))
    }

    /// An operand on the host; a float is copied there.
    fn host(&mut self, index: usize) -> Result<Arc<HostTensor>, Error> {
        match self.datum(index)? {
            Datum::Host(tensor) => Ok(tensor),
            Datum::Float(value) => value.to_host().map(Arc::new),
        }
    }

    fn unsupported(&self, why: impl Into<String>) -> Error {
        Error::Unsupported { node: self.node.name.clone(), op: self.node.op.name().into(), why: why.into() }
    }

    /// Several nodes as one operator, of which the last has one result.
    fn fused(&mut self, fusion: &Fusion) -> Result<Vec<Datum>, Error> {
        let result = match (fusion.kind, &fusion.nodes[..]) {
            (Kind::NormRelu, &[norm, _]) => {
                let Op::BatchNormalization { epsilon } = self.turn_to(norm).op else { unreachable!("so it was found") };
                let x = self.operand(0)?;
                self.batch_norm(x, epsilon, true)?
            }
            (Kind::ConvNorm { add, relu }, &[conv, norm, ref rest @ ..]) => {
                let skip = add.then(|| {
                    let between = self.network.graph.nodes[norm].output();
                    self.turn_to(rest[0]);
                    self.operand(usize::from(self.node.input(0) == Some(between)))
                });
                self.conv_norm(conv, norm, skip.transpose()?, relu)?
            }
            (Kind::Linear, &[product, sum]) => {
                self.turn_to(product);
                let between = self.node.output();
                let (x, weights) = (self.operand(0)?, self.operand(1)?);
                self.turn_to(sum);
                let bias = self.operand(usize::from(self.node.input(0) == Some(between)))?;
                linear::linear(x, weights, Some(bias))
            }
            (Kind::Gelu, &[scaled, ..]) => {
                self.turn_to(scaled);
                let x = self.operand(0)?;
                function(x, Function::Gelu)
            }
            (Kind::Attention { factor }, &[scores, .., last]) => {
                self.turn_to(scores);
                let (q, k) = (self.operand(0)?, self.operand(1)?);
                self.turn_to(last);
                let v = self.operand(1)?;
                linear::attention(q, k, v, factor)
            }
            _ => unreachable!("a fusion has the nodes of its kind"),
        };
        Ok(vec![result.into()])
    }

    /// Makes another node of a fusion the one whose operands are read.
    fn turn_to(&mut self, index: usize) -> &Node {
        (self.index, self.node) = (index, &self.network.graph.nodes[index]);
        self.node
    }

    fn compute(&mut self) -> Result<Vec<Datum>, Error> {
        if let Op::Opaque(opaque) = &self.node.op {
            return Err(self.unsupported(opaque.why.clone()));
        }
        if self.is_for_the_host() {
            return self.on_host();
        }
        if let Some(nothing) = self.nothing()? {
            return Ok(nothing);
        }
        match &self.node.op {
            Op::Recurrent(recurrent) => {
                let x = self.operand(0)?;
                self.recurrent(recurrent, x)
            }
            Op::TopK { axis, k, largest } => {
                let x = self.operand(0)?;
                self.top(x, *axis, *k, *largest)
            }
            Op::Split { .. } => {
                let x = self.operand(0)?;
                self.moved(x)
            }
            _ => Ok(vec![self.float()?.into()]),
        }
    }

    /// Results without elements: burn's operators want some.
    fn nothing(&self) -> Result<Option<Vec<Datum>>, Error> {
        let shapes = self.result_shapes();
        if shapes.iter().any(|shape| !shape.contains(&0)) {
            return Ok(None);
        }
        let dtypes = self.node.outputs.iter().map(|&id| self.network.graph.value(id).dtype);
        let empty = |(dtype, shape): (DType, Vec<usize>)| match dtype.is_float() {
            true => self.network.upload(&HostTensor::f32(shape, vec![]), self.mode).map(Datum::Float),
            false => Ok(Datum::Host(Arc::new(HostTensor::new(shape, host::Numbers::Whole(vec![]).into_data(dtype))))),
        };
        dtypes.zip(shapes).map(empty).collect::<Result<_, _>>().map(Some)
    }

    /// Whether nothing of it is computed on the device: no operand is a float, or the result is none.
    fn is_for_the_host(&self) -> bool {
        let graph = &self.network.graph;
        let float = |id: &ValueId| graph.value(*id).dtype.is_float();
        let operands = || self.node.inputs.iter().flatten();
        !graph.value(self.node.output()).dtype.is_float()
            || !operands().any(float)
            || matches!(self.node.op, Op::OneHot { .. } | Op::Dequantize { .. })
            || (matches!(self.node.op, Op::Reduce { .. }) && self.shape_of(0).is_some_and(|s| s.contains(&0)))
    }

    fn on_host(&mut self) -> Result<Vec<Datum>, Error> {
        let operands: Vec<Option<Arc<HostTensor>>> = (0..self.node.inputs.len())
            .map(|i| self.node.input(i).map(|_| self.host(i)).transpose())
            .collect::<Result<_, _>>()?;
        let operands: Vec<Option<&HostTensor>> = operands.iter().map(Option::as_deref).collect();
        let dtypes = self.node.outputs.iter().map(|&id| self.network.graph.value(id).dtype);
        let results: Vec<(DType, Vec<usize>)> = dtypes.zip(self.result_shapes()).collect();
        let computed = host::compute(&self.node.op, &operands, &results).map_err(|why| self.unsupported(why))?;
        let placed = |tensor: HostTensor| match tensor.dtype().is_float() {
            true => self.network.upload(&tensor, self.mode).map(Datum::Float),
            false => Ok(Datum::Host(Arc::new(tensor))),
        };
        computed.into_iter().map(placed).collect()
    }

    /// The largest or smallest along an axis: chosen on the host, taken on the device.
    fn top(&mut self, x: Value, axis: usize, k: usize, largest: bool) -> Result<Vec<Datum>, Error> {
        let shape = self.output_shape();
        let (positions, indices) = host::top(&x.to_host()?, axis, k, largest);
        let count = x.shape().iter().product();
        let positions = positions.into_iter().map(|i| i as i64).collect();
        let values = movement::select(x.reshape(&[count]), 0, positions).reshape(&shape);
        Ok(vec![values.into(), Datum::Host(Arc::new(HostTensor::i64(shape, indices)))])
    }

    /// A node with one result, a float.
    fn float(&mut self) -> Result<Value, Error> {
        let node = self.node;
        if let Op::Where = node.op {
            return self.chosen();
        }
        if let Op::Cast { .. } = node.op {
            return self.float_or_converted(0);
        }
        let x = self.operand(0)?;
        Ok(match &node.op {
            Op::Conv(conv) => self.conv(conv, x)?,
            Op::Gemm { alpha, beta, trans_a, trans_b } => self.gemm(x, (*alpha, *beta), *trans_a, *trans_b)?,
            Op::MatMul => linear::matmul(x, self.operand(1)?),
            Op::BatchNormalization { epsilon } => self.batch_norm(x, *epsilon, false)?,
            Op::Relu => function(x, Function::Relu),
            Op::Clip { min, max } => function(x, Function::Clip { min: *min, max: *max }),
            Op::LeakyRelu { alpha } => function(x, Function::LeakyRelu { alpha: *alpha }),
            Op::Sigmoid => function(x, Function::Sigmoid),
            Op::Tanh => function(x, Function::Tanh),
            Op::HardSwish => function(x, Function::HardSwish),
            Op::HardSigmoid { alpha, beta } => function(x, Function::HardSigmoid { alpha: *alpha, beta: *beta }),
            Op::Unary(Unary::Gelu { tanh }) => function(x, if *tanh { Function::GeluTanh } else { Function::Gelu }),
            Op::Add => self.basic(x, Dispatch::float_add)?,
            Op::Sub => self.basic(x, Dispatch::float_sub)?,
            Op::Mul => self.basic(x, Dispatch::float_mul)?,
            Op::Div => self.basic(x, Dispatch::float_div)?,
            Op::Concat { axis } => {
                let mut parts = vec![x.into_dispatch()];
                for i in 1..node.inputs.len() {
                    parts.push(self.operand(i)?.into_dispatch());
                }
                Value::from_dispatch(Dispatch::float_cat(parts, *axis))
            }
            Op::MaxPool(pool) => self.max_pool(pool, x)?,
            Op::AveragePool(pool) => self.average_pool(pool, x)?,
            Op::GlobalAveragePool => {
                let axes: Vec<usize> = (2..x.shape().len()).collect();
                pooling::mean(x, &axes)
            }
            Op::GlobalMaxPool => {
                let axes = 2..x.shape().len();
                axes.fold(x, |x, axis| x.map(|t| Dispatch::float_max_dim(t, axis)))
            }
            Op::ReduceMean { axes, keepdims } => {
                let out = self.output_shape();
                let reduced = pooling::mean(x, axes);
                if *keepdims { reduced } else { reduced.reshape(&out) }
            }
            Op::Flatten { .. } | Op::Reshape { .. } | Op::Squeeze { .. } | Op::Unsqueeze { .. } => {
                x.reshape(&self.output_shape())
            }
            Op::Transpose { perm } => x.map(|t| Dispatch::float_permute(t, perm)),
            Op::Pad { pads, mode } => self.pad(x, pads, *mode)?,
            Op::Softmax { axis } => normalisation::softmax(x, *axis, false),
            Op::LogSoftmax { axis } => normalisation::softmax(x, *axis, true),
            Op::Dropout | Op::Identity => x,
            Op::Gather { axis } => self.gather(x, *axis)?,
            Op::Slice { starts, ends, axes, steps } if steps.iter().all(|&s| s > 0) => {
                let mut slices = vec![Slice::full(); x.shape().len()];
                for i in 0..axes.len() {
                    slices[axes[i]] = Slice::new(starts[i] as isize, Some(ends[i] as isize), steps[i] as isize);
                }
                match self.output_shape().contains(&0) {
                    true => self.moved(x)?.remove(0).into_float()?,
                    false => x.map(|t| Dispatch::float_slice(t, &slices)),
                }
            }
            Op::Unary(unary) => {
                let shape = x.shape();
                let y = elementwise::unary(*unary, x.flattened());
                Value::flat(y.ok_or_else(|| self.unsupported("it is not a function of floats"))?, &shape)
            }
            Op::Binary(binary) => self.binary(*binary, x)?,
            Op::Variadic(variadic) => self.variadic(*variadic, x)?,
            Op::Reduce { reduction, axes, .. } => {
                let out = self.output_shape();
                reduction::reduce(x, *reduction, axes).reshape(&out)
            }
            Op::CumSum { axis, exclusive, reverse } => reduction::cumulated(x, *axis, *exclusive, *reverse),
            Op::LayerNormalization { axis, epsilon } => self.layer_norm(x, *axis, *epsilon)?,
            Op::InstanceNormalization { epsilon } => {
                let channels = x.shape()[1];
                self.group_norm(x, channels, *epsilon)?
            }
            Op::GroupNormalization { groups, epsilon } => self.group_norm(x, *groups, *epsilon)?,
            Op::Lrn { size, alpha, beta, bias } => normalisation::lrn(x, *size, *alpha, *beta, *bias),
            Op::LpNormalization { axis, order } => normalisation::lp_norm(x, *axis, *order),
            Op::Expand { .. } => self.expand(x),
            Op::Resize(resize) => resize::resize(x, resize, &self.output_shape()),
            Op::ConvTranspose(transposed) => self.conv_transpose(transposed, x)?,
            Op::Trilu { upper, k } => self.triangle(x, *upper, *k),
            Op::Slice { .. }
            | Op::Tile { .. }
            | Op::GatherElements { .. }
            | Op::GatherNd { .. }
            | Op::DepthToSpace { .. }
            | Op::SpaceToDepth { .. } => self.moved(x)?.remove(0).into_float()?,
            Op::Where
            | Op::Cast { .. }
            | Op::ArgExtreme { .. }
            | Op::OneHot { .. }
            | Op::ConvInteger(_)
            | Op::MatMulInteger
            | Op::Quantize { .. }
            | Op::Dequantize { .. }
            | Op::TopK { .. }
            | Op::Split { .. }
            | Op::Recurrent(_)
            | Op::Opaque(_) => unreachable!("handled before"),
        })
    }

    fn result_shapes(&self) -> Vec<Vec<usize>> {
        self.node.outputs.iter().map(|&id| shape_at(&self.network.graph.value(id).shape, self.batch)).collect()
    }

    fn output_shape(&self) -> Vec<usize> {
        shape_at(&self.network.graph.value(self.node.output()).shape, self.batch)
    }
}

type Burn = burn::backend::DispatchTensor;

fn zip(a: Value, b: Value, f: impl FnOnce(Burn, Burn) -> Burn) -> Value {
    Value::from_dispatch(f(a.into_dispatch(), b.into_dispatch()))
}

/// Gives both operands the same rank, with ones in front: ONNX broadcasts from the right, burn wants equal ranks.
fn align(a: Value, b: Value) -> (Value, Value) {
    let rank = a.shape().len().max(b.shape().len());
    let lift = |v: Value| {
        let shape = v.shape();
        let missing = rank - shape.len();
        if missing == 0 { v } else { v.reshape(&[vec![1; missing], shape].concat()) }
    };
    (lift(a), lift(b))
}

fn scaled(v: Value, factor: f32) -> Value {
    if factor == 1.0 { v } else { v.map(|t| Dispatch::float_mul_scalar(t, factor.into())) }
}

fn padded(x: Value, begin: [usize; 2], end: [usize; 2], value: f32) -> Value {
    let x = Tensor::<4>::from_dispatch(x.into_dispatch());
    let grow = [(0, 0), (0, 0), (begin[0], end[0]), (begin[1], end[1])];
    Value::from_tensor(x.pad(grow, BurnPad::Constant(value)))
}

/// `[batch, channels, height, width]`, whatever the number of spatial axes.
fn as_images(shape: &[usize]) -> [usize; 4] {
    match *shape {
        [n, c] => [n, c, 1, 1],
        [n, c, l] => [n, c, 1, l],
        [n, c, h, ref rest @ ..] => [n, c, h, rest.iter().product()],
        _ => [shape.iter().product(), 1, 1, 1],
    }
}
