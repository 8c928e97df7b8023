//! The kdc side of the training comparison: `cargo bench --bench train_speed -- run FOLDER NAME STEPS`.
//!
//! Trains the network of `peer.py make` on its batches, and prints one line of JSON: seconds of each step, losses, peak
//! memory. `compare.py` runs both sides in turn.

use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use kdc::distill::{Optimizer, OptimizerConfig, Trainables};
use kdc::exec::{Mode, Network, Value, in_pool};
use kdc::graph::Tensor as HostTensor;
use kdc::{onnx, pass};
use safetensors::SafeTensors;
use std::path::Path;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 64;

fn main() {
    // `cargo bench` adds a flag of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let [verb, folder, name, steps] = &arguments[..] else {
        return println!("usage: run FOLDER NAME STEPS, with the files that `peer.py make FOLDER` writes");
    };
    assert_eq!(verb, "run", "the verb");
    kdc::exec::keep_memory();
    let rate = if name == "transformer" { 0.02 } else { 0.01 };
    let (seconds, losses) = train(Path::new(folder), name, steps.parse().expect("a number of steps"), rate);
    let peak = peak_bytes();
    println!("{}", serde_json::json!({ "seconds": seconds, "losses": losses, "peak": peak }));
}

fn train(folder: &Path, name: &str, steps: usize, rate: f64) -> (Vec<f64>, Vec<f32>) {
    let mut graph = onnx::load(&folder.join(name).with_extension("onnx")).expect("the network");
    pass::normalize(&mut graph).expect("the network");
    let file = std::fs::read(folder.join(name).with_extension("safetensors")).expect("the batches");
    let file = SafeTensors::deserialize(&file).expect("the batches");
    let (inputs, labels) = (file.tensor("inputs").expect("inputs"), file.tensor("labels").expect("labels"));
    let mut shape = inputs.shape().to_vec();
    let batches = shape[0] / BATCH;
    shape[0] = BATCH;
    let inputs: Vec<f32> = inputs.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let labels: Vec<i64> = labels.data().as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect();

    let device = Device::flex().autodiff();
    let network = Network::new(&graph, &device).expect("the network");
    let sgd = OptimizerConfig::Sgd { momentum: 0.9, weight_decay: 0.0 };
    let count = network.params().len();
    let mut optimizer = Optimizer::new(sgd, f64::INFINITY, count);
    let mut trainables = Trainables::of(network, &Device::flex());
    let (mut seconds, mut losses) = (Vec::new(), Vec::new());
    for step in 0..steps {
        let batch = step % batches;
        let length = inputs.len() / batches;
        let input = inputs[batch * length..][..length].to_vec();
        let start = Instant::now();
        let value = in_pool(|| {
            let input = Value::from_host(&HostTensor::f32(shape.clone(), input), &device).expect("a batch");
            let mode = Mode::Train { momentum: 0.9 };
            let outputs = trainables.student.forward(vec![input], &[], mode).expect("a pass").outputs;
            let logits = outputs.into_iter().next().expect("an output").into_float().expect("logits");
            let logits: Tensor<2> = logits.into_tensor().expect("logits");
            let labels = labels[batch * BATCH..][..BATCH].to_vec();
            let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [BATCH]), &device);
            let loss = activation::log_softmax(logits, 1).gather(1, labels.reshape([BATCH, 1])).mean().neg();
            let value = loss.clone().inner().into_data().iter::<f32>().next().expect("a loss");
            let mut gradients = loss.backward();
            let gradients = trainables.take_gradients(&mut gradients, &[]);
            optimizer.step(&mut trainables, gradients, rate);
            value
        });
        seconds.push(start.elapsed().as_secs_f64());
        losses.push(value);
    }
    (seconds, losses)
}

/// The largest resident size so far.
fn peak_bytes() -> u64 {
    // SAFETY: zeros are a valid rusage, and the call only writes there.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    usage.ru_maxrss as u64 * 1024
}
