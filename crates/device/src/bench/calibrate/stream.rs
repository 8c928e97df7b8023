//! A program that is bound by how fast its weights come in.

use super::micro::Micro;
use crate::program::{Buffer, BufferId, Kernel, Linear, Plan, Port, Precision, Program, Step};

const FEATURES: usize = 768;
const LAYERS: usize = 4;
/// All of its weights: more than second-level caches hold, less than third-level ones.
pub const BYTES: usize = LAYERS * FEATURES * FEATURES * 4;

/// Matrix products of one row, each with weights of its own.
pub fn program() -> Micro {
    let buffer = |i: usize| Buffer { name: format!("b{i}"), shape: vec![FEATURES], ..Buffer::default() };
    let step = |i: usize| Step {
        name: format!("product {i}"),
        kernel: Kernel::FullyConnected {
            rows: 1,
            in_features: FEATURES,
            out_features: FEATURES,
            linear: Linear::F32 {
                weights: (0..FEATURES * FEATURES).map(|w| ((w * 7 + i) % 13) as f32 * 0.002 - 0.01).collect(),
                bias: vec![0.1; FEATURES],
                min: 0.0,
                max: 6.0,
            },
        },
        inputs: vec![BufferId(i as u32)],
        output: BufferId(i as u32 + 1),
    };
    let port = |name: &str, id: usize| Port {
        name: name.into(),
        shape: vec![1, FEATURES],
        buffer: BufferId(id as u32),
        perm: None,
    };
    let bytes = FEATURES * 4;
    let program = Program {
        name: "weights".into(),
        precision: Precision::F32,
        buffers: (0..=LAYERS).map(buffer).collect(),
        steps: (0..LAYERS).map(step).collect(),
        inputs: vec![port("x", 0)],
        output: port("y", LAYERS),
        raw_input: None,
    };
    let offsets = (0..=LAYERS).map(|i| i % 2 * bytes).collect();
    Micro { program, plan: Plan { offsets, arena_bytes: 2 * bytes, lower_bound: 2 * bytes, alignment: 16 } }
}
