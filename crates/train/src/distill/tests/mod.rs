mod golden;
mod limits;
mod stages;
mod trial;

use super::*;
use crate::data::{Augment, Dataset, Images, Layout, Preprocess, Samples, Task};
use burn::tensor::{Device, Int, Tensor, TensorData};
use kdc_ir::graph::{Builder, Dim, Graph, Op, Tensor as HostTensor};
use std::sync::atomic::{AtomicUsize, Ordering};

fn matrix(rows: &[[f32; 3]]) -> Tensor<2> {
    let data = rows.concat();
    Tensor::from_data(TensorData::new(data, [rows.len(), 3]), &Device::flex())
}

fn values(student: &[[f32; 3]], teacher: &[[f32; 3]], labels: &[i64]) -> StepValues {
    StepValues {
        student_logits: matrix(student),
        teacher_logits: Some(matrix(teacher)),
        pairs: vec![],
        words: vec![],
        labels: Tensor::<1, Int>::from_data(TensorData::new(labels.to_vec(), [labels.len()]), &Device::flex()),
        weights: None,
        targets: None,
        mixed: None,
        mask: None,
        lottery: (0..labels.len()).map(|i| i as f32 / labels.len() as f32).collect(),
        samples: (0..labels.len()).collect(),
        progress: 0.5,
    }
}

/// The value of a term by its name and settings.
fn loss(spec: &TermSpec, values: &StepValues) -> f64 {
    let mut aux = AuxParams::new(&Device::flex(), 0);
    let mut term = spec.term().unwrap();
    let plan = Plan { prefix: "term".into(), classes: 3, teacher_classes: 3, samples: 2, ..Plan::default() };
    term.prepare(&plan, &mut aux).unwrap();
    number(term.loss(values, &mut aux))
}

fn soft_label(alpha: f64, temperature: f64, strip_labels: f64) -> TermSpec {
    let spec = TermSpec::new("soft-label").with("alpha", alpha).with("temperature", temperature);
    spec.with("strip-labels", strip_labels)
}

fn number(loss: Tensor<1>) -> f64 {
    loss.into_data().iter::<f64>().next().unwrap()
}

fn softmax(row: &[f32; 3], t: f64) -> Vec<f64> {
    let e: Vec<f64> = row.iter().map(|&v| (f64::from(v) / t).exp()).collect();
    e.iter().map(|v| v / e.iter().sum::<f64>()).collect()
}

const STUDENT: [[f32; 3]; 2] = [[1.0, -2.0, 0.5], [0.1, 0.2, 3.0]];
const TEACHER: [[f32; 3]; 2] = [[4.0, 0.0, -1.0], [-2.0, 1.0, 2.5]];

fn expected(alpha: f64, t: f64, shown: [f64; 2]) -> f64 {
    let labels = [0, 1];
    let mut total = 0.0;
    for i in 0..2 {
        let (p_t, p_s) = (softmax(&TEACHER[i], t), softmax(&STUDENT[i], t));
        let kl: f64 = p_t.iter().zip(&p_s).map(|(a, b)| a * (a / b).ln()).sum();
        let ce = -softmax(&STUDENT[i], 1.0)[labels[i]].ln();
        total += (1.0 - alpha) * ce * shown[i] + alpha * t * t * kl;
    }
    total / 2.0
}

#[test]
fn soft_label_is_the_published_formula() {
    let v = values(&STUDENT, &TEACHER, &[0, 1]);
    for (alpha, temperature) in [(0.9, 4.0), (0.5, 1.0), (0.0, 4.0), (1.0, 2.0)] {
        let (got, want) = (loss(&soft_label(alpha, temperature, 0.0), &v), expected(alpha, temperature, [1.0, 1.0]));
        assert!((got - want).abs() < 1e-5, "α {alpha}, T {temperature}: {got} against {want}");
    }
}

#[test]
fn stripped_labels_leave_the_teacher_alone() {
    let v = values(&STUDENT, &TEACHER, &[0, 1]);
    let (got, want) = (loss(&soft_label(0.5, 2.0, 0.4), &v), expected(0.5, 2.0, [0.0, 1.0]));
    assert!((got - want).abs() < 1e-5, "{got} against {want}");
}

#[test]
fn hard_label_is_cross_entropy() {
    let v = values(&STUDENT, &TEACHER, &[0, 1]);
    let (got, want) = (loss(&TermSpec::new("hard-label"), &v), expected(0.0, 1.0, [1.0, 1.0]));
    assert!((got - want).abs() < 1e-5, "{got} against {want}");
}

