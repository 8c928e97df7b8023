//! Memory for activations: where each buffer lies in the arena.
//!
//! A buffer lives from the step that writes it to the last that reads it. Buffers that live at the same time do not
//! overlap, except where a step may work in place. Offsets are found greedily, largest first (Pisarchyk, Lee 2020,
//! <https://arxiv.org/abs/2001.03288>), then from many other orders, by a search with a fixed seed; the best is kept.

use super::{BufferId, Kernel, Plan, Program};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// Enough for the widest vector loads of the kernels.
const ALIGNMENT: usize = 16;
/// Orders tried beyond the greedy one, while the lower bound is not reached.
const ATTEMPTS: usize = 2000;

/// Buffers that share one place: an operand, what is made of it in place, the same elements under other extents.
struct Block {
    members: Vec<usize>,
    bytes: usize,
    /// Steps during which it must be kept: from the first that writes it to the last that reads it. The input is
    /// written before step 0, the output read after the last.
    first: usize,
    last: usize,
}

/// A plan in which a buffer is overwritten while it is needed: a fault of kdc.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("buffer '{buffer}' lies outside the arena; this is a fault of kdc, please report it")]
    Outside { buffer: String },
    #[error("step '{step}' reads '{buffer}' after it was overwritten; this is a fault of kdc, please report it")]
    Overwritten { step: String, buffer: String },
    #[error("step '{step}' overwrites '{buffer}' while reading it; this is a fault of kdc, please report it")]
    Overlap { step: String, buffer: String },
    #[error("the output is overwritten; this is a fault of kdc, please report it")]
    Output,
}

/// Finds a place for every buffer. The plan is checked.
///
/// # Errors
/// What [`check`] finds.
pub fn plan(program: &Program) -> Result<Plan, PlanError> {
    let blocks = blocks(program);
    let aligned = |n: usize| n.next_multiple_of(ALIGNMENT);
    let live = |step: usize| {
        let here = blocks.iter().filter(|b| b.first <= step && step <= b.last);
        // The last block of all need not be padded to the alignment.
        let (mut sum, mut slack) = (0, 0);
        for block in here {
            sum += aligned(block.bytes);
            slack = slack.max(aligned(block.bytes) - block.bytes);
        }
        sum - slack
    };
    let lower_bound = (0..program.steps.len() + 2).map(live).max().unwrap_or(0);
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(blocks[i].bytes), blocks[i].first));
    let mut best = place(&blocks, &order);
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut current = order;
    for _ in 0..ATTEMPTS {
        if best.1 <= lower_bound {
            break;
        }
        let mut next = current.clone();
        if next.len() > 1 {
            let (picked, _) = next.partial_shuffle(&mut rng, 2);
            picked.swap(0, 1);
        }
        let placed = place(&blocks, &next);
        if placed.1 <= best.1 {
            best = placed;
            current = next;
        }
    }
    let mut offsets = vec![0; program.buffers.len()];
    for (block, offset) in blocks.iter().zip(&best.0) {
        block.members.iter().for_each(|&m| offsets[m] = *offset);
    }
    let plan = Plan { offsets, arena_bytes: best.1, lower_bound, alignment: ALIGNMENT };
    check(program, &plan)?;
    Ok(plan)
}

/// Joins buffers that may share their place, and says how long each place is needed.
fn blocks(program: &Program) -> Vec<Block> {
    let end = program.steps.len() + 1;
    let count = program.buffers.len();
    let (mut first, mut last) = (vec![usize::MAX; count], vec![0; count]);
    program.inputs.iter().for_each(|port| first[port.buffer.index()] = 0);
    for (step, s) in program.steps.iter().enumerate() {
        first[s.output.index()] = first[s.output.index()].min(step + 1);
        last[s.output.index()] = last[s.output.index()].max(step + 1);
        s.inputs.iter().for_each(|i| last[i.index()] = last[i.index()].max(step + 1));
    }
    last[program.output.buffer.index()] = end;
    let mut home: Vec<usize> = (0..count).collect();
    for (step, s) in program.steps.iter().enumerate() {
        let Some(&operand) = s.inputs.iter().find(|i| shares(program, &s.kernel, **i, s.output)) else { continue };
        let root = home[operand.index()];
        let others = |b: usize| home[b] == root && b != operand.index();
        // In place only where nothing later reads what is overwritten, under any name.
        let alias = matches!(s.kernel, Kernel::Reshape);
        let dies = |b: usize| last[b] <= step + 1;
        let free = dies(operand.index()) && (0..count).filter(|&b| others(b)).all(dies);
        let twice = s.inputs.iter().filter(|&&i| home[i.index()] == root).count() > 1;
        if free && (alias || !twice) {
            home[s.output.index()] = root;
        } else if alias {
            // Elements that are only read later may be read under both names.
            let unwritten = !overwritten_later(program, step, operand, s.output);
            if unwritten {
                home[s.output.index()] = root;
            }
        }
    }
    let mut blocks: Vec<Block> = Vec::new();
    for root in 0..count {
        let placed = |b: usize| program.buffers[b].constant.is_none();
        let members: Vec<usize> = (0..count).filter(|&b| home[b] == root && placed(b)).collect();
        if members.is_empty() {
            continue;
        }
        let bytes =
            members.iter().map(|&m| program.places(BufferId(m as u32)) * program.precision.bytes()).max().unwrap_or(0);
        let from = members.iter().map(|&m| first[m]).min().unwrap_or(0);
        let to = members.iter().map(|&m| last[m]).max().unwrap_or(end);
        blocks.push(Block { members, bytes, first: from, last: to });
    }
    blocks
}

