//! Dense convolutions as two cheaper ones, started from a decomposition of the teacher's weights.

use kdc_ir::graph::{Conv, Graph, Names, Node, Op, Tensor, Value, ValueId, infer_node};

/// How a convolution is taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Factoring {
    /// A filter for each channel, then one of 1 × 1 over channels. For each channel of the operand the best of its kind:
    /// the first singular vectors of its filters, outputs by taps (Sifre 2014; as a decomposition, Guo et al. 2018,
    /// <https://arxiv.org/abs/1808.05517>).
    Separable,
    /// Full filters to fewer channels, then one of 1 × 1 (Zhang et al. 2016, <https://arxiv.org/abs/1505.06798>). Exact
    /// as it is made here: the channels in the middle are singular vectors, and become fewer by importance as any others.
    LowRank,
}

/// Convolutions with fewer channels than this are cheap as they are.
const FEW: usize = 8;

/// The convolutions that can be taken apart, by name.
pub fn factorable(graph: &Graph) -> Vec<String> {
    let wanted = |n: &&Node| dense(graph, n).is_some();
    graph.nodes.iter().filter(wanted).map(|n| n.name.clone()).collect()
}

fn dense<'g>(graph: &'g Graph, node: &'g Node) -> Option<(&'g Conv, &'g Tensor)> {
    let Op::Conv(conv) = &node.op else { return None };
    let w = graph.constant(node.input(1)?)?;
    let wide = conv.kernel.iter().product::<usize>() > 1 && conv.group == 1 && w.shape[1] >= FEW && w.shape[0] >= FEW;
    (wide && w.as_f32().is_some()).then_some((conv, w))
}

/// The network with its dense convolutions taken apart. The second half keeps the convolution's name and result.
pub fn factored(graph: &Graph, how: Factoring) -> Graph {
    let mut result = graph.clone();
    let (mut values, mut names) = (graph.value_names(), graph.node_names());
    result.nodes.clear();
    for node in &graph.nodes {
        let Some((conv, w)) = dense(graph, node) else {
            result.nodes.push(node.clone());
            continue;
        };
        let (first, group, second) = match how {
            Factoring::Separable => {
                let (depthwise, pointwise) = separable(w);
                (depthwise, w.shape[1], pointwise)
            }
            Factoring::LowRank => {
                let (full, pointwise) = low_rank(w);
                (full, 1, pointwise)
            }
        };
        let halves = (Conv { group, ..conv.clone() }, first, second);
        let both = apart(&mut result, (&mut values, &mut names), node, halves);
        result.nodes.extend(both);
    }
    kdc_ir::pass::drop_unused_values(&mut result);
    result
}

/// A convolution as two: the first with these attributes and weights, the second of 1 × 1.
fn apart(
    graph: &mut Graph,
    (values, names): (&mut Names, &mut Names),
    node: &Node,
    (conv, first, second): (Conv, Tensor, Tensor),
) -> [Node; 2] {
    let spatial = conv.kernel.len();
    let stem = graph.value(node.input(1).expect("it has weights")).name.clone();
    let mut constant = |what: &str, tensor: Tensor| {
        let name = values.fresh(&format!("{stem}.{what}"));
        graph.add_constant(name, tensor)
    };
    let (first, second) = (constant("spatial", first), constant("pointwise", second));
    let name = names.fresh(&format!("{}.spatial", node.name));
    let mut before =
        Node { name: name.clone(), op: Op::Conv(conv), inputs: vec![node.input(0), Some(first)], outputs: vec![] };
    let (dtype, shape) = infer_node(graph, &before).expect("the same window as before").remove(0);
    let middle: ValueId = graph.add_value(Value { name: values.fresh(&name), dtype, shape, data: None, quant: None });
    before.outputs.push(middle);
    let pointwise = Conv {
        kernel: vec![1; spatial],
        strides: vec![1; spatial],
        pads: vec![0; 2 * spatial],
        dilations: vec![1; spatial],
        group: 1,
    };
    let mut inputs = vec![Some(middle), Some(second)];
    inputs.extend(node.input(2).map(Some));
    [before, Node { op: Op::Conv(pointwise), inputs, ..node.clone() }]
}

