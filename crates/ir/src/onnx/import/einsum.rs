//! Einsum: sums of products along named axes, written as transpositions and a matrix product for each further operand
//! (ONNX specification, after NumPy's `einsum`).

use super::super::proto::NodeProto;
use super::Importer;
use super::fault::{Fault, Why};
use crate::graph::{DType, Dim, Op, Reduction, Unread, ValueId};
use std::collections::{BTreeMap, HashMap, HashSet};

/// The axes of the operands and of the result, by label. An ellipsis has labels of its own.
#[derive(Debug, PartialEq)]
struct Equation {
    operands: Vec<Vec<char>>,
    result: Vec<char>,
}

/// Labels that no equation spells: the axes of an ellipsis, the last one first.
fn elided(from_the_end: usize) -> char {
    char::from_u32(0xE000 + from_the_end as u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}

impl Equation {
    /// Reads `bij,bjk->bik` for operands of these ranks.
    fn parse(text: &str, ranks: &[usize]) -> Result<Equation, Why> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let (given, result) = match text.split_once("->") {
            Some((given, result)) => (given, Some(result)),
            None => (&text[..], None),
        };
        let terms: Vec<&str> = given.split(',').collect();
        if terms.len() != ranks.len() {
            return Err(format!("the equation has {} operands, the node {}", terms.len(), ranks.len()).into());
        }
        let mut most = 0;
        let mut operands = vec![];
        for (term, &rank) in terms.iter().zip(ranks) {
            let named = term.chars().filter(|c| c.is_ascii_alphabetic()).count();
            let hidden = rank.checked_sub(named).filter(|&n| n == 0 || term.contains("..."));
            let hidden = hidden.ok_or_else(|| format!("'{term}' does not name {rank} axes"))?;
            most = most.max(hidden);
            operands.push(labels(term, hidden)?);
        }
        let result = match result {
            Some(result) => labels(result, most)?,
            None => {
                // What stands there once, in alphabetical order, after what is elided.
                let mut counts = BTreeMap::new();
                operands.iter().flatten().for_each(|&label| *counts.entry(label).or_insert(0) += 1);
                let once = counts.iter().filter(|&(label, &n)| n == 1 && label.is_ascii());
                (0..most).rev().map(elided).chain(once.map(|(&label, _)| label)).collect()
            }
        };
        for axes in operands.iter().chain([&result]) {
            if axes.iter().collect::<HashSet<_>>().len() < axes.len() {
                return Err(Unread::RepeatedAxis.into());
            }
        }
        if let Some(label) = result.iter().find(|label| !operands.iter().any(|axes| axes.contains(label))) {
            return Err(format!("no operand has the axis '{label}' of the result").into());
        }
        Ok(Equation { operands, result })
    }
}

fn labels(term: &str, hidden: usize) -> Result<Vec<char>, String> {
    let named = |part: &str| match part.chars().all(|c| c.is_ascii_alphabetic()) {
        true => Ok(part.chars().collect::<Vec<char>>()),
        false => Err(format!("'{term}' is no list of axes")),
    };
    match term.split_once("...") {
        Some((before, after)) => Ok([named(before)?, (0..hidden).rev().map(elided).collect(), named(after)?].concat()),
        None => named(term),
    }
}

/// A factor on its way: what has still to be done to get it, and its axes.
struct Factor {
    step: Step,
    axes: Vec<char>,
}

enum Step {
    Done(ValueId),
    Open(Op, Vec<ValueId>),
}

