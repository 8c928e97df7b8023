//! Folders of WAV files: integers of up to 64 bits or floats of 32 and 64, any number of channels (their mean is taken).

use super::riff::{Fault, Sound};
use crate::data::error::Location;
use crate::data::folders::{self, Entry, Search};
use crate::data::labels::{Classes, resolve};
use crate::data::spectrum::{AudioOptions, Extractor, First};
use crate::data::{Error, Sidecar};
use kdc_ir::files;
use rayon::prelude::*;
use std::path::Path;

/// The features of all sounds, and their classes.
pub(crate) struct Sounds {
    pub train: Vec<f32>,
    pub test: Vec<f32>,
    pub classes: Classes,
}

/// The extents of one sound's features, and which of them is time.
pub(crate) fn extents(options: &AudioOptions) -> (Vec<usize>, Option<usize>) {
    let shape = Extractor::new(options).shape();
    let time = if options.first == First::Frames { 0 } else { shape.len() - 1 };
    (shape, Some(time))
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
    Ok(Sounds { train: features(&train)?, test: features(&test)?, classes })
}

/// In parallel, each to its place; memory holds one sound per thread beyond the result.
fn all(entries: &[Entry], extractor: &Extractor, options: &AudioOptions, size: usize) -> Result<Vec<f32>, Error> {
    let mut values = super::room(entries.len(), size)?;
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
    let unusable = |fault: Fault| match fault {
        Fault::Io(source) => Error::Read { path: path.into(), source },
        Fault::Content(what) => fail(format!("it is no usable WAV file: {what}")),
    };
    let file = files::open(path).map_err(|source| Error::Read { path: path.into(), source })?;
    let mut sound = Sound::open(file).map_err(unusable)?;
    if sound.rate != options.rate {
        let what = format!("it has {} samples a second, rate in [audio] is {}", sound.rate, options.rate);
        return Err(fail(format!("{what}; resample it, or correct the rate")));
    }
    let values = sound.mono(options.length()).map_err(unusable)?;
    match values.iter().position(|x| !x.is_finite()) {
        Some(at) => Err(fail(format!("sample {at} is {}; sounds are finite", values[at]))),
        None if values.is_empty() => Err(fail("it holds no sound: 0 samples".into())),
        None => Ok(values),
    }
}
