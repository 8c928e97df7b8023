//! Running a built student, or a tool, as a process that may hang.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// Why a student did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{command}`: cannot be started")]
    Start { command: String, source: std::io::Error },
    #[error("`{command}`: {status}{}", said(.stderr))]
    Failed { command: String, status: std::process::ExitStatus, stderr: String },
    #[error("`{command}`: it was ended after {seconds} s without an answer")]
    TooLong { command: String, seconds: u64 },
    #[error("`{command}`: its answer `{answer}` is not the one agreed on; build the student again")]
    Answer { command: String, answer: String, source: serde_json::Error },
    #[error("`{command}`: no runs were timed; ask for one at least")]
    NoRuns { command: String },
    #[error("samples cannot be handed over in files")]
    Files(#[source] std::io::Error),
    #[error("`{command}`: the emulator wrote no count of instructions")]
    NoCount { command: String },
}

fn said(stderr: &str) -> String {
    match stderr.trim() {
        "" => String::new(),
        text => format!(": {text}"),
    }
}

/// The arguments of a student that make it time itself.
pub(super) fn bench_arguments(runs: usize, warmup: usize) -> [String; 5] {
    ["bench".into(), "--runs".into(), runs.to_string(), "--warmup".into(), warmup.to_string()]
}

/// `PREFIX… PROGRAM ARGUMENTS…`
pub(super) fn command(prefix: &[OsString], program: &Path, arguments: &[impl AsRef<OsStr>]) -> Command {
    let words = prefix.iter().map(OsString::as_os_str).chain([program.as_os_str()]);
    let mut words = words.chain(arguments.iter().map(AsRef::as_ref));
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    command
}

/// Longer than any program takes that goes on at all: one that hangs must not keep kdc for ever.
pub(super) const PATIENCE: Duration = Duration::from_secs(3600);
/// The same for a program that only says something about itself, before anything else is asked of it.
pub(super) const SHORT_PATIENCE: Duration = Duration::from_secs(120);

/// Runs a command to its end.
pub(super) fn finish(command: Command) -> Result<Output, Error> {
    finish_within(command, PATIENCE)
}

/// Runs a command to its end, or ends it.
pub(super) fn finish_within(mut command: Command, patience: Duration) -> Result<Output, Error> {
    let shown = shown(&command);
    let start = Instant::now();
    let unstarted = |source| Error::Start { command: shown.clone(), source };
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(unstarted)?;
    let (stdout, stderr) = (read(child.stdout.take()), read(child.stderr.take()));
    let left = || patience.saturating_sub(start.elapsed());
    let said = stdout.recv_timeout(left()).and_then(|out| Ok((out, stderr.recv_timeout(left())?)));
    let Ok((stdout, stderr)) = said else {
        // What it started itself may hold the pipes open: their readers are left to themselves.
        let ended = child.kill().and_then(|()| child.wait());
        ended.map_err(unstarted)?;
        return Err(Error::TooLong { command: shown, seconds: patience.as_secs() });
    };
    // Both ends are closed: it has ended, or does so now.
    let status = child.wait().map_err(unstarted)?;
    match status.success() {
        true => Ok(Output { status, stdout, stderr }),
        false => Err(Error::Failed { command: shown, status, stderr: short(&String::from_utf8_lossy(&stderr)) }),
    }
}

/// Reads a pipe to its end beside other things.
fn read(pipe: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = vec![];
        // What came before a fault is what was said; whether anybody waits for it is theirs to know.
        _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        _ = sender.send(bytes);
    });
    receiver
}

/// A command as one would type it, near enough.
pub(super) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// The first few hundred characters.
pub(super) fn short(text: &str) -> String {
    text.chars().take(600).collect()
}
