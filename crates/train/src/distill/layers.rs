//! Which activations of a student correspond to which of its teacher.
//!
//! A *cut* is a value through which everything goes that a network has computed so far: the end of a residual block or
//! of an encoder layer, any value of a plain chain. The last cut of each resolution ends a *stage*; where the
//! resolution never changes, as in transformers, cuts that are evenly spread do. Stages of two networks correspond by
//! resolution, and by place among those of one resolution; among the teacher's cuts of a stage, a short look at some
//! samples decides, where one of them is clearly more similar to the student's ([`probed`]).

use super::step::{Layout, extents};
use super::terms::Pairs;
use kdc_ir::graph::{Graph, Op, ValueId, shape_at};
use std::collections::{HashMap, HashSet};

/// An activation that may be compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub value: ValueId,
    pub layout: Layout,
    /// Positions in a sample, against those of the networks' input; tokens and vectors have what they have.
    pub positions: usize,
}

/// Stages of a network whose resolution never changes.
const EVEN_STAGES: usize = 4;

/// The points of a network that a term of this kind compares, first to last.
pub fn points(graph: &Graph, pairs: Pairs) -> Vec<Point> {
    match pairs {
        Pairs::None => vec![],
        Pairs::Attention => attention(graph),
        Pairs::Embedding => embedding(graph).into_iter().collect(),
        Pairs::Stages | Pairs::Own => stages(graph),
    }
}

/// Pairs of points, student and teacher, that correspond.
pub fn matched(student: &[Point], teacher: &[Point]) -> Vec<(Point, Point)> {
    let Some(last) = teacher.len().checked_sub(1) else { return vec![] };
    let mut from = 0;
    let mut pairs = vec![];
    for (i, point) in student.iter().enumerate() {
        // As far in the list of stages as the student's own is; of the same resolution where there is one.
        let place = if student.len() == 1 { last } else { (i * last + (student.len() - 1) / 2) / (student.len() - 1) };
        let same = (from..=last).filter(|&j| teacher[j].positions == point.positions);
        let chosen = same.min_by_key(|&j| j.abs_diff(place)).unwrap_or(place.max(from));
        pairs.push((point.clone(), teacher[chosen].clone()));
        from = chosen;
    }
    pairs
}

/// How much more similar a cut must be than the end of its stage to be taken instead: what is there by chance on so few
/// samples is not enough.
const CLEARLY: f64 = 0.1;

/// The pairs, with the teacher's cut of each stage that is most similar to the student's point. `similarity`: of a value
/// of the student and one of the teacher, 0..=1; `None` where it cannot be told. Order stays: a later stage is never
/// compared with an earlier value than the stage before it.
pub fn probed(
    pairs: Vec<(Point, Point)>,
    teacher: &Graph,
    mut similarity: impl FnMut(&Point, &Point) -> Option<f64>,
) -> Vec<(Point, Point)> {
    let cuts = cuts(teacher);
    let mut from = 0;
    let mut chosen = vec![];
    for (student, end) in pairs {
        let last = cuts.iter().position(|cut| cut.value == end.value);
        let by_place = last.and_then(|_| similarity(&student, &end));
        let (Some(last), Some(by_place)) = (last, by_place) else {
            chosen.push((student, end));
            continue;
        };
        let rivals = cuts.iter().take(last).skip(from).filter(|cut| cut.positions == end.positions);
        let told = rivals.filter_map(|cut| Some((similarity(&student, cut)?, cut)));
        let best = told.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(found, _)| *found > by_place + CLEARLY);
        let taken = best.map_or(end, |(_, cut)| cut.clone());
        from = last;
        chosen.push((student, taken));
    }
    chosen
}

/// The point of a value that somebody names.
pub fn named(graph: &Graph, name: &str) -> Option<Point> {
    let id = graph.find(name)?;
    let makers = graph.producers();
    makers.contains_key(&id).then(|| point(graph, &makers, id))
}

/// The names of all values that could be named, for messages.
pub fn names(graph: &Graph) -> Vec<&str> {
    let learned = learned(graph);
    graph.nodes.iter().map(|n| n.output()).filter(|v| learned.contains(v)).map(|v| &*graph.value(v).name).collect()
}

