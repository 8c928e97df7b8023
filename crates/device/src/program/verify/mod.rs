//! What makes a program well formed: run on every program that is made.
//!
//! Lowering has many ways through it. Whatever they lead to, afterwards it holds that every step reads what was written
//! before, that extents and parameters of quantization fit together, that no sum leaves 32 bits, and that nothing is
//! computed in vain.

mod kernels;

use super::{Buffer, Constant, Element, Kernel, Port, Precision, Program, RawTables, Step};
use kdc_ir::graph::DType;

/// How a program is malformed: a fault of kdc.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}; this is a fault of kdc, please report it")]
pub struct ProgramError {
    /// A step, a buffer, or a port.
    pub place: String,
    pub what: String,
}

type Checked = Result<(), String>;

/// `Ok` where it holds, else what does not.
fn ensure(holds: bool, what: impl Into<String>) -> Checked {
    if holds { Ok(()) } else { Err(what.into()) }
}

/// Checks order, extents, parameters and ranges.
///
/// # Errors
/// The first thing found wrong.
pub fn verify(program: &Program) -> Result<(), ProgramError> {
    let at = |place: String| move |what: String| ProgramError { place, what };
    for buffer in &program.buffers {
        self::buffer(program, buffer).map_err(at(format!("buffer '{}'", buffer.name)))?;
    }
    for port in program.inputs.iter().chain([&program.output]) {
        self::port(program, port).map_err(at(format!("the port '{}'", port.name)))?;
    }
    let mut written: Vec<bool> = program.buffers.iter().map(|b| b.constant.is_some()).collect();
    let mut read = vec![false; program.buffers.len()];
    for port in &program.inputs {
        let twice = std::mem::replace(&mut written[port.buffer.index()], true);
        ensure(!twice, "its buffer is that of another").map_err(at(format!("the input '{}'", port.name)))?;
    }
    for step in &program.steps {
        order(program, step, &mut written, &mut read)
            .and_then(|()| kernels::check(program, step))
            .map_err(at(format!("step '{}' ({})", step.name, step.kernel.name())))?;
    }
    let output = program.output.buffer;
    ensure(written[output.index()], "nothing writes it").map_err(at("the output".into()))?;
    read[output.index()] = true;
    program.inputs.iter().for_each(|port| read[port.buffer.index()] = true);
    let unread = read.iter().position(|read| !read).map(|i| &program.buffers[i]);
    let vain = |buffer: &Buffer| at(format!("buffer '{}'", buffer.name))("nothing reads it".into());
    unread.map_or(Ok(()), |buffer| Err(vain(buffer)))?;
    raw(program).map_err(at("the raw input".into()))
}

/// Nothing is read before it is written, and nothing written twice.
fn order(program: &Program, step: &Step, written: &mut [bool], read: &mut [bool]) -> Checked {
    for id in step.inputs.iter().chain([&step.output]) {
        ensure(id.index() < program.buffers.len(), format!("there is no buffer {}", id.0))?;
    }
    for id in &step.inputs {
        ensure(written[id.index()], format!("it reads '{}' before it is written", program.buffer(*id).name))?;
        read[id.index()] = true;
    }
    let twice = std::mem::replace(&mut written[step.output.index()], true);
    ensure(!twice, format!("'{}' is written for the second time", program.buffer(step.output).name))
}

fn buffer(program: &Program, buffer: &Buffer) -> Checked {
    ensure(!buffer.is_empty(), "it has no elements")?;
    match (&buffer.constant, program.precision) {
        (None, _) => {}
        (Some(Constant::Int8(values)), Precision::Int8) => {
            ensure(values.len() == buffer.len(), "its contents are of another length")?;
        }
        (Some(Constant::F32(values)), Precision::F32) => {
            ensure(values.len() == buffer.len(), "its contents are of another length")?;
        }
        _ => return Err("its contents are of the other precision".into()),
    }
    match (buffer.quant, program.precision, buffer.element) {
        (Some(q), Precision::Int8, Element::Real) => {
            ensure(q.scale.is_normal() && q.scale > 0.0, format!("its scale is {}", q.scale))
        }
        (None, Precision::F32, _) | (None, Precision::Int8, Element::Token) => Ok(()),
        (None, Precision::Int8, Element::Real) => Err("it has no scale".into()),
        (Some(_), ..) => Err("it has a scale and holds no quantized numbers".into()),
    }
}

fn port(program: &Program, port: &Port) -> Checked {
    ensure(port.buffer.index() < program.buffers.len(), format!("there is no buffer {}", port.buffer.0))?;
    let buffer = program.buffer(port.buffer);
    ensure(buffer.constant.is_none(), "its buffer is a constant")?;
    ensure(port.shape.first() == Some(&1), "it is not of one sample")?;
    ensure(port.shape.iter().product::<usize>() == buffer.len(), "its buffer has another number of elements")?;
    let Some(perm) = &port.perm else { return Ok(()) };
    ensure(is_permutation(perm) && perm.len() == port.shape.len() - 1, "its axes are not those of its shape")?;
    let extents: Vec<usize> = perm.iter().map(|&axis| port.shape[axis + 1]).collect();
    ensure(extents == buffer.shape, format!("its buffer is {:?}, its axes are {extents:?}", buffer.shape))
}

fn raw(program: &Program) -> Checked {
    let Some(raw) = &program.raw_input else { return Ok(()) };
    let (channels, precision) = match &raw.tables {
        RawTables::Int8(tables) => (tables.len(), DType::I8),
        RawTables::F32(tables) => (tables.len(), DType::F32),
    };
    ensure(precision == program.precision.dtype(), "its tables are of the other precision")?;
    let [port] = &program.inputs[..] else { return Err("the network has several inputs".into()) };
    let fits = channels > 0 && program.buffer(port.buffer).len().is_multiple_of(channels);
    ensure(fits, "its channels do not fit the input")?;
    let axes = is_permutation(&raw.axes) && raw.axes.len() == port.shape.len() - 1;
    ensure(axes, format!("its axes {:?} are not those of {:?}", raw.axes, port.shape))
}

fn is_permutation(axes: &[usize]) -> bool {
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    sorted.iter().copied().eq(0..axes.len())
}
