//! The stages up to the program: each takes what the one before made, and says what it needs in its arguments.

use super::progress::Progress;
use super::{Error, Job};
use crate::distill::{self, Event, TeacherLogits, TrainingSet};
use crate::exec::{Mode, Network, Value};
use crate::graph::{self, Cost, Graph, Op};
use crate::program::{self, Precision};
use crate::student::{self, Candidate, ChannelGroups, Measured};
use crate::target::cost;
use crate::teacher::{self, Labelling, LogitCache, Teacher};
use crate::{data, onnx, pass};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// The teacher as a network to take apart: no trailing softmax, batch norm folded.
pub struct Prepared {
    pub graph: Graph,
    pub cost: Cost,
    /// What was taken off the end, to be put back on the student.
    pub softmax: Option<Op>,
}

/// Takes off what a student is not trained with.
pub fn prepare_teacher(job: &Job) -> Prepared {
    let mut graph = job.teacher.clone();
    let softmax = pass::strip_softmax(&mut graph);
    pass::fold_batch_norm(&mut graph);
    let (cost, _) = graph::cost(&graph);
    Prepared { graph, cost, softmax }
}

/// Finds the widest student inside the budgets.
pub fn derive(job: &Job, teacher: &Prepared) -> Result<Candidate, Error> {
    let groups = ChannelGroups::find(&teacher.graph);
    let budgets = job.budgets(&teacher.cost);
    let mut measure = |graph: &Graph| candidate_cost(job, graph).map_err(|e| student::Error::Measure(e.to_string()));
    Ok(student::search(&teacher.graph, &groups, &budgets, job.options.seed, &mut measure)?)
}

/// What a student would cost on the target. Its weights are not trained yet, and what they are does not matter here.
fn candidate_cost(job: &Job, graph: &Graph) -> Result<Measured, program::LowerError> {
    let mut folded = graph.clone();
    pass::fold_batch_norm(&mut folded);
    let (total, _) = graph::cost(&folded);
    let mut program = program::lower_f32(&folded, None)?;
    let precision = match job.options.precision {
        Some(precision) => precision,
        None => cost::choose_precision(&program, &job.profile),
    };
    let latency_s = cost::estimate_in(&program, &job.profile, precision).latency_s;
    // The plan depends on shapes and element size only.
    program.precision = precision;
    let weight_bytes = match precision {
        Precision::Int8 => 1,
        Precision::F32 => 4,
    };
    Ok(Measured {
        macs: total.macs,
        params: total.params,
        ram_bytes: program::plan(&program).arena_bytes as u64,
        flash_bytes: total.params * weight_bytes,
        latency_s,
    })
}

impl TeacherLogits for LogitCache {
    fn read(&self, sample: usize, view: usize, out: &mut [f32]) {
        for (out, value) in out.iter_mut().zip(self.get(sample, view)) {
            *out = value.to_f32();
        }
    }
}

/// Asks the teacher about every training sample and view, or finds what it said before.
pub fn label(job: &Job, teacher: &dyn Teacher, value: Option<&str>, progress: &dyn Progress) -> Result<LogitCache, Error> {
    let labelling = Labelling {
        teacher,
        teacher_hash: &job.teacher_hash,
        value,
        samples: &job.data.train,
        preprocess: &job.preprocess,
        augment: job.augment,
        seed: job.options.seed,
        views: job.training.views,
    };
    let mut on = |done: usize, total: usize| progress.position(done as u64, total as u64, "");
    Ok(LogitCache::fill(&labelling, &job.cache.folder("logits"), &mut on)?)
}

/// The value that holds the teacher's logits: the operand of a trailing softmax; `None` for the output itself.
pub fn logits_value(job: &Job) -> Option<String> {
    let out = *job.teacher.outputs.first()?;
    let last = job.teacher.nodes.iter().find(|n| n.outputs.contains(&out))?;
    let softmax = matches!(last.op, Op::Softmax { .. } | Op::LogSoftmax { .. });
    softmax.then(|| job.teacher.value(last.input(0)?).name.clone().into()).flatten()
}

/// What training left, beside the network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrainingLog {
    pub history: Vec<distill::Epoch>,
    pub best: usize,
    pub steps: usize,
}

/// Trains the student, or finds it trained. The folder of the stage holds `student.onnx` and `log.json`.
pub fn distill(
    job: &Job,
    student: &Graph,
    logits: Option<&LogitCache>,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<(), Error> {
    let (train, validation) = data::split(&job.data.train, job.training.validation, job.options.seed);
    let set = TrainingSet {
        samples: &job.data.train,
        train: &train,
        validation: &validation,
        preprocess: &job.preprocess,
        augment: &job.augment,
        teacher: logits.map(|l| l as &dyn TeacherLogits),
    };
    let mut on = |event: Event| match event {
        Event::Step { done, total, loss } => progress.position(done as u64, total as u64, &format!("loss {loss:.3}")),
        Event::Epoch(e) => progress.note(&format!(
            "epoch {}/{}: loss {:.4}, validation accuracy {:.2}%",
            e.epoch,
            job.training.epochs,
            e.loss,
            100.0 * e.accuracy
        )),
    };
    let trained = distill::train(student, &set, &job.training, &Device::flex(), &folder.join("checkpoint"), &mut on)?;
    let log = TrainingLog { history: trained.history, best: trained.best, steps: trained.steps };
    let log = serde_json::to_string_pretty(&log).expect("a log is plain data");
    for (name, bytes) in [("student.onnx", onnx::export(&trained.graph)?), ("log.json", log.into_bytes())] {
        let path = folder.join(name);
        crate::files::write_atomic(&path, &bytes).map_err(|source| Error::Output { path, source })?;
    }
    Ok(())
}

/// Runs a network on samples with taps, batch by batch: what calibration watches.
pub fn observe(
    job: &Job,
    graph: &Graph,
    indices: &[usize],
    taps: &[graph::ValueId],
    see: &mut dyn FnMut(usize, &[f32]),
) -> Result<(), Error> {
    let device = Device::flex();
    let network = Network::new(graph, &device)?;
    for batch in indices.chunks(64) {
        let input = Value::from_host(&job.preprocess.batch(&job.data.train, batch, None), &device)?;
        let outputs = network.forward(vec![input], taps, Mode::Infer)?;
        for (index, value) in outputs.taps.iter().enumerate() {
            see(index, &value.to_host()?.to_f32());
        }
    }
    Ok(())
}
