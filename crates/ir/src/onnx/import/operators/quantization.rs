//! Quantization and dequantization that are operators of the graph: those that are no pair (see [`super::super::quant`]).

use super::super::super::proto::data_type;
use super::super::super::tensor;
use super::super::call::Call;
use super::super::fault::{Fault, unsupported};
use super::super::plan::Plan;
use crate::graph::{DType, Dim, Op, Unread};

pub fn convert(call: &Call) -> Result<Option<Plan>, Fault> {
    let quantize = match call.proto.op_type.as_str() {
        "QuantizeLinear" => true,
        "DequantizeLinear" => false,
        _ => return Ok(None),
    };
    let (block, channels) = (call.int("block_size", 0), call.shape(1)?);
    if block != 0 || channels.len() > 1 {
        return unsupported(Unread::Blocks);
    }
    // One scale has no axis, and the attribute no meaning then.
    let axis = if channels.is_empty() || channels == [Dim::Fixed(1)] { 0 } else { call.axis(1)? };
    let code = match (call.operand(2), call.int("output_dtype", 0) as i32) {
        (Some(_), _) if quantize => call.stated_type(2).unwrap_or(tensor::dtype_code(call.dtype(2)?)),
        (None, 0) if quantize => data_type::UINT8,
        (None, code) if quantize => code,
        _ => call.stated_type(0).unwrap_or(tensor::dtype_code(call.dtype(0)?)),
    };
    let to = match code {
        data_type::INT8 => DType::I8,
        data_type::UINT8 => DType::U8,
        data_type::INT16 => DType::I16,
        data_type::UINT16 => DType::U16,
        data_type::INT32 => DType::I32,
        _ => return unsupported(Unread::Stored),
    };
    Plan::new(0..3, if quantize { Op::Quantize { axis, to } } else { Op::Dequantize { axis } }).map(Some)
}
