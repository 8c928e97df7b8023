//! Folding batch normalisation into the layer before it, and putting it back for training.
//!
//! At inference batch normalisation is `y = s·x + (β − s·μ)` with `s = γ / √(σ² + ε)`, per channel
//! (<https://arxiv.org/abs/1502.03167>, section 3.1), which a linear layer absorbs.

use crate::graph::{Conv, Dim, Graph, Names, Node, Op, Tensor, Value, ValueId};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The ε of inserted normalisations, as PyTorch's default.
const EPSILON: f32 = 1e-5;

/// Folds each BatchNormalization into the Conv or Gemm before it, if nothing else reads that layer's result and all
/// parameters are constant. Others stay.
pub fn fold_batch_norm(graph: &mut Graph) {
    let mut uses = Uses::of(graph);
    let mut folded = vec![false; graph.nodes.len()];
    for (index, is_folded) in folded.iter_mut().enumerate() {
        if let Some(fold) = fold(graph, &uses, index) {
            fold.apply(graph, &mut uses, index);
            *is_folded = true;
        }
    }
    let mut folded = folded.into_iter();
    graph.nodes.retain(|_| !folded.next().unwrap_or(false));
    super::drop_unused_values(graph);
}

/// Makes each BatchNormalization that is left, of images or signals with constant parameters, a convolution of one weight for
/// each channel: before the first layer, after a concatenation or a gate there is no layer that could absorb it.
pub fn convolve_batch_norm(graph: &mut Graph) {
    let mut names = graph.value_names();
    for index in 0..graph.nodes.len() {
        let Some((weight, bias)) = scale_and_shift(graph, &graph.nodes[index]) else { continue };
        let (channels, stem) = (bias.len(), graph.nodes[index].name.clone());
        let spatial = graph.value(graph.nodes[index].output()).shape.len() - 2;
        let extents = [vec![channels, 1], vec![1; spatial]].concat();
        let weight = graph.add_constant(names.fresh(&format!("{stem}.scale")), Tensor::f32(extents, weight));
        let bias = graph.add_constant(names.fresh(&format!("{stem}.shift")), Tensor::f32([channels], bias));
        let node = &mut graph.nodes[index];
        node.op = Op::Conv(Conv {
            kernel: vec![1; spatial],
            strides: vec![1; spatial],
            pads: vec![0; 2 * spatial],
            dilations: vec![1; spatial],
            group: channels,
        });
        node.inputs.truncate(1);
        node.inputs.extend([Some(weight), Some(bias)]);
        node.outputs.truncate(1);
    }
    super::drop_unused_values(graph);
}

/// What a normalisation multiplies each channel by, and then adds; `None` where that is not constant, or nothing has pixels.
fn scale_and_shift(graph: &Graph, norm: &Node) -> Option<(Vec<f32>, Vec<f32>)> {
    let Op::BatchNormalization { epsilon } = norm.op else { return None };
    let x = graph.value(norm.input(0)?);
    if x.shape.len() < 3 || x.quant.is_some() {
        return None;
    }
    let vector = |i: usize| plain(graph, norm.input(i)?)?.as_f32();
    let (gamma, beta, mean, variance) = (vector(1)?, vector(2)?, vector(3)?, vector(4)?);
    let scale = |c: usize| f64::from(gamma[c]) / (f64::from(variance[c]) + f64::from(epsilon)).sqrt();
    let shift = |c: usize| (f64::from(beta[c]) - f64::from(mean[c]) * scale(c)) as f32;
    let channels = 0..gamma.len();
    Some((channels.clone().map(|c| scale(c) as f32).collect(), channels.map(shift).collect()))
}

/// Who makes and who reads the values of a graph, kept up to date while normalisations are folded.
struct Uses {
    makers: HashMap<ValueId, usize>,
    /// How many nodes read a value.
    readers: HashMap<ValueId, usize>,
    names: Names,
}

impl Uses {
    fn of(graph: &Graph) -> Uses {
        let mut readers = HashMap::new();
        graph.nodes.iter().flat_map(operands).for_each(|id| *readers.entry(id).or_default() += 1);
        Uses { makers: graph.producers(), readers, names: graph.value_names() }
    }

    fn readers(&self, id: ValueId) -> usize {
        self.readers.get(&id).copied().unwrap_or(0)
    }
}

