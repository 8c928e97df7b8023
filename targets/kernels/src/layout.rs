//! Operators that move elements and compute nothing.

/// Constant padding of `[height, width, channels]` by rows above, columns left, rows below, columns right.
#[inline(always)]
pub fn pad<T: Copy>(shape: [usize; 3], pads: [usize; 4], value: T, input: &[T], output: &mut [T]) {
    let [height, width, channels] = shape;
    let [top, left, _, right] = pads;
    let row = (left + width + right) * channels;
    output.fill(value);
    for y in 0..height {
        let from = &input[y * width * channels..][..width * channels];
        output[(top + y) * row + left * channels..][..width * channels].copy_from_slice(from);
    }
}

/// Concatenation along the last axis: operand `i` has rows of `widths[i]` elements.
#[inline(always)]
pub fn concat<T: Copy, const N: usize>(widths: [usize; N], inputs: [&[T]; N], output: &mut [T]) {
    let row: usize = widths.iter().sum();
    let mut column = 0;
    for (width, input) in widths.into_iter().zip(inputs) {
        for (output, input) in output.chunks_exact_mut(row).zip(input.chunks_exact(width)) {
            output[column..][..width].copy_from_slice(input);
        }
        column += width;
    }
}

/// Permutation of axes: axis `i` of the result is axis `perm[i]` of the operand, whose extents are `shape`.
#[inline(always)]
pub fn transpose<T: Copy, const R: usize>(shape: [usize; R], perm: [usize; R], input: &[T], output: &mut [T]) {
    permute(shape, perm, |from, to| output[to] = input[from]);
}

/// Calls `move_element(from, to)` for each element of a permutation of axes, in the order of the result.
#[inline(always)]
pub fn permute<const R: usize>(shape: [usize; R], perm: [usize; R], mut move_element: impl FnMut(usize, usize)) {
    let mut strides = [1; R];
    for axis in (1..R).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    let mut index = [0; R];
    let mut from = 0;
    for to in 0..shape.iter().product() {
        move_element(from, to);
        for axis in (0..R).rev() {
            index[axis] += 1;
            from += strides[perm[axis]];
            if index[axis] < shape[perm[axis]] {
                break;
            }
            from -= index[axis] * strides[perm[axis]];
            index[axis] = 0;
        }
    }
}

/// A regular selection: element `[i, j, …]` of the result, whose extents are `shape`, is element
/// `offset + i · strides[0] + j · strides[1] + …` of the operand.
#[inline(always)]
pub fn view<T: Copy, const R: usize>(
    offset: usize,
    shape: [usize; R],
    strides: [usize; R],
    input: &[T],
    output: &mut [T],
) {
    let mut index = [0; R];
    let mut from = offset;
    for output in output {
        *output = input[from];
        for axis in (0..R).rev() {
            index[axis] += 1;
            from += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            from -= index[axis] * strides[axis];
            index[axis] = 0;
        }
    }
}
