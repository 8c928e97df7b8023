//! Whether two networks differ by more than chance.

use serde::{Deserialize, Serialize};

/// What became of single samples when one network took the place of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Samples with a label.
    pub samples: usize,
    /// Those that only the network before puts into their class.
    pub lost: usize,
    /// Those that only the network after does.
    pub gained: usize,
}

/// The probability at which chance is ruled out.
const SIGNIFICANT: f64 = 0.05;

impl Changes {
    /// Compares what two networks say about samples.
    pub fn of(before: &[u16], after: &[u16], truth: &[Option<u16>]) -> Changes {
        let mut changes = Changes::default();
        for ((before, after), truth) in before.iter().zip(after).zip(truth) {
            let Some(truth) = truth else { continue };
            changes.samples += 1;
            changes.lost += usize::from(before == truth && after != truth);
            changes.gained += usize::from(before != truth && after == truth);
        }
        changes
    }

    /// The most points of accuracy that would be lost by chance, if a change were as likely to mend a sample as to spoil it:
    /// McNemar's test (1947, <https://doi.org/10.1007/BF02295996>) in its exact form, one-sided, at 5%.
    pub fn by_chance(&self) -> f64 {
        let changed = self.lost + self.gained;
        // Probabilities of `k` losses, from all of them down: `C(n, k) / 2ⁿ`.
        let mut logarithm = changed as f64 * 0.5f64.ln();
        let mut tail = 0.0;
        for lost in (0..=changed).rev() {
            tail += logarithm.exp();
            if tail > SIGNIFICANT {
                let net = (2 * lost).saturating_sub(changed);
                return 100.0 * net as f64 / self.samples.max(1) as f64;
            }
            logarithm += (lost as f64 / (changed - lost + 1) as f64).ln();
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_counted_where_there_is_a_label() {
        let truth = [Some(1), Some(1), Some(2), None, Some(3)];
        let changes = Changes::of(&[1, 1, 0, 5, 0], &[1, 0, 2, 6, 1], &truth);
        assert_eq!(changes, Changes { samples: 4, lost: 1, gained: 1 });
    }

    #[test]
    fn chance_explains_what_the_binomial_distribution_says() {
        let net = |lost, gained| Changes { samples: 100, lost, gained }.by_chance();
        // Of 15 flips of a coin 11 or more are heads with 5.9%, 12 or more with 1.8%.
        assert!((net(15, 0) - 7.0).abs() < 1e-9 && (net(8, 7) - 7.0).abs() < 1e-9);
        // All of four are with 6.3%, all of five with 3.1%.
        assert!((net(4, 0) - 4.0).abs() < 1e-9 && (net(5, 0) - 3.0).abs() < 1e-9);
        assert_eq!(net(0, 0), 0.0);
        // As a normal distribution: 1.645 · √10,000 = 164.5, less one half and rounded to an even number.
        let many = Changes { samples: 100_000, lost: 5000, gained: 5000 }.by_chance() * 1000.0;
        assert!((160.0..=168.0).contains(&many), "{many}");
    }
}