#[test]
fn an_objective_sums_weighted_terms_and_reads_what_they_read() {
    let v = values(&STUDENT, &TEACHER, &[0, 1]);
    let soft = TermSpec { weight: Schedule::Linear { from: 0.0, to: 2.0 }, ..soft_label(1.0, 1.0, 0.0) };
    let hard = TermSpec { weight: Schedule::Constant(0.5), ..TermSpec::new("hard-label") };
    let objective = Config { terms: vec![soft, hard], ..Config::default() }.objective().unwrap();
    let want = 1.0 * expected(1.0, 1.0, [1.0, 1.0]) + 0.5 * expected(0.0, 1.0, [1.0, 1.0]);
    let mut aux = AuxParams::new(&Device::flex(), 0);
    assert!((number(objective.loss(&[v.clone(), v], &mut aux)) - want).abs() < 1e-5);
    let reads = objective.reads();
    assert_eq!(reads[0], Reads { labels: false, teacher_logits: true, pairs: Pairs::None });
    assert_eq!(reads[1], Reads { labels: true, teacher_logits: false, pairs: Pairs::None });
    assert_eq!(objective.learns_from(), (true, true));
}

#[test]
fn schedules_meet_their_ends() {
    let cosine = Schedule::Cosine { from: 0.1, to: 0.01, warmup: 0.1 };
    assert_eq!(cosine.at(0.0), 0.0);
    assert!((cosine.at(0.05) - 0.05).abs() < 1e-12);
    assert!((cosine.at(0.1) - 0.1).abs() < 1e-12);
    assert!((cosine.at(0.55) - 0.055).abs() < 1e-12);
    assert!((cosine.at(1.0) - 0.01).abs() < 1e-12);
    assert_eq!(Schedule::Linear { from: 1.0, to: 3.0 }.at(0.5), 2.0);
}

/// Images of 6×6 whose class is the quadrant that is bright.
fn quadrants(count: usize) -> Images {
    let mut pixels = Vec::new();
    let mut labels = Vec::new();
    for i in 0..count {
        let class = i % 4;
        for y in 0..6 {
            for x in 0..6 {
                let noise = ((i * 31 + y * 17 + x * 7) * 2_654_435_761 % 97) as u8;
                pixels.push(if (y / 3) * 2 + x / 3 == class { 90 + noise } else { noise });
            }
        }
        labels.push(Some(class as u16));
    }
    let samples = Samples { shape: [6, 6, 1], pixels, labels };
    let preprocess = Preprocess { layout: Layout::Nchw, scale: 1.0 / 255.0, mean: vec![0.3], std: vec![0.3] };
    Images::new(samples, preprocess, Augment::default()).unwrap()
}

fn small_network() -> Graph {
    let mut b = Builder::new("small");
    let x = b.input("x", &[Dim::Batch, Dim::Fixed(1), Dim::Fixed(6), Dim::Fixed(6)]);
    let wave = |n: usize| (0..n).map(|i| ((i * 37 % 19) as f32 / 19.0 - 0.5) * 0.6).collect::<Vec<f32>>();
    let conv = b.conv2d("conv", x, HostTensor::f32([4, 1, 3, 3], wave(36)), vec![0.0; 4], (1, 1, 1)).unwrap();
    let relu = b.node("relu", Op::Relu, &[conv]).unwrap();
    let flat = b.node("flat", Op::Flatten { axis: 1 }, &[relu]).unwrap();
    let w = b.constant("w", HostTensor::f32([4, 144], wave(576)));
    let bias = b.constant("b", HostTensor::f32([4], vec![0.0; 4]));
    let gemm = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
    let logits = b.node("logits", gemm, &[flat, w, bias]).unwrap();
    let mut graph = b.finish(&[logits]);
    kdc_ir::pass::insert_batch_norm(&mut graph, &Default::default());
    graph
}

/// Knows the class and says so mildly.
struct Oracle<'a>(&'a Images);

impl TeacherLogits for Oracle<'_> {
    fn classes(&self) -> usize {
        4
    }

    fn read(&self, sample: usize, _view: usize, out: &mut [f32]) {
        out.fill(-1.0);
        out[usize::from(self.0.label(sample).unwrap())] = 2.0;
    }
}

fn kept(logits: &dyn TeacherLogits) -> TeacherSource<'_> {
    TeacherSource { name: "teacher".into(), logits: Some(logits), graph: None, engine: None, is_peer: false }
}

fn config() -> Config {
    Config { epochs: 3, batch_size: 16, lr: 0.05, views: 2, seed: 5, ..Config::default() }
}

