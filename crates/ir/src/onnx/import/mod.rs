//! Model → graph, node by node in file order.
//!
//! A name of the file is one of three things: a value of the graph; an initializer, which becomes a value when it is
//! first read; or integers computed from shapes ([`symbolic`]), which become a constant, or the nodes that compute
//! them, only if an operator kdc does not know reads them.

mod call;
mod composed;
mod einsum;
mod fault;
mod functions;
mod inputs;
mod known;
mod opaque;
mod operators;
mod plan;
mod quant;
mod quantized;
mod rebatch;
mod shape_arithmetic;
mod subgraph;
mod symbolic;

use super::file::Map;
use super::limits::OPSETS;
use super::proto::{GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use super::tensor::{self, External};
use super::{Error, Given};
use crate::graph::{DType, Dim, Graph, Names, Node, Op, Shape, Value, ValueId, infer_node, verify};
use call::Call;
use fault::Fault;
use plan::Plan;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use subgraph::captures;
use symbolic::Symbolic;

/// How many nodes that compute a shape may depend on one another, when they have to be kept.
const MAX_CHAIN: usize = 200;

/// Where a model comes from.
#[derive(Clone)]
pub struct Source<'a> {
    /// Where external data is looked for.
    pub folder: Option<&'a Path>,
    /// The file that the model was decoded from.
    pub map: Option<Map>,
}

/// Imports a decoded model. One that was exported for a number of samples is read as one for any batch, if that is sound.
///
/// # Errors
/// See [`super::load`].
pub fn import(model: ModelProto, source: Source, given: &Given) -> Result<Graph, Error> {
    let empty = GraphProto::default();
    let model = &functions::inline(model)?;
    let graph = model.graph.as_ref().unwrap_or(&empty);
    if let batch @ Some(_) = rebatch::file_batch(graph)
        && let Ok(rebatched) = Importer::new(model, graph, (&source, given), batch).and_then(Importer::run)
        && rebatch::sound(&rebatched)
    {
        return Ok(rebatched);
    }
    Importer::new(model, graph, (&source, given), None)?.run()
}

struct Importer<'m> {
    file: &'m GraphProto,
    /// The version of each domain's operators.
    opsets: HashMap<&'m str, i64>,
    external: External<'m>,
    /// The first extent of inputs that stands for the batch: the number of samples that the file was exported for.
    rebatch: Option<usize>,
    runs: rebatch::Runs,
    given: &'m Given,
    graph: Graph,
    ids: HashMap<&'m str, ValueId>,
    initializers: HashMap<&'m str, &'m TensorProto>,
    symbolic: HashMap<&'m str, Symbolic>,
    /// The node behind each entry of `symbolic`.
    deferred: HashMap<&'m str, &'m NodeProto>,
    /// Results of quantize/dequantize pairs that were absorbed, by the names in the pair.
    pending: HashMap<&'m str, ValueId>,
    /// Results of opaque nodes whose shape the file does not state.
    unknown: HashSet<ValueId>,
    /// What the file says about types of values.
    stated: HashMap<&'m str, &'m ValueInfoProto>,
    /// For each name, the nodes that read it, subgraphs included.
    readers: HashMap<&'m str, Vec<&'m NodeProto>>,
    output_names: HashSet<&'m str>,
    /// Every name of the file and every one made up.
    value_names: Names,
    node_names: Names,
}

impl<'m> Importer<'m> {
    fn new(
        model: &'m ModelProto,
        file: &'m GraphProto,
        (source, given): (&'m Source<'m>, &'m Given),
        rebatch: Option<usize>,
    ) -> Result<Importer<'m>, Error> {
        let domain = |name: &'m str| if name == "ai.onnx" { "" } else { name };
        let opsets: HashMap<&str, i64> = model.opset_import.iter().map(|o| (domain(&o.domain), o.version)).collect();
        if let Some(version) = opsets.get("").filter(|v| !OPSETS.contains(*v)) {
            return Err(Error::Opset(*version));
        }
        let mut readers: HashMap<&str, Vec<&NodeProto>> = HashMap::new();
        let mut value_names = Names::default();
        for node in &file.node {
            for name in node.input.iter().map(String::as_str).chain(captures(node)) {
                readers.entry(name).or_default().push(node);
            }
            value_names.extend(node.output.iter().cloned());
        }
        value_names.extend(file.input.iter().map(|v| v.name.clone()));
        value_names.extend(file.initializer.iter().map(|t| t.name.clone()));
        if let Some(sparse) = file.sparse_initializer.first() {
            let value = sparse.values.as_ref().map_or(String::new(), |v| v.name.clone());
            return Err(Error::Value { value, what: "sparse initializers are not supported; make it dense".into() });
        }
        Ok(Importer {
            file,
            opsets,
            external: External::new(source.folder, source.map.clone()),
            rebatch,
            runs: rebatch::Runs::new(),
            given,
            graph: Graph { name: file.name.clone(), ..Graph::default() },
            ids: HashMap::new(),
            initializers: file.initializer.iter().map(|t| (t.name.as_str(), t)).collect(),
            symbolic: HashMap::new(),
            deferred: HashMap::new(),
            pending: HashMap::new(),
            unknown: HashSet::new(),
            stated: file.value_info.iter().chain(&file.output).map(|v| (v.name.as_str(), v)).collect(),
            readers,
            output_names: file.output.iter().map(|v| v.name.as_str()).collect(),
            value_names,
            node_names: Names::default(),
        })
    }

