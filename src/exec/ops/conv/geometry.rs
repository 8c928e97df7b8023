//! Where everything is: the layout that makes convolutions of every kind contiguous vector loops.
//!
//! A block of images is copied into a scratch, zero-padded, channel by channel, and split by *stride phase*: element
//! `(r, s)` of the padded image goes to phase `(r mod stride, s mod stride)` at `(r / stride, s / stride)`. All phases
//! have one plane size, and the output is written at the same pitch. Then kernel tap `(a, b)` reads, for the output at
//! flat position `q`, the input at `q + offset` of one phase, whatever stride, dilation and padding are.

use burn::tensor::ops::ConvOptions;

/// Scratch of a block should stay in a core's second-level cache.
const BLOCK_BYTES: usize = 640 * 1024;
/// Shorter vector loops than this are mostly overhead.
const LEAST_SPAN: usize = 1024;
/// Vector loops may read and write this far beyond the last element.
pub const OVERRUN: usize = 256;
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
    /// Height and width of a phase's plane.
    plane: [usize; 2],
    /// Images in a block.
    pub block: usize,
    /// By tap, row-major: its phase, as an index into `phases`, and the offset inside it.
    pub taps: Vec<(usize, usize)>,
    /// The stride phases that a tap reads.
    phases: Vec<[usize; 2]>,
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
        let plane = [padded[0].div_ceil(stride[0]), padded[1].div_ceil(stride[1])];
        let mut phases: Vec<[usize; 2]> = Vec::new();
        let mut taps = Vec::new();
        for a in 0..kernel[0] {
            for b in 0..kernel[1] {
                let at = [a * dilation[0], b * dilation[1]];
                let phase = [at[0] % stride[0], at[1] % stride[1]];
                let slot = phases.iter().position(|&p| p == phase).unwrap_or_else(|| {
                    phases.push(phase);
                    phases.len() - 1
                });
                taps.push((slot, at[0] / stride[0] * plane[1] + at[1] / stride[1]));
            }
        }
        let output = [weights[0], extent(0), extent(1)];
        let area = plane[0] * plane[1];
        let bytes = 4 * area * (channels * phases.len() + output[0]);
        let (fitting, wanted) = (BLOCK_BYTES / bytes, LEAST_SPAN.div_ceil(area).min(4 * BLOCK_BYTES / bytes));
        let block = fitting.max(wanted).clamp(1, images.max(1));
        let groups = options.groups;
        Geometry { images, input: [channels, h, w], output, groups, stride, pad, plane, block, taps, phases }
    }

    pub fn area(&self) -> usize {
        self.plane[0] * self.plane[1]
    }

    pub fn phase_count(&self) -> usize {
        self.phases.len()
    }

    /// From a phase of a channel to the next.
    pub fn phase_pitch(&self) -> usize {
        (self.block * self.area()).next_multiple_of(LANES)
    }

    /// From an input channel to the next.
    pub fn input_pitch(&self) -> usize {
        self.phase_count() * self.phase_pitch()
    }

    /// Zeros before every channel of the output's gradient, so that the input's gradient can read backwards.
    pub fn lead(&self) -> usize {
        self.taps.iter().map(|&(_, offset)| offset).max().unwrap_or(0)
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
    pub fn load_input(&self, images: &[f32]) -> Vec<f32> {
        let [channels, h, w] = self.input;
        let mut scratch = vec![0.0; channels * self.input_pitch() + self.lead() + OVERRUN];
        for (index, image) in images.chunks_exact(h * w).enumerate() {
            let (image_index, channel) = (index / channels, index % channels);
            let base = channel * self.input_pitch() + image_index * self.area();
            for (slot, phase) in self.phases.iter().enumerate() {
                let place = &mut scratch[base + slot * self.phase_pitch()..][..self.area()];
                self.rows(*phase, |row, column, at| {
                    let source = &image[row * w + column..(row + 1) * w];
                    if self.stride[1] == 1 {
                        place[at..at + source.len()].copy_from_slice(source);
                    } else {
                        let source = source.iter().step_by(self.stride[1]);
                        place[at..].iter_mut().zip(source).for_each(|(to, from)| *to = *from);
                    }
                });
            }
        }
        scratch
    }

    /// One channel's gradient from its phases, `[phase][image][plane]` at `pitch` between phases, into an image.
    pub fn store_input(&self, phases: &[f32], pitch: usize, image_index: usize, image: &mut [f32]) {
        let w = self.input[2];
        for (slot, phase) in self.phases.iter().enumerate() {
            let place = &phases[slot * pitch + image_index * self.area()..][..self.area()];
            self.rows(*phase, |row, column, at| {
                let target = &mut image[row * w + column..(row + 1) * w];
                if self.stride[1] == 1 {
                    target.copy_from_slice(&place[at..at + target.len()]);
                } else {
                    let target = target.iter_mut().step_by(self.stride[1]);
                    target.zip(&place[at..]).for_each(|(to, from)| *to = *from);
                }
            });
        }
    }

    /// For every row of an image that has elements in a phase: the row, its first column in the phase, and where that
    /// one is in the phase's plane.
    fn rows(&self, phase: [usize; 2], mut each: impl FnMut(usize, usize, usize)) {
        let first = |d: usize| (self.stride[d] + phase[d] - self.pad[d] % self.stride[d]) % self.stride[d];
        let (top, left) = (first(0), first(1));
        let [_, h, w] = self.input;
        if left < w {
            for row in (top..h).step_by(self.stride[0]) {
                let at = (row + self.pad[0]) / self.stride[0] * self.plane[1] + (left + self.pad[1]) / self.stride[1];
                each(row, left, at);
            }
        }
    }

    /// Output gradients (of all channels) of a block, as scratch: every channel after [`Self::lead`] zeros.
    pub fn load_gradient(&self, images: &[f32]) -> Vec<f32> {
        let [channels, h, w] = self.output;
        let mut scratch = vec![0.0; channels * self.gradient_pitch() + self.lead() + OVERRUN];
        for (index, image) in images.chunks_exact(h * w).enumerate() {
            let (image_index, channel) = (index / channels, index % channels);
            let base = channel * self.gradient_pitch() + self.lead() + image_index * self.area();
            for (row, source) in image.chunks_exact(w).enumerate() {
                scratch[base + row * self.plane[1]..][..w].copy_from_slice(source);
            }
        }
        scratch
    }

    /// An output channel, `[image][plane]`, into an image.
    pub fn store_output(&self, channel: &[f32], image_index: usize, image: &mut [f32]) {
        let [_, _, w] = self.output;
        let place = &channel[image_index * self.area()..];
        for (row, target) in image.chunks_exact_mut(w).enumerate() {
            target.copy_from_slice(&place[row * self.plane[1]..][..w]);
        }
    }
}
