//! Finds the widths of a student under budgets.

use super::{ChannelGroups, Error, scaled_copy};
use crate::graph::Graph;

/// What a student may cost at most. `None`: no limit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Budgets {
    /// Multiply-accumulates per inference.
    pub macs: Option<u64>,
    /// Parameters after batch norm is folded.
    pub params: Option<u64>,
    /// Bytes of read-write memory for activations.
    pub ram_bytes: Option<u64>,
    /// Bytes of read-only memory for weights.
    pub flash_bytes: Option<u64>,
    /// Estimated seconds per inference on the target.
    pub latency_s: Option<f64>,
}

/// What a candidate costs, in the units of [`Budgets`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    pub macs: u64,
    pub params: u64,
    pub ram_bytes: u64,
    pub flash_bytes: u64,
    pub latency_s: f64,
}

/// A budget that a candidate breaks.
#[derive(Clone, Debug, PartialEq)]
pub struct Limit {
    /// The command line's name for it, e.g. `--max-macs`.
    pub name: &'static str,
    pub allowed: f64,
    pub needed: f64,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} (it needs {})", self.name, self.allowed, self.needed)
    }
}

impl Budgets {
    /// The budgets that `cost` breaks.
    pub fn breaches(&self, cost: &Measured) -> Vec<Limit> {
        let limits = [
            ("--max-macs", self.macs.map(|v| v as f64), cost.macs as f64),
            ("--max-params", self.params.map(|v| v as f64), cost.params as f64),
            ("--max-ram", self.ram_bytes.map(|v| v as f64), cost.ram_bytes as f64),
            ("--max-flash", self.flash_bytes.map(|v| v as f64), cost.flash_bytes as f64),
            ("--max-latency", self.latency_s, cost.latency_s),
        ];
        let broken = |(name, allowed, needed): (&'static str, Option<f64>, f64)| {
            let allowed = allowed?;
            (needed > allowed).then_some(Limit { name, allowed, needed })
        };
        limits.into_iter().filter_map(broken).collect()
    }
}

/// A student that fits.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// With fresh weights and batch norm.
    pub graph: Graph,
    /// Channels per group.
    pub widths: Vec<usize>,
    pub cost: Measured,
    /// How many candidates were measured to find it.
    pub tried: usize,
}

/// Widths are multiples of this: the vector kernels of the devices work on channels in fours.
const QUANTUM: usize = 4;
/// The uniform scale is searched in steps of 1/64.
const STEPS: usize = 64;

/// The widest student inside the budgets.
///
/// First the widest uniform scale that fits; then, while anything fits, the group that lost most of its channels is
/// widened by one quantum. `measure` says what a candidate costs. Deterministic: the same arguments give the same student.
///
/// # Errors
/// When the teacher cannot be copied, or nothing fits.
pub fn search(
    teacher: &Graph,
    groups: &ChannelGroups,
    budgets: &Budgets,
    seed: u64,
    measure: &mut dyn FnMut(&Graph) -> Result<Measured, Error>,
) -> Result<Candidate, Error> {
    let mut tried = 0;
    let mut attempt = |widths: &[usize]| -> Result<(Graph, Measured, Vec<Limit>), Error> {
        tried += 1;
        let graph = scaled_copy(teacher, groups, widths, seed)?;
        let cost = measure(&graph)?;
        let breaches = budgets.breaches(&cost);
        Ok((graph, cost, breaches))
    };
    // Costs grow with the width, so the widest scale that fits is found by bisection.
    let (mut fits, mut too_wide) = (0, STEPS + 1);
    let mut best = None;
    let mut narrowest_breach = String::new();
    while too_wide - fits > 1 {
        let step = (fits + too_wide) / 2;
        let widths = uniform(groups, step);
        let (graph, cost, breaches) = attempt(&widths)?;
        match breaches.first() {
            None => {
                fits = step;
                best = Some((graph, widths, cost));
            }
            Some(limit) => {
                too_wide = step;
                narrowest_breach = limit.to_string();
            }
        }
    }
    let Some((mut graph, mut widths, mut cost)) = best else {
        return Err(Error::DoesNotFit { narrowest: STEPS, breach: narrowest_breach });
    };
    let mut open: Vec<bool> = groups.groups.iter().map(|g| g.free).collect();
    loop {
        let kept = |&g: &usize| widths[g] as f64 / groups.groups[g].channels as f64;
        let candidates = (0..widths.len()).filter(|&g| open[g] && widths[g] < groups.groups[g].channels);
        let Some(group) = candidates.min_by(|a, b| kept(a).total_cmp(&kept(b))) else { break };
        let mut wider = widths.clone();
        wider[group] = (widths[group] + quantum(groups, group)).min(groups.groups[group].channels);
        let (next, next_cost, breaches) = attempt(&wider)?;
        if breaches.is_empty() {
            (graph, widths, cost) = (next, wider, next_cost);
        } else {
            // Widening others only makes it less likely to fit later.
            open[group] = false;
        }
    }
    Ok(Candidate { graph, widths, cost, tried })
}

fn quantum(groups: &ChannelGroups, group: usize) -> usize {
    let multiple = groups.groups[group].multiple;
    if multiple.is_multiple_of(QUANTUM) { multiple } else { multiple * QUANTUM }
}

fn uniform(groups: &ChannelGroups, step: usize) -> Vec<usize> {
    let width = |(index, group): (usize, &super::Group)| {
        if !group.free {
            return group.channels;
        }
        let quantum = quantum(groups, index);
        let wanted = group.channels * step / STEPS;
        (wanted / quantum * quantum).max(quantum).min(group.channels)
    };
    groups.groups.iter().enumerate().map(width).collect()
}
