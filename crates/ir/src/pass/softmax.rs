//! Taking a trailing Softmax off and putting it back: the losses of distillation want logits.

use crate::graph::{Graph, Node, Op, Value};

/// What [`strip_softmax`] took off.
#[derive(Clone, Debug, PartialEq)]
pub struct TrailingSoftmax {
    /// `Softmax` or `LogSoftmax`.
    pub op: Op,
    /// The node's name.
    pub node: String,
    /// The name of the network's output.
    pub output: String,
}

/// Takes a Softmax or LogSoftmax off the end of a graph with one output; the output is then the logits, under the name
/// they had before.
pub fn strip_softmax(graph: &mut Graph) -> Option<TrailingSoftmax> {
    let [output] = graph.outputs[..] else { return None };
    let index = graph.nodes.iter().position(|n| n.outputs.contains(&output))?;
    let node = &graph.nodes[index];
    let softmax = matches!(node.op, Op::Softmax { .. } | Op::LogSoftmax { .. });
    let read = graph.nodes.iter().any(|n| n.inputs.contains(&Some(output)));
    let logits = node.input(0).filter(|_| softmax && !read)?;
    let node = graph.nodes.remove(index);
    let output = graph.value(output).name.clone();
    graph.outputs = vec![logits];
    super::drop_unused_values(graph);
    Some(TrailingSoftmax { op: node.op, node: node.name, output })
}

/// Puts back what [`strip_softmax`] took off, after the first output, under the names it had.
pub fn restore_softmax(graph: &mut Graph, softmax: TrailingSoftmax) {
    let Some(&logits) = graph.outputs.first() else { return };
    let value = graph.value(logits).clone();
    let mut name = softmax.node;
    while graph.nodes.iter().any(|n| n.name == name) {
        name.push('_');
    }
    let output = graph.fresh_name(&softmax.output);
    let output = graph.add_value(Value { name: output, data: None, quant: None, ..value });
    graph.nodes.push(Node { name, op: softmax.op, inputs: vec![Some(logits)], outputs: vec![output] });
    graph.outputs[0] = output;
}
