//! Operators that are written as several others while a model is read: a network of each, between floats.

use kdc::graph::{Data, Graph, Op, Tensor};
use kdc::onnx;
use prost::Message;
use std::sync::Arc;
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto, TypeProto,
    ValueInfoProto, attribute_proto::AttributeType, tensor_shape_proto, type_proto,
};

const FLOAT: i32 = 1;
const BYTE: i32 = 2;
const BOOL: i32 = 9;

/// Those that take and give floats.
const OF_FLOATS: [&str; 4] = ["CastLike", "Einsum", "RMSNormalization", "Swish"];

/// What an operand is.
enum Operand {
    /// Floats that the caller supplies, quantized where the operator wants bytes.
    Input(&'static [i64]),
    Weights(&'static [i64]),
    Scale,
    ZeroPoint,
    Floats(&'static [i64]),
    Truth(&'static [i64]),
}
use Operand::{Floats, Input, Scale, Truth, Weights, ZeroPoint};

/// A network around an operator of [`onnx::WRITTEN_AS_OTHERS`], as kdc reads it; `None` if it keeps a node as it is.
pub fn network(name: &str) -> Option<Graph> {
    let graph = onnx::import(model(name).into(), None).unwrap();
    graph.nodes.iter().all(|n| !matches!(n.op, Op::Opaque(_))).then_some(graph)
}

/// The same network, its input being a constant, so that it trains.
pub fn trainable(mut graph: Graph) -> Graph {
    for id in std::mem::take(&mut graph.inputs) {
        let shape = kdc::graph::shape_at(&graph.value(id).shape, 1);
        graph.value_mut(id).data = Some(Arc::new(numbers(&shape)));
    }
    graph
}

/// Floats that differ.
pub fn numbers(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    Tensor::new(shape, Data::F32((0..count).map(|i| (i * 7 % 11) as f32 * 0.1).collect()))
}

fn operands(name: &str) -> (Vec<Operand>, Vec<AttributeProto>) {
    let image = &[1, 2, 4, 4];
    let one = |x: Operand| vec![x, Scale, ZeroPoint, Scale, ZeroPoint];
    let two = |a: Operand, b: Operand| vec![a, Scale, ZeroPoint, b, Scale, ZeroPoint, Scale, ZeroPoint];
    let none = |operands: Vec<Operand>| (operands, vec![]);
    match name {
        "CastLike" => none(vec![Input(&[2, 3]), Floats(&[1])]),
        "DynamicQuantizeLinear" => none(vec![Input(&[2, 3])]),
        "Einsum" => (vec![Input(&[2, 3, 4]), Floats(&[4, 5])], vec![equation("bij,jk->bki")]),
        "QLinearConv" => none(two(Input(image), Weights(&[3, 2, 3, 3]))),
        "QLinearMatMul" => none(two(Input(&[2, 3]), Weights(&[3, 4]))),
        "RMSNormalization" => (vec![Input(&[2, 3]), Floats(&[3])], vec![float("epsilon", 0.5)]),
        "Swish" => (vec![Input(&[2, 3])], vec![float("alpha", 0.5)]),
        "com.microsoft.DequantizeLinear" => none(vec![Input(image), Scale, ZeroPoint]),
        "com.microsoft.QuantizeLinear" => none(vec![Input(image), Scale, ZeroPoint]),
        "com.microsoft.MatMulIntegerToFloat" => {
            none(vec![Input(&[2, 3]), Weights(&[3, 4]), Scale, Scale, ZeroPoint, ZeroPoint, Floats(&[4])])
        }
        "com.microsoft.QGemm" => {
            let mut all = two(Input(&[2, 3]), Weights(&[4, 3]));
            all.insert(6, Weights(&[4]));
            (all, vec![int("transB", 1)])
        }
        "com.microsoft.QLinearAdd" | "com.microsoft.QLinearMul" => none(two(Input(image), Weights(image))),
        "com.microsoft.QLinearConcat" => {
            let mut all = two(Input(image), Weights(image));
            all.rotate_right(2);
            (all, vec![int("axis", 1)])
        }
        "com.microsoft.QLinearWhere" => {
            let mut all = two(Input(image), Weights(image));
            all.insert(0, Truth(image));
            none(all)
        }
        "com.microsoft.QLinearAveragePool" => {
            let kernel = AttributeProto {
                name: "kernel_shape".into(),
                ints: vec![2, 2],
                r#type: AttributeType::Ints as i32,
                ..Default::default()
            };
            (one(Input(image)), vec![kernel])
        }
        "com.microsoft.QLinearSoftmax" => (one(Input(&[2, 3])), vec![int("opset", 13)]),
        "com.microsoft.QLinearGlobalAveragePool"
        | "com.microsoft.QLinearLeakyRelu"
        | "com.microsoft.QLinearSigmoid" => none(one(Input(image))),
        other => panic!("no network is known for {other}"),
    }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.into(), f, r#type: AttributeType::Float as i32, ..Default::default() }
}

pub fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i, r#type: AttributeType::Int as i32, ..Default::default() }
}

pub fn equation(text: &str) -> AttributeProto {
    let s = text.as_bytes().to_vec();
    AttributeProto { name: "equation".into(), s, r#type: AttributeType::String as i32, ..Default::default() }
}

pub fn node(op: &str, input: &[&str], output: &[&str]) -> NodeProto {
    let names = |v: &[&str]| v.iter().map(|n| n.to_string()).collect();
    let (domain, op_type) = op.rsplit_once('.').unwrap_or(("", op));
    NodeProto {
        op_type: op_type.into(),
        domain: domain.into(),
        input: names(input),
        output: names(output),
        ..Default::default()
    }
}

pub fn stated(name: &str, dims: &[i64]) -> ValueInfoProto {
    let dim = |n: &i64| tensor_shape_proto::Dimension {
        value: Some(tensor_shape_proto::dimension::Value::DimValue(*n)),
        ..Default::default()
    };
    let shape = Some(TensorShapeProto { dim: dims.iter().map(dim).collect() });
    let tensor = type_proto::Value::TensorType(type_proto::Tensor { elem_type: FLOAT, shape });
    let r#type = Some(TypeProto { value: Some(tensor), ..Default::default() });
    ValueInfoProto { name: name.into(), r#type, ..Default::default() }
}

/// The file that such a network is read from.
pub fn model(name: &str) -> Vec<u8> {
    let (operands, attributes) = operands(name);
    let takes_floats = name.ends_with("QuantizeLinear") || OF_FLOATS.contains(&name);
    let mut graph = GraphProto { name: "one".into(), ..Default::default() };
    let constant = |name: &str, data_type: i32, dims: &[i64]| {
        let count = dims.iter().product::<i64>();
        let mut tensor = TensorProto { name: name.into(), data_type, dims: dims.to_vec(), ..Default::default() };
        match data_type {
            FLOAT => tensor.float_data = (0..count).map(|i| 0.02 + i as f32 * 0.01).collect(),
            _ => {
                tensor.int32_data =
                    (0..count).map(|i| (i * 5 % 9) as i32 % if data_type == BOOL { 2 } else { 9 }).collect()
            }
        }
        tensor
    };
    graph.initializer = vec![constant("scale", FLOAT, &[]), constant("zero_point", BYTE, &[])];
    let mut names = vec![];
    for (i, operand) in operands.iter().enumerate() {
        let name = format!("x{i}");
        match operand {
            Scale => names.push("scale".to_string()),
            ZeroPoint => names.push("zero_point".into()),
            Input(dims) => {
                graph.input.push(stated(&name, dims));
                if takes_floats {
                    names.push(name);
                } else {
                    let quantized = format!("{name}_quantized");
                    graph.node.push(node("QuantizeLinear", &[&name, "scale", "zero_point"], &[&quantized]));
                    names.push(quantized);
                }
            }
            Weights(dims) => {
                // A bias is stored in 32 bits.
                graph.initializer.push(constant(&name, if dims.len() == 1 { 6 } else { BYTE }, dims));
                names.push(name);
            }
            Floats(dims) | Truth(dims) => {
                let data_type = if matches!(operand, Floats(_)) { FLOAT } else { BOOL };
                graph.initializer.push(constant(&name, data_type, dims));
                names.push(name);
            }
        }
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let floats = name.ends_with("ToFloat") || name.ends_with("DequantizeLinear") || OF_FLOATS.contains(&name);
    let results: &[&str] = match name {
        "DynamicQuantizeLinear" => &["y", "y_scale", "y_zero_point"],
        _ if floats => &["out"],
        _ => &["y"],
    };
    graph.node.push(NodeProto { attribute: attributes, ..node(name, &names, results) });
    if !floats {
        let parameters = if results.len() == 3 { ["y_scale", "y_zero_point"] } else { ["scale", "zero_point"] };
        graph.node.push(node("DequantizeLinear", &["y", parameters[0], parameters[1]], &["out"]));
    }
    graph.output = vec![stated("out", &[])];
    graph.output[0].r#type = None;
    let opset = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
    let opset_import = vec![opset("", 17), opset("com.microsoft", 1)];
    ModelProto { ir_version: 8, graph: Some(graph), opset_import, ..Default::default() }.encode_to_vec()
}
