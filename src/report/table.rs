//! Plain aligned tables.

use crate::escape;
use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table, presets};

/// How a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// A table with a head, indented by two spaces, columns two spaces apart, no blanks at line ends.
///
/// Every row has as many cells as the head; none is wider than it needs to be. Cells are escaped: whatever a name holds, a
/// row is a line.
pub fn table(head: &[(&str, Align)], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head.iter().map(|(name, _)| *name));
    table.add_rows(
        rows.into_iter().map(|row| row.iter().map(|cell| escape::shown(cell).into_owned()).collect::<Vec<_>>()),
    );
    align(table, &head.iter().map(|(_, align)| *align).collect::<Vec<_>>())
}

/// Names and what belongs to them, without a head.
pub fn list(rows: impl IntoIterator<Item = (String, String)>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.add_rows(rows.into_iter().map(|(name, value)| [name, value].map(|cell| escape::line(&cell).into_owned())));
    align(table, &[Align::Left, Align::Left])
}

fn align(mut table: Table, columns: &[Align]) -> String {
    for (column, align) in table.column_iter_mut().zip(columns) {
        column.set_padding((2, 0)).set_constraint(ColumnConstraint::ContentWidth);
        column.set_cell_alignment(match align {
            Align::Left => CellAlignment::Left,
            Align::Right => CellAlignment::Right,
        });
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let head = [("name", Align::Left), ("µs", Align::Right)];
        let text = table(&head, [vec!["a".into(), "1".into()], vec!["bcdef".into(), "1,234".into()]]);
        assert_eq!(text, "  name      µs\n  a          1\n  bcdef  1,234\n");
        let forged = table(&head, [vec!["a\nb\u{202e}".into(), "\u{1b}[2J".into()]]);
        assert_eq!(forged, format!("  name{}µs\n  a\\nb\\u{{202e}}  \\u{{1b}}[2J\n", " ".repeat(17)));
        assert_eq!(list([("a".into(), "1".into()), ("bcd".into(), "é".into())]), "  a    1\n  bcd  é\n");
    }
}