/// What the classifier reads: the operand of the last linear layer.
fn embedding(graph: &Graph) -> Option<Point> {
    let learned = learned(graph);
    let linear = |op: &Op| matches!(op, Op::Gemm { .. } | Op::MatMul | Op::Conv(_));
    let weighed = |i: &usize| graph.nodes[*i].input(1).is_some_and(|w| graph.constant(w).is_some());
    let last = (0..graph.nodes.len()).rev().filter(weighed).find(|&i| linear(&graph.nodes[i].op))?;
    let operand = graph.nodes[last].input(0).filter(|id| learned.contains(id))?;
    Some(point(graph, &graph.producers(), operand))
}

fn attention(graph: &Graph) -> Vec<Point> {
    let makers = graph.producers();
    let is_attention = |id: &ValueId| {
        let shape = shape_at(&graph.value(*id).shape, 1);
        shape.len() == 4 && shape[3] > 1 && graph.value(*id).shape[0].is_batched()
    };
    let softmaxes = graph.nodes.iter().filter(|n| matches!(n.op, Op::Softmax { axis: 3 }));
    softmaxes.map(|n| n.output()).filter(is_attention).map(|id| point(graph, &makers, id)).collect()
}

fn stages(graph: &Graph) -> Vec<Point> {
    let cuts = cuts(graph);
    let mut ends: Vec<Point> = vec![];
    for cut in &cuts {
        match ends.last_mut() {
            Some(end) if end.positions == cut.positions => *end = cut.clone(),
            _ => ends.push(cut.clone()),
        }
    }
    // Vectors at the end are the classifier's, and have a kind of their own.
    let spatial: Vec<Point> = ends.iter().filter(|end| end.positions > 1).cloned().collect();
    match spatial.len() {
        0 => ends,
        1 => {
            let same: Vec<&Point> = cuts.iter().filter(|cut| cut.positions == spatial[0].positions).collect();
            let stages = EVEN_STAGES.min(same.len());
            (1..=stages).map(|i| same[i * same.len() / stages - 1].clone()).collect()
        }
        _ => spatial,
    }
}

/// Values through which everything goes, that an activation, an addition or a normalisation has made: what a layer
/// gives to the next.
fn cuts(graph: &Graph) -> Vec<Point> {
    let learned = learned(graph);
    let makers = graph.producers();
    let mut last_use: HashMap<ValueId, usize> = HashMap::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().flatten().for_each(|id| _ = last_use.insert(*id, index));
    }
    graph.outputs.iter().for_each(|id| _ = last_use.insert(*id, usize::MAX));
    let mut ends_at: HashMap<usize, Vec<ValueId>> = HashMap::new();
    last_use.iter().for_each(|(&id, &last)| ends_at.entry(last).or_default().push(id));
    let readers = graph.consumers();
    let mut live: HashSet<ValueId> = HashSet::new();
    let mut cuts = vec![];
    for (index, node) in graph.nodes.iter().enumerate() {
        live.extend(node.outputs.iter().filter(|id| learned.contains(id) && last_use.contains_key(id)));
        ends_at.get(&index).into_iter().flatten().for_each(|id| _ = live.remove(id));
        let id = node.output();
        if live.len() == 1 && live.contains(&id) && is_end(graph, &readers, index) && !graph.outputs.contains(&id) {
            cuts.push(point(graph, &makers, id));
        }
    }
    cuts
}

/// Whether a node ends a layer: what follows is no activation or normalisation of its result.
fn is_end(graph: &Graph, readers: &HashMap<ValueId, Vec<usize>>, index: usize) -> bool {
    let node = &graph.nodes[index];
    let id = node.output();
    let rank = graph.value(id).shape.len();
    let finishes = |op: &Op| {
        matches!(
            op,
            Op::Relu
                | Op::Clip { .. }
                | Op::Add
                | Op::Unary(_)
                | Op::Concat { .. }
                | Op::LayerNormalization { .. }
                | Op::BatchNormalization { .. }
                | Op::HardSigmoid { .. }
        )
    };
    let carries_on = |n: &&kdc_ir::graph::Node| {
        n.input(0) == Some(id)
            && matches!(
                n.op,
                Op::Relu | Op::Clip { .. } | Op::BatchNormalization { .. } | Op::LayerNormalization { .. }
            )
    };
    let mut read_by = readers.get(&id).cloned().unwrap_or_default();
    read_by.dedup();
    let readers_go_on = read_by.len() == 1 && carries_on(&&graph.nodes[read_by[0]]);
    rank >= 2 && graph.value(id).shape[0].is_batched() && finishes(&node.op) && !readers_go_on
}

