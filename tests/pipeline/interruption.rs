//! A run that is killed goes on where it stopped, and ends with the same bytes.

use crate::workshop::{Workshop, reproducible, said};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

const LONG: [&str; 3] = ["--no-build", "--epochs", "12"];

#[test]
fn a_killed_training_goes_on_from_its_checkpoint_to_the_same_bytes() {
    let workshop = Workshop::new();
    let compile = |cache: &str, out: &str| {
        let mut command = workshop.kdc(&["compile", "teacher.onnx", "--target", "raspberry-pi", "--engine", "tract"]);
        command.args(LONG).args(["--batch-size", "32", "--max-quant-drop", "5", "--out", out]);
        command.env("XDG_CACHE_HOME", workshop.path(cache));
        command
    };

    let whole = compile("cache-whole", "whole").output().unwrap();
    assert_eq!(whole.status.code(), Some(0), "{}", said(&whole));

    let mut child = compile("cache", "resumed").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let third = lines.find(|line| line.contains("epoch 3/12"));
    // `kill` is SIGKILL: nothing can be tidied up.
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(third.is_some(), "the training was over before it could be killed");
    assert!(!workshop.path("resumed/student.onnx").exists(), "an unfinished run left a model");

    let resumed = compile("cache", "resumed").output().unwrap();
    assert_eq!(resumed.status.code(), Some(0), "{}", said(&resumed));
    let log = String::from_utf8_lossy(&resumed.stderr);
    assert!(!log.contains("epoch 1/12") && log.contains("epoch 12/12"), "it started over:\n{log}");

    let (whole, resumed) = (reproducible(&workshop.path("whole")), reproducible(&workshop.path("resumed")));
    assert_eq!(whole.keys().collect::<Vec<_>>(), resumed.keys().collect::<Vec<_>>());
    let differing: Vec<_> =
        whole.iter().filter(|(path, bytes)| resumed.get(*path) != Some(bytes)).map(|(p, _)| p).collect();
    assert!(differing.is_empty(), "{differing:?} differ from an uninterrupted run's");
}
