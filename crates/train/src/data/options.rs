//! Settings of the formats that samples lie in, as a sidecar has them.

use serde::Deserialize;
use std::num::NonZeroU16;
use std::path::PathBuf;

/// How images become as large as the network wants them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageOptions {
    /// What an image is resized to before its middle is cut out; `None`: so that it just covers the network's extents.
    pub resize: Option<Size>,
}

/// The size of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "the shorter side in pixels, or [height, width]")]
pub enum Size {
    /// The shorter side; the other one follows.
    Shorter(NonZeroU16),
    /// Height and width.
    Exact([NonZeroU16; 2]),
}

/// The names of the arrays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArrayOptions {
    /// Training samples, or all of them [default: `x_train`, else `x`].
    pub samples: Option<String>,
    /// Their labels [default: `y_train`, else `y`, if it is there].
    pub labels: Option<String>,
    /// Test samples [default: `x_test`, else `x_val`, `x_valid` or `x_validation`, where no split parts the samples].
    pub test_samples: Option<String>,
    /// Their labels [default: `y_test` and so on, if it is there].
    pub test_labels: Option<String>,
}

/// What the columns of a table are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableOptions {
    /// The column that says the class; `None`: nobody says it.
    pub label: Option<Column>,
    /// The columns that are the sample, in the network's order; `None`: all that are nothing else.
    pub features: Option<Vec<Column>>,
    /// Columns that are nothing.
    #[serde(default)]
    pub ignore: Vec<Column>,
    /// Whether the first line of a CSV file names the columns [default: it does].
    pub header: Option<bool>,
    /// What separates the cells of a CSV file [default: a comma].
    pub delimiter: Option<char>,
}

/// A column, by its name or by its place from 0.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "the name of a column, or its index from 0")]
pub enum Column {
    Index(usize),
    Name(String),
}

impl std::fmt::Display for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Column::Index(index) => write!(f, "{index}"),
            Column::Name(name) => write!(f, "\"{name}\""),
        }
    }
}

/// How texts become the inputs of a network: the section `[text]` of a sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextOptions {
    /// The column that holds the text.
    pub column: Column,
    /// The `tokenizer.json` of HuggingFace's tokenizers; resolved against the sidecar's own folder.
    pub tokenizer: PathBuf,
    /// The most tokens, special ones included; `None`: as many as the network takes. Shorter texts are padded.
    pub max_length: Option<usize>,
    /// The network's input for the numbers of the tokens, if there are several inputs.
    #[serde(default = "TextOptions::ids")]
    pub ids: String,
    /// The network's input that is 1 for tokens and 0 for padding.
    #[serde(default = "TextOptions::mask")]
    pub mask: String,
    /// The network's input that says which of two texts a token is of.
    #[serde(default = "TextOptions::types")]
    pub types: String,
}

impl TextOptions {
    fn ids() -> String {
        "input_ids".into()
    }

    fn mask() -> String {
        "attention_mask".into()
    }

    fn types() -> String {
        "token_type_ids".into()
    }
}
