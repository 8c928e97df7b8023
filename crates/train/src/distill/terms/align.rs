//! What terms that compare activations share: extents that differ are made equal, padding is left out, vectors of any
//! length are brought to the length one.

use super::{Error, Side, Target};
use crate::distill::step::{Feature, Layout, Pair, Plan, StepValues};
use crate::distill::{AuxParams, Init, Slot};
use burn::tensor::{Tensor, activation, module};
use kdc_exec::Value;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Through what a student's channels go before they are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Projection {
    /// A linear layer.
    #[default]
    Linear,
    /// Two linear layers with a ReLU between them and twice the teacher's channels inside.
    Mlp,
    /// Nothing: the channels have to be as many.
    None,
}

impl Projection {
    /// From `student` channels to `teacher` channels; no layer where they are as many, unless `always`.
    ///
    /// # Errors
    /// When they differ and there is to be no layer.
    pub fn add(
        self,
        method: &str,
        aux: &mut AuxParams,
        name: &str,
        (student, teacher): (usize, usize),
        always: bool,
    ) -> Result<Layers, Error> {
        match self {
            _ if student == teacher && !always => Ok(Layers::default()),
            Projection::Linear => Ok(Layers::add(aux, name, &[student, teacher])),
            Projection::Mlp => Ok(Layers::add(aux, name, &[student, 2 * teacher, teacher])),
            Projection::None if student == teacher => Ok(Layers::default()),
            Projection::None => {
                let why = format!(
                    "compares {student} channels of the student with {teacher} of the teacher; that needs projection = \
                     \"linear\" or \"mlp\""
                );
                Err(Error::inapplicable(method, why))
            }
        }
    }
}

/// Linear layers with ReLU between them, trained along; the identity where there are none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layers(Vec<(Slot, Slot)>);

impl Layers {
    /// Layers of these widths, from the first to the last.
    pub fn add(aux: &mut AuxParams, name: &str, widths: &[usize]) -> Layers {
        let layer = |(i, ends): (usize, &[usize])| {
            let weight = aux.add(format!("{name}.{i}.weight"), ends, Init::Normal { fan_in: ends[0] });
            (weight, aux.add(format!("{name}.{i}.bias"), &ends[1..], Init::Constant(0.0)))
        };
        Layers(widths.windows(2).enumerate().map(layer).collect())
    }

    /// `[N, from]` to `[N, to]`.
    pub fn apply(&self, rows: Tensor<2>, aux: &AuxParams) -> Tensor<2> {
        self.0.iter().enumerate().fold(rows, |rows, (i, &(weight, bias))| {
            let rows = if i == 0 { rows } else { activation::relu(rows) };
            rows.matmul(aux.get::<2>(weight)) + aux.get::<1>(bias).unsqueeze::<2>()
        })
    }
}

/// Layers between two networks where they correspond, from each to the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bridge {
    /// By pair, from the teacher's channels to the student's.
    enter: Vec<Layers>,
    /// By pair, from the student's to the teacher's.
    leave: Vec<Layers>,
}

impl Bridge {
    /// Layers for every pair.
    pub fn add(aux: &mut AuxParams, plan: &Plan) -> Bridge {
        let mut bridge = Bridge::default();
        for (i, &((student, _), (teacher, _))) in plan.pairs.iter().enumerate() {
            bridge.enter.push(Layers::add(aux, &format!("{}.enter{i}", plan.prefix), &[teacher, student]));
            bridge.leave.push(Layers::add(aux, &format!("{}.leave{i}", plan.prefix), &[student, teacher]));
        }
        bridge
    }

    /// By pair, from the student's channels to the teacher's.
    pub fn leaving(&self) -> &[Layers] {
        &self.leave
    }

    /// An activation of the `index`-th pair as the other network has it there.
    pub fn translated(&self, index: usize, from: &Feature, side: Side, target: &Target, aux: &AuxParams) -> Value {
        let layers = if side == Side::Student { &self.enter[index] } else { &self.leave[index] };
        through(layers, from, &target.shape, target.layout, aux)
    }
}

/// Which of the stages that correspond are compared, where nobody names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stages {
    All,
    /// The one in the middle.
    Middle,
    /// The one before the classifier.
    Last,
}

impl Stages {
    /// Which of the plan's pairs that are. Pairs that somebody named are all meant.
    pub fn of(self, plan: &Plan) -> Range<usize> {
        let count = plan.pairs.len();
        match self {
            _ if plan.named || count == 0 => 0..count,
            Stages::All => 0..count,
            Stages::Middle => count / 2..count / 2 + 1,
            Stages::Last => count - 1..count,
        }
    }
}

/// Student's and teacher's activation as `[B, C, P]` with as many positions: where they differ, both are averaged
/// (adaptive average pooling) to the smaller extent of each axis; where one has other axes than the other, as tokens
/// and images, in a row. The teacher's is a constant.
pub fn maps(pair: &Pair) -> (Tensor<3>, Tensor<3>) {
    let (student, teacher) = (spatial(&pair.student), spatial(&pair.teacher));
    let (student, teacher) = match student.len() == teacher.len() {
        true => (student, teacher),
        false => (vec![student.iter().product()], vec![teacher.iter().product()]),
    };
    let smaller: Vec<usize> = student.iter().zip(&teacher).map(|(a, b)| *a.min(b)).collect();
    let constant = pair.teacher.detached().maps();
    (resized(pair.student.maps(), &student, &smaller), resized(constant, &teacher, &smaller))
}

