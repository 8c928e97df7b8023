//! `kdc eval`: how right a model is.

use crate::escape::line;
use crate::pipeline::{self, Evaluation, SampleSource};
use crate::report::{Align, count, table};
use clap::Args;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// Disagreements that are listed; JSON has them all.
const LISTED: usize = 20;

/// Measure a model on test samples: accuracy, results by class, confusion, disagreement with another model
#[derive(Debug, Args)]
pub struct Arguments {
    /// An ONNX file with a sidecar beside it
    model: PathBuf,

    /// The one of its outputs that is meant, where it has several [default: the one that the sidecar names]
    #[arg(long, value_name = "NAME")]
    output: Option<String>,

    /// Another model for the same samples, to compare with
    #[arg(long, value_name = "MODEL")]
    against: Option<PathBuf>,

    /// What the samples are, e.g. the teacher's for its student [default: the TOML file beside MODEL]
    #[arg(long, value_name = "FILE")]
    sidecar: Option<PathBuf>,

    /// File or folder with the samples [default: where the model's sidecar says]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Evaluates and prints.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let samples = SampleSource { sidecar: arguments.sidecar.as_deref(), data: arguments.data.as_deref() };
    let (output, against) = (arguments.output.as_deref(), arguments.against.as_deref());
    let evaluation = pipeline::evaluate(&arguments.model, output, against, &samples)?;
    match arguments.json {
        true => super::print_json(&(serde_json::to_string_pretty(&evaluation)? + "\n"))?,
        false => super::print(&shown(&evaluation))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn percent(share: f64) -> String {
    format!("{:.2}%", 100.0 * share)
}

fn accuracy(share: Option<f64>) -> String {
    share.map_or_else(|| "no accuracy (no test sample has a label)".into(), percent)
}

/// Lines of what to know and what to look into, if there is something.
pub fn notes(notes: &[String], doubt: Option<&str>) -> String {
    notes.iter().map(String::as_str).chain(doubt).map(|note| format!("note: {}\n", line(note))).collect()
}

fn shown(evaluation: &Evaluation) -> String {
    if evaluation.classes.is_empty() {
        let of = |share: Option<f64>| share.map_or_else(|| "nothing that varies".into(), percent);
        let mut text = format!(
            "{}: {} {} on {} test samples, measured by {}\n",
            line(&evaluation.model),
            of(evaluation.accuracy),
            evaluation.judged_by,
            count(evaluation.samples as f64),
            evaluation.engine
        );
        if let Some(other) = &evaluation.other {
            text += &format!("{}: {}\n", line(&other.model), of(other.accuracy));
        }
        return text + &notes(&evaluation.notes, None);
    }
    let mut text = format!(
        "{}: {} of {} test samples, measured by {}\n{}\n",
        line(&evaluation.model),
        accuracy(evaluation.accuracy),
        count(evaluation.samples as f64),
        evaluation.engine,
        notes(&evaluation.notes, evaluation.doubt.as_deref())
    );
    let head = [
        ("class", Align::Left),
        ("samples", Align::Right),
        ("found (recall)", Align::Right),
        ("right (precision)", Align::Right),
    ];
    let rows = evaluation
        .classes
        .iter()
        .map(|c| vec![c.name.clone(), count(c.samples as f64), percent(c.recall), percent(c.precision)]);
    text += &table(&head, rows);
    text += "\nConfusion: rows are labels, columns what the model says\n";
    let numbers: Vec<String> = (0..evaluation.classes.len()).map(|i| i.to_string()).collect();
    let mut head = vec![("label", Align::Left), ("", Align::Left)];
    head.extend(numbers.iter().map(|n| (n.as_str(), Align::Right)));
    let rows = evaluation.confusion.iter().enumerate().map(|(i, row)| {
        let mut cells = vec![i.to_string(), evaluation.classes[i].name.clone()];
        cells.extend(row.iter().map(|&n| if n == 0 { "·".into() } else { n.to_string() }));
        cells
    });
    text += &table(&head, rows);
    if let Some(other) = &evaluation.other {
        text += &format!(
            "\n{}: {}; the two disagree on {} samples{}\n",
            line(&other.model),
            accuracy(other.accuracy),
            count(other.disagreements.len() as f64),
            if other.disagreements.len() > LISTED { format!(", of which the first {LISTED}") } else { String::new() }
        );
        let name = |class: u16| evaluation.classes.get(usize::from(class)).map_or(String::new(), |c| c.name.clone());
        let head = [("sample", Align::Right), ("label", Align::Left), ("first", Align::Left), ("second", Align::Left)];
        let rows = other.disagreements.iter().take(LISTED);
        let cells = |&(i, label, a, b): &(usize, Option<u16>, u16, u16)| {
            vec![i.to_string(), label.map_or_else(String::new, name), name(a), name(b)]
        };
        text += &table(&head, rows.map(cells));
    }
    text
}
