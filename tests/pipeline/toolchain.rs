//! Machines that lack something.

use crate::workshop::{Workshop, said};

#[test]
fn without_a_toolchain_everything_up_to_the_crate_is_made_and_one_command_is_named() {
    let workshop = Workshop::new();
    // Nothing at all is found: no cargo, no compiler, no linker.
    let output =
        workshop.compile("raspberry-pi", &["--out", "here"]).env("PATH", workshop.path("empty")).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("install it with"), "{error}");
    for made in ["student.onnx", "student.nnef.tgz", "crate/Cargo.toml", "report.txt", "report.json"] {
        assert!(workshop.path("here").join(made).is_file(), "{made} is missing\n{error}");
    }
    assert!(!workshop.path("here/bin").exists());
}

#[test]
fn an_engine_that_must_be_there_and_is_not_is_an_error() {
    let workshop = Workshop::new();
    let mut command = workshop.kdc(&["compile", "teacher.onnx", "--target", "host", "--engine", "onnxruntime"]);
    let output = command.env("ORT_DYLIB_PATH", workshop.path("none.so")).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("none.so"), "{error}");
    assert!(!workshop.path("teacher-host/student.onnx").exists());
}
