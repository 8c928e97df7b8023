//! Cuts a graph down to the indices that are kept.

use super::groups::{Groups, KeptIndices};
use super::{Error, check_suitable};
use kdc_ir::graph::{Dim, Graph, Node, Op, Tensor, ValueId, infer_shapes, verify};
use kdc_ir::host::pick;
use std::sync::Arc;

/// The network with only these indices of each group, weights and all. Names and node order stay.
///
/// Where nothing computes across a group ([`Groups::across`]), the result computes what `graph` does when the indices
/// that are cut are zero everywhere.
///
/// # Errors
/// When the graph holds a node that no student may have.
pub fn shrink(graph: &Graph, groups: &Groups, kept: &KeptIndices) -> Result<Graph, Error> {
    check_suitable(graph)?;
    debug_assert!(kept.iter().all(|k| !k.is_empty() && k.is_sorted()));
    let mut student = graph.clone();
    for (index, value) in student.values.iter_mut().enumerate() {
        let id = ValueId(index as u32);
        let Some(tensor) = &value.data else { continue };
        if groups.holds(id) {
            let smaller = gather(groups, id, tensor, kept);
            value.shape = smaller.shape.iter().map(|&n| Dim::Fixed(n)).collect();
            value.data = Some(Arc::new(smaller));
        }
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        adjust(graph, groups, kept, node, &mut student, index);
    }
    infer_shapes(&mut student).map_err(kdc_ir::graph::VerifyError::from)?;
    verify(&student)?;
    Ok(student)
}

fn gather(groups: &Groups, id: ValueId, tensor: &Tensor, kept: &KeptIndices) -> Tensor {
    let places: Vec<Vec<usize>> = (0..tensor.shape.len()).map(|axis| groups.places(id, axis, kept)).collect();
    let mut at = vec![0];
    for (axis, places) in places.iter().enumerate() {
        let extent = tensor.shape[axis];
        at = at.iter().flat_map(|&outer| places.iter().map(move |&p| outer * extent + p)).collect();
    }
    Tensor::new(places.iter().map(Vec::len).collect::<Vec<_>>(), pick(&tensor.data, &at))
}

/// Brings a node's attributes to the new extents.
fn adjust(graph: &Graph, groups: &Groups, kept: &KeptIndices, node: &Node, student: &mut Graph, index: usize) {
    let Some(x) = node.input(0) else { return };
    let out = node.output();
    let shape = |id: ValueId| groups.shape(id, kept);
    let at = |id: ValueId, axis: usize| shape(id)[axis].at(1);
    // How many of the first places of an axis of the operand, or of the result, stay.
    let before = |id: ValueId, axis: usize, place: i64| {
        groups.places(id, axis, kept).iter().filter(|&&p| (p as i64) < place).count() as i64
    };
    match &mut student.nodes[index].op {
        Op::Conv(conv) if conv.group > 1 => {
            let Some(w) = node.input(1) else { return };
            conv.group = at(x, 1) / at(w, 1).max(1);
        }
        Op::Reshape { shape: to } => *to = shape(out),
        Op::Expand { shape: to } => {
            for (dim, now) in to.iter_mut().zip(shape(out)) {
                // An extent of 1 keeps the operand's.
                if *dim != Dim::Fixed(1) {
                    *dim = now;
                }
            }
        }
        Op::Split { axis, sizes } => {
            *sizes = node.outputs.iter().map(|&id| at(id, *axis)).collect();
        }
        Op::Slice { starts, ends, axes, steps } => {
            for i in (0..axes.len()).filter(|&i| steps[i] == 1 && !groups.on(x, axes[i]).is_empty()) {
                (starts[i], ends[i]) = (before(x, axes[i], starts[i]), before(x, axes[i], ends[i]));
            }
        }
        Op::Pad { pads, .. } => {
            let rank = pads.len() / 2;
            for axis in (0..rank).filter(|&a| !groups.on(out, a).is_empty()) {
                let old = graph.value(x).shape[axis].at(1) as i64;
                let (first, last) = (pads[axis], pads[axis] + old);
                let (left, inside) = (before(out, axis, first), before(out, axis, last));
                let all = at(out, axis) as i64;
                (pads[axis], pads[axis + rank]) = (left, all - inside);
            }
        }
        Op::Resize(resize) => resize.sizes = shape(out),
        Op::Recurrent(recurrent) => {
            if let Some(r) = node.input(2) {
                recurrent.hidden = at(r, 2);
            }
        }
        _ => (),
    }
}
