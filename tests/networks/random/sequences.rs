//! Networks on sequences `[length, width]` and on tokens `[length]`.

use super::{Maker, images};
use kdc::graph::*;

pub fn features(m: &mut Maker) -> ValueId {
    let (length, heads) = (m.within(2, 7), m.within(1, 3));
    let width = heads * m.within(1, 4);
    let mut x = if m.chance(0.5) {
        let tokens = m.input(&[length], DType::I64);
        let vocabulary = m.within(5, 20);
        let table = m.weight(&[vocabulary, width], 1);
        let x = m.push(Op::Gather { axis: 0 }, &[table, tokens]);
        match m.within(0, 1) {
            0 => x,
            // Learnt positions.
            _ => m.scaled(x, &[length, width]),
        }
    } else {
        let from = m.within(2, 8);
        let x = m.input(&[length, from], DType::F32);
        m.linear(x, width)
    };
    for _ in 0..m.within(1, 4) {
        x = block(m, x, heads);
    }
    // One row of all, now and then.
    match m.within(0, 3) {
        0 => {
            let first = m.slice(x, 1, (0, 1, 1));
            m.push(Op::Squeeze { axes: vec![1] }, &[first])
        }
        1 => m.push(Op::ReduceMean { axes: vec![1], keepdims: false }, &[x]),
        _ => x,
    }
}

fn block(m: &mut Maker, x: ValueId, heads: usize) -> ValueId {
    let [length, width] = m.shape(x)[..] else { unreachable!("a sequence") };
    match m.within(0, 11) {
        0..=2 => {
            let y = attention(m, x, heads);
            m.joined(y, x)
        }
        3 | 4 => {
            let inner = m.within(2, 12);
            let y = m.linear(x, inner);
            let y = m.activation(y);
            let y = m.linear(y, width);
            m.joined(y, x)
        }
        5 | 6 => m.layer_norm(x, 2),
        // A convolution over time.
        7 => {
            let y = m.push(Op::Transpose { perm: vec![0, 2, 1] }, &[x]);
            let w = m.weight(&[width, width, 3], 0);
            let bias = m.bias(width);
            let conv = Conv { kernel: vec![3], strides: vec![1], pads: vec![1, 1], dilations: vec![1], group: 1 };
            let y = m.push(Op::Conv(conv), &[y, w, bias]);
            let y = m.activation(y);
            let y = m.push(Op::Transpose { perm: vec![0, 2, 1] }, &[y]);
            m.joined(x, y)
        }
        8 => {
            let axis = m.one(&[1, 2]);
            let y = m.push(Op::Softmax { axis }, &[x]);
            m.push(Op::Mul, &[x, y])
        }
        9 => m.activation(x),
        10 => {
            let extents = m.one(&[[length, width], [1, width], [1, 1], [length, 1]]);
            m.scaled(x, &extents)
        }
        // As an image with one column, and back.
        _ => {
            let y = m.push(Op::Unsqueeze { axes: vec![1] }, &[x]);
            let y = images::conv(m, y);
            let (shape, axes) = (m.shape(y), vec![2, 3]);
            let y = m.push(Op::ReduceMean { axes, keepdims: false }, &[y]);
            let y = m.linear(y, width);
            let y = m.reshape(y, &[1, width]);
            debug_assert_eq!(shape.len(), 3);
            m.push(Op::Add, &[x, y])
        }
    }
}

/// Attention of several heads, its operands from one product or from three.
fn attention(m: &mut Maker, x: ValueId, heads: usize) -> ValueId {
    let [length, width] = m.shape(x)[..] else { unreachable!("a sequence") };
    let per = width / heads;
    let parts: Vec<ValueId> = if m.chance(0.4) {
        let all = m.linear(x, 3 * width);
        m.results(Op::Split { axis: 2, sizes: vec![width; 3] }, &[all])
    } else {
        (0..3).map(|_| m.linear(x, width)).collect()
    };
    let split = |m: &mut Maker, x: ValueId, perm: [usize; 4]| {
        let x = m.reshape(x, &[length, heads, per]);
        m.push(Op::Transpose { perm: perm.to_vec() }, &[x])
    };
    let q = split(m, parts[0], [0, 2, 1, 3]);
    let k = split(m, parts[1], [0, 2, 3, 1]);
    let v = split(m, parts[2], [0, 2, 1, 3]);
    let mut scores = m.push(Op::MatMul, &[q, k]);
    if m.chance(0.7) {
        let factor = m.scalar(1.0 / (per as f32).sqrt());
        scores = m.push(Op::Mul, &[scores, factor]);
    }
    let shares = m.push(Op::Softmax { axis: 3 }, &[scores]);
    let mixed = m.push(Op::MatMul, &[shares, v]);
    let mixed = m.push(Op::Transpose { perm: vec![0, 2, 1, 3] }, &[mixed]);
    let mixed = m.reshape(mixed, &[length, width]);
    if m.chance(0.7) { m.linear(mixed, width) } else { mixed }
}
