//! A student, trained and judged, without a program.
//!
//!     cargo run --release --example distill -- models/fashion/teacher.onnx

use kdc::distill::{Recipe, TermSpec};
use kdc::pipeline::{self, Options, Search, Silent};
use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args().nth(1).ok_or("usage: distill MODEL")?;

    let mut options = Options::new(model, "host");
    options.budgets.macs = Some(1_000_000);
    options.derivation.search = Search::Off;
    options.training.epochs = Some(1);
    let term = TermSpec::new("soft-label").with("alpha", 0.9).with("temperature", 2.0);
    options.training.recipe = Some(Recipe::of("soft labels", vec![term]));

    let distilled = pipeline::distill(options, false, &Silent)?;
    for (name, judged) in [("teacher", distilled.teacher), ("student", Some(distilled.distilled))] {
        if let Some(accuracy) = judged.and_then(|judged| judged.accuracy) {
            println!("{name}: {:.2}% of {} test samples are right (measured)", 100.0 * accuracy, distilled.samples);
        }
    }
    println!("student.onnx is in {}", distilled.out.display());
    Ok(())
}
