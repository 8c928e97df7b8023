//! kdc: an ahead-of-time student compiler for edge devices.
//!
//! From a trained ONNX network (the *teacher*) to a small, verified program for a board (the *student*):
//!
//! ```text
//! teacher.onnx ─import→ Graph ─derive→ student Graph ─distill→ trained Graph ─calibrate, lower→ Program ─plan, emit→ crate ─build→ ELF ─bench→ report
//! ```
//!
//! - [Should I use this crate?](#should-i-use-this-crate)
//! - [The whole of it in a few lines](#the-whole-of-it-in-a-few-lines)
//! - [Looking at a network](#looking-at-a-network)
//! - [Describing data and training](#describing-data-and-training)
//! - [The parts](#the-parts)
//!
//! # Should I use this crate?
//!
//! Most people want the program `kdc`, which does everything that this crate does from the command line, and the book about it
//! (`make docs`). Use the crate to start compilations from Rust, to read its reports as data, or to work with the parts: an
//! importer of ONNX with shape inference, a differentiable executor on [burn](https://burn.dev), structured pruning, distillation,
//! quantization, a memory planner, a code generator.
//!
//! It is not the runtime of a student: generated crates depend on nothing but kernels of their own. And its interface is not
//! stable: versions below 1 may change any of it.
//!
//! # The whole of it in a few lines
//!
//! [`pipeline::compile`] takes [`Options`](pipeline::Options) and gives a [`Report`](report::Report). `examples/compile.rs`,
//! `examples/distill.rs` and `examples/inspect.rs` are whole programs.
//!
//! ```no_run
//! use kdc::pipeline::{self, Options, Silent};
//!
//! let mut options = Options::new("teacher.onnx", "raspberry-pi");
//! options.budgets.ram_bytes = Some(64 * 1024);
//! let report = pipeline::compile(options, &Silent)?;
//! println!("{}", report.to_text());
//! for breach in report.breaches() {
//!     println!("not met: {breach}");
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Looking at a network
//!
//! ```
//! use kdc::{graph, onnx, target};
//!
//! let teacher = onnx::load("models/fashion/teacher.onnx".as_ref())?;
//! let (cost, layers) = graph::cost(&teacher);
//! assert_eq!((cost.macs, cost.params), (45_328_704, 391_402));
//! assert_eq!(layers.len(), teacher.nodes.len());
//!
//! let board = target::find("raspberry-pi", &[])?;
//! assert_eq!(board.id, "raspberry-pi-4");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Describing data and training
//!
//! ```
//! use kdc::{data::Sidecar, distill::Recipe};
//!
//! let sidecar = Sidecar::load("models/fashion/teacher.toml".as_ref())?;
//! assert_eq!(sidecar.classes.map(|classes| classes.len()), Some(10));
//!
//! let recipe = Recipe::parse("[[term]]\nmethod = \"soft-label\"\n", "recipe.toml".as_ref())?;
//! assert_eq!(recipe.stages.len(), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The parts
//!
//! In the order a network passes through them; imports run downhill, from the last to the first.
//!
//! | module | what |
//! |---|---|
//! | [`graph`], [`host`] | networks as ONNX knows them: the IR, and its arithmetic on the host |
//! | [`onnx`], [`pass`] | reading and writing files; rewriting |
//! | [`exec`] | runs a Graph on burn tensors, differentiable |
//! | [`data`], [`teacher`] | samples; running a teacher and keeping its outputs |
//! | [`student`], [`distill`] | deriving a student under budgets; training it |
//! | [`quant`], [`program`] | calibration; the IR of devices: lowering, reference interpreter, memory planner |
//! | [`target`], [`emit`] | boards, cost model, toolchains; generated crates |
//! | [`bench`], [`report`] | measuring; what a compilation came to |
//! | [`pipeline`], [`cli`] | the stages with their cache; the command line |
//! | [`files`], [`escape`] | files that are either whole or not there; names from files, made safe to print |

pub mod cli;
pub mod pipeline;
pub mod report;

pub use kdc_device::{bench, emit, program, quant, target};
pub use kdc_exec as exec;
#[doc(hidden)]
pub use kdc_ir::testing;
pub use kdc_ir::{escape, files, graph, host, onnx, pass};
pub use kdc_train::{data, distill, student, teacher};