/// Values that depend on weights: masks and positions do not, and flow along everything.
fn learned(graph: &Graph) -> HashSet<ValueId> {
    let mut learned: HashSet<ValueId> = HashSet::new();
    for node in &graph.nodes {
        let weighs = |id: &ValueId| {
            learned.contains(id) || graph.constant(*id).is_some_and(|t| t.dtype().is_float() && t.shape.len() > 1)
        };
        if node.inputs.iter().flatten().any(weighs) {
            learned.extend(node.outputs.iter().filter(|id| graph.value(**id).dtype.is_float()));
        }
    }
    learned
}

fn point(graph: &Graph, makers: &HashMap<ValueId, usize>, id: ValueId) -> Point {
    let layout = layout(graph, makers, id);
    let (_, positions) = extents(&shape_at(&graph.value(id).shape, 1), layout);
    Point { value: id, layout, positions }
}

/// Where a value's channels are: as the layer has them that made it.
fn layout(graph: &Graph, makers: &HashMap<ValueId, usize>, id: ValueId) -> Layout {
    if graph.value(id).shape.len() != 3 {
        return Layout::ChannelsFirst;
    }
    let (mut at, mut swapped) = (id, false);
    let seen = |layout: Layout, swapped: bool| match (layout, swapped) {
        (layout, false) => layout,
        (Layout::ChannelsFirst, true) => Layout::ChannelsLast,
        (_, true) => Layout::ChannelsFirst,
    };
    while let Some(&index) = makers.get(&at) {
        let node = &graph.nodes[index];
        match &node.op {
            Op::Conv(_) | Op::ConvTranspose(_) | Op::BatchNormalization { .. } | Op::MaxPool(_) => {
                return seen(Layout::ChannelsFirst, swapped);
            }
            Op::MatMul | Op::Gemm { .. } | Op::LayerNormalization { .. } | Op::Gather { .. } | Op::Recurrent(_) => {
                return seen(Layout::ChannelsLast, swapped);
            }
            Op::Transpose { .. } => {
                // What was at the end before is in the middle now.
                swapped = !swapped;
                let before = node.input(0).filter(|&id| graph.value(id).shape.len() == 3);
                at = match before {
                    Some(before) => before,
                    None => break,
                };
                continue;
            }
            _ => {}
        }
        let Some(next) = node.inputs.iter().flatten().find(|id| makers.contains_key(id)) else { break };
        at = *next;
    }
    seen(Layout::ChannelsFirst, swapped)
}

