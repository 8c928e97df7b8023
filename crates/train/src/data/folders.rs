//! Folders with one file per sample: a folder per class, or the class in the file's name.

use super::error::Location;
use super::labels::Labels;
use super::names::Fields;
use super::split::Side;
use super::{Error, Pattern, Split};
use rayon::prelude::*;
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// What to look for.
pub(super) struct Search<'a> {
    /// What the files are called in messages, e.g. `PNG or JPEG`.
    pub kind: &'a str,
    /// Their extensions, in small letters.
    pub extensions: &'a [&'a str],
    /// How their names are to be read; `None`: the folder says the class.
    pub pattern: Option<&'a Pattern>,
    pub split: Option<&'a Split>,
}

/// The file of one sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub path: PathBuf,
    /// `None` where nobody said it.
    pub class: Option<String>,
    fields: Fields,
}

/// The names of the field that is the class.
const CLASS: &str = "class";
/// Folders that are parts of a set although no `[split]` says so.
pub(super) const TRAIN: &str = "train";
pub(super) const TEST: [&str; 4] = ["test", "val", "valid", "validation"];

/// The files of training and of test samples below a folder, each sorted by path.
///
/// # Errors
/// Names the folder or file that does not fit the scheme.
pub(super) fn find(root: &Path, search: &Search) -> Result<(Vec<Entry>, Vec<Entry>), Error> {
    if !root.is_dir() {
        return Err(Location::whole(root).error("there is no such folder"));
    }
    match search.split {
        Some(Split::Parts { train, test }) => Ok((search.below(&root.join(train))?, search.below(&root.join(test))?)),
        Some(split) => part(search.below(root)?, split),
        None => {
            let test = TEST.iter().map(|name| root.join(name)).find(|folder| folder.is_dir());
            match test.filter(|_| root.join(TRAIN).is_dir()) {
                Some(test) => Ok((search.below(&root.join(TRAIN))?, search.below(&test)?)),
                None => Err(Location::whole(root).error(
                    "it has no folders train and test; say in the sidecar's [split] which folders they are, or a \
                     ratio, or a rule",
                )),
            }
        }
    }
}

/// The labels of some files.
pub(super) fn labels(entries: &[Entry]) -> Labels {
    let mut labels = Labels::default();
    entries.iter().for_each(|e| labels.push(e.class.as_deref(), || Location::whole(&e.path)));
    labels
}

fn part(entries: Vec<Entry>, split: &Split) -> Result<(Vec<Entry>, Vec<Entry>), Error> {
    let side = |entry: &Entry| -> Result<Side, Error> {
        let at = || Location::whole(&entry.path);
        let content = match split {
            Split::Ratio { .. } => hash(&entry.path)?,
            _ => blake3::hash(b""),
        };
        split.side(|name| entry.fields.get(name).map(Cow::from), || content).map_err(|what| at().error(what))
    };
    let sides: Vec<Result<Side, Error>> = entries.par_iter().map(side).collect();
    let (mut train, mut test) = (vec![], vec![]);
    for (entry, side) in entries.into_iter().zip(sides) {
        match side? {
            Side::Train => train.push(entry),
            Side::Test => test.push(entry),
        }
    }
    Ok((train, test))
}

fn hash(path: &Path) -> Result<blake3::Hash, Error> {
    let bytes = kdc_ir::files::read(path, u64::MAX).map_err(|source| Error::Read { path: path.into(), source })?;
    Ok(blake3::hash(&bytes))
}