    fn run(mut self) -> Result<Graph, Error> {
        self.inputs()?;
        for (index, node) in self.file.node.iter().enumerate() {
            self.node(index, node)?;
        }
        let chosen = |name: &str| self.given.output.as_deref().is_none_or(|output| output == name);
        let outputs: Vec<_> = self.file.output.iter().filter(|output| chosen(&output.name)).collect();
        if let (Some(name), []) = (&self.given.output, &outputs[..]) {
            let names: Vec<&str> = self.file.output.iter().map(|v| v.name.as_str()).collect();
            let what = format!("the model has no such output; its outputs are {}", names.join(", "));
            return Err(Error::Value { value: name.clone(), what });
        }
        for output in outputs {
            let undefined =
                || Error::Value { value: output.name.clone(), what: "this output is never produced".into() };
            if !self.known(&output.name) {
                return Err(undefined());
            }
            let id = self.materialise(&output.name, 0)?;
            self.graph.outputs.push(id);
        }
        if self.given.output.is_some() {
            crate::pass::drop_dead_code(&mut self.graph);
        }
        crate::pass::drop_unused_values(&mut self.graph);
        verify(&self.graph)?;
        Ok(self.graph)
    }

    fn node(&mut self, index: usize, proto: &'m NodeProto) -> Result<(), Error> {
        let name = self.node_name(proto, index);
        let invalid = |what: String| Error::Node { node: name.clone(), op: proto.op_type.clone(), what };
        for input in proto.input.iter().filter(|n| !n.is_empty()) {
            if !self.known(input) {
                return Err(invalid(format!("reads '{input}', which nothing before it produces")));
            }
        }
        for output in proto.output.iter().filter(|n| !n.is_empty()) {
            if self.known(output) {
                return Err(invalid(format!("produces '{output}', which exists already")));
            }
        }
        if proto.output.iter().all(String::is_empty) {
            return Err(invalid("has no results".into()));
        }
        if !matches!(proto.domain.as_str(), "" | "ai.onnx") {
            return self.opaque(proto, &name, format!("an operator of the domain {}", proto.domain).into(), 0);
        }
        let fault = match self.standard(proto, &name) {
            Ok(()) => return Ok(()),
            Err(fault) => fault,
        };
        match fault {
            Fault::Invalid(what) => Err(invalid(what)),
            Fault::Unsupported(why) => self.opaque(proto, &name, why, 0),
            Fault::Source(error) => Err(error),
        }
    }

    /// A node of the standard domain.
    fn standard(&mut self, proto: &'m NodeProto, name: &str) -> Result<(), Fault> {
        let result = proto.output[0].as_str();
        if result.is_empty() && !matches!(proto.op_type.as_str(), "RNN" | "LSTM" | "GRU" | "TopK" | "Split") {
            return Err(Fault::Unsupported("only a side result is used".into()));
        }
        match proto.op_type.as_str() {
            "Constant" => {
                let constant = self.call(proto)?.constant()?;
                let constant = tensor::read(&constant, &mut self.external).map_err(|e| e.of(result))?;
                let id = self.graph.add_constant(result, constant);
                self.ids.insert(result, id);
                return Ok(());
            }
            "If" => return self.branch(proto),
            // One half of no pair is an operator like any other.
            "QuantizeLinear" => match self.quantize(proto, name) {
                Err(Fault::Unsupported(_)) => {}
                other => return other,
            },
            "DequantizeLinear" => match self.dequantize(proto) {
                Err(Fault::Unsupported(_)) => {}
                other => return other,
            },
            _ => {}
        }
        let call = self.call(proto)?;
        if let Some(value) = shape_arithmetic::shape_operator(&call)? {
            self.defer(proto, value);
            return Ok(());
        }
        if self.composed(proto, name)? {
            return Ok(());
        }
        let call = self.call(proto)?;
        match proto.op_type.as_str() {
            "ConstantOfShape" => return self.filled(proto, name),
            "Range" => return self.counted(proto, name),
            _ => {}
        }
        let plan = operators::convert(&call)?;
        if let Some(value) = shape_arithmetic::evaluate(&call, &plan) {
            self.defer(proto, value);
            return Ok(());
        }
        if self.fold(proto, &plan)? {
            return Ok(());
        }
        self.add(proto, name, plan)
    }

