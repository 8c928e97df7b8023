//! Nodes that are kept as they are: operators that kdc does not know.

use super::fault::Why;
use super::subgraph::captures;
use super::{Importer, check_size};
use crate::graph::{DType, Dim, Node, Op, OpaqueNode, Shape, Value, ValueId};
use crate::onnx::proto::{DimensionProto, NodeProto, ValueInfoProto};
use crate::onnx::{Error, tensor};
use prost::Message;

impl<'m> Importer<'m> {
    /// Keeps a node as it is. Values that its subgraphs read from outside are further operands of the graph's node, so
    /// that they stay alive.
    pub(super) fn opaque(&mut self, proto: &'m NodeProto, name: &str, why: Why, depth: usize) -> Result<(), Error> {
        let mut inputs = vec![];
        for input in &proto.input {
            inputs.push(if input.is_empty() { None } else { Some(self.materialise(input, depth)?) });
        }
        for captured in captures(proto) {
            if self.known(captured) {
                inputs.push(Some(self.materialise(captured, depth)?));
            }
        }
        let mut outputs = vec![];
        for output in &proto.output {
            let known = self.result_type(proto, output, &inputs);
            let (dtype, shape) = known.clone().unwrap_or((DType::F32, vec![]));
            let value_name = match output.is_empty() {
                true => self.value_names.fresh(&format!("{name}_unused")),
                false => output.clone(),
            };
            let id = self.graph.add_value(Value { name: value_name, dtype, shape, data: None, quant: None });
            if known.is_none() {
                self.unknown.insert(id);
            }
            if !output.is_empty() {
                self.ids.insert(output, id);
            }
            outputs.push(id);
        }
        let domain = if proto.domain == "ai.onnx" { String::new() } else { proto.domain.clone() };
        let opset = self.opsets.get(domain.as_str()).copied().unwrap_or(0);
        let (op_type, proto) = (proto.op_type.clone(), proto.encode_to_vec());
        let kept = OpaqueNode { domain, opset, op_type, proto, why: why.text, unread: why.unread };
        self.graph.nodes.push(Node { name: name.to_string(), op: Op::Opaque(kept), inputs, outputs });
        Ok(())
    }

    /// The type of an opaque node's result: known for what quantizes, else as the file states it.
    fn result_type(&self, proto: &NodeProto, output: &str, inputs: &[Option<ValueId>]) -> Option<(DType, Shape)> {
        let operand = |i: usize| inputs.get(i).copied().flatten();
        let like = |dtype| {
            let x = operand(0).filter(|id| !self.unknown.contains(id))?;
            Some((dtype, self.graph.value(x).shape.clone()))
        };
        match (proto.domain.as_str(), proto.op_type.as_str()) {
            ("" | "ai.onnx", "DequantizeLinear") => like(DType::F32),
            ("" | "ai.onnx", "QuantizeLinear") => {
                like(operand(2).map_or(DType::U8, |zero_point| self.graph.value(zero_point).dtype))
            }
            _ => match self.symbolic.get(output) {
                Some(value) => Some((value.dtype, value.shape.iter().map(|&n| Dim::Fixed(n)).collect())),
                None => self.stated.get(output).and_then(|info| stated_type(info)).or_else(|| {
                    let known = self.given.results.get(output).filter(|shape| check_size(shape).is_ok())?;
                    Some((DType::F32, known.clone()))
                }),
            },
        }
    }
}

/// The type a file states for a value, if it says everything.
fn stated_type(info: &ValueInfoProto) -> Option<(DType, Shape)> {
    let stated = info.r#type.as_ref()?.tensor_type.as_ref()?;
    let dims = &stated.shape.as_ref()?.dim;
    let extent = |(axis, dim): (usize, &DimensionProto)| match dim.dim_value.filter(|&n| n > 0) {
        Some(n) => usize::try_from(n).ok().map(Dim::Fixed),
        None => (axis == 0).then_some(Dim::Batch),
    };
    let shape: Shape = dims.iter().enumerate().map(extent).collect::<Option<_>>()?;
    check_size(&shape).ok()?;
    Some((tensor::graph_dtype(stated.elem_type)?, shape))
}
