//! The passes of a convolution, by blocks of images: forward, and both gradients at once.

use super::geometry::Geometry;
use super::kernels::{Convolve, Correlate, OVERRUN, Rows, most_rows, rows};
use crate::ops::batch_norm::Moments;
use crate::ops::buffer::{Room, Scratch};
use rayon::prelude::*;

/// Weights in the order in which a kernel reads them.
struct Packed {
    rows: Rows,
    weights: Vec<f32>,
}

/// Packs `weight(row, channel, tap)` as `[channels][taps][rows]`, block of rows by block of rows.
fn pack(count: usize, channels: usize, taps: usize, weight: impl Fn(usize, usize, usize) -> f32) -> Vec<Packed> {
    let one = |rows: Rows| {
        let mut weights = Vec::with_capacity(channels * taps * rows.computed);
        for channel in 0..channels {
            for tap in 0..taps {
                let row = |j| if j < rows.used { weight(rows.first + j, channel, tap) } else { 0.0 };
                weights.extend((0..rows.computed).map(row));
            }
        }
        Packed { rows, weights }
    };
    rows(count).map(one).collect()
}

/// `y[n][o] = Σ over c, t: w[o][c][t] · x[n][c]`, shifted by tap t; if wanted with the moments of each output channel.
pub fn forward(x: &[f32], weights: &[f32], g: &Geometry, moments: bool) -> (Vec<f32>, Vec<Moments>) {
    let [in_channels, in_h, in_w] = g.input;
    let [out_channels, out_h, out_w] = g.output;
    let (ins, outs, taps) = (in_channels / g.groups, out_channels / g.groups, g.taps.len());
    let packed: Vec<Vec<Packed>> = (0..g.groups)
        .map(|group| pack(outs, ins, taps, |o, c, t| weights[((group * outs + o) * ins + c) * taps + t]))
        .collect();
    let offsets = g.offsets();
    let (in_image, out_plane) = (in_channels * in_h * in_w, out_h * out_w);
    let mut y = Room::new(g.images * out_channels * out_plane);
    let blocks = y.blocks(g.block * out_channels * out_plane).zip(x.par_chunks(g.block * in_image));
    let one = |(y, x): (&mut [f32], &[f32])| {
        let images = x.len() / in_image;
        let scratch = g.load_input(x);
        let out_pitch = g.block * g.area() + OVERRUN;
        let mut out = Scratch::new(most_rows() * out_pitch);
        let mut made = vec![Moments::default(); if moments { out_channels } else { 0 }];
        for (group, blocks) in packed.iter().enumerate() {
            for Packed { rows, weights } in blocks {
                Convolve {
                    source: &scratch[group * ins * g.input_pitch()..],
                    pitch: g.input_pitch(),
                    offsets: &offsets,
                    weights,
                    out: &mut out,
                    out_pitch,
                    len: g.span(images),
                    rows: rows.computed,
                }
                .run();
                for j in 0..rows.used {
                    let channel = group * outs + rows.first + j;
                    for image in 0..images {
                        let y = &mut y[(image * out_channels + channel) * out_plane..][..out_plane];
                        g.store_output(&out[j * out_pitch..], image, y);
                        if moments {
                            made[channel].add(y);
                        }
                    }
                }
            }
        }
        made
    };
    let parts: Vec<Vec<Moments>> = blocks.map(one).collect();
    let of_channel = |channel| Moments::merged(parts.iter().map(|part: &Vec<Moments>| part[channel]));
    (y.full(), (0..if moments { out_channels } else { 0 }).map(of_channel).collect())
}

/// Gradients of the input and of the weights, those that are wanted. `plane` writes the output's gradient of one
/// channel of one image.
pub fn backward(
    x: &[f32],
    weights: &[f32],
    g: &Geometry,
    plane: impl Fn(usize, usize, &mut [f32]) + Sync,
    [by_input, by_weights]: [bool; 2],
) -> [Option<Vec<f32>>; 2] {
    let [in_channels, in_h, in_w] = g.input;
    let in_image = in_channels * in_h * in_w;
    let back = by_input.then(|| Back::new(weights, g));
    let mut dx = Room::new(if by_input { g.images * in_image } else { 0 });
    let one = |(block, (x, dx)): (usize, (&[f32], &mut [f32]))| {
        let images = x.len() / in_image;
        let gradient = g.load_gradient(images, |image, channel, out| plane(block * g.block + image, channel, out));
        if let Some(back) = &back {
            back.input_gradient(g, &gradient, images, dx);
        }
        by_weights.then(|| weight_gradient(g, &g.load_input(x), &gradient, images))
    };
    let size = g.block * in_image;
    let blocks = x.par_chunks(size);
    // What no tap reads has no gradient, and stays zero.
    let parts: Vec<Option<Vec<f32>>> = match by_input {
        true => blocks.zip(dx.blocks(size)).enumerate().map(one).collect(),
        false => blocks.enumerate().map(|(block, x)| one((block, (x, &mut [])))).collect(),
    };
    // In the order of the blocks, whoever computed them.
    let sum = |mut sum: Vec<f32>, part: Vec<f32>| {
        sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        sum
    };
    let dw = by_weights.then(|| parts.into_iter().flatten().reduce(sum).unwrap_or_else(|| vec![0.0; weights.len()]));
    [by_input.then(|| dx.full()), dw]
}