impl<'m> Importer<'m> {
    /// An Einsum of floats; the last of its operators has its name.
    pub(super) fn einsum(&mut self, proto: &'m NodeProto, name: &str) -> Result<(), Fault> {
        let text = self.call(proto)?.text("equation", "");
        let operands = self.operands(proto)?;
        if operands.iter().any(|&id| self.graph.value(id).dtype != DType::F32) {
            return Err(Fault::Unsupported(Unread::IntegerProducts.into()));
        }
        let ranks: Vec<usize> = operands.iter().map(|&id| self.graph.value(id).shape.len()).collect();
        let equation = Equation::parse(&text, &ranks).map_err(Fault::Unsupported)?;
        let mut extents: HashMap<char, Dim> = HashMap::new();
        for (&id, axes) in operands.iter().zip(&equation.operands) {
            for (&label, &dim) in axes.iter().zip(&self.graph.value(id).shape) {
                if *extents.entry(label).or_insert(dim) != dim {
                    return Err(Fault::Unsupported(Unread::StretchedAxis.into()));
                }
            }
        }
        let factors = operands.into_iter().zip(equation.operands);
        let mut factors: Vec<Factor> = factors.map(|(id, axes)| Factor { step: Step::Done(id), axes }).collect();
        let mut product = factors.remove(0);
        while !factors.is_empty() {
            let next = factors.remove(0);
            let later = factors.iter().flat_map(|f| &f.axes).chain(&equation.result).copied().collect();
            product = self.product_of(product, next, &later, &extents, name)?;
        }
        let kept = equation.result.iter().copied().collect();
        product = self.summed(product, &kept, name)?;
        product = self.ordered(product, &equation.result, name)?;
        let (op, inputs) = match product.step {
            Step::Done(id) => (Op::Identity, vec![id]),
            Step::Open(op, inputs) => (op, inputs),
        };
        self.made(op, &inputs, name, proto.output.first())?;
        Ok(())
    }

    /// The product of two factors, summed along what they share and nobody needs `later`.
    fn product_of(
        &mut self,
        a: Factor,
        b: Factor,
        later: &HashSet<char>,
        extents: &HashMap<char, Dim>,
        name: &str,
    ) -> Result<Factor, Fault> {
        let among = |axes: &[char]| -> HashSet<char> { later.iter().chain(axes).copied().collect() };
        let (for_a, for_b) = (among(&b.axes), among(&a.axes));
        let (mut a, mut b) = (self.summed(a, &for_a, name)?, self.summed(b, &for_b, name)?);
        let part = |of: &Factor, wanted: &dyn Fn(&char) -> bool| of.axes.iter().copied().filter(wanted).collect();
        let shared: Vec<char> = part(&a, &|l| b.axes.contains(l));
        let (each, inner): (Vec<char>, Vec<char>) = shared.iter().copied().partition(|l| later.contains(l));
        // Samples belong to the left: rows of which there are many, and a matrix that is the same for all of them.
        let batched = |f: &Factor| f.axes.iter().any(|l| extents[l].is_batched());
        if each.is_empty() && batched(&b) && !batched(&a) {
            std::mem::swap(&mut a, &mut b);
        }
        let left: Vec<char> = part(&a, &|l| !shared.contains(l));
        let right: Vec<char> = part(&b, &|l| !shared.contains(l));
        // Rows need not become one axis where the matrix has no other.
        let apart = each.is_empty() && !left.is_empty();
        let rows: Vec<Vec<char>> = if apart { left.iter().map(|&l| vec![l]).collect() } else { vec![left.clone()] };
        let alone = |labels: &[char]| labels.iter().map(|&l| vec![l]).collect::<Vec<_>>();
        let a = self.grouped(a, &[alone(&each), rows, vec![inner.clone()]].concat(), extents, name)?;
        let b = self.grouped(b, &[alone(&each), vec![inner, right.clone()]].concat(), extents, name)?;
        let product = Factor { step: Step::Open(Op::MatMul, vec![a, b]), axes: vec![] };
        let axes = [each, left, right].concat();
        self.shaped(product, axes, extents, name)
    }

    /// Sums along axes that are not kept.
    fn summed(&mut self, mut factor: Factor, kept: &HashSet<char>, name: &str) -> Result<Factor, Fault> {
        let gone = |(d, label): (usize, &char)| (!kept.contains(label)).then_some(d);
        let axes: Vec<usize> = factor.axes.iter().enumerate().filter_map(gone).collect();
        if axes.is_empty() {
            return Ok(factor);
        }
        factor.axes.retain(|label| kept.contains(label));
        let id = self.done(factor.step, name)?;
        let op = Op::Reduce { reduction: Reduction::Sum, axes, keepdims: false };
        Ok(Factor { step: Step::Open(op, vec![id]), ..factor })
    }

