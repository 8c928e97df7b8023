//! Files that once made a reader panic, hang or allocate without end (found by `fuzz/run.sh`), and the seeds they came
//! from: every one is read or refused, soon.

#[path = "../../fuzz/src/reading.rs"]
mod reading;

use kdc::{onnx, pass};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Reads every file of some folders below the repository; how many there were.
fn each(folders: &[&str], read: impl Fn(&Path, Vec<u8>)) -> usize {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for folder in folders {
        let entries = std::fs::read_dir(root.join(folder)).unwrap();
        let mut paths: Vec<PathBuf> =
            entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect();
        paths.sort();
        for path in paths {
            let start = Instant::now();
            read(&path, std::fs::read(&path).unwrap());
            assert!(start.elapsed() < Duration::from_secs(5), "{} took {:?}", path.display(), start.elapsed());
            seen += 1;
        }
    }
    seen
}

#[test]
fn a_file_is_a_graph_or_an_error() {
    let seen = each(&["tests/networks/hostile", "fuzz/seeds/importer"], |path, model| {
        if path.extension().is_none_or(|e| e != "onnx") {
            return;
        }
        if let Ok(mut graph) = onnx::import(model.into(), None) {
            // What is read can be normalised and written, or says why not.
            if pass::normalize(&mut graph).is_ok() {
                _ = onnx::export(&graph);
            }
            assert!(!graph.to_string().is_empty(), "{}", path.display());
        }
    });
    assert!(seen > 100, "{seen} files");
}

#[test]
fn a_file_of_samples_is_read_or_refused() {
    let seen = each(&["tests/networks/hostile/data", "fuzz/seeds/data"], |_, file| reading::samples(&file));
    assert!(seen > 30, "{seen} files");
}

#[test]
fn settings_are_read_or_refused() {
    let folders = ["tests/networks/hostile/settings", "fuzz/seeds/settings", "crates/train/src/distill/presets"];
    let seen = each(&folders, |_, file| reading::settings(&file));
    assert!(seen > 20, "{seen} files");
}

#[test]
fn whatever_is_flipped_in_a_seed_is_read_or_refused() {
    // What the fuzzer does for hours, for a second: one byte, one bit, one cut.
    each(&["fuzz/seeds/data"], |_, file| {
        for round in 0..24u64 {
            // A multiplicative hash (Knuth, The Art of Computer Programming 3, 6.4) picks the place.
            let at = (round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as usize % file.len();
            let mut damaged = file.clone();
            match round % 4 {
                0 => damaged[at] ^= 1 << (round % 8),
                1 => damaged[at] = 0xff,
                2 => damaged[at] = 0,
                _ => damaged.truncate(at),
            }
            reading::samples(&damaged);
        }
    });
}
