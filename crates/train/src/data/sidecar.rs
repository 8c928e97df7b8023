//! What an ONNX file does not say about its input, in a TOML file of the same stem beside it.

use super::options::{ArrayOptions, ImageOptions, TableOptions, TextOptions};
use super::spectrum::AudioOptions;
use super::task::TaskOption;
use super::{Augment, Error, Pattern, Preprocess, SequenceOptions, Split};
use kdc_ir::files;
use serde::Deserialize;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The most bytes of a sidecar: a list of 65,535 classes fits.
const MOST_BYTES: u64 = 1 << 24;
/// Said of a file that lies beside a student.
const SPECIFICATION: &str = "this is the specification of a student, which says nothing of its data; name the sidecar of its \
                             teacher with --sidecar";

/// The contents of a sidecar. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Sidecar {
    /// The file this was read from.
    pub path: PathBuf,
    /// The model in a few words.
    pub title: Option<String>,
    /// The one of the model's outputs that is meant, where it has several.
    pub output: Option<String>,
    /// The file or folder of the data set; resolved against the sidecar's own folder.
    pub data: Option<PathBuf>,
    /// What kind of files those are, and how they are to be read.
    pub source: Source,
    /// The name of each class, by label.
    pub classes: Option<Vec<String>>,
    /// From bytes to the network's input.
    pub preprocess: Preprocess,
    /// How training samples may be changed.
    pub augment: Augment,
    /// What the network answers with.
    pub answers: TaskOption,
    /// How answers spell their classes, where they do.
    pub sequence: Option<SequenceOptions>,
    /// Under which licences model and data come.
    pub licences: Licences,
}

/// How data lie in files.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    pub format: Format,
    /// How the names of files that are samples are to be read; `None`: the class is the folder's name.
    pub names: Option<Pattern>,
    /// How training and test samples are told apart; `None`: as the format does it.
    pub split: Option<Split>,
    pub images: ImageOptions,
    pub arrays: ArrayOptions,
    pub table: TableOptions,
    /// Of sounds.
    pub audio: Option<AudioOptions>,
    /// Of tables whose samples are texts.
    pub text: Option<TextOptions>,
}

/// Formats of data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The four files of MNIST and its relatives.
    #[default]
    Idx,
    /// A folder of PNG and JPEG files.
    Images,
    /// NumPy's arrays.
    Npz,
    /// Rows of text, a cell for each column.
    Csv,
    /// A JSON object a line.
    Jsonl,
    /// Apache Parquet.
    Parquet,
    /// A folder of WAV files.
    Wav,
}

impl Format {
    /// The word that names it in a sidecar, and the extension of its files where there is one.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Idx => "idx",
            Format::Images => "images",
            Format::Npz => "npz",
            Format::Csv => "csv",
            Format::Jsonl => "jsonl",
            Format::Parquet => "parquet",
            Format::Wav => "wav",
        }
    }

    /// The format of a file: of tables, that which its extension says.
    pub(super) fn of(self, path: &Path) -> Format {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let tables = [Format::Csv, Format::Jsonl, Format::Parquet];
        let said = tables.into_iter().find(|format| format.extension() == extension);
        said.filter(|_| self.is_table()).unwrap_or(self)
    }

    fn is_table(self) -> bool {
        matches!(self, Format::Csv | Format::Jsonl | Format::Parquet)
    }
}

/// Licences, as SPDX expressions or in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Licences {
    pub model: Option<String>,
    pub data: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    title: Option<String>,
    output: Option<String>,
    data: Option<DataSection>,
    input: Option<toml::Spanned<Preprocess>>,
    split: Option<Split>,
    images: Option<toml::Spanned<ImageOptions>>,
    arrays: Option<toml::Spanned<ArrayOptions>>,
    table: Option<toml::Spanned<TableOptions>>,
    audio: Option<toml::Spanned<AudioOptions>>,
    text: Option<toml::Spanned<TextOptions>>,
    sequence: Option<SequenceOptions>,
    #[serde(default)]
    augment: Augment,
    #[serde(default)]
    licences: Licences,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DataSection {
    path: PathBuf,
    format: Format,
    names: Option<Pattern>,
    classes: Option<toml::Spanned<Vec<String>>>,
    #[serde(default)]
    answers: TaskOption,
}

impl Sidecar {
    /// The sidecar of a model: `teacher.toml` beside `teacher.onnx`. `None` where there is no such file.
    ///
    /// # Errors
    /// When it is there but cannot be used; names file and line.
    pub fn find(model: &Path) -> Result<Option<Sidecar>, Error> {
        let path = model.with_extension("toml");
        if path == model || !path.exists() { Ok(None) } else { Sidecar::load(&path).map(Some) }
    }

