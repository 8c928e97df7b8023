//! `kdc export`: a model in another form.

use super::values;
use crate::{emit, files, onnx, pass, teacher};
use clap::{Args, ValueEnum};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Write a model in another form, normalised: one opset, shape arithmetic and constants computed
#[derive(Debug, Args)]
pub struct Arguments {
    /// An ONNX file
    model: PathBuf,

    /// Extents of an input that the file leaves open, e.g. tokens=1x24; the first is the batch. Repeatable
    #[arg(long = "input", value_name = "NAME=SHAPE", value_parser = values::input)]
    inputs: Vec<(String, Vec<usize>)>,

    /// The one of its outputs that is meant, where it has several [default: all are written]
    #[arg(long, value_name = "NAME")]
    output: Option<String>,

    /// What to write
    #[arg(long, value_enum)]
    emit: Form,

    /// The file or folder to write [default: NAME.exported.onnx, NAME.nnef.tgz or NAME-burn, here]
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,

    /// Write over what is there
    #[arg(long)]
    force: bool,
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
    let stem = arguments.model.file_stem().map_or("model".into(), |s| s.to_string_lossy());
    let name = match arguments.emit {
        Form::Onnx => format!("{stem}.exported.onnx"),
        Form::Nnef => format!("{stem}.nnef.tgz"),
        #[cfg(feature = "burn-source")]
        Form::Burn => format!("{stem}-burn"),
    };
    let out = arguments.out.clone().unwrap_or_else(|| PathBuf::from(name));
    free(&out, &arguments.model, arguments.force)?;
    let shapes = arguments.inputs.iter().cloned().collect();
    let given = onnx::Given { shapes, output: arguments.output.clone(), ..Default::default() };
    let mut graph = onnx::load_with(&arguments.model, &given)?;
    pass::normalize(&mut graph)?;
    #[cfg(feature = "burn-source")]
    if let Form::Burn = arguments.emit {
        emit::write_burn_source(&graph, &out)?;
        super::print(&(crate::escape::line(&out.display().to_string()) + "\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let bytes = match arguments.emit {
        // Programs around it go on as they were: its inputs and outputs have the types that they had.
        Form::Onnx => onnx::export_with(&graph, &onnx::port_types(&arguments.model)?)?,
        Form::Nnef => {
            let shapes: Vec<_> = graph.inputs.iter().map(|&id| graph.value(id).shape.clone()).collect();
            emit::nnef::nnef(&onnx::export(&graph)?, &shapes)?
        }
        #[cfg(feature = "burn-source")]
        Form::Burn => unreachable!("written above"),
    };
    files::write_atomic(&out, &bytes)?;
    super::print(&(crate::escape::line(&out.display().to_string()) + "\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// Refuses to write over what is there, unless that is said; never over the model.
fn free(out: &Path, model: &Path, force: bool) -> Result<(), String> {
    let shown = out.display();
    let Ok(meta) = fs::symlink_metadata(out) else { return Ok(()) };
    let real = out.canonicalize().unwrap_or_else(|_| out.to_path_buf());
    // A model that cannot be read is told of when it is read.
    let inputs = teacher::files(model).unwrap_or_else(|_| vec![model.to_path_buf()]);
    if inputs.iter().filter_map(|input| input.canonicalize().ok()).any(|input| input.starts_with(&real)) {
        return Err(format!("{shown} holds the model that is read; choose another --out"));
    }
    let is_empty = meta.is_dir() && fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_none());
    match force || is_empty {
        true => Ok(()),
        false => Err(format!("{shown} is there already; choose another --out, or write over it with --force")),
    }
}
