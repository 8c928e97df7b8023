//! tract (<https://github.com/sonos/tract>) on the student's ONNX file, as the peer that a built student is compared
//! with: the same network, one sample at a time, one core, in the same minutes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::{Factoid, ShapeFactoid};
use tract_onnx::tract_hir::internal::DimLike;

use super::figure::{Figure, Unit};
use super::host::Timing;
use super::process;
use super::student::Student;

/// Why tract did not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("tract cannot run the student's ONNX file: {0}")]
    Model(String),
    #[error(transparent)]
    Student(#[from] process::Error),
    #[error("nothing to compare: ask for one round of one run at least")]
    NoRuns,
}

fn failed(error: TractError) -> Error {
    Error::Model(format!("{error:#}"))
}

/// An optimised model for one sample.
pub struct Tract {
    model: Arc<TypedRunnableModel>,
    inputs: Vec<Tensor>,
}

impl Tract {
    /// Reads an ONNX file, fixes its batch at 1, and optimises it. Inputs of real numbers are a fixed pseudo-random
    /// sample, those of whole numbers are all 1: a token and type that every network has, and not masked.
    ///
    /// # Errors
    /// When tract cannot read or run it, or the shape of an input is not known but for the batch.
    pub fn open(onnx: &[u8]) -> Result<Tract, Error> {
        // tract checks most of a model, but not all, before it relies on it.
        let opened = catch_unwind(AssertUnwindSafe(|| Tract::read(onnx)));
        opened.unwrap_or_else(|_| Err(Error::Model("it panicked".into())))
    }

    fn read(onnx: &[u8]) -> Result<Tract, Error> {
        let mut model = tract_onnx::onnx().model_for_read(&mut &*onnx).map_err(failed)?;
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut inputs = vec![];
        for index in 0..model.inputs.len() {
            let fact = model.input_fact(index).map_err(failed)?;
            let element = fact.datum_type.concretize().unwrap_or(f32::datum_type());
            let shape = single_sample(&fact.shape)?;
            let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
            let input = match element {
                DatumType::F32 => Tensor::from_shape(&shape, &values),
                DatumType::I64 => Tensor::from_shape(&shape, &vec![1i64; values.len()]),
                DatumType::I32 => Tensor::from_shape(&shape, &vec![1i32; values.len()]),
                other => {
                    return Err(Error::Model(format!("an input is of type {other:?}; f32, i32 and i64 are timed")));
                }
            };
            inputs.push(input.map_err(failed)?);
            model = model.with_input_fact(index, InferenceFact::dt_shape(element, &shape)).map_err(failed)?;
        }
        let model = model.into_optimized().and_then(|model| model.into_runnable()).map_err(failed)?;
        let tract = Tract { model, inputs };
        tract.model.run(tract.values()).map_err(failed)?;
        Ok(tract)
    }

    fn values(&self) -> TVec<TValue> {
        self.inputs.iter().map(|input| input.clone().into()).collect()
    }

    /// Times `runs` inferences, in nanoseconds, after `warmup` untimed ones.
    ///
    /// # Errors
    /// When tract fails.
    pub fn bench(&self, runs: usize, warmup: usize) -> Result<Vec<u64>, Error> {
        let mut state = self.model.spawn().map_err(failed)?;
        let mut once = || -> Result<u64, Error> {
            let inputs = self.values();
            let start = Instant::now();
            state.run(inputs).map_err(failed)?;
            Ok(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
        };
        (0..warmup).try_for_each(|_| once().map(|_| ()))?;
        (0..runs).map(|_| once()).collect()
    }
}

/// A shape with its first extent 1 and all others as declared.
fn single_sample(shape: &ShapeFactoid) -> Result<Vec<usize>, Error> {
    let unknown = || Error::Model(format!("its input's shape {shape:?} is not known but for the batch"));
    if shape.is_open() {
        return Err(unknown());
    }
    let extents = shape.dims().enumerate().map(|(axis, dim)| match axis {
        0 => Some(1),
        _ => dim.concretize()?.to_usize().ok(),
    });
    extents.collect::<Option<Vec<_>>>().ok_or_else(unknown)
}

/// The student's own figures; where the system says its peak, one more.
fn own(timing: &Timing, peak_rss_bytes: Option<u64>) -> Vec<Figure> {
    let peak = peak_rss_bytes.map(|bytes| Figure::measured("peak resident memory", bytes as f64, Unit::Bytes));
    timing.figures("latency").into_iter().chain(peak).collect()
}

/// A built student and tract on this host, in turns.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub student: Timing,
    /// The largest resident set of the student's program, where the system says it.
    pub peak_rss_bytes: Option<u64>,
    pub tract: Timing,
    /// How many times as long as the student tract takes, by medians.
    pub ratio: f64,
}

impl Comparison {
    /// The figures of a report, *measured*.
    pub fn figures(&self) -> Vec<Figure> {
        let mut figures = own(&self.student, self.peak_rss_bytes);
        figures.extend(self.tract.figures("latency of tract on the same student"));
        figures.push(Figure::measured("tract's median over the student's", self.ratio, Unit::Ratio));
        figures
    }
}

/// How often things run: `rounds` times in turns, `runs` timed after `warmup` untimed inferences in each turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    pub rounds: usize,
    pub runs: usize,
    pub warmup: usize,
}

impl Default for Schedule {
    /// 200 runs of each, in ten turns.
    fn default() -> Schedule {
        Schedule { rounds: 10, runs: 20, warmup: 5 }
    }
}