/// The values that a node reads, each once.
fn operands(node: &Node) -> Vec<ValueId> {
    let mut ids: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// New parameters of a layer that takes over the normalisation after it.
struct Fold {
    layer: usize,
    op: Op,
    weight: Tensor,
    bias: Vec<f32>,
}

fn fold(graph: &Graph, uses: &Uses, index: usize) -> Option<Fold> {
    let norm = &graph.nodes[index];
    let Op::BatchNormalization { epsilon } = norm.op else { return None };
    let x = norm.input(0)?;
    let layer = *uses.makers.get(&x)?;
    if uses.readers(x) != 1 || graph.outputs.contains(&x) || graph.value(x).quant.is_some() {
        return None;
    }
    let vector = |i: usize| graph.constant(norm.input(i)?)?.as_f32();
    let (gamma, beta, mean, variance) = (vector(1)?, vector(2)?, vector(3)?, vector(4)?);
    let scale: Vec<f64> =
        gamma.iter().zip(variance).map(|(&g, &v)| f64::from(g) / (f64::from(v) + f64::from(epsilon)).sqrt()).collect();
    let node = &graph.nodes[layer];
    let weight = plain(graph, node.input(1)?)?;
    let shape = &weight.shape;
    // Which axis of the weights is the output channel, and what the old bias is multiplied by.
    let (axis, factor, op) = match &node.op {
        Op::Conv(_) => (0, 1.0, node.op.clone()),
        Op::Gemm { alpha, beta, trans_a, trans_b } => {
            let op = Op::Gemm { alpha: *alpha, beta: 1.0, trans_a: *trans_a, trans_b: *trans_b };
            (if *trans_b { 0 } else { 1 }, f64::from(*beta), op)
        }
        _ => return None,
    };
    let channels = scale.len();
    let old = match node.input(2) {
        Some(id) => plain(graph, id)?.to_f32().into_owned(),
        None => vec![0.0],
    };
    if shape.get(axis) != Some(&channels) || !(old.len() == channels || old.len() == 1) {
        return None;
    }
    let inner: usize = shape[axis + 1..].iter().product();
    let scaled = |(i, &w): (usize, &f32)| (f64::from(w) * scale[(i / inner.max(1)) % channels]) as f32;
    let weight = Tensor::f32(shape.clone(), weight.as_f32()?.iter().enumerate().map(scaled).collect::<Vec<_>>());
    let shifted = |c: usize| {
        let before = factor * f64::from(old[c % old.len()]) - f64::from(mean[c]);
        (before * scale[c] + f64::from(beta[c])) as f32
    };
    Some(Fold { layer, op, weight, bias: (0..channels).map(shifted).collect() })
}

/// A constant of `f32` without parameters of quantization.
fn plain(graph: &Graph, id: ValueId) -> Option<&Tensor> {
    graph.constant(id).filter(|t| t.as_f32().is_some() && graph.value(id).quant.is_none())
}

impl Fold {
    fn apply(self, graph: &mut Graph, uses: &mut Uses, index: usize) {
        let norm = graph.nodes[index].clone();
        for id in operands(&norm) {
            uses.readers.entry(id).and_modify(|count| *count -= 1);
        }
        let weight = graph.nodes[self.layer].inputs[1];
        let bias = graph.nodes[self.layer].input(2);
        let bias_name = match weight.map(|id| graph.value(id).name.clone()) {
            Some(name) if name.ends_with("weight") => format!("{}bias", name.trim_end_matches("weight")),
            _ => format!("{}_bias", graph.nodes[self.layer].name),
        };
        let weight = replace(graph, uses, weight, self.weight, "weight");
        let bias = replace(graph, uses, bias, Tensor::f32([self.bias.len()], self.bias), &bias_name);
        norm.outputs.iter().for_each(|&id| _ = uses.makers.insert(id, self.layer));
        let layer = &mut graph.nodes[self.layer];
        layer.op = self.op;
        layer.inputs.truncate(1);
        layer.inputs.extend([Some(weight), Some(bias)]);
        layer.outputs = norm.outputs;
    }
}

/// Gives a constant new contents; one that other nodes read too is left to them, and a new one made.
fn replace(graph: &mut Graph, uses: &mut Uses, old: Option<ValueId>, tensor: Tensor, stem: &str) -> ValueId {
    match old {
        Some(id) if uses.readers(id) == 1 && !graph.outputs.contains(&id) => {
            let value = graph.value_mut(id);
            value.shape = tensor.shape.iter().map(|&n| Dim::Fixed(n)).collect();
            value.data = Some(Arc::new(tensor));
            id
        }
        _ => {
            let stem = old.map_or(stem.to_string(), |id| graph.value(id).name.clone());
            old.into_iter().for_each(|id| _ = uses.readers.entry(id).and_modify(|count| *count -= 1));
            let id = graph.add_constant(uses.names.fresh(&stem), tensor);
            uses.readers.insert(id, 1);
            id
        }
    }
}

/// What a layer's channels are seen to carry: a mean and a variance for each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    pub mean: Vec<f32>,
    pub variance: Vec<f32>,
}

