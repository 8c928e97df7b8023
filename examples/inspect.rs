//! What a model is: its layers, their costs, and what has no kernel on a board.
//!
//!     cargo run --release --example inspect -- models/fashion/teacher.onnx raspberry-pi

use kdc::pipeline::{self, SampleSource};
use kdc::{onnx::Given, target};
use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = PathBuf::from(arguments.next().ok_or("usage: inspect MODEL [TARGET]")?);
    let board = arguments.next().unwrap_or("host".into());

    let profile = target::find(&board, &target::folders(&[]))?;
    let inspection = pipeline::inspect(&model, &Given::default(), Some(&profile), &SampleSource::default(), false)?;

    println!("{}: {} MACs, {} parameters", inspection.model, inspection.cost.macs, inspection.cost.params);
    for layer in &inspection.layers {
        println!("{:>12} MACs  {:<20} {}", layer.macs, layer.operator, layer.name);
    }
    for node in inspection.without_kernel.iter().flatten() {
        println!("no kernel on {board}: {} {}: {}", node.operator, node.node, node.why);
    }
    if let Some(accuracy) = inspection.sample.and_then(|sample| sample.accuracy) {
        println!("{:.2}% of the test samples are right (measured)", 100.0 * accuracy);
    }
    Ok(())
}
