//! What is known before the network runs: computed, counted out, or chosen, while importing.

use super::super::proto::NodeProto;
use super::super::tensor::{self, External};
use super::Importer;
use super::fault::Fault;
use super::plan::Plan;
use super::subgraph::captures;
use super::symbolic::{Element, dims};
use crate::graph::{DType, Dim, Graph, Node, Op, Tensor, Value, infer_node};
use crate::host;

/// The most elements of a tensor that is computed while importing.
const MAX_FOLDED: usize = 4096;

impl<'m> Importer<'m> {
    /// Computes an operator of small constants at once: exporters leave chains of them behind that lead to extents.
    pub(super) fn fold(&mut self, proto: &'m NodeProto, plan: &Plan) -> Result<bool, Fault> {
        let [op] = plan.ops.as_slice() else { return Ok(false) };
        let call = self.call(proto)?;
        let mut tensors = vec![];
        for &operand in &plan.operands {
            let Some(name) = call.operand(operand) else {
                tensors.push(None);
                continue;
            };
            let known = match call.importer.symbolic.get(name) {
                Some(value) => value.tensor(),
                None => {
                    let id = call.importer.ids.get(name);
                    let plain = id.filter(|id| call.importer.graph.value(**id).quant.is_none());
                    plain.and_then(|id| call.importer.graph.constant(*id)).filter(|t| t.len() <= MAX_FOLDED).cloned()
                }
            };
            match known {
                Some(tensor) => tensors.push(Some(tensor)),
                None => return Ok(false),
            }
        }
        if tensors.iter().all(Option::is_none) {
            return Ok(false);
        }
        let mut scratch = Graph::default();
        let inputs = tensors.iter().map(|t| t.as_ref().map(|t| scratch.add_constant("", t.clone()))).collect();
        let node = Node { name: String::new(), op: op.clone(), inputs, outputs: vec![] };
        let Ok(results) = infer_node(&scratch, &node) else { return Ok(false) };
        let results: Vec<(DType, Vec<usize>)> =
            results.into_iter().map(|(dtype, shape)| (dtype, shape.iter().map(|d| d.at(1)).collect())).collect();
        let batched =
            matches!(op, Op::Expand { shape } | Op::Reshape { shape } if shape.iter().any(|d| d.is_batched()));
        let small = results.iter().all(|(_, s)| tensor::element_count(s).is_some_and(|n| n <= MAX_FOLDED));
        if batched || !small {
            return Ok(false);
        }
        let operands: Vec<Option<&Tensor>> = tensors.iter().map(Option::as_ref).collect();
        let Ok(computed) = host::compute(op, &operands, &results) else { return Ok(false) };
        for (name, tensor) in proto.output.iter().zip(computed).filter(|(name, _)| !name.is_empty()) {
            let id = self.graph.add_constant(name, tensor);
            self.ids.insert(name, id);
        }
        Ok(true)
    }

    /// A tensor of one number whose extents depend on the batch.
    pub(super) fn filled(&mut self, proto: &'m NodeProto, name: &str) -> Result<(), Fault> {
        let call = self.call(proto)?;
        let shape = dims(&call.elements(0, "extents")?)?;
        let value = match call.attribute("value").and_then(|a| a.t.as_ref()) {
            Some(value) => tensor::read(value, &mut External::new(None, None)).map_err(|e| e.of(&value.name))?,
            None => Tensor::f32([1], vec![0.0]),
        };
        self.expanded(&proto.output[0], name, value, shape, None)
    }

