//! From stored bytes to a network's input.

use super::{Error, Move, Samples};
use kdc_ir::graph::Tensor;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How a network's input tensor arranges a sample of height, width and channels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// `[batch, channel, height, width]`
    #[default]
    Nchw,
    /// `[batch, height, width, channel]`
    Nhwc,
    /// `[batch, height * width * channel]`, in stored order.
    Flat,
}

impl Layout {
    /// The shape of a batch of `n` samples.
    pub(super) fn shape(self, n: usize, [h, w, c]: [usize; 3]) -> Vec<usize> {
        match self {
            Layout::Nchw => vec![n, c, h, w],
            Layout::Nhwc => vec![n, h, w, c],
            Layout::Flat => vec![n, h * w * c],
        }
    }
}

/// `input = (byte · scale − mean[channel]) / std[channel]`, laid out as the network wants it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// How the input tensor arranges an image; other samples come in the network's own arrangement.
    #[serde(default)]
    pub layout: Layout,
    /// What a byte is multiplied with, usually 1/255. A file may say `"1/255"`, which no decimal fraction does exactly.
    #[serde(default = "one", deserialize_with = "number_or_ratio")]
    pub scale: f64,
    /// One mean for all channels or one per channel, after scaling.
    #[serde(default = "zero_each")]
    pub mean: Vec<f64>,
    /// Standard deviations, as many as means.
    #[serde(default = "one_each")]
    pub std: Vec<f64>,
}

impl Default for Preprocess {
    fn default() -> Preprocess {
        Preprocess { layout: Layout::default(), scale: 1.0, mean: vec![0.0], std: vec![1.0] }
    }
}

fn one() -> f64 {
    1.0
}

fn zero_each() -> Vec<f64> {
    vec![0.0]
}

fn one_each() -> Vec<f64> {
    vec![1.0]
}

fn number_or_ratio<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "a number, or a ratio such as \"1/255\"")]
    enum Given {
        Number(f64),
        Ratio(String),
    }
    match Given::deserialize(deserializer)? {
        Given::Number(x) => Ok(x),
        Given::Ratio(text) => text
            .split_once('/')
            .and_then(|(a, b)| Some(a.trim().parse::<f64>().ok()? / b.trim().parse::<f64>().ok()?))
            .ok_or_else(|| {
                serde::de::Error::custom(format!("\"{text}\" is neither a number nor a ratio such as \"1/255\""))
            }),
    }
}

impl Preprocess {
    /// Checks the numbers, and that there is one pair for all of `channels` channels or one for each.
    ///
    /// # Errors
    /// Names the number that cannot be.
    pub fn check(&self, channels: usize) -> Result<(), Error> {
        let fail = |what: String| Err(Error::Preprocess { what });
        if !self.scale.is_finite() || self.scale == 0.0 {
            return fail(format!("scale is {}: it must be finite and not 0", self.scale));
        }
        if self.mean.len() != self.std.len() {
            return fail(format!("{} means but {} standard deviations", self.mean.len(), self.std.len()));
        }
        if let Some(mean) = self.mean.iter().find(|m| !m.is_finite()) {
            return fail(format!("a mean is {mean}: it must be finite"));
        }
        if let Some(std) = self.std.iter().find(|s| !(s.is_finite() && **s > 0.0)) {
            return fail(format!("a standard deviation is {std}: it must be positive"));
        }
        match self.mean.len() {
            1 => Ok(()),
            n if n == channels => Ok(()),
            given => Err(Error::Channels { given, channels }),
        }
    }

    /// The input value of every byte, per channel. **This is the definition of preprocessing**: everything that feeds
    /// a network, the generated program included, looks up here. Computed in `f64`, rounded once to `f32`.
    ///
    /// # Panics
    /// If there are no means or deviations; see [`Preprocess::check`].
    pub fn table(&self, channels: usize) -> Vec<[f32; 256]> {
        let of = |values: &[f64], c: usize| values[c.min(values.len() - 1)];
        (0..channels)
            .map(|c| {
                let (mean, std) = (of(&self.mean, c), of(&self.std, c));
                std::array::from_fn(|byte| ((byte as f64 * self.scale - mean) / std) as f32)
            })
            .collect()
    }

    /// The samples named, as input of a network: `f32`, shaped as [`Preprocess::layout`] says. With `moves`, each
    /// sample is moved as the one at the same position says.
    ///
    /// # Panics
    /// If an index names no sample, or there are not as many moves as indices.
    pub fn batch(&self, samples: &Samples, indices: &[usize], moves: Option<&[Move]>) -> Tensor {
        if let Some(moves) = moves {
            assert_eq!(moves.len(), indices.len(), "one move per sample");
        }
        let size = samples.sample_len();
        let table = self.table(samples.shape[2]);
        let mut out = vec![0.0f32; indices.len() * size];
        if size > 0 {
            // A few microseconds of work per piece, so that small batches are not torn apart.
            let piece = (1usize << 14).div_ceil(size);
            out.par_chunks_mut(size).with_min_len(piece).enumerate().for_each(|(i, out)| {
                let sample = samples.sample(indices[i]);
                match moves.map(|m| m[i]).filter(|m| !m.is_plain()) {
                    None => self.place(sample, samples.shape, &table, out),
                    Some(moved) => self.place(&moved.apply(sample, samples.shape), samples.shape, &table, out),
                }
            });
        }
        Tensor::f32(self.layout.shape(indices.len(), samples.shape), out)
    }

    fn place(&self, sample: &[u8], [_, _, channels]: [usize; 3], table: &[[f32; 256]], out: &mut [f32]) {
        match self.layout {
            Layout::Nchw => {
                let plane = out.len() / channels;
                for (c, (out, table)) in out.chunks_exact_mut(plane).zip(table).enumerate() {
                    for (x, pixel) in out.iter_mut().zip(sample.chunks_exact(channels)) {
                        *x = table[usize::from(pixel[c])];
                    }
                }
            }
            Layout::Nhwc | Layout::Flat => {
                for (out, pixel) in out.chunks_exact_mut(channels).zip(sample.chunks_exact(channels)) {
                    for ((x, byte), table) in out.iter_mut().zip(pixel).zip(table) {
                        *x = table[usize::from(*byte)];
                    }
                }
            }
        }
    }
}
