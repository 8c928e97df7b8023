//! What each operator says about the axes of its operands and results: the one place where coupling is known.

use super::axis::{Axis, BATCH, Book, known};
use kdc_ir::graph::{Graph, Node, Op, Reduction, Shape, ValueId, shape_at};

/// An operator that computes something across an axis: with fewer indices it computes something else, which is that of
/// the indices that are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Across {
    /// Index of the node.
    pub node: usize,
    /// Axis of its first operand.
    pub axis: usize,
}

/// Walks a graph once and states what is equal.
pub struct Coupler<'a> {
    pub(super) graph: &'a Graph,
    pub book: Book,
    /// Per value, its axes; empty before the value is met (and for values of rank 0).
    pub axes: Vec<Vec<Axis>>,
    pub across: Vec<Across>,
    /// The node at hand, for reasons.
    pub(super) why: String,
}

impl<'a> Coupler<'a> {
    /// Walks the graph.
    pub fn run(graph: &'a Graph) -> Coupler<'a> {
        let mut coupler = Coupler {
            graph,
            book: Book::default(),
            axes: vec![vec![]; graph.values.len()],
            across: vec![],
            why: String::new(),
        };
        for &id in &graph.inputs {
            coupler.axes[id.index()] = coupler.shape(id).iter().map(|&n| known(n)).collect();
        }
        for (index, node) in graph.nodes.iter().enumerate() {
            coupler.why = format!("'{}' ({})", node.name, node.op.name());
            for &id in node.inputs.iter().flatten() {
                coupler.meet(id);
            }
            let results = coupler.relate(index, node);
            for (&id, axes) in node.outputs.iter().zip(results) {
                coupler.axes[id.index()] = axes;
            }
        }
        for &id in &graph.outputs {
            coupler.meet(id);
            coupler.fix(id, &format!("the network's output '{}' keeps its extents", graph.value(id).name));
        }
        coupler
    }

    /// Looks at all axes until nothing more is found that must stay: from then on, no look changes what another one says.
    pub fn settle(&mut self) {
        loop {
            let before = self.book.fixes();
            for axis in self.axes.iter().flatten() {
                self.book.resolve(axis);
            }
            if self.book.fixes() == before {
                return;
            }
        }
    }

    /// Extents with the batch as [`BATCH`].
    pub(super) fn shape(&self, id: ValueId) -> Vec<usize> {
        shape_at(&self.graph.value(id).shape, BATCH)
    }

    /// The axes of a constant are independent until an operator says more; indices are not cut.
    fn meet(&mut self, id: ValueId) {
        if !self.axes[id.index()].is_empty() {
            return;
        }
        let float = self.graph.value(id).dtype.is_float();
        let shape = self.shape(id);
        self.axes[id.index()] = shape.iter().map(|&n| if float { self.book.fresh(n) } else { known(n) }).collect();
    }

    pub(super) fn of(&self, id: ValueId) -> Vec<Axis> {
        self.axes[id.index()].clone()
    }

    fn fix(&mut self, id: ValueId, why: &str) {
        for axis in self.of(id) {
            self.book.fix(&axis, why);
        }
    }

    /// Results whose extents are known and stay.
    fn stay(&self, node: &Node) -> Vec<Vec<Axis>> {
        let axes = |&id: &ValueId| self.shape(id).iter().map(|&n| known(n)).collect();
        node.outputs.iter().map(axes).collect()
    }

    /// The axes of each result.
    fn relate(&mut self, index: usize, node: &Node) -> Vec<Vec<Axis>> {
        let x = node.input(0).map(|id| self.of(id)).unwrap_or_default();
        let operand = |s: &Self, i: usize| node.input(i).map(|id| s.of(id));
        match &node.op {
            Op::Conv(conv) => vec![self.conv(node, &x, conv.group)],
            Op::ConvTranspose(conv) => vec![self.conv_transpose(node, &x, conv.conv.group)],
            Op::Gemm { trans_a, trans_b, .. } => {
                let Some(w) = operand(self, 1) else { return self.stay(node) };
                let (m, k) = if *trans_a { (&x[1], &x[0]) } else { (&x[0], &x[1]) };
                let (k2, n) = if *trans_b { (&w[1], &w[0]) } else { (&w[0], &w[1]) };
                self.book.unify(k, k2, &self.why);
                let result = vec![m.clone(), n.clone()];
                match operand(self, 2) {
                    Some(c) => vec![self.broadcast(&[
                        (result, self.shape(node.output())),
                        (c, self.shape(node.inputs[2].expect("it is there"))),
                    ])],
                    None => vec![result],
                }
            }
            Op::MatMul => vec![self.matmul(node)],
            Op::BatchNormalization { .. } => {
                for i in 1..5 {
                    self.along(node, i, x.get(1));
                }
                vec![x]
            }
            Op::InstanceNormalization { .. } => {
                (1..3).for_each(|i| self.along(node, i, x.get(1)));
                vec![x]
            }
            Op::GroupNormalization { groups, .. } => {
                (1..3).for_each(|i| self.along(node, i, x.get(1)));
                if let Some(channels) = x.get(1) {
                    let extent = self.shape(node.inputs[0].expect("it has an operand"))[1];
                    let parts = self.book.split(channels, &[*groups, extent / groups], &self.why);
                    self.book.fix(&parts[0], &format!("'{}' normalises {groups} groups of channels", node.name));
                    self.across.push(Across { node: index, axis: 1 });
                }
                vec![x]
            }
            Op::LayerNormalization { axis, .. } => {
                for (place, at) in (*axis..x.len()).enumerate() {
                    for i in 1..3 {
                        if let Some(own) = operand(self, i).and_then(|o| o.get(place).cloned()) {
                            self.book.unify(&own, &x[at], &self.why);
                        }
                    }
                    self.across.push(Across { node: index, axis: at });
                }
                vec![x]
            }
            Op::Softmax { axis } | Op::LogSoftmax { axis } => {
                self.across.push(Across { node: index, axis: *axis });
                vec![x]
            }
            Op::Lrn { .. } => {
                self.across.push(Across { node: index, axis: 1 });
                vec![x]
            }
            Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Binary(_) | Op::Variadic(_) | Op::Where => {
                let operands: Vec<(Vec<Axis>, Vec<usize>)> =
                    node.inputs.iter().flatten().map(|&id| (self.of(id), self.shape(id))).collect();
                vec![self.broadcast(&operands)]
            }
            Op::Expand { .. } => {
                let from = self.shape(node.inputs[0].expect("it has an operand"));
                let to = self.shape(node.output());
                let missing = to.len() - from.len();
                let mut result = vec![];
                for (d, &extent) in to.iter().enumerate() {
                    let kept = d >= missing && from[d - missing] == extent;
                    // All places of a repeated element are alike: there may be any number of them.
                    result.push(if kept { x[d - missing].clone() } else { self.book.fresh(extent) });
                }
                vec![result]
            }
            Op::Concat { axis } => {
                let operands: Vec<Vec<Axis>> = node.inputs.iter().flatten().map(|&id| self.of(id)).collect();
                let mut result = x;
                for other in &operands[1..] {
                    for d in (0..result.len()).filter(|d| d != axis) {
                        self.book.unify(&result[d], &other[d], &self.why);
                    }
                }
                result[*axis] = operands.iter().flat_map(|o| o[*axis].clone()).collect();
                vec![result]
            }
            Op::Split { axis, sizes } => {
                let parts = self.book.parts(&x[*axis], sizes, &self.why);
                let with = |part: Axis| {
                    let mut result = x.clone();
                    result[*axis] = part;
                    result
                };
                parts.into_iter().map(with).collect()
            }
            Op::Slice { starts, ends, axes, steps } => {
                let shape = self.shape(node.inputs[0].expect("it has an operand"));
                let mut result = x;
                for i in 0..axes.len() {
                    let (axis, extent) = (axes[i], shape[axes[i]]);
                    let (from, to) = (starts[i].max(0) as usize, ends[i].max(0) as usize);
                    result[axis] = if steps[i] == 1 && from < to && to <= extent && extent < BATCH {
                        let sizes = [from, to - from, extent - to];
                        let parts: Vec<usize> = sizes.into_iter().filter(|&n| n > 0).collect();
                        let cut = self.book.parts(&result[axis], &parts, &self.why);
                        cut[usize::from(from > 0)].clone()
                    } else {
                        self.book.fix(&result[axis], &format!("'{}' takes some of them", node.name));
                        known(self.shape(node.output())[axis])
                    };
                }
                vec![result]
            }
            Op::Flatten { .. } | Op::Reshape { .. } => vec![self.reshape(node, &x)],
            Op::Squeeze { axes } => {
                vec![(0..x.len()).filter(|d| !axes.contains(d)).map(|d| x[d].clone()).collect()]
            }
            Op::Unsqueeze { axes } => {
                let mut source = x.into_iter();
                let rank = self.shape(node.output()).len();
                let place = |d: usize| if axes.contains(&d) { known(1) } else { source.next().unwrap_or(known(1)) };
                vec![(0..rank).map(place).collect()]
            }
            Op::Transpose { perm } => vec![perm.iter().map(|&p| x[p].clone()).collect()],
            Op::ReduceMean { axes, keepdims } => vec![self.reduce(index, node, x, axes, *keepdims, true)],
            Op::Reduce { reduction, axes, keepdims } => {
                // Zeros add nothing to a sum.
                let neutral =
                    matches!(reduction, Reduction::Sum | Reduction::L1 | Reduction::L2 | Reduction::SumSquare);
                vec![self.reduce(index, node, x, axes, *keepdims, !neutral)]
            }
            Op::MaxPool(_) | Op::AveragePool(_) => {
                x[2..].iter().for_each(|axis| self.book.fix(axis, "a window slides over it"));
                vec![self.spatial(node, x)]
            }
            Op::GlobalAveragePool | Op::GlobalMaxPool => vec![self.spatial(node, x)],
            Op::Resize(_) | Op::Tile { .. } | Op::Pad { .. } => {
                let (from, to) = (self.shape(node.inputs[0].expect("it has an operand")), self.shape(node.output()));
                let mut result = vec![];
                for d in 0..to.len() {
                    let touched = match &node.op {
                        Op::Pad { pads, .. } => pads[d] != 0 || pads[d + to.len()] != 0,
                        _ => from[d] != to[d],
                    };
                    result.push(if touched { self.grown(node, &x[d], from[d], to[d], d) } else { x[d].clone() });
                }
                vec![result]
            }
            Op::DepthToSpace { block, columns_first } => {
                let (extent, b2) = (self.shape(node.inputs[0].expect("it has an operand"))[1], block * block);
                let mut result: Vec<Axis> = self.shape(node.output()).iter().map(|&n| known(n)).collect();
                let order = if *columns_first { [extent / b2, b2] } else { [b2, extent / b2] };
                let parts = self.book.split(&x[1], &order, &self.why);
                let (channels, places) = if *columns_first { (0, 1) } else { (1, 0) };
                self.book.fix(&parts[places], &format!("'{}' makes pixels of them", node.name));
                result[1] = parts[channels].clone();
                vec![result]
            }
            Op::SpaceToDepth { block } => {
                let mut result: Vec<Axis> = self.shape(node.output()).iter().map(|&n| known(n)).collect();
                result[1] = self.book.product(&[known(block * block), x[1].clone()]);
                vec![result]
            }
            Op::Gather { axis } => {
                self.book.fix(&x[*axis], &format!("'{}' looks some of them up", node.name));
                let indices = operand(self, 1).unwrap_or_default();
                vec![[&x[..*axis], &indices, &x[axis + 1..]].concat()]
            }
            Op::Recurrent(op) => self.recurrent(node, &x, op),
            Op::Relu
            | Op::Clip { .. }
            | Op::LeakyRelu { .. }
            | Op::Sigmoid
            | Op::Tanh
            | Op::HardSwish
            | Op::HardSigmoid { .. }
            | Op::Unary(_)
            | Op::Dropout
            | Op::Identity
            | Op::Cast { .. } => vec![x],
            Op::LpNormalization { .. } => vec![x],
            Op::ArgExtreme { .. }
            | Op::CumSum { .. }
            | Op::TopK { .. }
            | Op::GatherElements { .. }
            | Op::GatherNd { .. }
            | Op::Trilu { .. }
            | Op::OneHot { .. }
            | Op::Quantize { .. }
            | Op::Dequantize { .. }
            | Op::ConvInteger(_)
            | Op::MatMulInteger
            | Op::Opaque(_) => {
                // Their results depend on where an index stands.
                let why = format!("'{}' ({}) depends on every index", node.name, node.op.name());
                node.inputs.iter().flatten().for_each(|&id| self.fix(id, &why));
                self.stay(node)
            }
        }
    }

    /// A vector operand with an entry for each index of `axis`.
    pub(super) fn along(&mut self, node: &Node, operand: usize, axis: Option<&Axis>) {
        if let (Some(id), Some(axis)) = (node.input(operand), axis) {
            let own = self.of(id);
            if let [own] = &own[..] {
                self.book.unify(own, axis, &self.why);
            }
        }
    }

    /// Operands that meet element by element; extents of 1 meet all.
    pub(super) fn broadcast(&mut self, operands: &[(Vec<Axis>, Vec<usize>)]) -> Vec<Axis> {
        let rank = operands.iter().map(|(axes, _)| axes.len()).max().unwrap_or(0);
        let mut result = vec![];
        for d in 0..rank {
            let at = |(axes, shape): &(Vec<Axis>, Vec<usize>)| {
                let place = (d + axes.len()).checked_sub(rank)?;
                (shape[place] != 1).then(|| axes[place].clone())
            };
            let met: Vec<Axis> = operands.iter().filter_map(at).collect();
            let Some((first, others)) = met.split_first() else {
                result.push(known(1));
                continue;
            };
            others.iter().for_each(|other| self.book.unify(first, other, &self.why));
            result.push(first.clone());
        }
        result
    }

    fn reshape(&mut self, node: &Node, x: &[Axis]) -> Vec<Axis> {
        let (from, to) = (self.shape(node.inputs[0].expect("it has an operand")), self.shape(node.output()));
        let mut result = vec![];
        let (mut i, mut o) = (0, 0);
        while i < from.len() || o < to.len() {
            // The smallest runs of axes with as many elements on either side.
            let (i0, o0) = (i, o);
            let (mut m, mut n) = (from.get(i).copied().unwrap_or(1), to.get(o).copied().unwrap_or(1));
            (i, o) = ((i + 1).min(from.len()), (o + 1).min(to.len()));
            while m != n {
                if m < n && i < from.len() {
                    m *= from[i];
                    i += 1;
                } else if o < to.len() {
                    n *= to[o];
                    o += 1;
                } else {
                    break;
                }
            }
            if i - i0 == 1 && o - o0 == 1 {
                result.push(x[i0].clone());
                continue;
            }
            let merged = self.book.product(&x[i0..i]);
            result.extend(match o - o0 {
                0 => vec![],
                1 => vec![merged],
                _ => self.book.split(&merged, &to[o0..o], &self.why),
            });
        }
        result
    }

    fn reduce(
        &mut self,
        index: usize,
        node: &Node,
        x: Vec<Axis>,
        axes: &[usize],
        keepdims: bool,
        across: bool,
    ) -> Vec<Axis> {
        if across {
            self.across.extend(axes.iter().map(|&axis| Across { node: index, axis }));
        }
        let kept = |d: &usize| keepdims || !axes.contains(d);
        let result: Vec<Axis> =
            (0..x.len()).filter(kept).map(|d| if axes.contains(&d) { known(1) } else { x[d].clone() }).collect();
        debug_assert_eq!(result.len(), self.shape(node.output()).len());
        result
    }
}

/// A shape with the batch taken back.
pub fn dims(extents: &[usize]) -> Shape {
    use kdc_ir::graph::Dim;
    let dim = |&n: &usize| match n {
        0 => Dim::Fixed(0),
        n if n.is_multiple_of(BATCH) => Dim::batches(n / BATCH),
        n => Dim::Fixed(n),
    };
    extents.iter().map(dim).collect()
}
