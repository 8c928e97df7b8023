//! What a teacher said is kept, and asked for once.

use super::super::*;
use crate::data::{Augment, Images, Layout, Preprocess, Samples, Vectors};
use kdc_ir::graph::Tensor;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Answers with the input twice, negated the second time, and counts the samples it sees; fails from some sample on.
struct Echo {
    seen: AtomicUsize,
    until: usize,
}

impl Echo {
    fn until(until: usize) -> Echo {
        Echo { seen: AtomicUsize::new(0), until }
    }
}

impl Teacher for Echo {
    fn engine(&self) -> &str {
        "echo"
    }

    fn taps(&self) -> &[String] {
        &[]
    }

    fn run(&self, batch: &[Tensor]) -> Result<Reply, Error> {
        let batch = &batch[0];
        let n = batch.shape[0];
        if self.seen.fetch_add(n, Ordering::Relaxed) + n > self.until {
            return Err(Error::Engine { engine: "echo".into(), model: "none".into(), what: "interrupted".into() });
        }
        let twice = batch.to_f32().iter().flat_map(|&x| [x, -x]).collect();
        Ok(Reply { outputs: vec![Tensor::f32([n, 2], twice)], taps: vec![] })
    }
}

/// 5,000 samples of one pixel: ten files of a cache.
fn pixels() -> Images {
    pixels_as(0, 1.0, SHIFT)
}

const SHIFT: Augment = Augment { shift: 1, flip: false, gain: 0.0, noise: 0.0, token_dropout: 0.0 };

fn pixels_as(label: u16, scale: f64, augment: Augment) -> Images {
    let pixels = (0..5000).map(|i| (i % 251) as u8).collect();
    let samples = Samples { shape: [1, 1, 1], pixels, labels: vec![Some(label); 5000] };
    let preprocess = Preprocess { layout: Layout::Flat, scale, mean: vec![0.0], std: vec![1.0] };
    Images::new(samples, preprocess, augment).unwrap()
}

fn labelling<'a>(teacher: &'a Echo, samples: &'a Images) -> Labelling<'a> {
    labelling_of(teacher, samples)
}

fn labelling_of<'a>(teacher: &'a dyn Teacher, samples: &'a Images) -> Labelling<'a> {
    Labelling { teacher, teacher_hash: "abc", value: None, samples, seed: 5, views: 2, top: None, anew: false }
}

/// All logits of a cache.
fn rows(cache: &LogitCache) -> Vec<f32> {
    let mut all = vec![0.0; 5000 * cache.views() * cache.classes()];
    for (index, row) in all.chunks_mut(cache.classes()).enumerate() {
        cache.read(index / cache.views(), index % cache.views(), row);
    }
    all
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
        if entry.is_dir() { found.extend(files_below(&entry)) } else { found.push(entry) }
    }
    found.sort();
    found
}

#[test]
fn logits_are_asked_for_once() {
    let (folder, samples) = (tempfile::tempdir().unwrap(), pixels());
    let teacher = Echo::until(usize::MAX);
    let (mut calls, mut last) = (0, (0, 0));
    let first = LogitCache::fill(&labelling(&teacher, &samples), folder.path(), &mut |done, total| {
        assert!(done >= last.0 && total == 5000);
        (calls, last) = (calls + 1, (done, total));
    })
    .unwrap();
    assert_eq!((teacher.seen.load(Ordering::Relaxed), last), (10_000, (5000, 5000)));
    assert!(calls > 30, "{calls} reports of progress");
    assert_eq!((first.views(), first.classes()), (2, 2));
    for sample in [0, 1, 511, 512, 4999] {
        for k in 0..2 {
            let moved = SHIFT.of(5, sample, k);
            let x = f32::from(moved.apply(samples.samples().sample(sample), [1, 1, 1])[0]);
            let mut row = [0.0; 2];
            first.read(sample, k, &mut row);
            assert_eq!(row, [x, -x], "sample {sample}, {moved:?}");
        }
    }

    let silent = Echo::until(0);
    let again = LogitCache::fill(&labelling(&silent, &samples), folder.path(), &mut |_, _| ()).unwrap();
    assert_eq!(rows(&again), rows(&first));
    assert_eq!(silent.seen.load(Ordering::Relaxed), 0);

    // Whatever the numbers depend on asks anew.
    let with = |samples: &Images, change: &dyn for<'a> Fn(&mut Labelling<'a>)| {
        let silent = Echo::until(0);
        let mut other = labelling(&silent, samples);
        change(&mut other);
        assert!(LogitCache::fill(&other, folder.path(), &mut |_, _| ()).is_err());
    };
    with(&samples, &|l| l.seed = 6);
    with(&samples, &|l| l.views = 1);
    with(&samples, &|l| l.top = Some(1));
    with(&samples, &|l| l.teacher_hash = "abd");
    with(&pixels_as(0, 1.0, Augment { flip: true, ..SHIFT }), &|_| ());
    with(&pixels_as(1, 1.0, SHIFT), &|_| ());
    with(&pixels_as(0, 2.0, SHIFT), &|_| ());
}

