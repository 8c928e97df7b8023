//! Features of sounds: log-mel energies and cepstral coefficients (MFCC).
//!
//! - Frames of `fft` samples every `hop`; in each a periodic Hann window of `window` samples stands in the middle
//!   (zeros around it): `w[n] = ½ − ½·cos(2πn / window)`. Power spectrum `|X[k]|²` by a real FFT.
//! - Mel bands: triangles whose corners are equally spaced on the mel scale between `low` and `high`. Scales:
//!   HTK, `2595·log₁₀(1 + f/700)` (The HTK Book 3.4, section 5.4), and Slaney's (Auditory Toolbox, 1998): `3f/200` below
//!   1 kHz, `15 + 27·ln(f/1000)/ln 6.4` above. With `area`, each triangle is divided by half its width in Hz.
//! - Logarithm of the energies: natural, or decibels `10·log₁₀`, of at least `floor`.
//! - MFCC: the first coefficients of the orthonormal DCT-II over the bands (Davis and Mermelstein 1980).
//!
//! These are librosa's definitions (`feature.melspectrogram`, `feature.mfcc`, without its `top_db`), whose defaults are
//! `scale = "slaney"`, `area = true`, `log = "db"`, `center = true`.

use realfft::{RealFftPlanner, RealToComplex};
use serde::Deserialize;
use std::f64::consts::PI;
use std::sync::Arc;

/// The most features of a sound.
const MOST_FEATURES: usize = 1 << 26;
/// The most samples that the frames of a sound have together.
const MOST_WORK: usize = 1 << 30;

/// What becomes of a sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// The samples, -1 to 1.
    Waveform,
    /// Logarithms of energies in mel bands.
    LogMel,
    /// Mel-frequency cepstral coefficients.
    Mfcc,
}

/// The frequency scale of the bands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MelScale {
    #[default]
    Htk,
    Slaney,
}

/// The logarithm of an energy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Log {
    /// Natural.
    #[default]
    Ln,
    /// Decibels.
    Db,
}

/// Which index of a feature matrix runs first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum First {
    /// `[bands, frames]`, as librosa and torchaudio have it.
    #[default]
    Bands,
    /// `[frames, bands]`.
    Frames,
}

/// How sounds become features: the section `[audio]` of a sidecar.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AudioOptions {
    /// Samples a second; files of another rate are refused.
    pub rate: u32,
    /// What a sound is cut to, or filled up to with silence.
    pub seconds: f64,
    pub features: Feature,
    /// Seconds of a window.
    #[serde(default = "AudioOptions::window")]
    pub window: f64,
    /// Seconds from one window to the next.
    #[serde(default = "AudioOptions::hop")]
    pub hop: f64,
    /// Samples of a Fourier transform; `None`: the power of two that the window fits into.
    pub fft: Option<usize>,
    /// Mel bands.
    #[serde(default = "AudioOptions::bands")]
    pub bands: usize,
    /// Lower end of the lowest band in Hz.
    #[serde(default)]
    pub low: f64,
    /// Upper end of the highest band in Hz; `None`: half the rate.
    pub high: Option<f64>,
    #[serde(default)]
    pub scale: MelScale,
    /// Whether bands are weighted by their width.
    #[serde(default)]
    pub area: bool,
    #[serde(default)]
    pub log: Log,
    /// The least energy.
    #[serde(default = "AudioOptions::floor")]
    pub floor: f64,
    /// Cepstral coefficients that are kept.
    #[serde(default = "AudioOptions::coefficients")]
    pub coefficients: usize,
    /// Whether frame `i` is centred at `i · hop`, with silence before and after the sound.
    #[serde(default)]
    pub center: bool,
    #[serde(default)]
    pub first: First,
}

impl AudioOptions {
    fn window() -> f64 {
        0.025
    }

    fn hop() -> f64 {
        0.010
    }

    fn bands() -> usize {
        40
    }

    fn floor() -> f64 {
        1e-10
    }

    fn coefficients() -> usize {
        13
    }

    fn in_samples(&self, seconds: f64) -> usize {
        // More than that is refused, whatever it is.
        ((seconds * f64::from(self.rate)).round() as usize).min(1 << 32)
    }

    /// Samples of a sound.
    pub(super) fn length(&self) -> usize {
        self.in_samples(self.seconds)
    }

