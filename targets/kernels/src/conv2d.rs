//! Convolutions.

use crate::Window;
use crate::linear::Linear;

/// The shape of a convolution.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub window: Window,
    pub in_channels: usize,
    pub out_channels: usize,
    pub groups: usize,
}

/// A convolution, `4 · G` output channels and `P` pixels of a row at a time.
#[inline(always)]
pub fn conv2d<const G: usize, const P: usize, L: Linear<G>>(
    shape: Shape,
    linear: &L,
    input: &[L::Element],
    output: &mut [L::Element],
) {
    let Shape { window, in_channels, out_channels, groups } = shape;
    let (group_in, group_out) = (in_channels / groups, out_channels / groups);
    let block_channels = 4 * G;
    let blocks = group_out.div_ceil(block_channels);
    let run = window.kernel[0] * window.kernel[1] * group_in.div_ceil(L::STEP);
    let (rows, columns) = (window.interior(0), window.interior(1));
    for block in 0..groups * blocks {
        let weights = &linear.weights()[block * run..][..run];
        let (group, part) = (block / blocks, block % blocks);
        let input = &input[group * group_in..];
        let channel = group * group_out + part * block_channels;
        let lanes = block_channels.min(group_out - part * block_channels);
        for y in 0..window.output[0] {
            let inside = y >= rows.0 && y < rows.1;
            let row = &mut output[y * window.output[1] * out_channels..][..window.output[1] * out_channels];
            for x in (0..window.output[1]).step_by(P) {
                // The last block of a row steps back over pixels that are done, rather than being a shorter one.
                let x = x.min(window.output[1] - P);
                let sums = [linear.start(block); P];
                let sums = if inside && x >= columns.0 && x + P <= columns.1 {
                    interior(shape, linear, input, weights, [y, x], sums)
                } else {
                    border(shape, linear, input, weights, [y, x], sums)
                };
                for (p, sums) in sums.into_iter().enumerate() {
                    let elements = linear.finish(block, sums);
                    row[(x + p) * out_channels + channel..][..lanes].copy_from_slice(&elements.as_flattened()[..lanes]);
                }
            }
        }
    }
}

/// Pixels whose whole kernel lies on the operand: a row of the kernel is one run of elements.
#[inline(always)]
fn interior<const G: usize, const P: usize, L: Linear<G>>(
    shape: Shape,
    linear: &L,
    input: &[L::Element],
    weights: &[L::Weights],
    at: [usize; 2],
    mut sums: [[L::Sums; G]; P],
) -> [[L::Sums; G]; P] {
    let Shape { window, in_channels, groups, .. } = shape;
    let dense = groups == 1 && window.dilations[1] == 1 && in_channels % L::STEP == 0;
    let (columns, run) =
        if dense { (1, window.kernel[1] * in_channels) } else { (window.kernel[1], in_channels / groups) };
    let top = at[0] * window.strides[0] - window.pads[0];
    let left = at[1] * window.strides[1] - window.pads[1];
    for ky in 0..window.kernel[0] {
        let row = &input[(top + ky * window.dilations[0]) * window.input[1] * in_channels..];
        for kx in 0..columns {
            let operands = core::array::from_fn(|p| {
                &row[(left + p * window.strides[1] + kx * window.dilations[1]) * in_channels..][..run]
            });
            let steps = run.div_ceil(L::STEP);
            linear.dot(&mut sums, operands, &weights[(ky * columns + kx) * steps..][..steps]);
        }
    }
    sums
}

/// Pixels whose kernel may hang over the operand's edges.
#[inline(always)]
fn border<const G: usize, const P: usize, L: Linear<G>>(
    shape: Shape,
    linear: &L,
    input: &[L::Element],
    weights: &[L::Weights],
    at: [usize; 2],
    mut sums: [[L::Sums; G]; P],
) -> [[L::Sums; G]; P] {
    let Shape { window, in_channels, groups, .. } = shape;
    let run = in_channels / groups;
    for ky in 0..window.kernel[0] {
        let iy = window.at(0, at[0], ky);
        for kx in 0..window.kernel[1] {
            let operands = core::array::from_fn(|p| {
                let pixel = iy? * window.input[1] + window.at(1, at[1] + p, kx)?;
                Some(&input[pixel * in_channels..][..run])
            });
            let steps = run.div_ceil(L::STEP);
            linear.dot_padded(&mut sums, operands, &weights[(ky * window.kernel[1] + kx) * steps..][..steps]);
        }
    }
    sums
}
