//! One pass through a network: an exhaustive match from operators to burn.

use super::network::{Mode, Network, Outputs};
use super::{Error, Value, ops};
use crate::graph::{Conv, Node, Op, PadMode, Pool, ValueId, shape_at};
use burn::backend::Dispatch;
use burn::backend::ops::{ActivationOps, FloatTensorOps};
use burn::tensor::module::{avg_pool2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions, PadMode as BurnPad};
use burn::tensor::{Int, Slice, Tensor, TensorData, activation};
use std::collections::HashMap;

pub(super) fn run(network: &Network, inputs: Vec<Value>, taps: &[ValueId], mode: Mode) -> Result<Outputs, Error> {
    let graph = &network.graph;
    let batch = inputs.first().and_then(|v| v.shape().first().copied()).unwrap_or(1);
    let wanted: Vec<ValueId> = graph.outputs.iter().chain(taps).copied().collect();
    // A value is dropped after its last reader, so that memory is what the network needs at once.
    let mut last_use: HashMap<ValueId, usize> = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().flatten().for_each(|&id| _ = last_use.insert(id, index));
    }
    wanted.iter().for_each(|&id| _ = last_use.insert(id, usize::MAX));
    let mut values: HashMap<ValueId, Value> = graph.inputs.iter().copied().zip(inputs).collect();
    let mut skip = vec![false; graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        if std::mem::take(&mut skip[index]) {
            continue;
        }
        let mut pass = Pass { network, node, index, values: &mut values, last_use: &last_use, mode, batch };
        // Batch norm and the ReLU that alone reads it are one operator: half the memory traffic.
        let relu = fused_relu(network, index, &wanted);
        let result = pass.compute(relu.is_some())?;
        let output = match relu {
            Some(next) => {
                skip[next] = true;
                graph.nodes[next].output()
            }
            None => node.output(),
        };
        if last_use.contains_key(&output) {
            values.insert(output, result);
        }
    }
    let get = |id: &ValueId| {
        let known = values.get(id).cloned().or_else(|| network.operand(*id, mode));
        let name = || graph.value(*id).name.clone();
        known.ok_or_else(|| Error::Input { wanted: format!("'{}'", name()), given: "nothing that makes it".into() })
    };
    let mut all = wanted.iter().map(get).collect::<Result<Vec<_>, _>>()?;
    let taps = all.split_off(graph.outputs.len());
    Ok(Outputs { outputs: all, taps })
}

/// The ReLU right after a batch norm that nothing else reads.
fn fused_relu(network: &Network, index: usize, wanted: &[ValueId]) -> Option<usize> {
    let nodes = &network.graph.nodes;
    let Op::BatchNormalization { .. } = nodes[index].op else { return None };
    let out = nodes[index].output();
    let next = nodes.get(index + 1)?;
    let alone = nodes.iter().filter(|n| n.inputs.contains(&Some(out))).count() == 1;
    (next.op == Op::Relu && next.input(0) == Some(out) && alone && !wanted.contains(&out)).then_some(index + 1)
}

/// One node of a pass.
struct Pass<'a> {
    network: &'a Network,
    node: &'a Node,
    index: usize,
    values: &'a mut HashMap<ValueId, Value>,
    last_use: &'a HashMap<ValueId, usize>,
    mode: Mode,
    batch: usize,
}

