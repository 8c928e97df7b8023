//! Runs a built student: on this host, under an emulator; and tract beside it.
//!
//! A [`Student`] is the linked program and how to start it. [`host`] times it (*measured*), [`emulator`] counts its
//! instructions (*simulated*), [`tract`] runs the exported ONNX file of the same student on this host, in turns with
//! the program, so that whatever disturbs the machine disturbs both.

pub mod calibrate;
pub mod emulator;
pub mod figure;
pub mod host;
mod process;
mod student;
pub mod tract;

pub use emulator::{Emulator, Unavailable};
pub use figure::{Figure, Origin, Unit};
pub use process::Error;
pub use student::{Arena, Info, Input, Parts, PortInfo, Runs, StepRuns, Student};
