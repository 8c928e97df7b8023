//! Graph → model: one opset, every name kept, quantized values written as quantize/dequantize pairs.
//!
//! A value that is quantized where it is made keeps its name for the dequantized result, so that consumers and graph
//! outputs read what they read before; a quantized graph input keeps its name for itself. Activations are stored as
//! `u8`, 128 above the `i8` of the graph: ONNX Runtime is several times slower on x86 when both operands are signed.

mod attributes;
mod operators;
mod quant;
mod unchanged;

use super::proto::{
    DimensionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto,
};
use super::{Error, tensor};
use crate::graph::{
    Binary, DType, Data, Dim, Graph, Names, Node, Op, OpaqueNode, PadMode, Tensor, Unary, Value, ValueId, verify,
};
use attributes::Context;
use prost::Message;
use std::collections::{BTreeMap, HashSet};

/// The opset that is written, unless an operator needs a later one.
const OPSET: i64 = 17;
/// The first opset in which average pooling has dilations, and every engine leaves out of a count what lies beyond the
/// padding.
const OPSET_DILATED_AVERAGE: i64 = 19;
/// The first opsets with these operators.
const OPSET_GELU: i64 = 20;
const OPSET_MISH: i64 = 18;
const OPSET_BITWISE: i64 = 18;
/// The first opset in which padding repeats the operand, and resizing is antialiased or of some axes only.
const OPSET_WRAP: i64 = 19;
const OPSET_RESIZE: i64 = 18;
/// The first opset in which every reduction can be told to reduce nothing.
const OPSET_REDUCE_NOTHING: i64 = 18;
/// The first opset in which a group has its scale by channel.
const OPSET_GROUP_NORM: i64 = 21;

/// The ONNX codes of element types, by the name of an input or output.
pub type PortTypes = BTreeMap<String, i32>;

/// Writes a graph as an ONNX model.
///
/// # Errors
/// When the graph is not well formed, or keeps a node that cannot be written in the same opset as the others.
pub fn export(graph: &Graph) -> Result<Vec<u8>, Error> {
    export_with(graph, &PortTypes::new())
}

/// The same, with inputs and outputs of these element types, whatever the graph computes in: they are converted at the
/// border.
///
/// # Errors
/// As [`export`].
pub fn export_with(graph: &Graph, types: &PortTypes) -> Result<Vec<u8>, Error> {
    verify(graph)?;
    let domains = domains(graph)?;
    let opset = domains.get("").copied().unwrap_or(OPSET);
    let mut exporter = Exporter::new(graph, opset);
    exporter.run(types)?;
    let model = ModelProto {
        ir_version: ir_version(opset),
        producer_name: "kdc".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        opset_import: domains.into_iter().map(|(domain, version)| OperatorSetIdProto { domain, version }).collect(),
        graph: Some(exporter.file),
        ..Default::default()
    };
    Ok(model.encode_to_vec())
}

/// The first IR version that goes with an opset (the version table of the ONNX specification).
fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=18 => 8,
        19..=20 => 9,
        21..=22 => 10,
        23 => 11,
        _ => 12,
    }
}

