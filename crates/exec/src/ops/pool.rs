//! Pooling: the largest number, or the mean, of windows over one to three axes.
//!
//! A window's rows are met first, whole rows of the image at a time, and then the columns of the one row that they
//! leave: the first part is vectors however the windows overlap, and the second reads a row that is in the cache.

use super::buffer::{Room, Scratch};
use super::kernel::{Kernel, Saved, apply};
use super::{CpuTensor, numbers, tensor};
use burn::backend::{DispatchTensor, TensorData};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Elements of a task, at least.
const BLOCK: usize = 16 * 1024;

/// Where windows lie, by axis: depth, height, width. Axes that are not there have extents of 1.
#[derive(Clone, Debug)]
pub struct PoolGeometry {
    pub kernel: [usize; 3],
    pub strides: [usize; 3],
    pub dilations: [usize; 3],
    /// Elements before the first one.
    pub begin: [usize; 3],
    /// Extents of an operand's plane.
    pub input: [usize; 3],
    /// Extents of a result's plane. A window may hang over the end.
    pub output: [usize; 3],
}

/// The largest of each window of `x`, planes of [`PoolGeometry::input`], in planes of [`PoolGeometry::output`]; a NaN
/// where there is one, and the gradient to the first of equals.
pub fn max_pool(x: DispatchTensor, geometry: PoolGeometry, shape: &[usize]) -> DispatchTensor {
    apply(Pooling { geometry, shape: shape.to_vec(), means: None }, [x])
}

/// The sum of each window times the product of its positions' `shares` by axis.
pub fn average_pool(
    x: DispatchTensor,
    geometry: PoolGeometry,
    shape: &[usize],
    shares: [Vec<f32>; 3],
) -> DispatchTensor {
    apply(Pooling { geometry, shape: shape.to_vec(), means: Some(shares) }, [x])
}

#[derive(Debug)]
struct Pooling {
    geometry: PoolGeometry,
    /// Of the result as a whole.
    shape: Vec<usize>,
    means: Option<[Vec<f32>; 3]>,
}

impl Pooling {
    /// Planes of a task.
    fn step(&self) -> usize {
        (BLOCK / self.geometry.input.iter().product::<usize>().max(1)).max(1)
    }
}

impl Kernel for Pooling {
    fn forward(&self, inputs: Vec<CpuTensor>) -> (CpuTensor, Vec<CpuTensor>) {
        let x = inputs[0].to_contiguous();
        let (w, step) = (&self.geometry, self.step());
        let [from, to] = w.planes();
        let count = self.shape.iter().product();
        let mut y = Room::new(count);
        let blocks = y.blocks(step * to).zip(numbers(&x).par_chunks(step * from));
        if let Some(shares) = &self.means {
            blocks.for_each(|(y, x)| Arch::new().dispatch(Mean { w, shares, x, y }));
            return (tensor(y.full(), self.shape.clone()), vec![]);
        }
        // Where in its plane the largest is; of a window without any element, nowhere.
        let mut places = vec![-1i32; count];
        blocks
            .zip(places.par_chunks_mut(step * to))
            .for_each(|((y, x), places)| Arch::new().dispatch(Largest { w, x, y, places }));
        let places = CpuTensor::from_data(TensorData::new(places, self.shape.clone()));
        (tensor(y.full(), self.shape.clone()), vec![places])
    }

    fn keeps(&self, _input: usize) -> bool {
        false
    }

    fn backward(&self, saved: Saved, gradient: CpuTensor, _wanted: &[bool]) -> Vec<Option<CpuTensor>> {
        let gradient = gradient.to_contiguous();
        let (w, step) = (&self.geometry, self.step());
        let [from, to] = w.planes();
        let planes = self.shape[..2].iter().product::<usize>();
        let mut dx = vec![0.0; planes * from];
        let blocks = dx.par_chunks_mut(step * from).zip(numbers(&gradient).par_chunks(step * to));
        match &self.means {
            Some(shares) => blocks.for_each(|(dx, g)| Arch::new().dispatch(Spread { w, shares, g, dx })),
            None => {
                let places = saved.extra[0].as_slice::<i32>().expect("forward wrote them");
                blocks.zip(places.par_chunks(step * to)).for_each(|((dx, g), places)| {
                    let planes = g.chunks_exact(to).zip(places.chunks_exact(to));
                    for (dx, (g, places)) in dx.chunks_exact_mut(from).zip(planes) {
                        for (g, &place) in g.iter().zip(places) {
                            if let Ok(place) = usize::try_from(place) {
                                dx[place] += g;
                            }
                        }
                    }
                });
            }
        }
        let shape = [&self.shape[..2], &w.input[5 - self.shape.len()..]].concat();
        vec![Some(tensor(dx, shape))]
    }
}

impl PoolGeometry {
    /// Columns of the row that a window's rows leave: those of the plane and the padding about them.
    fn columns(&self) -> usize {
        let needed = (self.output[2].max(1) - 1) * self.strides[2] + (self.kernel[2] - 1) * self.dilations[2] + 1;
        needed.max(self.begin[2] + self.input[2])
    }

    /// Elements of a plane of the operand, and of the result; of none, one.
    fn planes(&self) -> [usize; 2] {
        [self.input, self.output].map(|extents| extents.iter().product::<usize>().max(1))
    }