#[test]
fn an_interrupted_labelling_goes_on() {
    let (folder, samples) = (tempfile::tempdir().unwrap(), pixels());
    let first = Echo::until(6000); // 1,024 answers fill a file
    assert!(LogitCache::fill(&labelling(&first, &samples), folder.path(), &mut |_, _| ()).is_err());
    assert_eq!(files_below(folder.path()).len(), 5);
    let second = Echo::until(usize::MAX);
    let resumed = LogitCache::fill(&labelling(&second, &samples), folder.path(), &mut |_, _| ()).unwrap();
    assert_eq!(second.seen.load(Ordering::Relaxed), 10_000 - 5 * 1024);

    let (elsewhere, whole) = (tempfile::tempdir().unwrap(), Echo::until(usize::MAX));
    let whole = LogitCache::fill(&labelling(&whole, &samples), elsewhere.path(), &mut |_, _| ()).unwrap();
    assert_eq!(rows(&resumed), rows(&whole));
    let contents = |f: &Path| files_below(f).iter().map(|p| std::fs::read(p).unwrap()).collect::<Vec<_>>();
    assert_eq!(contents(folder.path()), contents(elsewhere.path()));
}

#[test]
fn a_damaged_file_is_made_again() {
    let (folder, samples) = (tempfile::tempdir().unwrap(), pixels());
    let teacher = Echo::until(usize::MAX);
    let good = LogitCache::fill(&labelling(&teacher, &samples), folder.path(), &mut |_, _| ()).unwrap();
    let files = files_below(folder.path());
    let original: Vec<Vec<u8>> = files.iter().map(|f| std::fs::read(f).unwrap()).collect();
    let flip = |at: usize| move |bytes: &mut Vec<u8>| bytes[at] ^= 1;
    type Damage<'a> = &'a dyn Fn(&mut Vec<u8>);
    let damages: [Damage; 6] = [
        &flip(0),
        &flip(9),
        &flip(3000),
        &|bytes| bytes.truncate(2000),
        &|bytes| bytes.clear(),
        // A sound file of other samples, in the wrong place.
        &|bytes| bytes.clone_from(&original[0]),
    ];
    for damage in damages {
        let mut bytes = original[1].clone();
        damage(&mut bytes);
        std::fs::write(&files[1], bytes).unwrap();
        let again = Echo::until(usize::MAX);
        let made = LogitCache::fill(&labelling(&again, &samples), folder.path(), &mut |_, _| ()).unwrap();
        assert_eq!(rows(&made), rows(&good));
        assert_eq!(again.seen.load(Ordering::Relaxed), 1024, "only the damaged file is made again");
        assert_eq!(std::fs::read(&files[1]).unwrap(), original[1]);
    }
}

#[test]
fn logits_beyond_half_precision_are_an_error() {
    let (folder, samples) = (tempfile::tempdir().unwrap(), pixels_as(0, 1e4, SHIFT));
    let teacher = Echo::until(usize::MAX);
    let message =
        LogitCache::fill(&labelling(&teacher, &samples), folder.path(), &mut |_, _| ()).unwrap_err().to_string();
    assert!(message.contains("65504"), "{message}");
}

