//! Samples: where they come from, and how they become inputs of a network.
//!
//! In: files, and what a model's file does not say about its input ([`Sidecar`], the TOML file beside it). Out:
//! [`Splits`] of samples behind one trait, [`Dataset`], which is all that consumers know: labels, batches as tensors,
//! augmented views, a hash.
//!
//! Views of a sample are augmented by its kind ([`Augment`]). Images stay bytes until the last moment: a [`Move`] moves
//! bytes, and preprocessing is one look-up table
//! of 256 entries per channel ([`Preprocess::table`]). So teacher, student, calibration and the generated program
//! see the same numbers, bit for bit.

mod augment;
mod dataset;
mod error;
mod folders;
mod head;
mod image_dataset;
mod images;
mod label_subset;
mod labels;
mod masking;
mod names;
mod options;
mod preprocess;
mod readers;
mod samples;
mod score;
mod sequence;
mod sidecar;
mod spectrum;
mod split;
mod task;
#[cfg(test)]
mod tests;
mod texts;
mod vectors;
mod views;

pub use augment::{Augment, Move};
pub use dataset::{Dataset, Splits};
pub use error::{Error, Location, Place};
pub use images::Images;
pub use label_subset::LabelSubset;
pub use masking::MaskedTokens;
pub use names::{Pattern, Rule};
pub use options::{ArrayOptions, Column, ImageOptions, Size, TableOptions, TextOptions};
pub use preprocess::{Layout, Preprocess};
pub use samples::Samples;
pub use score::{Explained, Score};
pub use sequence::{Reading, Sequence, SequenceOptions};
pub use sidecar::{Format, Licences, Sidecar, Source};
pub use spectrum::{AudioOptions, Feature, First, Log, MelScale};
pub use split::{Split, sample, split};
pub use task::{Task, argmax};
pub use texts::Texts;
pub use vectors::Vectors;
pub use views::{Input, Preview, SampleView, View};

use dataset::{fits_answers, fits_inputs};
use kdc_ir::graph::{Dim, Graph, shape_at, shape_text};
use labels::Classes;
use readers::idx;
use readers::npz::Values;
use readers::table::Content;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use task::TaskOption;
use texts::Encoder;

/// Reads the data of a model: `path` (a sidecar's own, or another) as the sidecar says, for the inputs of `network`.
///
/// # Errors
/// Names file and line of what cannot be used, and what does not go together.
pub fn load(sidecar: &Sidecar, path: &Path, network: &Graph) -> Result<Splits, Error> {
    let classes = sidecar.answers == TaskOption::Classes;
    // Before the data, which would be found unfit for what it is not meant for.
    if let Some(what) = head::unsupported(network).filter(|_| classes && sidecar.sequence.is_none()) {
        return Err(Error::Unsupported { what });
    }
    let outputs = if classes { labels::outputs(network) } else { 0 };
    let splits = load_inputs(sidecar, path, network, outputs)?;
    fits_answers(network, &splits)?;
    Ok(splits)
}

/// The same for a network whose answers are of no account: classes are what the data say.
///
/// # Errors
/// As [`load`].
pub fn load_for_body(sidecar: &Sidecar, path: &Path, network: &Graph) -> Result<Splits, Error> {
    load_inputs(sidecar, path, network, 0)
}

