//! What makes classes of features.

use super::{Maker, vectors};
use kdc::graph::*;

/// From features of any rank to the network's output.
pub fn head(m: &mut Maker, x: ValueId) -> ValueId {
    let rank = m.shape(x).len() + 1;
    let mut x = match m.within(0, 5) {
        0 | 1 if rank > 2 && m.shape(x).len() != 1 => {
            let average = m.chance(0.7);
            let y = m.push(if average { Op::GlobalAveragePool } else { Op::GlobalMaxPool }, &[x]);
            match m.within(0, 1) {
                0 => m.push(Op::Flatten { axis: 1 }, &[y]),
                _ => m.push(Op::Squeeze { axes: (2..rank).collect() }, &[y]),
            }
        }
        2 if rank > 2 => m.push(Op::ReduceMean { axes: (2..rank).collect(), keepdims: false }, &[x]),
        3 => {
            let len = m.len(x);
            m.reshape(x, &[len])
        }
        _ if rank > 2 => m.push(Op::Flatten { axis: 1 }, &[x]),
        _ => x,
    };
    for _ in 0..m.within(0, 2) {
        x = vectors::block(m, x);
    }
    let classes = m.within(2, 6);
    let y = m.linear(x, classes);
    match m.within(0, 9) {
        0 => m.push(Op::Softmax { axis: 1 }, &[y]),
        1 => m.activation(y),
        _ => y,
    }
}
