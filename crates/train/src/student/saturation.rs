//! The activations that a quantizer took away.
//!
//! A quantized value holds what its integers reach, and nothing beyond. Quantizers know that, and remove the Relu or Clip
//! in front of one (ONNX Runtime's `quantize_static` does): saturation does its work. Without the integers the work has to
//! be done by an operator again.

use kdc_ir::graph::{DType, Graph, Node, Op, PadMode, Value, ValueId};
use std::collections::{HashMap, HashSet};

/// What a value is known to lie between.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    min: f32,
    max: f32,
}

const ANYTHING: Span = Span { min: f32::NEG_INFINITY, max: f32::INFINITY };

impl Span {
    fn hull(self, other: Span) -> Span {
        Span { min: self.min.min(other.min), max: self.max.max(other.max) }
    }

    fn within(self, bounds: Span) -> Span {
        let clamp = |v: f32| v.max(bounds.min).min(bounds.max);
        Span { min: clamp(self.min), max: clamp(self.max) }
    }
}

/// Puts a Clip at the range of the quantizer wherever values can leave it; a Relu or Clip takes the range in. Logits are
/// left alone unless all of them lie on one side of zero: there saturation only cuts off what calibration had not seen.
/// Values keep their names and parameters.
pub(super) fn restore_activations(graph: &mut Graph) {
    let logits = logits(graph);
    let mut known: HashMap<ValueId, Span> = HashMap::new();
    let mut names: HashSet<String> = graph.nodes.iter().map(|n| n.name.clone()).collect();
    let mut nodes = vec![];
    for id in graph.inputs.clone() {
        let Some((reach, _)) = reach(graph.value(id)) else { continue };
        let clipped = copy(graph, id, "clipped");
        let readers = graph.nodes.iter_mut().flat_map(|n| n.inputs.iter_mut().flatten());
        readers.filter(|read| **read == id).for_each(|read| *read = clipped);
        graph.outputs.iter_mut().filter(|out| **out == id).for_each(|out| *out = clipped);
        nodes.push(clip(graph, &mut names, reach, id, clipped));
        known.insert(clipped, reach);
    }
    for mut node in std::mem::take(&mut graph.nodes) {
        let span = span(graph, &node, &known);
        let out = node.output();
        let Some((reach, scale)) = reach(graph.value(out)).filter(|_| node.outputs.len() == 1) else {
            node.outputs.iter().for_each(|&id| _ = known.insert(id, span));
            nodes.push(node);
            continue;
        };
        let inside = span.min >= reach.min - scale && span.max <= reach.max + scale;
        let two_sided = reach.min < 0.0 && reach.max > 0.0;
        if inside || (two_sided && logits.contains(&out)) {
            known.insert(out, span);
            nodes.push(node);
            continue;
        }
        known.insert(out, span.within(reach));
        let own = match node.op {
            Op::Relu => Some(Span { min: 0.0, max: f32::INFINITY }),
            Op::Clip { min, max } if min <= max => Some(Span { min, max }),
            Op::Identity => Some(ANYTHING),
            _ => None,
        };
        if let Some(own) = own {
            let Span { min, max } = own.within(reach);
            node.op = Op::Clip { min, max };
            nodes.push(node);
            continue;
        }
        let before = copy(graph, out, "unclipped");
        node.outputs = vec![before];
        nodes.push(node);
        nodes.push(clip(graph, &mut names, reach, before, out));
    }
    graph.nodes = nodes;
}

/// What the integers of a value that the network computes reach, and their scale.
fn reach(value: &Value) -> Option<(Span, f32)> {
    let quant = value.quant.as_ref().filter(|q| q.scale.len() == 1 && q.dtype != DType::I32)?;
    let [low, high] = quant.bounds()?;
    let span = Span { min: quant.real(0, low), max: quant.real(0, high) };
    (value.data.is_none() && value.dtype == DType::F32).then_some((span, quant.scale[0]))
}

/// Outputs, and what only becomes them by a softmax or under other extents.
fn logits(graph: &Graph) -> HashSet<ValueId> {
    let consumers = graph.consumers();
    let mut logits: HashSet<ValueId> = graph.outputs.iter().copied().collect();
    for node in graph.nodes.iter().rev() {
        let passes = node.op.moves() || matches!(node.op, Op::Softmax { .. } | Op::LogSoftmax { .. });
        if let Some(x) = node.input(0).filter(|_| passes && logits.contains(&node.output()))
            && consumers.get(&x).is_some_and(|readers| readers.len() == 1)
        {
            logits.insert(x);
        }
    }
    logits
}

/// What the results of a node lie between.
fn span(graph: &Graph, node: &Node, known: &HashMap<ValueId, Span>) -> Span {
    let of = |id: ValueId| match graph.constant(id) {
        Some(tensor) if tensor.dtype() == DType::F32 => {
            let none = Span { min: f32::INFINITY, max: f32::NEG_INFINITY };
            tensor.to_f32().iter().fold(none, |span, &v| span.hull(Span { min: v, max: v }))
        }
        _ => known.get(&id).copied().unwrap_or(ANYTHING),
    };
    let x = node.input(0).map_or(ANYTHING, of);
    let zero = Span { min: 0.0, max: 0.0 };
    match &node.op {
        Op::Relu => x.within(Span { min: 0.0, max: f32::INFINITY }),
        Op::Clip { min, max } if min <= max => x.within(Span { min: *min, max: *max }),
        Op::Sigmoid | Op::HardSigmoid { .. } | Op::Softmax { .. } => Span { min: 0.0, max: 1.0 },
        Op::Tanh => Span { min: -1.0, max: 1.0 },
        Op::MaxPool(_) | Op::GlobalMaxPool | Op::GlobalAveragePool | Op::ReduceMean { .. } => x,
        // Padding may count as zeros.
        Op::AveragePool(_) => x.hull(zero),
        Op::Pad { mode: PadMode::Constant(v), .. } => x.hull(Span { min: *v, max: *v }),
        Op::Pad { .. } => x,
        Op::Concat { .. } => node.inputs.iter().flatten().map(|&id| of(id)).reduce(Span::hull).unwrap_or(ANYTHING),
        op if op.moves() => x,
        _ => ANYTHING,
    }
}

/// A value like another, with its parameters.
fn copy(graph: &mut Graph, id: ValueId, suffix: &str) -> ValueId {
    let value = graph.value(id).clone();
    let name = graph.fresh_name(&format!("{}_{suffix}", value.name));
    graph.add_value(Value { name, ..value })
}

fn clip(graph: &Graph, names: &mut HashSet<String>, reach: Span, from: ValueId, to: ValueId) -> Node {
    let mut name = format!("{}_saturated", graph.value(to).name);
    while !names.insert(name.clone()) {
        name.push('_');
    }
    let op = Op::Clip { min: reach.min, max: reach.max };
    Node { name, op, inputs: vec![Some(from)], outputs: vec![to] }
}
