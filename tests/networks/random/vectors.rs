//! Networks on vectors.

use super::Maker;
use kdc::graph::*;

/// A network on one vector, or two.
pub fn features(m: &mut Maker) -> ValueId {
    let width = m.within(3, 12);
    let mut x = m.input(&[width], DType::F32);
    if m.chance(0.25) {
        let y = m.input(&[width], DType::F32);
        // One layer for both.
        let to = m.within(2, 8);
        let (w, trans_b) = (m.weight(&[to, width], 0), true);
        let [a, b] = [x, y].map(|x| {
            let bias = m.bias(to);
            let y = m.push(Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b }, &[x, w, bias]);
            m.perhaps_activation(y)
        });
        x = if m.chance(0.5) { m.push(Op::Concat { axis: 1 }, &[a, b]) } else { m.joined(a, b) };
    }
    for _ in 0..m.within(1, 6) {
        x = block(m, x);
    }
    x
}

pub fn block(m: &mut Maker, x: ValueId) -> ValueId {
    let n = m.shape(x)[0];
    match m.within(0, 15) {
        0..=3 => {
            let to = m.within(1, 12);
            let y = m.linear(x, to);
            m.perhaps_activation(y)
        }
        // One square matrix, read twice: in one orientation or in both.
        4 | 5 => {
            let w = m.weight(&[n, n], 0);
            let mut y = x;
            for _ in 0..2 {
                let trans_b = m.chance(0.5);
                let bias = m.bias(n);
                y = m.push(Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b }, &[y, w, bias]);
                y = m.perhaps_activation(y);
            }
            y
        }
        6 | 7 => {
            let y = m.linear(x, n);
            let y = m.perhaps_activation(y);
            m.joined(y, x)
        }
        // Probabilities beside features.
        8 => {
            let to = m.within(2, 5);
            let y = m.linear(x, to);
            let y = m.push(Op::Softmax { axis: 1 }, &[y]);
            let operands = if m.chance(0.5) { vec![y, x] } else { vec![x, y, x] };
            m.push(Op::Concat { axis: 1 }, &operands)
        }
        9 => {
            let gate = m.linear(x, n);
            let gate = m.push(Op::Sigmoid, &[gate]);
            m.push(Op::Mul, &[x, gate])
        }
        10 if n > 1 => m.layer_norm(x, 1),
        11 if n > 2 => {
            let (start, step) = (m.within(0, n / 2), m.one(&[1, 1, 2]));
            m.slice(x, 1, (start, n, step))
        }
        12 if n > 1 => {
            let first = m.within(1, n - 1);
            let parts = m.results(Op::Split { axis: 1, sizes: vec![first, n - first] }, &[x]);
            let y = m.activation(parts[1]);
            m.push(Op::Concat { axis: 1 }, &[y, parts[0]])
        }
        13 => {
            let extents = m.one(&[n, 1]);
            m.scaled(x, &[extents])
        }
        14 => {
            let y = m.linear(x, n);
            let y = m.positive(y);
            m.push(Op::Div, &[x, y])
        }
        _ => m.activation(x),
    }
}
