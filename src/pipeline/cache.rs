//! The stage cache: what a stage made once for some inputs is not made again.
//!
//! A stage is a folder `CACHE/STAGE/KEY`, where the key is a hash of the stage's inputs and of the code that it runs. It is made
//! in `KEY.partial`, sealed with a list of the hashes of its files, brought to the disk and renamed. A folder is believed as
//! long as its files are those of the list: one that is damaged is made again. An interrupted stage finds its partial folder
//! again and may go on from what it left there. A lock file keeps two kdcs from making the same stage at once.

use super::Progress;
use crate::files;
use std::fmt::Write as _;
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
#[error("the cache {}: {source}; set XDG_CACHE_HOME to a folder of your own that can be written", path.display())]
pub struct Error {
    path: PathBuf,
    source: io::Error,
}

/// The list of hashes, in a stage's folder.
const SEAL: &str = "kdc.hashes";

impl Cache {
    /// The folder of [`files::cache_folder`]. With `force`, nothing that is there counts.
    ///
    /// # Errors
    /// When the folder cannot be made, or others may have written into it.
    pub fn open(force: bool) -> Result<Cache, Error> {
        let root = files::cache_folder();
        files::own_folder(&root).map_err(|source| Error { path: root.clone(), source })?;
        Ok(Cache { root, force })
    }

    /// A folder of the cache that is nobody's stage, e.g. for what a compiler keeps between builds.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Whether the stage `name` has been made for these inputs, and would be found.
    pub fn has(&self, name: &str, inputs: &[&str]) -> bool {
        let key = key(name, inputs);
        !self.force && damage(&self.root.join(name).join(&key), name, &key).is_none()
    }

    /// The stage `name` for these inputs: found, or made by `make`, which gets a folder to fill. Where one is found and is
    /// damaged, that is told, and it is made again.
    ///
    /// # Errors
    /// What `make` says, or what the cache's disk says.
    pub fn stage<E: From<Error>>(
        &self,
        name: &str,
        inputs: &[&str],
        progress: &dyn Progress,
        make: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<Stage, E> {
        let key = key(name, inputs);
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
        let found = folder.is_dir();
        let damage = if found { damage(&folder, name, &key) } else { None };
        if let Some(what) = &damage {
            progress.note(&format!("what the cache has of '{name}' is damaged ({what}): it is made again"));
            files::remove_folder(&folder).map_err(failed)?;
        }
        let cached = found && damage.is_none();
        if !cached {
            fs::create_dir_all(&partial).map_err(failed)?;
            files::sweep(&partial).map_err(failed)?;
            make(&partial)?;
            seal(&partial, name, &key).map_err(failed)?;
            fs::rename(&partial, &folder).map_err(failed)?;
            files::sync(&self.root.join(name)).map_err(failed)?;
        }
        Ok(Stage { folder, key, cached })
    }
}

/// Writes down the hash of every file, and waits until all of it is on the disk.
fn seal(folder: &Path, name: &str, key: &str) -> io::Result<()> {
    let path = folder.join(SEAL);
    // Of a run that was stopped between here and the renaming.
    if path.exists() {
        fs::remove_file(&path)?;
    }
    let list = list(folder, name, key)?;
    files::sync_tree(folder)?;
    files::write_atomic(&path, list.as_bytes())
}

/// What is wrong with a stage's folder; `None` where all is as it was when it was sealed.
fn damage(folder: &Path, name: &str, key: &str) -> Option<String> {
    let both = fs::read(folder.join(SEAL)).and_then(|sealed| Ok((sealed, list(folder, name, key)?)));
    let (sealed, now) = match both {
        Err(e) => return Some(e.to_string()),
        Ok((sealed, now)) if sealed == now.as_bytes() => return None,
        Ok(both) => both,
    };
    // Which file it is, for people.
    let sealed = String::from_utf8_lossy(&sealed).into_owned();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
    let (sealed, now) = (lines(&sealed), lines(&now));
    let differing = now.symmetric_difference(&sealed).next().cloned().unwrap_or_default();
    Some(differing.split_once("  ").map_or(SEAL.to_string(), |(_, file)| file.to_string()))
}

/// The hashes of a stage's files, a line each as `b3sum` has them, after a line that names the stage.
fn list(folder: &Path, name: &str, key: &str) -> io::Result<String> {
    let mut text = format!("kdc stage {name} {key}\n");
    for (file, hash) in files::hashes(folder)? {
        if file != Path::new(SEAL) {
            // Writing to a string cannot fail.
            _ = writeln!(text, "{hash}  {}", file.display());
        }
    }
    Ok(text)
}

/// A hash of all code that results depend on.
pub const CODE: &str = env!("KDC_CODE");

/// A hash of the code that a stage runs.
fn code(stage: &str) -> &'static str {
    match stage {
        "synthesize" | "choose" | "distill" => env!("KDC_TRAINING_CODE"),
        _ => CODE,
    }
}

