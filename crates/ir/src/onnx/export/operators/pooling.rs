//! Pooling.

use super::super::super::proto::AttributeProto;
use super::super::attributes::{Context, Encoded, attributes, int, ints, signed};
use crate::graph::{Op, Pool, Value, pool_windows};

pub fn encode(op: &Op, context: Context) -> Option<Encoded> {
    Some(match op {
        Op::MaxPool(pool) => {
            let dilations = ints("dilations", &signed(&pool.dilations));
            attributes([pooling(pool, context.operand), vec![dilations]].concat())
        }
        Op::AveragePool(pool) => {
            let mut list = pooling(pool, context.operand);
            list.push(int("count_include_pad", pool.count_include_pad.into()));
            if pool.dilations.iter().any(|&d| d != 1) {
                list.push(ints("dilations", &signed(&pool.dilations)));
            }
            attributes(list)
        }
        _ => return None,
    })
}

/// Runtimes differ in whether a last window that would start in the padding counts with `ceil_mode` (ONNX Runtime's shapes
/// have it, its results do not). Where one would, the file rounds down, with as much end padding as the other windows take;
/// an average that counts padding, and has a window that hangs over it, cannot be written so.
fn pooling(pool: &Pool, operand: Option<&Value>) -> Vec<AttributeProto> {
    let (mut ceil, mut pads) = (pool.ceil_mode, pool.pads.clone());
    let (begin, end) = pads.split_at_mut(pool.kernel.len());
    let extents = operand.map_or(&[][..], |value| &value.shape).iter().skip(2).map(|dim| dim.at(1));
    // By axis: whether a window is dropped, and the end padding that those that are there take.
    let along = extents.enumerate().filter_map(|(d, n)| {
        let [said, windows] = pool_windows(pool, d, n)?;
        let reach = (windows - 1) * pool.strides[d] + pool.dilations[d] * (pool.kernel[d] - 1) + 1;
        Some((said > windows, reach.saturating_sub(n + begin[d])))
    });
    let along: Vec<(bool, usize)> = along.collect();
    let hangs = end.iter().zip(&along).any(|(&end, &(_, taken))| taken > end);
    if along.iter().any(|&(dropped, _)| dropped) && !(pool.count_include_pad && hangs) {
        ceil = false;
        end.iter_mut().zip(along).for_each(|(end, (_, taken))| *end = taken);
    }
    vec![
        int("ceil_mode", ceil.into()),
        ints("kernel_shape", &signed(&pool.kernel)),
        ints("pads", &signed(&pads)),
        ints("strides", &signed(&pool.strides)),
    ]
}
