//! Attributes and constant operands of nodes, and what of the graph decides them.

use super::super::proto::{AttributeProto, attribute_type};
use crate::graph::{DType, Data, Tensor, Value};
use bytes::Bytes;

/// Constant operands after the node's own: what to name each, and its contents, or `None` for one left out.
pub type Constants = Vec<(&'static str, Option<Tensor>)>;

/// What an operator's node has beside the operands of the graph.
pub type Encoded = (Vec<AttributeProto>, Constants);

/// What an operator is encoded for: an opset from 17 to 24, and its first operand.
#[derive(Clone, Copy)]
pub struct Context<'g> {
    pub opset: i64,
    pub operand: Option<&'g Value>,
}

impl Context<'_> {
    /// A number of the operand's type: bounds and fill values are of the type of what they bound and fill.
    pub fn number(&self, x: f32) -> Option<Tensor> {
        Some(Tensor::new([0; 0], of_type(x, self.operand.map_or(DType::F32, |value| value.dtype))))
    }
}

/// An operator without constant operands.
pub fn attributes(attributes: Vec<AttributeProto>) -> Encoded {
    (attributes, vec![])
}

/// A list as a constant operand.
pub fn numbers(list: &[i64]) -> Option<Tensor> {
    Some(Tensor::i64([list.len()], list.to_vec()))
}

/// One number as a constant operand.
pub fn number(n: i64) -> Option<Tensor> {
    Some(Tensor::i64([0; 0], vec![n]))
}

/// One number as an element of a type, the nearest that the type has.
fn of_type(x: f32, dtype: DType) -> Data {
    match dtype {
        DType::I64 | DType::U32 | DType::U64 => Data::I64(vec![x as i64]),
        DType::I32 | DType::I16 | DType::U16 => Data::I32(vec![x as i32]),
        DType::I8 => Data::I8(vec![x as i8]),
        DType::U8 => Data::U8(vec![x as u8]),
        DType::Bool => Data::Bool(vec![x != 0.0]),
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 => Data::F32(vec![x].into()),
    }
}

pub fn signed(list: &[usize]) -> Vec<i64> {
    list.iter().map(|&n| n as i64).collect()
}

fn attribute(name: &str, r#type: i32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type, ..Default::default() }
}

pub fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i: Some(i), ..attribute(name, attribute_type::INT) }
}

/// The attribute `axis`.
pub fn axis(axis: usize) -> AttributeProto {
    int("axis", axis as i64)
}

pub fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { f: Some(f), ..attribute(name, attribute_type::FLOAT) }
}

pub fn ints(name: &str, list: &[i64]) -> AttributeProto {
    AttributeProto { ints: list.to_vec(), ..attribute(name, attribute_type::INTS) }
}

pub fn text(name: &str, value: &'static str) -> AttributeProto {
    AttributeProto { s: Some(Bytes::from_static(value.as_bytes())), ..attribute(name, attribute_type::STRING) }
}
