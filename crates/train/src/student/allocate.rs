//! How many indices of each group stay, and which.

use super::groups::{Groups, KeptIndices};
use super::importance::Importance;

/// How a share is distributed over the groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Allocation {
    /// Every group keeps the same share (Howard et al., MobileNets, 2017, <https://arxiv.org/abs/1704.04861>).
    #[default]
    Uniform,
    /// What matters most anywhere is kept, whatever that leaves of a group, but never nothing.
    Ranked,
}

/// Channels come in multiples of this: the vector kernels of the devices work on channels in fours.
const QUANTUM: usize = 4;

/// The steps in which a group's width changes: fours for channels, one for heads and for what is few anyway.
pub fn quantum(groups: &Groups, group: usize) -> usize {
    let holds_others = groups.groups.iter().any(|g| g.within == Some(group));
    if holds_others || groups.groups[group].extent < 4 * QUANTUM { 1 } else { QUANTUM }
}

/// The widths at a share of the teacher's, of every group, at least one quantum. Heads go first: the features of a head
/// only make up for what whole heads cannot express.
pub fn uniform(groups: &Groups, share: f64) -> Vec<usize> {
    let mut widths = vec![0; groups.groups.len()];
    for group in 0..widths.len() {
        // What holds it comes first.
        let mut open = vec![group];
        while let Some(outer) = groups.groups[open[open.len() - 1]].within.filter(|&outer| widths[outer] == 0) {
            open.push(outer);
        }
        for group in open.into_iter().rev() {
            widths[group] = uniform_width(groups, group, share, &widths);
        }
    }
    widths
}

/// The width of a group, when that of the one around it is known.
fn uniform_width(groups: &Groups, group: usize, share: f64, widths: &[usize]) -> usize {
    let of = &groups.groups[group];
    // What holds this group's indices may have kept more, or less, than its share.
    let share = match of.within {
        Some(outer) => share * groups.groups[outer].extent as f64 / widths[outer] as f64,
        None => share,
    };
    let quantum = quantum(groups, group);
    // A hair more, so that 3/4 of 4 is 3 and not a little less.
    let wanted = (of.extent as f64 * share + 1e-9) as usize;
    (wanted / quantum * quantum).max(quantum).min(of.extent)
}

/// The widths when a share of all indices is kept by rank over all groups.
pub fn ranked(groups: &Groups, importance: &Importance, share: f64) -> Vec<usize> {
    let mut all: Vec<(f64, usize)> =
        importance.iter().enumerate().flat_map(|(g, v)| v.iter().map(move |&i| (i, g))).collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let kept = (all.len() as f64 * share + 1e-9) as usize;
    let mut counts = vec![0usize; groups.groups.len()];
    all[..kept.min(all.len())].iter().for_each(|&(_, g)| counts[g] += 1);
    for (group, count) in counts.iter_mut().enumerate() {
        let quantum = quantum(groups, group);
        *count = (count.div_ceil(quantum) * quantum).max(quantum).min(groups.groups[group].extent);
    }
    counts
}

/// The most important indices of each group, in their old order; of equals the first.
pub fn keep(importance: &Importance, widths: &[usize]) -> KeptIndices {
    let best = |(numbers, &width): (&Vec<f64>, &usize)| {
        let mut order: Vec<usize> = (0..numbers.len()).collect();
        order.sort_by(|&a, &b| numbers[b].total_cmp(&numbers[a]).then(a.cmp(&b)));
        order.truncate(width);
        order.sort_unstable();
        order
    };
    importance.iter().zip(widths).map(best).collect()
}
