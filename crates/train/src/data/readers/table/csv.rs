//! CSV after RFC 4180, quoted cells and other separators included.

use super::{Cell, Rows};
use crate::data::error::{Location, Place};
use crate::data::{Error, TableOptions};
use csv::{ErrorKind, ReaderBuilder, StringRecord};
use kdc_ir::files;
use std::borrow::Cow;
use std::path::Path;

pub(super) fn read(path: &Path, options: &TableOptions, rows: &mut dyn Rows) -> Result<(), Error> {
    let at = |line: u64| Location { path: path.into(), place: Place::Line(line) };
    let file = files::open(path).map_err(|source| Error::Read { path: path.into(), source })?;
    let delimiter = options
        .delimiter
        .map_or(Ok(b','), u8::try_from)
        .map_err(|_| Location::whole(path).error("the delimiter of [table] must be an ASCII character"))?;
    let has_header = options.header.unwrap_or(true);
    let mut reader = ReaderBuilder::new().delimiter(delimiter).has_headers(false).from_reader(file);
    let mut record = StringRecord::new();
    let mut line = 1;
    let mut columns = None;
    loop {
        match reader.read_record(&mut record) {
            Ok(true) => (),
            Ok(false) => break,
            Err(e) => return Err(fault(path, e, line)),
        }
        line = record.position().map_or(line, csv::Position::line);
        if columns.is_none() {
            let names: Vec<String> = match has_header {
                true => record.iter().map(|name| name.trim().to_string()).collect(),
                false => (0..record.len()).map(|i| i.to_string()).collect(),
            };
            rows.columns(&names, at(line))?;
            columns = Some(names.len());
            if has_header {
                continue;
            }
        }
        let cells: Vec<Cell> = record.iter().map(|cell| Cell::Text(Cow::Borrowed(cell))).collect();
        rows.row(&cells, &|| at(line))?;
    }
    match columns {
        Some(_) => Ok(()),
        None => Err(Location::whole(path).error("the file is empty")),
    }
}

fn fault(path: &Path, error: csv::Error, after: u64) -> Error {
    let at = |position: Option<&csv::Position>| {
        let line = position.map_or(after, csv::Position::line);
        Location { path: path.into(), place: Place::Line(line) }
    };
    match error.kind() {
        ErrorKind::UnequalLengths { pos, expected_len, len } => at(pos.as_ref()).error(format!(
            "this row has {len} cells, the rows before it have {expected_len}; is a separator missing or a quote open?"
        )),
        ErrorKind::Utf8 { pos, .. } => at(pos.as_ref()).error("it is not UTF-8; convert the file"),
        ErrorKind::Io(_) => match error.into_kind() {
            ErrorKind::Io(source) => Error::Read { path: path.into(), source },
            other => at(None).error(format!("{other:?}")),
        },
        _ => at(error.position()).error(error.to_string()),
    }
}
