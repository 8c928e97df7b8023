//! Which channels go together.

use crate::graph::{Dim, Graph, Node, Op, ValueId, shape_text};

/// Channels that must stay equal in number wherever they appear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Named after the node that makes the channels.
    pub name: String,
    /// How many there are in the teacher.
    pub channels: usize,
    /// Whether the number may change; the network's own inputs and outputs may not.
    pub free: bool,
    /// A new number must be a multiple of this (the number of convolution groups that split the channels).
    pub multiple: usize,
}

/// A run of channels of a value, all of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Index into [`ChannelGroups::groups`].
    pub group: usize,
    /// How many elements of the axis each channel takes (more than one after a flatten of an image).
    pub repeat: usize,
}

/// The channel groups of a graph, and how the channel axis (axis 1) of each value is made of them.
#[derive(Clone, Debug)]
pub struct ChannelGroups {
    /// In the order their first channels are made.
    pub groups: Vec<Group>,
    /// Per value, the segments of axis 1 in order; empty for values without a channel axis.
    segments: Vec<Vec<Segment>>,
}

impl ChannelGroups {
    /// Walks the graph once, joining what must stay equal.
    pub fn find(graph: &Graph) -> ChannelGroups {
        let mut finder = Finder { graph, groups: vec![], parent: vec![], segments: vec![vec![]; graph.values.len()] };
        for &id in &graph.inputs {
            finder.make_fixed(id);
        }
        for node in &graph.nodes {
            finder.visit(node);
        }
        for &id in &graph.outputs {
            finder.freeze(id);
        }
        finder.finish()
    }

    /// The segments of a value's channel axis.
    pub fn segments(&self, id: ValueId) -> &[Segment] {
        &self.segments[id.index()]
    }

    /// The extent of a value's channel axis when the groups have these widths.
    pub fn extent(&self, id: ValueId, widths: &[usize]) -> usize {
        self.segments(id).iter().map(|s| widths[s.group] * s.repeat).sum()
    }

    /// The teacher's own widths.
    pub fn widths(&self) -> Vec<usize> {
        self.groups.iter().map(|g| g.channels).collect()
    }
}

struct Finder<'a> {
    graph: &'a Graph,
    groups: Vec<Group>,
    /// Union-find over groups.
    parent: Vec<usize>,
    segments: Vec<Vec<Segment>>,
}

