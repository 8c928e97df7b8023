//! The teacher's logits on disk, so that it is asked once per sample and view.
//!
//! A labelling is a folder named by the hash of everything its numbers depend on; in it, one file per 2,048
//! samples. Each file is written whole or not at all and carries its own hash: an interrupted labelling goes on where
//! it stopped, a damaged file is made again.
//!
//! A file is `KDCLOGIT`, five little-endian `u32` (format, first sample, samples, views, classes), the logits as
//! little-endian `f16` in the order `[sample][view][class]`, and the BLAKE3 hash of all that, seeded with the folder's name.

use super::predict::BATCH;
use super::{Error, Teacher};
use crate::data::{Dataset, Look, View};
use crate::files;
use half::f16;
use std::path::Path;

/// Changes when the same inputs would give other numbers or another file.
const FORMAT: u32 = 1;

const MAGIC: &[u8; 8] = b"KDCLOGIT";

/// Samples per file.
const CHUNK: usize = 2048;

const HEADER: usize = 8 + 5 * 4;

const HASH: usize = 32;

/// Which logits: everything their numbers depend on.
pub struct Labelling<'a> {
    /// Who answers.
    pub teacher: &'a dyn Teacher,
    /// The teacher's content, see [`content_hash`](super::content_hash).
    pub teacher_hash: &'a str,
    /// The tap that holds the logits; `None`: the first output.
    pub value: Option<&'a str>,
    /// What is looked at.
    pub samples: &'a dyn Dataset,
    /// The seed of the views.
    pub seed: u64,
    /// Views per sample, at least 1. Where views do not differ from the sample one is enough.
    pub views: usize,
}

/// The logits of a teacher for every sample and view, in memory as `f16`.
#[derive(Clone, Debug, PartialEq)]
pub struct LogitCache {
    views: usize,
    classes: usize,
    values: Vec<f16>,
}

impl LogitCache {
    /// Reads the labelling below `folder`; what is not there yet, or damaged, is asked of the teacher and written.
    /// `progress` hears how many samples are labelled, and of how many.
    ///
    /// # Errors
    /// When the teacher fails, its logits are no vectors or exceed `f16`, or the folder cannot be written.
    pub fn fill(
        labelling: &Labelling,
        folder: &Path,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<LogitCache, Error> {
        let total = labelling.samples.len();
        let key = labelling.key();
        let folder = folder.join("logits").join(&key);
        let mut cache = LogitCache { views: labelling.views, classes: 0, values: Vec::new() };
        for first in (0..total).step_by(CHUNK) {
            let count = CHUNK.min(total - first);
            let path = folder.join(format!("{first:09}.logits"));
            let (classes, values) = match read(&path, &key, first, count, labelling.views) {
                Some(chunk) => chunk,
                None => {
                    let chunk = labelling.ask(first, count, &mut |done| progress(done, total))?;
                    write(&path, &key, first, count, labelling.views, &chunk)?;
                    chunk
                }
            };
            if first > 0 && classes != cache.classes {
                let what = format!("sample {first} has {classes} of them, those before {}", cache.classes);
                return Err(Error::Logits { what });
            }
            cache.classes = classes;
            cache.values.extend_from_slice(&values);
            progress(first + count, total);
        }
        Ok(cache)
    }

    /// Logits per sample.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Views per sample.
    pub fn views(&self) -> usize {
        self.views
    }

    /// The logits of one view of a sample.
    ///
    /// # Panics
    /// If there is no such sample or view.
    pub fn get(&self, sample: usize, view: usize) -> &[f16] {
        assert!(view < self.views, "view {view} of {}", self.views);
        &self.values[(sample * self.views + view) * self.classes..][..self.classes]
    }

    /// Appends the logits of one view of a sample to `row`; panics as [`LogitCache::get`].
    pub fn extend_f32(&self, sample: usize, view: usize, row: &mut Vec<f32>) {
        row.extend(self.get(sample, view).iter().map(|x| x.to_f32()));
    }
}

impl Labelling<'_> {
    /// The name of these logits: a hash of everything they depend on.
    fn key(&self) -> String {
        files::hash(
            format!(
                "kdc logits {FORMAT}\nteacher {}\nengine {}\nvalue {:?}\nsamples {}\naugmentation {}\nseed {}\nviews {}\n",
                self.teacher_hash,
                self.teacher.engine(),
                self.value,
                self.samples.hash(),
                self.samples.augmentation(),
                self.seed,
                self.views,
            )
            .as_bytes(),
        )
    }

