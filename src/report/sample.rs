//! A report with something in every field, for tests. Its numbers are made up.

use super::*;
use crate::bench::{Figure, Origin, Unit};
use crate::graph::Cost;
use crate::program::Precision;
use crate::target::elf::{Section, Sections};
use crate::target::{FlashBytes, RamBytes};

/// A compilation in which one budget is breached.
pub fn sample() -> Report {
    let quantization = |scale, zero_point| Some(Quantization { dtype: "i8".into(), scale, zero_point });
    let batch = || Extent::Symbolic("batch".into());
    let memory = Memory {
        weights: Change { bytes: FlashBytes(50_000), float_bytes: FlashBytes(192_000) },
        activations: Change { bytes: RamBytes(14_848), float_bytes: RamBytes(59_392) },
    };
    let section = |name: &str, address, bytes| Section { name: name.into(), address, bytes };
    let own = Sections { code: 40_000, rodata: 52_000, ..Sections::default() };
    let sections = Sections {
        code: 210_000,
        rodata: 90_000,
        data: 9_000,
        bss: 15_500,
        table: vec![section(".text", 4096, 210_000), section(".rodata", 220_000, 90_000)],
    };
    Report {
        schema: SCHEMA,
        header: Header {
            model: "models/tiny/teacher.onnx".into(),
            teacher_hash: "b8f2".repeat(16),
            teacher_engine: Some("tract 0.23.9".into()),
            target: "raspberry-pi-4".into(),
            target_description: "Four Cortex-A72 cores at 1.5 GHz, 1 GB".into(),
            precision: Precision::Int8,
            seed: 7,
            kdc: "0.1.0".into(),
            dry_run: false,
            plan: Plan {
                data: "models/tiny/data: 12,000 training, 2,000 test samples of 28×28×1 in 10 classes".into(),
                student: "the teacher's graph at 0.34 of its width".into(),
                training: "soft-label, 12 epochs of 93 steps".into(),
                quantization: Some("min-max over 256 samples".into()),
            },
        },
        inputs: vec![Port {
            name: "image".into(),
            dtype: "f32".into(),
            shape: vec![batch(), Extent::Fixed(1), Extent::Fixed(28), Extent::Fixed(28)],
            bytes: 3136,
            quantization: quantization(0.011, -55),
        }],
        outputs: vec![Port {
            name: "logits".into(),
            dtype: "f32".into(),
            shape: vec![batch(), Extent::Fixed(10)],
            bytes: 40,
            quantization: quantization(0.17, -12),
        }],
        size: Size {
            teacher: Cost { macs: 45_300_000, params: 392_242 },
            student: Cost { macs: 5_600_000, params: 48_000 },
        },
        accuracy: Some(Accuracy {
            split: "test".into(),
            origin: Origin::Measured,
            rows: vec![
                row(Network::Teacher, "tract 0.23.9", 0.9378, None),
                row(Network::StudentF32, "burn", 0.92, Some(0.951)),
                row(Network::StudentInt8, "reference interpreter", 0.919, Some(0.95)),
                AccuracyRow { samples: 256, ..row(Network::Program, "qemu-aarch64", 0.918, Some(0.949)) },
            ],
            quantization: Some(Changes { samples: 2000, lost: 11, gained: 4 }),
            equality: Some(Equality { samples: 256, values: 2560, differing: 0, classes: 10 }),
            classes: vec![
                ClassRow { name: "Trouser".into(), samples: 990, teacher: Some(0.98), student: 0.985 },
                ClassRow { name: "Shirt".into(), samples: 1010, teacher: Some(0.83), student: 0.79 },
            ],
        }),
        memory: Some(memory),
        layers: vec![
            layer(0, "conv2d", "/stem/Conv", vec![28, 28, 8], 80),
            layer(1, "add", "/block/Add", vec![28, 28, 8], 0),
        ],
        arena: Some(Arena {
            planned: RamBytes(14_848),
            lower_bound: RamBytes(14_112),
            used: Some(RamBytes(14_848)),
            alignment: 16,
        }),
        program: Some(Linked {
            path: "bin/student".into(),
            triple: "aarch64-unknown-linux-gnu".into(),
            rustc: "rustc 1.96.0".into(),
            text: sections.text(),
            sections: sections.clone(),
            libraries: vec!["libc.so.6".into()],
            glibc: Some("2.34".into()),
            findings: vec![],
        }),
        storage: Some(Storage::new(
            &memory,
            FlashBytes(16_000_000_000),
            RamBytes(1_073_741_824),
            Some(&sections),
            Some(&own),
            Some(RamBytes(828)),
        )),
        measurements: vec![
            measurement(
                "student.latency.median",
                "this host",
                Figure::measured("latency, median of 200 runs", 0.00125, Unit::Seconds),
            ),
            measurement(
                "student.instructions",
                "qemu-aarch64 -cpu cortex-a72",
                Figure::simulated("instructions per inference", 2.31e6, Unit::Instructions),
            ),
            measurement(
                "student.latency.estimated",
                "cost model of raspberry-pi-4",
                Figure::estimated("latency", 0.0021, Unit::Seconds),
            ),
            measurement(
                "host.latency.estimated",
                "cost model of host",
                Figure::estimated("latency on this host", 0.00130, Unit::Seconds),
            ),
        ],
        verdicts: vec![
            Verdict::new("--max-macs", Source::Default, Quantity::Macs, (5_600_000.0, 5_662_500.0), None),
            Verdict::new("--max-ram", Source::Asked, Quantity::Bytes, (14_848.0, 12_288.0), None),
            Verdict::new("--max-quant-drop", Source::Default, Quantity::Points, (0.1, 0.3), Some(Origin::Measured)),
        ],
        replaced: vec![Replaced {
            operator: "HardSwish".into(),
            by: "Relu".into(),
            nodes: 3,
            before_s: Some(0.0030),
            after_s: Some(0.0021),
        }],
        candidates: vec![
            candidate("narrower", 700_000, vec![0.81, 0.845], Outcome::Chosen),
            candidate("narrower, separable", 690_000, vec![0.78], Outcome::Behind { round: 1 }),
            candidate("template image-residual", 0, vec![], Outcome::Impossible { why: "it exceeds --max-ram".into() }),
        ],
        files: vec![
            FileEntry { path: "student.onnx".into(), bytes: 197_120, what: "the student, f32".into() },
            FileEntry { path: "crate/".into(), bytes: 150_000, what: "the program's source".into() },
        ],
        skipped: vec![
            Skipped::new("the comparison with ONNX Runtime", "no library was found")
                .for_want_of(Tool::OnnxRuntime, Some("pip install onnxruntime".into())),
        ],
        findings: vec![],
        stages: vec![
            Stage { name: "import".into(), cached: false, seconds: 0.04 },
            Stage { name: "distill".into(), cached: true, seconds: 0.01 },
            Stage { name: "build".into(), cached: false, seconds: 751.2 },
        ],
    }
}

fn row(network: Network, engine: &str, accuracy: f64, agreement: Option<f64>) -> AccuracyRow {
    AccuracyRow { network, engine: engine.into(), samples: 2000, accuracy, agreement }
}

fn layer(id: usize, kernel: &str, name: &str, output_shape: Vec<usize>, params: u64) -> Layer {
    let macs = params * 706;
    Layer { id, kernel: kernel.into(), name: name.into(), output_shape, params, macs, bytes: params, estimated_s: 2e-5 }
}

fn measurement(key: &str, on: &str, figure: Figure) -> Measurement {
    Measurement::new(key, on, figure)
}

fn candidate(name: &str, macs: u64, accuracies: Vec<f64>, outcome: Outcome) -> CandidateRow {
    let latency_s = macs as f64 / 3.5e8;
    let (ram_bytes, flash_bytes, params) = (macs / 50, macs / 15, macs / 15);
    CandidateRow {
        name: name.into(),
        macs,
        params,
        ram_bytes,
        flash_bytes,
        latency_s,
        accuracies,
        expected: None,
        outcome,
    }
}