impl Finder<'_> {
    fn visit(&mut self, node: &Node) {
        let x = node.input(0);
        let out = node.output();
        match &node.op {
            Op::Conv(conv) => {
                let (Some(x), Some(Dim::Fixed(channels))) = (x, self.axis1(out)) else { return };
                let depthwise = conv.group > 1 && self.axis1(x) == Some(Dim::Fixed(conv.group));
                if depthwise && channels == conv.group {
                    return self.pass(x, out);
                }
                // A grouped convolution splits its operand evenly: both sides stay multiples of the group count.
                // (A depthwise one with a channel multiplier keeps its operand as it is.)
                self.make(node, out, channels, conv.group.max(1));
                if conv.group > 1 {
                    if depthwise {
                        self.freeze(x);
                        self.freeze(out);
                    } else {
                        self.constrain(x, conv.group);
                    }
                }
            }
            Op::Gemm { trans_a: false, .. } | Op::MatMul if self.is_linear(node) => {
                if let Some(Dim::Fixed(channels)) = self.axis1(out) {
                    self.make(node, out, channels, 1);
                }
            }
            Op::Add | Op::Sub | Op::Mul | Op::Div => self.join(node, out),
            Op::Concat { axis: 1 } => {
                let parts = node.inputs.iter().flatten().flat_map(|id| self.segments[id.index()].clone()).collect();
                let constant = node.inputs.iter().flatten().any(|&id| self.graph.constant(id).is_some());
                if constant {
                    node.inputs.iter().flatten().for_each(|&id| self.freeze(id));
                    self.make_fixed(out);
                } else {
                    self.segments[out.index()] = parts;
                }
            }
            Op::Concat { .. } => self.join(node, out),
            Op::Flatten { axis: 1 } | Op::Reshape { .. } => self.flatten(node, out),
            Op::BatchNormalization { .. }
            | Op::Relu
            | Op::Clip { .. }
            | Op::LeakyRelu { .. }
            | Op::Sigmoid
            | Op::Tanh
            | Op::HardSwish
            | Op::HardSigmoid { .. }
            | Op::MaxPool(_)
            | Op::AveragePool(_)
            | Op::GlobalAveragePool
            | Op::GlobalMaxPool
            | Op::Softmax { .. }
            | Op::LogSoftmax { .. }
            | Op::Dropout
            | Op::Identity
            | Op::Cast { .. } => self.pass_first(node, out),
            Op::ReduceMean { axes, .. } | Op::Squeeze { axes } if axes.iter().all(|&a| a > 1) => {
                self.pass_first(node, out)
            }
            Op::Unsqueeze { axes } if axes.iter().all(|&a| a > 1) => self.pass_first(node, out),
            Op::Transpose { perm } if perm.get(1) == Some(&1) => self.pass_first(node, out),
            Op::Pad { pads, .. } if pads.get(1) == Some(&0) && pads.get(1 + pads.len() / 2) == Some(&0) => {
                self.pass_first(node, out)
            }
            Op::Slice { axes, .. } if !axes.contains(&1) => self.pass_first(node, out),
            Op::Gemm { .. }
            | Op::MatMul
            | Op::ReduceMean { .. }
            | Op::Flatten { .. }
            | Op::Transpose { .. }
            | Op::Squeeze { .. }
            | Op::Unsqueeze { .. }
            | Op::Pad { .. }
            | Op::Gather { .. }
            | Op::Slice { .. }
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
            | Op::Opaque(_) => {
                // The channels lose their place on axis 1: they keep their number.
                node.inputs.iter().flatten().for_each(|&id| self.freeze(id));
                node.outputs.iter().for_each(|&id| self.make_fixed(id));
            }
        }
    }

    /// A product with constant weights, whose operand has its features on axis 1.
    fn is_linear(&self, node: &Node) -> bool {
        let constant = node.input(1).is_some_and(|w| self.graph.constant(w).is_some_and(|t| t.shape.len() == 2));
        constant && node.input(0).is_some_and(|x| self.graph.value(x).shape.len() == 2)
    }

    fn axis1(&self, id: ValueId) -> Option<Dim> {
        self.graph.value(id).shape.get(1).copied()
    }

    fn make(&mut self, node: &Node, out: ValueId, channels: usize, multiple: usize) {
        self.groups.push(Group { name: node.name.clone(), channels, free: true, multiple });
        self.parent.push(self.groups.len() - 1);
        self.segments[out.index()] = vec![Segment { group: self.groups.len() - 1, repeat: 1 }];
    }

    fn make_fixed(&mut self, id: ValueId) {
        let Some(Dim::Fixed(channels)) = self.axis1(id) else { return };
        let name = self.graph.value(id).name.clone();
        self.groups.push(Group { name, channels, free: false, multiple: 1 });
        self.parent.push(self.groups.len() - 1);
        self.segments[id.index()] = vec![Segment { group: self.groups.len() - 1, repeat: 1 }];
    }

    fn pass(&mut self, from: ValueId, to: ValueId) {
        self.segments[to.index()] = self.segments[from.index()].clone();
    }

    fn pass_first(&mut self, node: &Node, out: ValueId) {
        if let Some(x) = node.input(0) {
            self.pass(x, out);
        }
    }

    /// Operands that meet element by element: where both have the result's channels, these are the same channels.
    fn join(&mut self, node: &Node, out: ValueId) {
        let full = |id: &ValueId| {
            let (value, result) = (self.graph.value(*id), self.graph.value(out));
            value.data.is_none() && value.shape.len() == result.shape.len() && value.shape.get(1) == result.shape.get(1)
        };
        let operands: Vec<ValueId> = node.inputs.iter().flatten().filter(|id| full(id)).copied().collect();
        let Some(&first) = operands.first() else { return self.make_fixed(out) };
        self.pass(first, out);
        for &other in &operands[1..] {
            let (a, b) = (self.segments[first.index()].clone(), self.segments[other.index()].clone());
            let alike = a.len() == b.len() && a.iter().zip(&b).all(|(x, y)| self.size(x) == self.size(y));
            if alike {
                a.iter().zip(&b).for_each(|(x, y)| self.unite(x.group, y.group));
            } else {
                // The runs do not line up: neither side may change.
                self.freeze(first);
                self.freeze(other);
            }
        }
    }

    fn size(&self, segment: &Segment) -> (usize, usize) {
        (self.groups[segment.group].channels, segment.repeat)
    }

    /// `[batch, C, spatial…] → [batch, C · spatial]`; any other change of shape fixes the channels.
    fn flatten(&mut self, node: &Node, out: ValueId) {
        let Some(x) = node.input(0) else { return };
        let (from, to) = (&self.graph.value(x).shape, &self.graph.value(out).shape);
        let keeps_batch = from.first() == to.first();
        if keeps_batch && to.len() == 2 && from.len() >= 2 {
            let spatial: usize = from[2..].iter().map(|d| d.at(1)).product();
            let spread = |s: &Segment| Segment { repeat: s.repeat * spatial, ..*s };
            self.segments[out.index()] = self.segments[x.index()].iter().map(spread).collect();
        } else if keeps_batch && from.get(1) == to.get(1) {
            self.pass(x, out);
        } else {
            self.freeze(x);
            self.make_fixed(out);
        }
    }

    fn root(&self, mut group: usize) -> usize {
        while self.parent[group] != group {
            group = self.parent[group];
        }
        group
    }

    fn unite(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        let (keep, gone) = (a.min(b), a.max(b));
        if keep == gone {
            return;
        }
        self.parent[gone] = keep;
        self.groups[keep].free &= self.groups[gone].free;
        self.groups[keep].multiple = lcm(self.groups[keep].multiple, self.groups[gone].multiple);
    }

    fn freeze(&mut self, id: ValueId) {
        for segment in self.segments[id.index()].clone() {
            let root = self.root(segment.group);
            self.groups[root].free = false;
        }
    }

    fn constrain(&mut self, id: ValueId, multiple: usize) {
        for segment in self.segments[id.index()].clone() {
            let root = self.root(segment.group);
            self.groups[root].multiple = lcm(self.groups[root].multiple, multiple);
        }
    }

    /// Renumbers the groups that are left.
    fn finish(self) -> ChannelGroups {
        let roots: Vec<usize> = (0..self.groups.len()).filter(|&g| self.parent[g] == g).collect();
        let position = |g: usize| roots.binary_search(&self.root(g)).expect("every group has a root");
        let renumber = |s: &Segment| Segment { group: position(s.group), repeat: s.repeat };
        let segments = self.segments.iter().map(|v| v.iter().map(renumber).collect()).collect();
        ChannelGroups { groups: roots.iter().map(|&r| self.groups[r].clone()).collect(), segments }
    }
}

fn lcm(a: usize, b: usize) -> usize {
    let gcd = |mut a: usize, mut b: usize| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    a / gcd(a, b) * b
}

impl std::fmt::Display for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = if self.free { "" } else { ", fixed" };
        write!(f, "{} {}{state}", self.name, shape_text(&[Dim::Fixed(self.channels)]))
    }
}
