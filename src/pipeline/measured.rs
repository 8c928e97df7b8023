//! What was observed of a student, its program and its exported files.

use super::Artefact;
use super::operators::OperatorCheck;
use crate::report::{AccuracyRow, Changes, ClassRow, Equality, Measurement, Skipped};
use crate::target::elf;
use serde::{Deserialize, Serialize};

/// Percentage points of accuracy by which ONNX Runtime on the QDQ file may differ from the int8 student.
const QDQ_POINTS: f64 = 0.2;
/// Outputs of an exported file in floats may differ by this share of their scale: all are `f32`, in other orders of summation.
pub(super) const FLOAT_TOLERANCE: f64 = 1e-4;
/// Steps by which an operator of the QDQ file may differ from the program's.
pub(super) const QDQ_STEPS: u32 = 1;

/// Everything that was observed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    pub rows: Vec<AccuracyRow>,
    /// The target's program against the reference interpreter; this machine's, where the target's cannot run here.
    pub equality: Option<Equality>,
    /// The int8 student beside the f32 student.
    pub quantization: Option<Changes>,
    pub classes: Vec<ClassRow>,
    pub nnef: Option<NnefCheck>,
    pub qdq: Option<QdqCheck>,
    /// Bytes of the arena that the program was seen to use.
    pub arena_used: Option<u64>,
    /// Bytes of the stack that an inference of the target's program was seen to use.
    pub stack_used: Option<u64>,
    pub measurements: Vec<Measurement>,
    pub elf: Option<elf::ElfInfo>,
    /// What the student itself takes of the target's program.
    pub own: Option<elf::Sections>,
    pub findings: Vec<String>,
    pub skipped: Vec<Skipped>,
    /// Artefacts that did not stand their check, and are left out.
    pub unfit: Vec<Artefact>,
}

impl Measured {
    /// Whether the program was seen to say something else than the reference interpreter.
    pub fn is_refuted(&self) -> bool {
        self.equality.is_some_and(|equality| equality.differing > 0)
    }
}

/// The student's outputs by burn and by tract from the NNEF file.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct NnefCheck {
    /// The largest difference, relative to the outputs' own scale.
    pub difference: f64,
    /// Samples that tract puts into another class.
    pub other_class: usize,
}

/// The int8 student's outputs by the reference interpreter and by ONNX Runtime from the QDQ file.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct QdqCheck {
    /// Outputs compared.
    pub values: usize,
    /// The share of them that differ by more than one quantization step.
    pub beyond_one_step: f64,
    /// The largest difference in steps.
    pub largest: u32,
    /// Operators on equal operands.
    pub operators: OperatorCheck,
    /// How far apart the two accuracies are, as a share of the test samples.
    pub accuracy_difference: f64,
}

impl NnefCheck {
    pub fn is_met(&self) -> bool {
        self.difference <= FLOAT_TOLERANCE && self.other_class == 0
    }
}

impl QdqCheck {
    /// The difference of the accuracies in points.
    pub fn points(&self) -> f64 {
        // Rounded, so that what is exactly at the limit does not exceed it by what binary fractions cannot say.
        (1e11 * self.accuracy_difference).round() / 1e9
    }

    /// How many points are allowed on so many samples: where they are few, one of them is more than the limit.
    pub fn allowed(samples: usize) -> f64 {
        QDQ_POINTS.max((1e11 / samples.max(1) as f64).round() / 1e9)
    }
}