impl Pass<'_> {
    fn operand(&mut self, index: usize) -> Result<Value, Error> {
        let missing = || Error::Operand { node: self.node.name.clone(), index };
        let id = self.node.input(index).ok_or_else(missing)?;
        let again = self.node.inputs.iter().filter(|i| **i == Some(id)).count() > 1;
        let last = self.last_use.get(&id) == Some(&self.index) && !again;
        let value = if last { self.values.remove(&id) } else { self.values.get(&id).cloned() };
        value.or_else(|| self.network.operand(id, self.mode)).ok_or_else(missing)
    }

    fn unsupported(&self, why: impl Into<String>) -> Error {
        Error::Unsupported { node: self.node.name.clone(), op: self.node.op.name().into(), why: why.into() }
    }

    fn compute(&mut self, relu: bool) -> Result<Value, Error> {
        let node = self.node;
        let x = self.operand(0)?;
        Ok(match &node.op {
            Op::Conv(conv) => self.conv(conv, x)?,
            Op::Gemm { alpha, beta, trans_a, trans_b } => self.gemm(x, (*alpha, *beta), *trans_a, *trans_b)?,
            Op::MatMul => {
                let (a, b) = align(x, self.operand(1)?);
                zip(a, b, Dispatch::float_matmul)
            }
            Op::BatchNormalization { epsilon } => self.batch_norm(x, *epsilon, relu)?,
            Op::Relu => x.map(Dispatch::relu),
            Op::Clip { min, max } => clip(x, *min, *max),
            Op::LeakyRelu { alpha } => x.map(|t| Dispatch::leaky_relu(t, (*alpha).into())),
            Op::Sigmoid => x.map(Dispatch::sigmoid),
            Op::Tanh => x.map(Dispatch::float_tanh),
            Op::HardSwish => {
                let gate = hard_sigmoid(x.clone(), 1.0 / 6.0, 0.5);
                zip(x, gate, Dispatch::float_mul)
            }
            Op::HardSigmoid { alpha, beta } => hard_sigmoid(x, *alpha, *beta),
            Op::Add => self.binary(x, Dispatch::float_add)?,
            Op::Sub => self.binary(x, Dispatch::float_sub)?,
            Op::Mul => self.binary(x, Dispatch::float_mul)?,
            Op::Div => self.binary(x, Dispatch::float_div)?,
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
                mean(x, &axes)
            }
            Op::GlobalMaxPool => {
                let axes = 2..x.shape().len();
                axes.fold(x, |x, axis| x.map(|t| Dispatch::float_max_dim(t, axis)))
            }
            Op::ReduceMean { axes, keepdims } => {
                let out = self.output_shape();
                let reduced = mean(x, axes);
                if *keepdims { reduced } else { reduced.reshape(&out) }
            }
            Op::Flatten { .. } | Op::Reshape { .. } | Op::Squeeze { .. } | Op::Unsqueeze { .. } => {
                x.reshape(&self.output_shape())
            }
            Op::Transpose { perm } => x.map(|t| Dispatch::float_permute(t, perm)),
            Op::Pad { pads, mode } => self.pad(x, pads, *mode)?,
            Op::Softmax { axis } => softmax(x, *axis, false),
            Op::LogSoftmax { axis } => softmax(x, *axis, true),
            Op::Dropout | Op::Identity => x,
            Op::Cast { to } if to.is_float() => x,
            Op::Cast { to } => return Err(self.unsupported(format!("it makes {to}; only floats are computed here"))),
            Op::Gather { axis } => self.gather(x, *axis)?,
            Op::Slice { starts, ends, axes, steps } => {
                let mut slices = vec![Slice::full(); x.shape().len()];
                for i in 0..axes.len() {
                    slices[axes[i]] = onnx_slice(starts[i], ends[i], steps[i]);
                }
                x.map(|t| Dispatch::float_slice(t, &slices))
            }
            _ if !matches!(node.op, Op::Opaque(_)) => return Err(self.unsupported("it is not there yet")),
            Op::Opaque(opaque) => return Err(self.unsupported(opaque.why.clone())),
            _ => unreachable!("handled above"),
        })
    }

    fn output_shape(&self) -> Vec<usize> {
        shape_at(&self.network.graph.value(self.node.output()).shape, self.batch)
    }

    fn binary(
        &mut self,
        a: Value,
        f: fn(burn::backend::DispatchTensor, burn::backend::DispatchTensor) -> burn::backend::DispatchTensor,
    ) -> Result<Value, Error> {
        let (a, b) = align(a, self.operand(1)?);
        Ok(zip(a, b, f))
    }

    fn gemm(&mut self, a: Value, (alpha, beta): (f32, f32), trans_a: bool, trans_b: bool) -> Result<Value, Error> {
        let b = self.operand(1)?;
        let turned = |v: Value, turn: bool| if turn { v.map(|t| Dispatch::float_swap_dims(t, 0, 1)) } else { v };
        let product = zip(turned(a, trans_a), turned(b, trans_b), Dispatch::float_matmul);
        let product = scaled(product, alpha);
        match self.node.input(2) {
            None => Ok(product),
            Some(_) => {
                let (product, bias) = align(product, scaled(self.operand(2)?, beta));
                Ok(zip(product, bias, Dispatch::float_add))
            }
        }
    }

    fn conv(&mut self, conv: &Conv, x: Value) -> Result<Value, Error> {
        let weights = self.operand(1)?;
        let bias = self.node.input(2).map(|_| self.operand(2)).transpose()?;
        let out = self.output_shape();
        let flat = conv.kernel.len() == 1;
        if !flat && conv.kernel.len() != 2 {
            return Err(self.unsupported(format!("{}-D convolutions are not there yet", conv.kernel.len())));
        }
        // A 1-D convolution is a 2-D one of height 1.
        let lift = |v: Value| {
            let s = v.shape();
            if flat { v.reshape(&[s[0], s[1], 1, s[2]]) } else { v }
        };
        let pair = |v: &[usize], fill: usize| if flat { [fill, v[0]] } else { [v[0], v[1]] };
        let n = conv.kernel.len();
        let (begin, end) = (pair(&conv.pads[..n], 0), pair(&conv.pads[n..], 0));
        let pads = [0, 1].map(|d| (begin[d], end[d]));
        let (stride, dilation) = (pair(&conv.strides, 1), pair(&conv.dilations, 1));
        let options = ConvOptions::new_with_padding(stride, pads, dilation, conv.group);
        let y = ops::conv2d(lift(x).into_tensor()?, lift(weights).into_tensor()?, options);
        let y = Value::from_tensor(y).reshape(&out);
        let Some(bias) = bias else { return Ok(y) };
        let mut shape = vec![1; out.len()];
        shape[1] = out[1];
        Ok(zip(y, bias.reshape(&shape), Dispatch::float_add))
    }

    fn batch_norm(&mut self, x: Value, epsilon: f32, relu: bool) -> Result<Value, Error> {
        let (scale, bias) = (self.operand(1)?, self.operand(2)?);
        let shape = x.shape();
        let mut statistics = self.network.lock();
        let missing = || self.unsupported("its statistics are not constants");
        let running = statistics.get_mut(&self.index).ok_or_else(missing)?;
        let Mode::Train { momentum } = self.mode else {
            // y = x · a + b with a = γ / √(σ² + ε), b = β − μ · a
            let column = |v: Vec<f32>, like: &Value| {
                let device = like.clone().into_tensor::<1>().map(|t| t.device())?;
                Ok::<_, Error>(Value::from_tensor(Tensor::<1>::from_data(
                    TensorData::new(v.clone(), [v.len()]),
                    &device,
                )))
            };
            let inverse = running.variance.iter().map(|v| 1.0 / (v + epsilon).sqrt()).collect();
            let inverse = column(inverse, &scale)?;
            let mean = column(running.mean.clone(), &scale)?;
            let gain = zip(scale, inverse, Dispatch::float_mul);
            let offset = zip(bias, zip(mean, gain.clone(), Dispatch::float_mul), Dispatch::float_sub);
            let mut wide = vec![1; shape.len()];
            wide[1] = shape[1];
            let y = zip(x, gain.reshape(&wide), Dispatch::float_mul);
            let y = zip(y, offset.reshape(&wide), Dispatch::float_add);
            return Ok(if relu { y.map(Dispatch::relu) } else { y });
        };
        let images = as_images(&shape);
        let result = ops::batch_norm_train(
            x.reshape(&images).into_tensor()?,
            scale.into_tensor()?,
            bias.into_tensor()?,
            f64::from(epsilon),
            relu,
        );
        let count = (shape.iter().product::<usize>() / shape[1]) as f64;
        // The running variance is the unbiased one, as PyTorch keeps it.
        let unbiased = count / (count - 1.0).max(1.0);
        let blend = |old: &mut Vec<f32>, new: Tensor<1>, factor: f64| {
            let new = new.inner().into_data();
            for (old, new) in old.iter_mut().zip(new.iter::<f32>()) {
                *old = (momentum * f64::from(*old) + (1.0 - momentum) * f64::from(new) * factor) as f32;
            }
        };
        blend(&mut running.mean, result.mean, 1.0);
        blend(&mut running.variance, result.variance, unbiased);
        Ok(Value::from_tensor(result.output).reshape(&shape))
    }

    /// Pooling runs on burn's 2-D operators; the result is cut or grown to what shape inference says, so that the one
    /// definition of `ceil_mode` is there.
    fn max_pool(&mut self, pool: &Pool, x: Value) -> Result<Value, Error> {
        let (x, window) = self.window(pool, x, f32::NEG_INFINITY)?;
        let [kernel, strides, dilations] = window;
        let options = MaxPoolOptions {
            kernel_size: kernel,
            stride: strides,
            padding: [(0, 0); 2],
            dilation: dilations,
            ceil_mode: false,
        };
        let out = self.output_shape();
        Ok(Value::from_tensor(max_pool2d(x.into_tensor()?, options)).reshape(&out))
    }

    fn average_pool(&mut self, pool: &Pool, x: Value) -> Result<Value, Error> {
        let shape = x.shape();
        let (padded, [kernel, strides, dilations]) = self.window(pool, x, 0.0)?;
        if dilations != [1, 1] {
            return Err(self.unsupported("dilated average pooling is not there yet"));
        }
        let options = AvgPoolOptions {
            kernel_size: kernel,
            stride: strides,
            padding: [(0, 0); 2],
            ceil_mode: false,
            count_include_pad: true,
        };
        let out = self.output_shape();
        let device = padded.clone().into_tensor::<4>()?.device();
        let sums = Value::from_tensor(avg_pool2d(padded.into_tensor()?, options)).reshape(&out);
        // The window's mean over padding and all, times window / elements that count.
        let factors = counts(pool, &shape, &out);
        if factors.iter().all(|&f| f == 1.0) {
            return Ok(sums);
        }
        let mut wide = vec![1; out.len()];
        wide[2..].copy_from_slice(&out[2..]);
        let count = factors.len();
        let factors =
            Value::from_tensor(Tensor::<1>::from_data(TensorData::new(factors, [count]), &device)).reshape(&wide);
        Ok(zip(sums, factors, Dispatch::float_mul))
    }

    /// The operand as images, padded so that every window of the result lies inside, and the window's extents.
    fn window(&self, pool: &Pool, x: Value, fill: f32) -> Result<(Value, [[usize; 2]; 3]), Error> {
        let n = pool.kernel.len();
        if n != 1 && n != 2 {
            return Err(self.unsupported(format!("{n}-D pooling is not there yet")));
        }
        let pair = |v: &[usize], one: usize| if n == 1 { [one, v[0]] } else { [v[0], v[1]] };
        let (kernel, strides, dilations) = (pair(&pool.kernel, 1), pair(&pool.strides, 1), pair(&pool.dilations, 1));
        let begin = pair(&pool.pads[..n], 0);
        let (input, out) = (x.shape(), self.output_shape());
        let (input, out) = (pair(&input[2..], 1), pair(&out[2..], 1));
        let images = as_images(&x.shape());
        let needed = |d: usize| (out[d] - 1) * strides[d] + (kernel[d] - 1) * dilations[d] + 1;
        let end = [0, 1].map(|d| needed(d).saturating_sub(begin[d] + input[d]));
        let x = x.reshape(&images);
        let x = if begin == [0, 0] && end == [0, 0] { x } else { padded(x, begin, end, fill) };
        Ok((x, [kernel, strides, dilations]))
    }

    fn pad(&self, x: Value, pads: &[i64], mode: PadMode) -> Result<Value, Error> {
        let shape = x.shape();
        let rank = shape.len();
        let crop: Vec<Slice> = (0..rank)
            .map(|d| {
                let cut = |p: i64| usize::try_from(-p).unwrap_or(0);
                Slice::from(cut(pads[d])..shape[d] - cut(pads[d + rank]))
            })
            .collect();
        let x = if pads.iter().any(|&p| p < 0) { x.map(|t| Dispatch::float_slice(t, &crop)) } else { x };
        let grow: Vec<(usize, usize)> = (0..rank)
            .map(|d| (usize::try_from(pads[d]).unwrap_or(0), usize::try_from(pads[d + rank]).unwrap_or(0)))
            .collect();
        let mode = match mode {
            PadMode::Constant(value) => BurnPad::Constant(value),
            PadMode::Reflect => BurnPad::Reflect,
            PadMode::Edge => BurnPad::Edge,
        };
        pad_any(x, &grow, mode).ok_or_else(|| self.unsupported(format!("padding of rank {rank} is not there yet")))
    }

    fn gather(&mut self, x: Value, axis: usize) -> Result<Value, Error> {
        let id = self.node.input(1).ok_or_else(|| Error::Operand { node: self.node.name.clone(), index: 1 })?;
        let constant = self.network.graph.constant(id).and_then(|t| t.as_i64().map(<[i64]>::to_vec));
        let indices = constant.ok_or_else(|| self.unsupported("its indices are not constants"))?;
        let extent = x.shape()[axis] as i64;
        let indices: Vec<i64> = indices.iter().map(|&i| if i < 0 { i + extent } else { i }).collect();
        if indices.iter().any(|i| !(0..extent).contains(i)) {
            return Err(self.unsupported(format!("an index lies outside 0..{extent}")));
        }
        let count = indices.len();
        let device = Tensor::<1>::from_dispatch(x.clone().into_dispatch()).device();
        let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [count]), &device);
        let picked = x.map(|t| Dispatch::float_select(t, axis, indices.into_dispatch()));
        Ok(picked.reshape(&self.output_shape()))
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

