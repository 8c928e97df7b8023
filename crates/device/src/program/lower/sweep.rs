//! Dropping steps that compute in vain.

use crate::program::{BufferId, Program};

/// Removes steps whose result nothing reads, and buffers that nothing mentions: parts of a Split, layouts that another
/// reader no longer wanted.
pub(super) fn sweep(program: &mut Program) {
    let mut live = vec![false; program.buffers.len()];
    let ports = program.inputs.iter().chain([&program.output]);
    ports.for_each(|port| live[port.buffer.index()] = true);
    let mut kept = vec![];
    for step in std::mem::take(&mut program.steps).into_iter().rev() {
        if live[step.output.index()] {
            step.inputs.iter().for_each(|id| live[id.index()] = true);
            kept.push(step);
        }
    }
    kept.reverse();
    program.steps = kept;
    let mut next = 0;
    let numbered: Vec<BufferId> = live
        .iter()
        .map(|&live| {
            next += u32::from(live);
            BufferId(next.wrapping_sub(1))
        })
        .collect();
    let mut lives = live.iter();
    program.buffers.retain(|_| lives.next() == Some(&true));
    let ids = program.steps.iter_mut().flat_map(|step| step.inputs.iter_mut().chain([&mut step.output]));
    let ports = program.inputs.iter_mut().chain([&mut program.output]).map(|port| &mut port.buffer);
    ids.chain(ports).for_each(|id| *id = numbered[id.index()]);
}
