//! The command line of a built student, as typed calls.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::emulator::Emulator;
use super::process::{Error, PATIENCE, SHORT_PATIENCE, bench_arguments, command, finish, finish_within, short, shown};
use crate::program::Precision;

/// A linked student and what starts it.
#[derive(Clone, Debug)]
pub struct Student {
    program: PathBuf,
    /// An emulator and its arguments; empty when the program runs directly.
    prefix: Vec<OsString>,
}

/// What samples are given as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The teacher's own input, normalised, in its layout; little-endian.
    F32,
    /// Raw bytes, NHWC.
    U8,
    /// What the program stores, NHWC.
    I8,
}

impl Input {
    fn name(self) -> &'static str {
        match self {
            Input::F32 => "f32",
            Input::U8 => "u8",
            Input::I8 => "i8",
        }
    }
}

/// What a student says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Info {
    pub name: String,
    pub precision: Precision,
    /// In the network's order.
    pub inputs: Vec<PortInfo>,
    pub output: PortInfo,
    pub arena_bytes: u64,
    pub weights_bytes: u64,
    /// Whether it takes raw bytes.
    pub raw_input: bool,
}

/// One end of a student.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PortInfo {
    pub name: String,
    /// The network's own, with batch 1.
    pub shape: Vec<usize>,
    pub dtype: String,
    /// As the program holds it.
    pub stored_shape: Vec<usize>,
    pub stored_dtype: String,
    /// `real = scale · (stored − zero_point)`, in `int8` programs.
    pub scale: Option<f32>,
    pub zero_point: Option<i8>,
}

/// Times of single inferences, in the order they ran.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Runs {
    pub nanoseconds: Vec<u64>,
    /// The largest resident set of the whole program, where the system says it.
    pub peak_rss_bytes: Option<u64>,
}

/// Times of the parts of inferences, each by itself, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parts {
    /// Taking in a sample.
    pub input: Vec<u64>,
    /// Giving out the result.
    pub output: Vec<u64>,
    pub steps: Vec<StepRuns>,
}

/// Times of single calls of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRuns {
    /// The step's position in the program.
    pub step: usize,
    pub nanoseconds: Vec<u64>,
}

/// The arena as planned and as used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arena {
    pub planned_bytes: u64,
    /// One more than the highest byte that an inference writes.
    pub used_bytes: u64,
}

/// The stack as used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// Bytes between where an inference begins and the deepest byte that it writes.
    pub used_bytes: u64,
}

impl Student {
    /// A program for this machine.
    pub fn direct(program: impl Into<PathBuf>) -> Student {
        Student { program: program.into(), prefix: Vec::new() }
    }

    /// A program for another machine, run by an emulator.
    pub fn emulated(program: impl Into<PathBuf>, emulator: &Emulator) -> Student {
        Student { program: program.into(), prefix: emulator.command() }
    }

    /// The linked program.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// What it says about itself.
    ///
    /// # Errors
    /// When it cannot be started, fails, or answers something else.
    pub fn info(&self) -> Result<Info, Error> {
        self.ask_within(&["info"], SHORT_PATIENCE)
    }

    /// How much of the arena an inference uses.
    ///
    /// # Errors
    /// As [`Student::info`].
    pub fn arena(&self) -> Result<Arena, Error> {
        self.ask(&["arena"])
    }

    /// How much of the stack an inference uses.
    ///
    /// # Errors
    /// As [`Student::info`].
    pub fn stack(&self) -> Result<Stack, Error> {
        self.ask(&["stack"])
    }

    /// Times `runs` inferences after `warmup` untimed ones.
    ///
    /// # Errors
    /// As [`Student::info`], and when nothing was timed.
    pub fn bench(&self, runs: usize, warmup: usize) -> Result<Runs, Error> {
        let arguments = bench_arguments(runs, warmup);
        let answer: Runs = self.ask(&arguments)?;
        if answer.nanoseconds.is_empty() {
            return Err(Error::NoRuns { command: shown(&self.command(&arguments)) });
        }
        Ok(answer)
    }

    /// Times `runs` calls of each step by itself after `warmup` untimed ones.
    ///
    /// # Errors
    /// As [`Student::info`].
    pub fn steps(&self, runs: usize, warmup: usize) -> Result<Parts, Error> {
        self.ask(&["steps", "--runs", &runs.to_string(), "--warmup", &warmup.to_string()])
    }

