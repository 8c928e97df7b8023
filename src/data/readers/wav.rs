//! Folders of WAV files: PCM of 8 to 32 bits or 32-bit float, any number of channels (their mean is taken).

use crate::data::error::Location;
use crate::data::folders::{self, Entry, Search};
use crate::data::labels::{Classes, resolve};
use crate::data::spectrum::{AudioOptions, Extractor, First};
use crate::data::{Error, Sidecar};
use hound::{SampleFormat, WavReader};
use rayon::prelude::*;
use std::path::Path;

/// The features of all sounds, and their classes.
pub(crate) struct Sounds {
    pub train: Vec<f32>,
    pub test: Vec<f32>,
    pub classes: Classes,
    /// The extents of one sound's features.
    pub shape: Vec<usize>,
    /// Which of them is time.
    pub time: usize,
}

/// Reads the sounds below a folder.
///
/// # Errors
/// Names the file or folder that cannot be used.
pub(crate) fn load(root: &Path, sidecar: &Sidecar, options: &AudioOptions, outputs: usize) -> Result<Sounds, Error> {
    let search = Search {
        kind: "WAV",
        extensions: &["wav"],
        pattern: sidecar.source.names.as_ref(),
        split: sidecar.source.split.as_ref(),
    };
    let (train, test) = folders::find(root, &search)?;
    let classes = resolve(&folders::labels(&train), &folders::labels(&test), sidecar.classes.as_deref(), outputs)?;
    let extractor = Extractor::new(options);
    let size = extractor.shape().iter().product();
    let features = |entries: &[Entry]| all(entries, &extractor, options, size);
    let shape = extractor.shape();
    let time = if options.first == First::Frames { 0 } else { shape.len() - 1 };
    Ok(Sounds { train: features(&train)?, test: features(&test)?, classes, shape, time })
}

/// In parallel, each to its place; memory holds one sound per thread beyond the result.
fn all(entries: &[Entry], extractor: &Extractor, options: &AudioOptions, size: usize) -> Result<Vec<f32>, Error> {
    let mut values = vec![0.0; entries.len() * size];
    let one = |(place, entry): (&mut [f32], &Entry)| -> Result<(), Error> {
        let sound = read(&entry.path, options)?;
        place.copy_from_slice(&extractor.features(&sound));
        Ok(())
    };
    // All results are collected so that the error is the first file's, not the first thread's.
    let results: Vec<Result<(), Error>> = values.par_chunks_mut(size.max(1)).zip(entries).map(one).collect();
    results.into_iter().collect::<Result<(), Error>>()?;
    Ok(values)
}

/// The samples of one channel, as far as they are wanted.
fn read(path: &Path, options: &AudioOptions) -> Result<Vec<f32>, Error> {
    let fail = |what: String| Location::whole(path).error(what);
    let unusable = |e: hound::Error| match e {
        hound::Error::IoError(e) if e.raw_os_error().is_some() => Error::Read { path: path.into(), source: e },
        e => fail(format!("it is no usable WAV file: {e}")),
    };
    let mut reader = WavReader::open(path).map_err(unusable)?;
    let spec = reader.spec();
    if spec.sample_rate != options.rate {
        let what = format!("it has {} samples a second, rate in [audio] is {}", spec.sample_rate, options.rate);
        return Err(fail(format!("{what}; resample it, or correct the rate")));
    }
    let channels = usize::from(spec.channels.max(1));
    let wanted = options.length() * channels;
    let values: Vec<f32> = match spec.sample_format {
        SampleFormat::Float => reader.samples::<f32>().take(wanted).collect::<Result<_, _>>().map_err(unusable)?,
        SampleFormat::Int => {
            let full = f64::from(spec.bits_per_sample.clamp(1, 32)) - 1.0;
            let scale = full.exp2().recip() as f32;
            let scaled = |x: Result<i32, hound::Error>| x.map(|x| x as f32 * scale);
            reader.samples::<i32>().take(wanted).map(scaled).collect::<Result<_, _>>().map_err(unusable)?
        }
    };
    if values.len() < channels {
        return Err(fail("it holds no sound: 0 samples".into()));
    }
    if let Some(at) = values.iter().position(|x| !x.is_finite()) {
        return Err(fail(format!("sample {} is {}; sounds are finite", at / channels, values[at])));
    }
    Ok(values.chunks(channels).map(|frame| frame.iter().sum::<f32>() / channels as f32).collect())
}
