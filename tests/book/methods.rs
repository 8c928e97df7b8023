//! The page of methods and one for each of them, made from the list of methods and from measured results.

use crate::{root, up_to_date};
use kdc::distill::{Entry, Family, METHODS, presets::PRESETS};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What benches/methods/rows.py writes.
#[derive(Deserialize)]
struct Set {
    /// When its rows were recorded; a note says which are older.
    date: String,
    /// `None` where its classes are others.
    teacher: Option<f64>,
    labels_only: f64,
    deviation: f64,
    seeds: usize,
    /// What has changed since.
    note: Option<String>,
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    name: String,
    accuracy: Option<f64>,
    deviation: Option<f64>,
    closed: Option<f64>,
    closed_deviation: Option<f64>,
    calibration_error: Option<f64>,
    /// Of training, on whatever else the machine did.
    seconds: Option<f64>,
    /// Where they are not the set's.
    seeds: Option<usize>,
    error: Option<String>,
}

fn title(set: &str) -> &str {
    match set {
        "mnist1d" => "MNIST-1D, 4,000 signals, a convolutional network of 1,606 parameters",
        "mnist1d-ten" => "MNIST-1D, the network of 1,606 parameters, ten seeds",
        "mnist1d-paper" => "MNIST-1D, the convolutional network of its paper, 5,210 parameters",
        "mnist1d-long" => "MNIST-1D, four times as long",
        "mnist1d-views" => "MNIST-1D, four times as long, with 16 augmented views of each signal",
        "fashion" => "Fashion-MNIST, all labels, a student of 300,000 multiply-accumulates",
        "fashion-few" => "Fashion-MNIST, 1,000 labels and 59,000 samples without",
        "data-free" => {
            "Fashion-MNIST without one image, by a teacher with its batch normalisations; labels only: of 6,000 images"
        }
        "transfer" => "Digits of MNIST with 500 labels, by a teacher of Fashion-MNIST",
        "cifar10" => "CIFAR-10, 10,000 images, ResNet-56 and a student of an eighth of its multiply-accumulates",
        "quartznet" => "Spoken digits by a QuartzNet-like network of 3,011 parameters; labels only: by ctc",
        "las" => "Spoken digits by a Listen-Attend-Spell-like network",
        "bert" => {
            "Spam by a BERT-like network of an eighth of its teacher's parameters, with the labels of 300 messages"
        }
        "language" => "Hidden tokens of e-mails by a masked language model; labels only: by masked-lm",
        "autoencoder" => "Sounds by an autoencoder; in place of accuracy, the share of the variance explained",
        other => other,
    }
}

/// What measures it.
fn script(set: &str) -> String {
    match set {
        "quartznet" | "las" => "applications/speech.py OUT run KDC".into(),
        "bert" => "applications/text.py OUT KDC".into(),
        "language" | "autoencoder" => format!("applications/{set}.py OUT run KDC"),
        _ => format!("methods/table.py KDC {set}"),
    }
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "?".into(), |s| format!("{:.2}", 100.0 * s))
}

fn head(set: &str, results: &Set) -> String {
    format!(
        "{}: {}, labels only {} ± {}%; {}, measured by `benches/{}`, recorded {}.{}\n\n\
         | | accuracy in % | share of the gap closed in % | calibration error in % | seconds |\n\
         | --- | ---: | ---: | ---: | ---: |\n",
        title(set),
        results
            .teacher
            .map_or_else(|| "a teacher of other classes".into(), |t| format!("teacher {}%", percent(Some(t)))),
        percent(Some(results.labels_only)),
        percent(Some(results.deviation)),
        seeds(results.seeds),
        script(set),
        results.date,
        results.note.as_ref().map_or_else(String::new, |note| format!(" {note}"))
    )
}

fn seeds(count: usize) -> String {
    if count == 1 { "one seed".into() } else { format!("{count} seeds") }
}

/// `of`: the set's seeds.
fn line(row: &Row, of: usize) -> String {
    if let Some(error) = &row.error {
        return format!("| {} | refused: {error} | | | |\n", row.name);
    }
    let closed = match (row.closed, row.closed_deviation) {
        (Some(share), Some(deviation)) => format!("{:.0} ± {:.0}", 100.0 * share, 100.0 * deviation),
        _ => "-".into(),
    };
    let (accuracy, deviation) = (percent(row.accuracy), percent(row.deviation));
    let seconds = row.seconds.map_or_else(|| "?".into(), |s| format!("{s:.1}"));
    let calibration = row.calibration_error.map_or_else(|| "-".into(), |e| percent(Some(e)));
    let fewer = row.seeds.filter(|&n| n != of).map_or_else(String::new, |n| format!(" ({})", seeds(n)));
    format!("| {}{fewer} | {accuracy} ± {deviation} | {closed} | {calibration} | {seconds} |\n", row.name)
}