impl Search<'_> {
    /// All samples below a folder.
    fn below(&self, root: &Path) -> Result<Vec<Entry>, Error> {
        let at = || Location::whole(root);
        if !root.is_dir() {
            return Err(at().error("there is no such folder"));
        }
        let (folders, files) = list(root)?;
        let direct: Vec<PathBuf> = files.into_iter().filter(|file| self.is_sample(file)).collect();
        let mut entries = vec![];
        match self.pattern {
            Some(pattern) => {
                let mut all = direct;
                for folder in &folders {
                    self.collect(folder, &mut all)?;
                }
                for path in all {
                    entries.push(named(root, path, pattern)?);
                }
            }
            None if folders.is_empty() => {
                // No class folders: nobody says the classes.
                entries =
                    direct.into_iter().map(|path| Entry { path, class: None, fields: Fields::default() }).collect();
            }
            None => {
                if let Some(stray) = direct.into_iter().next() {
                    let what = "it lies beside the class folders; put it into the folder of its class";
                    return Err(Location::whole(stray).error(what));
                }
                for folder in &folders {
                    let class = name_of(folder)?;
                    let mut files = vec![];
                    self.collect(folder, &mut files)?;
                    if files.is_empty() {
                        let what = format!("this class folder holds no {} file; fill it or remove it", self.kind);
                        return Err(Location::whole(folder).error(what));
                    }
                    let fields = Fields(vec![(CLASS.into(), class.clone())]);
                    let entry = |path| Entry { path, class: Some(class.clone()), fields: fields.clone() };
                    entries.extend(files.into_iter().map(entry));
                }
            }
        }
        if entries.is_empty() {
            return Err(at().error(format!("it holds no {} file", self.kind)));
        }
        Ok(entries)
    }

    /// The samples in a folder and the folders below it. Other files do not belong there.
    fn collect(&self, folder: &Path, into: &mut Vec<PathBuf>) -> Result<(), Error> {
        let (folders, files) = list(folder)?;
        for file in files {
            if !self.is_sample(&file) {
                let what = format!("it is no {} file; move it away or convert it", self.kind);
                return Err(Location::whole(file).error(what));
            }
            into.push(file);
        }
        folders.iter().try_for_each(|folder| self.collect(folder, into))
    }

    fn is_sample(&self, path: &Path) -> bool {
        let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
        extension.is_some_and(|e| self.extensions.contains(&e.as_str()))
    }
}

/// A file whose name says what it is.
fn named(root: &Path, path: PathBuf, pattern: &Pattern) -> Result<Entry, Error> {
    let relative = path.strip_prefix(root).unwrap_or(&path).with_extension("");
    let name =
        if pattern.is_for_paths() { relative.as_path() } else { Path::new(relative.file_name().unwrap_or_default()) };
    match name.to_str().and_then(|name| pattern.fields(name)) {
        Some(fields) => {
            let folder = || path.parent().filter(|folder| *folder != root).and_then(|f| f.file_name()?.to_str());
            let class = fields.get(CLASS).or_else(folder).map(String::from);
            Ok(Entry { class, path, fields })
        }
        None => Err(Location::whole(path).error(format!("its name does not match the pattern {pattern}"))),
    }
}

/// What systems and archivers leave in folders of their own accord.
const LITTER: [&str; 9] = [
    "Thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "__MACOSX",
    "Icon\r",
    "@eaDir",
    "lost+found",
    "$RECYCLE.BIN",
    "System Volume Information",
];

/// Whether a name is none that a person gave to a sample: hidden, or left there by a system.
fn is_litter(name: &[u8]) -> bool {
    name.starts_with(b".") || LITTER.iter().any(|litter| name.eq_ignore_ascii_case(litter.as_bytes()))
}

/// The folders and the files in a folder, each sorted; hidden ones and litter are not seen.
pub(super) fn list(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), Error> {
    let unreadable = |source| Error::Read { path: folder.into(), source };
    let (mut folders, mut files) = (vec![], vec![]);
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.file_name().is_some_and(|name| is_litter(name.as_encoded_bytes())) {
            continue;
        }
        if path.is_dir() { folders.push(path) } else { files.push(path) }
    }
    folders.sort();
    files.sort();
    Ok((folders, files))
}

fn name_of(folder: &Path) -> Result<String, Error> {
    let name = folder.file_name().and_then(|name| name.to_str());
    name.map(String::from).ok_or_else(|| Location::whole(folder).error("its name, which is a class, is not UTF-8"))
}
