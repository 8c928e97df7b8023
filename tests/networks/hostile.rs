//! Files that once made the importer panic, hang or allocate without end (found by `fuzz/run.sh`), and the seeds they
//! came from: every one is a graph or an error, soon.

use kdc::{onnx, pass};
use std::path::Path;
use std::time::{Duration, Instant};

#[test]
fn a_file_is_a_graph_or_an_error() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for folder in ["tests/networks/hostile", "fuzz/seeds"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|e| e != "onnx") {
                continue;
            }
            let start = Instant::now();
            let model = std::fs::read(&path).unwrap();
            if let Ok(mut graph) = onnx::import(model.into(), None) {
                // What is read can be normalised and written, or says why not.
                if pass::normalize(&mut graph).is_ok() {
                    _ = onnx::export(&graph);
                }
                assert!(!graph.to_string().is_empty(), "{}", path.display());
            }
            assert!(start.elapsed() < Duration::from_secs(5), "{} took {:?}", path.display(), start.elapsed());
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen} files");
}