/// The opset of every domain that nodes of the graph need.
fn domains(graph: &Graph) -> Result<BTreeMap<String, i64>, Error> {
    let mut domains = BTreeMap::from([(String::new(), OPSET)]);
    for node in &graph.nodes {
        let (domain, needed) = match &node.op {
            Op::AveragePool(pool)
                if pool.dilations.iter().any(|&d| d != 1) || (pool.ceil_mode && pool.count_include_pad) =>
            {
                ("", OPSET_DILATED_AVERAGE)
            }
            Op::Quantize { to: DType::I16 | DType::U16, .. } => {
                let what = "cannot be written: its numbers of 16 bits are kept in 32";
                return Err(Error::Node { node: node.name.clone(), op: node.op.name().into(), what: what.into() });
            }
            Op::Binary(Binary::BitShift { .. }) if graph.value(node.output()).dtype != DType::U8 => {
                let what = "cannot be written: it shifts unsigned numbers, which are kept in a wider signed type";
                return Err(Error::Node { node: node.name.clone(), op: node.op.name().into(), what: what.into() });
            }
            Op::ReduceMean { axes, .. } | Op::Reduce { axes, .. }
                if axes.is_empty() && !extents(graph, node).is_empty() =>
            {
                ("", OPSET_REDUCE_NOTHING)
            }
            Op::Pad { mode: PadMode::Wrap, .. } => ("", OPSET_WRAP),
            Op::Resize(resize) if resize.antialias || operators::by_sizes(resize, extents(graph, node)) => {
                ("", OPSET_RESIZE)
            }
            Op::Unary(Unary::Gelu { .. }) => ("", OPSET_GELU),
            Op::Unary(Unary::Mish) => ("", OPSET_MISH),
            Op::Unary(Unary::BitwiseNot) => ("", OPSET_BITWISE),
            Op::Binary(Binary::BitwiseAnd | Binary::BitwiseOr | Binary::BitwiseXor) => ("", OPSET_BITWISE),
            Op::GroupNormalization { .. } => ("", OPSET_GROUP_NORM),
            Op::Opaque(kept) => {
                let refuse = |why: &str| {
                    let op = kept.op_type.clone();
                    Err(Error::Node { node: node.name.clone(), op, what: format!("cannot be written: {why}") })
                };
                match (kept.domain.as_str(), kept.opset) {
                    (_, 0) => return refuse("it is a function of the model it came from"),
                    // Of an older opset, and still the same in the one that is written.
                    ("", version) if version < OPSET && unchanged::since(&kept.op_type) <= version => continue,
                    ("", version) if version < OPSET => {
                        return refuse(&format!("it is of opset {version}; convert the model to opset {OPSET} first"));
                    }
                    (domain, version) => (domain, version),
                }
            }
            _ => continue,
        };
        let version = domains.entry(domain.to_string()).or_insert(needed);
        *version = needed.max(*version);
    }
    Ok(domains)
}

struct Exporter<'g> {
    graph: &'g Graph,
    opset: i64,
    file: GraphProto,
    /// What consumers of each value read.
    read: Vec<String>,
    /// What the producer of each value writes.
    written: Vec<String>,
    names: Names,
    node_names: Names,
    /// Constants that are in the file.
    placed: HashSet<ValueId>,
}

