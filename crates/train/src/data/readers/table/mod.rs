//! Tables: rows are samples; columns are features, the label, or nothing to us.

mod csv;
mod jsonl;
mod pages;
mod parquet;

use crate::data::error::Location;
use crate::data::labels::Labels;
use crate::data::split::Side;
use crate::data::{Column, Error, Format, Rule, Sidecar, Split, TableOptions, folders};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// One cell.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell<'a> {
    Text(Cow<'a, str>),
    Number(f64),
    /// A whole number, exactly.
    Whole(i128),
    Missing,
}

impl Cell<'_> {
    /// The number that is here or that the text is.
    fn number(&self) -> Option<f64> {
        match self {
            Cell::Text(text) => text.trim().parse().ok(),
            Cell::Number(x) => Some(*x),
            Cell::Whole(x) => Some(*x as f64),
            Cell::Missing => None,
        }
    }

    /// The cell as text; `None` where it is empty. Whole numbers have no point.
    fn text(&self) -> Option<Cow<'_, str>> {
        match self {
            Cell::Text(text) if text.trim().is_empty() => None,
            Cell::Text(text) => Some(Cow::Borrowed(text.trim())),
            Cell::Number(x) if x.is_nan() => None,
            Cell::Number(x) => Some(Cow::Owned(x.to_string())),
            Cell::Whole(x) => Some(Cow::Owned(x.to_string())),
            Cell::Missing => None,
        }
    }
}

/// Takes the rows of a table as they are read.
pub(super) trait Rows {
    /// The names of the columns, which come first.
    fn columns(&mut self, names: &[String], at: Location) -> Result<(), Error>;
    /// The next row, with as many cells as there are columns.
    fn row(&mut self, cells: &[Cell], at: &dyn Fn() -> Location) -> Result<(), Error>;
}

/// What the samples of a table are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Content<'a> {
    /// All features, as numbers.
    Numbers,
    /// The text in one column.
    Text(&'a Column),
}

/// One side of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    /// The features row by row.
    pub values: Vec<f32>,
    /// The text of each row.
    pub texts: Vec<String>,
    pub labels: Labels,
}

/// A whole table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub train: Part,
    pub test: Part,
    /// The names of the features.
    pub features: Vec<String>,
}

/// Reads a table: a file that a rule or a ratio parts, or two files in a folder.
///
/// # Errors
/// Names file and line (or row) of what cannot be used.
pub(crate) fn load(path: &Path, sidecar: &Sidecar, content: Content) -> Result<Table, Error> {
    let source = &sidecar.source;
    let format = source.format.of(path);
    let extension = format.extension();
    let mut reader = Reader {
        options: &source.table,
        content,
        split: source.split.as_ref(),
        side: None,
        roles: Roles::default(),
        table: Table::default(),
    };
    let read = |path: &Path, side: Option<Side>, reader: &mut Reader| {
        reader.side = side;
        match format {
            Format::Jsonl => jsonl::read(path, reader),
            Format::Parquet => parquet::read(path, reader),
            _ => csv::read(path, &source.table, reader),
        }
    };
    let (train, test): (PathBuf, PathBuf) = match &source.split {
        Some(Split::Parts { train, test }) => (path.join(train), path.join(test)),
        None if path.is_dir() => {
            let file = |name: &str| path.join(format!("{name}.{extension}"));
            let test = folders::TEST.iter().map(|name| file(name)).find(|file| file.is_file());
            (file(folders::TRAIN), test.unwrap_or_else(|| file(folders::TEST[0])))
        }
        None => {
            let what = "one file is no training and test samples; say in the sidecar's [split] a ratio or a rule, or \
                        name a folder with two files";
            return Err(Location::whole(path).error(what));
        }
        Some(_) => {
            read(path, None, &mut reader)?;
            return Ok(reader.table);
        }
    };
    read(&train, Some(Side::Train), &mut reader)?;
    read(&test, Some(Side::Test), &mut reader)?;
    Ok(reader.table)
}

/// Which column is what.
#[derive(Clone, Debug, Default)]
struct Roles {
    label: Option<usize>,
    features: Vec<usize>,
    /// The column that the rule of the split reads.
    rule: Option<usize>,
}