struct Setting {
    samples: Images,
    train: Vec<usize>,
    validation: Vec<usize>,
}

impl Setting {
    fn new() -> Setting {
        Setting { samples: quadrants(320), train: (0..256).collect(), validation: (256..320).collect() }
    }

    fn train(
        &self,
        config: &Config,
        checkpoint: &std::path::Path,
        on: &mut dyn FnMut(Event),
    ) -> Result<Trained, Error> {
        let oracle = Oracle(&self.samples);
        let set = TrainingSet {
            samples: &self.samples,
            train: &self.train,
            validation: &self.validation,
            teachers: vec![kept(&oracle)],
            answers: &Task::Classification,
        };
        train(&(&small_network()).into(), &set, config, &Device::flex(), checkpoint, on)
    }

    fn accuracy(&self, graph: &Graph) -> f64 {
        let network = kdc_exec::Network::new(graph, &Device::flex()).unwrap();
        evaluate(&network, &self.samples, &self.validation, &Task::Classification).unwrap().0
    }
}

#[test]
fn training_learns_with_every_optimizer_and_method() {
    let setting = Setting::new();
    let start = setting.accuracy(&small_network());
    let adamw = OptimizerConfig::AdamW { weight_decay: 1e-4 };
    let settings = [
        config(),
        Config { terms: vec![TermSpec::new("hard-label")], ..config() },
        Config { optimizer: adamw, lr: 0.01, ..config() },
    ];
    for config in settings {
        let folder = tempfile::tempdir().unwrap();
        let trained = setting.train(&config, &folder.path().join("c"), &mut |_| ()).unwrap();
        let end = setting.accuracy(&trained.graph);
        assert!(end > 0.95 && end > start + 0.3, "{:?}: from {start} to {end}", config.terms);
        assert_eq!(trained.steps, 3 * 16);
    }
}

#[test]
fn a_run_picked_up_anywhere_ends_with_the_same_bytes() {
    let setting = Setting::new();
    for optimizer in [config().optimizer, OptimizerConfig::AdamW { weight_decay: 0.01 }] {
        let config = Config { optimizer, ..config() };
        let folder = tempfile::tempdir().unwrap();
        let whole = setting.train(&config, &folder.path().join("whole"), &mut |_| ()).unwrap();
        // Keep the checkpoint as it was after the second epoch, and go on from there.
        let (running, kept) = (folder.path().join("running"), folder.path().join("kept"));
        let mut epochs = 0;
        setting
            .train(&config, &running, &mut |event| match event {
                Event::Step(Step { done: 33, .. }) => drop(std::fs::copy(&running, &kept).unwrap()),
                Event::Epoch(_) => epochs += 1,
                _ => (),
            })
            .unwrap();
        assert_eq!(epochs, 3);
        let mut epochs = 0;
        let resumed =
            setting.train(&config, &kept, &mut |e| epochs += usize::from(matches!(e, Event::Epoch(_)))).unwrap();
        assert_eq!(epochs, 1, "two epochs were already done");
        assert_eq!(resumed.history, whole.history);
        assert_eq!(kdc_ir::onnx::export(&resumed.graph).unwrap(), kdc_ir::onnx::export(&whole.graph).unwrap());
    }
}

#[test]
fn a_loss_that_explodes_stops_with_the_last_good_checkpoint_kept() {
    let setting = Setting::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c");
    let config = Config { lr: 1e30, warmup: 0.0, clip_norm: 1e30, ..config() };
    let error = setting.train(&config, &file, &mut |_| ()).unwrap_err();
    assert!(matches!(error, Error::NonFinite { .. }), "{error}");
    assert!(error.to_string().contains("lower --lr"), "{error}");
    for (name, values) in Checkpoint::load(&file).unwrap().map(|c| c.network).unwrap_or_default() {
        assert!(values.iter().all(|v| v.is_finite()), "{name}");
    }
}

#[test]
fn a_damaged_checkpoint_is_told_and_training_begins_from_the_front() {
    let setting = Setting::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c");
    let model = |t: &Trained| kdc_ir::onnx::export(&t.graph).unwrap();
    let whole = setting.train(&config(), &file, &mut |_| ()).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    let mut flipped = bytes.clone();
    // Of a number, which nothing else would notice.
    flipped[bytes.len() - 100] ^= 1;
    for damaged in [&bytes[..bytes.len() / 2], &flipped, &[]] {
        std::fs::write(&file, damaged).unwrap();
        let (mut told, mut epochs) = (0, 0);
        let again = setting.train(&config(), &file, &mut |event| match event {
            Event::Anew { checkpoint } => told += usize::from(checkpoint == file),
            Event::Epoch(_) => epochs += 1,
            _ => (),
        });
        assert_eq!((told, epochs), (1, 3));
        assert_eq!(model(&again.unwrap()), model(&whole));
    }
}

