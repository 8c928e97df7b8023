//! Numbers in the order in which the inner loops of [`linear`](crate::linear) read them. Runs on the workstation.

/// `f32` weights `[out][run]` as `[group · block][run][lanes]`, each group's last block filled up.
pub fn float_weights(weights: &[f32], groups: usize, out: usize, lanes: usize) -> Vec<f32> {
    let run = weights.len() / out;
    let mut packed = Vec::new();
    for block in blocks(groups, out, lanes) {
        for i in 0..run {
            packed.extend(block.iter().map(|channel| channel.map_or(0.0, |c| weights[c * run + i])));
        }
    }
    packed
}

/// `i8` weights `[out][taps][in]` as `[group · block][taps][in / 4][lanes / 4][16]`, the sixteen as
/// [`vector`](crate::vector) takes them. Input channels, too, are filled up.
pub fn int8_weights(weights: &[i8], groups: usize, out: usize, taps: usize, lanes: usize) -> Vec<i8> {
    let inputs = weights.len() / out / taps;
    let mut packed = Vec::new();
    for block in blocks(groups, out, lanes) {
        for tap in 0..taps {
            let weight = |channel: Option<usize>, input: usize| match channel {
                Some(c) if input < inputs => weights[(c * taps + tap) * inputs + input],
                _ => 0,
            };
            for step in (0..inputs).step_by(4) {
                for four in block.chunks(4) {
                    for pair in [step, step + 2] {
                        packed.extend(four.iter().flat_map(|&c| [weight(c, pair), weight(c, pair + 1)]));
                    }
                }
            }
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

/// The first of some block sizes that fills up with no more channels than any other.
pub fn lanes(out: usize, sizes: &[usize]) -> usize {
    sizes.iter().copied().min_by_key(|&size| padded(out, size)).unwrap_or(1)
}

fn padded(channels: usize, lanes: usize) -> usize {
    channels.div_ceil(lanes) * lanes
}

/// The channels of each block; `None` fills up.
fn blocks(groups: usize, out: usize, lanes: usize) -> Vec<Vec<Option<usize>>> {
    let group_out = out / groups;
    let block = |group: usize, block: usize| {
        let channel =
            |lane: usize| Some(block * lanes + lane).filter(|&c| c < group_out).map(|c| group * group_out + c);
        (0..lanes).map(channel).collect()
    };
    (0..groups).flat_map(|g| (0..group_out.div_ceil(lanes)).map(move |b| (g, b))).map(|(g, b)| block(g, b)).collect()
}
