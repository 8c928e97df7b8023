//! The structure of the code: imports run downhill, and no files import each other in a circle.

mod imports;
mod source;

use imports::Crate;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The crates, each with those it may build on: all that stand before it.
const CRATES: [(&str, &str); 6] = [
    ("kdc_kernels", "targets/kernels/src"),
    ("kdc_ir", "crates/ir/src"),
    ("kdc_exec", "crates/exec/src"),
    ("kdc_device", "crates/device/src"),
    ("kdc_train", "crates/train/src"),
    ("kdc", "src"),
];

/// Lines that a file should have at most.
const LINES: usize = 500;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Rust files below a folder, less tests.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        match path.is_dir() {
            true if name != "tests" => found.extend(files(&path)),
            false if name != "tests" && path.extension().is_some_and(|e| e == "rs") => found.push(path),
            _ => (),
        }
    }
    found.sort();
    found
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut circles = vec![];
    for (_, folder) in CRATES {
        let read = Crate::read(&root().join(folder), &files(&root().join(folder)));
        circles.extend(read.circles().into_iter().map(|circle| format!("{folder}:\n{circle}")));
    }
    assert!(circles.is_empty(), "{} circles of files:\n\n{}", circles.len(), circles.join("\n"));
}

#[test]
fn crates_import_only_those_below_them() {
    let mut uphill = vec![];
    for (place, (_, folder)) in CRATES.iter().enumerate() {
        let above: BTreeSet<&str> = CRATES[place..].iter().map(|(name, _)| *name).collect();
        for file in files(&root().join(folder)) {
            let tokens = source::tokens(&std::fs::read_to_string(&file).unwrap());
            let named = tokens.windows(2).filter(|pair| above.contains(pair[0].as_str()) && pair[1] == "::");
            // The program is a crate of its own, on top of its library.
            let named = named.filter(|_| !file.ends_with("src/main.rs"));
            uphill.extend(named.map(|pair| format!("{}: {}", file.display(), pair[0])));
        }
    }
    assert!(uphill.is_empty(), "imports that run uphill:\n{}", uphill.join("\n"));
}

#[test]
fn files_are_short_enough_to_be_read() {
    let all = CRATES.iter().flat_map(|(_, folder)| files(&root().join(folder)));
    // Less the tests of its own.
    let code = |text: &str| text.lines().take_while(|line| *line != "#[cfg(test)]").count();
    let lines = |path: &PathBuf| code(&std::fs::read_to_string(path).unwrap());
    let long: Vec<String> = all
        .map(|path| (lines(&path), path))
        .filter(|(lines, _)| *lines > LINES)
        .map(|(lines, path)| format!("{}: {lines} lines", path.strip_prefix(root()).unwrap().display()))
        .collect();
    assert!(long.is_empty(), "more than {LINES} lines:\n{}", long.join("\n"));
}
