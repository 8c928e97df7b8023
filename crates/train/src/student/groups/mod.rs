//! Which channels go together.
//!
//! [`Groups::find`] walks a graph once. Every axis of every value, constants included, becomes a sum of products of
//! independent extents (see [`axis`]); what the operators couple is stated in [`relate`]. An extent that is free to
//! become less is a [`Group`]: channels that an `Add` joins, heads of attention, features of a head, hidden units with all
//! their gates, the columns of an embedding. These are the dependency groups of Fang et al., DepGraph, 2023
//! (<https://arxiv.org/abs/2301.12900>), found from the algebra of shapes rather than from pairs of layers.

mod axis;
mod explain;
mod layers;
mod relate;

pub use explain::Trigger;
pub use relate::Across;

use axis::{Factor, Reason, Var};
use kdc_ir::graph::{Graph, Shape, ValueId};
use relate::Coupler;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Channels (heads, hidden units, …) that must stay equal in number wherever they appear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Named after the node that makes them.
    pub name: String,
    /// How many there are in the teacher, two or more.
    pub extent: usize,
    /// The group whose every index holds all of this one's: the heads of these features. These never go round in a circle.
    pub within: Option<usize>,
}

/// An extent that could not be cut, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// The node whose weights make it.
    pub name: String,
    pub extent: usize,
    pub why: String,
}

/// A factor of a resolved axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Known(usize),
    /// Index into [`Groups::groups`].
    Group(usize),
}

/// An axis as a sum of products.
type Parts = Vec<Vec<Part>>;

/// The groups of a graph, and how every axis of every value is made of them.
#[derive(Clone, Debug)]
pub struct Groups {
    /// In the order their first weights are read.
    pub groups: Vec<Group>,
    /// Extents of weights that stay, each once.
    pub fixed: Vec<Fixed>,
    /// Operators that compute across an axis with groups.
    pub across: Vec<Across>,
    axes: Vec<Vec<Parts>>,
}

/// Which indices of each group stay: sorted, at least one each.
pub type KeptIndices = Vec<Vec<usize>>;

impl Groups {
    /// Walks the graph. Vectors that several nodes read couple these nodes: see [`prepare`](super::prepare()).
    pub fn find(graph: &Graph) -> Groups {
        let mut coupler = Coupler::run(graph);
        coupler.settle();
        let (mut position, mut groups) = (BTreeMap::<Var, usize>::new(), vec![]);
        let mut within: Vec<(Var, Var)> = vec![];
        for node in &graph.nodes {
            for &id in node.inputs.iter().flatten().filter(|id| graph.constant(**id).is_some()) {
                for axis in coupler.axes[id.index()].clone() {
                    for segment in coupler.book.resolve(&axis) {
                        let vars: Vec<Var> = segment.iter().filter_map(var).collect();
                        within.extend(vars.windows(2).map(|w| (w[1], w[0])));
                        for var in vars {
                            position.entry(var).or_insert_with(|| {
                                groups.push(Group {
                                    name: node.name.clone(),
                                    extent: coupler.book.extent(var),
                                    within: None,
                                });
                                groups.len() - 1
                            });
                        }
                    }
                }
            }
        }
        for (inner, outer) in within {
            nest(&mut groups, position[&inner], position[&outer]);
        }
        name_apart(&mut groups);
        let fixed = fixed(graph, &mut coupler);
        let parts = |coupler: &mut Coupler, axis: &axis::Axis| -> Parts {
            let resolved = coupler.book.resolve(axis);
            let part = |f: &Factor| match *f {
                Factor::Fixed(n) => Part::Known(n),
                // What no weight has is not worth a cut.
                Factor::Var(v) => position.get(&v).map_or(Part::Known(coupler.book.extent(v)), |&g| Part::Group(g)),
            };
            resolved.iter().map(|s| s.iter().map(part).collect()).collect()
        };
        let all = std::mem::take(&mut coupler.axes);
        let axes: Vec<Vec<Parts>> =
            all.iter().map(|axes| axes.iter().map(|a| parts(&mut coupler, a)).collect()).collect();
        let holds_group = |a: &Across| {
            let axis = graph.nodes[a.node].input(0).and_then(|id| axes[id.index()].get(a.axis));
            axis.is_some_and(|parts| parts.concat().iter().any(|p| matches!(p, Part::Group(_))))
        };
        let across = coupler.across.iter().filter(|a| holds_group(a)).copied().collect();
        Groups { groups, fixed, across, axes }
    }

    /// The teacher's own widths.
    pub fn extents(&self) -> Vec<usize> {
        self.groups.iter().map(|g| g.extent).collect()
    }

    /// All indices of every group.
    pub fn whole(&self) -> KeptIndices {
        self.groups.iter().map(|g| (0..g.extent).collect()).collect()
    }

