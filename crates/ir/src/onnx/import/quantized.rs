//! Operators on quantized tensors, read as what they stand for: dequantize, the operator on floats, quantize.
//!
//! ONNX's QLinearConv, QLinearMatMul and DynamicQuantizeLinear, and those that ONNX Runtime's quantizer writes in the
//! domain com.microsoft (<https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md>). A result that
//! the next such operator reads is then a quantize/dequantize pair, and becomes parameters of the value between them.
//! Integers that accumulate exactly and floats differ by less than a rounding, so results are those of the operator to
//! within one quantization step.

use super::super::proto::{AttributeProto, NodeProto, attribute_type, data_type};
use std::collections::HashMap;

/// The domain of ONNX Runtime's own operators.
const RUNTIME: &str = "com.microsoft";

/// Operators that give elements of their first operand, so that it is all one whether those are stored or real numbers.
const MOVES: [&str; 9] =
    ["Flatten", "Gather", "Identity", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"];

/// Writes quantized operators of a model in terms of the standard domain, node by node.
#[derive(Default)]
pub struct Expander {
    /// Results of quantized operators, with the names of their scale and zero point.
    stored: HashMap<String, [String; 2]>,
}

impl Expander {
    /// The nodes that a quantized operator stands for; none for any other node, or one whose attributes have no
    /// counterpart in the standard domain.
    pub fn expand(&mut self, call: &NodeProto) -> Option<Vec<NodeProto>> {
        let stored = call.input.first().and_then(|x| self.stored.get(x)).cloned();
        let standard = matches!(call.domain.as_str(), "" | "ai.onnx");
        let nodes = match stored {
            Some(stored) if standard && MOVES.contains(&call.op_type.as_str()) => moved(call, stored)?,
            _ => written(call)?,
        };
        if let Some(last) = nodes.last().filter(|n| n.op_type == "QuantizeLinear" && n.input.len() == 3) {
            self.stored.insert(last.output[0].clone(), [last.input[1].clone(), last.input[2].clone()]);
        }
        Some(nodes)
    }
}

/// An operator of [`MOVES`] on floats, so that quantization ends before it and begins again after it.
fn moved(call: &NodeProto, [scale, zero_point]: [String; 2]) -> Option<Vec<NodeProto>> {
    if call.output.len() != 1 {
        return None;
    }
    let mut writer = Writer::new(call);
    let x = writer.node(
        "DequantizeLinear",
        "float_0",
        vec![call.input[0].clone(), scale.clone(), zero_point.clone()],
        vec![],
    );
    let operands = std::iter::once(x).chain(call.input[1..].iter().cloned()).collect();
    let float = writer.node(&call.op_type, "float", operands, call.attribute.clone());
    writer.node("QuantizeLinear", "quantized", vec![float, scale, zero_point], vec![]);
    writer.finished()
}

fn written(call: &NodeProto) -> Option<Vec<NodeProto>> {
    let mut writer = Writer::new(call);
    match (call.domain.as_str(), call.op_type.as_str()) {
        ("" | "ai.onnx", "QLinearConv") => {
            let (x, w) = (writer.dequantized([0, 1, 2], None), writer.dequantized([3, 4, 5], Some(0)));
            let bias = writer.bias(8, [1, 4]);
            writer.quantized("Conv", vec![x, w, bias], [6, 7], &[])
        }
        ("" | "ai.onnx", "QLinearMatMul") => {
            // A scale by row of the left operand, by column of the right one.
            let (a, b) = (writer.dequantized([0, 1, 2], Some(-2)), writer.dequantized([3, 4, 5], Some(-1)));
            writer.quantized("MatMul", vec![a, b], [6, 7], &[])
        }
        ("" | "ai.onnx", "DynamicQuantizeLinear") => writer.dynamic(),
        (RUNTIME, "QuantizeLinear" | "DequantizeLinear") => {
            Some(vec![NodeProto { domain: String::new(), ..call.clone() }])
        }
        (RUNTIME, "QLinearAdd" | "QLinearMul") => {
            let (a, b) = (writer.dequantized([0, 1, 2], None), writer.dequantized([3, 4, 5], None));
            writer.quantized(&call.op_type["QLinear".len()..], vec![a, b], [6, 7], &[])
        }
        (RUNTIME, "QLinearSigmoid" | "QLinearLeakyRelu") => {
            let x = writer.dequantized([0, 1, 2], None);
            writer.quantized(&call.op_type["QLinear".len()..], vec![x], [3, 4], &[])
        }
        (RUNTIME, "QLinearAveragePool" | "QLinearGlobalAveragePool") if writer.int("channels_last", 0) == 0 => {
            let x = writer.dequantized([0, 1, 2], None);
            writer.quantized(&call.op_type["QLinear".len()..], vec![x], [3, 4], &["channels_last"])
        }
        // Before opset 13 a softmax was one over several axes.
        (RUNTIME, "QLinearSoftmax") if writer.int("opset", 13) >= 13 => {
            let x = writer.dequantized([0, 1, 2], None);
            writer.quantized("Softmax", vec![x], [3, 4], &["opset"])
        }
        (RUNTIME, "QLinearConcat") => {
            let parts = (2..call.input.len()).step_by(3);
            let parts = parts.map(|i| writer.dequantized([i, i + 1, i + 2], None)).collect();
            writer.quantized("Concat", parts, [0, 1], &[])
        }
        (RUNTIME, "QLinearWhere") => {
            let (x, y) = (writer.dequantized([1, 2, 3], None), writer.dequantized([4, 5, 6], None));
            let condition = writer.operand(0);
            writer.quantized("Where", vec![condition, x, y], [7, 8], &[])
        }
        (RUNTIME, "QGemm") => {
            let column = if writer.int("transB", 0) == 0 { 1 } else { 0 };
            let (a, b) = (writer.dequantized([0, 1, 2], None), writer.dequantized([3, 4, 5], Some(column)));
            let bias = writer.bias(6, [1, 4]);
            // The stored bias has the scale of the product, alpha included.
            let alpha = call.attribute.iter().find(|a| a.name == "alpha").and_then(|a| a.f).unwrap_or(1.0);
            writer.extra = vec![float("beta", alpha)];
            writer.quantized("Gemm", vec![a, b, bias], [7, 8], &[])
        }
        (RUNTIME, "MatMulIntegerToFloat") => {
            let (a, b) = (writer.dequantized([0, 2, 4], Some(-2)), writer.dequantized([1, 3, 5], Some(-1)));
            writer.product(a, b)
        }
        _ => None,
    }
}

struct Writer<'a> {
    call: &'a NodeProto,
    /// What names of values in between start with: the result, which is unique.
    prefix: String,
    nodes: Vec<NodeProto>,
    /// Attributes of the operator on floats beside the call's.
    extra: Vec<AttributeProto>,
}

