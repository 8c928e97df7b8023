//! Finds the widths of a student under budgets.

use super::allocate::{self, Allocation, keep, quantum};
use super::groups::{Groups, KeptIndices};
use super::{Error, Importance, shrink};
use kdc_ir::graph::Graph;

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
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
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
    /// With the teacher's weights.
    pub graph: Graph,
    /// Which indices of each group it has.
    pub kept: KeptIndices,
    pub cost: Measured,
    /// How many candidates were measured to find it.
    pub tried: usize,
}

impl Candidate {
    /// Indices per group.
    pub fn widths(&self) -> Vec<usize> {
        self.kept.iter().map(Vec::len).collect()
    }
}

/// Shares are searched in steps of 1/64.
const STEPS: usize = 64;

/// What a search knows of the teacher.
pub struct Teacher<'a> {
    pub graph: &'a Graph,
    pub groups: &'a Groups,
    pub importance: &'a Importance,
}

impl Teacher<'_> {
    /// The teacher cut to these widths, keeping what matters most.
    ///
    /// # Errors
    /// As [`shrink`].
    pub fn narrowed(&self, widths: &[usize]) -> Result<(Graph, KeptIndices), Error> {
        let kept = keep(self.importance, widths);
        Ok((shrink(self.graph, self.groups, &kept)?, kept))
    }
}

/// The widest student inside the budgets.
///
/// First the widest share that fits, over all groups; then, while anything fits, the group that lost most is widened by
/// one quantum. `measure` says what a candidate costs. Deterministic: the same arguments give the same student.
///
/// # Errors
/// When the teacher cannot be cut, or nothing fits.
pub fn widest(
    teacher: &Teacher,
    allocation: Allocation,
    budgets: &Budgets,
    measure: &mut dyn FnMut(&Graph) -> Result<Measured, Error>,
) -> Result<Candidate, Error> {
    let groups = teacher.groups;
    let mut tried = 0;
    let mut attempt = |widths: &[usize]| -> Result<(Candidate, Vec<Limit>), Error> {
        tried += 1;
        let (graph, kept) = teacher.narrowed(widths)?;
        let cost = measure(&graph)?;
        let breaches = budgets.breaches(&cost);
        Ok((Candidate { graph, kept, cost, tried }, breaches))
    };
    // Costs grow with the width, so the widest share that fits is found by bisection.
    let (mut fits, mut too_wide) = (0, STEPS + 1);
    let mut best = None;
    while too_wide - fits > 1 {
        let step = (fits + too_wide) / 2;
        let share = step as f64 / STEPS as f64;
        let widths = match allocation {
            Allocation::Uniform => allocate::uniform(groups, share),
            Allocation::Ranked => allocate::ranked(groups, teacher.importance, share),
        };
        let (candidate, breaches) = attempt(&widths)?;
        if breaches.is_empty() {
            fits = step;
            best = Some(candidate);
        } else {
            too_wide = step;
        }
    }
    if best.is_none() {
        // One index of each group is the least there is.
        let (candidate, breaches) = attempt(&vec![1; groups.groups.len()])?;
        match breaches.first() {
            None => best = Some(candidate),
            Some(limit) => {
                return Err(Error::DoesNotFit { candidate: "one channel of each".into(), breach: limit.clone() });
            }
        }
    }
    let mut best = best.expect("one was found");
    let mut open = vec![true; groups.groups.len()];
    loop {
        let widths = best.widths();
        let share = |&g: &usize| widths[g] as f64 / groups.groups[g].extent as f64;
        let candidates = (0..widths.len()).filter(|&g| open[g] && widths[g] < groups.groups[g].extent);
        let Some(group) = candidates.min_by(|a, b| share(a).total_cmp(&share(b))) else { break };
        let mut wider = widths.clone();
        wider[group] = (widths[group] + quantum(groups, group)).min(groups.groups[group].extent);
        let (next, breaches) = attempt(&wider)?;
        if breaches.is_empty() {
            best = next;
        } else {
            // Widening others only makes it less likely to fit later.
            open[group] = false;
        }
    }
    best.tried = tried;
    Ok(best)
}
