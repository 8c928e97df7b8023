//! A teacher as a network to take apart.

use super::saturation::restore_activations;
use kdc_ir::graph::{Graph, Node, Op, Value, ValueId};
use kdc_ir::pass::{self, TrailingSoftmax};
use std::collections::HashMap;

/// Takes off what a student is not made with: the trailing softmax (losses want logits), how values were stored (what
/// saturation did is done by Clips), batch norm that folds into the layer before it, and sharing that would couple layers that have nothing to do with each
/// other. The network computes the same, less the softmax.
///
/// # Errors
/// When a pass breaks the graph.
pub fn prepare(teacher: &Graph) -> Result<(Graph, Option<TrailingSoftmax>), pass::Error> {
    let mut graph = teacher.clone();
    pass::run(&mut graph, &[("restore activations", restore_activations)])?;
    graph.values.iter_mut().for_each(|v| v.quant = None);
    pass::normalize(&mut graph)?;
    let softmax = pass::apply(&mut graph, "strip softmax", pass::strip_softmax)?;
    pass::run(
        &mut graph,
        &[
            ("fold batch norm", pass::fold_batch_norm),
            ("drop zero states", drop_zero_states),
            ("unshare", unshare),
            ("drop dead code", pass::drop_dead_code),
        ],
    )?;
    Ok((graph, softmax))
}

/// Gives every vector of weights (and every scalar) one reader. Exporters store equal vectors once; matrices that are
/// read twice are tied on purpose.
pub(super) fn unshare(graph: &mut Graph) {
    let mut read: HashMap<ValueId, usize> = HashMap::new();
    let mut names = graph.value_names();
    for index in 0..graph.nodes.len() {
        for operand in 0..graph.nodes[index].inputs.len() {
            let Some(id) = graph.nodes[index].input(operand) else { continue };
            if graph.constant(id).is_none_or(|t| t.shape.len() != 1) {
                continue;
            }
            let times = read.entry(id).or_default();
            *times += 1;
            if *times > 1 {
                let value = graph.value(id).clone();
                let name = names.fresh(&value.name);
                graph.nodes[index].inputs[operand] = Some(graph.add_value(Value { name, ..value }));
            }
        }
    }
}

/// Recurrent operators start from zeros when no state is given; a file often spells these out, once for all of its layers.
fn drop_zero_states(graph: &mut Graph) {
    let producers = graph.producers();
    for index in 0..graph.nodes.len() {
        if !matches!(graph.nodes[index].op, Op::Recurrent(_)) {
            continue;
        }
        for operand in [5, 6] {
            if graph.nodes[index].input(operand).is_some_and(|id| is_zero(graph, &producers, id)) {
                graph.nodes[index].inputs[operand] = None;
            }
        }
    }
}

/// Whether a value is zero everywhere, whatever its extents.
fn is_zero(graph: &Graph, producers: &HashMap<ValueId, usize>, mut id: ValueId) -> bool {
    let moves = |node: &Node| {
        matches!(
            node.op,
            Op::Expand { .. }
                | Op::Slice { .. }
                | Op::Reshape { .. }
                | Op::Squeeze { .. }
                | Op::Unsqueeze { .. }
                | Op::Transpose { .. }
                | Op::Tile { .. }
                | Op::Split { .. }
        )
    };
    loop {
        if let Some(tensor) = graph.constant(id) {
            return tensor.to_f32().iter().all(|&v| v == 0.0);
        }
        let node = producers.get(&id).map(|&index| &graph.nodes[index]);
        match node.filter(|n| moves(n)).and_then(|n| n.input(0)) {
            Some(operand) => id = operand,
            None => return false,
        }
    }
}
