//! Which values are stored alike, and in which range.

use super::Range;
use super::params::{activation_params, is_zero};
use kdc_ir::graph::{DType, Graph, Node, Op, PadMode, QuantParams, Tensor, ValueId};
use std::collections::{HashMap, HashSet};

/// The share of a wider range that a value has to fill to be stored in all of it: it loses less than half a bit then. An
/// operand of a concatenation that has other readers needs no step of its own for that; a result that its operator bounds
/// saturates for no sample that calibration did not see.
const FILLED: f64 = 0.75;

/// Sets of values that share their parameters, because what is between them only moves or selects elements.
pub(super) struct Shared<'g> {
    graph: &'g Graph,
    parent: HashMap<ValueId, ValueId>,
    ranges: HashMap<ValueId, Range>,
    fixed: HashMap<ValueId, QuantParams>,
    /// Values with one reader that are not stored as some other value is.
    alone: HashSet<ValueId>,
}

/// What a softmax is stored as, whatever was seen of it: a one is exact, as in the attention to one token.
fn of_softmax() -> QuantParams {
    QuantParams { scale: vec![1.0 / 255.0], zero_point: vec![-128], axis: None, dtype: DType::I8 }
}

/// All that stored integers can stand for.
fn reach(params: &QuantParams) -> Range {
    Range { min: params.real(0, i8::MIN.into()), max: params.real(0, i8::MAX.into()) }
}

/// Values with one reader that are not stored as some other value is.
fn alone(graph: &Graph) -> HashSet<ValueId> {
    let consumers = graph.consumers();
    let made = graph.nodes.iter().filter(|node| {
        let own = matches!(node.op, Op::Softmax { .. } | Op::MaxPool(_) | Op::GlobalMaxPool | Op::Where);
        !(own || node.op.moves() || matches!(node.op, Op::Concat { .. } | Op::Pad { .. } | Op::Relu | Op::Clip { .. }))
    });
    let values = graph.inputs.iter().copied().chain(made.flat_map(|node| node.outputs.iter().copied()));
    let once = |id: &ValueId| consumers.get(id).is_some_and(|c| c.len() == 1) && !graph.outputs.contains(id);
    values.filter(once).collect()
}

/// What the results of an operator lie between, whatever its operand is.
fn bounds(op: &Op) -> Option<Range> {
    let (min, max) = match op {
        Op::Relu => (0.0, f32::INFINITY),
        Op::Clip { min, max } => (*min, *max),
        Op::Sigmoid | Op::HardSigmoid { .. } => (0.0, 1.0),
        Op::Tanh => (-1.0, 1.0),
        _ => return None,
    };
    Some(Range { min, max })
}

fn width(range: Range) -> f64 {
    f64::from(range.max.max(0.0)) - f64::from(range.min.min(0.0))
}

/// The constant table whose rows a node looks up.
pub(super) fn looked_up<'g>(graph: &'g Graph, node: &Node) -> Option<&'g Tensor> {
    let table = node.input(0).filter(|_| matches!(node.op, Op::Gather { .. }))?;
    graph.constant(table).filter(|t| t.dtype() == DType::F32)
}

/// The smallest range with zero that holds some numbers.
pub(super) fn range_of(values: &[f32]) -> Range {
    let (min, max) = values.iter().fold((0.0f32, 0.0f32), |(lo, hi), &v| (lo.min(v), hi.max(v)));
    Range { min, max }
}