#[test]
fn settings_that_cannot_work_are_refused_by_name() {
    let setting = Setting::new();
    let folder = tempfile::tempdir().unwrap();
    for (config, word) in [
        (Config { lr: 0.0, ..config() }, "--lr"),
        (Config { batch_size: 1000, ..config() }, "--batch-size"),
        (Config { views: 0, ..config() }, "--views"),
    ] {
        let error = setting.train(&config, &folder.path().join("c"), &mut |_| ()).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn a_step_of_several_batches_is_that_of_one_large_batch() {
    // Batch norm sees other statistics in parts, so the network has none here.
    let setting = Setting::new();
    let mut student = small_network();
    kdc_ir::pass::fold_batch_norm(&mut student);
    let run = |batch_size: usize, accumulate: usize| {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { batch_size, accumulate, epochs: 1, ..config() };
        let mut losses = Vec::new();
        let mut on = |event| match event {
            Event::Step(step) => losses.push(step.loss),
            Event::Epoch(e) => assert!(e.train_accuracy > 0.0 && e.agreement == e.train_accuracy),
            _ => panic!("{event:?}"),
        };
        let oracle = Oracle(&setting.samples);
        let (train_on, validation) = (&setting.train[..], &setting.validation[..]);
        let set = TrainingSet {
            samples: &setting.samples,
            train: train_on,
            validation,
            teachers: vec![kept(&oracle)],
            answers: &Task::Classification,
        };
        let trained =
            train(&(&student).into(), &set, &config, &Device::flex(), &folder.path().join("c"), &mut on).unwrap();
        (losses, trained.steps)
    };
    let ((whole, steps), (parts, in_parts)) = (run(64, 1), run(16, 4));
    assert_eq!((steps, in_parts, whole.len(), parts.len()), (4, 4, 4, 4));
    for (a, b) in whole.iter().zip(&parts) {
        assert!((a - b).abs() < 1e-4 * a, "{whole:?} {parts:?}");
    }
}

/// As [`Oracle`], but some of its answers are no numbers: the first ones from a certain one on.
struct Faulty<'a> {
    oracle: Oracle<'a>,
    asked: AtomicUsize,
    wrong: std::ops::Range<usize>,
}

impl TeacherLogits for Faulty<'_> {
    fn classes(&self) -> usize {
        4
    }

    fn read(&self, sample: usize, view: usize, out: &mut [f32]) {
        self.oracle.read(sample, view, out);
        if self.wrong.contains(&self.asked.fetch_add(1, Ordering::Relaxed)) {
            out.fill(f32::NAN);
        }
    }
}

#[test]
fn lost_numbers_are_met_with_half_the_learning_rate_from_the_last_checkpoint() {
    let setting = Setting::new();
    let folder = tempfile::tempdir().unwrap();
    let run = |wrong: std::ops::Range<usize>, name: &str| {
        let teacher = Faulty { oracle: Oracle(&setting.samples), asked: AtomicUsize::new(0), wrong };
        let (samples, train_on, validation) = (&setting.samples, &setting.train[..], &setting.validation[..]);
        let set = TrainingSet {
            samples,
            train: train_on,
            validation,
            teachers: vec![kept(&teacher)],
            answers: &Task::Classification,
        };
        let mut events = Vec::new();
        let mut on = |event| {
            if let Event::RolledBack { loss, step, to, lr } = event {
                assert!(loss.is_nan());
                events.push((step, to, lr));
            }
        };
        let file = folder.path().join(name);
        let trained = train(&(&small_network()).into(), &set, &config(), &Device::flex(), &file, &mut on);
        (trained, events, Checkpoint::load(&file).unwrap().unwrap())
    };
    // Step 20 of 16 in an epoch: back to the end of the first one. Batches are made ahead, and dropped then.
    let lr = config().lr;
    let (trained, events, kept) = run(20 * 16 + 3..20 * 16 + 4, "once");
    assert_eq!(events, [(20, 16, lr / 2.0)]);
    assert_eq!(kept.rollbacks, 1, "a run that is picked up knows of it");
    let trained = trained.unwrap();
    assert_eq!((trained.steps, trained.history.len()), (48, 3));
    assert!(trained.history.iter().all(|e| e.loss.is_finite()), "{:?}", trained.history);
    assert!(trained.history[1].lr < 0.51 * lr && trained.history[0].lr > 0.51 * lr, "{:?}", trained.history);
    assert!(setting.accuracy(&trained.graph) > 0.95, "what was lost is gone");

    let (never, events, _) = run(0..0, "never");
    assert!(events.is_empty() && never.unwrap().history[0] == trained.history[0]);

    let (stopped, events, kept) = run(20 * 16..usize::MAX, "always");
    let Err(Error::NonFinite { step: 16, .. }) = stopped else { panic!("{stopped:?}") };
    assert_eq!(events, [(20, 16, lr / 2.0), (16, 16, lr / 4.0), (16, 16, lr / 8.0)]);
    assert!(kept.network.iter().all(|(_, values)| values.iter().all(|v| v.is_finite())));
}