/// Whether a step's result may lie where this operand does.
fn shares(program: &Program, kernel: &Kernel, operand: BufferId, output: BufferId) -> bool {
    let same = program.places(operand) == program.places(output);
    same && (kernel.in_place() || matches!(kernel, Kernel::Reshape))
}

/// Whether a later step could work in place on either name of shared elements.
fn overwritten_later(program: &Program, step: usize, a: BufferId, b: BufferId) -> bool {
    let touches = |s: &super::Step| s.kernel.in_place() && (s.inputs.contains(&a) || s.inputs.contains(&b));
    program.steps[step + 1..].iter().any(touches)
}

/// Puts blocks at the lowest offset where nothing that lives at the same time lies. Returns offsets and the size.
fn place(blocks: &[Block], order: &[usize]) -> (Vec<usize>, usize) {
    let mut offsets = vec![0; blocks.len()];
    let mut placed: Vec<usize> = Vec::with_capacity(blocks.len());
    let mut size = 0;
    for &i in order {
        let block = &blocks[i];
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&p| blocks[p].first <= block.last && block.first <= blocks[p].last)
            .map(|&p| (offsets[p], offsets[p] + blocks[p].bytes))
            .collect();
        taken.sort_unstable();
        let mut at = 0;
        for (from, to) in taken {
            if at + block.bytes <= from {
                break;
            }
            at = at.max(to.next_multiple_of(ALIGNMENT));
        }
        offsets[i] = at;
        size = size.max(at + block.bytes);
        placed.push(i);
    }
    (offsets, size)
}

/// Proves a plan: runs the program on addresses, and looks whether every operand is still what its step wrote.
///
/// # Errors
/// The step that reads what another has overwritten, or that works in place where it may not.
pub fn check(program: &Program, plan: &Plan) -> Result<(), PlanError> {
    let size = program.precision.bytes();
    let name = |b: BufferId| program.buffer(b).name.clone();
    let span = |b: BufferId| {
        let from = plan.offsets.get(b.index()).copied().unwrap_or(plan.arena_bytes);
        let to = (program.places(b) * size).checked_add(from).filter(|&to| to <= plan.arena_bytes);
        to.map(|to| from..to).ok_or_else(|| PlanError::Outside { buffer: name(b) })
    };
    // The places that hold a whole buffer still, by where they begin. What is written destroys all it touches.
    let mut whole: BTreeMap<usize, (BufferId, usize)> = BTreeMap::new();
    let write = |b: BufferId, whole: &mut BTreeMap<usize, (BufferId, usize)>| -> Result<(), PlanError> {
        let place = span(b)?;
        // Places do not overlap, so only the last of those that begin before this one can reach into it.
        let before = whole.range(..place.start).next_back().filter(|(_, (_, end))| *end > place.start);
        let touched: Vec<usize> = before.into_iter().chain(whole.range(place.clone())).map(|(&at, _)| at).collect();
        touched.iter().for_each(|at| _ = whole.remove(at));
        if !place.is_empty() {
            whole.insert(place.start, (b, place.end));
        }
        Ok(())
    };
    program.inputs.iter().try_for_each(|port| write(port.buffer, &mut whole))?;
    // A reshape changes names, not bytes: readers of the old name find the new one.
    let mut renamed: Vec<BufferId> = (0..program.buffers.len() as u32).map(BufferId).collect();
    let intact = |b: BufferId, whole: &BTreeMap<usize, (BufferId, usize)>, renamed: &[BufferId]| {
        let place = span(b)?;
        let held = whole.get(&place.start) == Some(&(renamed[b.index()], place.end));
        Ok(place.is_empty() || held)
    };
    for step in &program.steps {
        let output = span(step.output)?;
        for &input in &step.inputs {
            if !intact(input, &whole, &renamed)? {
                return Err(PlanError::Overwritten { step: step.name.clone(), buffer: name(input) });
            }
        }
        for &input in &step.inputs {
            let place = span(input)?;
            let exact = place == output && (step.kernel.in_place() || step.kernel == Kernel::Reshape);
            if place.start < output.end && output.start < place.end && !exact {
                return Err(PlanError::Overlap { step: step.name.clone(), buffer: name(input) });
            }
        }
        if step.kernel == Kernel::Reshape && span(step.inputs[0])? == output {
            renamed[step.output.index()] = renamed[step.inputs[0].index()];
        } else {
            write(step.output, &mut whole)?;
        }
    }
    match intact(program.output.buffer, &whole, &renamed)? {
        true => Ok(()),
        false => Err(PlanError::Output),
    }
}