/// Times a student that was built for this host and tract, in turns; who is first alternates.
///
/// # Errors
/// When one of them fails, or the schedule has no runs.
pub fn interleaved(student: &Student, tract: &Tract, schedule: Schedule) -> Result<Comparison, Error> {
    let (mut ours, mut theirs, mut peak_rss_bytes) = (Vec::new(), Vec::new(), None);
    for round in 0..schedule.rounds {
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                let timed = student.bench(schedule.runs, schedule.warmup)?;
                peak_rss_bytes = peak_rss_bytes.max(timed.peak_rss_bytes);
                ours.extend(timed.nanoseconds);
            } else {
                theirs.extend(tract.bench(schedule.runs, schedule.warmup)?);
            }
        }
    }
    let (student, tract) = Timing::of(&ours).zip(Timing::of(&theirs)).ok_or(Error::NoRuns)?;
    Ok(Comparison { student, peak_rss_bytes, tract, ratio: tract.median_s / student.median_s })
}

/// Times a student by itself; the figures of a report, *measured*.
///
/// # Errors
/// When it fails, or the schedule has no runs.
pub fn alone(student: &Student, schedule: Schedule) -> Result<Vec<Figure>, Error> {
    let timed = student.bench(schedule.rounds * schedule.runs, schedule.warmup)?;
    let timing = Timing::of(&timed.nanoseconds).ok_or(Error::NoRuns)?;
    Ok(own(&timing, timed.peak_rss_bytes))
}

#[cfg(test)]
mod tests {
    use prost::Message;
    use tract_onnx::pb;

    use super::super::student::tests::scripted;
    use super::*;

    /// `y = Relu(x)` with `x: f32[batch, 3, N]`.
    fn relu(last: Option<i64>, dtype: i32) -> Vec<u8> {
        use pb::tensor_shape_proto::{Dimension, dimension::Value};
        let dim = |value| Dimension { value, ..Dimension::default() };
        let named = |name: &str| Some(Value::DimParam(name.into()));
        let last = last.map_or(named("N"), |n| Some(Value::DimValue(n)));
        let shape = pb::TensorShapeProto { dim: vec![dim(named("batch")), dim(Some(Value::DimValue(3))), dim(last)] };
        let tensor = pb::type_proto::Tensor { elem_type: dtype, shape: Some(shape) };
        let port = |name: &str| pb::ValueInfoProto {
            name: name.into(),
            r#type: Some(pb::TypeProto {
                value: Some(pb::type_proto::Value::TensorType(tensor.clone())),
                ..pb::TypeProto::default()
            }),
            ..pb::ValueInfoProto::default()
        };
        let node = pb::NodeProto {
            op_type: "Relu".into(),
            input: vec!["x".into()],
            output: vec!["y".into()],
            ..pb::NodeProto::default()
        };
        let graph = pb::GraphProto {
            node: vec![node],
            input: vec![port("x")],
            output: vec![port("y")],
            ..pb::GraphProto::default()
        };
        let opset = pb::OperatorSetIdProto { domain: String::new(), version: 17 };
        let model = pb::ModelProto {
            ir_version: 8,
            graph: Some(graph),
            opset_import: vec![opset],
            ..pb::ModelProto::default()
        };
        model.encode_to_vec()
    }

    const FLOAT: i32 = 1;
    const INT64: i32 = 7;
    const STRING: i32 = 8;

    #[test]
    fn one_sample_is_timed() {
        let tract = Tract::open(&relu(Some(5), FLOAT)).unwrap();
        assert_eq!(tract.inputs[0].shape(), [1, 3, 5]);
        let times = tract.bench(4, 2).unwrap();
        assert!(times.len() == 4 && times.iter().all(|&ns| ns > 0), "{times:?}");
    }

    #[test]
    fn tokens_are_ones() {
        let tract = Tract::open(&relu(Some(5), INT64)).unwrap();
        assert_eq!(tract.inputs[0].datum_type(), DatumType::I64);
        assert_eq!(tract.bench(1, 0).unwrap().len(), 1);
    }

    #[test]
    fn models_that_cannot_be_timed_are_refused() {
        assert!(matches!(Tract::open(b"not a model"), Err(Error::Model(_))));
        for (model, word) in [(relu(None, FLOAT), "shape"), (relu(Some(5), STRING), "String")] {
            let error = Tract::open(&model).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_real_network_is_timed() {
        let Some(data) = std::env::var_os("KDC_DATA") else { return eprintln!("skipped: KDC_DATA is not set") };
        let model = std::path::Path::new(&data).join("models/fashion-resnet.onnx");
        let tract = Tract::open(&std::fs::read(model).unwrap()).unwrap();
        assert_eq!(tract.inputs[0].shape()[0], 1);
        let timing = Timing::of(&tract.bench(5, 1).unwrap()).unwrap();
        assert!((1e-5..10.0).contains(&timing.median_s), "{timing:?}");
        eprintln!("{timing:?}");
    }

    #[test]
    fn the_two_are_compared_in_turns() {
        let folder = tempfile::tempdir().unwrap();
        let student = scripted(folder.path(), r#"echo '{"nanoseconds":[1000,1000],"peak_rss_bytes":4096}'"#);
        let tract = Tract::open(&relu(Some(5), FLOAT)).unwrap();
        let schedule = Schedule { rounds: 3, runs: 2, warmup: 1 };
        let comparison = interleaved(&student, &tract, schedule).unwrap();
        assert_eq!((comparison.student.runs, comparison.tract.runs), (6, 6));
        let ratio = comparison.tract.median_s / 1e-6;
        assert!((comparison.ratio - ratio).abs() <= 1e-9 * ratio && ratio > 0.0, "{comparison:?}");
        assert_eq!(comparison.figures().len(), 6);
        let none = interleaved(&student, &tract, Schedule { rounds: 0, ..schedule });
        assert!(matches!(none, Err(Error::NoRuns)));
    }
}