fn page(entry: &Entry, results: &BTreeMap<String, Set>) -> String {
    let mut page = format!(
        "# {}\n\n{}.\n\n```text\n{}\n```\n\nSource: {}.\n\nWhen: {}.\n\n## Measured\n\n",
        entry.name, entry.summary, entry.formula, entry.source, entry.when
    );
    let mut measured = false;
    for (set, results) in results {
        // A row is of a method when its name has the method's in it as a word.
        let of =
            |row: &&Row| row.name.split(|c: char| !(c.is_alphanumeric() || c == '-')).any(|word| word == entry.name);
        let rows: String = results.rows.iter().filter(of).map(|row| line(row, results.seeds)).collect();
        if !rows.is_empty() {
            page += &format!("{}{rows}\n", head(set, results));
            measured = true;
        }
    }
    if !measured {
        page += "Not measured: no benchmark has what it needs.\n\n";
    }
    page + &format!(
        "## A recipe that runs\n\n`kdc methods {}` prints it; `--recipe FILE` takes it.\n\n```toml\n{}```\n",
        entry.name,
        entry.recipe()
    )
}

fn index(results: &BTreeMap<String, Set>) -> String {
    let mut text = String::from(
        "# Distillation methods\n\nEvery method composes in a recipe with any teacher and student that kdc can read; \
         see [Writing a recipe](recipes.md#writing-a-recipe) for the format. These pages are made from the code and from \
         `benches/methods/results.json`. Accuracies and seconds are measured, on two cores of an AMD EPYC (AVX-512) shared \
         with other work; rows that lost are listed as they are.\n",
    );
    for family in [Family::Instance, Family::Feature, Family::Model] {
        _ = writeln!(text, "\n## {}\n", family.title());
        for entry in METHODS.iter().filter(|m| m.family == family) {
            _ = writeln!(text, "- [{}](methods/{}.md): {}", entry.name, entry.name, entry.summary);
        }
    }
    text += "\n## Presets\n\n";
    PRESETS.iter().for_each(|p| _ = writeln!(text, "- `--recipe {}`: {}", p.name, p.summary));
    for (set, results) in results {
        let mut rows: Vec<&Row> = results.rows.iter().collect();
        rows.sort_by(|a, b| b.accuracy.unwrap_or(-1.0).total_cmp(&a.accuracy.unwrap_or(-1.0)));
        let rows: String = rows.into_iter().map(|row| line(row, results.seeds)).collect();
        _ = write!(text, "\n## {}\n\n{}{rows}", title(set), head(set, results));
    }
    text
}

/// The table of contents, with a line for the page of each method.
fn summary(text: &str) -> String {
    let line = |entry: &Entry| format!("  - [{}](methods/{}.md)\n", entry.name, entry.name);
    let mut summary = String::new();
    for kept in text.lines().filter(|line| !line.contains("](methods/")) {
        summary += &format!("{kept}\n");
        if kept.contains("](methods.md)") {
            summary.extend(METHODS.iter().map(line));
        }
    }
    summary
}

#[test]
fn the_pages_of_the_methods_are_up_to_date() {
    let results = std::fs::read_to_string(root().join("benches/methods/results.json")).unwrap();
    let results: BTreeMap<String, Set> = serde_json::from_str(&results).unwrap();
    let contents = std::fs::read_to_string(root().join("docs/src/SUMMARY.md")).unwrap();
    let mut pages =
        vec![("docs/src/methods.md".into(), index(&results)), ("docs/src/SUMMARY.md".into(), summary(&contents))];
    pages.extend(METHODS.iter().map(|entry| (format!("docs/src/methods/{}.md", entry.name), page(entry, &results))));
    up_to_date(&pages);
    for file in std::fs::read_dir(root().join("docs/src/methods")).unwrap() {
        let path = format!("docs/src/methods/{}", file.unwrap().file_name().to_string_lossy());
        assert!(pages.iter().any(|(page, _)| *page == path), "{path} is the page of no method");
    }
}
