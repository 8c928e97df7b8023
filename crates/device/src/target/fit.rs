//! Least squares for coefficients that cannot be negative, on relative errors, little moved by outliers.

/// One observation: how often each term occurred, and what all of it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    pub counts: Vec<f64>,
    pub value: f64,
}

/// Non-negative coefficients, one per term.
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    pub coefficients: Vec<f64>,
    /// The median over the observations of the error, relative to `value + floor`.
    pub median_error: f64,
}

/// Relative errors beyond this weigh linearly, not as squares (Huber 1964, <https://doi.org/10.1214/aoms/1177703732>).
const HUBER: f64 = 0.1;
/// Rounds of reweighting; of passes over the coefficients in each.
const REWEIGHTED: usize = 12;
const PASSES: usize = 20_000;

/// Finds the coefficients of `terms` terms. Errors are relative to the value or to what is predicted for it, whichever is
/// larger (else nothing would be as cheap as predicting too little), plus `floor`, so that values far below it do not
/// matter.
pub fn fit(observations: &[Observation], terms: usize, floor: f64) -> Fit {
    let mut weights: Vec<f64> = observations.iter().map(|o| 1.0 / (o.value.abs() + floor)).collect();
    let mut coefficients = vec![0.0; terms];
    for _ in 0..REWEIGHTED {
        coefficients = non_negative(observations, &weights, terms);
        for (weight, observation) in weights.iter_mut().zip(observations) {
            let predicted = predict(&observation.counts, &coefficients);
            let scale = observation.value.abs().max(predicted) + floor;
            let error = ((predicted - observation.value) / scale).abs();
            *weight = (HUBER / error.max(HUBER)).sqrt() / scale;
        }
    }
    let error = |o: &Observation| ((predict(&o.counts, &coefficients) - o.value) / (o.value.abs() + floor)).abs();
    let mut errors: Vec<f64> = observations.iter().map(error).collect();
    errors.sort_by(f64::total_cmp);
    let median_error = errors.get(errors.len() / 2).copied().unwrap_or(0.0);
    Fit { coefficients, median_error }
}

/// The sum of the products.
pub fn predict(counts: &[f64], coefficients: &[f64]) -> f64 {
    counts.iter().zip(coefficients).map(|(count, coefficient)| count * coefficient).sum()
}

/// Weighted least squares under `x ≥ 0`, one coefficient at a time on the normal equations (Franc, Hlaváč, Navara 2005,
/// <https://doi.org/10.1007/11556121_50>).
fn non_negative(observations: &[Observation], weights: &[f64], terms: usize) -> Vec<f64> {
    let row = |(o, w): (&Observation, &f64)| -> (Vec<f64>, f64) {
        ((0..terms).map(|t| o.counts.get(t).copied().unwrap_or(0.0) * w).collect(), o.value * w)
    };
    let rows: Vec<(Vec<f64>, f64)> = observations.iter().zip(weights).map(row).collect();
    // columns of unit length converge evenly
    let length = |t: usize| rows.iter().map(|(counts, _)| counts[t] * counts[t]).sum::<f64>().sqrt();
    let lengths: Vec<f64> = (0..terms).map(|t| Some(length(t)).filter(|&l| l > 0.0).unwrap_or(1.0)).collect();
    let column = |t: usize| rows.iter().map(move |(counts, _)| counts[t]);
    let dot = |a: usize, b: usize| column(a).zip(column(b)).map(|(x, y)| x * y).sum::<f64>() / lengths[a] / lengths[b];
    let gram: Vec<Vec<f64>> = (0..terms).map(|a| (0..terms).map(|b| dot(a, b)).collect()).collect();
    let target: Vec<f64> =
        (0..terms).map(|t| rows.iter().map(|(counts, value)| counts[t] * value).sum::<f64>() / lengths[t]).collect();
    let mut x = vec![0.0_f64; terms];
    for _ in 0..PASSES {
        let mut moved = 0.0_f64;
        for t in 0..terms {
            if gram[t][t] > 0.0 {
                let gradient = target[t] - predict(&gram[t], &x);
                let next = (x[t] + gradient / gram[t][t]).max(0.0);
                moved = moved.max((next - x[t]).abs());
                x[t] = next;
            }
        }
        if moved <= 1e-10 * x.iter().fold(1.0, |most, v| v.max(most)) {
            break;
        }
    }
    x.iter().zip(&lengths).map(|(x, length)| x / length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const TRUTH: [f64; 4] = [50.0, 0.0, 2.5, 0.03];

    /// Observations of the truth, each off by up to `noise`.
    fn observed(count: usize, noise: f64) -> Vec<Observation> {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut one = || {
            let counts =
                vec![1.0, rng.random_range(1.0..900.0), rng.random_range(1.0..900.0), rng.random_range(1.0..1e5)];
            let value = predict(&counts, &TRUTH) * (1.0 + rng.random_range(-1.0..1.0) * noise);
            Observation { counts, value }
        };
        (0..count).map(|_| one()).collect()
    }

    fn close(found: &[f64], tolerance: f64) -> bool {
        found.iter().zip(TRUTH).all(|(f, t)| *f >= 0.0 && (f - t).abs() <= tolerance * t.max(0.01))
    }

    #[test]
    fn a_synthetic_truth_is_recovered() {
        let fit = fit(&observed(60, 0.0), 4, 0.0);
        assert!(close(&fit.coefficients, 1e-4) && fit.median_error < 1e-6, "{fit:?}");
    }

    #[test]
    fn noise_moves_it_little_and_is_reported() {
        let fit = fit(&observed(400, 0.1), 4, 0.0);
        let [call, _, third, fourth] = fit.coefficients[..] else { panic!("{fit:?}") };
        assert!((call - 50.0).abs() < 15.0 && (third - 2.5).abs() < 0.1 && (fourth - 0.03).abs() < 0.002, "{fit:?}");
        assert!((0.03..0.07).contains(&fit.median_error), "{fit:?}");
    }

    #[test]
    fn outliers_move_it_little() {
        let mut observations = observed(100, 0.0);
        observations.iter_mut().step_by(10).for_each(|o| o.value *= 4.0);
        let robust = fit(&observations, 4, 0.0);
        assert!(robust.coefficients.iter().zip(TRUTH).all(|(f, t)| (f - t).abs() <= 0.12 * t + 0.3), "{robust:?}");
    }

    #[test]
    fn what_would_be_negative_is_zero_and_what_never_occurs_too() {
        // the value falls with the first count
        let of = |a: f64| Observation { counts: vec![a, 1.0, 0.0], value: 100.0 - a };
        let fit = fit(&[of(1.0), of(5.0), of(9.0)], 3, 0.0);
        assert_eq!((fit.coefficients[0], fit.coefficients[2]), (0.0, 0.0));
        assert!((90.0..100.0).contains(&fit.coefficients[1]), "{fit:?}");
    }
}
