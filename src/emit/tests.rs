//! Generated crates, built and run.

mod corpus;

use std::path::Path;
use std::process::Command;

use super::*;
use crate::program::Precision;

/// Runs a command that must succeed; what it prints.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Writes the crate of a program and builds its runner with all crates' shared target folder.
fn build(program: &Program, plan: &Plan, root: &Path, arguments: &[&str]) -> PathBuf {
    let dir = root.join(&program.name);
    write_crate(program, plan, &dir, &CrateOptions::default()).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(&dir).env("CARGO_TARGET_DIR", dir.join("target")).env_remove("RUSTFLAGS");
    output(cargo.args(["build", "--release", "--offline", "--locked", "-p", "student"]).args(arguments));
    dir.join("target/release/student")
}

#[test]
#[ignore = "prints a measurement"]
fn time_of_a_residual_network() {
    let root = tempfile::tempdir().unwrap().keep();
    for precision in [Precision::Int8, Precision::F32] {
        let program = corpus::residual_network(precision);
        let plan = corpus::stacked(&program);
        let student = build(&program, &plan, &root, &[]);
        println!("{}", output(Command::new(&student).arg("info")));
        println!("{}", output(Command::new(&student).arg("arena")));
        println!("{}", output(Command::new(&student).args(["bench", "--runs", "20", "--warmup", "20"])));
        println!("{}", student.display());
    }
}
