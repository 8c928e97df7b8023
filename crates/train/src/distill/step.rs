//! What terms see of a step.

use burn::tensor::{Int, Tensor, TensorData};
use kdc_exec::Value;

/// The values of one step. `B` samples; `N` rows of `K` logits: a row for each sample, or for each position of each
/// sample where the network answers sequences.
#[derive(Clone)]
pub struct StepValues {
    /// The student's logits, `[N, K]`, tracked for gradients.
    pub student_logits: Tensor<2>,
    /// The teacher's logits, `[N, K]`; there when the term asks for them.
    pub teacher_logits: Option<Tensor<2>>,
    /// What the term compares inside the two networks.
    pub pairs: Vec<Pair>,
    /// The true words, sample by sample, where answers spell; `None` where nobody said it. Symbols are 1 or more.
    pub words: Vec<Option<Vec<u16>>>,
    /// The true classes, `[N]`; anything where nobody said them.
    pub labels: Tensor<1, Int>,
    /// How much each row's label counts, `[N]`: 0 where nobody said it; `None`: all the same.
    pub weights: Option<Tensor<1>>,
    /// The numbers that the student should answer with, `[N, K]`, where answers are no classes.
    pub targets: Option<Tensor<2>>,
    /// What was mixed into the inputs.
    pub mixed: Option<MixedIn>,
    /// Whether a row is a position and not padding, 1 or 0, `[N]`; `None`: all are.
    pub mask: Option<Tensor<1>>,
    /// Per row a number in 0..1 that stays the same for all of training; a term may hide the labels of those below its
    /// share.
    pub lottery: Vec<f32>,
    /// The samples, as indices into the training set, `[B]`.
    pub samples: Vec<usize>,
    /// How far training is, 0..=1.
    pub progress: f64,
}

/// The labels of what was mixed into the inputs.
#[derive(Clone)]
pub struct MixedIn {
    /// `[N]`
    pub labels: Tensor<1, Int>,
    /// As [`StepValues::weights`].
    pub weights: Option<Tensor<1>>,
    /// Its share, 0..=1.
    pub share: f64,
}

/// The activations of a student and a teacher where they correspond.
#[derive(Clone, Debug)]
pub struct Pair {
    pub student: Feature,
    pub teacher: Feature,
}

/// An activation inside a network.
#[derive(Clone, Debug)]
pub struct Feature {
    /// `[B, C, spatial…]`, `[B, tokens, C]` or `[B, C]`.
    pub value: Value,
    pub layout: Layout,
}

/// Where the channels of an activation are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// After the batch: images and signals.
    ChannelsFirst,
    /// At the end: tokens.
    ChannelsLast,
}

impl StepValues {
    /// The mean over the rows that are no padding, of one number each, `[N]`; 0 where all are padding.
    pub fn mean(&self, rows: Tensor<1>) -> Tensor<1> {
        match &self.mask {
            None => rows.mean(),
            Some(mask) => (rows * mask.clone()).sum() / mask.clone().sum().clamp_min(1.0),
        }
    }

    /// Cross-entropy of the student with the labels, per row, `[N]`, times what its label counts; of mixed inputs, with
    /// each label by its share.
    pub fn labelled(&self) -> Tensor<1> {
        let with = |labels: &Tensor<1, Int>, weights: &Option<Tensor<1>>| {
            let each = cross_entropy(self.student_logits.clone(), labels.clone());
            match weights {
                Some(weights) => each * weights.clone(),
                None => each,
            }
        };
        let own = with(&self.labels, &self.weights);
        match &self.mixed {
            None => own,
            Some(other) => {
                own.mul_scalar(1.0 - other.share) + with(&other.labels, &other.weights).mul_scalar(other.share)
            }
        }
    }

    /// A number for each row, on the student's device.
    pub fn row(&self, values: Vec<f32>) -> Tensor<1> {
        let count = values.len();
        Tensor::from_data(TensorData::new(values, [count]), &self.student_logits.device())
    }

    /// The teacher's logits, as a constant.
    ///
    /// # Panics
    /// When the term did not ask for them.
    pub fn teacher(&self) -> Tensor<2> {
        self.teacher_logits.clone().expect("the term reads the teacher's logits").detach()
    }
}