/// The values of a network that a probe looks at: its cuts.
pub fn probes(graph: &Graph) -> Vec<ValueId> {
    cuts(graph).into_iter().map(|cut| cut.value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdc_ir::graph::{Builder, Dim, Tensor};

    /// Two residual blocks at 8×8 and one at 4×4, a mean and a linear layer, with so many channels.
    fn residual(channels: usize, blocks: [usize; 2]) -> Graph {
        let mut b = Builder::new("residual");
        let weights = |shape: [usize; 4]| Tensor::f32(shape, vec![0.1; shape.iter().product()]);
        let mut x = b.input("x", &[Dim::Batch, Dim::Fixed(1), Dim::Fixed(8), Dim::Fixed(8)]);
        let mut width = 1;
        for (stage, count) in blocks.into_iter().enumerate() {
            let name = |part: &str| format!("s{stage}{part}");
            let stride = stage + 1;
            let first = weights([channels, width, 3, 3]);
            x = b.conv2d(&name("first"), x, first, vec![0.0; channels], (stride, 1, 1)).unwrap();
            x = b.node(&name("relu"), Op::Relu, &[x]).unwrap();
            width = channels;
            for block in 0..count {
                let name = |part: &str| format!("s{stage}b{block}{part}");
                let inside = weights([channels, channels, 3, 3]);
                let y = b.conv2d(&name("conv"), x, inside, vec![0.0; channels], (1, 1, 1)).unwrap();
                let sum = b.node(&name("add"), Op::Add, &[y, x]).unwrap();
                x = b.node(&name("out"), Op::Relu, &[sum]).unwrap();
            }
        }
        let pooled = b.node("pool", Op::GlobalAveragePool, &[x]).unwrap();
        let flat = b.node("flat", Op::Flatten { axis: 1 }, &[pooled]).unwrap();
        let (w, bias) = (Tensor::f32([3, channels], vec![0.1; 3 * channels]), Tensor::f32([3], vec![0.0; 3]));
        let (w, bias) = (b.constant("w", w), b.constant("b", bias));
        let gemm = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
        let logits = b.node("logits", gemm, &[flat, w, bias]).unwrap();
        b.finish(&[logits])
    }

    fn told(graph: &Graph, points: &[Point]) -> Vec<(String, usize)> {
        points.iter().map(|p| (graph.value(p.value).name.clone(), p.positions)).collect()
    }

    #[test]
    fn stages_end_where_the_resolution_changes_and_correspond() {
        let (teacher, student) = (residual(4, [2, 3]), residual(2, [1, 1]));
        let named = |list: &[(&str, usize)]| list.iter().map(|(n, p)| ((*n).to_string(), *p)).collect::<Vec<_>>();
        let (t, s) = (points(&teacher, Pairs::Stages), points(&student, Pairs::Stages));
        assert_eq!(told(&teacher, &t), named(&[("s0b1out", 64), ("s1b2out", 16)]));
        assert_eq!(told(&student, &s), named(&[("s0b0out", 64), ("s1b0out", 16)]));
        let pairs = matched(&s, &t);
        assert!(pairs.iter().zip(&t).all(|((_, of), want)| of == want) && pairs.len() == 2);
        let embedding = points(&teacher, Pairs::Embedding);
        assert_eq!(told(&teacher, &embedding), named(&[("flat", 1)]));
        assert!(points(&teacher, Pairs::Attention).is_empty());
    }

    #[test]
    fn a_cut_that_is_clearly_more_similar_than_the_end_of_its_stage_is_taken() {
        let (teacher, student) = (residual(4, [2, 3]), residual(2, [1, 1]));
        let pairs = || matched(&points(&student, Pairs::Stages), &points(&teacher, Pairs::Stages));
        let with = |likes: &[(&str, f64)]| -> Vec<String> {
            let likes = |_: &Point, t: &Point| {
                let name = &teacher.value(t.value).name;
                Some(likes.iter().find(|(n, _)| n == name).map_or(0.5, |(_, like)| *like))
            };
            let chosen = probed(pairs(), &teacher, likes);
            chosen.iter().map(|(_, of)| teacher.value(of.value).name.clone()).collect()
        };
        assert_eq!(with(&[]), ["s0b1out", "s1b2out"]);
        assert_eq!(with(&[("s1b0out", 0.9), ("s1b1out", 0.95)]), ["s0b1out", "s1b1out"]);
        // Not by so little, and not of another resolution.
        assert_eq!(with(&[("s1b0out", 0.55), ("s0b0out", 0.59)]), ["s0b1out", "s1b2out"]);
        let unknown = probed(pairs(), &teacher, |_, _| None);
        assert_eq!(unknown, pairs());
    }

    #[test]
    fn students_with_other_numbers_of_stages_find_their_place_in_order() {
        let point = |value: u32, positions| Point { value: ValueId(value), layout: Layout::ChannelsFirst, positions };
        let teacher = [point(0, 64), point(1, 32), point(2, 16), point(3, 8)];
        let found = |student: &[usize]| -> Vec<u32> {
            let student: Vec<Point> = student.iter().enumerate().map(|(i, &p)| point(i as u32, p)).collect();
            matched(&student, &teacher).iter().map(|(_, of)| of.value.0).collect()
        };
        assert_eq!(found(&[64, 32, 16, 8]), [0, 1, 2, 3]);
        assert_eq!(found(&[32, 8]), [1, 3]);
        // No resolution in common: by place, first to last.
        assert_eq!(found(&[7, 5]), [0, 3]);
        assert_eq!(found(&[7]), [3]);
        assert_eq!(matched(&[point(0, 1)], &[]), []);
    }

    #[test]
    fn tokens_have_their_channels_at_the_end() {
        let mut b = Builder::new("tokens");
        let x = b.input("x", &[Dim::Batch, Dim::Fixed(6), Dim::Fixed(4)]);
        let w = b.constant("w", Tensor::f32([4, 8], vec![0.1; 32]));
        let y = b.node("product", Op::MatMul, &[x, w]).unwrap();
        let y = b.node("end", Op::Relu, &[y]).unwrap();
        let turned = b.node("turned", Op::Transpose { perm: vec![0, 2, 1] }, &[y]).unwrap();
        let graph = b.finish(&[turned]);
        let of = |name: &str| named(&graph, name).map(|p| (p.layout, p.positions));
        assert_eq!(of("end"), Some((Layout::ChannelsLast, 6)));
        assert_eq!(of("turned"), Some((Layout::ChannelsFirst, 6)));
        assert_eq!(of("w"), None, "weights are no activations");
    }
}