#[test]
fn an_average_of_the_weights_is_what_is_kept_and_goes_on_after_a_pause() {
    let setting = Setting::new();
    let folder = tempfile::tempdir().unwrap();
    let averaged = Config { ema: 0.9, ..config() };
    let plain = setting.train(&config(), &folder.path().join("plain"), &mut |_| ()).unwrap();
    let (running, kept) = (folder.path().join("running"), folder.path().join("kept"));
    let whole = setting
        .train(&averaged, &running, &mut |event| {
            if let Event::Step(Step { done: 33, .. }) = event {
                std::fs::copy(&running, &kept).unwrap();
            }
        })
        .unwrap();
    let resumed = setting.train(&averaged, &kept, &mut |_| ()).unwrap();
    let bytes = |trained: &Trained| kdc_ir::onnx::export(&trained.graph).unwrap();
    assert_eq!(bytes(&resumed), bytes(&whole));
    assert_ne!(bytes(&plain), bytes(&whole));
    assert!(setting.accuracy(&whole.graph) > 0.95);
}

#[test]
fn training_stops_when_validation_gains_nothing() {
    let setting = Setting::new();
    let folder = tempfile::tempdir().unwrap();
    let config = Config { epochs: 40, patience: Some(2), ..config() };
    let mut stopped = None;
    let trained = setting
        .train(&config, &folder.path().join("c"), &mut |event| {
            if let Event::Stopped { after, without_gain } = event {
                stopped = Some((after, without_gain));
            }
        })
        .unwrap();
    let history = &trained.history;
    assert!(history.len() < 40 && stopped == Some((history.len(), 2)), "{stopped:?} {history:?}");
    let best = history.iter().map(|e| e.accuracy).fold(0.0, f64::max);
    let first = history.iter().position(|e| e.accuracy == best).unwrap();
    assert_eq!(first + 2, history.len() - 1, "{history:?}");
}

#[test]
fn balanced_classes_count_alike() {
    let weights = Tensor::<1>::from_data(TensorData::new(vec![0.5f32, 2.0], [2]), &Device::flex());
    let v = StepValues { weights: Some(weights), ..values(&STUDENT, &TEACHER, &[0, 1]) };
    let each = [-softmax(&STUDENT[0], 1.0)[0].ln(), -softmax(&STUDENT[1], 1.0)[1].ln()];
    let want = (0.5 * each[0] + 2.0 * each[1]) / 2.0;
    assert!((loss(&TermSpec::new("hard-label"), &v) - want).abs() < 1e-5);

    // 64 of class 0, 22 of class 1, none of the others.
    let samples = quadrants(256);
    let train_on: Vec<usize> = (0..256).filter(|i| i % 4 == 0 || i % 12 == 1).collect();
    let set = TrainingSet {
        samples: &samples,
        train: &train_on,
        validation: &[],
        teachers: vec![],
        answers: &Task::Classification,
    };
    let weights = super::run::balanced(&set, 4);
    assert_eq!(weights[..2], [86.0 / (2.0 * 64.0), 86.0 / (2.0 * 22.0)]);
    let folder = tempfile::tempdir().unwrap();
    let loss = |class_weights| {
        let (terms, batch_size) = (vec![TermSpec::new("hard-label")], train_on.len());
        let config = Config { class_weights, terms, batch_size, epochs: 1, ..config() };
        let file = folder.path().join(format!("{class_weights:?}"));
        train(&(&small_network()).into(), &set, &config, &Device::flex(), &file, &mut |_| ()).unwrap().history[0].loss
    };
    assert_ne!(loss(ClassWeights::Even), loss(ClassWeights::Balanced));
}
