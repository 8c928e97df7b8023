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

/// A file of `samples` random samples of raw bytes, another of the same preprocessed as the network's own input.
fn samples(program: &Program, count: usize, root: &Path) -> [PathBuf; 2] {
    use rand::{RngCore, SeedableRng};
    let [h, w, c] = program.buffer(program.input.buffer).shape[..] else { panic!("an image") };
    let mut raw = vec![0; count * h * w * c];
    rand_chacha::ChaCha8Rng::seed_from_u64(3).fill_bytes(&mut raw);
    let tables = corpus::preprocessing(c);
    let mut own = Vec::new();
    for sample in raw.chunks(h * w * c) {
        for channel in 0..c {
            own.extend(sample.iter().skip(channel).step_by(c).flat_map(|&b| tables[channel][b as usize].to_le_bytes()));
        }
    }
    let paths = [root.join(format!("{}.u8", program.name)), root.join(format!("{}.f32", program.name))];
    std::fs::write(&paths[0], raw).unwrap();
    std::fs::write(&paths[1], own).unwrap();
    paths
}

/// What a student answers, byte for byte.
fn answers(mut student: Command, arguments: &[&str], input: &Path) -> Vec<u8> {
    let out = input.with_extension("out");
    output(student.arg("run").args(arguments).arg(input).arg(&out));
    std::fs::read(&out).unwrap()
}

#[test]
fn every_kernel_runs_and_uses_the_planned_arena() {
    let root = tempfile::tempdir().unwrap();
    for program in [Precision::Int8, Precision::F32].into_iter().flat_map(corpus::every_kernel) {
        let plan = corpus::stacked(&program);
        let student = build(&program, &plan, root.path(), &[]);
        let memory = output(Command::new(&student).arg("arena"));
        assert_eq!(memory.trim(), format!(r#"{{"planned_bytes":{0},"used_bytes":{0}}}"#, plan.arena_bytes));
        let [raw, own] = samples(&program, 5, root.path());
        let from_raw = answers(Command::new(&student), &["--input", "u8"], &raw);
        assert_eq!(from_raw, answers(Command::new(&student), &["--input", "f32"], &own), "{}", program.name);
        let student = build(&program, &corpus::in_place(&program), root.path(), &[]);
        assert_eq!(from_raw, answers(Command::new(&student), &["--input", "u8"], &raw), "{} in place", program.name);
        assert_eq!(from_raw.len(), 5 * 4 * program.buffer(program.output.buffer).len());
    }
}