    fn defer(&mut self, proto: &'m NodeProto, value: Symbolic) {
        self.symbolic.insert(&proto.output[0], value);
        self.deferred.insert(&proto.output[0], proto);
    }

    /// Adds the operators of a plan, one after another.
    fn add(&mut self, proto: &'m NodeProto, name: &str, plan: Plan) -> Result<(), Fault> {
        let mut inputs = vec![];
        for operand in plan.operands {
            inputs.push(match proto.input.get(operand).filter(|n| !n.is_empty()) {
                Some(operand) => Some(self.materialise(operand, 0)?),
                None => None,
            });
        }
        while inputs.last() == Some(&None) {
            inputs.pop();
        }
        if inputs.iter().flatten().any(|id| self.unknown.contains(id)) {
            return Err(Fault::Unsupported("follows an operator whose result has no known shape".into()));
        }
        if let (Some(batch), Some(op)) = (self.rebatch, plan.ops.first()) {
            for (i, row) in rebatch::repeated(&self.graph, op, &inputs, batch) {
                let stem = inputs[i].map(|id| self.graph.value(id).name.clone()).unwrap_or_default();
                let name = self.value_names.fresh(&format!("{stem}_row"));
                inputs[i] = Some(self.graph.add_constant(name, row));
            }
        }
        if let (Some(_), Some(Op::Concat { axis })) = (self.rebatch, plan.ops.first()) {
            for (i, shape) in rebatch::missing(&self.graph, &inputs, *axis) {
                inputs[i] = inputs[i].map(|id| self.repeated(id, name, shape));
            }
        }
        if let Some(Op::Concat { .. }) = plan.ops.first() {
            self.drop_empty(&mut inputs);
        }
        // A chain is made of operators that keep the element count, so only the first can fail.
        let last = plan.ops.len().saturating_sub(1);
        for (i, op) in plan.ops.into_iter().enumerate() {
            let node_name =
                if i == last { name.to_string() } else { self.fresh_node(&format!("{name}_{}", op.name())) };
            let mut node = Node { name: node_name, op, inputs, outputs: vec![] };
            let results = self.infer(&node)?;
            let reads_nothing = node.inputs.iter().flatten().any(|&id| is_empty(&self.graph.value(id).shape));
            if reads_nothing && results.iter().any(|(_, shape)| !is_empty(shape)) {
                return Err(Fault::Unsupported("makes elements of a tensor that has none".into()));
            }
            if i == last
                && proto.output.iter().skip(results.len()).any(|n| !n.is_empty())
                && self.call(proto)?.has_side_results()
            {
                return Err(Fault::Unsupported("a further result of it is used".into()));
            }
            for (which, (dtype, shape)) in results.into_iter().enumerate() {
                let stated = proto.output.get(which).filter(|n| i == last && !n.is_empty());
                let value_name = match stated {
                    Some(stated) => stated.clone(),
                    None => self.value_names.fresh(&format!("{name}_{i}_{which}")),
                };
                let id = self.graph.add_value(Value { name: value_name, dtype, shape, data: None, quant: None });
                if let Some(stated) = stated {
                    self.ids.insert(stated, id);
                }
                node.outputs.push(id);
            }
            if let (Some(_), Some(runs)) = (self.rebatch, rebatch::runs(&self.graph, &node, &self.runs)) {
                self.runs.extend(node.outputs.iter().map(|&id| (id, runs)));
            }
            inputs = vec![node.outputs.first().copied()];
            self.graph.nodes.push(node);
        }
        Ok(())
    }

