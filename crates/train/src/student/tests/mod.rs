mod families;
mod head;
mod masked;
mod parts;
mod random;
mod replace;
mod saturation;
mod shuffles;
mod templates;
mod widths;

use super::*;
use burn::tensor::Device;
use kdc_exec::{Datum, Mode, Network};
use kdc_ir::graph::{Data, Dim, Tensor};

/// What a graph computes of its inputs.
fn computed(graph: &Graph, inputs: &[Tensor]) -> Vec<Tensor> {
    let network = Network::new(graph, &Device::flex()).unwrap();
    let inputs: Vec<Datum> = inputs.iter().cloned().map(Datum::from).collect();
    let outputs = network.forward(inputs, &[], Mode::Infer).unwrap();
    outputs.outputs.iter().map(|o| o.to_host().unwrap()).collect()
}

/// The largest difference, as a share of the largest number.
fn difference(a: &[Tensor], b: &[Tensor]) -> f32 {
    let of = |(a, b): (&Tensor, &Tensor)| {
        assert_eq!(a.shape, b.shape);
        let (a, b) = (a.to_f32(), b.to_f32());
        let scale = a.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
        a.iter().zip(b.iter()).map(|(x, y)| (x - y).abs() / scale).fold(0.0, f32::max)
    };
    a.iter().zip(b).map(of).fold(0.0, f32::max)
}

/// Cuts to a share of every group and compares with the same network, masked.
fn assert_equal_to_masked(graph: &Graph, groups: &Groups, share: f64, inputs: &[Tensor], name: &str) -> Graph {
    let importance = importance(graph, groups, Criterion::Random, &Evidence::default(), 3);
    let kept = keep(&importance, &uniform(groups, share));
    let student = shrink(graph, groups, &kept).unwrap_or_else(|e| panic!("{name}: {e}"));
    let masked = masked::masked(graph, groups, &kept);
    kdc_ir::graph::verify(&masked).unwrap_or_else(|e| panic!("{name}: {e}"));
    let (a, b) = (computed(&masked, inputs), computed(&student, inputs));
    let off = difference(&a, &b);
    assert!(off <= 1e-5, "{name} at {share}: {off} from the masked network");
    student
}

/// One gradient step: every parameter that had a gradient in the teacher has one, and all are finite.
fn assert_trains(graph: &Graph, inputs: &[Tensor], name: &str) {
    let network = Network::new(graph, &Device::flex().autodiff()).unwrap();
    let inputs: Vec<Datum> = inputs.iter().cloned().map(Datum::from).collect();
    let outputs = network.forward(inputs, &[], Mode::Train { momentum: 0.9 }).unwrap();
    let Datum::Float(value) = &outputs.outputs[0] else { panic!("{name}: its output is no float") };
    let flat = value.clone().reshape(&[value.shape().iter().product()]).into_tensor::<1>().unwrap();
    let mut gradients = (flat.clone() * flat).mean().backward();
    let taken = network.take_gradients(&mut gradients);
    let mut some = 0;
    for (param, gradient) in network.params().iter().zip(&taken) {
        let Some(gradient) = gradient else { continue };
        let numbers: Vec<f32> = gradient.to_data().iter::<f32>().collect();
        assert!(numbers.iter().all(|v| v.is_finite()), "{name}: {} has a gradient that is not finite", param.name);
        some += usize::from(numbers.iter().any(|v| *v != 0.0));
    }
    assert!(2 * some >= taken.len(), "{name}: {some} of {} parameters learn", taken.len());
}

/// Numbers for an input: small indices where it takes some.
fn input(value: &kdc_ir::graph::Value, batch: usize, seed: usize) -> Tensor {
    let shape: Vec<usize> = value.shape.iter().map(|d| d.at(batch)).collect();
    let count: usize = shape.iter().product();
    let number = |i: usize| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.5 - 1.0;
    let whole = |i: usize| ((i * 31 + seed) % 5) as i64;
    match value.dtype {
        kdc_ir::graph::DType::I64 => Tensor::i64(shape, (0..count).map(whole).collect()),
        kdc_ir::graph::DType::I32 => Tensor::new(shape, Data::I32((0..count).map(|i| whole(i) as i32).collect())),
        kdc_ir::graph::DType::Bool => Tensor::new(shape, Data::Bool((0..count).map(|i| i % 3 > 0).collect())),
        _ => Tensor::f32(shape, (0..count).map(number).collect()),
    }
}

/// A dimension that is known.
fn fixed(n: usize) -> Dim {
    Dim::Fixed(n)
}
