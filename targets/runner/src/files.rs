//! Samples in files.

use std::io::Write;

use student_model::{
    Arena, INPUT_LEN, INPUTS, OUTPUT_LEN, STORED_LEN, Stored, load_f32, load_stored, store_f32, store_stored,
};

use crate::{Failure, RAW_INPUT};

/// What the samples of a file are.
#[derive(Clone, Copy)]
pub enum Load {
    F32,
    Raw(fn(&mut Arena, &[u8; INPUT_LEN])),
    Stored,
}

/// Runs every sample of one file and writes the outputs to another.
pub fn run(arena: &mut Arena, load: Load, stored: bool, from: &str, to: &str) -> Result<(), Failure> {
    let place = std::fs::canonicalize;
    if place(from).is_ok_and(|from| place(to).is_ok_and(|to| from == to)) {
        return Err(format!("{to} holds the samples: write the outputs to another file"));
    }
    let bytes = std::fs::read(from).map_err(|e| format!("{from}: {e}"))?;
    let sample = match load {
        Load::F32 => INPUT_LEN * size_of::<f32>(),
        Load::Raw(_) => INPUT_LEN,
        Load::Stored => STORED_LEN * size_of::<Stored>(),
    };
    if bytes.is_empty() || bytes.len() % sample != 0 {
        return Err(format!("{from}: {} bytes are no whole number of samples of {sample} bytes", bytes.len()));
    }
    let mut output = Vec::new();
    for sample in bytes.chunks_exact(sample) {
        infer(arena, load, sample)?;
        if stored {
            let mut elements = vec![Stored::default(); OUTPUT_LEN];
            store_stored(arena, whole(&mut elements)?);
            output.extend(elements.iter().flat_map(|x| x.to_le_bytes()));
        } else {
            output.extend(outputs(arena)?.iter().flat_map(|x| x.to_le_bytes()));
        }
    }
    std::fs::write(to, output).map_err(|e| format!("{to}: {e}"))
}

/// Prints the class of a file of raw bytes.
pub fn classify(arena: &mut Arena, file: &str) -> Result<(), Failure> {
    let load = RAW_INPUT.ok_or("this network does not know how raw bytes are preprocessed")?;
    let bytes = std::fs::read(file).map_err(|e| format!("{file}: {e}"))?;
    if bytes.len() != INPUT_LEN {
        return Err(format!("{file}: {} bytes, and a sample has {INPUT_LEN} ({:?})", bytes.len(), INPUTS[0].stored_shape));
    }
    infer(arena, Load::Raw(load), &bytes)?;
    let scores = probabilities(outputs(arena)?);
    let best = scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).ok_or("the network has no output")?;
    let file = crate::escaped(file).replace('\n', "\\n");
    let line = format!("{file}: class {} (score {:.4})", best.0, best.1);
    writeln!(std::io::stdout(), "{line}").map_err(|e| format!("standard output: {e}"))
}

/// Takes one sample through the network; its output is in the arena then.
fn infer(arena: &mut Arena, load: Load, sample: &[u8]) -> Result<(), Failure> {
    match load {
        Load::F32 => {
            let mut input: Vec<f32> = sample.as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect();
            load_f32(arena, whole(&mut input)?);
        }
        Load::Raw(load) => load(arena, sample.try_into().map_err(|_| "a sample of another size")?),
        Load::Stored => {
            let mut input: Vec<Stored> = sample.as_chunks().0.iter().map(|&x| Stored::from_le_bytes(x)).collect();
            load_stored(arena, whole(&mut input)?);
        }
    }
    student_model::run(arena);
    Ok(())
}

fn outputs(arena: &mut Arena) -> Result<Vec<f32>, Failure> {
    let mut output = vec![0.0; OUTPUT_LEN];
    store_f32(arena, whole(&mut output)?);
    Ok(output)
}

fn whole<T, const N: usize>(elements: &mut [T]) -> Result<&mut [T; N], Failure> {
    elements.try_into().map_err(|_| format!("not {N} elements"))
}

/// The softmax of the scores, unless the network gives probabilities already.
fn probabilities(scores: Vec<f32>) -> Vec<f32> {
    // Eight-bit probabilities are rounded one by one, so that their sum may be some percent away from one.
    let sum: f32 = scores.iter().sum();
    if scores.iter().all(|&x| x >= 0.0) && (sum - 1.0).abs() < 0.05 {
        return scores;
    }
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = scores.iter().map(|x| (x - max).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.iter().map(|x| x / sum).collect()
}