fn clip(x: Value, min: f32, max: f32) -> Value {
    let x = if min > f32::NEG_INFINITY { x.map(|t| Dispatch::float_clamp_min(t, min.into())) } else { x };
    if max < f32::INFINITY { x.map(|t| Dispatch::float_clamp_max(t, max.into())) } else { x }
}

fn hard_sigmoid(x: Value, alpha: f32, beta: f32) -> Value {
    let line = x.map(|t| Dispatch::float_add_scalar(Dispatch::float_mul_scalar(t, alpha.into()), beta.into()));
    clip(line, 0.0, 1.0)
}

fn mean(x: Value, axes: &[usize]) -> Value {
    axes.iter().fold(x, |x, &axis| x.map(|t| Dispatch::float_mean_dim(t, axis)))
}

/// Over one axis of a tensor of any rank: seen as `[outer, axis, inner]`.
fn softmax(x: Value, axis: usize, log: bool) -> Value {
    let shape = x.shape();
    let (outer, inner): (usize, usize) = (shape[..axis].iter().product(), shape[axis + 1..].iter().product());
    let x = Tensor::<3>::from_dispatch(x.reshape(&[outer, shape[axis], inner]).into_dispatch());
    let y = if log { activation::log_softmax(x, 1) } else { activation::softmax(x, 1) };
    Value::from_tensor(y).reshape(&shape)
}