    fn fft_length(&self) -> usize {
        self.fft.unwrap_or_else(|| self.in_samples(self.window).next_power_of_two())
    }

    fn highest(&self) -> f64 {
        self.high.unwrap_or(f64::from(self.rate) / 2.0)
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// Names the one that cannot be.
    pub(super) fn check(&self) -> Result<(), String> {
        let fail = |what: String| Err(what);
        let (length, window, hop, fft) =
            (self.length(), self.in_samples(self.window), self.in_samples(self.hop), self.fft_length());
        if !(1..=1 << 26).contains(&length) {
            return fail(format!("rate {} and seconds {} make {length} samples of a sound", self.rate, self.seconds));
        }
        if self.features == Feature::Waveform {
            return Ok(());
        }
        if window == 0 || hop == 0 {
            return fail(format!("window and hop are {window} and {hop} samples; neither may be 0"));
        }
        if fft < window || fft > 1 << 20 || !fft.is_multiple_of(2) {
            return fail(format!("fft is {fft}: it is even and at least the window's {window} samples"));
        }
        if !self.center && length < fft {
            return fail(format!("a sound of {length} samples is shorter than one frame of {fft}"));
        }
        if !(self.low >= 0.0 && self.low < self.highest() && self.highest() <= f64::from(self.rate) / 2.0) {
            return fail(format!(
                "bands from {} to {} Hz: they lie between 0 and half the rate, {} Hz",
                self.low,
                self.highest(),
                f64::from(self.rate) / 2.0
            ));
        }
        if !(1..=4096).contains(&self.bands) {
            return fail(format!("{} bands: 1 to 4096 are made", self.bands));
        }
        let (frames, rows) = (1 + length / hop, self.bands);
        if frames.saturating_mul(rows) > MOST_FEATURES || frames.saturating_mul(fft) > MOST_WORK {
            return fail(format!(
                "{frames} frames of {rows} bands and {fft} samples are too many for a sound; hop is {hop} samples"
            ));
        }
        if self.features == Feature::Mfcc && !(1..=self.bands).contains(&self.coefficients) {
            return fail(format!("{} coefficients: 1 to as many as bands, {}", self.coefficients, self.bands));
        }
        if !(self.floor.is_finite() && self.floor > 0.0) {
            return fail(format!("floor is {}: it must be positive", self.floor));
        }
        Ok(())
    }
}

fn to_mel(scale: MelScale, hertz: f64) -> f64 {
    match scale {
        MelScale::Htk => 2595.0 * (1.0 + hertz / 700.0).log10(),
        MelScale::Slaney if hertz < 1000.0 => 3.0 * hertz / 200.0,
        MelScale::Slaney => 15.0 + 27.0 * (hertz / 1000.0).ln() / 6.4f64.ln(),
    }
}

fn to_hertz(scale: MelScale, mel: f64) -> f64 {
    match scale {
        MelScale::Htk => 700.0 * (10f64.powf(mel / 2595.0) - 1.0),
        MelScale::Slaney if mel < 15.0 => 200.0 * mel / 3.0,
        MelScale::Slaney => 1000.0 * (6.4f64.ln() * (mel - 15.0) / 27.0).exp(),
    }
}

/// Everything that is the same for all sounds.
pub(super) struct Extractor<'a> {
    options: &'a AudioOptions,
    fft: Arc<dyn RealToComplex<f64>>,
    /// As long as a frame.
    window: Vec<f64>,
    /// Per band, the first bin that counts and the weights from there on.
    bands: Vec<(usize, Vec<f64>)>,
    /// `[coefficient][band]`; none where bands are what is wanted.
    cosines: Vec<Vec<f64>>,
}

