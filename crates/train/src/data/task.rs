//! What a network answers with.

use super::Sequence;
use serde::Deserialize;

/// What the answers of a network stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Task {
    /// A number for each class; the largest is meant.
    #[default]
    Classification,
    /// Symbols, position by position, which spell a class.
    Sequence(Sequence),
    /// The network's own input again: autoencoders.
    Reconstruction,
    /// A token for each position of a text, `[batch, positions, vocabulary]`: language models. Some tokens are hidden.
    MaskedLm,
}

/// The word for it in a sidecar.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskOption {
    #[default]
    Classes,
    Input,
    Tokens,
}

impl Task {
    /// The class that an answer stands for; `None` where it stands for none.
    pub fn class(&self, answer: &[f32]) -> Option<u16> {
        match self {
            Task::Classification => Some(argmax(answer) as u16),
            Task::Sequence(sequence) => sequence.class(answer),
            Task::Reconstruction | Task::MaskedLm => None,
        }
    }

    /// Whether samples have classes, be they named or spelled.
    pub fn are_classes(&self) -> bool {
        matches!(self, Task::Classification | Task::Sequence(_))
    }

    /// How they spell, where they do.
    pub fn words(&self) -> Option<&Sequence> {
        match self {
            Task::Sequence(sequence) => Some(sequence),
            _ => None,
        }
    }

    /// What the share is called by which they are judged.
    pub fn score(&self) -> &'static str {
        match self {
            Task::Classification | Task::Sequence(_) => "accuracy",
            Task::Reconstruction => "explained variance",
            Task::MaskedLm => "accuracy on hidden tokens",
        }
    }
}

/// The index of the largest number, the first of equals.
pub fn argmax(row: &[f32]) -> usize {
    row.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (i, &v)| if v > best.1 { (i, v) } else { best }).0
}
