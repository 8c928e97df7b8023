//! A file of logits: written whole or not at all, mapped, and trusted only with its seal.
//!
//! `KDCLOGIT`, six little-endian `u32` (format, first sample, samples, views, classes, kept logits), then a row for each
//! `[sample][view]`, and the BLAKE3 hash of all that, seeded with the folder's name. A row is every logit as
//! little-endian `f16`; or, where fewer are kept than there are, the classes of the largest ones as `u16`, these logits as
//! `f16`, and one `f16` that stands for each of the others: such that its share of the distribution is what they have
//! together.

use super::super::Error;
use half::f16;
use kdc_ir::files;
use memmap2::Mmap;
use std::fs::File;
use std::path::Path;

/// Changes when the same inputs would give other numbers or another file.
pub const FORMAT: u32 = 2;

const MAGIC: &[u8; 8] = b"KDCLOGIT";
const HEADER: usize = 8 + 6 * 4;
const HASH: usize = 32;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub first: usize,
    pub count: usize,
    pub views: usize,
    pub classes: usize,
    /// How many logits of a row are kept: as many as there are classes, or the largest ones.
    pub kept: usize,
}

impl Extent {
    fn numbers(&self) -> [u32; 6] {
        let Extent { first, count, views, classes, kept } = *self;
        [FORMAT, first as u32, count as u32, views as u32, classes as u32, kept as u32]
    }

    /// Bytes of a row.
    fn row(&self) -> usize {
        if self.kept < self.classes { 4 * self.kept + 2 } else { 2 * self.classes }
    }
}

/// A sound file, mapped.
#[derive(Debug)]
pub struct Chunk {
    pub extent: Extent,
    map: Mmap,
}

impl Chunk {
    /// Opens a file; `None` where there is none, or not one to be trusted. Of `wanted` the classes are what the file says,
    /// and as many are kept as that allows.
    pub fn open(path: &Path, key: &str, wanted: Extent) -> Option<Chunk> {
        let file = File::open(path).ok()?;
        // SAFETY: files of this folder are never written in place, only replaced; a mapping keeps the file it was made of.
        let map = unsafe { Mmap::map(&file) }.ok()?;
        let (contents, hash) = map.split_at_checked(map.len().checked_sub(HASH)?)?;
        if seal(key, contents).as_bytes() != hash {
            return None;
        }
        let (header, rows) = contents.split_at_checked(HEADER)?;
        let (magic, numbers) = header.split_at_checked(MAGIC.len())?;
        let classes = u32::from_le_bytes(numbers.get(16..20)?.try_into().ok()?) as usize;
        let extent = Extent { classes, kept: wanted.kept.min(classes), ..wanted };
        let same = numbers == extent.numbers().map(u32::to_le_bytes).as_flattened();
        let right = magic == MAGIC && same && rows.len() == extent.count * extent.views * extent.row();
        right.then_some(Chunk { extent, map })
    }

    /// The logits of one view of the `index`-th sample.
    pub fn read(&self, index: usize, view: usize, out: &mut [f32]) {
        let Extent { views, classes, kept, .. } = self.extent;
        let row = &self.map[HEADER + (index * views + view) * self.extent.row()..][..self.extent.row()];
        let half = |bytes: &[u8]| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
        if kept == classes {
            out.iter_mut().zip(row.chunks_exact(2)).for_each(|(out, bytes)| *out = half(bytes));
            return;
        }
        let (names, logits) = row.split_at(2 * kept);
        out.fill(half(&logits[2 * kept..]));
        for (name, logit) in names.chunks_exact(2).zip(logits.chunks_exact(2)) {
            if let Some(out) = out.get_mut(usize::from(u16::from_le_bytes([name[0], name[1]]))) {
                *out = half(logit);
            }
        }
    }
}

/// Writes rows of logits, all of them.
///
/// # Errors
/// When the disk refuses; there is no file then, or the one that was there.
pub fn write(path: &Path, key: &str, extent: Extent, logits: &[f16]) -> Result<(), Error> {
    let mut bytes = Vec::with_capacity(HEADER + extent.count * extent.views * extent.row() + HASH);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(extent.numbers().map(u32::to_le_bytes).as_flattened());
    for row in logits.chunks_exact(extent.classes.max(1)) {
        match extent.kept < extent.classes {
            true => largest(row, extent.kept, &mut bytes),
            false => row.iter().for_each(|v| bytes.extend_from_slice(&v.to_le_bytes())),
        }
    }
    let hash = seal(key, &bytes);
    bytes.extend_from_slice(hash.as_bytes());
    files::write_atomic(path, &bytes).map_err(|source| Error::Write { source })
}

/// The largest logits of a row, by class, and what stands for each of the others.
fn largest(row: &[f16], kept: usize, bytes: &mut Vec<u8>) {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&a, &b| row[b].total_cmp(&row[a]).then(a.cmp(&b)));
    order[..kept].sort_unstable();
    for &class in &order[..kept] {
        bytes.extend_from_slice(&(class as u16).to_le_bytes());
    }
    for &class in &order[..kept] {
        bytes.extend_from_slice(&row[class].to_le_bytes());
    }
    let others: Vec<f64> = order[kept..].iter().map(|&class| row[class].to_f64()).collect();
    let top = others.iter().fold(f64::NEG_INFINITY, |m, &v| m.max(v));
    let mean = others.iter().map(|v| (v - top).exp()).sum::<f64>() / others.len() as f64;
    bytes.extend_from_slice(&f16::from_f64(top + mean.ln()).to_le_bytes());
}

fn seal(key: &str, contents: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(key.as_bytes());
    hasher.update(contents);
    hasher.finalize()
}
