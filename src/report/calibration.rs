//! Whether a network is as right as it is sure.

/// Expected calibration error: the mean distance of confidence and accuracy over 15 bins of confidence, weighted by their
/// samples (Naeini et al. 2015; Guo et al. 2017, <https://arxiv.org/abs/1706.04599>). Rows of logits with their labels; 0
/// where there are none.
pub fn calibration_error<'a>(rows: impl Iterator<Item = (&'a [f32], u16)>) -> f64 {
    const BINS: usize = 15;
    let mut bins = [(0usize, 0.0f64, 0usize); BINS];
    let mut count = 0;
    for (row, label) in rows {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|&z| f64::from(z - max).exp()).sum();
        let (confidence, said) = (1.0 / sum, row.iter().position(|&z| z == max).unwrap_or(0));
        let bin = ((confidence * BINS as f64) as usize).min(BINS - 1);
        bins[bin].0 += 1;
        bins[bin].1 += confidence;
        bins[bin].2 += usize::from(said == usize::from(label));
        count += 1;
    }
    bins.iter().map(|&(_, sure, right)| (sure - right as f64).abs()).sum::<f64>() / f64::from(count.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_is_sure_and_half_wrong_is_off_by_a_half() {
        let sure = [20.0f32, 0.0];
        let rows = [(&sure[..], 0u16), (&sure[..], 1)];
        assert!((calibration_error(rows.into_iter()) - 0.5).abs() < 1e-6);
        let torn = [0.0f32, 0.0];
        assert!(calibration_error([(&torn[..], 0u16), (&torn[..], 1)].into_iter()) < 1e-9);
        assert_eq!(calibration_error(std::iter::empty()), 0.0);
    }
}
