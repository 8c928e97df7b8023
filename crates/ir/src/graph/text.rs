//! A graph as text, one line a node, for people, `--dump` and tests:
//!
//! ```text
//! graph net(image: f32[batch,1,28,28])
//!   conv1: f32[batch,8,28,28] = Conv{kernel: [3, 3], …}(image, w: f32[8,1,3,3], b: f32[8])
//!   return conv1
//! ```

use super::{Graph, Op, ValueId, shape_text};
use std::fmt;

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let typed = |id: &ValueId| {
            let v = self.value(*id);
            let quant = v.quant.as_ref().map_or(String::new(), |q| match q.scale[..] {
                [scale] => format!(" {}·(q−{})", scale, q.zero_point[0]),
                _ => format!(" {} scales", q.scale.len()),
            });
            format!("{}: {}{}{quant}", v.name, v.dtype, shape_text(&v.shape))
        };
        let list = |ids: &[ValueId]| ids.iter().map(typed).collect::<Vec<_>>().join(", ");
        writeln!(f, "graph {}({})", self.name, list(&self.inputs))?;
        for node in &self.nodes {
            let operand = |id: &Option<ValueId>| match id {
                None => "_".to_string(),
                Some(id) if self.constant(*id).is_some() => typed(id),
                Some(id) => self.value(*id).name.clone(),
            };
            let operands: Vec<String> = node.inputs.iter().map(operand).collect();
            writeln!(f, "  {} = {}({})", list(&node.outputs), op_text(&node.op), operands.join(", "))?;
        }
        let outputs: Vec<&str> = self.outputs.iter().map(|&id| self.value(id).name.as_str()).collect();
        writeln!(f, "  return {}", outputs.join(", "))
    }
}

fn op_text(op: &Op) -> String {
    match op {
        Op::Opaque(node) => format!("opaque {} ({})", node.op_type, node.why),
        // The derived form reads `Conv(Conv { … })` for tuple variants; one name is enough.
        Op::Conv(a) => format!("{a:?}"),
        Op::ConvInteger(a) => format!("{a:?}").replacen("Conv", op.name(), 1),
        Op::Unary(a) => format!("{a:?}"),
        Op::Binary(a) => format!("{a:?}"),
        Op::Variadic(a) => format!("{a:?}"),
        Op::Resize(a) => format!("{a:?}"),
        Op::ConvTranspose(a) => format!("{a:?}"),
        Op::Recurrent(a) => format!("{a:?}"),
        Op::MaxPool(a) | Op::AveragePool(a) => format!("{a:?}").replacen("Pool", op.name(), 1),
        _ => format!("{op:?}"),
    }
}
