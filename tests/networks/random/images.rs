//! Networks on images `[channels, height, width]`, and on series `[channels, length]`.

use super::{Maker, batched};
use kdc::graph::*;

/// How many elements a value may have.
const LARGEST: usize = 1200;

/// A network on images up to its features, which are an image or have lost some of its axes.
pub fn features(m: &mut Maker) -> ValueId {
    let shape = [m.within(1, 4), m.within(4, 9), m.within(4, 9)];
    let mut x = m.input(&shape, DType::F32);
    if m.chance(0.15) {
        x = m.push(Op::Transpose { perm: vec![0, 1, 3, 2] }, &[x]);
    }
    for _ in 0..m.within(1, 6) {
        x = block(m, x);
        if m.shape(x).len() != 3 {
            return x;
        }
    }
    x
}

/// The same of one spatial axis.
pub fn series(m: &mut Maker) -> ValueId {
    let shape = [m.within(1, 5), m.within(6, 20)];
    let mut x = m.input(&shape, DType::F32);
    for _ in 0..m.within(1, 5) {
        x = match m.within(0, 8) {
            0..=2 => conv(m, x),
            3 => m.activation(x),
            4 => pool(m, x),
            5 => residual(m, x),
            6 => {
                let y = m.activation(x);
                m.push(Op::Concat { axis: 1 }, &[y, x])
            }
            7 => excited(m, x),
            _ => {
                let y = m.push(Op::Transpose { perm: vec![0, 2, 1] }, &[x]);
                let width = m.within(2, 8);
                let y = m.linear(y, width);
                m.push(Op::Transpose { perm: vec![0, 2, 1] }, &[y])
            }
        };
    }
    x
}

fn block(m: &mut Maker, x: ValueId) -> ValueId {
    let shape = m.shape(x);
    let [c, h, w] = shape[..] else { unreachable!("an image") };
    match m.within(0, 29) {
        0..=5 => {
            let y = conv(m, x);
            m.perhaps_activation(y)
        }
        6 => m.activation(x),
        7 | 8 => pool(m, x),
        9..=11 => residual(m, x),
        12 | 13 => branches(m, x),
        14 | 15 => excited(m, x),
        16 if c > 1 => parts(m, x),
        17 => {
            let axis = m.one(&[2, 3]);
            let extent = shape[axis - 1];
            let (start, step) = (m.within(0, extent / 2), m.one(&[1, 1, 2]));
            m.slice(x, axis, (start, extent, step))
        }
        18 | 19 if c % 2 == 0 => shuffled(m, x),
        20 => {
            let perm = m.one(&[[0, 1, 3, 2], [0, 2, 3, 1], [0, 3, 1, 2]]).to_vec();
            m.push(Op::Transpose { perm }, &[x])
        }
        21 => padded(m, x),
        22 => {
            let axis = m.one(&[1, 2, 3]);
            m.push(Op::Softmax { axis }, &[x])
        }
        23 => {
            let axis = m.one(&[3, 3, 2, 1]);
            m.layer_norm(x, axis)
        }
        24 => {
            let extents = m.one(&[[c, 1, 1], [1, 1, 1], [1, h, w], [1, 1, w], [c, h, w], [1, h, 1]]);
            m.scaled(x, &extents)
        }
        25 => quotient(m, x),
        26 => spread(m, x),
        27 => siamese(m, x),
        28 => reduced(m, x),
        _ => gathered(m, x),
    }
}

