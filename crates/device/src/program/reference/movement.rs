//! Steps that only move elements.

use crate::program::Kernel;

/// The row of the table for each token; one beyond the table has its last row.
pub(super) fn embedding<T: Copy>(kernel: &Kernel, tokens: &[u32], table: &[T]) -> Vec<T> {
    let Kernel::Embedding { width } = kernel else { return vec![] };
    let last = table.len() / width - 1;
    let row = |&token: &u32| table[(token as usize).min(last) * width..][..*width].iter().copied();
    tokens.iter().flat_map(row).collect()
}

/// Axis `i` of the result is axis `perm[i]` of the operand.
pub fn transpose<T: Copy>(shape: &[usize], perm: &[usize], x: &[T]) -> Vec<T> {
    let stride = |axis: usize| shape[axis + 1..].iter().product::<usize>();
    let out: Vec<usize> = perm.iter().map(|&p| shape[p]).collect();
    let strides: Vec<usize> = perm.iter().map(|&p| stride(p)).collect();
    view(0, &out, &strides, x)
}

/// Element `[i, j, …]` of the result is element `offset + i·strides[0] + j·strides[1] + …` of the operand.
pub(super) fn view<T: Copy>(offset: usize, shape: &[usize], strides: &[usize], x: &[T]) -> Vec<T> {
    let element = |mut i: usize| {
        let mut at = offset;
        for (n, stride) in shape.iter().zip(strides).rev() {
            at += i % n * stride;
            i /= n;
        }
        x[at]
    };
    (0..shape.iter().product()).map(element).collect()
}

/// `[height, width, channels]` with rows above, columns left, rows below and columns right of one value.
pub(super) fn pad<T: Copy>(
    [h, w, c]: [usize; 3],
    [top, left, bottom, right]: [usize; 4],
    value: T,
    x: &[T],
    out: &mut Vec<T>,
) {
    for y in 0..h + top + bottom {
        for column in 0..w + left + right {
            let inside = y.checked_sub(top).filter(|&y| y < h).zip(column.checked_sub(left).filter(|&i| i < w));
            match inside {
                Some((y, i)) => out.extend_from_slice(&x[(y * w + i) * c..][..c]),
                None => out.extend(std::iter::repeat_n(value, c)),
            }
        }
    }
}

/// Rows of several operands one after the other, `inner` elements of each.
pub(super) fn concat<T: Copy>(outer: usize, inner: &[usize], x: &[&[T]], out: &mut Vec<T>) {
    for row in 0..outer {
        for (part, &n) in x.iter().zip(inner) {
            out.extend_from_slice(&part[row * n..][..n]);
        }
    }
}
