//! Where everything is: the layout that makes convolutions of every kind contiguous vector loops.
//!
//! A block of images is copied into a scratch, zero-padded, channel by channel, and split by *stride phase*: element
//! `(r, s)` of the padded image goes to phase `(r mod stride, s mod stride)` at `(r / stride, s / stride)`. All phases
//! have one plane size, and the output is written at the same pitch. Then kernel tap `(a, b)` reads, for the output at
//! flat position `q`, the input at `q + offset` of one phase, whatever stride, dilation and padding are.
//!
//! Padding is shared: the zeros after a row are those before the next one, and the zeros below an image those above the
//! next one, so that a plane is no larger than it must be (81 elements instead of 100 for 8 x 8 under a 3 x 3 kernel).

use super::kernels::{CopyRows, OVERRUN};
use crate::ops::buffer::Scratch;
use burn::tensor::ops::ConvOptions;

/// Scratch of a block should stay in a core's second-level cache.
const BLOCK_BYTES: usize = 640 * 1024;
/// Shorter vector loops than this are mostly overhead.
const LEAST_SPAN: usize = 1024;
/// The most lanes of a vector register (AVX-512): channels start at multiples of it.
const LANES: usize = 16;

/// A convolution's extents and the layout of its scratch.
#[derive(Clone, Debug)]
pub struct Geometry {
    pub images: usize,
    /// Channels, height, width.
    pub input: [usize; 3],
    /// Channels, height, width.
    pub output: [usize; 3],
    pub groups: usize,
    stride: [usize; 2],
    pad: [usize; 2],
    /// Height and width of a phase's plane, from an image to the next and from a row to the next.
    plane: [usize; 2],
    /// Rows and columns of padding that the plane shares with the next.
    shared: [usize; 2],
    /// Images in a block.
    pub block: usize,
    /// By tap, row-major: its phase, as an index into `phases`, and the offset inside it.
    pub taps: Vec<(usize, usize)>,
    /// The stride phases that a tap reads.
    phases: Vec<[usize; 2]>,
    /// By phase, the elements of an image that are in it; none, if it is in the padding altogether.
    places: Vec<Option<Place>>,
}

impl Geometry {
    /// Of `[images, channels, height, width]` with weights `[out, in / groups, height, width]`.
    pub fn new(x: [usize; 4], weights: [usize; 4], options: &ConvOptions<2>) -> Geometry {
        let [images, channels, h, w] = x;
        let kernel = [weights[2], weights[3]];
        let (stride, dilation) = (options.stride, options.dilation);
        let (pad, end) = (options.padding_begin(), options.padding_end());
        let padded = [h + pad[0] + end[0], w + pad[1] + end[1]];
        let extent = |d: usize| (padded[d] - dilation[d] * (kernel[d] - 1) - 1) / stride[d] + 1;
        let whole = [0, 1].map(|d| padded[d].div_ceil(stride[d]));
        let output = [weights[0], extent(0), extent(1)];
        let mut phases: Vec<[usize; 2]> = Vec::new();
        let places = (0..kernel[0]).flat_map(|a| (0..kernel[1]).map(move |b| [a * dilation[0], b * dilation[1]]));
        let places: Vec<[usize; 2]> = places.collect();
        for phase in places.iter().map(|at| [0, 1].map(|d| at[d] % stride[d])) {
            if !phases.contains(&phase) {
                phases.push(phase);
            }
        }
        // Zeros of a phase before and after its elements.
        let zeros = |d: usize, phase: usize| {
            let before = pad[d].saturating_sub(phase).div_ceil(stride[d]);
            let end = (pad[d] + [h, w][d]).saturating_sub(phase).div_ceil(stride[d]);
            before.min(whole[d] - end.min(whole[d]))
        };
        let shared = [0, 1].map(|d| {
            let least = phases.iter().map(|phase| zeros(d, phase[d])).min().unwrap_or(0);
            least.min(whole[d] - output[d + 1])
        });
        let plane = [0, 1].map(|d| whole[d] - shared[d]);
        let tap = |at: &[usize; 2]| {
            let phase = [0, 1].map(|d| at[d] % stride[d]);
            let slot = phases.iter().position(|p| *p == phase).expect("all are there");
            (slot, at[0] / stride[0] * plane[1] + at[1] / stride[1])
        };
        let taps = places.iter().map(tap).collect();
        let area = plane[0] * plane[1];
        let bytes = 4 * area * (channels * phases.len() + output[0]);
        let (fitting, wanted) = (BLOCK_BYTES / bytes, LEAST_SPAN.div_ceil(area).min(4 * BLOCK_BYTES / bytes));
        let block = balanced(images, fitting.max(wanted));
        let groups = options.groups;
        let input = [channels, h, w];
        let places = vec![];
        let all = Geometry { images, input, output, groups, stride, pad, plane, shared, block, taps, phases, places };
        Geometry { places: all.phases.iter().map(|phase| all.place(*phase)).collect(), ..all }
    }