/// Puts a BatchNormalization after each Conv that has none. The network computes the same as before; the result keeps its
/// name. `measured` says what the convolutions' results are seen to be: γ is their standard deviation, β their mean, so
/// that a training step, which normalises by its own batch, starts from the same numbers. Where nothing was measured γ is
/// 1, β the bias, which the convolution loses, the mean 0 and the variance 1 − ε.
pub fn insert_batch_norm(graph: &mut Graph, measured: &HashMap<ValueId, Moments>) {
    let normalised = normalised(graph);
    let (mut values, mut names) = (graph.value_names(), graph.node_names());
    let nodes = std::mem::take(&mut graph.nodes);
    for mut node in nodes {
        let norm = wants_norm(graph, &normalised, &node).map(|bias| {
            let moments = measured.get(&node.output()).cloned();
            norm_of(graph, (&mut values, &mut names), &mut node, bias, moments)
        });
        graph.nodes.push(node);
        graph.nodes.extend(norm);
    }
    super::drop_unused_values(graph);
}

/// Results that are normalised already.
fn normalised(graph: &Graph) -> HashSet<ValueId> {
    let norms = graph.nodes.iter().filter(|n| matches!(n.op, Op::BatchNormalization { .. }));
    norms.filter_map(|n| n.input(0)).collect()
}

/// The convolutions' results that [`insert_batch_norm`] would normalise.
pub fn to_be_normalised(graph: &Graph) -> Vec<ValueId> {
    let normalised = normalised(graph);
    let wanted = |node: &&Node| wants_norm(graph, &normalised, node).is_some();
    graph.nodes.iter().filter(wanted).map(Node::output).collect()
}

/// The bias of a convolution that a normalisation can follow.
fn wants_norm(graph: &Graph, normalised: &HashSet<ValueId>, node: &Node) -> Option<Vec<f32>> {
    let result = graph.value(*node.outputs.first()?);
    let normalised = normalised.contains(&node.output());
    let (Op::Conv(_), false, None) = (&node.op, normalised, &result.quant) else { return None };
    let Some(Dim::Fixed(channels)) = result.shape.get(1) else { return None };
    match node.input(2) {
        Some(id) => Some(plain(graph, id)?.to_f32().into_owned()),
        None => Some(vec![0.0; *channels]),
    }
}

/// The normalisation after a convolution, which loses its bias and makes a new value for it.
fn norm_of(
    graph: &mut Graph,
    (values, names): (&mut Names, &mut Names),
    conv: &mut Node,
    bias: Vec<f32>,
    moments: Option<Moments>,
) -> Node {
    let (channels, result, stem) = (bias.len(), conv.output(), conv.name.clone());
    let value = graph.value(result).clone();
    let name = values.fresh(&format!("{}_convolved", value.name));
    let convolved = graph.add_value(Value { name, ..value });
    let (scale, shift, mean, variance) = match moments {
        Some(Moments { mean, variance }) => {
            let scale = variance.iter().map(|v| (v + EPSILON).sqrt()).collect();
            let before = mean.iter().zip(&bias).map(|(m, b)| m - b).collect();
            (scale, mean, before, variance)
        }
        None => (vec![1.0; channels], bias, vec![0.0; channels], vec![1.0 - EPSILON; channels]),
    };
    let mut vector = |what: &str, data: Vec<f32>| {
        let name = values.fresh(&format!("{stem}.bn.{what}"));
        Some(graph.add_constant(name, Tensor::f32([channels], data)))
    };
    let inputs = vec![
        Some(convolved),
        vector("weight", scale),
        vector("bias", shift),
        vector("running_mean", mean),
        vector("running_var", variance),
    ];
    conv.inputs.truncate(2);
    conv.outputs = vec![convolved];
    let name = names.fresh(&format!("{stem}.bn"));
    Node { name, op: Op::BatchNormalization { epsilon: EPSILON }, inputs, outputs: vec![result] }
}
