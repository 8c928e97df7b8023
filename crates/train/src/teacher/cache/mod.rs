//! The teacher's logits on disk, so that it is asked once per sample and view.
//!
//! A labelling is a folder named by the hash of everything its numbers depend on; in it, one [`file`] for each 512
//! samples. An interrupted labelling goes on where it stopped, a damaged file is made again. Several machines may each
//! make a [`Shard`]: whichever file is there counts, whoever made it.

mod file;

use super::predict::BATCH;
use super::{Error, Teacher};
use crate::data::{Dataset, SampleView, View};
use file::{Chunk, Extent, FORMAT};
use half::f16;
use kdc_ir::files;
use std::path::{Path, PathBuf};

/// Raised when engines come to answer otherwise than they did before under the same name.
const ANSWERS: u32 = 2;
/// Samples per file.
const CHUNK: usize = 512;

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
    /// How many logits of each answer are kept, the largest ones; `None`: all.
    pub top: Option<usize>,
    /// Asks about everything, whatever is there.
    pub anew: bool,
}

/// A part of a labelling: every `of`-th file, from the `index`-th on, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    pub index: usize,
    pub of: usize,
}

impl Shard {
    /// All of it.
    pub const WHOLE: Shard = Shard { index: 1, of: 1 };
}

/// What is there of a labelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelled {
    /// Where it lies.
    pub folder: PathBuf,
    /// Samples that the shard covers.
    pub samples: usize,
    /// Those of them that had to be asked about.
    pub asked: usize,
    /// Samples of all shards that no file covers yet.
    pub missing: usize,
}

/// The logits of a teacher for every sample and view, mapped from their files.
#[derive(Debug)]
pub struct LogitCache {
    views: usize,
    classes: usize,
    asked: usize,
    chunks: Vec<Chunk>,
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
        let mut chunks = Vec::new();
        let Labelled { asked, .. } = labelling.make(folder, Shard::WHOLE, progress, &mut |chunk| chunks.push(chunk))?;
        let classes = chunks.first().map_or(0, |chunk| chunk.extent.classes);
        if let Some(other) = chunks.iter().find(|chunk| chunk.extent.classes != classes) {
            let (first, has) = (other.extent.first, other.extent.classes);
            return Err(Error::Logits { what: format!("sample {first} has {has} of them, those before {classes}") });
        }
        Ok(LogitCache { views: labelling.views, classes, asked, chunks })
    }

    /// Logits per sample.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// How many samples the teacher had to be asked about.
    pub fn asked(&self) -> usize {
        self.asked
    }

    /// Views per sample.
    pub fn views(&self) -> usize {
        self.views
    }

    /// Writes the logits of one view of a sample.
    ///
    /// # Panics
    /// If there is no such sample or view.
    pub fn read(&self, sample: usize, view: usize, out: &mut [f32]) {
        assert!(view < self.views, "view {view} of {}", self.views);
        self.chunks[sample / CHUNK].read(sample % CHUNK, view, out);
    }
}

impl Labelling<'_> {
    /// Makes what is not there yet of a shard, below `folder`. Safe to run again, and beside others.
    ///
    /// # Errors
    /// As [`LogitCache::fill`].
    pub fn label(
        &self,
        folder: &Path,
        shard: Shard,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Labelled, Error> {
        self.make(folder, shard, progress, &mut drop)
    }

    fn make(
        &self,
        folder: &Path,
        shard: Shard,
        progress: &mut dyn FnMut(usize, usize),
        each: &mut dyn FnMut(Chunk),
    ) -> Result<Labelled, Error> {
        if shard.index == 0 || shard.index > shard.of {
            return Err(Error::Logits { what: format!("there is no part {} of {}", shard.index, shard.of) });
        }
        let (all, key) = (self.samples.len(), self.key());
        let folder = folder.join("logits").join(&key);
        let place = |first: usize| folder.join(format!("{first:09}.logits"));
        let count = |first: usize| CHUNK.min(all - first);
        let (mine, others): (Vec<usize>, Vec<usize>) =
            (0..all).step_by(CHUNK).partition(|first| first / CHUNK % shard.of == shard.index - 1);
        let total = mine.iter().map(|&first| count(first)).sum();
        let (mut done, mut asked) = (0, 0);
        for first in mine {
            let wanted = self.extent(first, count(first));
            let there = if self.anew { None } else { Chunk::open(&place(first), &key, wanted) };
            let chunk = match there {
                Some(chunk) => chunk,
                None => {
                    let (classes, values) = self.ask(first, wanted.count, &mut |n| progress(done + n, total))?;
                    let extent = Extent { classes, kept: wanted.kept.min(classes), ..wanted };
                    file::write(&place(first), &key, extent, &values)?;
                    asked += extent.count;
                    let changed =
                        || Error::Logits { what: format!("{} was changed meanwhile", place(first).display()) };
                    Chunk::open(&place(first), &key, wanted).ok_or_else(changed)?
                }
            };
            done += wanted.count;
            each(chunk);
            progress(done, total);
        }
        let missing = |first: &usize| Chunk::open(&place(*first), &key, self.extent(*first, count(*first))).is_none();
        let missing = others.into_iter().filter(missing).map(count).sum();
        Ok(Labelled { folder, samples: total, asked, missing })
    }

    fn extent(&self, first: usize, count: usize) -> Extent {
        Extent { first, count, views: self.views, classes: 0, kept: self.top.unwrap_or(usize::MAX) }
    }

    /// The name of these logits: a hash of everything they depend on.
    fn key(&self) -> String {
        files::hash(
            format!(
                "kdc logits {FORMAT}.{ANSWERS}\nteacher {}\nengine {}\nvalue {:?}\nsamples {}\naugmentation {}\nseed {}\nviews {}\ntop {:?}\n",
                self.teacher_hash,
                self.teacher.engine(),
                self.value,
                self.samples.hash(),
                self.samples.augmentation(),
                self.seed,
                self.views,
                self.top,
            )
            .as_bytes(),
        )
    }

    /// The number of classes, and the logits of `count` samples from `first` on.
    fn ask(&self, first: usize, count: usize, done: &mut dyn FnMut(usize)) -> Result<(usize, Vec<f16>), Error> {
        let fail = |what: String| Err(Error::Logits { what });
        if self.views == 0 || self.top == Some(0) {
            return fail("0 views, or 0 logits of each, were asked for".into());
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
            let looks: Vec<SampleView> = (start..end)
                .flat_map(|sample| views.clone().map(move |view| SampleView { sample, view: Some(view) }))
                .collect();
            let answers = self.teacher.run(&self.samples.batch(&looks))?;
            let logits = match tap {
                None => answers.outputs.first(),
                Some(tap) => answers.taps.get(tap),
            };
            let Some(logits) = logits else { return fail("the teacher has no output".into()) };
            classes = logits.shape[1..].iter().product();
            if classes == 0 || classes > usize::from(u16::MAX) {
                return fail(format!("the value is {:?}", logits.shape));
            }
            for &x in logits.to_f32().iter() {
                let half = f16::from_f32(x);
                if !half.is_finite() {
                    return fail(format!("a logit is {x}, which exceeds the range of 16 bits (65504)"));
                }
                values.push(half);
            }
            done(end - first);
        }
        Ok((classes, values))
    }
}
