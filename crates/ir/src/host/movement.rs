//! Where each element of a result comes from, for operators that only move elements.

use super::Numbers;
use super::elements;
use crate::graph::{Op, PadMode, Tensor};

/// For every element of the result numbered `which`, in order, its position in the first operand.
///
/// `shape` is the first operand's, `indices` the second operand's shape and integers where the operator has such.
///
/// # Errors
/// When the operator does more than move elements, or an index is out of range.
pub fn source(
    op: &Op,
    shape: &[usize],
    indices: Option<(&[usize], &[i64])>,
    result: &[usize],
    which: usize,
) -> Result<Vec<usize>, String> {
    let indices = || indices.ok_or_else(|| "its indices are missing".to_string());
    let at = match op {
        Op::Identity
        | Op::Dropout
        | Op::Flatten { .. }
        | Op::Reshape { .. }
        | Op::Squeeze { .. }
        | Op::Unsqueeze { .. } => (0..shape.iter().product()).collect(),
        Op::Transpose { perm } => elements::transposed(shape, perm),
        Op::Slice { starts, axes, steps, .. } => elements::sliced(shape, result, axes, starts, steps),
        Op::Expand { .. } => elements::broadcast(shape, result),
        Op::Tile { .. } => elements::tiled(shape, result),
        Op::Split { axis, sizes } => {
            let start: usize = sizes[..which].iter().sum();
            elements::sliced(shape, result, &[*axis], &[start as i64], &[1])
        }
        Op::Gather { axis } => {
            elements::gathered(shape, *axis, indices()?.1).ok_or_else(|| out_of_range(shape[*axis], indices))?
        }
        Op::GatherElements { axis } => {
            let (extents, wanted) = indices()?;
            elements::gathered_elements(shape, *axis, extents, wanted)
                .ok_or_else(|| out_of_range(shape[*axis], indices))?
        }
        Op::GatherNd { batch_dims } => {
            let (extents, wanted) = indices()?;
            elements::gathered_nd(shape, *batch_dims, extents, wanted)
                .ok_or_else(|| format!("an index is outside the operand's extents {shape:?}"))?
        }
        Op::DepthToSpace { block: b, columns_first } => {
            let [n, c, h, w] = image(shape)?;
            let (b, deep) = (*b, c / (b * b));
            // Depth is split, then its parts are moved between rows and columns.
            let (split, perm) = match columns_first {
                false => ([n, b, b, deep, h, w], [0, 3, 4, 1, 5, 2]),
                true => ([n, deep, b, b, h, w], [0, 1, 4, 2, 5, 3]),
            };
            elements::transposed(&split, &perm)
        }
        Op::SpaceToDepth { block: b } => {
            let [n, c, h, w] = image(shape)?;
            elements::transposed(&[n, c, h / b, *b, w / b, *b], &[0, 3, 5, 1, 2, 4])
        }
        Op::Pad { pads, mode: PadMode::Edge } => {
            elements::padded(shape, pads, result, |i, n| i.clamp(0, (n - 1).max(0)))
        }
        Op::Pad { pads, mode: PadMode::Wrap } => elements::padded(shape, pads, result, |i, n| i.rem_euclid(n.max(1))),
        Op::Pad { pads, mode: PadMode::Reflect } => elements::padded(shape, pads, result, |i, n| {
            let period = (2 * (n - 1)).max(1);
            let i = i.rem_euclid(period);
            if i < n { i } else { period - i }
        }),
        _ => return Err("it does more than move elements".into()),
    };
    match at.len() == result.iter().product::<usize>() {
        true => Ok(at),
        false => Err(format!("{} elements for a result of {result:?}", at.len())),
    }
}

fn out_of_range<'a>(extent: usize, indices: impl Fn() -> Result<(&'a [usize], &'a [i64]), String>) -> String {
    let extent = extent as i64;
    let outside = indices().ok().and_then(|(_, i)| i.iter().find(|&&i| i >= extent || i < -extent).copied());
    outside.map_or("its indices do not fit the operand".into(), |i| format!("index {i} of {extent}"))
}

fn image(shape: &[usize]) -> Result<[usize; 4], String> {
    shape.try_into().map_err(|_| format!("an image is wanted, not {shape:?}"))
}

/// 1 for what stays of the last two axes, 0 for the rest.
pub fn triangle(shape: &[usize], upper: bool, k: i64) -> Vec<i64> {
    let rank = shape.len();
    let (rows, columns) = (shape[rank - 2], shape[rank - 1]);
    let stays = |i: usize| {
        let (row, column) = ((i / columns.max(1) % rows.max(1)) as i64, (i % columns.max(1)) as i64);
        let above = column - row;
        i64::from(if upper { above >= k } else { above <= k })
    };
    (0..shape.iter().product()).map(stays).collect()
}

/// `values[1]` where the index along the new axis is the one named, else `values[0]`.
pub fn one_hot(indices: &Tensor, values: &Tensor, axis: usize, depth: usize) -> Result<Numbers, String> {
    let wanted: Vec<i64> = Numbers::of(indices).real().into_iter().map(|x| x as i64).collect();
    if values.len() != 2 {
        return Err(format!("{} values, of which there must be two", values.len()));
    }
    let inner: usize = indices.shape[axis..].iter().product();
    let at = |i: usize| {
        let (outer, class, rest) = (i / (depth * inner), i / inner % depth, i % inner);
        usize::from(
            wanted[outer * inner + rest].rem_euclid(depth as i64) == class as i64
                && in_range(wanted[outer * inner + rest], depth),
        )
    };
    let positions: Vec<usize> = (0..wanted.len() * depth).map(at).collect();
    Ok(Numbers::of(values).pick(&positions))
}

fn in_range(index: i64, depth: usize) -> bool {
    (-(depth as i64)..depth as i64).contains(&index)
}

/// Filled with a number outside; negative pads crop.
pub fn padded(x: &Tensor, pads: &[i64], value: f64, result: &[usize]) -> Numbers {
    let inside = elements::inside(&x.shape, pads, result);
    match Numbers::of(x) {
        Numbers::Whole(v) => Numbers::Whole(inside.iter().map(|at| at.map_or(value as i64, |i| v[i])).collect()),
        Numbers::Real(v) => Numbers::Real(inside.iter().map(|at| at.map_or(value, |i| v[i])).collect()),
    }
}