    /// Runs samples, given back to back, and returns their outputs, back to back: `f32` in the teacher's layout,
    /// little-endian, or with `stored` the bytes that the program stores.
    ///
    /// # Errors
    /// As [`Student::info`], and when samples cannot be handed over in temporary files.
    pub fn run(&self, input: Input, samples: &[u8], stored: bool) -> Result<Vec<u8>, Error> {
        let folder = tempfile::tempdir().map_err(Error::Files)?;
        let (given, taken) = (folder.path().join("in"), folder.path().join("out"));
        std::fs::write(&given, samples).map_err(Error::Files)?;
        let mut arguments: Vec<&OsStr> = ["run", "--input", input.name()].map(OsStr::new).to_vec();
        if stored {
            arguments.push("--stored".as_ref());
        }
        arguments.extend([given.as_os_str(), taken.as_os_str()]);
        finish(self.command(&arguments))?;
        std::fs::read(&taken).map_err(Error::Files)
    }

    /// As [`Student::run`], for `f32` samples and outputs.
    ///
    /// # Errors
    /// As [`Student::run`].
    pub fn run_f32(&self, samples: &[f32]) -> Result<Vec<f32>, Error> {
        let bytes: Vec<u8> = samples.iter().flat_map(|x| x.to_le_bytes()).collect();
        let outputs = self.run(Input::F32, &bytes, false)?;
        Ok(outputs.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    fn command(&self, arguments: &[impl AsRef<OsStr>]) -> Command {
        command(&self.prefix, &self.program, arguments)
    }

    fn ask<T: DeserializeOwned>(&self, arguments: &[impl AsRef<OsStr>]) -> Result<T, Error> {
        self.ask_within(arguments, PATIENCE)
    }

    fn ask_within<T: DeserializeOwned>(&self, arguments: &[impl AsRef<OsStr>], patience: Duration) -> Result<T, Error> {
        let command = self.command(arguments);
        let shown = shown(&command);
        let answer = String::from_utf8_lossy(&finish_within(command, patience)?.stdout).trim().to_owned();
        serde_json::from_str(&answer).map_err(|source| Error::Answer { command: shown, answer: short(&answer), source })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::time::Instant;

    /// A student whose answers are a shell script.
    pub fn scripted(folder: &Path, script: &str) -> Student {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.join("student");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        // started by the shell: a file that was just written may still be open in another test's child
        Student { program: path, prefix: vec!["/bin/sh".into()] }
    }

    #[test]
    fn answers_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let script = r#"case "$1" in
            info) echo '{"name":"s","precision":"int8","inputs":[{"name":"x","shape":[1,1,28,28],"dtype":"f32","stored_shape":[28,28,1],
                "stored_dtype":"i8","scale":0.5,"zero_point":-3}],"output":{"name":"y","shape":[1,10],"dtype":"f32",
                "stored_shape":[10],"stored_dtype":"i8"},"arena_bytes":4096,"weights_bytes":100,"raw_input":true}';;
            arena) echo '{"planned_bytes":64,"used_bytes":64}';;
            bench) echo "{\"nanoseconds\":[$3,$5],\"peak_rss_bytes\":7}";;
            run) test "$2 $3" = "--input f32" && cat "$4" "$4" > "$5";;
            esac"#;
        let student = scripted(folder.path(), script);
        let info = student.info().unwrap();
        assert_eq!((info.precision, info.inputs[0].stored_shape.as_slice()), (Precision::Int8, &[28, 28, 1][..]));
        assert_eq!((info.inputs[0].zero_point, info.output.zero_point), (Some(-3), None));
        assert_eq!(student.arena().unwrap(), Arena { planned_bytes: 64, used_bytes: 64 });
        assert_eq!(student.bench(20, 3).unwrap().nanoseconds, [20, 3]);
        assert_eq!(student.run_f32(&[1.5, -2.0]).unwrap(), [1.5, -2.0, 1.5, -2.0]);
        assert!(matches!(student.run(Input::U8, &[1], false), Err(Error::Failed { .. })));
    }

    #[test]
    fn failures_say_what_ran_and_what_it_said() {
        let folder = tempfile::tempdir().unwrap();
        let failing = scripted(folder.path(), "echo no such luck >&2; exit 3");
        let message = failing.info().unwrap_err().to_string();
        assert!(message.contains("student info`") && message.contains("no such luck"), "{message}");
        assert!(matches!(scripted(folder.path(), "echo hello").arena(), Err(Error::Answer { .. })));
        let idle = scripted(folder.path(), r#"echo '{"nanoseconds":[],"peak_rss_bytes":null}'"#);
        assert!(matches!(idle.bench(0, 0), Err(Error::NoRuns { .. })));
        let hanging = scripted(folder.path(), "echo half; sleep 60 & wait");
        let start = Instant::now();
        let ended = finish_within(hanging.command(&["info"]), Duration::from_millis(200));
        assert!(matches!(ended, Err(Error::TooLong { .. })) && start.elapsed() < Duration::from_secs(20), "{ended:?}");
        let absent = Student::direct(folder.path().join("none"));
        assert!(matches!(absent.info(), Err(Error::Start { .. })));
    }
}
