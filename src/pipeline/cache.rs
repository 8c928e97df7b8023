//! The stage cache: what a stage made once for some inputs is not made again.
//!
//! A stage is a folder `CACHE/STAGE/KEY`, where the key is a hash of the stage's inputs and its code version. It is made
//! in `KEY.partial` and renamed when it is complete, so a folder under its final name is whole. An interrupted stage
//! finds its partial folder again and may go on from what it left there. A lock file keeps two kdcs from making the same
//! stage at once.

use crate::files;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Where stages are kept.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
    force: bool,
}

/// A stage that is complete.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Holds what the stage made.
    pub folder: PathBuf,
    /// Names inputs and code: an input for the stages that follow.
    pub key: String,
    /// Whether it was there already.
    pub cached: bool,
}

/// Why the cache could not serve.
#[derive(Debug, thiserror::Error)]
#[error("the cache {}: {source}; set XDG_CACHE_HOME to a folder that can be written", path.display())]
pub struct Error {
    path: PathBuf,
    source: io::Error,
}

impl Cache {
    /// `$XDG_CACHE_HOME/kdc`, or `~/.cache/kdc`. With `force`, nothing that is there counts.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn open(force: bool) -> Result<Cache, Error> {
        let from = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let base = from("XDG_CACHE_HOME").or_else(|| from("HOME").map(|h| h.join(".cache")));
        let root = base.unwrap_or_else(std::env::temp_dir).join("kdc");
        fs::create_dir_all(&root).map_err(|source| Error { path: root.clone(), source })?;
        Ok(Cache { root, force })
    }

    /// A folder of the cache that is nobody's stage, e.g. for what a compiler keeps between builds.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Whether the stage `name` has been made for these inputs, and would be found.
    pub fn has(&self, name: &str, version: u32, inputs: &[&str]) -> bool {
        !self.force && self.root.join(name).join(key(name, version, inputs)).is_dir()
    }

    /// The stage `name` for these inputs: found, or made by `make`, which gets a folder to fill.
    ///
    /// # Errors
    /// What `make` says, or what the cache's disk says.
    pub fn stage<E: From<Error>>(
        &self,
        name: &str,
        version: u32,
        inputs: &[&str],
        make: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<Stage, E> {
        let key = key(name, version, inputs);
        let folder = self.root.join(name).join(&key);
        let failed = |source: io::Error| Error { path: folder.clone(), source };
        fs::create_dir_all(self.root.join(name)).map_err(failed)?;
        let lock = File::create(folder.with_extension("lock")).map_err(failed)?;
        lock.lock().map_err(failed)?;
        let partial = folder.with_extension("partial");
        if self.force {
            files::remove_folder(&folder).map_err(failed)?;
            files::remove_folder(&partial).map_err(failed)?;
        }
        let cached = folder.is_dir();
        if !cached {
            fs::create_dir_all(&partial).map_err(failed)?;
            make(&partial)?;
            fs::rename(&partial, &folder).map_err(failed)?;
        }
        Ok(Stage { folder, key, cached })
    }
}

/// Each input is preceded by its length, so that no two lists run together.
fn key(name: &str, version: u32, inputs: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [name, &version.to_string()].iter().chain(inputs) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex()[..32].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(root: &Path, force: bool) -> Cache {
        Cache { root: root.into(), force }
    }

    #[test]
    fn a_stage_is_made_once_and_again_when_an_input_changes_or_force_is_given() {
        let root = tempfile::tempdir().unwrap();
        let made = std::cell::Cell::new(0);
        let make = |folder: &Path| -> Result<(), Error> {
            made.set(made.get() + 1);
            fs::write(folder.join("x"), "1").unwrap();
            Ok(())
        };
        let c = cache(root.path(), false);
        let first = c.stage("s", 1, &["a", "bc"], make).unwrap();
        assert!(!first.cached);
        let second = c.stage("s", 1, &["a", "bc"], make).unwrap();
        assert!(second.cached && second.folder.join("x").is_file());
        c.stage("s", 1, &["ab", "c"], make).unwrap();
        c.stage("s", 2, &["a", "bc"], make).unwrap();
        cache(root.path(), true).stage("s", 1, &["a", "bc"], make).unwrap();
        assert_eq!(made.get(), 4);
    }

    #[test]
    fn an_interrupted_stage_finds_what_it_left_and_never_counts_as_made() {
        let root = tempfile::tempdir().unwrap();
        let c = cache(root.path(), false);
        let broken = |folder: &Path| {
            fs::write(folder.join("half"), "1").unwrap();
            Err(Error { path: "x".into(), source: io::Error::other("stopped") })
        };
        c.stage("s", 1, &[], broken).unwrap_err();
        let again = c.stage::<Error>("s", 1, &[], |folder| {
            assert!(folder.join("half").is_file());
            Ok(())
        });
        assert!(!again.unwrap().cached);
    }
}
