//! The same network with indices masked instead of cut: what a smaller network has to be equal to.

use crate::student::{Groups, KeptIndices};
use kdc_ir::graph::{Cell, Dim, Graph, Node, Op, PadMode, Tensor, Value, ValueId, infer_node};
use std::collections::HashMap;
use std::sync::Arc;

/// A graph of the teacher's extents in which every result is zero wherever an index is cut. Operators that compute across
/// a group are given what is left and nothing else, and their results are put back among zeros.
pub fn masked(graph: &Graph, groups: &Groups, kept: &KeptIndices) -> Graph {
    let mut rewriter = Rewriter { from: graph, groups, kept, to: graph.clone(), stands_for: HashMap::new(), count: 0 };
    rewriter.to.nodes.clear();
    for (index, node) in graph.nodes.iter().enumerate() {
        rewriter.node(index, node);
    }
    let outputs = graph.outputs.iter().map(|id| rewriter.now(*id)).collect();
    rewriter.to.outputs = outputs;
    rewriter.to
}

struct Rewriter<'a> {
    from: &'a Graph,
    groups: &'a Groups,
    kept: &'a KeptIndices,
    to: Graph,
    /// The masked value that stands for each result.
    stands_for: HashMap<ValueId, ValueId>,
    count: usize,
}

