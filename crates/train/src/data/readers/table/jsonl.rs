//! JSON lines: one object a line, whose keys are the columns.

use super::{Cell, Rows};
use crate::data::Error;
use crate::data::error::{Location, Place};
use kdc_ir::files;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use std::borrow::Cow;
use std::io::{BufRead, BufReader};
use std::path::Path;

pub(super) fn read(path: &Path, rows: &mut dyn Rows) -> Result<(), Error> {
    let at = |line: usize| Location { path: path.into(), place: Place::Line(line as u64) };
    let file = files::open(path).map_err(|source| Error::Read { path: path.into(), source })?;
    // The first object names the columns; later ones may lack some.
    let mut names: Vec<String> = vec![];
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let number = index + 1;
        let line = line.map_err(|source| match source.kind() {
            std::io::ErrorKind::InvalidData => at(number).error("it is not UTF-8; convert the file"),
            _ => Error::Read { path: path.into(), source },
        })?;
        // What some editors put before everything.
        let line = if index == 0 { line.trim_start_matches('\u{feff}') } else { &line };
        if line.trim().is_empty() {
            continue;
        }
        let Object(pairs) = serde_json::from_str(line)
            .map_err(|e| at(number).error(format!("this line is no JSON object ({e}); one object a line is read")))?;
        if names.is_empty() {
            names = pairs.iter().map(|(key, _)| key.clone()).collect();
            rows.columns(&names, at(number))?;
        }
        let value = |name: &String| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value);
        let cells = names.iter().map(|name| cell(value(name)).map_err(|what| format!("\"{name}\" is {what}")));
        let cells = cells.collect::<Result<Vec<Cell>, String>>().map_err(|what| at(number).error(what))?;
        rows.row(&cells, &|| at(number))?;
    }
    match names.is_empty() {
        false => Ok(()),
        true => Err(Location::whole(path).error("the file is empty")),
    }
}

/// An object whose keys stay in the file's order.
struct Object(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Object, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Object;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut pairs = vec![];
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Object(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

fn cell(value: Option<&Value>) -> Result<Cell<'_>, &'static str> {
    Ok(match value {
        None | Some(Value::Null) => Cell::Missing,
        Some(Value::Bool(truth)) => Cell::Whole((*truth).into()),
        Some(Value::Number(number)) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Cell::Whole(whole.into()),
            (None, Some(whole)) => Cell::Whole(whole.into()),
            (None, None) => Cell::Number(number.as_f64().unwrap_or(f64::NAN)),
        },
        Some(Value::String(text)) => Cell::Text(Cow::Borrowed(text)),
        Some(Value::Array(_) | Value::Object(_)) => return Err("a list or an object; texts and numbers are read"),
    })
}
