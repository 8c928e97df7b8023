//! Generated crates, built and run.

mod corpus;
mod linking;
mod memcheck;
mod names;

use std::path::Path;
use std::process::Command;

use super::*;
use crate::program::{self, Precision};

/// Runs a command that must succeed; what it prints.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}\n{}\n{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// `cargo build` of one of a crate's parts, `runner` or `c`, with one target folder for both.
fn cargo(dir: &Path, part: &str) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(dir).env("CARGO_TARGET_DIR", dir.join("target")).env_remove("RUSTFLAGS");
    cargo.args(["build", "--release", "--offline", "--locked", "--manifest-path", &format!("{part}/Cargo.toml")]);
    cargo
}

/// Writes the crate of a program and builds its runner.
fn build(program: &Program, plan: &Plan, root: &Path, arguments: &[&str]) -> PathBuf {
    let dir = root.join(&program.name);
    assert_eq!(program::verify(program), Ok(()), "{}", program.name);
    write_crate(program, plan, &dir, &CrateOptions::default()).unwrap();
    output(cargo(&dir, "runner").args(arguments));
    dir.join("target/release/student")
}

/// Builds a crate for aarch64; how to run it here.
fn build_aarch64(dir: &Path) -> Option<Command> {
    const TARGET: &str = "aarch64-unknown-linux-gnu";
    let root = "/usr/aarch64-linux-gnu";
    let board = crate::target::find("raspberry-pi", &[]).unwrap();
    let tools = crate::target::toolchain::find(&board).map_err(|missing| missing.to_string());
    let emulator = crate::bench::Emulator::find(&board).map_err(|unavailable| unavailable.to_string());
    let rustc = match tools.and_then(|tools| emulator.map(|_| tools.rustc)) {
        Ok(rustc) => rustc,
        Err(missing) => {
            kdc_ir::testing::skipped(missing);
            return None;
        }
    };
    let mut cargo = cargo(dir, "runner");
    cargo.env("RUSTC", rustc).env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", "aarch64-linux-gnu-gcc");
    output(cargo.args(["--target", TARGET]));
    let mut student = Command::new("qemu-aarch64");
    student.args(["-cpu", "cortex-a72", "-L", root]).arg(dir.join("target").join(TARGET).join("release/student"));
    Some(student)
}

#[test]
fn crates_are_deterministic_and_replace_only_crates() {
    let root = tempfile::tempdir().unwrap();
    let program = corpus::residual_network(Precision::Int8);
    let plan = corpus::stacked(&program);
    let options = CrateOptions { source: Some("teacher.onnx".into()), ..CrateOptions::default() };
    assert_eq!(files(&program, &plan, &options).unwrap(), files(&program, &plan, &options).unwrap());
    let dir = root.path().join("crate");
    write_crate(&program, &plan, &dir, &options).unwrap();
    std::fs::write(dir.join("left"), "over").unwrap();
    write_crate(&program, &plan, &dir, &options).unwrap();
    assert!(!dir.join("left").exists() && dir.join("src/lib.rs").exists());
    let entries = std::fs::read_dir(root.path()).unwrap().count();
    assert_eq!(entries, 1, "nothing is left beside the crate");
    let other = root.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("thesis.txt"), "precious").unwrap();
    assert!(matches!(write_crate(&program, &plan, &other, &options), Err(Error::Occupied { .. })));
    assert!(other.join("thesis.txt").exists());
}

#[test]
fn a_plan_that_does_not_fit_is_refused() {
    let program = corpus::residual_network(Precision::F32);
    let good = corpus::stacked(&program);
    let refuse = |change: fn(&mut Plan)| {
        let mut plan = good.clone();
        change(&mut plan);
        files(&program, &plan, &CrateOptions::default()).expect_err("a bad plan")
    };
    assert!(matches!(refuse(|plan| plan.offsets[1] = 64), Error::Overlap { .. }));
    assert!(matches!(refuse(|plan| plan.offsets[2] += 2), Error::Misplaced { .. }));
    assert!(matches!(refuse(|plan| plan.arena_bytes -= 4), Error::Misplaced { .. }));
    assert!(matches!(refuse(|plan| plan.offsets.truncate(3)), Error::Misplaced { .. }));
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
    let [1, c, h, w] = program.inputs[0].shape[..] else { panic!("an image") };
    let mut raw = vec![0; count * h * w * c];
    rand_chacha::ChaCha8Rng::seed_from_u64(3).fill_bytes(&mut raw);
    let tables = corpus::preprocessing(c);
    let mut own = Vec::new();
    for sample in raw.chunks(h * w * c) {
        for (channel, table) in tables.iter().enumerate() {
            own.extend(sample.iter().skip(channel).step_by(c).flat_map(|&b| table[b as usize].to_le_bytes()));
        }
    }
    let paths = [root.join(format!("{}.u8", program.name)), root.join(format!("{}.f32", program.name))];
    std::fs::write(&paths[0], raw).unwrap();
    std::fs::write(&paths[1], own).unwrap();
    paths
}

/// Samples with what no preprocessing makes: not-a-number, infinities, numbers at the ends of the range.
fn odd_samples(own: &Path, sample: usize) -> PathBuf {
    let mut values = std::fs::read(own).unwrap();
    let odd = [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE / 4.0, -0.0];
    for (number, one) in values.chunks_mut(4 * sample).enumerate() {
        // One odd number, then more and more of them.
        for (at, value) in one.chunks_mut(4).skip(number).step_by((sample >> (2 * number)).max(1)).enumerate() {
            value.copy_from_slice(&odd[(number + at) % odd.len()].to_le_bytes());
        }
    }
    let path = own.with_extension("odd");
    std::fs::write(&path, values).unwrap();
    path
}