    /// What has no elements adds nothing to a concatenation, unless there is nothing else.
    fn drop_empty(&self, inputs: &mut Vec<Option<ValueId>>) {
        let is_there = |id: &Option<ValueId>| id.is_some_and(|id| !is_empty(&self.graph.value(id).shape));
        if inputs.iter().any(is_there) {
            inputs.retain(is_there);
        }
    }

    /// A value broadcast to these extents, for a node of this name.
    fn repeated(&mut self, id: ValueId, node: &str, shape: Shape) -> ValueId {
        let (dtype, stem) = (self.graph.value(id).dtype, format!("{}_repeated", self.graph.value(id).name));
        let name = self.value_names.fresh(&stem);
        let value = Value { name, dtype, shape: shape.clone(), data: None, quant: None };
        let result = self.graph.add_value(value);
        let name = self.fresh_node(&format!("{node}_Expand"));
        self.graph.nodes.push(Node { name, op: Op::Expand { shape }, inputs: vec![Some(id)], outputs: vec![result] });
        result
    }

    fn infer(&self, node: &Node) -> Result<Vec<(DType, Shape)>, Fault> {
        let inferred = infer_node(&self.graph, node).map_err(|e| {
            // What mixes samples of a batch is a fine network that a graph cannot express; other faults are errors.
            let mixes =
                matches!(
                    node.op,
                    Op::Flatten { .. } | Op::Reshape { .. } | Op::MatMul | Op::Gemm { .. } | Op::Concat { .. }
                ) || matches!(node.op, Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Pad { .. } | Op::Squeeze { .. });
            let batched =
                node.inputs.iter().flatten().any(|&id| self.graph.value(id).shape.iter().any(|d| d.is_batched()));
            if mixes && batched { Fault::Unsupported(e.what.into()) } else { Fault::Invalid(e.what) }
        })?;
        inferred.iter().try_for_each(|(_, shape)| check_size(shape)).map_err(Fault::Invalid)?;
        Ok(inferred)
    }

    /// Whether a name has been defined so far.
    fn known(&self, name: &str) -> bool {
        self.ids.contains_key(name) || self.symbolic.contains_key(name) || self.initializers.contains_key(name)
    }

    /// The graph's value for a name that is known.
    fn materialise(&mut self, name: &'m str, depth: usize) -> Result<ValueId, Error> {
        let invalid = |what: String| Error::Value { value: name.to_string(), what };
        if let Some(&id) = self.ids.get(name) {
            return Ok(id);
        }
        let id = match self.symbolic.get(name) {
            Some(value) => match value.tensor() {
                Some(constant) => self.graph.add_constant(name, constant),
                None if depth > MAX_CHAIN => return Err(invalid("computed from a shape in too many steps".into())),
                None => {
                    let proto = self.deferred[name];
                    let node = self.node_name(proto, self.graph.nodes.len());
                    self.opaque(proto, &node, "computes with the batch size".into(), depth + 1)?;
                    self.ids[name]
                }
            },
            None => {
                let initializer = self.initializers.get(name).ok_or_else(|| invalid("is not defined".into()))?;
                let constant = tensor::read(initializer, &mut self.external).map_err(|e| e.of(name))?;
                self.graph.add_constant(name, constant)
            }
        };
        self.ids.insert(name, id);
        Ok(id)
    }

    /// A node with its operands looked up; initializers among them become values.
    fn call<'a>(&'a mut self, proto: &'m NodeProto) -> Result<Call<'a, 'm>, Error> {
        for input in &proto.input {
            if self.initializers.contains_key(input.as_str()) {
                self.materialise(input, 0)?;
            }
        }
        Ok(Call { proto, opset: self.opsets.get("").copied().unwrap_or(*OPSETS.end()), importer: self })
    }

    /// The node's name, or one made up if it has none or shares it.
    fn node_name(&mut self, proto: &NodeProto, index: usize) -> String {
        match proto.name.is_empty() {
            true => self.fresh_node(&format!("{}_{index}", proto.op_type)),
            false => self.fresh_node(&proto.name),
        }
    }

    fn fresh_node(&mut self, stem: &str) -> String {
        self.node_names.fresh(stem)
    }
}

/// Whether a tensor of this shape has no elements.
fn is_empty(shape: &[Dim]) -> bool {
    shape.contains(&Dim::Fixed(0))
}

fn check_size(shape: &[Dim]) -> Result<(), String> {
    let dims: Vec<usize> = shape.iter().map(|d| d.at(1)).collect();
    tensor::element_count(&dims).map(|_| ()).ok_or_else(|| format!("impossible shape {dims:?}"))
}