    pub fn area(&self) -> usize {
        self.plane[0] * self.plane[1]
    }

    pub fn phase_count(&self) -> usize {
        self.phases.len()
    }

    /// From a phase of a channel to the next.
    pub fn phase_pitch(&self) -> usize {
        let [rows, columns] = self.shared;
        (self.block * self.area() + rows * self.plane[1] + columns).next_multiple_of(LANES)
    }

    /// From an input channel to the next.
    pub fn input_pitch(&self) -> usize {
        self.phase_count() * self.phase_pitch()
    }

    /// Zeros before every channel of the output's gradient, so that the input's gradient can read backwards.
    pub fn lead(&self) -> usize {
        self.taps.iter().map(|&(_, offset)| offset).max().unwrap_or(0).next_multiple_of(LANES)
    }

    /// How far the outputs of so many images reach.
    pub fn span(&self, images: usize) -> usize {
        (images * self.area()).saturating_sub(self.area() - (self.output[1] - 1) * self.plane[1] - self.output[2])
    }

    /// From a channel of the output's gradient to the next.
    pub fn gradient_pitch(&self) -> usize {
        (self.lead() + self.phase_pitch()).next_multiple_of(LANES)
    }

    /// Where each tap reads, counted from the start of an input channel.
    pub fn offsets(&self) -> Vec<usize> {
        self.taps.iter().map(|&(phase, offset)| phase * self.phase_pitch() + offset).collect()
    }

    /// Images (of all channels) of a block, as input scratch.
    pub fn load_input(&self, images: &[f32]) -> Scratch {
        let [channels, h, w] = self.input;
        let mut scratch = Scratch::zeroed(channels * self.input_pitch() + self.lead() + OVERRUN);
        for (index, image) in images.chunks_exact(h * w).enumerate() {
            let (image_index, channel) = (index / channels, index % channels);
            let base = channel * self.input_pitch() + image_index * self.area();
            for (slot, of) in self.places.iter().enumerate() {
                let place = &mut scratch[base + slot * self.phase_pitch()..][..self.area()];
                let Some(Place { row, column, rows, at }) = *of else { continue };
                let source = &image[row * w + column..];
                let (from_pitch, to_pitch) = (self.stride[0] * w, self.plane[1]);
                if self.stride[1] == 1 {
                    CopyRows { from: source, from_pitch, to: &mut place[at..], to_pitch, rows, width: w }.run();
                    continue;
                }
                for (from, to) in source.chunks(from_pitch).zip(place[at..].chunks_mut(to_pitch)).take(rows) {
                    let from = &from[..(w - column).min(from.len())];
                    let count = from.len().div_ceil(self.stride[1]).min(to.len());
                    let (mut i, mut at, to) = (0, 0, &mut to[..count]);
                    while i < count {
                        to[i] = from[at];
                        (i, at) = (i + 1, at + self.stride[1]);
                    }
                }
            }
        }
        scratch
    }