impl<'g> Shared<'g> {
    /// Walks over a network whose values were seen in these ranges.
    pub fn new(graph: &'g Graph, ranges: &HashMap<ValueId, Range>) -> Shared<'g> {
        let (parent, fixed) = (HashMap::new(), HashMap::new());
        let mut shared = Shared { graph, parent, ranges: ranges.clone(), fixed, alone: alone(graph) };
        for node in &graph.nodes {
            shared.moved(node);
        }
        // Now each set has one value that all others are made of.
        for node in graph.nodes.iter().filter(|node| matches!(node.op, Op::Concat { .. } | Op::Pad { .. })) {
            let own = shared.range(node.output());
            for id in shared.computed(node) {
                if shared.fits(node, id, own) {
                    shared.unite(node.output(), id);
                }
            }
        }
        shared
    }

    /// The parameters of a value.
    pub fn params(&self, id: ValueId) -> QuantParams {
        let fixed = self.fixed.get(&self.root(id)).cloned();
        fixed.unwrap_or_else(|| activation_params(self.range(id)))
    }

    /// Whether a value is stored as zero on every sample.
    pub fn is_zero(&self, id: ValueId) -> bool {
        !self.fixed.contains_key(&self.root(id)) && is_zero(self.range(id))
    }

    fn range(&self, id: ValueId) -> Range {
        self.ranges.get(&self.root(id)).copied().unwrap_or(Range { min: 0.0, max: 0.0 })
    }

    /// The real operands that the network computes.
    fn computed(&self, node: &Node) -> Vec<ValueId> {
        let real = |id: &ValueId| self.graph.constant(*id).is_none() && self.graph.value(*id).dtype == DType::F32;
        node.inputs.iter().flatten().copied().filter(real).collect()
    }

    /// Operators whose result is stored as their one operand is, without a loss.
    fn moved(&mut self, node: &Node) {
        let out = node.output();
        if let Some(table) = looked_up(self.graph, node) {
            // What is looked up is stored as it lies in the table.
            let (root, whole) = (self.root(out), range_of(&table.to_f32()));
            let range = self.ranges.get(&root).map_or(whole, |seen| seen.hull(whole));
            self.ranges.insert(root, range);
            return;
        }
        if let Some(bounds) = bounds(&node.op) {
            let root = self.root(out);
            let seen = self.ranges.get_mut(&root).filter(|seen| width(**seen) >= FILLED * width(bounds));
            seen.into_iter().for_each(|seen| *seen = seen.hull(bounds));
        }
        match &node.op {
            Op::MaxPool(_) | Op::GlobalMaxPool => {
                self.computed(node).into_iter().for_each(|id| self.unite(out, id));
            }
            op if op.moves() => {
                let operand = self.computed(node).into_iter().find(|&id| node.input(0) == Some(id));
                operand.iter().for_each(|&id| node.outputs.iter().for_each(|&out| self.unite(out, id)));
            }
            Op::Softmax { .. } => {
                let root = self.root(out);
                self.fixed.insert(root, of_softmax());
            }
            Op::Relu | Op::Clip { .. } => self.saturated(node),
            Op::Concat { .. } | Op::Where | Op::Pad { .. } => {
                if let [id] = self.computed(node)[..]
                    && let Some(added) = self.added(node)
                {
                    let stored = self.fixed.get(&self.root(id)).map_or_else(|| self.range(id), reach);
                    if stored.hull(added) == stored.hull(Range { min: 0.0, max: 0.0 }) {
                        self.unite(out, id);
                    }
                }
            }
            _ => (),
        }
    }

    /// A clamp that nothing else reads the operand of: saturation does its work where the operand is stored as the result
    /// is, and no step is left of it.
    fn saturated(&mut self, node: &Node) {
        let (Some(x), out) = (node.input(0), node.output()) else { return };
        let Some(Range { min, max }) = bounds(&node.op) else { return };
        let Some(kept) = self.ranges.get(&self.root(out)).copied().filter(|_| self.alone.contains(&x)) else { return };
        if min <= 0.0 && max >= 0.0 && kept.min >= min && kept.max <= max && self.ranges.contains_key(&x) {
            self.ranges.remove(&x);
            self.unite(out, x);
        }
    }

    /// The range of the numbers that a node puts beside its operands; `None` for padding that repeats the operand.
    fn added(&self, node: &Node) -> Option<Range> {
        let constants = node.inputs.iter().flatten().filter_map(|&id| self.graph.constant(id));
        let mut range = Range { min: 0.0, max: 0.0 };
        for constant in constants.filter(|t| t.dtype() == DType::F32) {
            range = range.hull(range_of(&constant.to_f32()));
        }
        match node.op {
            Op::Pad { mode: PadMode::Constant(value), .. } => Some(range.hull(range_of(&[value]))),
            Op::Pad { .. } => None,
            _ => Some(range),
        }
    }

    /// Whether an operand is stored in the range of the whole result, rather than in its own, which takes a step to the
    /// result's. Nothing is lost where no other node reads it, and little where it fills most of the range.
    fn fits(&self, node: &Node, id: ValueId, result: Range) -> bool {
        let root = self.root(id);
        if self.fixed.contains_key(&root) {
            return false;
        }
        let member = |id: &ValueId| self.root(*id) == root;
        let other = |n: &&Node| !std::ptr::eq(*n, node) && !n.outputs.iter().any(&member);
        let mut others = self.graph.nodes.iter().filter(other);
        let alone = !others.any(|n| n.inputs.iter().flatten().any(&member)) && !self.graph.outputs.iter().any(&member);
        alone || width(self.range(id)) >= FILLED * width(result)
    }

    fn root(&self, mut id: ValueId) -> ValueId {
        while let Some(&parent) = self.parent.get(&id) {
            id = parent;
        }
        id
    }

    fn unite(&mut self, a: ValueId, b: ValueId) {
        let (a, b) = (self.root(a), self.root(b));
        if a == b {
            return;
        }
        let seen = [a, b].into_iter().filter_map(|id| self.ranges.get(&id).copied());
        if let Some(hull) = seen.reduce(Range::hull) {
            self.ranges.insert(b, hull);
        }
        if let Some(params) = self.fixed.remove(&a) {
            self.fixed.insert(b, params);
        }
        self.parent.insert(a, b);
    }
}
