//! Hashes the code that stages of a compilation run, for the keys of their cache: what other code made is made again.

use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};

/// What trains a student.
const TRAINING: [&str; 4] = ["crates/ir/src", "crates/exec/src", "crates/train/src", "src/pipeline"];
/// What makes a program of it.
const DEVICE: [&str; 3] = ["crates/device/src", "targets", "Cargo.lock"];

fn main() {
    let all = [&TRAINING[..], &DEVICE[..]].concat();
    println!("cargo::rustc-env=KDC_TRAINING_CODE={:016x}", hash(&TRAINING));
    println!("cargo::rustc-env=KDC_CODE={:016x}", hash(&all));
    for path in all {
        println!("cargo::rerun-if-changed={path}");
    }
}

fn hash(paths: &[&str]) -> u64 {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let mut found = vec![];
    for path in paths {
        files(&root.join(path), &mut found);
    }
    found.sort();
    let mut hasher = DefaultHasher::new();
    for file in found {
        let name = file.strip_prefix(&root).unwrap_or(&file).to_string_lossy().into_owned();
        let contents = std::fs::read(&file).unwrap_or_default();
        for part in [name.as_bytes(), &contents] {
            hasher.write_usize(part.len());
            hasher.write(part);
        }
    }
    hasher.finish()
}

/// The files of a folder, less tests and what a build left there.
fn files(path: &Path, found: &mut Vec<PathBuf>) {
    let skipped = path.file_stem().is_some_and(|name| name == "tests" || name == "target");
    match std::fs::read_dir(path) {
        _ if skipped => (),
        Ok(entries) => entries.flatten().for_each(|entry| files(&entry.path(), found)),
        Err(_) => found.push(path.into()),
    }
}
