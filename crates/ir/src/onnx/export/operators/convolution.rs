//! Convolutions.

use super::super::super::proto::AttributeProto;
use super::super::attributes::{Context, Encoded, attributes, int, ints, signed};
use crate::graph::{Conv, Op};

pub fn encode(op: &Op, _: Context) -> Option<Encoded> {
    Some(match op {
        Op::Conv(conv) | Op::ConvInteger(conv) => attributes(window(conv)),
        Op::ConvTranspose(transposed) => {
            let mut list = window(&transposed.conv);
            list.push(ints("output_padding", &signed(&transposed.output_padding)));
            attributes(list)
        }
        _ => return None,
    })
}

fn window(conv: &Conv) -> Vec<AttributeProto> {
    vec![
        ints("dilations", &signed(&conv.dilations)),
        int("group", conv.group as i64),
        ints("kernel_shape", &signed(&conv.kernel)),
        ints("pads", &signed(&conv.pads)),
        ints("strides", &signed(&conv.strides)),
    ]
}
