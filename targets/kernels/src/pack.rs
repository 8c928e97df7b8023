//! Numbers in the order in which the inner loops of [`linear`](crate::linear) read them. Runs on the workstation.

/// Channels in blocks of `lanes`, each group's last block filled up: from `[out][run]` to `[group · block][run][lanes]`.
pub fn weights<T: Copy + Default>(weights: &[T], groups: usize, out: usize, lanes: usize) -> Vec<T> {
    let run = weights.len() / out;
    let mut packed = Vec::with_capacity(groups * padded(out / groups, lanes) * run);
    for block in blocks(groups, out, lanes) {
        for i in 0..run {
            packed.extend(block.iter().map(|channel| channel.map_or(T::default(), |c| weights[c * run + i])));
        }
    }
    packed
}

/// One number per channel, in the same blocks; `fill` for the channels that fill up.
pub fn channels<T: Copy>(numbers: &[T], groups: usize, lanes: usize, fill: T) -> Vec<T> {
    let pick = |channel: &Option<usize>| channel.map_or(fill, |c| numbers[c]);
    blocks(groups, numbers.len(), lanes).iter().flatten().map(pick).collect()
}

/// Biases that start sums over stored elements: less the input's zero point times each channel's weights `[out][run]`.
pub fn bias(bias: &[i32], weights: &[i8], zero: i8) -> Vec<i32> {
    let run = weights.len() / bias.len();
    let sum = |c: usize| weights[c * run..][..run].iter().fold(0_i32, |sum, &w| sum.wrapping_add(w as i32));
    (0..bias.len()).map(|c| bias[c].wrapping_sub(sum(c).wrapping_mul(zero as i32))).collect()
}

/// How many channels a block of `out` channels has: the smallest that wastes no more than any larger.
pub fn lanes(out: usize) -> usize {
    if padded(out, 16) > padded(out, 8) { 8 } else { 16 }
}

fn padded(channels: usize, lanes: usize) -> usize {
    channels.div_ceil(lanes) * lanes
}

/// The channels of each block; `None` fills up.
fn blocks(groups: usize, out: usize, lanes: usize) -> Vec<Vec<Option<usize>>> {
    let group_out = out / groups;
    let block = |group: usize, block: usize| {
        let channel = |lane: usize| Some(block * lanes + lane).filter(|&c| c < group_out).map(|c| group * group_out + c);
        (0..lanes).map(channel).collect()
    };
    (0..groups).flat_map(|g| (0..group_out.div_ceil(lanes)).map(move |b| (g, b))).map(|(g, b)| block(g, b)).collect()
}
