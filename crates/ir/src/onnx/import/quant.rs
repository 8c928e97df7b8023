//! Quantize/dequantize pairs become [`QuantParams`] of the value they are around.
//!
//! `x → QuantizeLinear → DequantizeLinear → y` is one value, quantized at this point, called `y`; on a graph input it
//! keeps the input's name. A constant that is dequantized is an `f32` constant with parameters. Stored bytes are `i8`
//! here: a `u8` with its zero point is the same number 128 lower. What is used in any other way stays as it is.

use super::super::proto::NodeProto;
use super::Importer;
use super::call::Call;
use super::fault::{Fault, unsupported};
use crate::graph::{DType, Data, Dim, Node, Op, QuantParams, Tensor, Unread, Value, ValueId};

/// The parameters of a QuantizeLinear or DequantizeLinear.
fn params(call: &Call) -> Result<QuantParams, Fault> {
    let shape = call.shape(0)?;
    let Some(scales) = call.tensor(1) else { return unsupported("its scale is computed while the network runs") };
    let scale = scales.to_f32().into_owned();
    if call.int("block_size", 0) != 0 || scales.shape.len() > 1 {
        return unsupported(Unread::Blocks);
    }
    let stored = match (call.operand(2), call.proto.op_type.as_str()) {
        (Some(_), _) => call.dtype(2)?,
        (None, "QuantizeLinear") if call.int("output_dtype", 0) == 0 => DType::U8,
        (None, "QuantizeLinear") => call.dtype_attribute("output_dtype")?,
        (None, _) => call.dtype(0)?,
    };
    let zeros = match (call.operand(2), call.tensor(2)) {
        (None, _) => vec![0; scale.len()],
        (Some(_), Some(zeros)) => zeros.to_f32().iter().map(|&z| z as i32).collect(),
        (Some(_), None) => return unsupported("its zero point is computed while the network runs"),
    };
    let (dtype, shift) = match stored {
        DType::U8 => (DType::I8, 128),
        DType::I8 => (DType::I8, 0),
        DType::I32 if zeros.iter().all(|&z| z == 0) => (DType::I32, 0),
        _ => return unsupported(Unread::Stored),
    };
    let axis = match scales.shape.len() {
        0 => None,
        _ => match Call::resolve_axis(call.int("axis", 1), shape.len()) {
            Ok(axis) if scale.len() > 1 || shape[axis] == Dim::Fixed(1) => Some(axis),
            // One scale written as a vector; the axis has no meaning then.
            _ if scale.len() == 1 => None,
            other => Some(other?),
        },
    };
    let expected = match axis.map(|a| shape[a]) {
        None => 1,
        Some(Dim::Fixed(n)) => n,
        Some(_) => return unsupported("quantizes each sample on its own"),
    };
    if scale.len() != expected || zeros.len() != expected {
        return Err(Fault::Invalid(format!("{} scales and {} zero points for {expected}", scale.len(), zeros.len())));
    }
    if scale.iter().any(|s| !(s.is_finite() && *s > 0.0)) {
        return unsupported("has a scale that is not positive");
    }
    let zero_point = zeros.iter().map(|z| z - shift).collect();
    Ok(QuantParams { scale, zero_point, axis, dtype })
}

impl<'m> Importer<'m> {
    /// A QuantizeLinear is absorbed when nothing but dequantizers with the same parameters read its result.
    pub(super) fn quantize(&mut self, proto: &'m NodeProto, name: &str) -> Result<(), Fault> {
        let call = self.call(proto)?;
        let quant = params(&call)?;
        if call.dtype(0)? != DType::F32 || quant.dtype != DType::I8 {
            return unsupported(Unread::Stored);
        }
        let quantized = proto.output[0].as_str();
        let readers = self.readers.get(quantized).cloned().unwrap_or_default();
        let mut names = vec![];
        for reader in readers {
            let standard = matches!(reader.domain.as_str(), "" | "ai.onnx");
            let paired = standard
                && reader.op_type == "DequantizeLinear"
                && reader.input.first().is_some_and(|n| n == quantized);
            if !paired || reader.output.first().is_none_or(String::is_empty) || !self.same_params(proto, reader)? {
                return unsupported("its result is used quantized");
            }
            names.push(reader.output[0].as_str());
        }
        if names.is_empty() || self.output_names.contains(quantized) {
            return unsupported("its result is used quantized");
        }
        let source = self.materialise(&proto.input[0], 0)?;
        if self.unknown.contains(&source) || self.graph.constant(source).is_some() {
            return unsupported("quantizes what is constant or of unknown shape");
        }
        // A graph output among the results keeps its name; there is one value, so there can be only one such name.
        let kept: Vec<&str> = names.iter().copied().filter(|n| self.output_names.contains(n)).collect();
        let id = match kept.as_slice() {
            [] | [_] => self.absorb(source, &proto.input[0], kept.first().copied().unwrap_or(names[0]), name, quant),
            _ => return unsupported("two outputs of the network are dequantized from it"),
        };
        for name in names {
            self.pending.insert(name, id);
        }
        // Read only by the dequantizers, which look up their own result.
        self.ids.insert(quantized, id);
        Ok(())
    }