    /// One channel's gradient from its phases, `[phase][image][plane]` at `pitch` between phases, into an image.
    pub fn store_input(&self, phases: &[f32], pitch: usize, image_index: usize, image: &mut [f32]) {
        let w = self.input[2];
        for (slot, of) in self.places.iter().enumerate() {
            let place = &phases[slot * pitch + image_index * self.area()..][..self.area()];
            let Some(Place { row, column, rows, at }) = *of else { continue };
            let target = &mut image[row * w + column..];
            let (from_pitch, to_pitch) = (self.plane[1], self.stride[0] * w);
            if self.stride[1] == 1 {
                CopyRows { from: &place[at..], from_pitch, to: target, to_pitch, rows, width: w }.run();
                continue;
            }
            for (from, to) in place[at..].chunks(from_pitch).zip(target.chunks_mut(to_pitch)).take(rows) {
                let end = (w - column).min(to.len());
                let count = end.div_ceil(self.stride[1]).min(from.len());
                let (mut i, mut at, from) = (0, 0, &from[..count]);
                while i < count {
                    to[at] = from[i];
                    (i, at) = (i + 1, at + self.stride[1]);
                }
            }
        }
    }

    /// The elements of an image that are in a phase; none, if it is in the padding altogether.
    fn place(&self, phase: [usize; 2]) -> Option<Place> {
        let first = |d: usize| (self.stride[d] + phase[d] - self.pad[d] % self.stride[d]) % self.stride[d];
        let ([row, column], [_, h, w]) = ([first(0), first(1)], self.input);
        let at = (row + self.pad[0]) / self.stride[0] * self.plane[1] + (column + self.pad[1]) / self.stride[1];
        let rows = h.saturating_sub(row).div_ceil(self.stride[0]);
        (column < w && rows > 0).then_some(Place { row, column, rows, at })
    }

    /// Output gradients (of all channels) of a block, as scratch: every channel after [`Self::lead`] zeros. `plane`
    /// writes the gradient of an image's channel.
    pub fn load_gradient(&self, images: usize, mut plane: impl FnMut(usize, usize, &mut [f32])) -> Scratch {
        let [channels, h, w] = self.output;
        let mut scratch = Scratch::zeroed(channels * self.gradient_pitch() + self.lead() + OVERRUN);
        let mut rows = Scratch::new(h * w);
        for (image, channel) in (0..images).flat_map(|image| (0..channels).map(move |channel| (image, channel))) {
            let base = channel * self.gradient_pitch() + self.lead() + image * self.area();
            if self.plane[1] == w {
                plane(image, channel, &mut scratch[base..][..h * w]);
                continue;
            }
            plane(image, channel, &mut rows);
            let (to, to_pitch) = (&mut scratch[base..], self.plane[1]);
            CopyRows { from: &rows, from_pitch: w, to, to_pitch, rows: h, width: w }.run();
        }
        scratch
    }

    /// An output channel, `[image][plane]`, into an image.
    pub fn store_output(&self, channel: &[f32], image_index: usize, image: &mut [f32]) {
        let [_, h, w] = self.output;
        let from = &channel[image_index * self.area()..];
        CopyRows { from, from_pitch: self.plane[1], to: image, to_pitch: w, rows: h, width: w }.run();
    }
}

/// Where elements of an image are in a phase.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Of the first one, in the image.
    row: usize,
    column: usize,
    rows: usize,
    /// Of the first one, in the phase's plane.
    at: usize,
}

/// Images of a block: about `wanted`, but so that the blocks are many enough and alike enough for several cores.
fn balanced(images: usize, wanted: usize) -> usize {
    let blocks = images.div_ceil(wanted.clamp(1, images.max(1)));
    images.div_ceil(blocks.next_multiple_of(4).min(images.max(1)).max(1)).max(1)
}
