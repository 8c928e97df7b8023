//! Values with [`QuantParams`] → QuantizeLinear and DequantizeLinear.

use super::super::{Error, proto::NodeProto, tensor};
use super::{Exporter, attributes};
use crate::graph::{DType, Data, QuantParams, Tensor, Value, ValueId};

impl Exporter<'_> {
    /// `written → QuantizeLinear → DequantizeLinear → read`.
    pub(super) fn pair(&mut self, id: ValueId, quant: &QuantParams) {
        let name = self.graph.value(id).name.clone();
        // Bytes of an activation are unsigned in the file (see the module above).
        let shift = if quant.dtype == DType::I8 { 128 } else { 0 };
        let zeros = quant.zero_point.iter().map(|&z| (z + shift).clamp(0, 255) as u8).collect();
        let zeros = Tensor::new(extents(quant), Data::U8(zeros));
        let (scale, zeros) = self.params(&name, quant, Some(zeros));
        let quantized = self.fresh(&format!("{name}_quantized"));
        let [written, read] = [&self.written, &self.read].map(|names| names[id.index()].clone());
        self.linear("QuantizeLinear", &name, [written, scale.clone(), zeros.clone()], quantized.clone(), quant);
        self.linear("DequantizeLinear", &name, [quantized, scale, zeros], read, quant);
    }

    /// A stored constant and the DequantizeLinear that gives it its name.
    pub(super) fn quantized_constant(
        &mut self,
        value: &Value,
        data: &Tensor,
        quant: &QuantParams,
    ) -> Result<(), Error> {
        let name = value.name.clone();
        let stored = quantize(data, quant).map_err(|what| Error::Value { value: name.clone(), what })?;
        let zeros = match quant.dtype {
            DType::I8 => Some(Data::I8(quant.zero_point.iter().map(|&z| z.clamp(-128, 127) as i8).collect())),
            DType::U8 => Some(Data::U8(quant.zero_point.iter().map(|&z| z.clamp(0, 255) as u8).collect())),
            // ONNX Runtime wants none for 32 bits.
            _ => None,
        };
        let quantized = self.fresh(&format!("{name}_quantized"));
        let quantized = self.push_initializer(tensor::write(quantized, &stored));
        let (scale, zeros) = self.params(&name, quant, zeros.map(|data| Tensor::new(extents(quant), data)));
        self.linear("DequantizeLinear", &name, [quantized, scale, zeros], name.clone(), quant);
        Ok(())
    }

    fn params(&mut self, name: &str, quant: &QuantParams, zeros: Option<Tensor>) -> (String, String) {
        let scale = Tensor::f32(extents(quant), quant.scale.clone());
        let scale = self.initializer(&format!("{name}_scale"), &scale);
        let zeros = zeros.map_or(String::new(), |z| self.initializer(&format!("{name}_zero_point"), &z));
        (scale, zeros)
    }

    fn linear(&mut self, op: &str, stem: &str, input: [String; 3], output: String, quant: &QuantParams) {
        let name = self.fresh_node(&format!("{stem}_{op}"));
        let attribute = quant.axis.map(|axis| attributes::int("axis", axis as i64)).into_iter().collect();
        let mut input = input.to_vec();
        while input.last().is_some_and(String::is_empty) {
            input.pop();
        }
        let op_type = op.to_string();
        self.file.node.push(NodeProto { input, output: vec![output], name, op_type, attribute, ..Default::default() });
    }
}

fn extents(quant: &QuantParams) -> Vec<usize> {
    if quant.axis.is_some() { vec![quant.scale.len()] } else { vec![] }
}

/// A constant as it is stored.
fn quantize(tensor: &Tensor, quant: &QuantParams) -> Result<Tensor, String> {
    let stored = quant.store(tensor).ok_or_else(|| match tensor.as_f32() {
        Some(_) => format!("quantized to {}, which is not written", quant.dtype),
        None => "quantized, but its numbers are not f32".into(),
    })?;
    let data = match quant.dtype {
        DType::I8 => Data::I8(stored.iter().map(|&q| q as i8).collect()),
        DType::U8 => Data::U8(stored.iter().map(|&q| q as u8).collect()),
        _ => Data::I32(stored),
    };
    Ok(Tensor::new(tensor.shape.clone(), data))
}
