//! The exported files, read back, run by other people's engines and compared with the student they were written from. What
//! does not stand the comparison is left out, and the program beside it is none the worse.

use super::answers::{classes, interpret, right, share};
use super::measured::{FLOAT_TOLERANCE, Measured, NnefCheck, QdqCheck};
use super::operators;
use super::stages::{Compiled, Exports};
use super::{Artefact, Error, Job};
use crate::bench::{Figure, Unit};
use crate::data::{SampleView, Task};
use crate::distill;
use crate::emit::nnef;
use crate::exec::Network;
use crate::onnx;
use crate::report::{Measurement, Skipped, Tool};
use crate::teacher::{self, EngineChoice};
use burn::tensor::Device;
use bytes::Bytes;
use std::io::Write;

/// What exports are compared with.
pub(super) struct Compared<'a> {
    /// The class of each test sample.
    pub truth: &'a [Option<u16>],
    /// Test samples whose values are compared.
    pub few: &'a [usize],
    /// Of the int8 student, where it was judged.
    pub accuracy: Option<f64>,
}

/// Checks what was exported and was asked for. A file that cannot be read or differs is left out, with the reason; where it
/// is all that was asked for, the report judges it.
///
/// # Errors
/// When the student itself cannot be run, or the disk refuses.
pub(super) fn check(
    job: &Job,
    compiled: &Compiled,
    exports: &Exports,
    with: &Compared,
    measured: &mut Measured,
) -> Result<(), Error> {
    measured.skipped.extend(exports.left_out.iter().cloned());
    let leave_out = |measured: &mut Measured, artefact: Artefact, why: String| {
        if job.options.asks_only_for(artefact) {
            return Err(Error::Unfit { artefact, why });
        }
        measured.unfit.push(artefact);
        measured.skipped.push(Skipped::new(artefact.path(), why));
        Ok(())
    };
    let read_back = [(Artefact::Onnx, &exports.onnx), (Artefact::Qdq, &exports.qdq)];
    for (artefact, bytes) in read_back.into_iter().filter(|(artefact, _)| job.options.emits(*artefact)) {
        let Some(bytes) = bytes else { continue };
        let fault = match (artefact, onnx::import(Bytes::copy_from_slice(bytes), None)) {
            (_, Err(why)) => Some(format!("it cannot be read back: {why}")),
            (Artefact::Onnx, Ok(again)) => match float_difference(job, compiled, &again, with.few) {
                Ok(difference) if difference <= FLOAT_TOLERANCE => None,
                Ok(difference) => Some(format!("read back, its outputs differ by {difference:.1e} of their scale")),
                Err(why) => Some(format!("it cannot be run when it is read back: {why}")),
            },
            _ => None,
        };
        if let Some(why) = fault {
            leave_out(measured, artefact, why)?;
        }
    }
    if let Some(file) = &exports.nnef {
        match nnef(job, compiled, file, with.few) {
            Ok(check) => {
                if !check.is_met() {
                    let (difference, other) = (check.difference, check.other_class);
                    let why = format!(
                        "tract reads it back with outputs that differ by {difference:.1e} of their scale, and puts {other} of {} \
                         samples into another class",
                        with.few.len()
                    );
                    leave_out(measured, Artefact::Nnef, why)?;
                }
                measured.nnef = Some(check);
            }
            Err(Error::Nnef(why)) => leave_out(measured, Artefact::Nnef, why.to_string())?,
            Err(why) => return Err(why),
        }
    }
    let unfit = measured.unfit.contains(&Artefact::Qdq);
    let (Some(file), Some(accuracy), false) = (&exports.qdq, with.accuracy, unfit) else { return Ok(()) };
    match qdq(job, compiled, file, with, accuracy) {
        Ok(Ok(check)) => {
            let label = "share of the QDQ file's outputs over one step off";
            let figure = Figure::measured(label, check.beyond_one_step, Unit::Ratio);
            measured.measurements.push(Measurement::new("qdq.beyond_one_step", "ONNX Runtime", figure));
            // How far it is off is judged in the report, and depends on the processor: the file says what it should.
            measured.qdq = Some(check);
        }
        Ok(Err(skipped)) => measured.skipped.push(skipped),
        // An engine that fails on an exported file says nothing of the program.
        Err(Error::Teacher(why)) => {
            let why = format!("ONNX Runtime does not run it: {why}");
            match job.options.emits(Artefact::Qdq) {
                true => leave_out(measured, Artefact::Qdq, why)?,
                false => measured.skipped.push(Skipped::new("running student.int8.onnx with ONNX Runtime", why)),
            }
        }
        Err(why) => return Err(why),
    }
    Ok(())
}

