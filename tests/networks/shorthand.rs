//! Operators that are short for several others, against their definitions.

use crate::{case, written};

/// What a network of this operator makes of [`written::numbers`], and these.
fn both(name: &str) -> (Vec<f32>, Vec<f32>) {
    let x = written::numbers(&[2, 3]);
    let results = case::computed(&written::network(name).unwrap(), vec![x.clone()]).unwrap();
    (results[0].to_f32().into_owned(), x.to_f32().into_owned())
}

fn assert_close(results: &[f32], defined: impl Iterator<Item = f32>) {
    let defined: Vec<f32> = defined.collect();
    assert_eq!(results.len(), defined.len());
    assert!(results.iter().zip(&defined).all(|(a, b)| (a - b).abs() < 1e-6), "{results:?} {defined:?}");
}

/// The network's attribute is an alpha of 0.5.
#[test]
fn swish_is_gated_by_its_own_sigmoid() {
    let (results, x) = both("Swish");
    assert_close(&results, x.iter().map(|x| x / (1.0 + (-0.5 * x).exp())));
}

/// The network's epsilon is 0.5, and its scale 0.02, 0.03, 0.04.
#[test]
fn rms_normalization_divides_by_the_root_of_the_mean_square() {
    let (results, x) = both("RMSNormalization");
    let rows = x.chunks(3).flat_map(|row| {
        let root = (row.iter().map(|x| x * x).sum::<f32>() / 3.0 + 0.5).sqrt();
        row.iter().zip([0.02, 0.03, 0.04]).map(move |(x, scale)| x / root * scale)
    });
    assert_close(&results, rows);
}
