use std::path::PathBuf;

/// What can be wrong with data or with what is said about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// A folder lacks one of the four files of a set.
    #[error(
        "{} has no {name}: a data folder holds {{train,t10k}}-images-idx3-ubyte and {{train,t10k}}-labels-idx1-ubyte, each plain or with .gz",
        folder.display()
    )]
    Missing { folder: PathBuf, name: String },
    /// A file is not well-formed IDX.
    #[error("{} is not a usable IDX file: {what}; fetch or write the file again", path.display())]
    Idx { path: PathBuf, what: String },
    /// Something in a file, or in a folder, cannot be used.
    #[error("{at}: {what}")]
    Content { at: Box<Location>, what: String },
    /// Two files of a set disagree about the number of samples.
    #[error("{} has {images} images but {} has {labels} labels: they are not parts of one set", image_file.display(), label_file.display())]
    Count { image_file: PathBuf, images: usize, label_file: PathBuf, labels: usize },
    /// A label names no class.
    #[error("{}: label {label} of sample {index} is outside the {classes} classes; correct the labels or the list of class names", path.display())]
    Label { path: PathBuf, index: usize, label: u16, classes: usize },
    /// Training and test samples differ in shape.
    #[error("{}: training images are {train} but test images are {test} (height x width x channels); use parts of one set", folder.display())]
    Shape { folder: PathBuf, train: String, test: String },
    /// A sidecar does not parse or says something impossible.
    #[error("{}:{line}: {what}", path.display())]
    Sidecar { path: PathBuf, line: usize, what: String },
    /// Mean and deviation do not fit the channels.
    #[error(
        "preprocessing has {given} values of mean and std, the data has {channels} channels: give one value for all or one per channel"
    )]
    Channels { given: usize, channels: usize },
    /// A number of the preprocessing makes no sense.
    #[error("preprocessing: {what}")]
    Preprocess { what: String },
    /// The network is of a kind that kdc does nothing for.
    #[error("not supported: {what}")]
    Unsupported { what: String },
    /// Something about the network and the data does not go together.
    #[error("the network and the data do not fit: {what}")]
    Mismatch { what: String },
}

/// Where in the data something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// A file or a folder.
    pub path: PathBuf,
    /// Where in it.
    pub place: Place,
}

/// Where in a file something stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The file as a whole.
    Whole,
    /// A line of text, from 1.
    Line(u64),
    /// A row of a table without lines, from 1.
    Row(u64),
    /// An element of a named array, from 0.
    Element(String, usize),
}

impl Location {
    /// A file or folder as a whole.
    pub fn whole(path: impl Into<PathBuf>) -> Location {
        Location { path: path.into(), place: Place::Whole }
    }

    /// The error that something here cannot be used.
    pub(super) fn error(self, what: impl Into<String>) -> Error {
        Error::Content { at: Box::new(self), what: what.into() }
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path.display();
        match &self.place {
            Place::Whole => write!(f, "{path}"),
            Place::Line(line) => write!(f, "{path}:{line}"),
            Place::Row(row) => write!(f, "{path}, row {row}"),
            Place::Element(array, index) => write!(f, "{path}, {array}[{index}]"),
        }
    }
}