impl<'g> Exporter<'g> {
    fn new(graph: &'g Graph, opset: i64) -> Exporter<'g> {
        let names: Vec<String> = graph.values.iter().map(|v| v.name.clone()).collect();
        Exporter {
            graph,
            opset,
            file: GraphProto {
                name: if graph.name.is_empty() { "graph".into() } else { graph.name.clone() },
                ..Default::default()
            },
            read: names.clone(),
            written: names.clone(),
            names: names.into_iter().collect(),
            node_names: graph.nodes.iter().map(|n| n.name.clone()).collect(),
            placed: HashSet::new(),
        }
    }

    fn run(&mut self, types: &PortTypes) -> Result<(), Error> {
        let graph = self.graph;
        let code = |id: &ValueId| {
            let value = graph.value(*id);
            types.get(&value.name).copied().unwrap_or(tensor::dtype_code(value.dtype))
        };
        let is_converted = |id: &&ValueId| code(id) != tensor::dtype_code(graph.value(**id).dtype);
        let port = |id: &ValueId| value_info(graph.value(*id), code(id));
        self.file.input = graph.inputs.iter().map(port).collect();
        self.file.output = graph.outputs.iter().map(port).collect();
        for id in graph.inputs.iter().filter(is_converted) {
            let value = graph.value(*id);
            let inner = self.fresh(&format!("{}_converted", value.name));
            self.cast([value.name.clone(), inner.clone()], tensor::dtype_code(value.dtype));
            (self.read[id.index()], self.written[id.index()]) = (inner.clone(), inner);
        }
        for id in graph.outputs.iter().filter(is_converted).filter(|id| !graph.inputs.contains(id)) {
            let inner = self.fresh(&format!("{}_unconverted", graph.value(*id).name));
            (self.read[id.index()], self.written[id.index()]) = (inner.clone(), inner);
        }
        for &id in &graph.inputs {
            if let Some(quant) = &graph.value(id).quant {
                let name = &graph.value(id).name;
                self.read[id.index()] = self.fresh(&format!("{name}_dequantized"));
                self.pair(id, quant);
            }
        }
        for node in &graph.nodes {
            for &id in node.inputs.iter().flatten() {
                self.place(id)?;
            }
            for &id in node.outputs.iter().filter(|&&id| graph.value(id).quant.is_some()) {
                self.written[id.index()] = self.fresh(&format!("{}_prequant", graph.value(id).name));
            }
            self.node(node)?;
            for &id in &node.outputs {
                if let Some(quant) = &graph.value(id).quant {
                    self.pair(id, quant);
                }
            }
        }
        graph.outputs.iter().try_for_each(|&id| self.place(id))?;
        let mut done = HashSet::new();
        for id in graph.outputs.iter().filter(is_converted).filter(|id| !graph.inputs.contains(id)) {
            if done.insert(*id) {
                let name = graph.value(*id).name.clone();
                self.cast([self.read[id.index()].clone(), name], code(id));
            }
        }
        Ok(())
    }

    /// Converts one value into another of this type.
    fn cast(&mut self, [from, to]: [String; 2], code: i32) {
        let name = self.fresh_node(&format!("{to}_Cast"));
        self.file.node.push(NodeProto {
            input: vec![from],
            output: vec![to],
            name,
            op_type: "Cast".into(),
            attribute: vec![attributes::int("to", code.into())],
            ..Default::default()
        });
    }

    /// Writes a constant before its first use.
    fn place(&mut self, id: ValueId) -> Result<(), Error> {
        let value = self.graph.value(id);
        let Some(data) = self.graph.constant(id).filter(|_| self.placed.insert(id)) else { return Ok(()) };
        match &value.quant {
            Some(quant) => self.quantized_constant(value, data, quant),
            None => {
                // A constant that is an output of another type has its name only after the conversion.
                self.file.initializer.push(tensor::write(&self.written[id.index()], data));
                Ok(())
            }
        }
    }

    fn node(&mut self, node: &Node) -> Result<(), Error> {
        let mut input: Vec<String> =
            node.inputs.iter().map(|id| id.map_or(String::new(), |id| self.read[id.index()].clone())).collect();
        let output: Vec<String> = node.outputs.iter().map(|id| self.written[id.index()].clone()).collect();
        if let Op::Opaque(kept) = &node.op {
            return self.opaque(node, kept, input, output);
        }
        if let Op::Expand { shape } = &node.op {
            let shape = self.extents(&node.name, shape);
            input.push(shape);
        }
        if let Op::OneHot { depth, .. } = &node.op {
            let depth = self.initializer(&format!("{}_depth", node.name), &Tensor::i64([0; 0], vec![*depth as i64]));
            input.insert(1, depth);
        }
        let context = Context { opset: self.opset, operand: node.input(0).map(|id| self.graph.value(id)) };
        let (attribute, constants) = operators::encode(&node.op, context).map_err(|what| Error::Node {
            node: node.name.clone(),
            op: node.op.name().into(),
            what: what.into(),
        })?;
        for (suffix, constant) in constants {
            input.push(match constant {
                Some(constant) => self.initializer(&format!("{}_{suffix}", node.name), &constant),
                None => String::new(),
            });
        }
        let op_type = node.op.name().to_string();
        self.file.node.push(NodeProto {
            input,
            output,
            name: node.name.clone(),
            op_type,
            attribute,
            ..Default::default()
        });
        Ok(())
    }

    /// Writes a node back. Its operands beyond those in the file are values its subgraphs read by name.
    fn opaque(
        &mut self,
        node: &Node,
        kept: &OpaqueNode,
        mut input: Vec<String>,
        output: Vec<String>,
    ) -> Result<(), Error> {
        let damaged = |e: prost::DecodeError| Error::Node {
            node: node.name.clone(),
            op: kept.op_type.clone(),
            what: format!("cannot be written: {e}"),
        };
        let mut proto = NodeProto::decode(kept.proto.as_slice()).map_err(damaged)?;
        input.truncate(proto.input.len());
        for (&id, _) in node.outputs.iter().zip(&output).filter(|(id, _)| !self.graph.value(**id).shape.is_empty()) {
            let value = self.graph.value(id);
            self.file.value_info.push(value_info(value, tensor::dtype_code(value.dtype)));
        }
        (proto.name, proto.input, proto.output) = (node.name.clone(), input, output);
        self.file.node.push(proto);
        Ok(())
    }

    /// A vector of extents: a constant, or where the batch is among them, computed from the first input's.
    fn extents(&mut self, stem: &str, shape: &[Dim]) -> String {
        let numbers = |v: Vec<i64>| Tensor::i64([v.len()], v);
        let ones = numbers(shape.iter().map(|d| d.at(1) as i64).collect());
        let fixed = self.initializer(&format!("{stem}_shape"), &ones);
        let batched = |id: &ValueId| self.graph.value(*id).shape.iter().position(|d| *d == Dim::Batch);
        let source = self.graph.inputs.iter().find_map(|id| Some((self.read[id.index()].clone(), batched(id)?)));
        let (true, Some((input, axis))) = (shape.iter().any(|d| d.is_batched()), source) else { return fixed };
        let axis = self.initializer(&format!("{stem}_axis"), &numbers(vec![axis as i64]));
        let times = numbers(shape.iter().map(|d| if d.is_batched() { d.at(1) as i64 } else { 1 }).collect());
        let times = self.initializer(&format!("{stem}_times"), &times);
        let mask = Tensor::new([shape.len()], Data::Bool(shape.iter().map(|d| d.is_batched()).collect()));
        let mask = self.initializer(&format!("{stem}_batched"), &mask);
        // Where an extent depends on the batch, so many times the batch, else what it is.
        let steps = [("Shape", "of"), ("Gather", "batch"), ("Mul", "batches"), ("Where", "extents")];
        let names = steps.map(|(_, suffix)| self.fresh(&format!("{stem}_{suffix}")));
        let operands = [
            vec![input],
            vec![names[0].clone(), axis],
            vec![names[1].clone(), times],
            vec![mask, names[2].clone(), fixed],
        ];
        for (((op, suffix), name), operands) in steps.iter().zip(&names).zip(operands) {
            let node_name = self.fresh_node(&format!("{stem}_{suffix}"));
            self.file.node.push(NodeProto {
                input: operands,
                output: vec![name.clone()],
                name: node_name,
                op_type: op.to_string(),
                ..Default::default()
            });
        }
        names[3].clone()
    }

    fn initializer(&mut self, stem: &str, constant: &Tensor) -> String {
        let name = self.fresh(stem);
        self.file.initializer.push(tensor::write(&name, constant));
        name
    }

    fn push_initializer(&mut self, initializer: TensorProto) -> String {
        let name = initializer.name.clone();
        self.file.initializer.push(initializer);
        name
    }

    /// A value name that is not taken; it is then.
    fn fresh(&mut self, stem: &str) -> String {
        self.names.fresh(stem)
    }

    fn fresh_node(&mut self, stem: &str) -> String {
        self.node_names.fresh(stem)
    }
}

/// The extents of a node's first operand.
fn extents<'g>(graph: &'g Graph, node: &Node) -> &'g [Dim] {
    node.input(0).map_or(&[], |id| &graph.value(id).shape)
}

fn value_info(value: &Value, elem_type: i32) -> ValueInfoProto {
    let dim = |d: &Dim| match d {
        Dim::Fixed(n) => DimensionProto { dim_value: Some(*n as i64), ..Default::default() },
        batched => DimensionProto { dim_param: Some(batched.to_string()), ..Default::default() },
    };
    let shape = Some(TensorShapeProto { dim: value.shape.iter().map(dim).collect() });
    let tensor_type = Some(TensorTypeProto { elem_type, shape });
    let r#type = Some(TypeProto { tensor_type, ..Default::default() });
    ValueInfoProto { name: value.name.clone(), r#type, ..Default::default() }
}
