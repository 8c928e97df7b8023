//! `report.txt`: aligned tables for people. Its form may change; programs read `report.json`.

use super::Report;
use super::document::{Block, Section, document};
use super::table::{list, table};
use crate::escape::line;

impl Report {
    /// `report.txt`.
    pub fn to_text(&self) -> String {
        document(self).iter().map(section).collect::<Vec<_>>().join("\n")
    }
}

fn section(section: &Section) -> String {
    let origin = section.origin.as_ref().map_or(String::new(), |origin| format!(", {origin}"));
    let head = format!("{}{origin}", section.title);
    format!("{}\n{}", line(&head), section.blocks.iter().map(block).collect::<String>())
}

fn block(block: &Block) -> String {
    match block {
        Block::Table { columns, rows } => {
            let head: Vec<_> = columns.iter().map(|(name, align)| (name.as_str(), *align)).collect();
            table(&head, rows.iter().cloned())
        }
        Block::List(rows) => list(rows.iter().cloned()),
        Block::Line { text, indent } => format!("{:indent$}{}\n", "", line(text)),
        // Pictures are files of their own.
        Block::Svg(_) => String::new(),
    }
}