#[test]
fn shards_are_merged_by_lying_in_one_folder() {
    let (apart, whole, samples) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), pixels());
    let teacher = Echo::until(usize::MAX);
    let label = |folder: &Path, index, of| {
        labelling(&teacher, &samples).label(folder, Shard { index, of }, &mut |_, _| ()).unwrap()
    };
    // Out of order, one of them twice.
    let third = label(apart.path(), 3, 3);
    assert_eq!((third.samples, third.asked, third.missing), (3 * 512, 3 * 512, 5000 - 3 * 512));
    assert_eq!(label(apart.path(), 3, 3).asked, 0);
    // The last file is short, and the first shard's.
    assert_eq!(label(apart.path(), 1, 3).samples, 3 * 512 + (5000 - 9 * 512));
    assert_eq!(label(apart.path(), 2, 3).missing, 0);
    assert_eq!(label(whole.path(), 1, 1).asked, 5000);
    let contents = |f: &Path| files_below(f).iter().map(|p| std::fs::read(p).unwrap()).collect::<Vec<_>>();
    assert_eq!(contents(apart.path()), contents(whole.path()));
    for (index, of) in [(0, 2), (3, 2), (0, 0)] {
        let shard = Shard { index, of };
        let refused = labelling(&teacher, &samples).label(whole.path(), shard, &mut |_, _| ());
        assert!(refused.unwrap_err().to_string().contains("no part"));
    }
}

/// Answers with five logits, of which those of classes 3 and 1 are the largest.
struct Five;

impl Teacher for Five {
    fn engine(&self) -> &str {
        "five"
    }

    fn taps(&self) -> &[String] {
        &[]
    }

    fn run(&self, batch: &[Tensor]) -> Result<Reply, Error> {
        let n = batch[0].shape[0];
        let rows = [-1.0f32, 2.0, 0.5, 4.0, -3.0].repeat(n);
        Ok(Reply { outputs: vec![Tensor::f32([n, 5], rows)], taps: vec![] })
    }
}

#[test]
fn the_largest_logits_are_kept_and_the_others_have_their_share_together() {
    let (folder, samples) = (tempfile::tempdir().unwrap(), pixels());
    let whole = labelling_of(&Five, &samples);
    let top = Labelling { top: Some(2), ..labelling_of(&Five, &samples) };
    let distribution = |labelling: &Labelling| {
        let cache = LogitCache::fill(labelling, folder.path(), &mut |_, _| ()).unwrap();
        let mut row = [0.0; 5];
        cache.read(4321, 1, &mut row);
        let sum: f32 = row.iter().map(|x| x.exp()).sum();
        row.map(|x| x.exp() / sum)
    };
    let (all, some) = (distribution(&whole), distribution(&top));
    for class in [1, 3] {
        assert!((all[class] - some[class]).abs() < 1e-3, "{all:?} {some:?}");
    }
    assert!((some[0] - some[2]).abs() < 1e-6 && (some[0] - some[4]).abs() < 1e-6, "{some:?}");
    // More than there are is all of them.
    assert_eq!(distribution(&Labelling { top: Some(9), ..labelling_of(&Five, &samples) }), all);
}

#[test]
fn who_is_right_by_chance_is_doubted() {
    let samples = |labels: Vec<u16>| {
        let plain = Preprocess { layout: Layout::Nchw, scale: 1.0, mean: vec![0.0], std: vec![1.0] };
        let values = vec![0.0; labels.len()];
        Vectors::new(vec![1], vec![], values, labels.into_iter().map(Some).collect(), &plain, &[1]).unwrap()
    };
    let names: Vec<String> = (0..4).map(|k| k.to_string()).collect();
    let doubt = |said: &[u16], samples: &Vectors| doubt(said, samples, &names);
    let even = samples((0..400).map(|i| i % 4).collect());
    let said = |class: &dyn Fn(u16) -> u16| (0..400).map(class).collect::<Vec<u16>>();
    // Always one class, none of the classes, the classes in another order: all are found.
    for wrong in [said(&|_| 2), said(&|_| u16::MAX), said(&|i| (i + 1) % 4)] {
        assert!(doubt(&wrong, &even).is_some_and(|what| what.contains("of 400 labelled samples")));
    }
    assert_eq!(doubt(&said(&|i| if i < 200 { i % 4 } else { 0 }), &even), None);
    // One of a hundred is rare, and found among many that are not: less accurate than not to look, and no chance.
    let rare = samples((0..400).map(|i| u16::from(i % 100 == 0)).collect());
    assert_eq!(doubt(&said(&|i| u16::from(i % 20 == 0)), &rare), None);
    assert!(doubt(&said(&|_| 0), &rare).is_some());
    // Four labels tell nothing, and none even less.
    assert_eq!(doubt(&[0; 4], &samples(vec![1; 4])), None);
    assert_eq!(doubt(&[], &samples(vec![])), None);
}
