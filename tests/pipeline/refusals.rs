//! Bad input: exit code 2, a message that names the file and the remedy, nothing left under a final name.

use crate::workshop::{Workshop, contents, idx, said, succeed};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Checks that a command is refused with a message that has all of `words` in it, and leaves no `out` behind.
fn refused(mut command: Command, out: &Path, words: &[&str]) {
    let output = command.output().unwrap();
    let error = refusal(&output);
    for word in words {
        assert!(error.contains(word), "no {word:?} in:\n{error}");
    }
    assert!(!out.exists(), "{} was left:\n{error}", out.display());
}

/// What is said on standard error by a command that must have failed without a panic.
fn refusal(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{}", said(output));
    assert!(error.contains("error: ") && !error.contains("panicked"), "{error}");
    error
}

/// A compilation of `teacher.onnx` for the host is refused with `words`.
fn host_refused(workshop: &Workshop, more: &[&str], words: &[&str]) {
    refused(workshop.compile("host", more), &workshop.path("teacher-host"), words);
}

#[test]
fn a_model_that_is_not_there() {
    let workshop = Workshop::new();
    fs::remove_file(workshop.path("teacher.onnx")).unwrap();
    host_refused(&workshop, &[], &["teacher.onnx"]);
}

#[test]
fn a_truncated_model() {
    let workshop = Workshop::new();
    let model = fs::read(workshop.path("teacher.onnx")).unwrap();
    for keep in [0, 1, 7, model.len() / 2, model.len() - 1] {
        fs::write(workshop.path("teacher.onnx"), &model[..keep]).unwrap();
        host_refused(&workshop, &[], &["teacher.onnx"]);
    }
    fs::write(workshop.path("teacher.onnx"), &model[..model.len() / 2]).unwrap();
    host_refused(&workshop, &[], &["teacher.onnx", "export the model again"]);
}

#[test]
fn a_text_file_called_onnx() {
    let workshop = Workshop::new();
    fs::write(workshop.path("teacher.onnx"), "This is the model that we talked about.\n").unwrap();
    host_refused(&workshop, &[], &["teacher.onnx", "not an ONNX model"]);
}

#[test]
fn no_data() {
    let workshop = Workshop::new();
    workshop.write_sidecar(None);
    host_refused(&workshop, &[], &["teacher.toml", "--data"]);
    host_refused(&workshop, &["--data", "nowhere"], &["nowhere"]);
    fs::remove_file(workshop.path("teacher.toml")).unwrap();
    host_refused(&workshop, &[], &["teacher.onnx", "teacher.toml"]);
}

#[test]
fn data_with_a_file_missing() {
    let workshop = Workshop::new();
    fs::remove_file(workshop.path("data/t10k-labels-idx1-ubyte")).unwrap();
    host_refused(&workshop, &[], &["data", "t10k-labels-idx1-ubyte"]);
}

#[test]
fn more_images_than_labels() {
    let workshop = Workshop::new();
    fs::write(workshop.path("data/train-labels-idx1-ubyte"), idx(&[3], &[0, 1, 2])).unwrap();
    host_refused(&workshop, &[], &["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "512", "3 labels"]);
}

#[test]
fn data_cut_short() {
    let workshop = Workshop::new();
    let path = workshop.path("data/train-images-idx3-ubyte");
    let file = fs::read(&path).unwrap();
    fs::write(&path, &file[..file.len() - 5]).unwrap();
    host_refused(&workshop, &[], &["train-images-idx3-ubyte", "fetch or write the file again"]);
}

#[test]
fn images_that_the_model_does_not_take() {
    let workshop = Workshop::new();
    workshop.write_data("data", 10);
    host_refused(&workshop, &[], &["teacher.onnx", "data", "[batch,1,8,8]", "[batch,1,10,10]", "--data"]);
}

#[test]
fn an_unknown_target() {
    let workshop = Workshop::new();
    let out = workshop.path("teacher-raspbery-pi");
    refused(workshop.compile("raspbery-pi", &[]), &out, &["raspbery-pi", "did you mean `raspberry-pi`", "kdc targets"]);
}

#[test]
fn settings_that_cannot_work() {
    let workshop = Workshop::new();
    for (more, words) in [
        (vec!["--max-ram", "64KiBs"], vec!["64KiBs", "--max-ram"]),
        (vec!["--max-latency", "5"], vec!["5ms"]),
        (vec!["--labels-only", "--alpha", "0.5"], vec!["--labels-only", "--alpha"]),
        (vec!["--emit", "tflite"], vec!["tflite"]),
    ] {
        host_refused(&workshop, &more, &words);
    }
    let mut too_large = workshop.kdc(&["compile", "teacher.onnx", "--target", "host", "--engine", "tract"]);
    too_large.args(["--batch-size", "100000"]);
    refused(too_large, &workshop.path("teacher-host/student.onnx"), &["--batch-size"]);
}

#[test]
fn budgets_that_no_student_meets() {
    let workshop = Workshop::new();
    let output = workshop.compile("host", &["--max-macs", "10"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("--max-macs 10 (it needs "), "{said}");
}

#[test]
fn an_output_folder_that_cannot_be_written() {
    let workshop = Workshop::new();
    fs::write(workshop.path("file"), "").unwrap();
    let out = workshop.path("file/out");
    refused(workshop.compile("host", &["--out", "file/out"]), &out, &["file/out", "--out"]);
}

/// A disk that is full is made by mounting a small one, which takes root or a namespace of one's own.
#[test]
fn a_full_output_disk() {
    let workshop = Workshop::new();
    let namespaced = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "sh", "-c", script]).current_dir(workshop.path("."));
        command
    };
    fs::create_dir(workshop.path("disk")).unwrap();
    let possible = namespaced("mount -t tmpfs -o size=16k none disk").output().is_ok_and(|o| o.status.success());
    if !possible {
        eprintln!("skipped: this machine lets tests mount no disk (unshare --mount --map-root-user)");
        return;
    }
    succeed(workshop.compile("raspberry-pi", &["--no-build", "--out", "whole"]));
    // What is left on the disk is copied out of the namespace, where it can be looked at.
    let compile = workshop.compile("raspberry-pi", &["--no-build", "--out", "disk/out"]);
    let words = std::iter::once(compile.get_program()).chain(compile.get_args());
    let line: Vec<String> = words.map(|w| format!("'{}'", w.to_string_lossy())).collect();
    let mount = "mount -t tmpfs -o size=16k none disk";
    let script = format!("{mount} && {}; code=$?; mkdir left && cp -a disk/. left && exit $code", line.join(" "));
    let mut command = namespaced(&script);
    command.envs(compile.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let output = command.output().unwrap();
    let error = refusal(&output);
    assert!(error.contains("disk/out") && error.contains("make room"), "{error}");
    let left = contents(&workshop.path("left"));
    let whole = contents(&workshop.path("whole"));
    for (path, bytes) in left.iter().filter(|(path, _)| !path.ends_with("manifest.json")) {
        let name = path.strip_prefix("out").unwrap();
        assert_eq!(Some(bytes), whole.get(name), "{} is not whole", name.display());
    }
    let manifest = left.get(Path::new("out/manifest.json")).map(|text| String::from_utf8_lossy(text));
    assert!(
        manifest.is_none_or(|text| text.contains("\"fingerprint\": \"\"")),
        "an unfinished folder counts as finished"
    );
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let workshop = Workshop::new();
    let mut child = workshop.kdc(&["targets", "--json"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
