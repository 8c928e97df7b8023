//! What is computed of all elements along axes: reductions, running sums, extremes.

use super::Numbers;
use crate::graph::{Reduction, Tensor};

/// The elements that each element of the result is computed of, in order.
fn groups(x: &Tensor, axes: &[usize]) -> Vec<Vec<usize>> {
    let kept: Vec<usize> = (0..x.shape.len()).filter(|d| !axes.contains(d)).collect();
    let count = kept.iter().map(|&d| x.shape[d]).product();
    let mut groups = vec![vec![]; count];
    for i in 0..x.len() {
        let (mut rest, mut at, mut scale) = (i, 0, 1);
        for d in (0..x.shape.len()).rev() {
            let index = rest % x.shape[d];
            rest /= x.shape[d];
            if kept.contains(&d) {
                at += index * scale;
                scale *= x.shape[d];
            }
        }
        groups[at].push(i);
    }
    groups
}

/// Reduces along axes; of nothing, what leaves other elements unchanged.
pub fn reduce(reduction: Reduction, x: &Tensor, axes: &[usize]) -> Numbers {
    let groups = groups(x, axes);
    if let (Numbers::Whole(v), true) = (
        Numbers::of(x),
        matches!(
            reduction,
            Reduction::Sum | Reduction::Max | Reduction::Min | Reduction::Prod | Reduction::L1 | Reduction::SumSquare
        ),
    ) {
        let one = |group: &Vec<usize>| {
            let all = group.iter().map(|&i| v[i]);
            match reduction {
                Reduction::Max => all.max().unwrap_or(i64::MIN),
                Reduction::Min => all.min().unwrap_or(i64::MAX),
                Reduction::Prod => all.fold(1, i64::wrapping_mul),
                Reduction::L1 => all.fold(0i64, |a, b| a.wrapping_add(b.wrapping_abs())),
                Reduction::SumSquare => all.fold(0i64, |a, b| a.wrapping_add(b.wrapping_mul(b))),
                _ => all.fold(0, i64::wrapping_add),
            }
        };
        return Numbers::Whole(groups.iter().map(one).collect());
    }
    let v = Numbers::of(x).real();
    let one = |group: &Vec<usize>| {
        let all = group.iter().map(|&i| v[i]);
        let largest = all.clone().fold(f64::NEG_INFINITY, |a, b| if a > b || a.is_nan() { a } else { b });
        match reduction {
            Reduction::Sum => all.sum(),
            Reduction::Max => largest,
            Reduction::Min => all.fold(f64::INFINITY, |a, b| if a < b || a.is_nan() { a } else { b }),
            Reduction::Prod => all.product(),
            Reduction::L1 => all.map(f64::abs).sum(),
            Reduction::L2 => all.map(|x| x * x).sum::<f64>().sqrt(),
            Reduction::LogSum => all.sum::<f64>().ln(),
            Reduction::LogSumExp if largest.is_infinite() => largest,
            Reduction::LogSumExp => largest + all.map(|x| (x - largest).exp()).sum::<f64>().ln(),
            Reduction::SumSquare => all.map(|x| x * x).sum(),
        }
    };
    Numbers::Real(groups.iter().map(one).collect())
}

/// The mean along axes.
pub fn mean(x: &Tensor, axes: &[usize]) -> Numbers {
    let v = Numbers::of(x).real();
    let one = |group: &Vec<usize>| group.iter().map(|&i| v[i]).sum::<f64>() / group.len() as f64;
    Numbers::Real(groups(x, axes).iter().map(one).collect())
}

/// The position of the extreme along an axis, in the order of the other axes.
pub fn arg_extreme(x: &Tensor, axis: usize, largest: bool, last: bool) -> Numbers {
    let v = Numbers::of(x).real();
    let one = |group: &Vec<usize>| {
        let better = |a: f64, b: f64| if largest { a > b } else { a < b };
        let mut best = 0;
        for (i, &at) in group.iter().enumerate() {
            let (new, old) = (v[at], v[group[best]]);
            if better(new, old) || (last && new == old) {
                best = i;
            }
        }
        best as i64
    };
    Numbers::Whole(groups(x, &[axis]).iter().map(one).collect())
}

/// Running sums along an axis.
pub fn cumulated(x: &Tensor, axis: usize, exclusive: bool, reverse: bool) -> Numbers {
    let groups = groups(x, &[axis]);
    fn run<T: Copy>(
        v: &[T],
        zero: T,
        add: impl Fn(T, T) -> T,
        groups: &[Vec<usize>],
        exclusive: bool,
        reverse: bool,
    ) -> Vec<T> {
        let mut result = v.to_vec();
        for group in groups {
            let mut sum = zero;
            let count = group.len();
            for i in 0..count {
                let at = group[if reverse { count - 1 - i } else { i }];
                let before = sum;
                sum = add(sum, v[at]);
                result[at] = if exclusive { before } else { sum };
            }
        }
        result
    }
    match Numbers::of(x) {
        Numbers::Whole(v) => Numbers::Whole(run(&v, 0, i64::wrapping_add, &groups, exclusive, reverse)),
        Numbers::Real(v) => Numbers::Real(run(&v, 0.0, |a, b| a + b, &groups, exclusive, reverse)),
    }
}

/// The `k` first along an axis by size: their positions in the tensor, and along the axis. Of equals the earlier comes
/// first.
pub fn top(x: &Tensor, axis: usize, k: usize, largest: bool) -> (Vec<usize>, Vec<i64>) {
    let inner: usize = x.shape[axis + 1..].iter().product();
    let outer: usize = x.shape[..axis].iter().product();
    let v = Numbers::of(x).real();
    let (mut at, mut indices) = (vec![0; outer * k * inner], vec![0; outer * k * inner]);
    for (g, group) in groups(x, &[axis]).iter().enumerate() {
        let mut order: Vec<usize> = (0..group.len()).collect();
        let by = |i: usize| v[group[i]];
        order.sort_by(|&a, &b| if largest { by(b).total_cmp(&by(a)) } else { by(a).total_cmp(&by(b)) });
        let (o, i) = (g / inner.max(1), g % inner.max(1));
        for (rank, &chosen) in order.iter().take(k).enumerate() {
            at[(o * k + rank) * inner + i] = group[chosen];
            indices[(o * k + rank) * inner + i] = chosen as i64;
        }
    }
    (at, indices)
}