/// Two activations of one network, `[B, C, P]`, with as many positions in the same way.
pub fn together(first: &Feature, second: &Feature) -> (Tensor<3>, Tensor<3>) {
    let (a, b) = (spatial(first), spatial(second));
    let (a, b) = match a.len() == b.len() {
        true => (a, b),
        false => (vec![a.iter().product()], vec![b.iter().product()]),
    };
    let smaller: Vec<usize> = a.iter().zip(&b).map(|(a, b)| *a.min(b)).collect();
    (resized(first.maps(), &a, &smaller), resized(second.maps(), &b, &smaller))
}

/// `[B, C, P]` as a row for each position of each sample, `[B · P, C]`.
pub fn rows(maps: Tensor<3>) -> Tensor<2> {
    let [batch, channels, positions] = maps.dims();
    maps.swap_dims(1, 2).reshape([batch * positions, channels])
}

/// The extents between batch and channels.
pub fn spatial(feature: &Feature) -> Vec<usize> {
    let shape = feature.value.shape();
    let extents = match feature.layout {
        Layout::ChannelsFirst => shape.get(2..),
        Layout::ChannelsLast => shape.len().checked_sub(1).and_then(|last| shape.get(1..last)),
    };
    extents.unwrap_or_default().into()
}

/// An activation, `[B, C, P]` with positions of the extents `from`, in the place of another one: with that one's extents
/// and channels where it has them; positions are averaged, or repeated where they become more.
pub fn in_place_of(maps: Tensor<3>, from: &[usize], shape: &[usize], layout: Layout) -> Value {
    let like = match layout {
        Layout::ChannelsFirst => shape.get(2..).unwrap_or_default(),
        Layout::ChannelsLast => &shape[1..shape.len() - 1],
    };
    let maps = match from.len() == like.len() {
        true => resized(maps, from, like),
        false => resized(maps, &[from.iter().product()], &[like.iter().product()]),
    };
    match layout {
        Layout::ChannelsFirst => Value::from_tensor(maps).reshape(shape),
        Layout::ChannelsLast => Value::from_tensor(maps.swap_dims(1, 2)).reshape(shape),
    }
}

/// The same with other channels, through layers.
fn through(layers: &Layers, feature: &Feature, shape: &[usize], layout: Layout, aux: &AuxParams) -> Value {
    let maps = feature.maps();
    let [batch, _, positions] = maps.dims();
    let rows = layers.apply(rows(maps), aux);
    let [_, channels] = rows.dims();
    let maps = rows.reshape([batch, positions, channels]).swap_dims(1, 2);
    in_place_of(maps, &spatial(feature), shape, layout)
}

/// Positions of the extents `from` as those of the extents `to`: averages axis by axis. The windows are rectangles, so that this is the average over all axes at once.
pub fn resized(maps: Tensor<3>, from: &[usize], to: &[usize]) -> Tensor<3> {
    let [batch, channels, _] = maps.dims();
    let mut extents = from.to_vec();
    let mut maps = maps;
    for axis in (0..from.len()).filter(|&axis| from[axis] != to[axis]) {
        let before: usize = extents[..axis].iter().product();
        let after: usize = extents[axis + 1..].iter().product();
        let lines = maps.reshape([batch * channels * before, extents[axis], after]).swap_dims(1, 2);
        extents[axis] = to[axis];
        let lines = module::adaptive_avg_pool1d(lines, to[axis]).swap_dims(1, 2);
        maps = lines.reshape([batch, channels, extents.iter().product()]);
    }
    maps
}

/// Which positions of an activation count, 1 or 0, `[B, P]`: as the mask says where it has a row for each of them; else
/// all those of a sample of which any row counts. `None`: all.
pub fn counted(values: &StepValues, batch: usize, positions: usize) -> Option<Tensor<2>> {
    let mask = values.mask.clone()?;
    let rows = mask.dims()[0] / batch.max(1);
    let by_sample = mask.reshape([batch, rows]);
    if rows == positions { Some(by_sample) } else { Some(by_sample.max_dim(1).repeat_dim(1, positions)) }
}

/// Which samples count, 1 or 0, `[B, 1]`: those of which any row does. Of ones where there is no mask.
pub fn present(values: &StepValues, batch: usize) -> Tensor<2> {
    counted(values, batch, 1)
        .map_or_else(|| Tensor::ones([batch, 1], &values.student_logits.device()), |counted| counted.max_dim(1))
}

/// The mean of numbers by sample and position, `[B, P]`, over those that count; 0 where none does.
pub fn mean(values: &StepValues, each: Tensor<2>) -> Tensor<1> {
    let [batch, positions] = each.dims();
    match counted(values, batch, positions) {
        None => each.mean(),
        Some(counted) => (each * counted.clone()).sum() / counted.sum().clamp_min(1.0),
    }
}

/// The mean of an activation over the positions that count, `[B, C]`.
pub fn embedding(values: &StepValues, feature: &Feature) -> Tensor<2> {
    let maps = feature.maps();
    let [batch, channels, positions] = maps.dims();
    match counted(values, batch, positions) {
        Some(counted) if positions > 1 => {
            let count = counted.clone().sum_dim(1).clamp_min(1.0);
            let counted = counted.reshape([batch, 1, positions]);
            (maps * counted).sum_dim(2).reshape([batch, channels]) / count
        }
        _ => feature.pooled(),
    }
}

/// Rows of the length one. A row of zeros stays what it is; its gradient is bounded.
pub fn unit_rows(rows: Tensor<2>) -> Tensor<2> {
    // Scaled by a constant first, so that no square is too large or too small.
    let largest = rows.clone().detach().abs().max_dim(1);
    let dead = largest.clone().lower_equal_elem(1e-30).float();
    let scaled = rows / (largest + dead.clone());
    let length = (scaled.clone().square().sum_dim(1) + dead).sqrt();
    scaled / length
}