    /// With its axes in this order.
    fn ordered(&mut self, factor: Factor, axes: &[char], name: &str) -> Result<Factor, Fault> {
        let place = |label: &char| factor.axes.iter().position(|other| other == label);
        let perm: Vec<usize> = axes.iter().filter_map(place).collect();
        if perm.iter().enumerate().all(|(i, &d)| i == d) {
            return Ok(factor);
        }
        let id = self.done(factor.step, name)?;
        Ok(Factor { step: Step::Open(Op::Transpose { perm }, vec![id]), axes: axes.to_vec() })
    }

    /// With an axis for each group of axes, in their order; of an empty group it has an extent of 1.
    fn grouped(
        &mut self,
        factor: Factor,
        groups: &[Vec<char>],
        extents: &HashMap<char, Dim>,
        name: &str,
    ) -> Result<ValueId, Fault> {
        let factor = self.ordered(factor, &groups.concat(), name)?;
        let id = self.done(factor.step, name)?;
        if groups.iter().all(|group| group.len() == 1) {
            return Ok(id);
        }
        let shape = groups.iter().map(|group| merged(group, extents)).collect::<Result<Vec<Dim>, Fault>>()?;
        self.made(Op::Reshape { shape }, &[id], name, None)
    }

    /// With these axes apart, which its extents are the products of.
    fn shaped(
        &mut self,
        factor: Factor,
        axes: Vec<char>,
        extents: &HashMap<char, Dim>,
        name: &str,
    ) -> Result<Factor, Fault> {
        let shape: Vec<Dim> = axes.iter().map(|label| extents[label]).collect();
        let id = self.done(factor.step, name)?;
        let step = match self.graph.value(id).shape == shape {
            true => Step::Done(id),
            false => Step::Open(Op::Reshape { shape }, vec![id]),
        };
        Ok(Factor { step, axes })
    }

    fn done(&mut self, step: Step, name: &str) -> Result<ValueId, Fault> {
        match step {
            Step::Done(id) => Ok(id),
            Step::Open(op, inputs) => self.made(op, &inputs, name, None),
        }
    }
}

/// The extent of several axes that became one.
fn merged(group: &[char], extents: &HashMap<char, Dim>) -> Result<Dim, Fault> {
    let fixed: usize = group.iter().map(|label| extents[label].at(1)).product();
    match group.iter().filter(|label| extents[label].is_batched()).count() {
        0 => Ok(Dim::Fixed(fixed)),
        1 => Ok(Dim::batches(fixed)),
        _ => Err(Fault::Unsupported("takes samples of a batch for positions".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equations_are_read_as_numpy_reads_them() {
        let of = |text: &str, ranks: &[usize]| Equation::parse(text, ranks);
        let axes = |text: &str| text.chars().collect::<Vec<char>>();
        let plain = of(" bij, bjk -> bik ", &[3, 3]).unwrap();
        assert_eq!((plain.operands, plain.result), (vec![axes("bij"), axes("bjk")], axes("bik")));
        assert_eq!(of("ba", &[2]).unwrap().result, axes("ab"));
        assert_eq!(of("bij,bjk", &[3, 3]).unwrap().result, axes("ik"));
        let elided = of("...ij,jk->...ik", &[4, 2]).unwrap();
        assert_eq!(elided.operands[0][..2], elided.result[..2]);
        assert_eq!(of("i...,i", &[3, 1]).unwrap().result.len(), 2);
        for (text, ranks) in [
            ("ii->i", &[2][..]),
            ("ij->k", &[2]),
            ("ij,jk->ik", &[2]),
            ("ij->ij", &[3]),
            ("i1->i", &[2]),
            ("ijk->ijk", &[2]),
        ] {
            assert!(of(text, ranks).is_err(), "{text}");
        }
    }
}
