//! What the bodies of If, Loop and Scan take from the graph around them.

use super::super::proto::NodeProto;
use std::collections::HashSet;

/// Names that the subgraphs of a node read and do not define, in order. Depth is bounded by the decoder's limit.
pub fn captures(node: &NodeProto) -> Vec<&str> {
    let mut names = vec![];
    for attribute in &node.attribute {
        for graph in attribute.g.iter().chain(&attribute.graphs) {
            let mut defined: HashSet<&str> = graph.input.iter().map(|v| v.name.as_str()).collect();
            defined.extend(graph.initializer.iter().map(|t| t.name.as_str()));
            for inner in &graph.node {
                for name in inner.input.iter().map(String::as_str).chain(captures(inner)) {
                    if !name.is_empty() && !defined.contains(name) && !names.contains(&name) {
                        names.push(name);
                    }
                }
                defined.extend(inner.output.iter().map(String::as_str));
            }
            for output in graph.output.iter().map(|v| v.name.as_str()) {
                if !defined.contains(output) && !names.contains(&output) {
                    names.push(output);
                }
            }
        }
    }
    names
}
