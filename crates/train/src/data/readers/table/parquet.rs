//! Apache Parquet (<https://parquet.apache.org/docs/file-format/>): plain columns of numbers, truth values and texts;
//! uncompressed, Snappy or Zstandard.

use super::{Cell, Rows, pages};
use crate::data::Error;
use crate::data::error::{Location, Place};
use crate::data::readers::expands;
use kdc_ir::files;
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use std::borrow::Cow;
use std::fs::File;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;

pub(super) fn read(path: &Path, rows: &mut dyn Rows) -> Result<(), Error> {
    // The crate has some `expect`s that damaged pages break; what was read until then is thrown away.
    let result = panic::catch_unwind(AssertUnwindSafe(|| read_unguarded(path, rows)));
    result.unwrap_or_else(|_| Err(Location::whole(path).error("it cannot be read as Parquet: a page is damaged")))
}

fn read_unguarded(path: &Path, rows: &mut dyn Rows) -> Result<(), Error> {
    let whole = || Location::whole(path);
    let file = files::open(path).map_err(|source| Error::Read { path: path.into(), source })?;
    let unusable = |e: &dyn std::fmt::Display| format!("it cannot be read as Parquet: {e}");
    let length = file.metadata().map_err(|source| Error::Read { path: path.into(), source })?.len();
    let pages = file.try_clone().map_err(|source| Error::Read { path: path.into(), source })?;
    let reader = SerializedFileReader::new(file).map_err(|e| whole().error(unusable(&e)))?;
    let most_rows = check(reader.metadata(), &pages, length).map_err(|what| whole().error(unusable(&what)))?;
    let schema = reader.metadata().file_metadata().schema();
    let names: Vec<String> = schema.get_fields().iter().map(|field| field.name().to_string()).collect();
    rows.columns(&names, whole())?;
    let iterator = reader.get_row_iter(None).map_err(|e| whole().error(unusable(&e)))?;
    for (index, row) in iterator.enumerate() {
        let at = || Location { path: path.into(), place: Place::Row(index as u64 + 1) };
        let row = row.map_err(|e| at().error(unusable(&e)))?;
        if index as u64 >= most_rows {
            return Err(at().error(format!("more rows than the {most_rows} that a file of {length} bytes may have")));
        }
        let cells = row.get_column_iter().map(|(name, field)| {
            cell(field).ok_or_else(|| at().error(format!("column \"{name}\" is nested or of a type that is not read")))
        });
        let cells = cells.collect::<Result<Vec<Cell>, Error>>()?;
        rows.row(&cells, &at)?;
    }
    Ok(())
}

/// Rows that any file may have, however few bytes equal values take.
const ROWS: u64 = 1 << 18;

/// Whether all columns lie inside the file, which the reader takes for granted, and do not expand to more than data do.
/// How many rows there may be.
fn check(metadata: &ParquetMetaData, file: &File, length: u64) -> Result<u64, String> {
    let mut expanded = 0u64;
    for column in metadata.row_groups().iter().flat_map(RowGroupMetaData::columns) {
        let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
        let end = start.checked_add(column.compressed_size());
        let inside = start >= 0 && column.compressed_size() >= 0 && column.data_page_offset() >= 0;
        if !inside || end.and_then(|end| u64::try_from(end).ok()).is_none_or(|end| end > length) {
            return Err(format!("column \"{}\" lies outside of the file", column.column_path()));
        }
        let pages = pages::expanded(file, start as u64, column.compressed_size() as u64)
            .map_err(|what| format!("column \"{}\": {what}", column.column_path()))?;
        expanded = expanded.saturating_add(pages);
    }
    expands(length, expanded)?;
    Ok(ROWS.max(length.saturating_mul(100)))
}

fn cell(field: &Field) -> Option<Cell<'_>> {
    Some(match field {
        Field::Null => Cell::Missing,
        Field::Bool(truth) => Cell::Whole((*truth).into()),
        Field::Byte(x) => Cell::Whole((*x).into()),
        Field::Short(x) => Cell::Whole((*x).into()),
        Field::Int(x) => Cell::Whole((*x).into()),
        Field::Long(x) => Cell::Whole((*x).into()),
        Field::UByte(x) => Cell::Whole((*x).into()),
        Field::UShort(x) => Cell::Whole((*x).into()),
        Field::UInt(x) => Cell::Whole((*x).into()),
        Field::ULong(x) => Cell::Whole((*x).into()),
        Field::Float16(x) => Cell::Number(x.to_f64()),
        Field::Float(x) => Cell::Number((*x).into()),
        Field::Double(x) => Cell::Number(*x),
        Field::Str(text) => Cell::Text(Cow::Borrowed(text)),
        Field::Bytes(bytes) => Cell::Text(Cow::Borrowed(std::str::from_utf8(bytes.data()).ok()?)),
        _ => return None,
    })
}