/// Convolutions of every kind.
pub fn conv(m: &mut Maker, x: ValueId) -> ValueId {
    let shape = m.shape(x);
    let (c, spatial) = (shape[0], shape[1..].to_vec());
    let group = match m.within(0, 5) {
        0 | 1 => c,
        2 if c % 2 == 0 => 2,
        _ => 1,
    };
    let times = m.one(&[1, 1, 2]);
    let mut out = if group == 1 { m.within(1, 12) } else { group * times };
    if group == 2 {
        out = 2 * m.within(1, 5);
    }
    let kernel: Vec<usize> = spatial.iter().map(|&n| m.one(&[1, 3, 3, 2, 5]).min(n)).collect();
    let kernel = if m.chance(0.3) { vec![1; spatial.len()] } else { kernel };
    let strides: Vec<usize> = spatial.iter().map(|_| m.one(&[1, 1, 1, 2, 3])).collect();
    let fits = spatial.iter().zip(&kernel).all(|(n, k)| 2 * (k - 1) < *n);
    let dilations = vec![if fits && m.chance(0.2) { 2 } else { 1 }; spatial.len()];
    let pads: Vec<usize> = match m.within(0, 3) {
        0 => vec![0; 2 * spatial.len()],
        1 => (0..2 * spatial.len()).map(|_| m.within(0, 2)).collect(),
        _ => kernel.iter().chain(&kernel).map(|k| k / 2).collect(),
    };
    let weights = [&[out, c / group], &kernel[..]].concat();
    let mut operands = vec![x, m.weight(&weights, 0)];
    if m.chance(0.75) {
        operands.push(m.bias(out));
    }
    let y = m.push(Op::Conv(Conv { kernel, strides, pads, dilations, group }), &operands);
    let y = if m.chance(0.3) { m.batch_norm(y) } else { y };
    smaller(m, y)
}

/// A convolution that keeps the extents.
fn same(m: &mut Maker, x: ValueId) -> ValueId {
    let shape = m.shape(x);
    let c = shape[0];
    let kernel = vec![m.one(&[1, 3]); shape.len() - 1];
    let group = m.one(&[1, 1, c]);
    let weights = [&[c, c / group], &kernel[..]].concat();
    let operands = [x, m.weight(&weights, 0), m.bias(c)];
    let pads = kernel.iter().chain(&kernel).map(|k| k / 2).collect();
    let ones = vec![1; kernel.len()];
    let conv = Conv { kernel, strides: ones.clone(), pads, dilations: ones, group };
    let y = m.push(Op::Conv(conv), &operands);
    if m.chance(0.3) { m.batch_norm(y) } else { y }
}

/// Pooled until it is not too large.
fn smaller(m: &mut Maker, mut x: ValueId) -> ValueId {
    while m.len(x) > LARGEST {
        let shape = m.shape(x);
        let kernel: Vec<usize> = shape[1..].iter().map(|&n| n.min(2)).collect();
        if kernel.iter().all(|&k| k == 1) {
            return m.slice(x, 1, (0, LARGEST / 2, 1));
        }
        x = m.push(Op::MaxPool(window(kernel.clone(), kernel)), &[x]);
    }
    x
}

fn window(kernel: Vec<usize>, strides: Vec<usize>) -> Pool {
    let n = kernel.len();
    Pool { kernel, strides, pads: vec![0; 2 * n], dilations: vec![1; n], ceil_mode: false, count_include_pad: false }
}

fn pool(m: &mut Maker, x: ValueId) -> ValueId {
    let spatial = m.shape(x)[1..].to_vec();
    let wished: Vec<usize> = spatial.iter().map(|_| m.one(&[2, 2, 3, 1])).collect();
    let kernel: Vec<usize> = wished.iter().zip(&spatial).map(|(&k, &n)| k.min(n)).collect();
    let strides: Vec<usize> = spatial.iter().map(|_| m.one(&[1, 2, 2, 3])).collect();
    let pads = (0..2 * spatial.len()).map(|i| if m.chance(0.3) { (kernel[i % spatial.len()] - 1).min(1) } else { 0 });
    let pads = pads.collect();
    let mut pool = Pool { pads, ..window(kernel, strides) };
    if m.chance(0.3) {
        pool.ceil_mode = true;
        // The only window may hang over.
        let most = pool.strides.iter().zip(&spatial).map(|(&stride, &n)| n + stride - 1);
        pool.kernel = wished.iter().zip(most).map(|(&k, most)| k.min(most)).collect();
    } else {
        pool.count_include_pad = m.chance(0.5);
    }
    // A window of nothing but padding has no mean.
    let average = m.chance(0.5);
    m.push(if average { Op::AveragePool(pool) } else { Op::MaxPool(pool) }, &[x])
}

