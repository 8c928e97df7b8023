//! The output folder: what is in it, how it gets there, and how a second run knows that it is still right.
//!
//! Everything is made elsewhere and comes here whole: files by rename, the crate as a folder by rename. The manifest says
//! what in the folder is kdc's: it lists a file before that is put there, so that also what a killed run left is known, and
//! nothing else is ever replaced. While it names no inputs, or disagrees with the files, the folder counts as unfinished.

use super::Error;
use crate::files;
use crate::report::Report;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// What is in an output folder and what it was made from. The same inputs and seed give the same bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this file's form.
    pub schema: u32,
    pub kdc: String,
    /// Names all inputs: the teacher, the data, the target and every setting that decides the result. Empty while the folder
    /// is being filled.
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

impl Manifest {
    /// Of this kdc, of nothing yet.
    pub fn new() -> Manifest {
        Manifest { schema: 1, kdc: env!("CARGO_PKG_VERSION").into(), ..Manifest::default() }
    }
}

/// The name of the manifest.
pub const MANIFEST: &str = "manifest.json";
const REPORT: &str = "report.json";
const REPORT_TEXT: &str = "report.txt";
/// Files with measured figures or times: kdc's where a manifest is, though it does not list them.
const UNLISTED: [&str; 4] = [MANIFEST, REPORT, REPORT_TEXT, "distilled.json"];

/// An output folder being filled.
pub struct Output {
    folder: PathBuf,
    /// Made by us, and so removed when nothing came into it.
    fresh: bool,
    /// What is or may be there of kdc's: by earlier runs, and by this one.
    ours: BTreeMap<String, String>,
    /// What somebody changed of an earlier run's.
    changed: Vec<String>,
    /// Put there by this run.
    files: BTreeMap<String, String>,
}

impl Output {
    /// Makes the folder, or finds it, and tries whether it can be written: before the work, not after. `names`: what will be
    /// put there, files and folders; `inputs`: what is read.
    ///
    /// # Errors
    /// When it cannot be written, something of that name is there that no earlier run has put there, or an output is an
    /// input.
    pub fn open(folder: &Path, names: &[&str], inputs: &[PathBuf]) -> Result<Output, Error> {
        let failed = |source: io::Error| Error::Output { path: folder.into(), source };
        let fresh = !folder.exists();
        if !fresh {
            refuse_inputs(folder, names, inputs)?;
        }
        let earlier = manifest(folder)?;
        let known = earlier.is_some();
        let earlier = earlier.unwrap_or_default();
        let mut output =
            Output { folder: folder.into(), fresh, ours: earlier.files, changed: vec![], files: BTreeMap::new() };
        for name in names.iter().chain(&[MANIFEST]) {
            output.refuse_others(name, known)?;
        }
        fs::create_dir_all(folder).map_err(failed)?;
        for written in [folder.to_path_buf(), folder.join("bin"), folder.join("train")] {
            files::sweep(&written).map_err(failed)?;
        }
        let probe = tempfile::Builder::new().prefix(".kdc-").tempfile_in(folder).map_err(failed)?;
        drop(probe);
        // Its hashes need not be those of what is there: an interrupted run lists what it was about to write.
        output.ours.retain(|name, _| fs::symlink_metadata(folder.join(name)).is_ok());
        if !earlier.fingerprint.is_empty() {
            let differs = |(name, hash): &(&String, &String)| {
                files::hash_file(&folder.join(name)).is_ok_and(|found| found != **hash)
            };
            output.changed = output.ours.iter().filter(differs).map(|(name, _)| name.clone()).collect();
        }
        Ok(output)
    }

    /// What to tell of files that somebody changed since they were written; `None` where nobody did.
    pub fn changed(&self) -> Option<String> {
        let [first, rest @ ..] = &self.changed[..] else { return None };
        let more = if rest.is_empty() { String::new() } else { format!(" and {} more files", rest.len()) };
        let folder = self.folder.display();
        Some(format!(
            "{folder}/{first}{more}: changed since kdc wrote it, and written anew; keep changes of your own outside of {folder}"
        ))
    }