fn load_inputs(sidecar: &Sidecar, path: &Path, network: &Graph, outputs: usize) -> Result<Splits, Error> {
    let given = sidecar.classes.as_deref();
    // What is spelled is symbols by position: there are as many classes as words.
    let outputs = match &sidecar.sequence {
        Some(options) => options.words.as_ref().map_or(0, Vec::len),
        None => outputs,
    };
    let mut splits = match sidecar.source.format {
        Format::Idx => images(sidecar, idx::load(path, given)?, vec![])?,
        Format::Images => {
            let shape = image_shape(network, sidecar.preprocess.layout)?;
            let (train, test, classes) = readers::images::load(path, sidecar, shape, outputs)?;
            images(sidecar, (train, test, classes.names), classes.notes)?
        }
        Format::Npz => {
            let arrays = readers::npz::load(path, sidecar)?;
            let classes = labels::resolve(&arrays.train.labels, &arrays.test.labels, given, outputs)?;
            match (arrays.train.values, arrays.test.values) {
                (Values::Bytes(train), Values::Bytes(test)) if arrays.shape.len() > 1 => {
                    let of = |pixels, labels| Samples::from_array(&arrays.shape, pixels, labels);
                    images(sidecar, (of(train, classes.train)?, of(test, classes.test)?, classes.names), classes.notes)?
                }
                (train, test) => {
                    let values = (train.into_numbers(), test.into_numbers());
                    let time = arrays.shape.len().checked_sub(1);
                    vectors(sidecar, network, (arrays.shape, time), vec![], values, classes)?
                }
            }
        }
        Format::Wav => {
            let Some(audio) = &sidecar.source.audio else {
                return Err(Location::whole(&sidecar.path).error("[audio] is missing"));
            };
            let made =
                |values, classes| vectors(sidecar, network, readers::wav::extents(audio), vec![], values, classes);
            // Features of long sounds take their time: what does not fit is told before they are computed.
            fits_inputs(network, &made((vec![], vec![]), Classes::default())?)?;
            let sounds = readers::wav::load(path, sidecar, audio, outputs)?;
            made((sounds.train, sounds.test), sounds.classes)?
        }
        Format::Csv | Format::Jsonl | Format::Parquet if let Some(text) = &sidecar.source.text => {
            let encoder = Encoder::new(text, network, sidecar.answers == TaskOption::Tokens, sidecar.augment)?;
            let table = readers::table::load(path, sidecar, Content::Text(&text.column))?;
            let classes = labels::resolve(&table.train.labels, &table.test.labels, given, outputs)?;
            let part = |texts, labels| -> Result<Arc<dyn Dataset>, Error> {
                Ok(Arc::new(encoder.encode(texts, labels, &text.tokenizer)?))
            };
            Splits {
                train: part(table.train.texts, classes.train)?,
                test: part(table.test.texts, classes.test)?,
                class_names: classes.names,
                answers: Task::Classification,
                notes: classes.notes,
            }
        }
        Format::Csv | Format::Jsonl | Format::Parquet => {
            let table = readers::table::load(path, sidecar, Content::Numbers)?;
            let classes = labels::resolve(&table.train.labels, &table.test.labels, given, outputs)?;
            let values = (table.train.values, table.test.values);
            vectors(sidecar, network, (vec![table.features.len()], None), table.features, values, classes)?
        }
    };
    if let Some(options) = &sidecar.sequence {
        splits.answers = Task::Sequence(Sequence::new(options, &splits.class_names)?);
    }
    if sidecar.answers == TaskOption::Tokens && sidecar.source.text.is_none() {
        let what = "answers = \"tokens\" is for texts; [text] is missing";
        return Err(Location::whole(&sidecar.path).error(what));
    }
    if sidecar.answers != TaskOption::Classes {
        // Whatever the samples are labelled with, no answer names it.
        let unlabelled = |samples| -> Arc<dyn Dataset> { Arc::new(LabelSubset::new(samples, 0.0, 0)) };
        let (train, test) = (unlabelled(splits.train), unlabelled(splits.test));
        let answers = if sidecar.answers == TaskOption::Input { Task::Reconstruction } else { Task::MaskedLm };
        splits = Splits { train, test, class_names: vec![], answers, notes: splits.notes };
    }
    labels::not_empty(&splits, &Location::whole(path))?;
    fits_inputs(network, &splits)?;
    Ok(splits)
}

fn images(
    sidecar: &Sidecar,
    (train, test, class_names): (Samples, Samples, Vec<String>),
    notes: Vec<String>,
) -> Result<Splits, Error> {
    let part = |samples| -> Result<Arc<dyn Dataset>, Error> {
        Ok(Arc::new(Images::new(samples, sidecar.preprocess.clone(), sidecar.augment)?))
    };
    Ok(Splits { train: part(train)?, test: part(test)?, class_names, answers: Task::Classification, notes })
}

/// Samples of real numbers, of these extents, one of which may be time. `names`: of the numbers of a sample, where they
/// have some.
fn vectors(
    sidecar: &Sidecar,
    network: &Graph,
    (shape, time): (Vec<usize>, Option<usize>),
    names: Vec<String>,
    values: (Vec<f32>, Vec<f32>),
    classes: Classes,
) -> Result<Splits, Error> {
    let input = network.inputs.first().map(|&id| shape_at(&network.value(id).shape, 1)).unwrap_or_default();
    let part = |values, labels| -> Result<Arc<dyn Dataset>, Error> {
        let (shape, names, input) = (shape.clone(), names.clone(), input.get(1..).unwrap_or_default());
        let samples = Vectors::new(shape, names, values, labels, &sidecar.preprocess, input)?;
        Ok(Arc::new(samples.augmented(sidecar.augment, time)?))
    };
    Ok(Splits {
        train: part(values.0, classes.train)?,
        test: part(values.1, classes.test)?,
        class_names: classes.names,
        answers: Task::Classification,
        notes: classes.notes,
    })
}

/// The files that [`load`] may read, the sidecar itself aside, sorted by path.
///
/// # Errors
/// When a folder cannot be listed.
pub fn files(sidecar: &Sidecar, path: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut files: Vec<PathBuf> = sidecar.source.text.iter().map(|text| text.tokenizer.clone()).collect();
    let mut below = vec![path.to_path_buf()];
    while let Some(path) = below.pop() {
        if path.is_dir() {
            let (folders, within) = folders::list(&path)?;
            below.extend(folders);
            files.extend(within);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Height, width and channels of the images that a network takes.
fn image_shape(network: &Graph, layout: Layout) -> Result<[usize; 3], Error> {
    let fail = |what: String| Err(Error::Mismatch { what });
    let [input] = network.inputs[..] else {
        return fail(format!("the network has {} inputs, images are one", network.inputs.len()));
    };
    let input = network.value(input);
    let shape = match (layout, &input.shape[..]) {
        (Layout::Nchw, &[_, Dim::Fixed(c), Dim::Fixed(h), Dim::Fixed(w)]) => [h, w, c],
        (Layout::Nhwc, &[_, Dim::Fixed(h), Dim::Fixed(w), Dim::Fixed(c)]) => [h, w, c],
        _ => {
            let what = "images become [batch,channel,height,width] or [batch,height,width,channel]";
            let shape = shape_text(&input.shape);
            return fail(format!("its input {} is {shape}, {what}; see layout in the sidecar", input.name));
        }
    };
    match shape[2] {
        1 | 3 => Ok(shape),
        c => fail(format!("its input {} has {c} channels, images have 1 or 3; see layout in the sidecar", input.name)),
    }
}
