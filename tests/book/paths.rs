//! Files and folders of the repository that pages name.

use crate::{pages, root};
use std::path::Path;

/// What a path of the repository begins with.
const FOLDERS: [&str; 10] =
    ["src/", "crates/", "tests/", "targets/", "benches/", "fuzz/", "models/", "docs/", "examples/", ".ci/"];

/// Whether a word names a file or folder of the repository.
fn is_path(word: &str) -> bool {
    let file = [".rs", ".py"].iter().any(|extension| word.len() > extension.len() && word.ends_with(extension));
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "._-/*".contains(c));
    plain && (file || FOLDERS.iter().any(|folder| word.starts_with(folder)))
}

fn exists(word: &str) -> bool {
    let path = Path::new(word);
    match word.split_once('*') {
        None => root().join(path).exists(),
        // `targets/*.toml`: some file of the folder ends so.
        Some((folder, end)) => std::fs::read_dir(root().join(folder))
            .is_ok_and(|mut files| files.any(|f| f.is_ok_and(|f| f.file_name().to_string_lossy().ends_with(end)))),
    }
}

#[test]
fn named_paths_exist() {
    let mut missing = vec![];
    for page in pages::all() {
        for (span, line) in &page.spans {
            let words = span.split_whitespace().filter(|word| is_path(word) && !exists(word));
            missing.extend(words.map(|word| format!("{}:{line}: {word}", page.path.display())));
        }
    }
    assert!(missing.is_empty(), "these are not in the repository:\n{}", missing.join("\n"));
}

#[test]
fn paths_are_told_from_other_words() {
    let yes = ["src/lib.rs", "targets/*.toml", "crates/ir/src/host/", "golden.py", "benches/methods"];
    assert!(yes.iter().all(|word| is_path(word)));
    let no = ["teacher.onnx", "bin/student", "data/x.png", "[cpu]", "kdc", "1/255", ".rs", "src/<family>.rs"];
    assert!(!no.iter().any(|word| is_path(word)));
    assert!(exists("targets/*.toml") && !exists("targets/*.yaml") && !exists("src/lib.rss"));
}
