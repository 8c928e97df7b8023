//! One answer out of several teachers'.

use super::step::{cross_entropy, log_softmax};
use super::{AuxParams, Error, Slot, Weighing};
use burn::tensor::{Int, Tensor, activation};

/// How the answers of several teachers become one, ready to compute.
pub enum Weigher {
    /// Weights that sum to 1.
    Fixed(Vec<f64>),
    Confidence,
    /// Logarithms of weights, that train along.
    Learned(Slot),
}

impl Weigher {
    /// For so many teachers. `name` is that of the weights that are learned.
    ///
    /// # Errors
    /// When there are as many weights as teachers, or they sum to nothing.
    pub fn new(weighing: &Weighing, teachers: usize, name: String, aux: &mut AuxParams) -> Result<Weigher, Error> {
        Ok(match weighing {
            Weighing::Even => Weigher::Fixed(vec![1.0 / teachers as f64; teachers]),
            Weighing::Fixed(weights) => {
                let sum: f64 = weights.iter().sum();
                if weights.len() != teachers || !(sum > 0.0 && weights.iter().all(|w| *w >= 0.0)) {
                    return Err(Error::Config(format!(
                        "weighing {weights:?} does not weigh {teachers} teachers; give each a number of 0 or more"
                    )));
                }
                Weigher::Fixed(weights.iter().map(|w| w / sum).collect())
            }
            Weighing::Confidence => Weigher::Confidence,
            Weighing::Learned => Weigher::Learned(aux.add(name, &[teachers], super::Init::Constant(0.0))),
        })
    }

    /// The mean of logits, `[N, K]` each; with what teaches the weights, where they are learned: the cross-entropy of the
    /// mean with the labels.
    pub fn mean(
        &self,
        logits: &[Tensor<2>],
        labels: &Tensor<1, Int>,
        counts: Option<&Tensor<1>>,
        aux: &AuxParams,
    ) -> (Tensor<2>, Option<Tensor<1>>) {
        let [rows, _] = logits[0].dims();
        let sum = |weights: Vec<Tensor<2>>| {
            let weighted = logits.iter().zip(weights).map(|(z, w)| z.clone() * w);
            weighted.reduce(|a, b| a + b).expect("there is a teacher")
        };
        match self {
            Weigher::Fixed(weights) => {
                let weighted = logits.iter().zip(weights).map(|(z, &w)| z.clone().mul_scalar(w));
                (weighted.reduce(|a, b| a + b).expect("there is a teacher"), None)
            }
            Weigher::Confidence => {
                let entropy = |z: &Tensor<2>| {
                    let log_p = log_softmax(z.clone());
                    (log_p.clone().exp() * log_p).sum_dim(1)
                };
                let sure = Tensor::cat(logits.iter().map(entropy).collect(), 1);
                let weights = activation::softmax(sure, 1);
                (sum((0..logits.len()).map(|i| weights.clone().slice([0..rows, i..i + 1])).collect()), None)
            }
            Weigher::Learned(slot) => {
                let weights = activation::softmax(aux.get::<1>(*slot), 0);
                let each = |i: usize| weights.clone().narrow(0, i, 1).reshape([1, 1]);
                let mean = sum((0..logits.len()).map(each).collect());
                let mut error = cross_entropy(mean.clone(), labels.clone());
                if let Some(counts) = counts {
                    error = error * counts.clone();
                }
                (mean.detach(), Some(error.mean()))
            }
        }
    }
}
