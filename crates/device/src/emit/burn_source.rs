//! Graph → a project that computes it as burn source, by burn-onnx (<https://github.com/tracel-ai/burn-onnx>), which
//! writes the network's own `Model` and its weights; around it a program that runs files of numbers, to compare.

use super::{Error, folder, text};
use burn_onnx::{LoadStrategy, ModelGen};
use kdc_ir::graph::{DType, Graph, ValueId};
use kdc_ir::onnx;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// The version of burn that the source is for: that of kdc's own.
const BURN: &str = "=0.22.1";

/// Writes the project as the folder `dir`, replacing one that kdc wrote there before. The same graph gives the same
/// bytes.
///
/// # Errors
/// When the graph has an operator that burn-onnx does not know, or the folder cannot be written; a project that was
/// there is left alone then.
pub fn write_burn_source(graph: &Graph, dir: &Path) -> Result<(), Error> {
    let failed = |what: String| Error::BurnSource { what };
    let scratch = tempfile::tempdir().map_err(|source| Error::Io { path: std::env::temp_dir(), source })?;
    let at = |name: &str| scratch.path().join(name);
    let model = onnx::export(graph).map_err(|e| failed(e.to_string()))?;
    std::fs::write(at("network.onnx"), model).map_err(|source| Error::Io { path: at("network.onnx"), source })?;
    // It would print every step; where it finds a listener, it installs none.
    _ = tracing_core::dispatcher::set_global_default(tracing_core::Dispatch::none());
    let generate = || {
        ModelGen::new()
            .input(&at("network.onnx").to_string_lossy())
            .out_dir(&at("made").to_string_lossy())
            .load_strategy(LoadStrategy::Bytes)
            .run_from_cli();
    };
    // Its errors are panics.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let generated = catch_unwind(AssertUnwindSafe(generate));
    std::panic::set_hook(hook);
    generated.map_err(|panic| failed(said(panic.as_ref())))?;
    let read = |name: &str| {
        let path = at("made").join(name);
        std::fs::read(&path).map_err(|source| Error::Io { path, source })
    };
    let source =
        String::from_utf8_lossy(&read("network.rs")?).replace(&*at("network.onnx").to_string_lossy(), &graph.name);
    let files = [
        ("Cargo.toml".into(), manifest(graph).into()),
        ("src/network.rs".into(), source.into()),
        ("src/network.bpk".into(), read("network.bpk")?),
        ("src/lib.rs".into(), LIBRARY.into()),
        ("src/main.rs".into(), program(graph).map_err(failed)?.into()),
    ];
    folder::replace(dir, &files)
}

/// What a panic says.
fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_else(|| "it panicked".into())
}

fn manifest(graph: &Graph) -> String {
    format!(
        r#"{mark} {version}: the network {name} as burn source.

[package]
name = "network"
version = "0.1.0"
edition = "2024"

[dependencies]
burn = {{ version = "{BURN}", default-features = false, features = ["std", "flex"] }}
burn-store = {{ version = "{BURN}", default-features = false, features = ["std"] }}

[workspace]
"#,
        mark = text::MARK,
        version = env!("CARGO_PKG_VERSION"),
        name = kdc_ir::escape::toml_comment(&graph.name),
    )
}

const LIBRARY: &str = r#"//! A network as burn source.

#[allow(warnings)]
mod network;

pub use network::Model;

use burn::tensor::{Bytes, Device};

/// The network with its weights.
pub fn model(device: &Device) -> Model {
    Model::from_bytes(Bytes::from_bytes_vec(include_bytes!("network.bpk").to_vec()), device)
}
"#;

/// A program that reads one file of little-endian numbers for each input and writes the first output as f32.
fn program(graph: &Graph) -> Result<String, String> {
    let mut read = String::new();
    for (i, &id) in graph.inputs.iter().enumerate() {
        read += &input(graph, i, id)?;
    }
    let arguments: Vec<String> = (0..graph.inputs.len()).map(|i| format!("x{i}")).collect();
    let first = if graph.outputs.len() > 1 { ".0" } else { "" };
    let count = graph.inputs.len();
    Ok(format!(
        r#"//! network INPUT… OUTPUT: runs files of little-endian numbers, one for each input; the first output is written as f32.

#[allow(unused_imports)]
use burn::tensor::{{Device, Int, Tensor, TensorData}};

fn numbers<const N: usize, T>(path: &str, of: fn([u8; N]) -> T) -> Vec<T> {{
    let bytes = std::fs::read(path).expect("the input is readable");
    bytes.as_chunks::<N>().0.iter().map(|c| of(*c)).collect()
}}

#[allow(unused)]
fn main() {{
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    assert_eq!(arguments.len(), {count} + 1, "usage: network INPUT… OUTPUT");
    let device = Device::default();
{read}    let output = network::model(&device).forward({arguments}){first};
    let bytes: Vec<u8> = output.into_data().iter::<f32>().flat_map(|x| x.to_le_bytes()).collect();
    std::fs::write(&arguments[{count}], bytes).expect("the output is writable");
}}
"#,
        arguments = arguments.join(", "),
    ))
}

fn input(graph: &Graph, index: usize, id: ValueId) -> Result<String, String> {
    let value = graph.value(id);
    let rank = value.shape.len();
    let (number, kind) = match value.dtype {
        DType::F32 => ("f32", ""),
        DType::I64 => ("i64", ", Int"),
        DType::I32 => ("i32", ", Int"),
        other => return Err(format!("input '{}' is of {other}, which the program does not read", value.name)),
    };
    // The batch is what the file holds.
    let one: usize = kdc_ir::graph::elements(&value.shape);
    let extents: Vec<String> = value
        .shape
        .iter()
        .map(|dim| match dim {
            kdc_ir::graph::Dim::Fixed(n) => n.to_string(),
            batched => format!("v.len() / {one} * {}", batched.at(1)),
        })
        .collect();
    Ok(format!(
        "    let v = numbers(&arguments[{index}], {number}::from_le_bytes);\n    let shape = [{}];\n    \
         let x{index} = Tensor::<{rank}{kind}>::from_data(TensorData::new(v, shape), &device);\n",
        extents.join(", ")
    ))
}
