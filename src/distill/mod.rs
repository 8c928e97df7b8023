//! Trains a student: objectives, schedules, optimizers, checkpoints.