    /// Puts the parameters on the value itself if nobody reads it unquantized, else on a copy of it.
    fn absorb(&mut self, source: ValueId, source_name: &str, result: &str, node: &str, quant: QuantParams) -> ValueId {
        let alone = self.readers.get(source_name).map_or(0, Vec::len) == 1 && !self.output_names.contains(source_name);
        let input = self.graph.inputs.contains(&source);
        let value = self.graph.value(source);
        let fresh = value.quant.is_none() && (!input || !self.output_names.contains(result));
        if alone && fresh {
            let value = self.graph.value_mut(source);
            value.quant = Some(quant);
            if !input {
                value.name = result.to_string();
            }
            return source;
        }
        let (dtype, shape) = (value.dtype, value.shape.clone());
        let copy = self.graph.add_value(Value { name: result.into(), dtype, shape, data: None, quant: Some(quant) });
        let (inputs, outputs) = (vec![Some(source)], vec![copy]);
        self.graph.nodes.push(Node { name: node.to_string(), op: Op::Identity, inputs, outputs });
        copy
    }

    fn same_params(&mut self, a: &'m NodeProto, b: &'m NodeProto) -> Result<bool, Fault> {
        if a.input.get(1..) == b.input.get(1..) && !a.attribute.iter().chain(&b.attribute).any(|x| x.name != "axis") {
            let axis = |n: &NodeProto| n.attribute.iter().find(|x| x.name == "axis").and_then(|x| x.i).unwrap_or(1);
            return Ok(axis(a) == axis(b));
        }
        // The names differ; the numbers may be the same.
        for reader in [a, b] {
            for input in reader.input.iter().skip(1).filter(|n| !n.is_empty()) {
                if !self.known(input) {
                    return Ok(false);
                }
                self.materialise(input, 0)?;
            }
        }
        let call = self.call(a)?;
        let of_b = Call { proto: b, opset: call.opset, importer: call.importer };
        let number = |c: &Call, i: usize| c.tensor(i).cloned();
        Ok(number(&call, 1) == number(&of_b, 1)
            && number(&call, 2) == number(&of_b, 2)
            && call.int("axis", 1) == of_b.int("axis", 1)
            && number(&call, 1).is_some())
    }

    /// A DequantizeLinear ends a pair, or gives a constant its numbers.
    pub(super) fn dequantize(&mut self, proto: &'m NodeProto) -> Result<(), Fault> {
        let result = proto.output[0].as_str();
        if let Some(&id) = self.pending.get(result) {
            self.ids.insert(result, id);
            return Ok(());
        }
        let call = self.call(proto)?;
        let quant = params(&call)?;
        let Some(stored) = call.tensor(0) else { return unsupported("its operand is quantized elsewhere") };
        let shift = if stored.dtype() == DType::U8 { 128 } else { 0 };
        let numbers: Vec<i64> = match &stored.data {
            Data::I8(v) => v.iter().map(|&x| x.into()).collect(),
            Data::U8(v) => v.iter().map(|&x| i64::from(x)).collect(),
            Data::I32(v) => v.iter().map(|&x| x.into()).collect(),
            Data::F32(_) | Data::I64(_) | Data::Bool(_) => return unsupported("dequantizes a type kdc does not use"),
        };
        let inner: usize = quant.axis.map_or(1, |axis| stored.shape[axis + 1..].iter().product());
        let channels = quant.scale.len();
        let real = |(i, &q): (usize, &i64)| {
            let c = (i / inner.max(1)) % channels;
            (q - shift - i64::from(quant.zero_point[c])) as f32 * quant.scale[c]
        };
        let data: Vec<f32> = numbers.iter().enumerate().map(real).collect();
        let constant = Tensor { shape: stored.shape.clone(), data: Data::F32(data.into()) };
        let id = self.graph.add_constant(result, constant);
        self.graph.value_mut(id).quant = Some(quant);
        self.ids.insert(result, id);
        Ok(())
    }
}
