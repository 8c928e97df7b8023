//! The output folder: what is in it, how it gets there, and how a second run knows that it is still right.
//!
//! Everything is made elsewhere and comes here whole: files by rename, the crate as a folder by rename. The manifest
//! comes last; while it is missing or disagrees with the files, the folder counts as unfinished.

use super::Error;
use crate::files;
use crate::report::Report;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What is in an output folder and what it was made from. The same inputs and seed give the same bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this file's form.
    pub schema: u32,
    pub kdc: String,
    /// Names all inputs: the teacher, the data, the target and every setting that decides the result.
    pub fingerprint: String,
    pub seed: u64,
    /// BLAKE3 of the teacher's file.
    pub teacher: String,
    /// BLAKE3 of all samples and labels.
    pub data: String,
    pub target: String,
    /// The compiler that built the program, where one did.
    pub rustc: Option<String>,
    /// BLAKE3 of each file that does not hold measured figures or times.
    pub files: BTreeMap<String, String>,
}

const MANIFEST: &str = "manifest.json";
const REPORT: &str = "report.json";

/// An output folder being filled.
pub struct Output {
    folder: PathBuf,
    /// Made by us, and so removed when nothing came into it.
    fresh: bool,
    files: BTreeMap<String, String>,
}

impl Output {
    /// Makes the folder, or finds it, and tries whether it can be written: before the work, not after.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(folder: &Path) -> Result<Output, Error> {
        let failed = |source: io::Error| Error::Output { path: folder.into(), source };
        let fresh = !folder.exists();
        let output = Output { folder: folder.into(), fresh, files: BTreeMap::new() };
        fs::create_dir_all(folder).map_err(failed)?;
        for written in [folder.to_path_buf(), folder.join("bin"), folder.join("train")] {
            files::sweep(&written).map_err(failed)?;
        }
        let probe = tempfile::Builder::new().prefix(".kdc-").tempfile_in(folder).map_err(failed)?;
        drop(probe);
        Ok(output)
    }

    /// Puts a file there that is part of the manifest.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.put_unlisted(name, bytes)?;
        self.files.insert(name.into(), files::hash(bytes));
        Ok(())
    }

    /// Puts a file there that holds measured figures or times, and so is not part of the manifest.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn put_unlisted(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.folder.join(name);
        files::write_atomic(&path, bytes).map_err(|source| Error::Output { path, source })
    }

    /// Puts an executable there.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn put_program(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        use std::os::unix::fs::PermissionsExt;
        self.put(name, bytes)?;
        let path = self.folder.join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(|source| Error::Output { path, source })
    }

    /// Puts a whole folder there in place of the old one.
    ///
    /// # Errors
    /// When the disk refuses; the old folder is still there then.
    pub fn put_folder(&mut self, name: &str, from: &Path) -> Result<(), Error> {
        let to = self.folder.join(name);
        let failed = |source: io::Error| Error::Output { path: to.clone(), source };
        let staging = tempfile::Builder::new().prefix(".kdc-").tempdir_in(&self.folder).map_err(failed)?;
        let (new, old) = (staging.path().join("new"), staging.path().join("old"));
        let mut list = Vec::new();
        copy_tree(from, &new, Path::new(name), &mut list).map_err(failed)?;
        if to.exists() {
            fs::rename(&to, &old).map_err(failed)?;
        }
        if let Err(e) = fs::rename(&new, &to) {
            // Best effort: the error that matters is the one being reported.
            let _ = fs::rename(&old, &to);
            return Err(failed(e));
        }
        self.files.retain(|file, _| !Path::new(file).starts_with(name));
        self.files.extend(list);
        Ok(())
    }

    /// Writes the manifest: the folder is complete.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(mut self, manifest: Manifest) -> Result<(), Error> {
        let manifest = Manifest { files: std::mem::take(&mut self.files), ..manifest };
        let mut text = serde_json::to_string_pretty(&manifest).expect("a manifest is plain data");
        text.push('\n');
        self.put_unlisted(MANIFEST, text.as_bytes())?;
        self.fresh = false;
        Ok(())
    }
}

impl Drop for Output {
    /// A folder that we made and that stayed empty goes away again.
    fn drop(&mut self) {
        if self.fresh {
            // Fails when something is in it, which is what is wanted.
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

/// The report of an output folder that is complete and was made from the same inputs; `None` when anything differs.
pub fn up_to_date(folder: &Path, fingerprint: &str, linked: bool) -> Option<Report> {
    let manifest: Manifest = serde_json::from_slice(&fs::read(folder.join(MANIFEST)).ok()?).ok()?;
    let same = |(name, hash): (&String, &String)| files::hash_file(&folder.join(name)).is_ok_and(|h| h == *hash);
    // Without its program a folder is unfinished: the compiler may have been installed since.
    let complete = manifest.rustc.is_some() || !linked;
    if manifest.fingerprint != fingerprint || !complete || !manifest.files.iter().all(same) {
        return None;
    }
    serde_json::from_slice(&fs::read(folder.join(REPORT)).ok()?).ok()
}

/// Copies files and folders in the order of their names, and lists each file with its hash.
fn copy_tree(from: &Path, to: &Path, name: &Path, list: &mut Vec<(String, String)>) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let mut entries = fs::read_dir(from)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(|e| e.file_name());
    for entry in entries {
        let (source, target, name) = (entry.path(), to.join(entry.file_name()), name.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_tree(&source, &target, &name, list)?;
        } else {
            fs::copy(&source, &target)?;
            list.push((name.to_string_lossy().into_owned(), files::hash_file(&target)?));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_cannot_be_written_is_refused_and_an_empty_one_does_not_stay() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "x").unwrap();
        let error = Output::open(&file.join("out")).err().unwrap().to_string();
        assert!(error.contains("file/out"), "{error}");
        let folder = root.path().join("out");
        drop(Output::open(&folder).unwrap());
        assert!(!folder.exists());
    }

    #[test]
    fn what_a_killed_run_left_is_swept() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join(".kdc-a1/old/src")).unwrap();
        fs::create_dir_all(root.path().join("train")).unwrap();
        for file in ["train/.kdc-b2", ".kdc-c3", "train/log.json", "mine"] {
            fs::write(root.path().join(file), "x").unwrap();
        }
        let mut output = Output::open(root.path()).unwrap();
        output.put("plan.toml", b"").unwrap();
        let left = |folder: &Path| {
            let names = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
            names.collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(left(root.path()), ["mine", "plan.toml", "train"].map(String::from).into());
        assert_eq!(left(&root.path().join("train")), ["log.json"].map(String::from).into());
    }

    #[test]
    fn a_folder_takes_the_place_of_the_old_one_whole() {
        let root = tempfile::tempdir().unwrap();
        let (a, b) = (root.path().join("a"), root.path().join("b"));
        fs::create_dir_all(a.join("src")).unwrap();
        fs::create_dir_all(&b).unwrap();
        fs::write(a.join("src/lib.rs"), "a").unwrap();
        fs::write(b.join("new"), "b").unwrap();
        let mut output = Output::open(&root.path().join("out")).unwrap();
        output.put_folder("crate", &a).unwrap();
        assert_eq!(output.files.keys().collect::<Vec<_>>(), ["crate/src/lib.rs"]);
        output.put_folder("crate", &b).unwrap();
        assert!(output.folder.join("crate/new").is_file() && !output.folder.join("crate/src").exists());
    }
}