    /// Refuses what somebody else put where `name` shall be.
    fn refuse_others(&self, name: &str, known: bool) -> Result<(), Error> {
        let path = self.folder.join(name);
        let others = |path: PathBuf| Err(Error::NotOurs { path });
        let Ok(meta) = fs::symlink_metadata(&path) else { return Ok(()) };
        if meta.is_dir() {
            let mut found = None;
            let mut look = |file: &Path| {
                let name = file.strip_prefix(&self.folder).unwrap_or(file).to_string_lossy().into_owned();
                if !self.ours.contains_key(&name) {
                    found.get_or_insert(file.to_path_buf());
                }
            };
            others_in(&path, &mut look).map_err(|source| Error::Output { path: path.clone(), source })?;
            return found.map_or(Ok(()), others);
        }
        let ours = self.ours.contains_key(name) || known && UNLISTED.contains(&name);
        if ours { Ok(()) } else { others(path) }
    }

    /// Puts a file there that is part of the manifest.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn put(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.put_by(name, bytes, files::write_atomic)
    }

    /// Puts a file there that holds measured figures or times, and so is not part of the manifest.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn put_unlisted(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.claim([])?;
        self.write(name, bytes, files::write_atomic)
    }

    /// Puts an executable there.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn put_program(&mut self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        self.put_by(name, bytes, files::write_program)
    }

    fn put_by(&mut self, name: &str, bytes: &[u8], how: Writer) -> Result<(), Error> {
        let hash = files::hash(bytes);
        self.claim([(name.to_string(), hash.clone())])?;
        self.write(name, bytes, how)?;
        self.files.insert(name.into(), hash);
        Ok(())
    }

    fn write(&self, name: &str, bytes: &[u8], how: Writer) -> Result<(), Error> {
        let path = self.folder.join(name);
        how(&path, bytes).map_err(|source| Error::Output { path, source })
    }

    /// Says in the manifest that files of these names are kdc's, before they are there.
    fn claim(&mut self, new: impl IntoIterator<Item = (String, String)>) -> Result<(), Error> {
        let before = self.ours.len();
        self.ours.extend(new);
        // The first claim also takes the fingerprint away: the folder is no longer what it was.
        if self.ours.len() > before || self.files.is_empty() {
            self.write_manifest(&Manifest { files: self.ours.clone(), ..Manifest::new() })?;
        }
        Ok(())
    }

    fn write_manifest(&self, manifest: &Manifest) -> Result<(), Error> {
        let mut text = serde_json::to_string_pretty(manifest).expect("a manifest is plain data");
        text.push('\n');
        self.write(MANIFEST, text.as_bytes(), files::write_atomic)
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
        files::copy_tree(from, &new).map_err(failed)?;
        files::sync_tree(&new).map_err(failed)?;
        let named = |(file, hash): (PathBuf, String)| (Path::new(name).join(file).to_string_lossy().into_owned(), hash);
        let list: Vec<_> = files::hashes(&new).map_err(failed)?.into_iter().map(named).collect();
        self.claim(list.clone())?;
        if to.exists() {
            fs::rename(&to, &old).map_err(failed)?;
        }
        if let Err(e) = fs::rename(&new, &to) {
            // Best effort: the error that matters is the one being reported.
            let _ = fs::rename(&old, &to);
            return Err(failed(e));
        }
        files::sync(&self.folder).map_err(failed)?;
        self.files.retain(|file, _| !Path::new(file).starts_with(name));
        self.files.extend(list);
        Ok(())
    }

    /// Removes what earlier runs left that this one did not make, and writes the manifest: the folder is complete.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn finish(mut self, manifest: Manifest) -> Result<(), Error> {
        for name in self.ours.keys().filter(|name| !self.files.contains_key(*name)) {
            let path = self.folder.join(name);
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::Output { path, source: e }),
                _ => (),
            }
            // Fails where something is left in it, which is what is wanted.
            let _ = path.parent().map(fs::remove_dir);
        }
        let manifest = Manifest { files: std::mem::take(&mut self.files), ..manifest };
        self.write_manifest(&manifest)?;
        self.fresh = false;
        Ok(())
    }
}

type Writer = fn(&Path, &[u8]) -> io::Result<()>;

