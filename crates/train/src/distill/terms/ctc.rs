//! `ctc`: words whose symbols have no given place among the positions.

use super::{Entry, Family, Pairs, Reads, Term, defaults, made};
use crate::distill::step::Plan;
use crate::distill::{AuxParams, Error, StepValues};
use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

pub const ENTRY: Entry = Entry {
    name: "ctc",
    family: Family::Instance,
    summary: "words whose symbols have no given place: speech",
    formula: "−log Σ over all alignments of the word with the positions of Π p_s(symbol), blanks between",
    source: "Graves et al. 2006, Connectionist Temporal Classification, https://doi.org/10.1145/1143844.1143891",
    when: "the network answers with a symbol or a blank for each frame (reading = \"ctc\" in the sidecar's [sequence]); \
           beside soft labels, frame by frame",
    weight: 1.0,
    make: made::<Ctc>,
    defaults: defaults::<Ctc>,
};

/// `−log P(word)`, a mean over the samples with a word that fits the positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Ctc {}

impl Term for Ctc {
    fn name(&self) -> &'static str {
        ENTRY.name
    }

    fn reads(&self) -> Reads {
        Reads { labels: true, teacher_logits: false, pairs: Pairs::None }
    }

    fn prepare(&mut self, plan: &Plan, _: &mut AuxParams) -> Result<(), Error> {
        match plan.spells {
            true => Ok(()),
            false => {
                let why = "is for answers that spell, and these do not; [sequence] with reading = \"ctc\" in the sidecar \
                           says how they do";
                Err(Error::inapplicable("ctc", why))
            }
        }
    }

    fn parts(&self, values: &StepValues, _: &mut AuxParams) -> Vec<(&'static str, Tensor<1>)> {
        let [rows, symbols] = values.student_logits.dims();
        let samples = values.samples.len().max(1);
        let positions = rows / samples;
        let logits: Vec<f32> = values.student_logits.clone().inner().into_data().iter::<f32>().collect();
        let mut gradient = vec![0.0f32; logits.len()];
        let (mut loss, mut count) = (0.0, 0usize);
        let each = positions * symbols;
        for (sample, word) in values.words.iter().enumerate() {
            let Some(word) = word else { continue };
            let range = sample * each..(sample + 1) * each;
            if let Some(one) = aligned(&logits[range.clone()], symbols, word, &mut gradient[range]) {
                loss += one;
                count += 1;
            }
        }
        let share = 1.0 / count.max(1) as f64;
        let device = values.student_logits.device();
        let gradient = Tensor::<2>::from_data(TensorData::new(gradient, [rows, symbols]), &device);
        // The value, with the exact gradient: what is added is zero.
        let student = values.student_logits.clone();
        let carrier = ((student.clone() - student.detach()) * gradient).sum();
        vec![("words", carrier.add_scalar(loss).mul_scalar(share))]
    }
}

