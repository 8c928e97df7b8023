//! Windows over images.

use super::{Error, Pass, Value, as_images, padded, reduction, zip};
use crate::ops::{self, PoolGeometry, kernel};
use burn::backend::ops::FloatTensorOps;
use burn::backend::{Dispatch, DispatchTensor};
use burn::tensor::module::{avg_pool2d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions, PadMode as BurnPad};
use burn::tensor::{Slice, Tensor, TensorData};
use kdc_ir::graph::Pool;

impl Pass<'_> {
    /// Windows lie where shape inference says, so that the one definition of `ceil_mode` is there. Where the operand is
    /// not on the CPU they are burn's, which know two axes.
    pub(super) fn max_pool(&mut self, pool: &Pool, x: Value) -> Result<Value, Error> {
        if let Some(y) = self.own(pool, &x, |x, geometry, out, _| ops::max_pool(x, geometry, out)) {
            return Ok(y);
        }
        if pool.kernel.len() > 2 {
            return self.by_axis(pool, x, f32::NEG_INFINITY);
        }
        let (x, window) = self.window(pool, x, f32::NEG_INFINITY)?;
        let [kernel, strides, dilations] = window;
        let options = MaxPoolOptions {
            kernel_size: kernel,
            stride: strides,
            padding: [(0, 0); 2],
            dilation: dilations,
            ceil_mode: false,
        };
        let out = self.output_shape();
        Ok(Value::from_tensor(max_pool2d(x.into_tensor()?, options)).reshape(&out))
    }

    pub(super) fn average_pool(&mut self, pool: &Pool, x: Value) -> Result<Value, Error> {
        if let Some(y) = self.own(pool, &x, ops::average_pool) {
            return Ok(y);
        }
        let (shape, out) = (x.shape(), self.output_shape());
        let device = Tensor::<1>::from_dispatch(x.clone().into_dispatch()).device();
        let sums = if pool.kernel.len() > 2 || pool.dilations.iter().any(|&d| d != 1) {
            self.by_axis(pool, x, 0.0)?
        } else {
            let (padded, [kernel, strides, _]) = self.window(pool, x, 0.0)?;
            let options = AvgPoolOptions {
                kernel_size: kernel,
                stride: strides,
                padding: [(0, 0); 2],
                ceil_mode: false,
                count_include_pad: true,
            };
            Value::from_tensor(avg_pool2d(padded.into_tensor()?, options)).reshape(&out)
        };
        // The window's mean over padding and all, times window / elements that count.
        let size = pool.kernel.iter().product::<usize>() as f32;
        let factors = counts(pool, &shape, &out).iter().fold(vec![size], |all, axis| {
            all.iter().flat_map(|a| axis.iter().map(move |count| a / count)).collect::<Vec<f32>>()
        });
        if factors.iter().all(|&f| f == 1.0) {
            return Ok(sums);
        }
        let mut wide = vec![1; out.len()];
        wide[2..].copy_from_slice(&out[2..]);
        let count = factors.len();
        let factors =
            Value::from_tensor(Tensor::<1>::from_data(TensorData::new(factors, [count]), &device)).reshape(&wide);
        Ok(zip(sums, factors, Dispatch::float_mul))
    }

    /// On the CPU; nothing where the operand is elsewhere, or has more than three axes.
    fn own(
        &self,
        pool: &Pool,
        x: &Value,
        pooled: impl Fn(DispatchTensor, PoolGeometry, &[usize], [Vec<f32>; 3]) -> DispatchTensor,
    ) -> Option<Value> {
        let (shape, out, n) = (x.shape(), self.output_shape(), pool.kernel.len());
        let x = x.clone().into_dispatch();
        if n > 3 || shape.len() != n + 2 || !kernel::takes([&x]) {
            return None;
        }
        let three = |v: &[usize], one: usize| -> [usize; 3] {
            std::array::from_fn(|d| (d + n).checked_sub(3).map_or(one, |d| v[d]))
        };
        let geometry = PoolGeometry {
            kernel: three(&pool.kernel, 1),
            strides: three(&pool.strides, 1),
            dilations: three(&pool.dilations, 1),
            begin: three(&pool.pads[..n], 0),
            input: three(&shape[2..], 1),
            output: three(&out[2..], 1),
        };
        let mut shares = vec![vec![1.0]; 3 - n];
        let by_count = |counts: Vec<f32>| counts.into_iter().map(|count| 1.0 / count).collect();
        shares.extend(counts(pool, &shape, &out).into_iter().map(by_count));
        let shares = shares.try_into().expect("three axes");
        Some(Value::from_dispatch(pooled(x, geometry, &out, shares)))
    }

    /// A window of any rank, one axis after the other: the largest of the largest, or the mean of means. `fill` is what
    /// padding holds, and tells which of the two.
    fn by_axis(&mut self, pool: &Pool, mut x: Value, fill: f32) -> Result<Value, Error> {
        let (n, out) = (pool.kernel.len(), self.output_shape());
        for d in 0..n {
            let mut shape = x.shape();
            let (kernel, stride, dilation, begin) = (pool.kernel[d], pool.strides[d], pool.dilations[d], pool.pads[d]);
            let needed = (out[d + 2] - 1) * stride + (kernel - 1) * dilation + 1;
            let end = needed.saturating_sub(begin + shape[d + 2]);
            let rows = x.around(d + 2).pad([(0, 0), (begin, end), (0, 0)], BurnPad::Constant(fill));
            // Every element of the window, for all windows at once.
            let last = (out[d + 2] - 1) * stride + 1;
            let part = |k: usize| {
                let [before, _, after] = rows.dims();
                let first = k * dilation;
                rows.clone()
                    .slice([
                        Slice::full(),
                        Slice::new(first as isize, Some((first + last) as isize), stride as isize),
                        Slice::full(),
                    ])
                    .reshape([before, out[d + 2], after])
            };
            let all = (1..kernel).fold(part(0), |all, k| match fill == 0.0 {
                true => all + part(k),
                false => all.max_pair(part(k)),
            });
            shape[d + 2] = out[d + 2];
            x = Value::from_tensor(if fill == 0.0 { all / kernel as f64 } else { all }).reshape(&shape);
        }
        Ok(x)
    }

    /// The operand as images, padded so that every window of the result lies inside, and the window's extents.
    fn window(&self, pool: &Pool, x: Value, fill: f32) -> Result<(Value, [[usize; 2]; 3]), Error> {
        let n = pool.kernel.len();
        if n != 1 && n != 2 {
            return Err(self.unsupported(format!("{n}-D pooling is not there yet")));
        }
        let pair = |v: &[usize], one: usize| if n == 1 { [one, v[0]] } else { [v[0], v[1]] };
        let (kernel, strides, dilations) = (pair(&pool.kernel, 1), pair(&pool.strides, 1), pair(&pool.dilations, 1));
        let begin = pair(&pool.pads[..n], 0);
        let (input, out) = (x.shape(), self.output_shape());
        let (input, out) = (pair(&input[2..], 1), pair(&out[2..], 1));
        let images = as_images(&x.shape());
        let needed = |d: usize| (out[d] - 1) * strides[d] + (kernel[d] - 1) * dilations[d] + 1;
        let end = [0, 1].map(|d| needed(d).saturating_sub(begin[d] + input[d]));
        let x = x.reshape(&images);
        let x = if begin == [0, 0] && end == [0, 0] { x } else { padded(x, begin, end, fill) };
        Ok((x, [kernel, strides, dilations]))
    }
}

