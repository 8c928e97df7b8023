//! Which neighbouring nodes of a network are computed as one operator: found once, when the network is made.
//!
//! A fusion is a chain of nodes whose values in between have one reader each. It is computed where its last node
//! stands, because operands of later nodes may be made after the first one. A pass that is asked for a value in
//! between computes those nodes one by one.

use super::Mode;
use kdc_ir::graph::{Graph, Node, Op, Unary, ValueId};
use std::collections::HashMap;

/// What a fusion computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// Batch norm, ReLU.
    NormRelu,
    /// Convolution, batch norm, an addition or none, a ReLU or none; in training only, where it is by the batch's
    /// statistics: in other passes a batch norm is a scale and an offset.
    ConvNorm { add: bool, relu: bool },
    /// A product of rows with a matrix, and the bias added to it: how exporters write a linear layer on sequences.
    Linear,
    /// `x · (1 + erf(x / √2)) / 2`, written out.
    Gelu,
    /// A product, a factor if there is one, a softmax over the last axis, a product.
    Attention { factor: f32 },
}

/// Nodes that are computed as one.
#[derive(Clone, Debug)]
pub(super) struct Fusion {
    pub kind: Kind,
    /// Their indices, in order.
    pub nodes: Vec<usize>,
}

impl Fusion {
    pub fn last(&self) -> usize {
        *self.nodes.last().expect("a fusion has nodes")
    }
}

/// All fusions of a network.
#[derive(Debug, Default)]
pub(super) struct Plan {
    training: Vec<Fusion>,
    inference: Vec<Fusion>,
}

impl Plan {
    pub fn new(graph: &Graph) -> Plan {
        let finder = Finder { graph, readers: graph.consumers(), makers: graph.producers() };
        Plan { training: finder.all(true), inference: finder.all(false) }
    }

    /// By node the fusion that it is part of, in a pass that wants these values.
    pub fn by_node(&self, graph: &Graph, wanted: &[ValueId], mode: Mode) -> Vec<Option<&Fusion>> {
        let mut by_node = vec![None; graph.nodes.len()];
        for fusion in if matches!(mode, Mode::Train { .. }) { &self.training } else { &self.inference } {
            let inner = &fusion.nodes[..fusion.nodes.len() - 1];
            if inner.iter().all(|&i| !wanted.contains(&graph.nodes[i].output())) {
                fusion.nodes.iter().for_each(|&i| by_node[i] = Some(fusion));
            }
        }
        by_node
    }
}

struct Finder<'a> {
    graph: &'a Graph,
    readers: HashMap<ValueId, Vec<usize>>,
    makers: HashMap<ValueId, usize>,
}

