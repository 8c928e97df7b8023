//! From a teacher to a report, with a line for each stage as it ends.
//!
//!     cargo run --release --example compile -- models/fashion/teacher.onnx raspberry-pi

use kdc::pipeline::{self, Options, Outcome, Progress};
use std::error::Error;
use std::process::ExitCode;

/// Prints the end of each stage.
struct Lines;

impl Progress for Lines {
    fn start(&self, _: &str) {}
    fn position(&self, _: u64, _: u64, _: &str) {}
    fn note(&self, line: &str) {
        eprintln!("  {line}");
    }
    fn finish(&self, stage: &str, outcome: Outcome) {
        eprintln!("{stage}: {outcome:?}");
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().ok_or("usage: compile MODEL [TARGET]")?;
    let board = arguments.next().unwrap_or("host".into());

    let mut options = Options::new(model, board);
    options.budgets.macs = Some(1_000_000);
    options.budgets.flash_bytes = Some(256 * 1024);
    options.training.epochs = Some(2);

    let report = pipeline::compile(options, &Lines)?;
    print!("{}", report.to_text());
    for breach in report.breaches() {
        eprintln!("not met: {breach}");
    }
    Ok(if report.is_met() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}
