//! `kdc export`: a model in another form.

use super::values;
use crate::{emit, files, onnx, pass};
use clap::{Args, ValueEnum};
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// Write a model in another form, normalised: one opset, shape arithmetic and constants computed
#[derive(Debug, Args)]
pub struct Arguments {
    /// An ONNX file
    model: PathBuf,

    /// Extents of an input that the file leaves open, e.g. tokens=1x24; the first is the batch. Repeatable
    #[arg(long = "input", value_name = "NAME=SHAPE", value_parser = values::input)]
    inputs: Vec<(String, Vec<usize>)>,

    /// What to write
    #[arg(long, value_enum)]
    emit: Form,

    /// The file or folder to write [default: NAME.exported.onnx, NAME.nnef.tgz or NAME-burn, here]
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Form {
    /// One current opset, weights inside
    Onnx,
    /// For tract's NNEF loader
    Nnef,
    /// A project with the network as burn source and its weights; a folder
    #[cfg(feature = "burn-source")]
    Burn,
}

/// Reads, normalises and writes.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let given = onnx::Given { shapes: arguments.inputs.iter().cloned().collect(), ..Default::default() };
    let mut graph = onnx::load_with(&arguments.model, &given)?;
    pass::normalize(&mut graph)?;
    let onnx = onnx::export(&graph)?;
    let stem = arguments.model.file_stem().map_or("model".into(), |s| s.to_string_lossy());
    #[cfg(feature = "burn-source")]
    if let Form::Burn = arguments.emit {
        let out = arguments.out.clone().unwrap_or_else(|| PathBuf::from(format!("{stem}-burn")));
        emit::write_burn_source(&graph, &out)?;
        super::print(&format!("{}\n", out.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let (bytes, name) = match arguments.emit {
        Form::Onnx => (onnx, format!("{stem}.exported.onnx")),
        Form::Nnef => {
            let shapes: Vec<_> = graph.inputs.iter().map(|&id| graph.value(id).shape.clone()).collect();
            (emit::nnef::nnef(&onnx, &shapes)?, format!("{stem}.nnef.tgz"))
        }
        #[cfg(feature = "burn-source")]
        Form::Burn => unreachable!("written above"),
    };
    let out = arguments.out.clone().unwrap_or_else(|| PathBuf::from(name));
    files::write_atomic(&out, &bytes)?;
    super::print(&format!("{}\n", out.display()))?;
    Ok(ExitCode::SUCCESS)
}
