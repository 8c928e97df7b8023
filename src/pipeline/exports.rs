//! The exported files, run by other people's engines and compared with the student they were written from.

use super::answers::{COMPARED, classes, interpret, right, share};
use super::operators::{self, OperatorCheck};
use super::stages::{Compiled, Exports};
use super::{Error, Job};
use crate::data::{Answers, Look};
use crate::distill;
use crate::emit::nnef;
use crate::exec::Network;
use crate::report::Skipped;
use crate::teacher::{self, EngineChoice};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use std::io::Write;

/// Samples on which the NNEF file is compared.
const NNEF_SAMPLES: usize = 256;

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

/// Reads the NNEF file with tract's NNEF loader alone, and compares its outputs with the network's.
pub(super) fn nnef(job: &Job, compiled: &Compiled, exports: &Exports) -> Result<Option<NnefCheck>, Error> {
    let Some(nnef) = &exports.nnef else { return Ok(None) };
    let few: Vec<usize> = (0..NNEF_SAMPLES.min(job.data.test.len())).collect();
    let theirs = nnef::reload_and_run(nnef, &job.data.test.batch(&Look::plain(few.iter().copied())))?;
    let network = Network::new(&compiled.float, &Device::flex())?;
    let (_, ours) = distill::evaluate(&network, job.data.test.as_ref(), &few, &Answers::Classes)?;
    let theirs = theirs.to_f32();
    let scale = ours.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    let largest = ours.iter().zip(theirs.iter()).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    let complete = ours.len() == theirs.len();
    let count = job.data.class_names.len();
    let same = share(&classes(&ours, count), &classes(&theirs, count));
    Ok(Some(NnefCheck {
        difference: if complete { f64::from(largest / scale) } else { f64::INFINITY },
        other_class: ((1.0 - same) * few.len() as f64).round() as usize,
    }))
}

/// Runs the QDQ file with ONNX Runtime, and compares values with the reference interpreter's and the accuracy with
/// `accuracy`, the int8 student's own by the classes in `truth`. Where the library is missing, what is left out.
pub(super) fn qdq(
    job: &Job,
    compiled: &Compiled,
    exports: &Exports,
    truth: &[Option<u16>],
    accuracy: f64,
) -> Result<Result<QdqCheck, Skipped>, Error> {
    let skipped = |why: String, enable: Option<&str>| Skipped {
        what: "running student.int8.onnx with ONNX Runtime".into(),
        why,
        enable: enable.map(String::from),
    };
    let (integers, qdq) = match (&compiled.int8, &exports.qdq) {
        (Ok(integers), Some(qdq)) => (integers, qdq),
        (Err(why), _) => return Ok(Err(skipped(why.clone(), None))),
        (_, None) => return Ok(Err(skipped("it was not written".into(), None))),
    };
    let unwritten = |source| Error::Output { path: std::env::temp_dir(), source };
    let mut file = tempfile::Builder::new().suffix(".onnx").tempfile().map_err(unwritten)?;
    file.write_all(qdq).map_err(unwritten)?;
    let engine = match teacher::open(file.path(), &[], EngineChoice::OnnxRuntime, teacher::UNCOMPARED) {
        Ok(engine) => engine,
        Err(teacher::Error::NoLibrary { what }) => {
            let enable = "pip install onnxruntime, and name its libonnxruntime.so in ORT_DYLIB_PATH";
            return Ok(Err(skipped(format!("no ONNX Runtime: {what}"), Some(enable))));
        }
        Err(e) => return Err(e.into()),
    };
    let test = job.data.test.as_ref();
    let theirs = teacher::logits(engine.as_ref(), test)?.to_f32().into_owned();
    let few: Vec<usize> = (0..COMPARED.min(test.len())).collect();
    let program = &integers.program;
    let ours = interpret(program, test, &few)?.concat_f32();
    // An output that leaves the program as a float (a softmax) has no step; then the last bit of an i8 is taken.
    let step = program.buffer(program.output.buffer).quant.map_or(1.0 / 256.0, |q| q.scale);
    let steps: Vec<u32> = ours.iter().zip(&theirs).map(|(a, b)| ((a - b).abs() / step).round() as u32).collect();
    let beyond = steps.iter().filter(|&&s| s > 1).count();
    let said = classes(&theirs, job.data.class_names.len());
    Ok(Ok(QdqCheck {
        operators: operators::operators(integers, test, file.path(), qdq)?,
        values: steps.len(),
        beyond_one_step: beyond as f64 / steps.len().max(1) as f64,
        largest: steps.iter().copied().max().unwrap_or(0),
        accuracy_difference: (right(&said, truth) - accuracy).abs(),
    }))
}