fn padded(x: Value, begin: [usize; 2], end: [usize; 2], value: f32) -> Value {
    let x = Tensor::<4>::from_dispatch(x.into_dispatch());
    let grow = [(0, 0), (0, 0), (begin[0], end[0]), (begin[1], end[1])];
    Value::from_tensor(x.pad(grow, BurnPad::Constant(value)))
}

fn pad_any(x: Value, grow: &[(usize, usize)], mode: BurnPad) -> Option<Value> {
    let x = x.into_dispatch();
    Some(match *grow {
        [a] => Value::from_tensor(Tensor::<1>::from_dispatch(x).pad([a], mode)),
        [a, b] => Value::from_tensor(Tensor::<2>::from_dispatch(x).pad([a, b], mode)),
        [a, b, c] => Value::from_tensor(Tensor::<3>::from_dispatch(x).pad([a, b, c], mode)),
        [a, b, c, d] => Value::from_tensor(Tensor::<4>::from_dispatch(x).pad([a, b, c, d], mode)),
        [a, b, c, d, e] => Value::from_tensor(Tensor::<5>::from_dispatch(x).pad([a, b, c, d, e], mode)),
        _ => return None,
    })
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

/// Per output position: elements of the window over elements that count.
fn counts(pool: &Pool, input: &[usize], output: &[usize]) -> Vec<f32> {
    let n = pool.kernel.len();
    let along = |d: usize| -> Vec<f64> {
        let (begin, end) = (pool.pads[d], pool.pads[d + n]);
        let size = input[d + 2];
        (0..output[d + 2])
            .map(|o| {
                let start = o * pool.strides[d];
                let inside = |k: &usize| {
                    let at = start + k;
                    let range = if pool.count_include_pad { 0..begin + size + end } else { begin..begin + size };
                    range.contains(&at)
                };
                pool.kernel[d] as f64 / (0..pool.kernel[d]).filter(inside).count().max(1) as f64
            })
            .collect()
    };
    let axes: Vec<Vec<f64>> = (0..n).map(along).collect();
    axes.into_iter()
        .fold(vec![1.0], |acc, axis| acc.iter().flat_map(|a| axis.iter().map(move |b| a * b)).collect::<Vec<f64>>())
        .into_iter()
        .map(|f| f as f32)
        .collect()
}

/// ONNX walks from `start` towards `end`; burn names a range and walks it backwards for a negative step.
fn onnx_slice(start: i64, end: i64, step: i64) -> Slice {
    if step > 0 {
        Slice::new(start as isize, Some(end as isize), step as isize)
    } else {
        Slice::new((end + 1) as isize, Some((start + 1) as isize), step as isize)
    }
}