/// The loss of one sample and its gradient with respect to the logits, `[positions, symbols]`, by the forward-backward
/// algorithm in logarithms of `f64`. `None` where the word needs more positions than there are.
fn aligned(logits: &[f32], symbols: usize, word: &[u16], gradient: &mut [f32]) -> Option<f64> {
    let positions = logits.len() / symbols.max(1);
    let log_p: Vec<f64> = logits.chunks(symbols).flat_map(log_softmax).collect();
    // Blanks around every symbol.
    let path: Vec<usize> =
        (0..2 * word.len() + 1).map(|i| if i % 2 == 1 { usize::from(word[i / 2]) } else { 0 }).collect();
    let states = path.len();
    // A symbol may follow another at once, except itself.
    let skips = |s: usize| s >= 2 && path[s] != 0 && path[s] != path[s - 2];
    let at = |t: usize, s: usize| log_p[t * symbols + path[s]];
    let mut alpha = vec![f64::NEG_INFINITY; positions * states];
    let mut beta = alpha.clone();
    for s in 0..states.min(2) {
        alpha[s] = at(0, s);
        beta[(positions - 1) * states + states - 1 - s] = 0.0;
    }
    for t in 1..positions {
        for s in 0..states {
            let before = |back: usize| s.checked_sub(back).map_or(f64::NEG_INFINITY, |s| alpha[(t - 1) * states + s]);
            let sum = log_add(before(0), before(1));
            let sum = if skips(s) { log_add(sum, before(2)) } else { sum };
            alpha[t * states + s] = sum + at(t, s);
        }
    }
    for t in (0..positions.saturating_sub(1)).rev() {
        for s in 0..states {
            let after = |on: usize| {
                let s = s + on;
                if s < states { beta[(t + 1) * states + s] + at(t + 1, s) } else { f64::NEG_INFINITY }
            };
            let sum = log_add(after(0), after(1));
            beta[t * states + s] = if s + 2 < states && skips(s + 2) { log_add(sum, after(2)) } else { sum };
        }
    }
    let last = (positions - 1) * states;
    let ends = if states > 1 { alpha[last + states - 2] } else { f64::NEG_INFINITY };
    let total = log_add(alpha[last + states - 1], ends);
    if !total.is_finite() {
        return None;
    }
    for t in 0..positions {
        let row = &mut gradient[t * symbols..][..symbols];
        for (symbol, slot) in row.iter_mut().enumerate() {
            *slot = log_p[t * symbols + symbol].exp() as f32;
        }
        for s in 0..states {
            row[path[s]] -= (alpha[t * states + s] + beta[t * states + s] - total).exp() as f32;
        }
    }
    Some(-total)
}

fn log_softmax(row: &[f32]) -> Vec<f64> {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = row.iter().map(|&z| f64::from(z - max).exp()).sum();
    row.iter().map(|&z| f64::from(z - max) - sum.ln()).collect()
}

/// `log(exp a + exp b)`
fn log_add(a: f64, b: f64) -> f64 {
    let (high, low) = if a > b { (a, b) } else { (b, a) };
    if high == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definition: the sum over every path that reads as the word.
    fn by_paths(logits: &[f32], symbols: usize, word: &[u16]) -> f64 {
        let log_p: Vec<Vec<f64>> = logits.chunks(symbols).map(log_softmax).collect();
        let positions = log_p.len();
        let mut total = 0.0;
        for code in 0..symbols.pow(positions as u32) {
            let path: Vec<usize> = (0..positions).map(|t| code / symbols.pow(t as u32) % symbols).collect();
            let mut read: Vec<u16> = path.iter().map(|&s| s as u16).collect();
            read.dedup();
            read.retain(|&s| s != 0);
            if read == word {
                total += path.iter().enumerate().map(|(t, &s)| log_p[t][s]).sum::<f64>().exp();
            }
        }
        -total.ln()
    }

    #[test]
    fn it_is_the_sum_over_all_paths_and_its_gradient_is_the_slope() {
        let (symbols, positions) = (3, 5);
        let logits: Vec<f32> = (0..positions * symbols).map(|i| ((i * 7 % 11) as f32 - 5.0) * 0.4).collect();
        for word in [&[1u16][..], &[1, 2], &[1, 1], &[2, 1, 2], &[2, 2, 1]] {
            let mut gradient = vec![0.0; logits.len()];
            let loss = aligned(&logits, symbols, word, &mut gradient).unwrap();
            assert!((loss - by_paths(&logits, symbols, word)).abs() < 1e-9, "{word:?}");
            for i in 0..logits.len() {
                let moved = |by: f32| {
                    let mut z = logits.clone();
                    z[i] += by;
                    by_paths(&z, symbols, word)
                };
                let slope = (moved(1e-2) - moved(-1e-2)) / 2e-2;
                assert!((slope - f64::from(gradient[i])).abs() < 1e-4, "{word:?} {i}: {slope} {}", gradient[i]);
            }
        }
        assert_eq!(aligned(&logits, symbols, &[1, 1, 1, 1], &mut vec![0.0; logits.len()]), None);
    }
}
