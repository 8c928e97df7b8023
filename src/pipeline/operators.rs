//! The int8 student's operators one by one, beside ONNX Runtime's.
//!
//! Both round once for each operator, and where a result lies next to the middle between two integers they may round apart:
//! the program multiplies in fixed point, ONNX Runtime in `f32`. In a deep network such a step, which is about one in two
//! million, is carried on by all operators that follow, so that outputs of the whole may be some steps apart although no
//! operator is more than one (56 convolutions: 22 of 38 million results, and three steps at the end). Hence operators are
//! compared on the same operands, those that ONNX Runtime computed, and the network as a whole by its accuracy.

use super::Error;
use super::stages::Integers;
use crate::data::{Dataset, SampleView};
use crate::graph::{Dim, Graph};
use crate::onnx;
use crate::program::reference::{self, Activation};
use crate::program::{BufferId, Constant, Kernel, Program, Quant};
use crate::teacher::{self, EngineChoice};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Samples whose every value is compared.
const SAMPLES: usize = 4;

/// How far operators are from ONNX Runtime's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorCheck {
    /// Operators compared: those whose operands and result ONNX Runtime can be asked for.
    pub operators: usize,
    /// Results compared, and those that differ.
    pub values: usize,
    pub differing: usize,
    /// The largest difference in quantization steps.
    pub largest: u32,
}

/// Compares operators on the first test samples. `path` is the exported file, `qdq` its contents.
///
/// # Errors
/// When ONNX Runtime fails on the file.
pub(super) fn operators(
    integers: &Integers,
    samples: &dyn Dataset,
    path: &Path,
    qdq: &[u8],
) -> Result<OperatorCheck, Error> {
    let Integers { model, program } = integers;
    let graph = &model.graph;
    let stored = onnx::stored_names(qdq)?;
    let first = |name: &str| graph.find(name).and_then(|id| graph.value(id).shape.first().copied());
    let wanted: BTreeMap<BufferId, &String> = (0..program.buffers.len() as u32)
        .map(BufferId)
        .filter(|&id| is_value(program, graph, id) && first(&program.buffer(id).name) == Some(Dim::Batch))
        .filter_map(|id| Some((id, stored.get(&program.buffer(id).name)?)))
        .collect();
    let mut taps: Vec<String> = wanted.values().map(|name| name.to_string()).collect();
    taps.sort();
    taps.dedup();
    let engine = teacher::open(path, &taps, EngineChoice::OnnxRuntime, teacher::UNCOMPARED)?;
    let mut check = OperatorCheck::default();
    for sample in 0..SAMPLES.min(samples.len()) {
        let answers = engine.run(&samples.batch(&SampleView::plain([sample])))?;
        let contents = |id: BufferId| {
            let tensor = &answers.taps[taps.binary_search(wanted.get(&id)?).ok()?];
            let values = reference::transpose(&tensor.shape, &program.buffer(id).order, &tensor.to_f32());
            // Bytes are unsigned in the file.
            Some(Activation::I8(values.iter().map(|v| (v - 128.0) as i8).collect()))
        };
        let compared = check.operators;
        check.operators = 0;
        compare(program, &contents, &mut check);
        debug_assert!(sample == 0 || compared == check.operators);
    }
    Ok(check)
}

/// Whether a buffer holds a value of the network as the file stores it.
fn is_value(program: &Program, graph: &Graph, id: BufferId) -> bool {
    let buffer = program.buffer(id);
    let quant = graph.find(&buffer.name).and_then(|id| graph.value(id).quant.as_ref());
    let quant = quant.map(|q| Quant { scale: q.scale[0], zero_point: q.zero_point[0] as i8 });
    !buffer.order.is_empty() && quant.is_some() && buffer.quant == quant
}

/// Runs every step whose operands and result are known.
fn compare(program: &Program, contents: &dyn Fn(BufferId) -> Option<Activation>, check: &mut OperatorCheck) {
    let made: BTreeMap<BufferId, usize> = program.steps.iter().enumerate().map(|(i, step)| (step.output, i)).collect();
    let known = |mut id: BufferId| loop {
        if let Some(constant) = &program.buffer(id).constant {
            return match constant {
                Constant::Int8(values) => Some(Activation::I8(values.clone())),
                Constant::F32(values) => Some(Activation::F32(values.clone())),
            };
        }
        match made.get(&id).map(|&index| &program.steps[index]) {
            // The same elements under another name.
            Some(step) if step.kernel == Kernel::Reshape => id = step.inputs[0],
            _ => return contents(id),
        }
    };
    for step in program.steps.iter().filter(|step| step.kernel != Kernel::Reshape) {
        let operands: Option<Vec<Activation>> = step.inputs.iter().map(|&id| known(id)).collect();
        let (Some(operands), Some(Activation::I8(theirs))) = (operands, known(step.output)) else { continue };
        let Activation::I8(ours) = reference::step(program, step, &operands.iter().collect::<Vec<_>>()) else {
            continue;
        };
        let steps = ours.iter().zip(&theirs).map(|(a, b)| u32::from(a.abs_diff(*b)));
        check.operators += 1;
        check.values += ours.len();
        check.differing += steps.clone().filter(|&s| s > 0).count();
        check.largest = check.largest.max(steps.max().unwrap_or(0));
    }
}