/// The mean along axes, which keep an extent of 1.
pub(super) fn mean(x: Value, axes: &[usize]) -> Value {
    let shape = x.shape();
    let first = shape.len() - axes.len();
    let last = axes.iter().enumerate().all(|(i, &axis)| axis == first + i);
    let x = x.into_dispatch();
    if !last || axes.is_empty() || shape.contains(&0) || !kernel::takes([&x]) {
        return reduction::mean(Value::from_dispatch(x), axes);
    }
    // A window as large as the plane.
    let (planes, width) = (shape[..first].iter().product(), shape[shape.len() - 1]);
    let height: usize = shape[first..shape.len() - 1].iter().product();
    let plane = [1, height, width];
    let geometry =
        PoolGeometry { kernel: plane, strides: [1; 3], dilations: [1; 3], begin: [0; 3], input: plane, output: [1; 3] };
    let x = Value::from_dispatch(x).reshape(&[planes, 1, height, width]).into_dispatch();
    let shares = [vec![1.0 / (height * width) as f32], vec![1.0], vec![1.0]];
    let kept: Vec<usize> = shape.iter().enumerate().map(|(d, &n)| if d < first { n } else { 1 }).collect();
    Value::from_dispatch(ops::average_pool(x, geometry, &[planes, 1, 1, 1], shares)).reshape(&kept)
}

/// By axis and output position, how many elements count along it.
fn counts(pool: &Pool, input: &[usize], output: &[usize]) -> Vec<Vec<f32>> {
    let n = pool.kernel.len();
    let along = |d: usize| -> Vec<f32> {
        let (begin, end) = (pool.pads[d], pool.pads[d + n]);
        let size = input[d + 2];
        (0..output[d + 2])
            .map(|o| {
                let start = o * pool.strides[d];
                let inside = |k: &usize| {
                    let at = start + k * pool.dilations[d];
                    let range = if pool.count_include_pad { 0..begin + size + end } else { begin..begin + size };
                    range.contains(&at)
                };
                (0..pool.kernel[d]).filter(inside).count().max(1) as f32
            })
            .collect()
    };
    (0..n).map(along).collect()
}
