//! Where each element of a result comes from, for operators that only move elements. Positions are row-major.

/// The position of every index of `shape`, in order, as `position` computes it.
fn positions(shape: &[usize], mut position: impl FnMut(&[usize]) -> usize) -> Vec<usize> {
    let count = shape.iter().product();
    let mut index = vec![0; shape.len()];
    let mut result = Vec::with_capacity(count);
    for _ in 0..count {
        result.push(position(&index));
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    result
}

/// How far apart neighbours along each axis are.
fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// Transpose: the result's axis `k` is the operand's axis `perm[k]`.
pub fn transposed(shape: &[usize], perm: &[usize]) -> Vec<usize> {
    let strides = strides(shape);
    let result: Vec<usize> = perm.iter().map(|&p| shape[p]).collect();
    positions(&result, |index| index.iter().zip(perm).map(|(i, &p)| i * strides[p]).sum())
}

/// Gather along `axis`; a negative index counts from the end. `None` when an index is out of range.
pub fn gathered(shape: &[usize], axis: usize, indices: &[i64]) -> Option<Vec<usize>> {
    let extent = shape[axis] as i64;
    let chosen: Option<Vec<usize>> = indices
        .iter()
        .map(|&i| if i < 0 { i.checked_add(extent) } else { Some(i) })
        .map(|i| i.filter(|i| (0..extent).contains(i)).map(|i| i as usize))
        .collect();
    let (chosen, strides) = (chosen?, strides(shape));
    let mut result = shape.to_vec();
    result[axis] = chosen.len();
    let at = |d: usize, i: usize| if d == axis { chosen[i] } else { i };
    Some(positions(&result, |index| index.iter().enumerate().map(|(d, &i)| at(d, i) * strides[d]).sum()))
}

/// Slice: along each of `axes`, from `start` by `step`, `count` elements.
pub fn sliced(shape: &[usize], result: &[usize], axes: &[usize], starts: &[i64], steps: &[i64]) -> Vec<usize> {
    let strides = strides(shape);
    let (mut first, mut step) = (vec![0i64; shape.len()], vec![1i64; shape.len()]);
    for (i, &axis) in axes.iter().enumerate() {
        (first[axis], step[axis]) = (starts[i], steps[i]);
    }
    let at = |d: usize, i: usize| (first[d] + i as i64 * step[d]).max(0) as usize;
    positions(result, |index| index.iter().enumerate().map(|(d, &i)| at(d, i) * strides[d]).sum())
}

/// Multidirectional broadcasting of `shape` to `result`.
pub fn broadcast(shape: &[usize], result: &[usize]) -> Vec<usize> {
    let (strides, missing) = (strides(shape), result.len() - shape.len());
    let along = |d: usize, i: usize| if shape[d] == 1 { 0 } else { i * strides[d] };
    positions(result, |index| index[missing..].iter().enumerate().map(|(d, &i)| along(d, i)).sum())
}

/// Concatenation along `axis`: which operand, and where in it.
pub fn concatenated(shapes: &[Vec<usize>], axis: usize) -> Vec<(usize, usize)> {
    let Some(first) = shapes.first() else { return vec![] };
    let outer: usize = first[..axis].iter().product();
    let blocks: Vec<usize> = shapes.iter().map(|s| s[axis..].iter().product()).collect();
    (0..outer)
        .flat_map(|o| blocks.iter().enumerate().flat_map(move |(s, &b)| (0..b).map(move |i| (s, o * b + i))))
        .collect()
}

/// Tile: the operand, repeated along every axis.
pub fn tiled(shape: &[usize], result: &[usize]) -> Vec<usize> {
    let strides = strides(shape);
    positions(result, |index| index.iter().enumerate().map(|(d, &i)| i % shape[d] * strides[d]).sum())
}

/// GatherElements: along `axis` the index that the indices say, along the others their own.
pub fn gathered_elements(shape: &[usize], axis: usize, extents: &[usize], indices: &[i64]) -> Option<Vec<usize>> {
    let (strides, of_indices) = (strides(shape), strides(extents));
    let extent = shape[axis] as i64;
    let fits = extents.len() == shape.len()
        && (0..shape.len()).all(|d| d == axis || extents[d] <= shape[d])
        && indices.iter().all(|&i| (-extent..extent).contains(&i));
    let chosen = |at: usize| indices[at].rem_euclid(extent.max(1)) as usize;
    fits.then(|| {
        positions(extents, |index| {
            let at: usize = index.iter().zip(&of_indices).map(|(i, s)| i * s).sum();
            index.iter().enumerate().map(|(d, &i)| if d == axis { chosen(at) } else { i } * strides[d]).sum()
        })
    })
}

/// GatherND: the last axis of the indices names a place in the operand, after `batch_dims` axes that both share.
pub fn gathered_nd(shape: &[usize], batch_dims: usize, extents: &[usize], indices: &[i64]) -> Option<Vec<usize>> {
    let strides = strides(shape);
    let (&depth, places) = extents.split_last()?;
    let tail = batch_dims + depth;
    let in_range = |at: usize, i: i64| {
        let extent = shape[batch_dims + at % depth] as i64;
        (-extent..extent).contains(&i)
    };
    if tail > shape.len() || depth == 0 || !indices.iter().enumerate().all(|(at, &i)| in_range(at, i)) {
        return None;
    }
    let inner: usize = shape[tail..].iter().product();
    let per_batch: usize = places[batch_dims..].iter().product();
    let batch_stride: usize = shape[batch_dims..].iter().product();
    let starts = indices.chunks_exact(depth).enumerate().map(|(place, index)| {
        let within = index.iter().enumerate().map(|(d, &i)| {
            let d = batch_dims + d;
            i.rem_euclid(shape[d] as i64) as usize * strides[d]
        });
        place / per_batch.max(1) * batch_stride + within.sum::<usize>()
    });
    Some(starts.flat_map(|start| start..start + inner).collect())
}

/// Pad: positions outside are brought inside by `place`, which gets an index and the extent.
pub fn padded(shape: &[usize], pads: &[i64], result: &[usize], place: impl Fn(i64, i64) -> i64) -> Vec<usize> {
    let strides = strides(shape);
    let at = |d: usize, i: usize| place(i as i64 - pads[d], shape[d] as i64).max(0) as usize;
    positions(result, |index| index.iter().enumerate().map(|(d, &i)| at(d, i) * strides[d]).sum())
}

/// Pad: positions that are inside the operand.
pub fn inside(shape: &[usize], pads: &[i64], result: &[usize]) -> Vec<Option<usize>> {
    let strides = strides(shape);
    let at = |d: usize, i: usize| usize::try_from(i as i64 - pads[d]).ok().filter(|&i| i < shape[d]);
    let mut all = Vec::new();
    positions(result, |index| {
        let place = index.iter().enumerate().map(|(d, &i)| Some(at(d, i)? * strides[d])).sum::<Option<usize>>();
        all.push(place);
        0
    });
    all
}
