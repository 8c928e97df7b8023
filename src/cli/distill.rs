//! `kdc distill`: the student alone.

use super::compile::StudentArguments;
use super::progress::Terminal;
use super::training::TrainingArguments;
use super::values;
use crate::escape::line;
use crate::pipeline::{self, Distilled, Options};
use crate::report::{Align, count, table};
use crate::student::Budgets;
use clap::Args;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// Distill a student of MODEL by a recipe, and judge it, without making a program
///
/// Reads MODEL and, beside it, its sidecar, and writes student.onnx, recipe.toml, the curves of training and
/// distilled.json into ./NAME-student/. `kdc methods` lists methods and presets.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  kdc distill teacher.onnx --recipe few-labels --baseline
  kdc distill teacher.onnx --recipe transfer --sidecar other-task.toml
  kdc distill teacher.onnx --student student.onnx --recipe recipe.toml --epochs 40")]
pub struct Arguments {
    /// The teacher, an ONNX file
    model: PathBuf,

    /// Extents of an input that the file leaves open, e.g. tokens=1x24; the first is the batch. Repeatable
    #[arg(long = "input", value_name = "NAME=SHAPE", value_parser = values::input)]
    inputs: Vec<(String, Vec<usize>)>,

    /// The one of its outputs that is meant, where it has several [default: the one that the sidecar names]
    #[arg(long, value_name = "NAME")]
    output: Option<String>,

    /// File or folder with the samples [default: where the model's sidecar says]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// What the samples are, e.g. those of another task [default: the TOML file beside MODEL]
    #[arg(long, value_name = "FILE")]
    sidecar: Option<PathBuf>,

    /// Folder for the results [default: ./NAME-student]
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// The board that bounds the student; `kdc targets` lists them
    #[arg(short, long, value_name = "NAME", default_value = "host")]
    target: String,

    /// Multiply-accumulates of an inference, e.g. 5.6M [default: 1/8 of the teacher's]
    #[arg(long, value_name = "COUNT", value_parser = values::count)]
    max_macs: Option<u64>,

    /// Parameters, e.g. 48k [default: 1/8 of the teacher's]
    #[arg(long, value_name = "COUNT", value_parser = values::count)]
    max_params: Option<u64>,

    /// Train the same student on labels alone too, and say which share of the gap to the teacher is closed
    #[arg(long)]
    baseline: bool,

    /// Make everything again, whatever the cache holds
    #[arg(long)]
    force: bool,

    /// Decides everything random; the same seed gives the same bytes
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Print the result as JSON, and nothing else, on standard output
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    student: StudentArguments,

    #[command(flatten)]
    training: TrainingArguments,
}

/// Distills, and prints what came of it.
pub fn run(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let training = arguments.training;
    let options = Options {
        inputs: arguments.inputs.into_iter().collect(),
        output: arguments.output,
        data: arguments.data,
        sidecar: arguments.sidecar,
        out: arguments.out,
        read: training.files(),
        force: arguments.force,
        seed: arguments.seed,
        budgets: Budgets { macs: arguments.max_macs, params: arguments.max_params, ..Budgets::default() },
        engine: training.engine.into(),
        labels: training.labels.clone(),
        device: training.device,
        derivation: arguments.student.derivation(),
        training: training.training()?,
        ..Options::new(arguments.model, arguments.target)
    };
    let progress = Terminal::new();
    let distilled = pipeline::distill(options, arguments.baseline, &progress)?;
    drop(progress);
    match arguments.json {
        true => super::print_json(&(serde_json::to_string_pretty(&distilled)? + "\n"))?,
        false => super::print(&shown(&distilled))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn percent(share: f64) -> String {
    format!("{:.2}%", 100.0 * share)
}

fn shown(d: &Distilled) -> String {
    let mut text = format!(
        "{} by {}\nstudent: {}\n{} epochs in {:.1} s (measured); files in {}\n\nOn {} test samples, measured\n",
        line(&d.model),
        line(&d.recipe),
        line(&d.student),
        d.epochs,
        d.seconds,
        line(&d.out.display().to_string()),
        count(d.samples as f64)
    );
    let share = |share: Option<f64>| share.map_or_else(|| "-".into(), percent);
    // Networks that answer with numbers are judged by those alone.
    let numbers = d.distilled.explained_variance.is_some();
    let row = |name: &str, j: &pipeline::Judged| match numbers {
        true => vec![name.into(), share(j.explained_variance)],
        false => vec![name.into(), share(j.accuracy), share(j.calibration_error)],
    };
    let rows = [d.teacher.as_ref().map(|t| row("teacher", t)), d.baseline.as_ref().map(|b| row("labels only", b))];
    let rows = rows.into_iter().flatten().chain([row("distilled", &d.distilled)]);
    let head: &[(&str, Align)] = match numbers {
        true => &[("", Align::Left), ("explained variance", Align::Right)],
        false => &[("", Align::Left), ("accuracy", Align::Right), ("calibration error", Align::Right)],
    };
    text += &table(head, rows);
    if let Some(agreement) = d.agreement {
        text += &format!("\nagreement with the teacher: {}\n", percent(agreement));
    }
    if let Some(gap) = d.gap_closed {
        text += &format!("share of the gap between labels only and teacher that is closed: {:.0}%\n", 100.0 * gap);
    }
    if d.classes.is_empty() {
        return text;
    }
    text += "\nFound of each class\n";
    let mut head = vec![("class", Align::Left), ("teacher", Align::Right), ("distilled", Align::Right)];
    if d.baseline.is_some() {
        head.extend([("labels only", Align::Right), ("gain", Align::Right)]);
    }
    let rows = d.classes.iter().map(|c| {
        let mut cells = vec![c.name.clone(), c.teacher.map_or_else(|| "-".into(), percent), percent(c.student)];
        if let Some(baseline) = c.baseline {
            cells.extend([percent(baseline), format!("{:+.2}", 100.0 * (c.student - baseline))]);
        }
        cells
    });
    text + &table(&head, rows)
}
