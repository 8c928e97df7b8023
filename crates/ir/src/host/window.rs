//! Windows over integers: the largest of each, and sums of products; products of matrices of integers.

use super::Numbers;
use super::elements::broadcast;
use crate::graph::{Conv, Pool, Tensor};

/// Calls `visit` with every place of the result (its spatial index is `at`), every element of its window that lies inside
/// the operand: positions within the channel, and within the kernel.
struct WindowGeometry<'a> {
    /// Spatial extents of the operand and of the result.
    input: &'a [usize],
    output: &'a [usize],
    kernel: &'a [usize],
    strides: &'a [usize],
    pads: &'a [usize],
    dilations: &'a [usize],
}

impl WindowGeometry<'_> {
    /// For every place of the result, in order, the elements of its window.
    fn all(&self) -> Vec<Vec<(usize, usize)>> {
        let count: usize = self.output.iter().product();
        (0..count).map(|place| self.window(place)).collect()
    }

    fn window(&self, place: usize) -> Vec<(usize, usize)> {
        let n = self.kernel.len();
        let at = index(place, self.output);
        let inside = |k: usize| {
            let offset = index(k, self.kernel);
            let position = (0..n).try_fold(0, |position, d| {
                let i = (at[d] * self.strides[d] + offset[d] * self.dilations[d]).checked_sub(self.pads[d])?;
                (i < self.input[d]).then_some(position * self.input[d] + i)
            });
            position.map(|position| (position, k))
        };
        (0..self.kernel.iter().product()).filter_map(inside).collect()
    }
}

/// The index along every axis of a position.
fn index(mut position: usize, extents: &[usize]) -> Vec<usize> {
    let mut index = vec![0; extents.len()];
    for d in (0..extents.len()).rev() {
        index[d] = position % extents[d];
        position /= extents[d];
    }
    index
}

/// The largest of each window; padding is never the largest.
pub fn max_pool(x: &Tensor, pool: &Pool, result: &[usize]) -> Result<Numbers, String> {
    let v = Numbers::of(x).whole()?;
    let windows = WindowGeometry {
        input: &x.shape[2..],
        output: &result[2..],
        kernel: &pool.kernel,
        strides: &pool.strides,
        pads: &pool.pads,
        dilations: &pool.dilations,
    };
    let (windows, size) = (windows.all(), x.shape[2..].iter().product::<usize>());
    let channels: usize = result[..2].iter().product();
    let largest = |c: usize, window: &Vec<(usize, usize)>| window.iter().map(|&(i, _)| v[c * size + i]).max();
    let all = (0..channels).flat_map(|c| windows.iter().map(move |window| largest(c, window).unwrap_or(i64::MIN)));
    Ok(Numbers::Whole(all.collect()))
}

/// A convolution of integers, exact: `Σ (x − x_zero) · (w − w_zero)`. The zero point of the weights is one number or one
/// for each filter (ONNX ConvInteger).
pub fn conv_integer(
    [x, w]: [&Tensor; 2],
    [x_zero, w_zero]: [Option<&Tensor>; 2],
    conv: &Conv,
    result: &[usize],
) -> Result<Numbers, String> {
    let (x, w) = (less(x, x_zero, None)?, less(w, w_zero, Some(0))?);
    let (channels, filters) = (x.shape[1], result[1]);
    let windows = WindowGeometry {
        input: &x.shape[2..],
        output: &result[2..],
        kernel: &conv.kernel,
        strides: &conv.strides,
        pads: &conv.pads,
        dilations: &conv.dilations,
    };
    let (windows, size) = (windows.all(), x.shape[2..].iter().product::<usize>());
    let (per_group, kernel) = (channels / conv.group, conv.kernel.iter().product::<usize>());
    let mut sums = Vec::with_capacity(result.iter().product());
    for (n, f) in (0..result[0]).flat_map(|n| (0..filters).map(move |f| (n, f))) {
        let first = n * channels + f / (filters / conv.group) * per_group;
        for window in &windows {
            let channel = |c: usize| {
                let (x, w) = (&x.values[(first + c) * size..], &w.values[(f * per_group + c) * kernel..]);
                window.iter().map(|&(i, k)| x[i] * w[k]).sum::<i64>()
            };
            sums.push((0..per_group).map(channel).sum());
        }
    }
    Ok(Numbers::Whole(sums))
}

/// A product of matrices of integers, exact: `Σ (a − a_zero) · (b − b_zero)`. The zero point of the left operand is one
/// number or one for each row, of the right one or one for each column (ONNX MatMulInteger).
pub fn matmul_integer(
    [a, b]: [&Tensor; 2],
    [a_zero, b_zero]: [Option<&Tensor>; 2],
    result: &[usize],
) -> Result<Numbers, String> {
    let (rank_a, rank_b) = (a.shape.len(), b.shape.len());
    let (a, b) = (less(a, a_zero, Some(rank_a - 2))?, less(b, b_zero, Some(rank_b - 1))?);
    let (outer, matrix) = result.split_at(result.len() - 2);
    let [rows, columns] = [matrix[0], matrix[1]];
    let inner = a.shape[rank_a - 1];
    // Which matrix of each operand goes with each of the result.
    let (of_a, of_b) = (broadcast(&a.shape[..rank_a - 2], outer), broadcast(&b.shape[..rank_b - 2], outer));
    let mut sums = Vec::with_capacity(of_a.len() * rows * columns);
    for (i, j) in of_a.into_iter().zip(of_b) {
        let (a, b) = (&a.values[i * rows * inner..], &b.values[j * inner * columns..]);
        let sum = |r: usize, c: usize| (0..inner).map(|k| a[r * inner + k] * b[k * columns + c]).sum::<i64>();
        sums.extend((0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))).map(|(r, c)| sum(r, c)));
    }
    Ok(Numbers::Whole(sums))
}

/// Integers less their zero point.
pub struct Centred {
    pub shape: Vec<usize>,
    pub values: Vec<i64>,
}

/// Integers less their zero point: one number, or one for each index of `axis`.
///
/// # Errors
/// When they are no integers, or the zero points do not fit them.
pub fn less(x: &Tensor, zero_point: Option<&Tensor>, axis: Option<usize>) -> Result<Centred, String> {
    let mut values = Numbers::of(x).whole()?;
    if let Some(zero_point) = zero_point {
        let zeros = Numbers::of(zero_point).whole()?;
        let extent = axis.map_or(1, |axis| x.shape[axis]);
        if zeros.len() != 1 && zeros.len() != extent {
            return Err(format!("{} zero points for {extent}", zeros.len()));
        }
        let inner = axis.map_or(1, |axis| x.shape[axis + 1..].iter().product::<usize>()).max(1);
        values.iter_mut().enumerate().for_each(|(i, v)| *v -= zeros[i / inner % zeros.len()]);
    }
    Ok(Centred { shape: x.shape.clone(), values })
}