fn residual(m: &mut Maker, x: ValueId) -> ValueId {
    let mut y = same(m, x);
    for _ in 0..m.within(0, 1) {
        y = m.activation(y);
        y = same(m, y);
    }
    m.joined(y, x)
}

/// Two to nine branches, joined.
fn branches(m: &mut Maker, x: ValueId) -> ValueId {
    let count = m.one(&[2, 2, 3, 4, 9]);
    let mut ends: Vec<ValueId> = vec![];
    for _ in 0..count {
        let c = m.shape(x)[0];
        let out = m.within(1, 4);
        let ones = vec![1; 2];
        let weights = [out, c, 1, 1];
        let operands = [x, m.weight(&weights, 0), m.bias(out)];
        let conv = Conv { kernel: ones.clone(), strides: ones.clone(), pads: vec![0; 4], dilations: ones, group: 1 };
        let end = match m.within(0, 5) {
            0 => x,
            1 => m.activation(x),
            2 => {
                let y = m.push(Op::Conv(conv), &operands);
                m.push(Op::Softmax { axis: 1 }, &[y])
            }
            _ => {
                let y = m.push(Op::Conv(conv), &operands);
                m.perhaps_activation(y)
            }
        };
        ends.push(end);
    }
    let y = m.push(Op::Concat { axis: 1 }, &ends);
    smaller(m, y)
}

/// Squeeze and excitation, as exporters write it.
fn excited(m: &mut Maker, x: ValueId) -> ValueId {
    let shape = m.shape(x);
    let (c, n) = (shape[0], shape.len() - 1);
    let squeezed = m.within(1, 4);
    let ones = |n: usize| vec![1; n];
    let point =
        |group: usize| Conv { kernel: ones(n), strides: ones(n), pads: vec![0; 2 * n], dilations: ones(n), group };
    let axes: Vec<usize> = (2..n + 2).collect();
    let mean = match m.within(0, 2) {
        0 => m.push(Op::ReduceMean { axes: axes.clone(), keepdims: true }, &[x]),
        _ => m.push(Op::GlobalAveragePool, &[x]),
    };
    let gate = if m.chance(0.6) {
        let operands = [mean, m.weight(&[&[squeezed, c], &ones(n)[..]].concat(), 0), m.bias(squeezed)];
        let y = m.push(Op::Conv(point(1)), &operands);
        let y = m.push(Op::Relu, &[y]);
        let operands = [y, m.weight(&[&[c, squeezed], &ones(n)[..]].concat(), 0), m.bias(c)];
        m.push(Op::Conv(point(1)), &operands)
    } else {
        let y = m.push(Op::Flatten { axis: 1 }, &[mean]);
        let y = m.linear(y, squeezed);
        let y = m.push(Op::Relu, &[y]);
        let y = m.linear(y, c);
        m.reshape(y, &[&[c], &ones(n)[..]].concat())
    };
    let gate = match m.within(0, 2) {
        0 => m.push(Op::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }, &[gate]),
        _ => m.push(Op::Sigmoid, &[gate]),
    };
    m.push(Op::Mul, &[x, gate])
}

/// The channels in two parts, of which one is computed with.
fn parts(m: &mut Maker, x: ValueId) -> ValueId {
    let c = m.shape(x)[0];
    let first = m.within(1, c - 1);
    let [a, b] = if m.chance(0.5) {
        let parts = m.results(Op::Split { axis: 1, sizes: vec![first, c - first] }, &[x]);
        [parts[0], parts[1]]
    } else {
        [m.slice(x, 1, (0, first, 1)), m.slice(x, 1, (first, c, 1))]
    };
    match m.within(0, 2) {
        0 => b,
        1 => {
            let b = m.activation(b);
            m.push(Op::Concat { axis: 1 }, &[b, a])
        }
        _ => {
            let a = same(m, a);
            m.push(Op::Concat { axis: 1 }, &[a, b])
        }
    }
}