impl<'a> Writer<'a> {
    fn new(call: &'a NodeProto) -> Writer<'a> {
        let prefix = call.output.iter().find(|n| !n.is_empty()).cloned().unwrap_or_default();
        Writer { call, prefix, nodes: vec![], extra: vec![] }
    }

    /// The name of an operand, empty if it is left out.
    fn operand(&self, index: usize) -> String {
        self.call.input.get(index).cloned().unwrap_or_default()
    }

    fn int(&self, name: &str, default: i64) -> i64 {
        self.call.attribute.iter().find(|a| a.name == name).map_or(default, |a| a.i.unwrap_or(0))
    }

    /// Adds a node with one result, called `what` within the call.
    fn node(&mut self, op: &str, what: &str, mut input: Vec<String>, attribute: Vec<AttributeProto>) -> String {
        while input.last().is_some_and(String::is_empty) {
            input.pop();
        }
        let result = format!("{}/{what}", self.prefix);
        let name = if self.call.name.is_empty() { String::new() } else { format!("{}/{what}", self.call.name) };
        let (op_type, output) = (op.to_string(), vec![result.clone()]);
        self.nodes.push(NodeProto { input, output, name, op_type, attribute, ..Default::default() });
        result
    }

    /// An operand as floats: its position, that of its scale and of its zero point.
    fn dequantized(&mut self, at: [usize; 3], axis: Option<i64>) -> String {
        let attribute = axis.map(|axis| int("axis", axis)).into_iter().collect();
        self.node("DequantizeLinear", &format!("float_{}", at[0]), at.map(|i| self.operand(i)).to_vec(), attribute)
    }

    /// A bias of integers as floats: it has the product of these two scales.
    fn bias(&mut self, index: usize, scales: [usize; 2]) -> String {
        if self.operand(index).is_empty() {
            return String::new();
        }
        let scale = self.node("Mul", "bias_scale", scales.map(|i| self.operand(i)).to_vec(), vec![]);
        let bias = self.operand(index);
        self.node("DequantizeLinear", "float_bias", vec![bias, scale], vec![int("axis", 0)])
    }

    /// The operator on floats, with the call's attributes but some, and its result quantized; as it is where the call
    /// names no scale.
    fn quantized(
        mut self,
        op: &str,
        operands: Vec<String>,
        [scale, zero_point]: [usize; 2],
        dropped: &[&str],
    ) -> Option<Vec<NodeProto>> {
        let kept = self.call.attribute.iter().filter(|a| !dropped.contains(&a.name.as_str())).cloned();
        let attribute = kept.chain(std::mem::take(&mut self.extra)).collect();
        let float = self.node(op, "float", operands, attribute);
        let (scale, zero_point) = (self.operand(scale), self.operand(zero_point));
        match (scale.is_empty(), zero_point.is_empty()) {
            (true, true) => {}
            // Whether bytes are signed is said by the zero point alone.
            (_, true) => return None,
            (..) => _ = self.node("QuantizeLinear", "quantized", vec![float, scale, zero_point], vec![]),
        }
        self.finished()
    }

    /// Floats that were integers, multiplied; with a bias of floats at the seventh place.
    fn product(mut self, a: String, b: String) -> Option<Vec<NodeProto>> {
        let float = self.node("MatMul", "float", vec![a, b], vec![]);
        if !self.operand(6).is_empty() {
            self.node("Add", "sum", vec![float, self.operand(6)], vec![]);
        }
        self.finished()
    }

    /// Scale and zero point from the extremes of the operand, zero among them (the specification's own definition).
    fn dynamic(mut self) -> Option<Vec<NodeProto>> {
        let x = self.operand(0);
        let constant = |v: f32| vec![float("value_float", v)];
        let zero = self.node("Constant", "zero", vec![], constant(0.0));
        let most = self.node("Constant", "most", vec![], constant(255.0));
        let over_all = || vec![int("keepdims", 0)];
        let min = self.node("ReduceMin", "min", vec![x.clone()], over_all());
        let min = self.node("Min", "low", vec![min, zero.clone()], vec![]);
        let max = self.node("ReduceMax", "max", vec![x.clone()], over_all());
        let max = self.node("Max", "high", vec![max, zero.clone()], vec![]);
        let range = self.node("Sub", "range", vec![max, min.clone()], vec![]);
        let scale = self.node("Div", "scale", vec![range, most.clone()], vec![]);
        let steps = self.node("Div", "steps", vec![min, scale.clone()], vec![]);
        let first = self.node("Sub", "first", vec![zero.clone(), steps], vec![]);
        let inside = self.node("Clip", "inside", vec![first, zero, most], vec![]);
        let rounded = self.node("Round", "rounded", vec![inside], vec![]);
        let point = self.node("Cast", "point", vec![rounded], vec![int("to", data_type::UINT8.into())]);
        let quantized = self.node("QuantizeLinear", "quantized", vec![x, scale.clone(), point.clone()], vec![]);
        let names = [quantized, scale, point];
        let results: Vec<(String, String)> = names.into_iter().zip(self.call.output.iter().cloned()).collect();
        for (inner, outer) in results.into_iter().filter(|(_, outer)| !outer.is_empty()) {
            self.renamed(&inner, &outer);
        }
        Some(self.nodes)
    }

    /// The last node's result is the call's, and so is its name the call's.
    fn finished(mut self) -> Option<Vec<NodeProto>> {
        let inner = self.nodes.last()?.output.first()?.clone();
        let outer = self.call.output.first()?.clone();
        self.renamed(&inner, &outer);
        Some(self.nodes)
    }

    fn renamed(&mut self, inner: &str, outer: &str) {
        let names = self.nodes.iter_mut().flat_map(|n| n.input.iter_mut().chain(&mut n.output));
        names.filter(|n| *n == inner).for_each(|n| *n = outer.to_string());
    }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: attribute_type::INT, i: Some(i), ..Default::default() }
}

fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: attribute_type::FLOAT, f: Some(f), ..Default::default() }
}
