//! What `peer.py` reads of one network: `student.onnx` (float), `student.int8.onnx`, `input_N.npy` and `output_{f32,int8}.npy`, samples
//! along the first axis; `{f32,int8}` are answers of the programs by the reference interpreter.

use crate::backend::{Case, Compiled, flat, interpret};
use kdc::graph::{Graph, Tensor};
use kdc::program::Program;
use std::fs;
use std::path::Path;

pub fn write(folder: &Path, case: &Case, compiled: &Compiled) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let save = |name: &str, bytes: Vec<u8>| {
        let path = folder.join(name);
        fs::write(&path, bytes).map_err(|e| format!("{}: {e}", path.display()))
    };
    let onnx = |graph: &Graph| kdc::onnx::export(graph).map_err(|e| e.to_string());
    save("student.onnx", onnx(&compiled.float)?)?;
    save("student.int8.onnx", onnx(&compiled.quantized.graph)?)?;
    for input in 0..case.graph.inputs.len() {
        let samples: Vec<&Tensor> = case.samples.iter().map(|sample| &sample[input]).collect();
        let shape = [&[samples.len()], &samples[0].shape[1..]].concat();
        let bytes = match samples[0].as_i64() {
            Some(_) => {
                let all = samples.iter().flat_map(|t| t.as_i64().unwrap_or_default());
                npy("<i8", &shape, all.flat_map(|v| v.to_le_bytes()))
            }
            None => npy("<f4", &shape, samples.iter().flat_map(|t| t.to_f32().into_owned()).flat_map(f32::to_le_bytes)),
        };
        save(&format!("input_{input}.npy"), bytes)?;
    }
    for (name, (program, _)) in ["int8", "f32"].iter().zip(&compiled.programs) {
        let (shape, answers) = answers(program, case)?;
        save(&format!("output_{name}.npy"), npy("<f4", &shape, answers.into_iter().flat_map(f32::to_le_bytes)))?;
    }
    Ok(())
}

/// What a program answers to all samples, and the extents of that.
fn answers(program: &Program, case: &Case) -> Result<(Vec<usize>, Vec<f32>), String> {
    let runs =
        case.samples.iter().map(|x| Ok(interpret(program, x)?.output_f32())).collect::<Result<Vec<_>, String>>()?;
    debug_assert_eq!(flat(&case.samples[0]).len(), program.input_len());
    Ok(([&[runs.len()], &program.output.shape[1..]].concat(), runs.concat()))
}

/// NumPy's format, version 1.0.
fn npy(kind: &str, shape: &[usize], bytes: impl Iterator<Item = u8>) -> Vec<u8> {
    let shape: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let mut header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}");
    let padding = 64 - (10 + header.len() + 1) % 64;
    header += &" ".repeat(padding);
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.bytes());
    file.extend(bytes);
    file
}