/// By how much of their scale the outputs of a network in floats differ from the student's.
fn float_difference(
    job: &Job,
    compiled: &Compiled,
    network: &crate::graph::Graph,
    few: &[usize],
) -> Result<f64, Error> {
    let said = |graph| -> Result<Vec<f32>, Error> {
        let network = Network::new(graph, &Device::flex())?;
        Ok(distill::evaluate(&network, job.data.test.as_ref(), few, &Task::Classification)?.1)
    };
    Ok(difference(&said(&compiled.float)?, &said(network)?))
}

/// The largest difference of two lists of outputs, relative to the scale of the first; infinite where one is of another length
/// or contains NaN.
fn difference(ours: &[f32], theirs: &[f32]) -> f64 {
    let scale = ours.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    // `max` would ignore NaN.
    let larger = |m: f32, (a, b): (&f32, &f32)| match (a - b).abs() {
        d if d.is_finite() => m.max(d),
        _ => f32::INFINITY,
    };
    let largest = ours.iter().zip(theirs).fold(0.0, larger);
    if ours.len() == theirs.len() { f64::from(largest / scale) } else { f64::INFINITY }
}

/// Reads the NNEF file with tract's NNEF loader alone, and compares its outputs with the network's.
fn nnef(job: &Job, compiled: &Compiled, file: &[u8], few: &[usize]) -> Result<NnefCheck, Error> {
    let theirs = nnef::reload_and_run(file, &job.data.test.batch(&SampleView::plain(few.iter().copied())))?;
    let network = Network::new(&compiled.float, &Device::flex())?;
    let (_, ours) = distill::evaluate(&network, job.data.test.as_ref(), few, &Task::Classification)?;
    let theirs = theirs.to_f32();
    let count = job.data.class_names.len();
    let same = share(&classes(&ours, count), &classes(&theirs, count));
    Ok(NnefCheck {
        difference: difference(&ours, &theirs),
        other_class: ((1.0 - same) * few.len() as f64).round() as usize,
    })
}

/// Runs the QDQ file with ONNX Runtime, and compares values with the reference interpreter's and the accuracy with
/// `accuracy`, the int8 student's own. Where the library is missing, what is left out.
fn qdq(
    job: &Job,
    compiled: &Compiled,
    qdq: &[u8],
    with: &Compared,
    accuracy: f64,
) -> Result<Result<QdqCheck, Skipped>, Error> {
    let skipped = |why: String| Skipped::new("running student.int8.onnx with ONNX Runtime", why);
    let integers = match &compiled.int8 {
        Ok(integers) => integers,
        Err(why) => return Ok(Err(skipped(why.clone()))),
    };
    let unwritten = |source| Error::Output { path: std::env::temp_dir(), source };
    let mut file = tempfile::Builder::new().suffix(".onnx").tempfile().map_err(unwritten)?;
    file.write_all(qdq).map_err(unwritten)?;
    let engine = match teacher::open(file.path(), &[], EngineChoice::OnnxRuntime, teacher::UNCOMPARED) {
        Ok(engine) => engine,
        Err(teacher::Error::NoLibrary { what }) => {
            let enable = "pip install onnxruntime, and name its libonnxruntime.so in ORT_DYLIB_PATH";
            let skipped = skipped(format!("no ONNX Runtime: {what}"));
            return Ok(Err(skipped.for_want_of(Tool::OnnxRuntime, Some(enable.into()))));
        }
        Err(e) => return Err(e.into()),
    };
    let test = job.data.test.as_ref();
    let theirs = teacher::logits(engine.as_ref(), test)?.to_f32().into_owned();
    let program = &integers.program;
    let ours = interpret(program, test, with.few)?.concat_f32();
    let row = theirs.len() / test.len().max(1);
    let compared = with.few.iter().flat_map(|&sample| &theirs[sample * row..][..row]);
    // An output that leaves the program as a float (a softmax) has no step; then the last bit of an i8 is taken.
    let step = program.buffer(program.output.buffer).quant.map_or(1.0 / 255.0, |q| q.scale);
    let steps: Vec<u32> = ours.iter().zip(compared).map(|(a, b)| ((a - b).abs() / step).round() as u32).collect();
    let beyond = steps.iter().filter(|&&s| s > 1).count();
    let said = classes(&theirs, job.data.class_names.len());
    Ok(Ok(QdqCheck {
        operators: operators::operators(integers, test, file.path(), qdq)?,
        values: steps.len(),
        beyond_one_step: beyond as f64 / steps.len().max(1) as f64,
        largest: steps.iter().copied().max().unwrap_or(0),
        accuracy_difference: (right(&said, with.truth) - accuracy).abs(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_or_missing_differs_infinitely() {
        assert_eq!(difference(&[2.0, -4.0], &[2.0, -3.0]), 0.25);
        for theirs in [&[2.0, f32::NAN][..], &[f32::INFINITY, -4.0], &[2.0], &[2.0, -4.0, 0.0]] {
            assert_eq!(difference(&[2.0, -4.0], theirs), f64::INFINITY, "{theirs:?}");
        }
    }
}