impl Drop for Output {
    /// A folder that we made and that stayed empty goes away again.
    fn drop(&mut self) {
        if self.fresh {
            // Fails when something is in it, which is what is wanted.
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

/// Whether a name of a manifest, which anybody may have written, is of a file in the folder: a relative path downwards, through
/// folders and no links.
fn is_within(folder: &Path, name: &str) -> bool {
    let name = Path::new(name);
    let down = name.components().all(|part| matches!(part, Component::Normal(_)));
    let parents = name.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty());
    let link = |parent: &Path| fs::symlink_metadata(folder.join(parent)).is_ok_and(|meta| meta.is_symlink());
    down && !parents.into_iter().any(link)
}

/// The manifest of a folder, of what is in the folder; `None` where there is no such file.
fn manifest(folder: &Path) -> Result<Option<Manifest>, Error> {
    let path = folder.join(MANIFEST);
    match fs::read(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => Err(Error::Output { path: folder.into(), source: e }),
        Err(e) => Err(Error::read(&path, e)),
        Ok(text) => {
            let mut read: Manifest = serde_json::from_slice(&text).map_err(|_| Error::NotOurs { path })?;
            read.files.retain(|name, _| is_within(folder, name));
            Ok(Some(read))
        }
    }
}

/// How cargo begins the file that it writes beside a manifest when it builds a crate.
const LOCK: &str = "# This file is automatically @generated by Cargo.";

/// Shows every file and link below a folder, but for what tools have marked as theirs to make again
/// (<https://bford.info/cachedir/>, as cargo's `target`), so that a crate may be built where it is.
fn others_in(folder: &Path, look: &mut dyn FnMut(&Path)) -> io::Result<()> {
    if folder.join("CACHEDIR.TAG").is_file() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let of_cargo = || fs::read(&path).is_ok_and(|bytes| bytes.starts_with(LOCK.as_bytes()));
        match entry.file_type()? {
            kind if kind.is_dir() => others_in(&path, look)?,
            kind if kind.is_file() && entry.file_name() == "Cargo.lock" && of_cargo() => (),
            _ => look(&path),
        }
    }
    Ok(())
}

/// Refuses outputs that are inputs, under whatever name.
fn refuse_inputs(folder: &Path, names: &[&str], inputs: &[PathBuf]) -> Result<(), Error> {
    let inputs: BTreeSet<PathBuf> = inputs.iter().filter_map(|path| path.canonicalize().ok()).collect();
    for name in names.iter().chain(&UNLISTED) {
        let path = folder.join(name);
        let Ok(real) = path.canonicalize() else { continue };
        // In the order of paths, what is in a folder follows it.
        if let Some(input) = inputs.range(real.clone()..).next().filter(|input| input.starts_with(&real)) {
            return Err(Error::IsInput { path, input: input.clone() });
        }
    }
    Ok(())
}

/// The report of an output folder that is complete and was made from the same inputs; `None` when anything differs, or a
/// check that the report says was left out can be made now, as `can_do` tells.
pub fn up_to_date(
    folder: &Path,
    fingerprint: &str,
    linked: bool,
    can_do: &dyn Fn(crate::report::Tool) -> bool,
) -> Option<Report> {
    let manifest = manifest(folder).ok()??;
    let same = |(name, hash): (&String, &String)| files::hash_file(&folder.join(name)).is_ok_and(|h| h == *hash);
    // Without its program a folder is unfinished: the compiler may have been installed since.
    let complete = manifest.rustc.is_some() || !linked;
    if manifest.fingerprint != fingerprint || !complete || !manifest.files.iter().all(same) {
        return None;
    }
    let report: Report = serde_json::from_slice(&fs::read(folder.join(REPORT)).ok()?).ok()?;
    // The manifest has no hashes of these two: each vouches for the other.
    let told_alike = fs::read(folder.join(REPORT_TEXT)).ok()? == report.to_text().as_bytes();
    let can_do_more = report.skipped.iter().filter_map(|skipped| skipped.tool).any(can_do);
    (told_alike && !can_do_more).then_some(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> BTreeSet<String> {
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_refused_and_an_empty_one_does_not_stay() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "x").unwrap();
        let error = Output::open(&file.join("out"), &[], &[]).err().unwrap().to_string();
        assert!(error.contains("file/out"), "{error}");
        let folder = root.path().join("out");
        drop(Output::open(&folder, &[], &[]).unwrap());
        assert!(!folder.exists());
    }

    #[test]
    fn what_a_killed_run_left_is_swept_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join(".kdc-a1b2c3/old/src")).unwrap();
        fs::create_dir_all(root.path().join("train")).unwrap();
        for file in ["train/.kdc-b2c3d4", ".kdc-c3d4e5", "train/mine", "mine", ".kdc-notes"] {
            fs::write(root.path().join(file), "x").unwrap();
        }
        let mut output = Output::open(root.path(), &["plan.toml"], &[]).unwrap();
        output.put("plan.toml", b"").unwrap();
        assert_eq!(names(root.path()), set(&[".kdc-notes", MANIFEST, "mine", "plan.toml", "train"]));
        assert_eq!(names(&root.path().join("train")), set(&["mine"]));
    }

    #[test]
    fn a_folder_takes_the_place_of_the_old_one_whole() {
        let root = tempfile::tempdir().unwrap();
        let (a, b) = (root.path().join("a"), root.path().join("b"));
        fs::create_dir_all(a.join("src")).unwrap();
        fs::create_dir_all(&b).unwrap();
        fs::write(a.join("src/lib.rs"), "a").unwrap();
        fs::write(b.join("new"), "b").unwrap();
        let out = root.path().join("out");
        let mut output = Output::open(&out, &["crate"], &[]).unwrap();
        output.put_folder("crate", &a).unwrap();
        assert_eq!(output.files.keys().collect::<Vec<_>>(), ["crate/src/lib.rs"]);
        output.finish(Manifest { fingerprint: "1".into(), ..Manifest::new() }).unwrap();
        // What cargo built in it may go, what somebody wrote into it may not.
        fs::create_dir_all(out.join("crate/target/debug")).unwrap();
        fs::write(out.join("crate/target/CACHEDIR.TAG"), "").unwrap();
        fs::write(out.join("crate/Cargo.lock"), format!("{LOCK}\nversion = 4\n")).unwrap();
        fs::write(out.join("crate/target/debug/x"), "").unwrap();
        assert_eq!(Output::open(&out, &["crate"], &[]).unwrap().changed(), None);
        fs::write(out.join("crate/src/lib.rs"), "edited").unwrap();
        let mut output = Output::open(&out, &["crate"], &[]).unwrap();
        assert!(output.changed().unwrap().contains("crate/src/lib.rs: changed since kdc wrote it"));
        output.put_folder("crate", &b).unwrap();
        output.finish(Manifest { fingerprint: "2".into(), ..Manifest::new() }).unwrap();
        assert_eq!(names(&out.join("crate")), set(&["new"]));
        fs::write(out.join("crate/mine.rs"), "").unwrap();
        let error = Output::open(&out, &["crate"], &[]).err().unwrap().to_string();
        assert!(error.contains("crate/mine.rs"), "{error}");
    }

    #[test]
    fn what_nobody_knows_to_be_kdcs_is_left_alone() {
        let all = ["plan.toml", "student.onnx", "bin/student", "train/log.csv", "crate", "report.json", MANIFEST];
        for name in all {
            let root = tempfile::tempdir().unwrap();
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "mine").unwrap();
            let error = Output::open(root.path(), &all, &[]).err().unwrap();
            assert!(matches!(&error, Error::NotOurs { path: at } if *at == path), "{name}: {error}");
            assert_eq!(fs::read(&path).unwrap(), b"mine");
            // As a link to somewhere, and as a folder with something in it.
            fs::rename(&path, root.path().join("mine")).unwrap();
            std::os::unix::fs::symlink(root.path().join("mine"), &path).unwrap();
            assert!(Output::open(root.path(), &all, &[]).is_err(), "{name}");
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
            fs::write(path.join("mine"), "mine").unwrap();
            assert!(Output::open(root.path(), &all, &[]).is_err(), "{name}");
        }
    }

    #[test]
    fn what_an_earlier_run_put_there_is_replaced_and_what_it_alone_made_goes() {
        let root = tempfile::tempdir().unwrap();
        let all = ["student.onnx", "bin/student", "report.json"];
        let mut output = Output::open(root.path(), &all, &[]).unwrap();
        output.put_program("bin/student", b"1").unwrap();
        output.put("student.onnx", b"1").unwrap();
        output.put_unlisted("report.json", b"1").unwrap();
        // Killed here: what it wrote is known all the same.
        std::mem::forget(output);
        fs::write(root.path().join("mine"), "mine").unwrap();
        let mut output = Output::open(root.path(), &all, &[]).unwrap();
        output.put("student.onnx", b"2").unwrap();
        output.put_unlisted("report.json", b"2").unwrap();
        output.finish(Manifest { fingerprint: "2".into(), ..Manifest::new() }).unwrap();
        assert_eq!(names(root.path()), set(&[MANIFEST, "mine", "report.json", "student.onnx"]));
        assert_eq!(fs::read(root.path().join("student.onnx")).unwrap(), b"2");
        let listed = manifest(root.path()).unwrap().unwrap().files;
        assert_eq!(listed.keys().collect::<Vec<_>>(), ["student.onnx"]);
    }

    #[test]
    fn a_manifest_removes_nothing_outside_of_its_folder() {
        let root = tempfile::tempdir().unwrap();
        let (out, victim) = (root.path().join("out"), root.path().join("home/victim"));
        fs::create_dir_all(root.path().join("home")).unwrap();
        fs::write(&victim, "precious").unwrap();
        fs::create_dir_all(out.join("crate")).unwrap();
        std::os::unix::fs::symlink("../home", out.join("link")).unwrap();
        let names = ["../home/victim", victim.to_str().unwrap(), "crate/../../home/victim", "link/victim"];
        let files = names.map(|name| (name.to_string(), "0".to_string())).into();
        fs::write(out.join(MANIFEST), serde_json::to_vec(&Manifest { files, ..Manifest::new() }).unwrap()).unwrap();
        let mut output = Output::open(&out, &["student.onnx"], &[]).unwrap();
        output.put("student.onnx", b"1").unwrap();
        output.finish(Manifest::new()).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        let listed = manifest(&out).unwrap().unwrap().files;
        assert_eq!(listed.keys().collect::<Vec<_>>(), ["student.onnx"]);
    }

    #[test]
    fn a_report_is_believed_while_it_is_whole_and_no_more_can_be_checked() {
        use crate::report::Tool;
        let root = tempfile::tempdir().unwrap();
        let report = crate::report::sample::sample();
        let mut output = Output::open(root.path(), &[REPORT, REPORT_TEXT], &[]).unwrap();
        output.put("student.onnx", b"1").unwrap();
        output.put_unlisted(REPORT, report.to_json().unwrap().as_bytes()).unwrap();
        output.put_unlisted(REPORT_TEXT, report.to_text().as_bytes()).unwrap();
        let made = Manifest { fingerprint: "f".into(), rustc: Some("rustc".into()), ..Manifest::new() };
        output.finish(made).unwrap();
        let read = |there: Option<Tool>| up_to_date(root.path(), "f", true, &|tool| Some(tool) == there);
        assert_eq!(read(None), Some(report));
        // The sample was made without ONNX Runtime.
        assert_eq!(read(Some(Tool::OnnxRuntime)), None);
        assert!(read(Some(Tool::Emulator)).is_some());
        for name in [REPORT, REPORT_TEXT] {
            let whole = fs::read_to_string(root.path().join(name)).unwrap();
            fs::write(
                root.path().join(name),
                whole.replacen("5,600,000", "5,600,001", 1).replacen("0.9378", "0.9278", 1),
            )
            .unwrap();
            assert_eq!(read(None), None, "{name}");
            fs::write(root.path().join(name), whole).unwrap();
        }
        assert!(read(None).is_some());
        fs::write(root.path().join("student.onnx"), "2").unwrap();
        assert_eq!(read(None), None);
    }

    #[test]
    fn an_output_that_is_an_input_is_refused_under_whatever_name() {
        let root = tempfile::tempdir().unwrap();
        let out = root.path().join("out");
        let mut output = Output::open(&out, &["student.onnx", "crate"], &[]).unwrap();
        output.put("student.onnx", b"1").unwrap();
        output.put("crate/data/a.png", b"1").unwrap();
        output.finish(Manifest::new()).unwrap();
        let link = root.path().join("link");
        std::os::unix::fs::symlink(&out, &link).unwrap();
        for (folder, input) in [
            (&out, link.join("student.onnx")),
            (&link, out.join("student.onnx")),
            (&out, link.join("crate/data/a.png")),
        ] {
            let error = Output::open(folder, &["student.onnx", "crate"], &[input]).err().unwrap();
            assert!(matches!(error, Error::IsInput { .. }), "{error}");
        }
        assert!(Output::open(&out, &["student.onnx", "crate"], &[root.path().join("link")]).is_ok());
    }
}
