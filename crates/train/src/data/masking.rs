//! Tokens that a language model is to find: masked language modelling, Devlin et al. 2018,
//! <https://arxiv.org/abs/1810.04805>.

use super::SampleView;
use super::augment::{mix, share, state};

/// Share of the tokens that are hidden.
const HIDDEN: f64 = 0.15;
/// Of those, the share that a mask stands for, and the share up to which it is a random token; the rest stands for itself.
const MASKED: f64 = 0.8;
const RANDOM: f64 = 0.9;

/// How tokens are hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Masking {
    /// The token that stands for a hidden one.
    pub mask: u32,
    /// Tokens there are.
    pub vocabulary: u32,
}

/// What some looks hide, row by row: a row for each position of each look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MaskedTokens {
    /// The token that is hidden there; `None` where the network sees what is there.
    pub tokens: Vec<Option<u32>>,
    /// Whether there is a token at all, and no padding.
    pub real: Vec<bool>,
}

impl Masking {
    /// What the network sees in the place of a token; `None` where that is not hidden. A pure function of the look and the
    /// place: the same on every machine. Plain looks hide as well, always the same.
    pub fn seen(&self, look: &SampleView, position: usize, token: u32) -> Option<u32> {
        let (seed, number) = look.view.map_or((0, u64::MAX), |view| (view.seed, view.number as u64));
        let state = mix(state(seed, look.sample, number) ^ position as u64);
        let draw = |i: u64| mix(state ^ i.rotate_left(32));
        if share(draw(1)) >= HIDDEN {
            return None;
        }
        Some(match share(draw(2)) {
            kind if kind < MASKED => self.mask,
            kind if kind < RANDOM => ((u128::from(draw(3)) * u128::from(self.vocabulary)) >> 64) as u32,
            _ => token,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::View;
    use super::*;

    #[test]
    fn a_seventh_is_hidden_and_most_of_it_masked() {
        let masking = Masking { mask: 3, vocabulary: 1000 };
        let (mut hidden, mut masked, mut kept) = (0, 0, 0);
        for sample in 0..1000 {
            let look = SampleView { sample, view: Some(View { seed: 1, number: 2 }) };
            for position in 0..64 {
                let Some(seen) = masking.seen(&look, position, 500) else { continue };
                assert!(seen < 1000);
                hidden += 1;
                masked += usize::from(seen == 3);
                kept += usize::from(seen == 500);
            }
        }
        // 9,600 of 64,000 expected, 7,680 of those masked, 960 kept; six standard deviations.
        assert!((9050..10150).contains(&hidden) && (7200..8160).contains(&masked), "{hidden} {masked}");
        assert!((780..1150).contains(&kept), "{kept}");
    }

    #[test]
    fn views_hide_different_tokens_and_equal_looks_the_same() {
        let masking = Masking { mask: 3, vocabulary: 1000 };
        let row = |look: SampleView| (0..64).map(|p| masking.seen(&look, p, 7)).collect::<Vec<_>>();
        let at = |number| SampleView { sample: 5, view: Some(View { seed: 1, number }) };
        let plain = SampleView { sample: 5, view: None };
        assert_eq!(row(at(1)), row(at(1)));
        assert_ne!(row(at(1)), row(at(2)));
        assert_eq!(row(plain), row(plain));
        assert_ne!(row(plain), row(at(1)));
    }
}