/// Each input is preceded by its length, so that no two lists run together.
fn key(name: &str, inputs: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in [name, code(name)].iter().chain(inputs) {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.finalize().to_hex()[..32].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::{Outcome, Silent};
    use std::cell::RefCell;

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
        let first = c.stage("s", &["a", "bc"], &Silent, make).unwrap();
        assert!(!first.cached);
        let second = c.stage("s", &["a", "bc"], &Silent, make).unwrap();
        assert!(second.cached && second.folder.join("x").is_file());
        c.stage("s", &["ab", "c"], &Silent, make).unwrap();
        c.stage("t", &["a", "bc"], &Silent, make).unwrap();
        cache(root.path(), true).stage("s", &["a", "bc"], &Silent, make).unwrap();
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
        c.stage("s", &[], &Silent, broken).unwrap_err();
        let again = c.stage::<Error>("s", &[], &Silent, |folder| {
            assert!(folder.join("half").is_file());
            Ok(())
        });
        assert!(!again.unwrap().cached);
    }

    #[derive(Default)]
    struct Heard(RefCell<Vec<String>>);

    impl Progress for Heard {
        fn start(&self, _: &str) {}
        fn position(&self, _: u64, _: u64, _: &str) {}
        fn note(&self, line: &str) {
            self.0.borrow_mut().push(line.into());
        }
        fn finish(&self, _: &str, _: Outcome) {}
    }

    /// Changes a file in some way.
    type Damage = fn(&Path);

    #[test]
    fn a_stage_that_is_not_as_it_was_sealed_is_made_again_and_that_is_told() {
        let root = tempfile::tempdir().unwrap();
        let c = cache(root.path(), false);
        let make = |folder: &Path| -> Result<(), Error> {
            fs::create_dir_all(folder.join("in")).unwrap();
            fs::write(folder.join("in/x"), [1; 100]).unwrap();
            fs::write(folder.join("y"), "2").unwrap();
            Ok(())
        };
        let made = c.stage("s", &["a"], &Silent, make).unwrap().folder;
        let whole = files::hashes(&made).unwrap();
        let damages: [(&str, Damage); 6] = [
            ("flipped", |file| {
                let mut bytes = fs::read(file).unwrap();
                let at = bytes.len() / 2;
                bytes[at] ^= 0x10;
                fs::write(file, bytes).unwrap();
            }),
            ("cut short", |file| {
                let bytes = fs::read(file).unwrap();
                fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
            }),
            ("emptied", |file| fs::write(file, "").unwrap()),
            ("lengthened", |file| fs::write(file, [fs::read(file).unwrap(), vec![0]].concat()).unwrap()),
            ("removed", |file| fs::remove_file(file).unwrap()),
            ("joined by another", |file| fs::write(file.with_extension("more"), "").unwrap()),
        ];
        for file in ["in/x", "y", SEAL] {
            for (how, damage) in damages {
                damage(&made.join(file));
                assert!(!c.has("s", &["a"]), "{file} {how}");
                let heard = Heard::default();
                let again = c.stage("s", &["a"], &heard, make).unwrap();
                assert!(!again.cached, "{file} {how}");
                assert_eq!(files::hashes(&made).unwrap(), whole, "{file} {how}");
                let [line] = &heard.0.into_inner()[..] else { panic!("{file} {how}") };
                assert!(line.contains("'s' is damaged"), "{line}");
                assert!(c.has("s", &["a"]) && c.stage("s", &["a"], &Silent, make).unwrap().cached);
            }
        }
        // A whole stage in the place of another one.
        let other = c.stage("s", &["b"], &Silent, make).unwrap().folder;
        fs::remove_dir_all(&made).unwrap();
        files::copy_tree(&other, &made).unwrap();
        assert!(!c.has("s", &["a"]));
    }
}
