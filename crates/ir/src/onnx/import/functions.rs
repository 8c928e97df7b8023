//! Operators that a model defines itself, put in place of every call (ONNX's `FunctionProto`), and those on quantized
//! tensors, which are written as several (see [`super::quantized`]).

use super::super::Error;
use super::super::proto::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};
use super::quantized::Expander;
use std::collections::HashMap;

/// How deep functions may call one another.
const MAX_DEPTH: usize = 32;
/// The most nodes a model may have when all is in place: a few functions can call one another very often.
const MAX_NODES: usize = 1 << 20;

/// The model with every call of its own functions and every quantized operator replaced by the nodes it stands for.
///
/// Values inside a call are named after its result, so that they are unique. Weights stay where they are.
///
/// # Errors
/// When functions call one another without end, or a call does not fit its function.
pub fn inline(mut model: ModelProto) -> Result<ModelProto, Error> {
    let own = std::mem::take(&mut model.functions);
    let functions = own.iter().map(|f| ((f.domain.as_str(), f.name.as_str()), f)).collect();
    if let Some(graph) = &mut model.graph {
        Inliner { functions, nodes: 0, quantized: Expander::default() }.graph(graph, 0)?;
    }
    for opset in own.iter().flat_map(|function| &function.opset_import) {
        if model.opset_import.iter().all(|o| o.domain != opset.domain) {
            model.opset_import.push(opset.clone());
        }
    }
    Ok(model)
}

struct Inliner<'m> {
    functions: HashMap<(&'m str, &'m str), &'m FunctionProto>,
    nodes: usize,
    quantized: Expander,
}

impl Inliner<'_> {
    fn graph(&mut self, graph: &mut GraphProto, depth: usize) -> Result<(), Error> {
        let mut nodes = vec![];
        for call in std::mem::take(&mut graph.node) {
            self.expand(call, depth, &mut nodes)?;
        }
        graph.node = nodes;
        Ok(())
    }

    fn expand(&mut self, mut call: NodeProto, depth: usize, into: &mut Vec<NodeProto>) -> Result<(), Error> {
        let invalid = |what: &str| Error::Node { node: call.name.clone(), op: call.op_type.clone(), what: what.into() };
        self.nodes += 1;
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            return Err(invalid("functions of the model call one another too often"));
        }
        let Some(&function) = self.functions.get(&(call.domain.as_str(), call.op_type.as_str())) else {
            if let Some(nodes) = self.quantized.expand(&call) {
                into.extend(nodes);
                return Ok(());
            }
            for graph in call.attribute.iter_mut().filter_map(|attribute| attribute.g.as_mut()) {
                self.graph(graph, depth + 1)?;
            }
            into.push(call);
            return Ok(());
        };
        if call.input.len() > function.input.len() || call.output.len() > function.output.len() {
            return Err(invalid("has more operands or results than the function it calls"));
        }
        let prefix = call.output.iter().find(|n| !n.is_empty()).cloned().unwrap_or_default();
        let mut names: HashMap<&str, String> = HashMap::new();
        for (i, inner) in function.input.iter().enumerate() {
            names.insert(inner, call.input.get(i).cloned().unwrap_or_default());
        }
        for (inner, outer) in function.output.iter().zip(&call.output).filter(|(_, outer)| !outer.is_empty()) {
            // A result that is an operand passed through keeps the operand's name inside.
            if !names.contains_key(inner.as_str()) {
                names.insert(inner, outer.clone());
            } else {
                let (input, output) = (vec![names[inner.as_str()].clone()], vec![outer.clone()]);
                into.push(NodeProto {
                    op_type: "Identity".into(),
                    name: outer.clone(),
                    input,
                    output,
                    ..Default::default()
                });
            }
        }
        let attributes: HashMap<&str, &AttributeProto> = function
            .attribute_proto
            .iter()
            .chain(&call.attribute)
            .map(|attribute| (attribute.name.as_str(), attribute))
            .collect();
        for node in &function.node {
            let node = renamed(node, &prefix, &call.name, &names, &attributes);
            self.expand(node, depth + 1, into)?;
        }
        Ok(())
    }
}

/// A function's node in the place of a call: its names are the caller's, its attributes those of the call.
fn renamed(
    node: &NodeProto,
    prefix: &str,
    call: &str,
    names: &HashMap<&str, String>,
    attributes: &HashMap<&str, &AttributeProto>,
) -> NodeProto {
    let rename = |name: &String| match names.get(name.as_str()) {
        _ if name.is_empty() => String::new(),
        Some(outer) => outer.clone(),
        None => format!("{prefix}/{name}"),
    };
    let mut renamed_node = node.clone();
    renamed_node.name = format!("{call}/{}", node.name);
    renamed_node.input = node.input.iter().map(rename).collect();
    renamed_node.output = node.output.iter().map(rename).collect();
    renamed_node.attribute = node
        .attribute
        .iter()
        .filter_map(|attribute| {
            if attribute.ref_attr_name.is_empty() {
                let mut own = attribute.clone();
                own.g = attribute.g.as_ref().map(|graph| renamed_graph(graph, prefix, call, names, attributes));
                return Some(own);
            }
            // An attribute the call leaves out is left out inside as well.
            let given = *attributes.get(attribute.ref_attr_name.as_str())?;
            Some(AttributeProto { name: attribute.name.clone(), ..given.clone() })
        })
        .collect();
    renamed_node
}

fn renamed_graph(
    graph: &GraphProto,
    prefix: &str,
    call: &str,
    names: &HashMap<&str, String>,
    attributes: &HashMap<&str, &AttributeProto>,
) -> GraphProto {
    let rename = |name: &str| names.get(name).cloned().unwrap_or_else(|| format!("{prefix}/{name}"));
    let mut inner = graph.clone();
    inner.node = graph.node.iter().map(|node| renamed(node, prefix, call, names, attributes)).collect();
    inner.initializer.iter_mut().for_each(|t| t.name = rename(&t.name));
    inner.input.iter_mut().chain(&mut inner.output).for_each(|v| v.name = rename(&v.name));
    inner
}