    /// Reads a sidecar.
    ///
    /// # Errors
    /// When it cannot be read or used; names file and line.
    pub fn load(path: &Path) -> Result<Sidecar, Error> {
        let text = files::read_text(path, MOST_BYTES).map_err(|source| Error::Read { path: path.into(), source })?;
        Sidecar::parse(path, &text)
    }

    pub(super) fn parse(path: &Path, text: &str) -> Result<Sidecar, Error> {
        let fail = |span: Option<Range<usize>>, what: String| {
            let before = text.get(..span.map_or(0, |s| s.start)).unwrap_or_default();
            Error::Sidecar { path: path.into(), line: before.matches('\n').count() + 1, what }
        };
        let file: File = toml::from_str(text).map_err(|e| match toml::from_str::<toml::Table>(text) {
            Ok(table) if table.contains_key("kind") && table.contains_key("widths") => fail(None, SPECIFICATION.into()),
            _ => fail(e.span(), e.message().to_string()),
        })?;

        let folder = path.parent().unwrap_or(Path::new(""));
        let (data, format, names, classes, answers) = match file.data {
            None => (None, Format::default(), None, None, TaskOption::default()),
            Some(DataSection { path, format, names, classes, answers }) => {
                (Some(folder.join(path)), format, names, classes, answers)
            }
        };
        if answers != TaskOption::Classes && (classes.is_some() || file.sequence.is_some()) {
            let span = classes.as_ref().map(toml::Spanned::span);
            return Err(fail(
                span,
                "these answers are no classes and no words; leave classes and [sequence] out".into(),
            ));
        }
        let preprocess = match file.input {
            Some(input) => {
                let (span, preprocess) = (input.span(), input.into_inner());
                // The channels of the data are not known yet; as many as there are means is always consistent.
                preprocess.check(preprocess.mean.len()).map_err(|e| fail(Some(span), e.to_string()))?;
                preprocess
            }
            // Numbers are taken as they are; what bytes of images stand for must be said.
            None if !matches!(format, Format::Idx | Format::Images) => Preprocess::default(),
            None => {
                return Err(fail(None, "[input] is missing: how bytes become numbers, e.g. scale = \"1/255\"".into()));
            }
        };
        let sections = [
            ("images", file.images.as_ref().map(toml::Spanned::span), format == Format::Images),
            ("arrays", file.arrays.as_ref().map(toml::Spanned::span), format == Format::Npz),
            ("table", file.table.as_ref().map(toml::Spanned::span), format.is_table()),
            ("text", file.text.as_ref().map(toml::Spanned::span), format.is_table()),
            ("audio", file.audio.as_ref().map(toml::Spanned::span), format == Format::Wav),
        ];
        for (name, span, fits) in sections {
            if span.is_some() && !fits {
                let what = format!("[{name}] says nothing about data of the format \"{}\"", format.extension());
                return Err(fail(span, what));
            }
        }
        match &file.audio {
            Some(audio) => audio.get_ref().check().map_err(|what| fail(Some(audio.span()), what))?,
            None if format == Format::Wav => {
                return Err(fail(None, "[audio] is missing: rate, seconds and features of the sounds".into()));
            }
            None => (),
        }
        if let Some(names) = &classes {
            let mut sorted = names.get_ref().clone();
            sorted.sort();
            if let Some(twice) = sorted.windows(2).find(|w| w[0] == w[1]) {
                return Err(fail(Some(names.span()), format!("class \"{}\" is named twice", twice[0])));
            }
            if sorted.is_empty() {
                return Err(fail(
                    Some(names.span()),
                    "the list of classes is empty; leave it out to use numbers".into(),
                ));
            }
        }
        Ok(Sidecar {
            path: path.into(),
            title: file.title,
            output: file.output,
            data,
            source: Source {
                format,
                names,
                split: file.split,
                images: file.images.map(toml::Spanned::into_inner).unwrap_or_default(),
                arrays: file.arrays.map(toml::Spanned::into_inner).unwrap_or_default(),
                table: file.table.map(toml::Spanned::into_inner).unwrap_or_default(),
                audio: file.audio.map(toml::Spanned::into_inner),
                text: file.text.map(toml::Spanned::into_inner).map(|text| {
                    let tokenizer = folder.join(&text.tokenizer);
                    TextOptions { tokenizer, ..text }
                }),
            },
            classes: classes.map(toml::Spanned::into_inner),
            preprocess,
            augment: file.augment,
            answers,
            sequence: file.sequence,
            licences: file.licences,
        })
    }
}
