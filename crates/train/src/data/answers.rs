//! What a network answers with.

use super::Sequence;
use serde::Deserialize;

/// What the answers of a network stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Answers {
    /// A number for each class; the largest is meant.
    #[default]
    Classes,
    /// Symbols, position by position, which spell a class.
    Words(Sequence),
    /// The network's own input again: autoencoders.
    Input,
    /// A token for each position of a text, `[batch, positions, vocabulary]`: language models. Some tokens are hidden.
    Tokens,
}

/// The word for it in a sidecar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnswersOption {
    #[default]
    Classes,
    Input,
    Tokens,
}

impl Answers {
    /// The class that an answer stands for; `None` where it stands for none.
    pub fn class(&self, answer: &[f32]) -> Option<u16> {
        match self {
            Answers::Classes => Some(argmax(answer) as u16),
            Answers::Words(sequence) => sequence.class(answer),
            Answers::Input | Answers::Tokens => None,
        }
    }

    /// Whether samples have classes, be they named or spelled.
    pub fn are_classes(&self) -> bool {
        matches!(self, Answers::Classes | Answers::Words(_))
    }

    /// How they spell, where they do.
    pub fn words(&self) -> Option<&Sequence> {
        match self {
            Answers::Words(sequence) => Some(sequence),
            _ => None,
        }
    }

    /// What the share is called by which they are judged.
    pub fn score(&self) -> &'static str {
        match self {
            Answers::Classes | Answers::Words(_) => "accuracy",
            Answers::Input => "explained variance",
            Answers::Tokens => "accuracy on hidden tokens",
        }
    }
}

/// The index of the largest number, the first of equals.
pub fn argmax(row: &[f32]) -> usize {
    row.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (i, &v)| if v > best.1 { (i, v) } else { best }).0
}
