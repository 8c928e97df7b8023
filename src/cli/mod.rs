//! The command line: one file per verb.
//!
//! Arguments become one plain struct without any effect, the struct goes into a call of the library, and what comes
//! back is printed. Results go to standard output, everything else to standard error.
//!
//! Exit codes: 0 all is well, 1 a budget or tolerance is not met, 2 any error.

mod calibrate;
mod compile;
mod distill;
mod eval;
mod export;
mod inspect;
mod label;
mod methods;
mod progress;
mod targets;
mod training;
mod values;

use crate::escape;
use clap::{CommandFactory, Parser, Subcommand};
use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

/// A budget or tolerance is not met.
const NOT_MET: u8 = 1;
/// Something went wrong.
const FAILED: u8 = 2;

/// An ahead-of-time student compiler: from a trained network (ONNX) to a small, verified program for a board.
#[derive(Debug, Parser)]
#[command(name = "kdc", version, propagate_version = true, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 all is well, 1 a budget or tolerance is not met, 2 any error.")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Compile(Box<compile::Arguments>),
    Distill(Box<distill::Arguments>),
    Label(label::Arguments),
    Methods(methods::Arguments),
    Inspect(inspect::Arguments),
    Eval(eval::Arguments),
    Export(export::Arguments),
    Targets(targets::Arguments),
    Calibrate(calibrate::Arguments),
}

/// The definition of the command line: verbs, arguments and their help.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(refusal) => {
            // Help and version come this way too. Where they cannot be printed, there is nobody to tell.
            let _ = refusal.print();
            return ExitCode::from(u8::try_from(refusal.exit_code()).unwrap_or(FAILED));
        }
    };
    let result = match cli.verb {
        Verb::Compile(arguments) => compile::run(*arguments),
        Verb::Distill(arguments) => distill::run(*arguments),
        Verb::Methods(arguments) => methods::run(&arguments),
        Verb::Label(arguments) => label::run(arguments),
        Verb::Inspect(arguments) => inspect::run(&arguments),
        Verb::Eval(arguments) => eval::run(&arguments),
        Verb::Export(arguments) => export::run(&arguments),
        Verb::Targets(arguments) => targets::run(&arguments),
        Verb::Calibrate(arguments) => calibrate::run(&arguments),
    };
    result.unwrap_or_else(|error| {
        for line in rendered(error.as_ref()).lines() {
            say(line);
        }
        ExitCode::from(FAILED)
    })
}

/// The error and what caused it, each at the start of a line, and what more lines it has set off:
///
/// ```text
/// error: models/x.onnx: not an ONNX file
///   caused by: field 7 ends after the file
/// ```
fn rendered(error: &dyn Error) -> String {
    let mut said = error.to_string();
    let mut text = format!("error: {}\n", escape::message(&said));
    let causes = std::iter::successors(error.source(), |e| (*e).source());
    for cause in causes {
        let line = cause.to_string();
        // A message that has its source in it has said it.
        if !said.contains(&line) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  caused by: {}", escape::message(&line));
            said = line;
        }
    }
    text
}

/// Writes a text to standard output, escaped. A reader that has gone away (`kdc targets | head`) is no error.
fn print(text: &str) -> io::Result<()> {
    print_bytes(escape::block(text).as_bytes())
}

/// Writes JSON to standard output, escaped as JSON is.
fn print_json(json: &str) -> io::Result<()> {
    print_bytes(escape::json(json).as_bytes())
}

fn print_bytes(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Writes a line to standard error, escaped. Where that is closed, there is nobody to tell.
fn say(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", escape::line(line));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{what}")]
    struct Link {
        what: String,
        source: Option<Box<Link>>,
    }

    fn link(what: &str, source: Option<Link>) -> Link {
        Link { what: what.into(), source: source.map(Box::new) }
    }

    #[test]
    fn the_definition_of_the_command_line_holds_together() {
        command().debug_assert();
    }

    #[test]
    fn causes_are_told_once_each() {
        let error = link("a.onnx: cannot be read", Some(link("disk failed", Some(link("no power", None)))));
        assert_eq!(
            rendered(&error),
            "error: a.onnx: cannot be read\n  caused by: disk failed\n  caused by: no power\n"
        );
        let forged = link("a\nerror: b\u{1b}[2J", Some(link("c\n  caused by: d", None)));
        assert_eq!(rendered(&forged), "error: a\n  | error: b\\u{1b}[2J\n  caused by: c\n  |   caused by: d\n");
        let repeats = link("a.onnx: no power; plug it in", Some(link("no power", None)));
        assert_eq!(rendered(&repeats), "error: a.onnx: no power; plug it in\n");
    }
}
