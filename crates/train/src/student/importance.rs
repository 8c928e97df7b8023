//! How much each index of a group matters.

use super::groups::Groups;
use kdc_ir::graph::{Graph, Op, ValueId};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{HashMap, HashSet};

/// By what indices are ranked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Criterion {
    /// Sum of the magnitudes of all weights that the index takes part in (Li et al. 2017,
    /// <https://arxiv.org/abs/1608.08710>).
    L1,
    /// Their Euclidean norm, over every layer of the group (Fang et al. 2023, <https://arxiv.org/abs/2301.12900>).
    L2,
    /// What is left of their vector when those of the indices ranked before are projected out: of channels that say the
    /// same one is kept, however large they are (QR with column pivoting, Businger and Golub 1965,
    /// <https://doi.org/10.1007/BF01436084>).
    #[default]
    Distinct,
    /// Magnitude of the normalisations' scales (Liu et al., network slimming, 2017,
    /// <https://arxiv.org/abs/1708.06519>). Where batch norm was folded and put back, a scale is the standard deviation
    /// of what the channel carries.
    Scale,
    /// Square of the first-order change of the loss when the weights are gone (Molchanov et al. 2019,
    /// <https://arxiv.org/abs/1906.10771>).
    Taylor,
    /// Mean magnitude of what the channel carries.
    Activation,
    /// At random: what every other one has to beat.
    Random,
}

impl Criterion {
    /// All of them.
    pub const ALL: [Criterion; 7] = [
        Criterion::L1,
        Criterion::L2,
        Criterion::Distinct,
        Criterion::Scale,
        Criterion::Taylor,
        Criterion::Activation,
        Criterion::Random,
    ];
}

/// What some criteria read besides weights, made from a few batches by the caller.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Gradients of the loss, by constant, as many elements as the constant has.
    pub gradients: HashMap<ValueId, Vec<f32>>,
    /// Mean magnitudes of results, by value and axis: one for each place along the axis.
    pub activations: HashMap<(ValueId, usize), Vec<f32>>,
}

/// Per group, a number for each index, with a mean of 1 over the group: groups can be compared.
pub type Importance = Vec<Vec<f64>>;

/// Ranks the indices of every group. What a criterion knows nothing of (a group without a normalisation, say) is ranked
/// by [`Criterion::L2`].
pub fn importance(graph: &Graph, groups: &Groups, criterion: Criterion, evidence: &Evidence, seed: u64) -> Importance {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut all = vec![];
    let reads = reads(graph, groups);
    for (group, of) in groups.groups.iter().enumerate() {
        if criterion == Criterion::Random {
            all.push((0..of.extent).map(|_| rng.random_range(0.5..1.5)).collect());
            continue;
        }
        if criterion == Criterion::Distinct && of.extent <= MOST_COMPARED {
            all.push(distinct(graph, groups, group, &reads[group]));
            continue;
        }
        let ranked = mean_of_sites(sites(graph, groups, (group, &reads[group]), criterion, evidence), of.extent);
        let by_size = || sites(graph, groups, (group, &reads[group]), Criterion::L2, evidence);
        let ranked = ranked.or_else(|| mean_of_sites(by_size(), of.extent));
        all.push(ranked.unwrap_or_else(|| vec![1.0; of.extent]));
    }
    all
}

/// [`Criterion::Distinct`] compares every index with every other one: more than these are ranked by [`Criterion::L2`].
const MOST_COMPARED: usize = 4096;

/// A constant that a node reads and in which a group stands.
struct Read {
    node: usize,
    operand: usize,
    id: ValueId,
}

/// By group, the constants that hold it, in the order in which they are read.
fn reads(graph: &Graph, groups: &Groups) -> Vec<Vec<Read>> {
    let mut all: Vec<Vec<Read>> = groups.groups.iter().map(|_| vec![]).collect();
    for (node, of) in graph.nodes.iter().enumerate() {
        for (operand, id) in of.inputs.iter().enumerate() {
            let Some((id, tensor)) = id.and_then(|id| Some((id, graph.constant(id)?))) else { continue };
            let mut held: Vec<usize> = (0..tensor.shape.len()).flat_map(|axis| groups.on(id, axis)).collect();
            held.sort_unstable();
            held.dedup();
            held.into_iter().for_each(|group| all[group].push(Read { node, operand, id }));
        }
    }
    all
}

/// The numbers of one vector that [`Criterion::Distinct`] looks at: longer ones are folded, with signs drawn by place.
const FOLDED: usize = 1024;

/// The vectors of all weights of each index, with every site scaled to the same mean norm.
fn vectors(graph: &Graph, groups: &Groups, group: usize, reads: &[Read]) -> Vec<Vec<f64>> {
    let extent = groups.groups[group].extent;
    let mut vectors = vec![vec![0.0f64; FOLDED]; extent];
    let (mut rng, mut next) = (ChaCha8Rng::seed_from_u64(group as u64), 0);
    let mut seen = HashSet::new();
    for &Read { id, .. } in reads {
        let Some(tensor) = graph.constant(id).filter(|t| t.shape.len() >= 2 && !seen.contains(&id)) else { continue };
        let Some(weights) = tensor.as_f32() else { continue };
        seen.insert(id);
        for axis in (0..tensor.shape.len()).filter(|&a| groups.on(id, a).contains(&group)) {
            let members = groups.members(id, axis, group);
            let inner: usize = tensor.shape[axis + 1..].iter().product();
            let square: f64 = weights.iter().map(|&w| f64::from(w) * f64::from(w)).sum();
            let scale = (square / extent as f64).sqrt().max(f64::MIN_POSITIVE);
            // Where in its vector the next weight of each index goes.
            let mut at = vec![next; extent];
            let signs: Vec<f64> = (0..FOLDED).map(|_| if rng.random_bool(0.5) { 1.0 } else { -1.0 }).collect();
            for (place, &w) in weights.iter().enumerate() {
                let Some(index) = members[place / inner % members.len()] else { continue };
                let position = at[index] % FOLDED;
                let sign = if at[index] >= FOLDED { signs[(at[index] / FOLDED * 31 + position) % FOLDED] } else { 1.0 };
                vectors[index][position] += sign * f64::from(w) / scale;
                at[index] += 1;
            }
            next = at.into_iter().max().unwrap_or(next);
        }
    }
    vectors
}