    /// Counts the samples of a batch: 0, 1, 2, … Other ranges are known, or computed while the network runs.
    pub(super) fn counted(&mut self, proto: &'m NodeProto, name: &str) -> Result<(), Fault> {
        let call = self.call(proto)?;
        let first = |i: usize| call.symbolic(i).and_then(|s| s.elements.first().copied());
        let (Some(Element::Known(0)), Some(limit @ Element::Batch(_)), Some(Element::Known(1))) =
            (first(0), first(1), first(2))
        else {
            return Err(Fault::Unsupported("its bounds are computed while the network runs".into()));
        };
        let shape = dims(&[limit])?;
        // Running sums of ones, each without its own.
        let sum = Op::CumSum { axis: 0, exclusive: true, reverse: false };
        self.expanded(&proto.output[0], name, Tensor::i64([1], vec![1]), shape, Some(sum))
    }

    /// One number in every place, and what is computed of that.
    fn expanded(
        &mut self,
        result: &'m str,
        name: &str,
        value: Tensor,
        shape: Vec<Dim>,
        then: Option<Op>,
    ) -> Result<(), Fault> {
        let stem = self.value_names.fresh(&format!("{result}_value"));
        let mut id = self.graph.add_constant(stem, value);
        let ops: Vec<Op> = std::iter::once(Op::Expand { shape }).chain(then).collect();
        let last = ops.len() - 1;
        for (i, op) in ops.into_iter().enumerate() {
            let node_name =
                if i == last { name.to_string() } else { self.fresh_node(&format!("{name}_{}", op.name())) };
            let mut node = Node { name: node_name, op, inputs: vec![Some(id)], outputs: vec![] };
            let (dtype, shape) = self.infer(&node)?.remove(0);
            let value_name = match i == last {
                true => result.to_string(),
                false => self.value_names.fresh(&format!("{result}_{i}")),
            };
            id = self.graph.add_value(Value { name: value_name, dtype, shape, data: None, quant: None });
            node.outputs.push(id);
            self.graph.nodes.push(node);
        }
        self.ids.insert(result, id);
        Ok(())
    }

    /// Takes the branch of an If whose condition is known, in its place.
    pub(super) fn branch(&mut self, proto: &'m NodeProto) -> Result<(), Fault> {
        let call = self.call(proto)?;
        let Some(Element::Known(condition)) = call.symbolic(0).and_then(|c| c.elements.first().copied()) else {
            return Err(Fault::Unsupported("its condition is computed while the network runs".into()));
        };
        let name = if condition != 0 { "then_branch" } else { "else_branch" };
        let Some(body) = call.attribute(name).and_then(|a| a.g.as_ref()) else {
            return Err(Fault::Invalid(format!("has no {name}")));
        };
        if body.output.len() < proto.output.len() {
            return Err(Fault::Invalid(format!("its {name} has too few results")));
        }
        self.initializers.extend(body.initializer.iter().map(|t| (t.name.as_str(), t)));
        for node in &body.node {
            for name in node.input.iter().map(String::as_str).chain(captures(node)) {
                self.readers.entry(name).or_default().push(node);
            }
            self.value_names.extend(node.output.iter().cloned());
        }
        for result in &body.output {
            // Read by whoever reads the If's result.
            self.readers.entry(&result.name).or_default().push(proto);
        }
        for (index, node) in body.node.iter().enumerate() {
            self.node(index, node)?;
        }
        for (result, inner) in proto.output.iter().zip(&body.output).filter(|(name, _)| !name.is_empty()) {
            let inner = inner.name.as_str();
            if let Some(value) = self.symbolic.get(inner).cloned() {
                self.symbolic.insert(result, value);
                if let Some(&origin) = self.deferred.get(inner) {
                    self.deferred.insert(result, origin);
                }
                continue;
            }
            let mut id = self.materialise(inner, 0)?;
            if self.output_names.contains(result.as_str()) {
                // An output of the network keeps its name.
                let value = Value { name: result.clone(), data: None, quant: None, ..self.graph.value(id).clone() };
                let output = self.graph.add_value(value);
                let (name, inputs, outputs) = (self.fresh_node(result), vec![Some(id)], vec![output]);
                self.graph.nodes.push(Node { name, op: Op::Identity, inputs, outputs });
                id = output;
            }
            self.ids.insert(result, id);
        }
        Ok(())
    }
}