/// Cross-entropy per row, `[N]`: `−log softmax(z)[y]`.
pub fn cross_entropy(logits: Tensor<2>, labels: Tensor<1, Int>) -> Tensor<1> {
    let [rows, _] = logits.dims();
    log_softmax(logits).gather(1, labels.reshape([rows, 1])).neg().reshape([rows])
}

/// `z − max z − log Σ exp(z − max z)` along the rows, at any size of `z`.
pub fn log_softmax(logits: Tensor<2>) -> Tensor<2> {
    burn::tensor::activation::log_softmax(logits, 1)
}

/// `Σₖ p_t (log p_t − log p_s)` per row, `[N]`, of logarithms of probabilities.
pub fn kl(log_p_t: Tensor<2>, log_p_s: Tensor<2>) -> Tensor<1> {
    let [rows, _] = log_p_t.dims();
    (log_p_t.clone().exp() * (log_p_t - log_p_s)).sum_dim(1).reshape([rows])
}

impl Feature {
    /// As `[B, C, positions]`.
    pub fn maps(&self) -> Tensor<3> {
        let shape = self.value.shape();
        let batch = shape.first().copied().unwrap_or(1);
        let expect = "its elements are those of its extents";
        match self.layout {
            Layout::ChannelsFirst => {
                let channels = shape.get(1).copied().unwrap_or(1);
                let positions = shape.get(2..).unwrap_or_default().iter().product();
                self.value.clone().reshape(&[batch, channels, positions]).into_tensor().expect(expect)
            }
            Layout::ChannelsLast => {
                let channels = shape[1..].last().copied().unwrap_or(1);
                let positions = shape[1..].iter().product::<usize>() / channels.max(1);
                let tokens: Tensor<3> =
                    self.value.clone().reshape(&[batch, positions, channels]).into_tensor().expect(expect);
                tokens.swap_dims(1, 2)
            }
        }
    }

    /// The mean over positions, `[B, C]`.
    pub fn pooled(&self) -> Tensor<2> {
        let maps = self.maps();
        let [batch, channels, _] = maps.dims();
        maps.mean_dim(2).reshape([batch, channels])
    }

    /// All elements of a sample in a row, `[B, C · positions]`.
    pub fn flat(&self) -> Tensor<2> {
        let maps = self.maps();
        let [batch, channels, positions] = maps.dims();
        maps.reshape([batch, channels * positions])
    }

    /// The same, as a constant.
    pub fn detached(&self) -> Feature {
        let count = self.value.shape().iter().product::<usize>();
        let flat: Tensor<1> = self.value.clone().reshape(&[count]).into_tensor().expect("it is flat");
        Feature { value: Value::from_tensor(flat.detach()).reshape(&self.value.shape()), layout: self.layout }
    }

    /// Channels and positions.
    pub fn extents(&self) -> (usize, usize) {
        extents(&self.value.shape(), self.layout)
    }
}

/// Channels and positions of an activation with these extents.
pub fn extents(shape: &[usize], layout: Layout) -> (usize, usize) {
    let rest = shape.get(1..).unwrap_or_default();
    let channels = match layout {
        Layout::ChannelsFirst => rest.first(),
        Layout::ChannelsLast => rest.last(),
    };
    let channels = channels.copied().unwrap_or(1);
    (channels, rest.iter().product::<usize>() / channels.max(1))
}

/// Channels and positions of an activation.
pub type Extents = (usize, usize);

/// What a term learns of the values it will see, before the first step.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Where the names of what a term adds to the [`AuxParams`](super::AuxParams) begin.
    pub prefix: String,
    /// The student's logits per row.
    pub classes: usize,
    /// The teacher's.
    pub teacher_classes: usize,
    /// Whether answers spell words, with blanks between.
    pub spells: bool,
    /// Whether answers are numbers with targets and no classes.
    pub numbers: bool,
    /// Whether tokens are hidden, which labels are for.
    pub hides: bool,
    /// Samples that training may show.
    pub samples: usize,
    /// Whether somebody named the pairs, so that all of them are meant.
    pub named: bool,
    /// Of every pair the channels and positions, student and teacher.
    pub pairs: Vec<(Extents, Extents)>,
}