fn shuffled(m: &mut Maker, x: ValueId) -> ValueId {
    let [c, h, w] = m.shape(x)[..] else { unreachable!("an image") };
    let groups: Vec<usize> = (2..=c).filter(|g| c % g == 0).collect();
    let groups = m.one(&groups);
    let y = m.reshape(x, &[groups, c / groups, h, w]);
    let y = m.push(Op::Transpose { perm: vec![0, 2, 1, 3, 4] }, &[y]);
    m.reshape(y, &[c, h, w])
}

fn padded(m: &mut Maker, x: ValueId) -> ValueId {
    let mut pads = vec![0i64; 8];
    if m.chance(0.7) {
        [2, 3, 6, 7].iter().for_each(|&i| pads[i] = m.within(0, 2) as i64);
    } else {
        [1, 5].iter().for_each(|&i| pads[i] = m.within(0, 3) as i64);
    }
    let number = m.one(&[0.0, 0.0, 0.0, 1.0, -2.5]);
    m.push(Op::Pad { pads, mode: PadMode::Constant(number) }, &[x])
}

/// Divided by something computed of the same extents.
fn quotient(m: &mut Maker, x: ValueId) -> ValueId {
    let y = same(m, x);
    let y = m.positive(y);
    m.push(Op::Div, &[x, y])
}

/// A mean, repeated to the extents again.
fn spread(m: &mut Maker, x: ValueId) -> ValueId {
    let shape = m.shape(x);
    let mean = m.push(Op::GlobalAveragePool, &[x]);
    let wide = m.push(Op::Expand { shape: batched(&shape) }, &[mean]);
    m.joined(x, wide)
}

/// One layer on two halves of an image.
fn siamese(m: &mut Maker, x: ValueId) -> ValueId {
    let [c, h, w] = m.shape(x)[..] else { unreachable!("an image") };
    let [a, b] = match h / 2 {
        0 => {
            let b = m.activation(x);
            [x, b]
        }
        half => [m.slice(x, 2, (0, half, 1)), m.slice(x, 2, (h - half, h, 1))],
    };
    let out = m.within(1, 6);
    let weights = m.weight(&[out, c, 1, w.min(3)], 0);
    let ones = vec![1; 2];
    let conv = Conv { kernel: vec![1, w.min(3)], strides: ones.clone(), pads: vec![0; 4], dilations: ones, group: 1 };
    let [a, b] = [a, b].map(|x| {
        let bias = m.bias(out);
        let y = m.push(Op::Conv(conv.clone()), &[x, weights, bias]);
        m.perhaps_activation(y)
    });
    if m.chance(0.5) { m.push(Op::Concat { axis: 1 }, &[a, b]) } else { m.joined(a, b) }
}

/// Means or sums along axes.
fn reduced(m: &mut Maker, x: ValueId) -> ValueId {
    let axes = m.one(&[&[1][..], &[2], &[3], &[2, 3], &[1, 3]]).to_vec();
    let keepdims = m.chance(0.5);
    m.push(Op::ReduceMean { axes, keepdims }, &[x])
}

/// Elements at constant places.
fn gathered(m: &mut Maker, x: ValueId) -> ValueId {
    let axis = m.one(&[1, 2, 3]);
    let extent = m.shape(x)[axis - 1];
    let (start, step) = (m.within(0, extent - 1), m.one(&[1, 2]));
    let indices: Vec<i64> = (start..extent).step_by(step).map(|i| i as i64).collect();
    let indices = m.constant(Tensor::i64([indices.len()], indices));
    m.push(Op::Gather { axis }, &[x, indices])
}
