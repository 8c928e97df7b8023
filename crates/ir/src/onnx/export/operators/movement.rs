//! What moves elements or repeats them, wherever they are.

use super::super::attributes::{Context, Encoded, attributes, axis, int, ints, number, numbers, signed, text};
use crate::graph::{Op, PadMode};

pub fn encode(op: &Op, context: Context) -> Option<Encoded> {
    Some(match op {
        Op::Concat { axis: a } => attributes(vec![axis(*a)]),
        Op::Transpose { perm } => attributes(vec![ints("perm", &signed(perm))]),
        Op::Pad { pads, mode } => {
            let (name, fill) = match mode {
                PadMode::Constant(x) => ("constant", *x),
                PadMode::Reflect => ("reflect", 0.0),
                PadMode::Edge => ("edge", 0.0),
                PadMode::Wrap => ("wrap", 0.0),
            };
            let mut constants = vec![("pads", numbers(pads))];
            if fill != 0.0 {
                constants.push(("value", context.number(fill)));
            }
            (vec![text("mode", name)], constants)
        }
        Op::Tile { repeats } => (vec![], vec![("repeats", numbers(&signed(repeats)))]),
        Op::Split { axis: a, sizes } => (vec![axis(*a)], vec![("split", numbers(&signed(sizes)))]),
        Op::DepthToSpace { block, columns_first } => {
            attributes(vec![int("blocksize", *block as i64), text("mode", if *columns_first { "CRD" } else { "DCR" })])
        }
        Op::SpaceToDepth { block } => attributes(vec![int("blocksize", *block as i64)]),
        Op::Trilu { upper, k } => (vec![int("upper", (*upper).into())], vec![("k", number(*k))]),
        _ => return None,
    })
}