/// What the input's gradient needs of the weights.
struct Back {
    /// By group and stride phase.
    packed: Vec<Vec<Vec<Packed>>>,
    /// By stride phase.
    offsets: Vec<Vec<usize>>,
}

impl Back {
    fn new(weights: &[f32], g: &Geometry) -> Back {
        let (ins, outs, taps) = (g.input[0] / g.groups, g.output[0] / g.groups, g.taps.len());
        let of_phase = |phase: usize| (0..taps).filter(move |&t| g.taps[t].0 == phase);
        let of_group = |group: usize| {
            let one = |phase| {
                let taps_here: Vec<usize> = of_phase(phase).collect();
                let weight = |c, o, t: usize| weights[((group * outs + o) * ins + c) * taps + taps_here[t]];
                pack(ins, outs, taps_here.len(), weight)
            };
            (0..g.phase_count()).map(one).collect()
        };
        let offsets = |phase| of_phase(phase).map(|t| g.lead() - g.taps[t].1).collect();
        Back { packed: (0..g.groups).map(of_group).collect(), offsets: (0..g.phase_count()).map(offsets).collect() }
    }

    /// `dx[n][c] = Σ over o, t: w[o][c][t] · dy[n][o]`, shifted back by tap t: per stride phase a convolution again.
    fn input_gradient(&self, g: &Geometry, gradient: &[f32], images: usize, dx: &mut [f32]) {
        let [in_channels, in_h, in_w] = g.input;
        let (ins, outs, in_plane) = (in_channels / g.groups, g.output[0] / g.groups, in_h * in_w);
        let phase_pitch = g.block * g.area() + OVERRUN;
        let out_pitch = g.phase_count() * phase_pitch;
        let mut out = Scratch::new(most_rows() * out_pitch);
        for (group, phases) in self.packed.iter().enumerate() {
            for block in 0..phases[0].len() {
                for (phase, blocks) in phases.iter().enumerate() {
                    Convolve {
                        source: &gradient[group * outs * g.gradient_pitch()..],
                        pitch: g.gradient_pitch(),
                        offsets: &self.offsets[phase],
                        weights: &blocks[block].weights,
                        out: &mut out[phase * phase_pitch..],
                        out_pitch,
                        len: images * g.area(),
                        rows: blocks[block].rows.computed,
                    }
                    .run();
                }
                let rows = phases[0][block].rows;
                for j in 0..rows.used {
                    for image in 0..images {
                        let at = image * in_channels + group * ins + rows.first + j;
                        let dx = &mut dx[at * in_plane..][..in_plane];
                        g.store_input(&out[j * out_pitch..], phase_pitch, image, dx);
                    }
                }
            }
        }
    }
}

/// `dw[o][c][t] = Σ over n, q: dy[n][o][q] · x[n][c][q shifted by tap t]`.
fn weight_gradient(g: &Geometry, source: &[f32], gradient: &[f32], images: usize) -> Vec<f32> {
    let (ins, outs, taps) = (g.input[0] / g.groups, g.output[0] / g.groups, g.taps.len());
    let offsets = g.offsets();
    let mut dw = vec![0.0; g.output[0] * ins * taps];
    let mut sums = vec![0.0; most_rows() * taps];
    for group in 0..g.groups {
        for rows in exact_rows(outs) {
            let first = group * outs + rows.first;
            for channel in 0..ins {
                Correlate {
                    gradient: &gradient[g.lead() + first * g.gradient_pitch()..],
                    pitch: g.gradient_pitch(),
                    source: &source[(group * ins + channel) * g.input_pitch()..],
                    offsets: &offsets,
                    len: g.span(images),
                    rows: rows.used,
                    sums: &mut sums,
                }
                .run();
                for (j, sums) in sums.chunks_exact(taps).take(rows.used).enumerate() {
                    dw[((first + j) * ins + channel) * taps..][..taps].copy_from_slice(sums);
                }
            }
        }
    }
    dw
}

/// Blocks whose size is a power of two, so that none reads channels that are not there.
fn exact_rows(count: usize) -> impl Iterator<Item = Rows> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let used = match count - first {
            0 => return None,
            left => most_rows().min(1 << left.ilog2()),
        };
        let rows = Rows { first, used, computed: used };
        first += used;
        Some(rows)
    })
}