/// Each index by what it adds to those that add more.
fn distinct(graph: &Graph, groups: &Groups, group: usize, reads: &[Read]) -> Vec<f64> {
    let mut left = vectors(graph, groups, group, reads);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let whole: Vec<f64> = left.iter().map(|v| dot(v, v)).collect();
    let mut importance = vec![0.0; left.len()];
    let mut open: Vec<usize> = (0..left.len()).collect();
    while !open.is_empty() {
        // What is nothing new any more goes by size, below all that is.
        let norm = |i: usize| {
            let square = dot(&left[i], &left[i]);
            if square > 1e-9 * whole[i] { square } else { 1e-12 * whole[i] }
        };
        let best = (0..open.len()).max_by(|&a, &b| norm(open[a]).total_cmp(&norm(open[b])).then(b.cmp(&a)));
        let chosen = open.remove(best.expect("some are open"));
        importance[chosen] = norm(chosen).sqrt();
        let direction = left[chosen].clone();
        let square = dot(&direction, &direction);
        if square > 1e-9 * whole[chosen] {
            for &other in &open {
                let share = dot(&left[other], &direction) / square;
                left[other].iter_mut().zip(&direction).for_each(|(v, d)| *v -= share * d);
            }
        }
    }
    let mean = importance.iter().sum::<f64>() / importance.len().max(1) as f64;
    if mean > 0.0 { importance.iter().map(|v| v / mean).collect() } else { vec![1.0; importance.len()] }
}

/// Each site counts alike, however many weights it has.
fn mean_of_sites(sites: Vec<Vec<f64>>, extent: usize) -> Option<Vec<f64>> {
    let mut sum = vec![0.0; extent];
    let mut count = 0;
    for site in sites {
        let mean = site.iter().sum::<f64>() / extent as f64;
        if mean > 0.0 && mean.is_finite() {
            sum.iter_mut().zip(&site).for_each(|(s, v)| *s += v / mean);
            count += 1;
        }
    }
    (count > 0).then(|| sum.into_iter().map(|s| s / count as f64).collect())
}

/// What each place where a group stands says of its indices.
fn sites(
    graph: &Graph,
    groups: &Groups,
    (group, reads): (usize, &[Read]),
    criterion: Criterion,
    evidence: &Evidence,
) -> Vec<Vec<f64>> {
    let extent = groups.groups[group].extent;
    let mut found = vec![];
    if criterion == Criterion::Activation {
        for (&(id, axis), means) in sorted(&evidence.activations) {
            if groups.on(id, axis).contains(&group) {
                let mut site = vec![0.0; extent];
                for (member, &mean) in groups.members(id, axis, group).iter().zip(means) {
                    if let Some(index) = member {
                        site[*index] += f64::from(mean);
                    }
                }
                found.push(site);
            }
        }
        return found;
    }
    let mut seen = HashSet::new();
    for &Read { node, operand, id } in reads {
        let (Some(tensor), false) = (graph.constant(id), seen.contains(&id)) else { continue };
        let Some(weights) = tensor.as_f32() else { continue };
        let wanted = match criterion {
            Criterion::Scale => is_scale(&graph.nodes[node].op, operand),
            // Vectors say little of a channel; positions and masks are small.
            _ => tensor.shape.len() >= 2,
        };
        if !wanted {
            continue;
        }
        seen.insert(id);
        let gradients = evidence.gradients.get(&id);
        for axis in (0..tensor.shape.len()).filter(|&a| groups.on(id, a).contains(&group)) {
            let members = groups.members(id, axis, group);
            let inner: usize = tensor.shape[axis + 1..].iter().product();
            let mut site = vec![0.0f64; extent];
            for (at, &w) in weights.iter().enumerate() {
                let Some(index) = members[at / inner % members.len()] else { continue };
                let w = f64::from(w);
                site[index] += match (criterion, gradients) {
                    (Criterion::Taylor, Some(g)) => w * f64::from(g[at]),
                    (Criterion::L2, _) => w * w,
                    (Criterion::Taylor, None) => 0.0,
                    _ => w.abs(),
                };
            }
            match criterion {
                Criterion::Taylor => site.iter_mut().for_each(|v| *v *= *v),
                Criterion::L2 => site.iter_mut().for_each(|v| *v = v.sqrt()),
                _ => (),
            }
            found.push(site);
        }
    }
    found
}

fn is_scale(op: &Op, operand: usize) -> bool {
    let normalises = matches!(
        op,
        Op::BatchNormalization { .. }
            | Op::LayerNormalization { .. }
            | Op::InstanceNormalization { .. }
            | Op::GroupNormalization { .. }
    );
    normalises && operand == 1
}

/// In an order that does not change from run to run.
fn sorted<T>(map: &HashMap<(ValueId, usize), T>) -> Vec<(&(ValueId, usize), &T)> {
    let mut all: Vec<_> = map.iter().collect();
    all.sort_by_key(|(key, _)| **key);
    all
}