    /// Lines of a plane of the result.
    fn lines(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// The first elements of the rows that the windows of a line see, one after the other; not of those in the padding.
    fn rows(&self, line: usize) -> impl Iterator<Item = usize> {
        let (depth, height) = (line / self.output[1], line % self.output[1]);
        let along = |axis: usize, at: usize, k: usize| {
            let place = at * self.strides[axis] + k * self.dilations[axis];
            place.checked_sub(self.begin[axis]).filter(|&place| place < self.input[axis])
        };
        (0..self.kernel[0] * self.kernel[1]).filter_map(move |index| {
            let d = along(0, depth, index / self.kernel[1])?;
            let h = along(1, height, index % self.kernel[1])?;
            Some((d * self.input[1] + h) * self.input[2])
        })
    }
}

/// The share of an element of a window in a line, but for its column's.
fn share(shares: &[Vec<f32>; 3], line: usize) -> f32 {
    let heights = shares[1].len();
    shares[0][line / heights] * shares[1][line % heights]
}

struct Largest<'a> {
    w: &'a PoolGeometry,
    x: &'a [f32],
    y: &'a mut [f32],
    places: &'a mut [i32],
}

impl WithSimd for Largest<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let w = self.w;
        let (widths, width, begin, columns) = (w.output[2], w.input[2], w.begin[2], w.columns());
        let (stride, dilation) = (w.strides[2], w.dilations[2]);
        let mut best = Scratch::new(columns);
        let mut places = vec![-1i32; columns];
        let [from, to] = w.planes();
        let planes = self.x.chunks_exact(from).zip(self.y.chunks_exact_mut(to)).zip(self.places.chunks_exact_mut(to));
        for ((x, y), found) in planes {
            for line in 0..w.lines() {
                best.fill(f32::NEG_INFINITY);
                places.fill(-1);
                for first in w.rows(line) {
                    let row = &x[first..][..width];
                    let (best, places) = (&mut best[begin..][..width], &mut places[begin..][..width]);
                    for i in 0..width {
                        let more = larger(row[i], best[i], places[i]);
                        best[i] = if more { row[i] } else { best[i] };
                        places[i] = if more { (first + i) as i32 } else { places[i] };
                    }
                }
                let (y, found) = (&mut y[line * widths..][..widths], &mut found[line * widths..][..widths]);
                for i in 0..widths {
                    let (mut most, mut place) = (best[i * stride], places[i * stride]);
                    for k in 1..w.kernel[2] {
                        let at = i * stride + k * dilation;
                        // Of equals the first by rows, though columns are met first here.
                        let sooner = (best[at] == most) & (places[at] < place);
                        let more = places[at] >= 0 && (sooner | larger(best[at], most, place));
                        most = if more { best[at] } else { most };
                        place = if more { places[at] } else { place };
                    }
                    (y[i], found[i]) = (most, place);
                }
            }
        }
    }
}

/// Whether a number takes the place of the largest so far: the first does, and a NaN does and stays.
#[inline(always)]
fn larger(x: f32, most: f32, place: i32) -> bool {
    (x > most) | ((x.is_nan() | (place < 0)) & !most.is_nan())
}

struct Mean<'a> {
    w: &'a PoolGeometry,
    shares: &'a [Vec<f32>; 3],
    x: &'a [f32],
    y: &'a mut [f32],
}

impl WithSimd for Mean<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let w = self.w;
        let (widths, width, begin) = (w.output[2], w.input[2], w.begin[2]);
        let (stride, dilation) = (w.strides[2], w.dilations[2]);
        let mut sums = Scratch::new(w.columns());
        let [from, to] = w.planes();
        for (x, y) in self.x.chunks_exact(from).zip(self.y.chunks_exact_mut(to)) {
            for line in 0..w.lines() {
                sums.fill(0.0);
                for first in w.rows(line) {
                    let row = &x[first..][..width];
                    let sums = &mut sums[begin..][..width];
                    for i in 0..width {
                        sums[i] += row[i];
                    }
                }
                let share = share(self.shares, line);
                let y = &mut y[line * widths..][..widths];
                for i in 0..widths {
                    let mut sum = sums[i * stride];
                    for k in 1..w.kernel[2] {
                        sum += sums[i * stride + k * dilation];
                    }
                    y[i] = sum * share * self.shares[2][i];
                }
            }
        }
    }
}

/// The gradient of a mean: every element of a window gets its share.
struct Spread<'a> {
    w: &'a PoolGeometry,
    shares: &'a [Vec<f32>; 3],
    g: &'a [f32],
    dx: &'a mut [f32],
}

impl WithSimd for Spread<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let w = self.w;
        let (widths, width, begin) = (w.output[2], w.input[2], w.begin[2]);
        let (stride, dilation) = (w.strides[2], w.dilations[2]);
        let mut row = Scratch::new(w.columns());
        let [from, to] = w.planes();
        for (dx, g) in self.dx.chunks_exact_mut(from).zip(self.g.chunks_exact(to)) {
            for line in 0..w.lines() {
                row.fill(0.0);
                let share = share(self.shares, line);
                let g = &g[line * widths..][..widths];
                for i in 0..widths {
                    let part = g[i] * share * self.shares[2][i];
                    for k in 0..w.kernel[2] {
                        row[i * stride + k * dilation] += part;
                    }
                }
                for first in w.rows(line) {
                    let (dx, row) = (&mut dx[first..][..width], &row[begin..][..width]);
                    for i in 0..width {
                        dx[i] += row[i];
                    }
                }
            }
        }
    }
}