struct Reader<'a> {
    options: &'a TableOptions,
    content: Content<'a>,
    split: Option<&'a Split>,
    /// Where the rows of this file go; `None`: the split says it row by row.
    side: Option<Side>,
    roles: Roles,
    table: Table,
}

impl Rows for Reader<'_> {
    fn columns(&mut self, names: &[String], at: Location) -> Result<(), Error> {
        let find = |column: &Column| {
            let index = match column {
                Column::Index(index) => Some(*index).filter(|&i| i < names.len()),
                Column::Name(name) => names.iter().position(|n| n == name),
            };
            let listed =
                || if names.len() > 20 { format!("{}, …", names[..20].join(", ")) } else { names.join(", ") };
            index.ok_or_else(|| at.clone().error(format!("there is no column {column}; there are {}", listed())))
        };
        let all = |columns: &[Column]| columns.iter().map(find).collect::<Result<Vec<usize>, Error>>();
        let label = self.options.label.as_ref().map(find).transpose()?;
        let rule = match self.split {
            Some(Split::Rule(Rule { field, .. })) => Some(find(&Column::Name(field.clone()))?),
            _ => None,
        };
        let mut nothing = all(&self.options.ignore)?;
        nothing.extend(label.iter().chain(&rule));
        let features = match (self.content, &self.options.features) {
            (Content::Text(column), _) => vec![find(column)?],
            (Content::Numbers, Some(features)) => all(features)?,
            // The second file of a set has the first one's features, wherever they stand.
            (Content::Numbers, None) if !self.table.features.is_empty() => {
                let named = |name: &String| find(&Column::Name(name.clone()));
                self.table.features.iter().map(named).collect::<Result<_, _>>()?
            }
            (Content::Numbers, None) => (0..names.len()).filter(|i| !nothing.contains(i)).collect(),
        };
        if features.is_empty() {
            return Err(at.error("no column is left to be a feature; see [table] in the sidecar"));
        }
        if let Some(label) = label.filter(|label| features.contains(label)) {
            return Err(at.error(format!("column \"{}\" is both the label and a feature", names[label])));
        }
        self.table.features = features.iter().map(|&i| names[i].clone()).collect();
        self.roles = Roles { label, features, rule };
        Ok(())
    }

    fn row(&mut self, cells: &[Cell], at: &dyn Fn() -> Location) -> Result<(), Error> {
        let Roles { label, features, rule } = &self.roles;
        let mut numbers = vec![];
        let mut text = String::new();
        match self.content {
            Content::Text(_) => text = cells[features[0]].text().unwrap_or_default().into_owned(),
            Content::Numbers => {
                for (&index, name) in features.iter().zip(&self.table.features) {
                    let number = cells[index].number().map(|x| x as f32);
                    match number.filter(|x| x.is_finite()) {
                        Some(x) => numbers.push(x),
                        None => return Err(at().error(no_number(name, &cells[index]))),
                    }
                }
            }
        }
        let side = match (self.side, self.split) {
            (Some(side), _) => side,
            (None, None) => Side::Train,
            (None, Some(split)) => {
                let content = || {
                    let mut hasher = blake3::Hasher::new();
                    hasher.update(text.as_bytes());
                    numbers.iter().for_each(|x| _ = hasher.update(&x.to_le_bytes()));
                    hasher.finalize()
                };
                split.side(|_| cells[(*rule)?].text(), content).map_err(|what| at().error(what))?
            }
        };
        let part = match side {
            Side::Train => &mut self.table.train,
            Side::Test => &mut self.table.test,
        };
        part.labels.push(label.and_then(|label| cells[label].text()).as_deref(), at);
        match self.content {
            Content::Numbers => part.values.extend(numbers),
            Content::Text(_) => part.texts.push(text),
        }
        Ok(())
    }
}

fn no_number(name: &str, cell: &Cell) -> String {
    let remedy = "correct it, or name the column in ignore in the sidecar's [table]";
    match cell.text() {
        None => format!("column \"{name}\" is empty or not a number; fill it, or {remedy}"),
        Some(text) => {
            let text: String = text.chars().take(40).collect();
            format!("column \"{name}\" holds \"{text}\", which is no finite number; {remedy}")
        }
    }
}
