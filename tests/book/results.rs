//! The page of results, made of benches/results.json.

use crate::{root, up_to_date};
use serde::Deserialize;
use std::fmt::Write;

/// One table, entered by hand from what the command printed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    title: String,
    /// When the figures were recorded, e.g. 2026-11-25.
    date: String,
    machine: String,
    command: String,
    /// What was measured, and how.
    setup: String,
    /// What has changed in kdc since.
    older: Option<String>,
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
    #[serde(default)]
    remarks: Vec<String>,
}

const INTRODUCTION: &str = "\
# Results

Made from `benches/results.json`. Each table says when its figures were recorded, on which machine, and by which command; \
where kdc has changed since in a way that matters, the table says so in bold. What each distillation method is worth is on the \
page [Distillation methods](methods.md), made from `benches/methods/results.json`.
";

fn page(tables: &[Table]) -> String {
    let mut text = String::from(INTRODUCTION);
    for table in tables {
        assert!(table.rows.iter().all(|row| row.len() == table.columns.len()), "{}: a row is ragged", table.title);
        let Table { title, date, machine, command, setup, .. } = table;
        _ = write!(text, "\n## {title}\n\n{setup}\n\nRecorded {date} on {machine}, by `{command}`.\n\n");
        if let Some(older) = &table.older {
            _ = write!(text, "**Measured with older code.** {older}\n\n");
        }
        _ = writeln!(text, "| {} |\n|{}", table.columns.join(" | "), "---|".repeat(table.columns.len()));
        table.rows.iter().for_each(|row| _ = writeln!(text, "| {} |", row.join(" | ")));
        if !table.remarks.is_empty() {
            text.push('\n');
        }
        table.remarks.iter().for_each(|remark| _ = writeln!(text, "- {remark}"));
    }
    text
}

#[test]
fn the_page_of_results_is_up_to_date() {
    let text = std::fs::read_to_string(root().join("benches/results.json")).unwrap();
    let tables: Vec<Table> = serde_json::from_str(&text).unwrap();
    up_to_date(&[("docs/src/results.md".into(), page(&tables))]);
}