    /// The number of classes, and the logits of `count` samples from `first` on.
    fn ask(&self, first: usize, count: usize, done: &mut dyn FnMut(usize)) -> Result<(usize, Vec<f16>), Error> {
        let fail = |what: String| Err(Error::Logits { what });
        if self.views == 0 {
            return fail("0 views were asked for".into());
        }
        let tap = match self.value {
            None => None,
            Some(name) => match self.teacher.taps().iter().position(|t| t == name) {
                None => return fail(format!("the teacher was opened without the tap \"{name}\"")),
                tap => tap,
            },
        };
        let (mut classes, mut values) = (0, Vec::new());
        let per_batch = (BATCH / self.views).max(1);
        for start in (first..first + count).step_by(per_batch) {
            let end = (start + per_batch).min(first + count);
            let views = (0..self.views).map(|number| View { seed: self.seed, number });
            let looks: Vec<Look> = (start..end)
                .flat_map(|sample| views.clone().map(move |view| Look { sample, view: Some(view) }))
                .collect();
            let answers = self.teacher.run(&self.samples.batch(&looks))?;
            let logits = match tap {
                None => answers.outputs.first(),
                Some(tap) => answers.taps.get(tap),
            };
            let Some(logits) = logits else { return fail("the teacher has no output".into()) };
            classes = logits.shape[1..].iter().product();
            if classes == 0 {
                return fail(format!("the value is {:?}", logits.shape));
            }
            for &x in logits.to_f32().iter() {
                let half = f16::from_f32(x);
                if !half.is_finite() {
                    return fail(format!("a logit is {x}, which exceeds the range of 16 bits (65504)"));
                }
                values.push(half);
            }
            done(end);
        }
        Ok((classes, values))
    }
}

fn seal(key: &str, contents: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key.as_bytes());
    hasher.update(contents);
    hasher.finalize()
}

fn write(
    path: &Path,
    key: &str,
    first: usize,
    count: usize,
    views: usize,
    (classes, values): &(usize, Vec<f16>),
) -> Result<(), Error> {
    let mut bytes = Vec::with_capacity(HEADER + 2 * values.len() + HASH);
    bytes.extend_from_slice(MAGIC);
    for number in [FORMAT as usize, first, count, views, *classes] {
        bytes.extend_from_slice(&(number as u32).to_le_bytes());
    }
    values.iter().for_each(|v| bytes.extend_from_slice(&v.to_le_bytes()));
    let hash = seal(key, &bytes);
    bytes.extend_from_slice(hash.as_bytes());
    files::write_atomic(path, &bytes).map_err(|source| Error::Write { source })
}

/// The number of classes and the logits; `None` where there is no such file, or not one to be trusted.
fn read(path: &Path, key: &str, first: usize, count: usize, views: usize) -> Option<(usize, Vec<f16>)> {
    let bytes = std::fs::read(path).ok()?;
    let (contents, hash) = bytes.split_at_checked(bytes.len().checked_sub(HASH)?)?;
    if seal(key, contents).as_bytes() != hash {
        return None;
    }
    let (header, values) = contents.split_at_checked(HEADER)?;
    let (magic, numbers) = header.split_at_checked(MAGIC.len())?;
    let numbers: Vec<usize> =
        numbers.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize).collect();
    let [format, f, c, v, classes] = numbers[..] else { return None };
    let right = magic == MAGIC && [format, f, c, v] == [FORMAT as usize, first, count, views];
    if !right || values.len() != 2 * count * views * classes {
        return None;
    }
    Some((classes, values.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect()))
}
