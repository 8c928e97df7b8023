//! Recipes for the common cases, by name.

use super::Recipe;
use std::path::Path;

/// A recipe that comes with kdc.
pub struct Preset {
    pub name: &'static str,
    /// One line.
    pub summary: &'static str,
    /// The recipe's file.
    pub text: &'static str,
}

/// All of them.
pub const PRESETS: &[Preset] = &[
    Preset {
        name: "best",
        summary: "the default: soft labels, unless decoupled ones, correlations or labels alone are clearly better in short trials",
        text: include_str!("presets/best.toml"),
    },
    Preset {
        name: "labelled",
        summary: "every sample has a label: soft labels beside them",
        text: include_str!("presets/labelled.toml"),
    },
    Preset {
        name: "few-labels",
        summary: "few labels, many samples without: the teacher labels the rest",
        text: include_str!("presets/few-labels.toml"),
    },
    Preset {
        name: "unlabelled",
        summary: "no labels: the teacher is the only target",
        text: include_str!("presets/unlabelled.toml"),
    },
    Preset {
        name: "several-teachers",
        summary: "this teacher and those of --teacher: the surer of a sample counts more",
        text: include_str!("presets/several-teachers.toml"),
    },
    Preset {
        name: "transfer",
        summary: "a teacher of another task: it learns the data's classes from a new last layer on, then teaches",
        text: include_str!("presets/transfer.toml"),
    },
    Preset {
        name: "data-free",
        summary: "no samples: they are made from the teacher's own statistics",
        text: include_str!("presets/data-free.toml"),
    },
    Preset {
        name: "teacher-free",
        summary: "no teacher: the student learns from its own earlier self",
        text: include_str!("presets/teacher-free.toml"),
    },
    Preset {
        name: "generations",
        summary: "born again: each generation learns from the one before",
        text: include_str!("presets/generations.toml"),
    },
    Preset {
        name: "ensemble",
        summary: "three students of the teacher, averaged, teach one",
        text: include_str!("presets/ensemble.toml"),
    },
    Preset {
        name: "mutual",
        summary: "two students learn from the labels, the teacher and each other",
        text: include_str!("presets/mutual.toml"),
    },
];

/// The recipe of this name.
pub fn preset(name: &str) -> Option<Recipe> {
    let preset = PRESETS.iter().find(|preset| preset.name == name)?;
    // They are tested: see below.
    Recipe::parse(preset.text, Path::new(preset.name)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_a_recipe_and_every_method_has_one() {
        for preset in PRESETS {
            Recipe::parse(preset.text, Path::new(preset.name)).unwrap();
        }
        for entry in crate::distill::METHODS {
            Recipe::parse(&entry.recipe(), Path::new(entry.name)).unwrap();
        }
    }
}
