//! Samples out of the teacher alone, where there are none: what its batch normalisations remember is inverted
//! ([`inversion`]); for a teacher without them a network makes samples ([`generator`]).

mod generator;
mod inversion;
mod settings;
mod variation;

pub use inversion::EXPORT_AGAIN;
pub use settings::{Maker, Synthesis};

use super::Error;
use burn::tensor::Device;
use kdc_ir::graph::Graph;
use std::path::Path;

/// Samples that were made of a teacher. Nobody labelled them.
#[derive(Clone, Debug, PartialEq)]
pub struct Synthesized {
    /// The extents of one.
    pub shape: Vec<usize>,
    /// One after the other.
    pub values: Vec<f32>,
    /// How well it went, for people.
    pub note: String,
}

/// Makes samples for a teacher with logits at its end. `student`: gives a network that takes and gives what the teacher
/// does, for a generator's critic. `folder`: what an interrupted run of the same settings has left there is not made
/// again. `progress` hears how many samples there are, and of how many.
///
/// # Errors
/// When the teacher has other inputs than one of floats, remembers no statistics that are asked for, or cannot be run; when
/// the disk refuses.
pub fn synthesize<E: From<Error>>(
    teacher: &Graph,
    student: impl FnOnce() -> Result<Graph, E>,
    how: &Synthesis,
    seed: u64,
    device: &Device,
    folder: &Path,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Synthesized, E> {
    match teacher.inputs[..] {
        [input] if teacher.value(input).dtype.is_float() => (),
        _ => {
            let why = "makes samples for teachers with one input of floats only";
            return Err(Error::inapplicable("data.synthetic", why).into());
        }
    }
    if how.by_generator(teacher) {
        let file = folder.join("game.safetensors");
        return Ok(generator::generate(teacher, &student()?, how, seed, device, &file, progress)?);
    }
    Ok(inversion::invert(teacher, how, seed, device, folder, progress)?)
}
