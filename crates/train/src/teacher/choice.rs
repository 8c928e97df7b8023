//! Which engine answers: the first one that says the same as kdc's own executor about a few samples.
//!
//! An engine that computes another network than the file's goes unnoticed otherwise: tract 0.23.9 read every second row
//! from the first one on where the second was asked for, and the student learned that.

use super::difference::{Difference, first_difference};
use super::file::Model;
use super::own;
use super::{EngineChoice, Error, Reply, Teacher, onnxruntime, tract};
use crate::data::{Dataset, SampleView};
use kdc_ir::graph::Tensor;

/// For [`open`](super::open) where nothing is known to compare engines on.
pub const UNCOMPARED: &[Tensor] = &[];

/// Samples that engines are compared on.
const SAMPLES: usize = 4;

/// A few samples of a data set, from all over it, to compare engines on.
pub fn probe(samples: &dyn Dataset) -> Vec<Tensor> {
    let (all, count) = (samples.len(), SAMPLES.min(samples.len()));
    if count == 0 {
        return vec![];
    }
    samples.batch(&SampleView::plain((0..count).map(|i| i * all / count)))
}

/// A teacher with something to say about its engine.
struct Noted {
    teacher: Box<dyn Teacher>,
    note: String,
}

impl Teacher for Noted {
    fn engine(&self) -> &str {
        self.teacher.engine()
    }

    fn note(&self) -> Option<&str> {
        Some(&self.note)
    }

    fn taps(&self) -> &[String] {
        self.teacher.taps()
    }

    fn run(&self, batch: &[Tensor]) -> Result<Reply, Error> {
        self.teacher.run(batch)
    }
}

fn noted(teacher: Box<dyn Teacher>, notes: Vec<String>) -> Box<dyn Teacher> {
    match notes.is_empty() {
        true => teacher,
        false => Box::new(Noted { teacher, note: notes.join("; ") }),
    }
}

pub(super) type Open = fn(&Model) -> Result<Box<dyn Teacher>, Error>;

fn onnx_runtime(model: &Model) -> Result<Box<dyn Teacher>, Error> {
    Ok(Box::new(onnxruntime::OnnxRuntime::open(model)?))
}

fn tract(model: &Model) -> Result<Box<dyn Teacher>, Error> {
    Ok(Box::new(tract::Tract::open(model)?))
}

/// See [`open`](super::open).
pub(super) fn choose(model: &Model, choice: EngineChoice, samples: &[Tensor]) -> Result<Box<dyn Teacher>, Error> {
    let engines: &[Open] = match choice {
        EngineChoice::Own => return Ok(Box::new(own::Own::open(model, samples)?)),
        EngineChoice::Tract => &[tract],
        EngineChoice::OnnxRuntime => &[onnx_runtime],
        // The built-in one first: what a student learns must not depend on what else is installed.
        EngineChoice::Auto => &[tract, onnx_runtime],
    };
    pick(engines, model, samples, (!samples.is_empty()).then(|| own::answer(model, samples)))
}

/// The first engine that agrees with kdc, `reference`. Where none does, kdc itself; but where engines agree with one
/// another it is kdc that reads the network otherwise, and the first of them answers.
pub(super) fn pick(
    engines: &[Open],
    model: &Model,
    samples: &[Tensor],
    reference: Option<Result<(own::Own, Reply), Error>>,
) -> Result<Box<dyn Teacher>, Error> {
    let (mut errors, mut refused) = (vec![], vec![]);
    let wanted = model.wanted();
    for open in engines {
        let (engine, own, ours) = match (open(model), &reference) {
            (Err(error), _) => {
                errors.push(error);
                continue;
            }
            (Ok(engine), None) => return Ok(noted(engine, absent(&errors))),
            (Ok(engine), Some(Err(why))) => {
                let mut notes = absent(&errors);
                // Who has the operators that kdc lacks is asked for them.
                if !notes.is_empty() {
                    notes.push(format!("its answers could not be compared with kdc's own ({why})"));
                }
                return Ok(noted(engine, notes));
            }
            (Ok(engine), Some(Ok((own, ours)))) => (engine, own, ours),
        };
        match engine.run(samples) {
            Err(error) => errors.push(error),
            Ok(theirs) => match first_difference(&wanted, ours, &theirs, own.has_steps()) {
                None => return Ok(noted(engine, [absent(&errors), disagreeing(&refused)].concat())),
                Some(difference) => refused.push((engine, difference, theirs)),
            },
        }
    }
    let Some(Ok((own, _))) = reference else { return Err(no_engine(errors)) };
    if let [(_, difference, first), (_, _, second)] = &refused[..]
        && first_difference(&wanted, first, second, own.has_steps()).is_none()
    {
        let note = format!(
            "kdc computes something else than {} and {}, which agree: {difference}; their answers count, and the student \
             starts from what kdc reads; please report this model",
            refused[0].0.engine(),
            refused[1].0.engine()
        );
        return Ok(noted(refused.swap_remove(0).0, vec![note]));
    }
    if let [_] = engines {
        return Err(match refused.pop() {
            None => no_engine(errors),
            Some((engine, difference, _)) => {
                Error::Differs { engine: engine.engine().into(), model: model.name.clone(), difference }
            }
        });
    }
    Ok(noted(Box::new(own), [absent(&errors), disagreeing(&refused)].concat()))
}

/// Why engines are not there.
fn absent(errors: &[Error]) -> Vec<String> {
    errors.iter().map(Error::to_string).collect()
}

fn disagreeing(refused: &[(Box<dyn Teacher>, Difference, Reply)]) -> Vec<String> {
    let one = |(engine, difference, _): &(Box<dyn Teacher>, Difference, Reply)| {
        format!(
            "{} is not used: it computes something else than kdc on samples of the data, {difference}",
            engine.engine()
        )
    };
    refused.iter().map(one).collect()
}

fn no_engine(mut errors: Vec<Error>) -> Error {
    let last = errors.pop().expect("an engine that is there has been returned");
    match errors.pop() {
        None => last,
        Some(first) => Error::NoEngine { tract: Box::new(first), onnxruntime: Box::new(last) },
    }
}
