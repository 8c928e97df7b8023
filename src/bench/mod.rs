//! Runs a built student: on this host, under an emulator; and tract beside it.

pub mod figure;