impl Extractor<'_> {
    /// Prepares; the options have passed [`AudioOptions::check`].
    pub fn new(options: &AudioOptions) -> Extractor<'_> {
        let (length, width) = (options.fft_length().max(2), options.in_samples(options.window));
        let mut window = vec![0.0; length];
        let margin = length.saturating_sub(width) / 2;
        for (n, w) in window.iter_mut().skip(margin).take(width).enumerate() {
            *w = 0.5 - 0.5 * (2.0 * PI * n as f64 / width as f64).cos();
        }
        let (low, high) = (to_mel(options.scale, options.low), to_mel(options.scale, options.highest()));
        let corner = |i: usize| to_hertz(options.scale, low + (high - low) * i as f64 / (options.bands + 1) as f64);
        let bin = |k: usize| k as f64 * f64::from(options.rate) / length as f64;
        let band = |b: usize| {
            let (left, middle, right) = (corner(b), corner(b + 1), corner(b + 2));
            let height = if options.area { 2.0 / (right - left) } else { 1.0 };
            let weight = |k: usize| {
                let f = bin(k);
                height * ((f - left) / (middle - left)).min((right - f) / (right - middle)).max(0.0)
            };
            let nearest = |hertz: f64| (hertz * length as f64 / f64::from(options.rate)) as usize;
            let near = nearest(left).saturating_sub(1)..=(nearest(right) + 2).min(length / 2);
            let inside: Vec<usize> = near.filter(|&k| weight(k) > 0.0).collect();
            (inside.first().copied().unwrap_or(0), inside.iter().map(|&k| weight(k)).collect())
        };
        let count = options.bands;
        let cosine = |c: usize| {
            let norm = if c == 0 { 1.0 } else { 2.0 } / count as f64;
            (0..count).map(|b| norm.sqrt() * (PI * c as f64 * (b as f64 + 0.5) / count as f64).cos()).collect()
        };
        let coefficients = if options.features == Feature::Mfcc { options.coefficients } else { 0 };
        Extractor {
            options,
            fft: RealFftPlanner::new().plan_fft_forward(length),
            window,
            bands: (0..count).map(band).collect(),
            cosines: (0..coefficients).map(cosine).collect(),
        }
    }

    fn frames(&self) -> usize {
        let (length, hop) = (self.options.length(), self.options.in_samples(self.options.hop).max(1));
        match self.options.center {
            true => 1 + length / hop,
            false => 1 + length.saturating_sub(self.window.len()) / hop,
        }
    }

    fn rows(&self) -> usize {
        if self.cosines.is_empty() { self.bands.len() } else { self.cosines.len() }
    }

    /// The extents of a sound's features.
    pub fn shape(&self) -> Vec<usize> {
        match (self.options.features, self.options.first) {
            (Feature::Waveform, _) => vec![self.options.length()],
            (_, First::Bands) => vec![self.rows(), self.frames()],
            (_, First::Frames) => vec![self.frames(), self.rows()],
        }
    }

    /// The features of a sound of any length, row-major.
    pub fn features(&self, sound: &[f32]) -> Vec<f32> {
        let mut sound = sound.to_vec();
        sound.resize(self.options.length(), 0.0);
        if self.options.features == Feature::Waveform {
            return sound;
        }
        let (frames, rows, length) = (self.frames(), self.rows(), self.window.len());
        let hop = self.options.in_samples(self.options.hop);
        let before = if self.options.center { length / 2 } else { 0 };
        let mut out = vec![0.0; frames * rows];
        let (mut frame, mut spectrum) = (self.fft.make_input_vec(), self.fft.make_output_vec());
        let mut scratch = self.fft.make_scratch_vec();
        for t in 0..frames {
            for (n, (x, w)) in frame.iter_mut().zip(&self.window).enumerate() {
                let at = (t * hop + n).checked_sub(before).and_then(|at| sound.get(at));
                *x = w * at.map_or(0.0, |&x| f64::from(x));
            }
            // The lengths are its own, which is all that can be wrong.
            let _ = self.fft.process_with_scratch(&mut frame, &mut spectrum, &mut scratch);
            let energies: Vec<f64> = self
                .bands
                .iter()
                .map(|(first, weights)| {
                    let energy = weights.iter().zip(&spectrum[*first..]).map(|(w, x)| w * x.norm_sqr()).sum::<f64>();
                    let energy = energy.max(self.options.floor);
                    match self.options.log {
                        Log::Ln => energy.ln(),
                        Log::Db => 10.0 * energy.log10(),
                    }
                })
                .collect();
            let project = |cosines: &Vec<f64>| cosines.iter().zip(&energies).map(|(c, e)| c * e).sum();
            let column =
                if self.cosines.is_empty() { energies.clone() } else { self.cosines.iter().map(project).collect() };
            for (row, x) in column.into_iter().enumerate() {
                let at = if self.options.first == First::Bands { row * frames + t } else { t * rows + row };
                out[at] = x as f32;
            }
        }
        out
    }
}
