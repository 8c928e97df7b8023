//! Training samples where there are none: the teacher's own.

use super::derivation;
use super::prepared::Prepared;
use super::{Error, Job, Progress};
use crate::data::{Layout, Preprocess, Vectors};
use crate::distill::{self, EXPORT_AGAIN, Maker, Synthesized};
use crate::{files, pass};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::path::Path;
use std::sync::Arc;

/// The samples, in the cache.
const FILE: &str = "samples.safetensors";

/// Puts samples that are made from the teacher in place of the training samples; whether they were there already.
///
/// # Errors
/// When none can be made, or kept.
pub fn replace_data(job: &mut Job, prepared: &Prepared, progress: &dyn Progress) -> Result<bool, Error> {
    let Some(how) = job.recipe.data.synthetic else { return Ok(true) };
    // A generator's critic is a student of the size that is wanted; nothing else depends on that.
    let size = match how.by_generator(&job.teacher) {
        true => format!("{:?} {:?}", job.options.derivation, job.budgets(&prepared.cost)),
        false => String::new(),
    };
    let inputs = [job.teacher_hash.clone(), format!("{how:?} {} {:?} {size}", job.options.seed, job.options.inputs)];
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let stage = job.stage("synthesize", &inputs, progress, |folder| {
        let mut teacher = job.teacher.clone();
        pass::apply(&mut teacher, "strip softmax", pass::strip_softmax)?;
        let device = job.options.device.open()?;
        if how.by == Maker::Auto && how.by_generator(&job.teacher) {
            progress.note(&format!(
                "this teacher has no batch normalisations that remember its data: a generator makes the samples, which takes \
                 longer and teaches less; {EXPORT_AGAIN} to have better ones"
            ));
        }
        let mut on = |done: usize, total: usize| progress.position(done as u64, total as u64, "");
        let student = || derivation::plan(job, prepared).map(|derived| derived.graph);
        // What is there until all is there.
        let begun = folder.join("begun");
        let made = distill::synthesize(&teacher, student, &how, job.options.seed, &device, &begun, &mut on)?;
        progress.note(&made.note);
        write(&made, &folder.join(FILE))?;
        files::remove_folder(&begun).map_err(|source| Error::Output { path: begun, source })
    })?;
    let (shape, values, count) = read(&stage.folder.join(FILE))?;
    let plain = Preprocess { layout: Layout::Nchw, scale: 1.0, mean: vec![0.0], std: vec![1.0] };
    let made = Vectors::new(shape.clone(), vec![], values, vec![None; count], &plain, &shape)?;
    job.data.train = Arc::new(made);
    job.asked_about = job.data.train.clone();
    let hashes = format!("{}{}", job.data.train.hash(), job.data.test.hash());
    job.data_hash = files::hash(hashes.as_bytes());
    Ok(stage.cached)
}

fn write(made: &Synthesized, path: &Path) -> Result<(), Error> {
    let bytes: Vec<u8> = made.values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let size: usize = made.shape.iter().product();
    let mut shape = vec![made.values.len() / size.max(1)];
    shape.extend(&made.shape);
    let view = TensorView::new(Dtype::F32, shape, &bytes).expect("as many numbers as the extents say");
    let text = safetensors::serialize([("samples", view)], None).expect("one tensor");
    files::write_atomic(path, &text).map_err(|source| Error::Output { path: path.into(), source })
}

/// The extents of a sample, all samples, and how many there are.
fn read(path: &Path) -> Result<(Vec<usize>, Vec<f32>, usize), Error> {
    let bytes = std::fs::read(path).map_err(|e| Error::read(path, e))?;
    let damaged = |e: safetensors::SafeTensorError| Error::read(path, std::io::Error::other(e.to_string()));
    let file = SafeTensors::deserialize(&bytes).map_err(damaged)?;
    let tensor = file.tensor("samples").map_err(damaged)?;
    let values = tensor.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let (count, shape) = tensor.shape().split_first().unwrap_or((&0, &[]));
    Ok((shape.to_vec(), values, *count))
}
