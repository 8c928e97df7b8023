//! Einsum against its definition: a sum over every assignment of its axes.

use crate::written::{equation, node, stated};
use kdc::exec::{Mode, Network};
use kdc::graph::{Op, Tensor};
use kdc::onnx;
use prost::Message;
use std::collections::BTreeMap;
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, tensor_shape_proto::*,
};

/// Extents by label.
const EXTENTS: [(char, usize); 7] = [('b', 2), ('c', 3), ('h', 2), ('i', 4), ('j', 3), ('k', 5), ('d', 2)];

fn extent(label: char) -> usize {
    EXTENTS.iter().find(|(l, _)| *l == label).unwrap().1
}

fn values(term: &str) -> Vec<f32> {
    let count: usize = term.chars().map(extent).product();
    (0..count).map(|n| ((n * 7 + term.len() * 5) % 11) as f32 * 0.2 - 1.0).collect()
}

/// The definition, in double precision.
fn defined(terms: &[&str], result: &str, operands: &[Vec<f32>]) -> Vec<f32> {
    let labels: Vec<char> = terms.concat().chars().collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    let at = |term: &str, place: &BTreeMap<char, usize>| {
        term.chars().fold(0, |index, label| index * extent(label) + place[&label])
    };
    let mut out = vec![0f64; result.chars().map(extent).product()];
    for mut number in 0..labels.iter().map(|&l| extent(l)).product::<usize>() {
        let mut place = BTreeMap::new();
        for &label in &labels {
            place.insert(label, number % extent(label));
            number /= extent(label);
        }
        let factors = terms.iter().zip(operands).map(|(term, values)| f64::from(values[at(term, &place)]));
        out[at(result, &place)] += factors.product::<f64>();
    }
    out.into_iter().map(|x| x as f32).collect()
}

/// A network of one node; operands whose first axis is `b` are inputs, samples along it, and others are constants.
fn network(text: &str, terms: &[&str]) -> kdc::graph::Graph {
    let mut graph = GraphProto { name: "one".into(), ..Default::default() };
    let names: Vec<String> = (0..terms.len()).map(|i| format!("x{i}")).collect();
    for (name, term) in names.iter().zip(terms) {
        let dims: Vec<i64> = term.chars().map(|l| extent(l) as i64).collect();
        if !term.starts_with('b') {
            let (float_data, data_type) = (values(term), 1);
            graph.initializer.push(TensorProto {
                name: name.clone(),
                data_type,
                dims,
                float_data,
                ..Default::default()
            });
            continue;
        }
        let mut input = stated(name, &dims);
        if let Some(tract_onnx::pb::type_proto::Value::TensorType(tensor)) =
            input.r#type.as_mut().and_then(|t| t.value.as_mut())
        {
            let TensorShapeProto { dim } = tensor.shape.as_mut().unwrap();
            dim[0].value = Some(dimension::Value::DimParam("batch".into()));
        }
        graph.input.push(input);
    }
    let inputs: Vec<&str> = names.iter().map(String::as_str).collect();
    graph.node.push(NodeProto { attribute: vec![equation(text)], ..node("Einsum", &inputs, &["y"]) });
    graph.output = vec![stated("y", &[])];
    graph.output[0].r#type = None;
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
    let model = ModelProto { ir_version: 8, graph: Some(graph), opset_import, ..Default::default() };
    onnx::import(model.encode_to_vec().into(), None).unwrap()
}

#[test]
fn equations_give_what_their_definition_does() {
    for (text, spelled) in [
        ("bij,bjk->bik", "bij,bjk->bik"),
        ("bcj,cd->bdj", "bcj,cd->bdj"),
        ("cd,bcj->bdj", "cd,bcj->bdj"),
        ("bhid,bhjd->bhij", "bhid,bhjd->bhij"),
        ("bhij,bhjd->bihd", "bhij,bhjd->bihd"),
        ("bihd,bjhd->bhij", "bihd,bjhd->bhij"),
        ("bi,bj->bij", "bi,bj->bij"),
        ("bi,bi->b", "bi,bi->b"),
        ("bij,bij->bij", "bij,bij->bij"),
        ("bij->bji", "bij->bji"),
        ("bij->bj", "bij->bj"),
        ("bij->bij", "bij->bij"),
        ("bij,j->bi", "bij,j->bi"),
        ("bij,kj,kd->bid", "bij,kj,kd->bid"),
        ("bijc,kij->bck", "bijc,kij->bck"),
        ("b...j,jk->b...k", "bhij,jk->bhik"),
        ("...j,...j", "bij,bij->bi"),
        ("bij,jk", "bij,jk->bik"),
    ] {
        let (left, result) = spelled.split_once("->").unwrap();
        let terms: Vec<&str> = left.split(',').collect();
        let graph = network(text, &terms);
        assert!(graph.nodes.iter().all(|n| !matches!(n.op, Op::Opaque(_))), "{text}: {:?}", graph.nodes);
        let shape = |term: &str| term.chars().map(extent).collect::<Vec<usize>>();
        let operands: Vec<Vec<f32>> = terms.iter().map(|term| values(term)).collect();
        let inputs = terms.iter().filter(|term| term.starts_with('b'));
        let inputs: Vec<Tensor> = inputs.map(|term| Tensor::f32(shape(term), values(term))).collect();
        let network = Network::new(&graph, &burn::tensor::Device::flex()).unwrap();
        let y = network.forward(inputs, &[], Mode::Infer).unwrap().outputs[0].to_host().unwrap();
        assert_eq!(y.shape, shape(result), "{text}");
        for (a, b) in y.to_f32().iter().zip(defined(&terms, result, &operands)) {
            assert!((a - b).abs() < 1e-4, "{text}: {a} against {b}");
        }
    }
}

#[test]
fn what_is_not_read_stays_a_node_that_says_why() {
    for (text, terms, why) in [
        ("bii->bi", &["bij"][..], "names an axis twice"),
        ("bij,jk->bim", &["bij", "jk"], "no operand has the axis 'm'"),
        ("bij,kj->bik", &["bij", "jk"], "axes of different extents"),
    ] {
        let graph = network(text, terms);
        let Op::Opaque(kept) = &graph.nodes[0].op else { panic!("{text} was read") };
        assert!(kept.why.contains(why), "{text}: {}", kept.why);
    }
}