impl Rewriter<'_> {
    fn now(&self, id: ValueId) -> ValueId {
        self.stands_for.get(&id).copied().unwrap_or(id)
    }

    fn push(&mut self, op: Op, inputs: &[ValueId]) -> ValueId {
        self.count += 1;
        let name = format!("masking.{}", self.count);
        let mut node =
            Node { name: name.clone(), op, inputs: inputs.iter().map(|&i| Some(i)).collect(), outputs: vec![] };
        let (dtype, shape) = infer_node(&self.to, &node).unwrap().remove(0);
        let id = self.to.add_value(Value { name, dtype, shape, data: None, quant: None });
        node.outputs.push(id);
        self.to.nodes.push(node);
        id
    }

    fn constant(&mut self, tensor: Tensor) -> ValueId {
        self.count += 1;
        self.to.add_constant(format!("masking.{}", self.count), tensor)
    }

    /// Which places of an axis stay; `None` where all do, or where the batch is in the axis as well.
    fn mask(&self, id: ValueId, axis: usize) -> Option<Vec<bool>> {
        let value = self.from.value(id);
        if self.groups.on(id, axis).is_empty() || value.shape[axis].is_batched() {
            return None;
        }
        let mut stays = vec![false; value.shape[axis].at(1)];
        self.groups.places(id, axis, self.kept).into_iter().for_each(|place| stays[place] = true);
        stays.contains(&false).then_some(stays)
    }

    fn node(&mut self, index: usize, node: &Node) {
        let mut node = node.clone();
        node.inputs.iter_mut().for_each(|i| *i = i.map(|id| self.now(id)));
        let across: Vec<usize> = self.groups.across.iter().filter(|a| a.node == index).map(|a| a.axis).collect();
        let x = self.from.nodes[index].input(0);
        let masks: Vec<(usize, Vec<bool>)> =
            across.iter().filter_map(|&axis| Some((axis, self.mask(x?, axis)?))).collect();
        if let Op::Recurrent(op) = &node.op {
            let op = op.clone();
            self.silence(&op, &mut node);
        }
        for (axis, mask) in &masks {
            self.narrow(&mut node, *axis, mask);
        }
        let original = node.outputs.clone();
        if !masks.is_empty() {
            // Its result has other extents now.
            let name = format!("narrow.{index}");
            let shapes = infer_node(&self.to, &node).unwrap();
            let (dtype, shape) = shapes[0].clone();
            let fresh = self.to.add_value(Value { name, dtype, shape, data: None, quant: None });
            node.outputs = vec![fresh];
        }
        let keeps_axis = !matches!(node.op, Op::ReduceMean { .. } | Op::Reduce { .. });
        self.to.nodes.push(node.clone());
        if !masks.is_empty() {
            let mut result = node.output();
            for (axis, mask) in masks.iter().filter(|_| keeps_axis) {
                result = self.widen(result, *axis, mask);
            }
            self.stands_for.insert(original[0], result);
            return;
        }
        for id in original {
            let mut result = id;
            for axis in 0..self.from.value(id).shape.len() {
                if let Some(mask) = self.mask(id, axis) {
                    let mut shape = vec![1; self.from.value(id).shape.len()];
                    shape[axis] = mask.len();
                    let numbers: Vec<f32> = mask.iter().map(|&s| f32::from(u8::from(s))).collect();
                    let mask = self.constant(Tensor::f32(shape, numbers));
                    result = self.push(Op::Mul, &[result, mask]);
                }
            }
            if result != id {
                self.stands_for.insert(id, result);
            }
        }
    }

    /// The operand without what is cut, and the node's vectors likewise.
    fn narrow(&mut self, node: &mut Node, axis: usize, mask: &[bool]) {
        let places: Vec<i64> = (0..mask.len()).filter(|&i| mask[i]).map(|i| i as i64).collect();
        let indices = self.constant(Tensor::i64([places.len()], places));
        node.inputs[0] = Some(self.push(Op::Gather { axis }, &[node.inputs[0].unwrap(), indices]));
        let normalises = matches!(node.op, Op::LayerNormalization { .. } | Op::GroupNormalization { .. });
        for operand in (1..node.inputs.len()).filter(|_| normalises) {
            let vector = node.inputs[operand].unwrap();
            node.inputs[operand] = Some(self.push(Op::Gather { axis: 0 }, &[vector, indices]));
        }
    }

    /// Zeros where something was cut.
    fn widen(&mut self, narrow: ValueId, axis: usize, mask: &[bool]) -> ValueId {
        let rank = self.to.value(narrow).shape.len();
        let mut pads = vec![0; 2 * rank];
        pads[rank + axis] = 1;
        let padded = self.push(Op::Pad { pads, mode: PadMode::Constant(0.0) }, &[narrow]);
        let zero = mask.iter().filter(|s| **s).count() as i64;
        let mut next = -1;
        let place = |&stays: &bool| {
            next += i64::from(stays);
            if stays { next } else { zero }
        };
        let places: Vec<i64> = mask.iter().map(place).collect();
        let indices = self.constant(Tensor::i64([places.len()], places));
        self.push(Op::Gather { axis }, &[padded, indices])
    }

    /// A hidden unit whose candidate is always zero stays zero: its rows in that gate are.
    fn silence(&mut self, op: &kdc_ir::graph::Recurrent, node: &mut Node) {
        let r = self.from.nodes.iter().find(|n| n.name == node.name).unwrap().input(2).unwrap();
        let Some(mask) = self.mask(r, 2) else { return };
        let gate = match op.cell {
            Cell::Rnn => 0,
            Cell::Gru { .. } => 2,
            Cell::Lstm => 3,
        };
        let (hidden, gates) = (op.hidden, op.cell.gates());
        for operand in [1, 2, 3] {
            let Some(id) = node.input(operand) else { continue };
            let mut tensor = self.to.constant(id).unwrap().clone();
            let rows = tensor.shape[1];
            let inner: usize = tensor.shape[2..].iter().product();
            let mut data = tensor.to_f32().into_owned();
            for (at, v) in data.iter_mut().enumerate() {
                // Of biases there are those of the input, then those of the state.
                let row = at / inner % rows % (gates * hidden);
                if row / hidden == gate && !mask[row % hidden] {
                    *v = 0.0;
                }
            }
            tensor = Tensor::f32(tensor.shape.clone(), data);
            let shape = tensor.shape.iter().map(|&n| Dim::Fixed(n)).collect();
            let name = format!("{}.silenced.{}", node.name, operand);
            let data = Some(Arc::new(tensor));
            let value = Value { name, dtype: kdc_ir::graph::DType::F32, shape, data, quant: None };
            node.inputs[operand] = Some(self.to.add_value(value));
        }
    }
}