/// Eigenvalues, largest first, and unit eigenvectors of a symmetric matrix of `n` rows, by Jacobi's rotations (cyclic;
/// Golub and Van Loan, Matrix Computations, section 8.5). A library for this would be larger than everything that asks.
fn eigen(mut a: Vec<f64>, n: usize) -> Vec<(f64, Vec<f64>)> {
    let mut vectors: Vec<f64> = (0..n * n).map(|i| f64::from(u8::from(i / n == i % n))).collect();
    let scale: f64 = a.iter().map(|v| v * v).sum();
    for _ in 0..60 {
        let off: f64 = (0..n * n).filter(|i| i / n != i % n).map(|i| a[i] * a[i]).sum();
        if off <= 1e-22 * scale {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                let apq = a[p * n + q];
                if apq * apq <= 1e-30 * scale {
                    continue;
                }
                let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * apq);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let t = if theta == 0.0 { 1.0 } else { t };
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for k in 0..n {
                    let (kp, kq) = (a[k * n + p], a[k * n + q]);
                    (a[k * n + p], a[k * n + q]) = (c * kp - s * kq, s * kp + c * kq);
                }
                for k in 0..n {
                    let (pk, qk) = (a[p * n + k], a[q * n + k]);
                    (a[p * n + k], a[q * n + k]) = (c * pk - s * qk, s * pk + c * qk);
                    // Eigenvectors are kept as rows, which lie together in memory.
                    let (vp, vq) = (vectors[p * n + k], vectors[q * n + k]);
                    (vectors[p * n + k], vectors[q * n + k]) = (c * vp - s * vq, s * vp + c * vq);
                }
            }
        }
    }
    let mut pairs: Vec<(f64, Vec<f64>)> =
        (0..n).map(|i| (a[i * n + i], vectors[i * n..(i + 1) * n].to_vec())).collect();
    pairs.sort_by(|x, y| y.0.total_cmp(&x.0));
    pairs
}

/// `rows · rowsᵀ` of a matrix with so many columns.
fn gram(rows: &[f64], columns: usize) -> Vec<f64> {
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(a, b)| a * b).sum::<f64>();
    let rows: Vec<&[f64]> = rows.chunks(columns).collect();
    rows.iter().flat_map(|x| rows.iter().map(move |y| dot(x, y))).collect()
}

/// `[in, 1, kernel…]` and `[out, in, 1…]`, both of one size.
fn separable(w: &Tensor) -> (Tensor, Tensor) {
    let (out, channels) = (w.shape[0], w.shape[1]);
    let taps: usize = w.shape[2..].iter().product();
    let data = w.to_f32();
    let mut depthwise = Vec::with_capacity(channels * taps);
    let mut pointwise = vec![0.0f32; out * channels];
    for channel in 0..channels {
        // Taps by outputs: their Gram matrix is as small as a kernel.
        let at = |t: usize, o: usize| f64::from(data[(o * channels + channel) * taps + t]);
        let rows: Vec<f64> = (0..taps * out).map(|i| at(i / out, i % out)).collect();
        let (_, mut right) = eigen(gram(&rows, out), taps).swap_remove(0);
        // A vector and its opposite are as good; the one whose taps sum to more is taken.
        if right.iter().sum::<f64>() < 0.0 {
            right.iter_mut().for_each(|v| *v = -*v);
        }
        let left: Vec<f64> = (0..out).map(|o| (0..taps).map(|t| right[t] * at(t, o)).sum()).collect();
        let norm = left.iter().map(|v| v * v).sum::<f64>().sqrt().max(1e-12);
        // Filters of the size that fresh ones have: the square root of the value on either side.
        let (first, second) = (norm.sqrt(), norm.sqrt() / norm);
        depthwise.extend(right.iter().map(|v| (v * first) as f32));
        left.iter().enumerate().for_each(|(o, v)| pointwise[o * channels + channel] = (v * second) as f32);
    }
    let first = [&[channels, 1], &w.shape[2..]].concat();
    let second = [vec![out, channels], vec![1; w.shape.len() - 2]].concat();
    (Tensor::f32(first, depthwise), Tensor::f32(second, pointwise))
}

/// `[rank, in, kernel…]` and `[out, rank, 1…]` of full rank, the singular values' roots on either side.
fn low_rank(w: &Tensor) -> (Tensor, Tensor) {
    let out = w.shape[0];
    let inner: usize = w.shape[1..].iter().product();
    let data = w.to_f32();
    let rows: Vec<f64> = data.iter().map(|&v| f64::from(v)).collect();
    let mut pairs = eigen(gram(&rows, inner), out);
    pairs.truncate(out.min(inner));
    let rank = pairs.len();
    let (mut full, mut pointwise) = (Vec::with_capacity(rank * inner), vec![0.0f32; out * rank]);
    for (place, (square, left)) in pairs.iter().enumerate() {
        let value = square.max(0.0).sqrt().max(1e-12);
        for i in 0..inner {
            let right: f64 = (0..out).map(|o| left[o] * rows[o * inner + i]).sum();
            full.push((right / value.sqrt()) as f32);
        }
        left.iter().enumerate().for_each(|(o, v)| pointwise[o * rank + place] = (v * value.sqrt()) as f32);
    }
    let first = [&[rank], &w.shape[1..]].concat();
    let second = [vec![out, rank], vec![1; w.shape.len() - 2]].concat();
    (Tensor::f32(first, full), Tensor::f32(second, pointwise))
}