impl Finder<'_> {
    fn all(&self, training: bool) -> Vec<Fusion> {
        let mut taken = vec![false; self.graph.nodes.len()];
        let mut fusions = Vec::new();
        for index in 0..self.graph.nodes.len() {
            let Some(fusion) = self.starting_at(index, training) else { continue };
            if fusion.nodes.iter().all(|&i| !taken[i]) {
                fusion.nodes.iter().for_each(|&i| taken[i] = true);
                fusions.push(fusion);
            }
        }
        fusions
    }

    fn starting_at(&self, index: usize, training: bool) -> Option<Fusion> {
        match self.graph.nodes[index].op {
            Op::Conv(ref conv) if training && conv.kernel.len() < 3 => self.conv_norm(index),
            Op::BatchNormalization { .. } => self.norm_relu(index),
            Op::MatMul => self.linear(index).or_else(|| self.attention(index)),
            Op::Mul | Op::Div => self.gelu(index),
            _ => None,
        }
    }

    fn conv_norm(&self, conv: usize) -> Option<Fusion> {
        let without_bias = self.graph.nodes[conv].input(2).is_none();
        let (norm, node) = self.next(conv)?;
        if !without_bias || !matches!(node.op, Op::BatchNormalization { .. }) {
            return None;
        }
        let mut nodes = vec![conv, norm];
        let (mut add, mut relu) = (false, false);
        if let Some((index, node)) = self.next(norm)
            && node.op == Op::Add
            && let Some(other) = self.other(node, self.graph.nodes[norm].output())
            && self.graph.constant(other).is_none()
            && self.graph.value(other).shape == self.graph.value(node.output()).shape
        {
            (add, _) = (true, nodes.push(index));
        }
        if let Some((index, node)) = self.next(*nodes.last()?)
            && node.op == Op::Relu
        {
            (relu, _) = (true, nodes.push(index));
        }
        Some(Fusion { kind: Kind::ConvNorm { add, relu }, nodes })
    }

    fn norm_relu(&self, norm: usize) -> Option<Fusion> {
        let (relu, node) = self.next(norm)?;
        (node.op == Op::Relu).then(|| Fusion { kind: Kind::NormRelu, nodes: vec![norm, relu] })
    }

    fn linear(&self, product: usize) -> Option<Fusion> {
        let (sum, node) = self.next(product)?;
        let weights = self.graph.value(self.graph.nodes[product].input(1)?);
        let bias = self.graph.value(self.other(node, self.graph.nodes[product].output())?);
        let columns = weights.shape.last()?;
        let fits = node.op == Op::Add && weights.shape.len() == 2 && bias.shape == [*columns];
        fits.then(|| Fusion { kind: Kind::Linear, nodes: vec![product, sum] })
    }

    fn attention(&self, scores: usize) -> Option<Fusion> {
        let mut nodes = vec![scores];
        let (mut index, mut node) = self.next(scores)?;
        let mut factor = 1.0;
        if let Some(by) = self.factor(node, self.graph.nodes[scores].output()) {
            (factor, _) = (by, nodes.push(index));
            (index, node) = self.next(index)?;
        }
        let rank = self.graph.value(node.output()).shape.len();
        if node.op != (Op::Softmax { axis: rank.checked_sub(1)? }) || rank != 4 {
            return None;
        }
        let weights = node.output();
        nodes.push(index);
        let (index, node) = self.next(index)?;
        nodes.push(index);
        let fits = node.op == Op::MatMul && node.input(0) == Some(weights);
        fits.then_some(Fusion { kind: Kind::Attention { factor }, nodes })
    }

    /// From the division by √2 on, in the two orders that exporters write.
    fn gelu(&self, scaled: usize) -> Option<Fusion> {
        let node = &self.graph.nodes[scaled];
        let x = node.input(0)?;
        if (self.factor(node, x)? - std::f32::consts::FRAC_1_SQRT_2).abs() > 1e-6 {
            return None;
        }
        let (erf, node) = self.next(scaled)?;
        let (sum, added) = self.next(erf)?;
        let one = self.number(self.other(added, node.output())?)?;
        if node.op != Op::Unary(Unary::Erf) || added.op != Op::Add || one != 1.0 {
            return None;
        }
        let (product, node) = self.next(sum)?;
        let by = self.other(node, added.output())?;
        let mut nodes = vec![scaled, erf, sum, product];
        if node.op != Op::Mul {
            return None;
        }
        if by == x {
            let (half, node) = self.next(product)?;
            nodes.push(half);
            return (self.factor(node, self.graph.nodes[product].output())? == 0.5)
                .then_some(Fusion { kind: Kind::Gelu, nodes });
        }
        let half = *self.makers.get(&by)?;
        let alone = self.next(half)?.0 == product;
        nodes.push(half);
        nodes.sort_unstable();
        (alone && self.factor(&self.graph.nodes[half], x)? == 0.5).then_some(Fusion { kind: Kind::Gelu, nodes })
    }

    /// By which number a node multiplies `x`.
    fn factor(&self, node: &Node, x: ValueId) -> Option<f32> {
        match node.op {
            Op::Mul => self.number(self.other(node, x)?),
            Op::Div if node.input(0) == Some(x) => self.number(node.input(1)?).map(|by| 1.0 / by),
            _ => None,
        }
    }

    /// The operand of two that is not `x`.
    fn other(&self, node: &Node, x: ValueId) -> Option<ValueId> {
        match node.inputs[..] {
            [Some(a), Some(b)] if a == x && b != x => Some(b),
            [Some(a), Some(b)] if b == x && a != x => Some(a),
            _ => None,
        }
    }

    /// A constant that is one number and does not train.
    fn number(&self, id: ValueId) -> Option<f32> {
        let constant = self.graph.constant(id)?;
        (constant.shape.is_empty() && constant.dtype().is_float()).then(|| constant.to_f32()[0])
    }

    /// The one node that reads a node's one result, if nothing else needs that value as it is.
    fn next(&self, index: usize) -> Option<(usize, &Node)> {
        let node = &self.graph.nodes[index];
        let [out] = node.outputs[..] else { return None };
        let value = self.graph.value(out);
        match self.readers.get(&out)?[..] {
            [reader] if value.quant.is_none() && !self.graph.outputs.contains(&out) => {
                Some((reader, &self.graph.nodes[reader]))
            }
            _ => None,
        }
    }
}
