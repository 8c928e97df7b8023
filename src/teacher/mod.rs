//! Runs a teacher and keeps its answers.