    /// The groups that an axis of a value holds.
    pub fn on(&self, id: ValueId, axis: usize) -> Vec<usize> {
        let parts = self.axes[id.index()].get(axis).map(|p| p.concat()).unwrap_or_default();
        let mut found: Vec<usize> = parts
            .iter()
            .filter_map(|p| match p {
                Part::Group(g) => Some(*g),
                Part::Known(_) => None,
            })
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// For every place along an axis of a value, the index of `group` it belongs to; `None` where it belongs to none.
    pub fn members(&self, id: ValueId, axis: usize, group: usize) -> Vec<Option<usize>> {
        let mut members = vec![];
        for segment in &self.axes[id.index()][axis] {
            places(segment, &|part| (0..self.part(part)).collect(), &mut |indices| {
                let at = segment.iter().zip(indices).find(|(p, _)| **p == Part::Group(group));
                members.push(at.map(|(_, &index)| index));
            });
        }
        members
    }

    /// The places of an axis of a value that stay, in order. The batch counts as one place.
    pub(super) fn places(&self, id: ValueId, axis: usize, kept: &KeptIndices) -> Vec<usize> {
        let (mut result, mut start) = (vec![], 0);
        for segment in &self.axes[id.index()][axis] {
            let extent = |p: &Part| self.part(p);
            let stay = |part: &Part| match *part {
                Part::Known(n) => (0..without_batch(n)).collect(),
                Part::Group(g) => kept[g].clone(),
            };
            places(segment, &stay, &mut |indices| {
                let at = segment.iter().zip(indices).fold(0, |at, (part, &index)| at * extent(part) + index);
                result.push(start + at);
            });
            start += segment.iter().map(extent).product::<usize>();
        }
        result
    }

    /// The extent of an axis of a value when these indices stay, with the batch as [`axis::BATCH`].
    fn extent(&self, parts: &Parts, kept: &KeptIndices) -> usize {
        let part = |p: &Part| match *p {
            Part::Known(n) => n,
            Part::Group(g) => kept[g].len(),
        };
        parts.iter().map(|s| s.iter().map(part).product::<usize>()).sum()
    }

    /// The shape of a value when these indices stay.
    pub(super) fn shape(&self, id: ValueId, kept: &KeptIndices) -> Shape {
        let extents: Vec<usize> = self.axes[id.index()].iter().map(|parts| self.extent(parts, kept)).collect();
        relate::dims(&extents)
    }

    /// Whether any axis of a value holds a group.
    pub(super) fn holds(&self, id: ValueId) -> bool {
        self.axes[id.index()].iter().flatten().flatten().any(|p| matches!(p, Part::Group(_)))
    }

    fn part(&self, part: &Part) -> usize {
        match *part {
            Part::Known(n) => without_batch(n),
            Part::Group(g) => self.groups[g].extent,
        }
    }
}

/// States that a group stands within another. A shuffle of channels puts each of two within the other: then what was said first
/// holds, so that nothing is ever within itself.
fn nest(groups: &mut [Group], inner: usize, outer: usize) {
    let mut at = Some(outer);
    while let Some(group) = at {
        if group == inner {
            return;
        }
        at = groups[group].within;
    }
    groups[inner].within = Some(outer);
}

/// Calls with the index of each part, for every place of a segment whose indices `stay`, in row-major order.
fn places(segment: &[Part], stay: &dyn Fn(&Part) -> Vec<usize>, with: &mut impl FnMut(&[usize])) {
    let choices: Vec<Vec<usize>> = segment.iter().map(stay).collect();
    let count: usize = choices.iter().map(Vec::len).product();
    let mut indices = vec![0; segment.len()];
    for place in 0..count {
        let mut rest = place;
        for (index, choice) in indices.iter_mut().zip(&choices).rev() {
            *index = choice[rest % choice.len()];
            rest /= choice.len();
        }
        with(&indices);
    }
}

/// A known extent for one sample.
fn without_batch(extent: usize) -> usize {
    if extent > 0 && extent.is_multiple_of(axis::BATCH) { extent / axis::BATCH } else { extent }
}

fn var(factor: &Factor) -> Option<Var> {
    match *factor {
        Factor::Var(v) => Some(v),
        Factor::Fixed(_) => None,
    }
}

/// Groups of one node get a number each: `query`, `query.2`.
fn name_apart(groups: &mut [Group]) {
    let mut taken: HashSet<String> = HashSet::new();
    let mut last: HashMap<String, usize> = HashMap::new();
    for group in groups {
        if taken.insert(group.name.clone()) {
            continue;
        }
        let last = last.entry(group.name.clone()).or_insert(1);
        group.name = loop {
            *last += 1;
            let name = format!("{}.{last}", group.name);
            if taken.insert(name.clone()) {
                break name;
            }
        };
    }
}

/// The extents of weight matrices that stay although nothing about a kernel says so.
fn fixed(graph: &Graph, coupler: &mut Coupler) -> Vec<Fixed> {
    let mut found: Vec<Fixed> = vec![];
    let mut seen = vec![false; coupler.book.len()];
    for node in &graph.nodes {
        for &id in node.inputs.iter().flatten().filter(|id| graph.constant(**id).is_some()) {
            for axis in coupler.axes[id.index()].clone() {
                for var in coupler.book.fixed_within(&axis) {
                    let first = !std::mem::replace(&mut seen[var], true);
                    if let (true, Some(Reason::Other(why))) = (first, coupler.book.reason(var)) {
                        let (name, extent, why) = (node.name.clone(), coupler.book.extent(var), why.clone());
                        found.push(Fixed { name, extent, why });
                    }
                }
            }
        }
    }
    found
}
