//! What an ONNX file does not say about its input, in a TOML file of the same stem beside it.

use super::{Augment, Error, Preprocess};
use serde::Deserialize;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The contents of a sidecar. Unknown keys are refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Sidecar {
    /// The file this was read from.
    pub path: PathBuf,
    /// The model in a few words.
    pub title: Option<String>,
    /// The folder of the data set; resolved against the sidecar's own folder.
    pub data: Option<PathBuf>,
    /// The name of each class, by label.
    pub classes: Option<Vec<String>>,
    /// From bytes to the network's input.
    pub preprocess: Preprocess,
    /// How training samples may be changed.
    pub augment: Augment,
    /// Under which licences model and data come.
    pub licences: Licences,
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
    data: Option<DataSection>,
    input: toml::Spanned<Preprocess>,
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
    classes: Option<toml::Spanned<Vec<String>>>,
}

/// Formats of data folders; one so far, named so that files stay readable when there are more.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Idx,
}

impl Sidecar {
    /// The sidecar of a model: `teacher.toml` beside `teacher.onnx`. `None` where there is no such file.
    ///
    /// # Errors
    /// When it is there but cannot be used; names file and line.
    pub fn find(model: &Path) -> Result<Option<Sidecar>, Error> {
        let path = model.with_extension("toml");
        if path == model || !path.is_file() { Ok(None) } else { Sidecar::load(&path).map(Some) }
    }

    /// Reads a sidecar.
    ///
    /// # Errors
    /// When it cannot be read or used; names file and line.
    pub fn load(path: &Path) -> Result<Sidecar, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read { path: path.into(), source })?;
        Sidecar::parse(path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Sidecar, Error> {
        let fail = |span: Option<Range<usize>>, what: String| {
            let before = text.get(..span.map_or(0, |s| s.start)).unwrap_or_default();
            Error::Sidecar { path: path.into(), line: before.matches('\n').count() + 1, what }
        };
        let file: File = toml::from_str(text).map_err(|e| fail(e.span(), e.message().to_string()))?;

        let span = file.input.span();
        let preprocess = file.input.into_inner();
        // The channels of the data are not known yet; as many as there are means is always consistent.
        preprocess.check(preprocess.mean.len()).map_err(|e| fail(Some(span), e.to_string()))?;

        let folder = path.parent().unwrap_or(Path::new(""));
        let (data, classes) = match file.data {
            None => (None, None),
            Some(DataSection { path, format: Format::Idx, classes }) => (Some(folder.join(path)), classes),
        };
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
            data,
            classes: classes.map(toml::Spanned::into_inner),
            preprocess,
            augment: file.augment,
            licences: file.licences,
        })
    }
}
