//! Networks that read tokens, and transformers for images.

use super::*;
use kdc_ir::graph::{DType, Data};
use kdc_ir::{onnx, pass};
use std::path::Path;

/// A network of the repository, or of the folder KDC_DATA.
fn family(name: &str) -> Option<Graph> {
    let ours =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/networks/families").join(name).join("model.onnx");
    let data = std::env::var_os("KDC_DATA");
    let shared = data.map(|folder| Path::new(&folder).join("models/families").join(name).with_extension("onnx"));
    let path = Some(ours).filter(|path| path.exists()).or(shared)?;
    let mut graph = onnx::load(&path).unwrap();
    pass::normalize(&mut graph).unwrap();
    Some(graph)
}

/// Samples: tokens where an input is of whole numbers, and a mask where one is called so.
fn inputs(graph: &Graph, seed: u64) -> Vec<Tensor> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let one = |(index, &id): (usize, &ValueId)| {
        let value = graph.value(id);
        let shape = kdc_ir::graph::shape_at(&value.shape, 1);
        let n: usize = shape.iter().product();
        match value.dtype {
            DType::F32 => Tensor::f32(shape, noise(&mut rng, n)),
            // The second input is a mask in all of these: tokens, then padding.
            _ if index == 1 => Tensor::i64(shape, (0..n).map(|i| i64::from(i < n / 2 + seed as usize)).collect()),
            _ => Tensor::new(shape, Data::I64((0..n).map(|_| rng.random_range(2..100)).collect())),
        }
    };
    graph.inputs.iter().enumerate().map(one).collect()
}

fn run_network(graph: &Graph, inputs: &[Tensor], taps: &[ValueId]) -> (Vec<f32>, Vec<Vec<f32>>) {
    let network = Network::new(graph, &Device::flex()).unwrap();
    let inputs = inputs.iter().cloned().map(Datum::from).collect::<Vec<_>>();
    let out = network.forward(inputs, taps, Mode::Infer).unwrap();
    let host = |v: &Datum| v.to_host().unwrap().to_f32().into_owned();
    (host(&out.outputs[0]), out.taps.iter().map(host).collect())
}

fn together(inputs: &[Tensor]) -> Vec<f32> {
    inputs.iter().flat_map(|t| t.to_f32().into_owned()).collect()
}

fn calibrated(graph: &Graph) -> QuantizedModel {
    let ids = watched(graph);
    let mut observers = vec![Observer::default(); ids.len()];
    for seed in 0..8 {
        for (observer, values) in observers.iter_mut().zip(run_network(graph, &inputs(graph, seed), &ids).1) {
            observer.see(&values).unwrap();
        }
    }
    CalibratedModel::new(graph.clone(), &observers, Calibration::MinMax).unwrap().quantize().unwrap()
}

/// Networks of the repository in both precisions, and some samples for each.
pub(crate) fn transformers() -> Vec<(Program, Vec<f32>)> {
    let mut all = vec![];
    for name in FAMILIES {
        let graph = family(name).unwrap();
        let samples: Vec<f32> = (0..4).flat_map(|seed| together(&inputs(&graph, seed))).collect();
        for mut program in [lower_f32(&graph, None).unwrap(), lower_int8(&calibrated(&graph), None).unwrap()] {
            program.name = format!("{name}_{:?}", program.precision);
            all.push((program, samples.clone()));
        }
    }
    all
}

const FAMILIES: [&str; 3] = ["bert", "vit", "bert-one"];

#[test]
fn float_programs_of_transformers_compute_what_the_networks_do() {
    for name in FAMILIES {
        let graph = family(name).unwrap();
        let program = lower_f32(&graph, None).unwrap_or_else(|e| panic!("{name}: {e}"));
        for seed in 0..3 {
            let inputs = inputs(&graph, seed);
            let want = run_network(&graph, &inputs, &[]).0;
            let got = reference::run(&program, &reference::Input::F32(&together(&inputs))).unwrap().output_f32();
            let scale = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
            for (g, w) in got.iter().zip(&want) {
                assert!((g - w).abs() < 1e-4 * scale, "{name}: {got:?} against {want:?}");
            }
        }
    }
}

#[test]
fn integer_programs_of_transformers_are_close_to_the_networks() {
    for name in FAMILIES {
        let graph = family(name).unwrap();
        let model = calibrated(&graph);
        let program = lower_int8(&model, None).unwrap_or_else(|e| panic!("{name}: {e}"));
        check(&program, &plan(&program).unwrap()).unwrap();
        let (mut off, mut all) = (0.0, 0.0);
        for seed in 0..8 {
            let inputs = inputs(&graph, seed);
            let want = run_network(&graph, &inputs, &[]).0;
            let got = reference::run(&program, &reference::Input::F32(&together(&inputs))).unwrap().output_f32();
            off += got.iter().zip(&want).map(|(g, w)| (g - w).powi(2)).sum::<f32>();
            all += want.iter().map(|w| w * w).sum::<f32>();
        }
        assert!(off < 0.05 * all, "{name}: {off} of {all}");
    }
}

#[test]
fn the_exported_file_means_the_same_to_onnx_runtime() {
    use kdc_train::teacher::{self, EngineChoice};
    let folder = tempfile::tempdir().unwrap();
    for name in FAMILIES {
        let graph = family(name).unwrap();
        let model = calibrated(&graph);
        let path = folder.path().join(format!("{name}.onnx"));
        std::fs::write(&path, onnx::export(&model.graph).unwrap()).unwrap();
        let engine = match teacher::open(&path, &[], EngineChoice::OnnxRuntime, teacher::UNCOMPARED) {
            Err(teacher::Error::NoLibrary { what }) => {
                return kdc_ir::testing::skipped(format!("no ONNX Runtime ({what})"));
            }
            engine => engine.unwrap(),
        };
        let program = lower_int8(&model, None).unwrap();
        let step = program.buffer(program.output.buffer).quant.unwrap().scale;
        let mut steps = vec![];
        for seed in 0..16 {
            let inputs = inputs(&graph, seed % 8);
            let want = engine.run(&inputs).unwrap().outputs.remove(0);
            let got = reference::run(&program, &reference::Input::F32(&together(&inputs))).unwrap().output_f32();
            steps.extend(got.iter().zip(want.to_f32().iter()).map(|(g, w)| ((g - w).abs() / step).round()));
        }
        let beyond = steps.iter().filter(|s| **s > 1.0).count();
        println!(
            "{name}: {beyond} of {} beyond one step, {:?} at most",
            steps.len(),
            steps.iter().copied().fold(0.0, f32::max)
        );
    }
}
