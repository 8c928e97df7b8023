//! A model with stored inputs and outputs, in the layout of ONNX's operator tests: `model.onnx`, and
//! `test_data_set_0/{input,output}_N.pb`.

use kdc::exec::{Datum, Mode, Network};
use kdc::graph::{Dim, Graph, Tensor, ValueId};
use kdc::host::{Numbers, pick};
use kdc::onnx;
use std::fs;
use std::path::Path;

/// The stored tensors of one kind, in order.
pub fn tensors(case: &Path, kind: &str) -> Result<Vec<Tensor>, String> {
    let file = |i: usize| case.join("test_data_set_0").join(format!("{kind}_{i}.pb"));
    let read = |path: std::path::PathBuf| {
        let bytes = fs::read(path).map_err(|e| e.to_string())?;
        onnx::import_tensor(&bytes).map_err(|e| e.to_string())
    };
    (0..).map(file).take_while(|p| p.is_file()).map(read).collect()
}

/// The outputs of a graph by the executor.
pub fn computed(graph: &Graph, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, String> {
    let network = Network::new(graph, &burn::tensor::Device::flex()).map_err(|e| e.to_string())?;
    let inputs: Vec<Datum> = inputs.into_iter().map(Datum::from).collect();
    let outputs = network.forward(inputs, &[], Mode::Infer).map_err(|e| e.to_string())?;
    outputs.outputs.iter().map(|o| o.to_host().map_err(|e| e.to_string())).collect()
}

/// As [`computed`], of a single sample where the batch is open also together with another one: samples that are computed
/// together have to be what each is alone.
pub fn computed_apart(graph: &Graph, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, String> {
    let open = |id: &ValueId| graph.value(*id).shape.first() == Some(&Dim::Batch);
    let single = inputs.iter().all(|t| t.shape.first() == Some(&1));
    if !single || inputs.is_empty() || !graph.inputs.iter().chain(&graph.outputs).all(open) {
        return computed(graph, inputs);
    }
    let alone = computed(graph, inputs.clone())?;
    let other: Vec<Tensor> = inputs.iter().map(reversed).collect();
    let other_alone = computed(graph, other.clone())?;
    let pair = |a: &[Tensor], b: &[Tensor]| a.iter().zip(b).map(|(a, b)| stacked(a, b)).collect::<Vec<_>>();
    let together = computed(graph, pair(&inputs, &other))?;
    match difference(&together, &pair(&alone, &other_alone), 1e-4, 1e-5) {
        Some(what) => Err(format!("two samples together are not what each is alone: {what}")),
        None => Ok(alone),
    }
}

fn reversed(tensor: &Tensor) -> Tensor {
    let at: Vec<usize> = (0..tensor.len()).rev().collect();
    Tensor::new(tensor.shape.clone(), pick(&tensor.data, &at))
}

fn stacked(a: &Tensor, b: &Tensor) -> Tensor {
    let numbers = [Numbers::of(a), Numbers::of(b)];
    let at: Vec<(usize, usize)> = (0..2).flat_map(|s| (0..a.len()).map(move |i| (s, i))).collect();
    let shape = [&[2], &a.shape[1..]].concat();
    Tensor::new(shape, Numbers::gather(&numbers, &at).into_data(a.dtype()))
}

/// What is off, if anything: relative and absolute tolerance together, the absolute one a share of the output's own
/// scale, since sums of many numbers round at the size of the numbers.
pub fn difference(computed: &[Tensor], expected: &[Tensor], relative: f64, of_scale: f64) -> Option<String> {
    if computed.len() < expected.len() {
        return Some(format!("{} outputs, expected {}", computed.len(), expected.len()));
    }
    computed.iter().zip(expected).find_map(|(c, e)| {
        if c.shape != e.shape {
            return Some(format!("shape {:?}, expected {:?}", c.shape, e.shape));
        }
        let (c, e) = (Numbers::of(c).real(), Numbers::of(e).real());
        let scale = e.iter().filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max(v.abs()));
        let near = |c: f64, e: f64| (c - e).abs() <= relative * e.abs() + of_scale * scale + 1e-7;
        let off = |(_, (c, e)): &(usize, (&f64, &f64))| c != e && !(c.is_nan() && e.is_nan()) && !near(**c, **e);
        let first = c.iter().zip(&e).enumerate().find(off);
        first.map(|(i, (c, e))| format!("element {i} is {c}, expected {e}"))
    })
}