/// What a student answers, byte for byte.
fn answers(mut student: Command, arguments: &[&str], input: &Path) -> Vec<u8> {
    let out = input.with_extension("out");
    output(student.arg("run").args(arguments).arg(input).arg(&out));
    std::fs::read(&out).unwrap()
}

/// What the reference interpreter answers, byte for byte.
fn by_reference(program: &Program, own: &Path) -> Vec<u8> {
    let bytes = std::fs::read(own).unwrap();
    let values: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let sample = program.input_len();
    let run = |x: &[f32]| program::reference::run(program, &program::reference::Input::F32(x)).unwrap();
    values.chunks(sample).flat_map(|x| run(x).output_f32()).flat_map(f32::to_le_bytes).collect()
}

#[test]
fn every_kernel_equals_the_reference_and_uses_the_planned_arena() {
    let root = tempfile::tempdir().unwrap();
    for program in [Precision::Int8, Precision::F32].into_iter().flat_map(corpus::every_kernel) {
        let plan = corpus::stacked(&program);
        let student = build(&program, &plan, root.path(), &[]);
        let memory = output(Command::new(&student).arg("arena"));
        assert_eq!(memory.trim(), format!(r#"{{"planned_bytes":{0},"used_bytes":{0}}}"#, plan.arena_bytes));
        let [raw, own] = samples(&program, 5, root.path());
        let from_raw = answers(Command::new(&student), &["--input", "u8"], &raw);
        assert_eq!(from_raw, answers(Command::new(&student), &["--input", "f32"], &own), "{}", program.name);
        let sample = 4 * program.buffer(program.output.buffer).len();
        assert_eq!(from_raw.len(), 5 * sample);
        assert_ne!(from_raw[..sample], from_raw[sample..2 * sample], "samples differ and so do their results");
        assert_eq!(from_raw, by_reference(&program, &own), "{} and the reference", program.name);
        let student = build(&program, &program::plan(&program).unwrap(), root.path(), &[]);
        assert_eq!(from_raw, answers(Command::new(&student), &["--input", "u8"], &raw), "{} in place", program.name);
        let odd = odd_samples(&own, program.input_len());
        let from_odd = by_reference(&program, &odd);
        let float = ["--input", "f32"];
        assert_eq!(from_odd, answers(Command::new(&student), &float, &odd), "{}, odd numbers", program.name);
        if let Some(emulated) = build_aarch64(&root.path().join(&program.name)) {
            let again = || {
                let mut student = Command::new(emulated.get_program());
                student.args(emulated.get_args());
                student
            };
            assert_eq!(from_raw, answers(again(), &["--input", "u8"], &raw), "{} on aarch64", program.name);
            assert_eq!(from_odd, answers(again(), &float, &odd), "{}, odd numbers, on aarch64", program.name);
        }
    }
}

#[test]
fn the_stack_is_what_an_inference_takes() {
    let root = tempfile::tempdir().unwrap();
    let program = corpus::residual_network(Precision::Int8);
    let plan = program::plan(&program).unwrap();
    let used = |student: &mut Command| {
        let answer: serde_json::Value = serde_json::from_str(&output(student.arg("stack"))).unwrap();
        answer["used_bytes"].as_u64().unwrap()
    };
    let student = build(&program, &plan, root.path(), &[]);
    let (plain, again) = (used(&mut Command::new(&student)), used(&mut Command::new(&student)));
    assert_eq!(plain, again);
    assert!((64..8192).contains(&plain), "{plain}");
    // The same network with 5,000 bytes more on the stack.
    let dir = root.path().join(&program.name);
    let source = std::fs::read_to_string(dir.join("src/lib.rs")).unwrap();
    let (run, block) = ("pub fn run(arena: &mut Arena) {", "let block = core::hint::black_box([1u8; 5000]);");
    let heavier = source.replace(run, &format!("{run} {block}")).replacen(
        "}\n\n/// What `run` does",
        "core::hint::black_box(&block); }\n\n/// What `run` does",
        1,
    );
    assert_ne!(source, heavier);
    std::fs::write(dir.join("src/lib.rs"), heavier).unwrap();
    output(&mut cargo(&dir, "runner"));
    let more = used(&mut Command::new(&student)) - plain;
    // Once as a local, and once more where `black_box` takes it by value.
    assert!((5000..10_500).contains(&more), "{more}");
}

#[test]
fn a_transformer_equals_the_reference_and_uses_the_planned_arena() {
    let root = tempfile::tempdir().unwrap();
    let masked = program::tests::masks::masked();
    for (program, samples) in program::tests::sequences::transformers().into_iter().chain(masked) {
        let plan = program::plan(&program).unwrap();
        let own = root.path().join(format!("{}.f32", program.name));
        std::fs::write(&own, samples.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
        let student = build(&program, &plan, root.path(), &[]);
        let memory = output(Command::new(&student).arg("arena"));
        assert_eq!(memory.trim(), format!(r#"{{"planned_bytes":{0},"used_bytes":{0}}}"#, plan.arena_bytes));
        let answered = answers(Command::new(&student), &["--input", "f32"], &own);
        assert_eq!(answered, by_reference(&program, &own), "{} and the reference", program.name);
        let sample = 4 * program.buffer(program.output.buffer).len();
        assert_ne!(answered[..sample], answered[sample..2 * sample], "samples differ and so do their results");
        if let Some(student) = build_aarch64(&root.path().join(&program.name)) {
            assert_eq!(answered, answers(student, &["--input", "f32"], &own), "{} on aarch64", program.name);
        }
    }
}
