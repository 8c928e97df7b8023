//! What the teacher shows on a few samples: what its channels carry, and what its weights mean to the loss.

use super::super::stages::observe;
use super::super::{Error, Job};
use crate::data::{self, SampleView, Task};
use crate::distill;
use crate::exec::{Mode, Network};
use crate::graph::{Graph, ValueId};
use crate::pass::{self, Moments};
use crate::student::{self, Affine, Criterion, Evidence, Groups};
use burn::tensor::{Device, Int, Tensor, TensorData};
use std::collections::HashMap;

/// Samples that gradients and magnitudes are taken from.
const EVIDENCE_SAMPLES: usize = 256;
/// Samples of a pass.
const BATCH: usize = 64;

/// What a criterion reads besides weights.
///
/// # Errors
/// When the teacher cannot be run, or differentiated.
pub fn gather(job: &Job, graph: &Graph, groups: &Groups, criterion: Criterion) -> Result<Evidence, Error> {
    match criterion {
        Criterion::Taylor => Ok(Evidence { gradients: gradients(job, graph)?, ..Evidence::default() }),
        Criterion::Activation => Ok(Evidence { activations: magnitudes(job, graph, groups)?, ..Evidence::default() }),
        Criterion::L1 | Criterion::L2 | Criterion::Distinct | Criterion::Scale | Criterion::Random => {
            Ok(Evidence::default())
        }
    }
}

/// Gradients of the loss on labels, summed over a few batches. What has no label has the network's own answer: a sample, or
/// a position where an answer is a row for each. Of numbers the loss is the distance from what they should be.
fn gradients(job: &Job, graph: &Graph) -> Result<HashMap<ValueId, Vec<f32>>, Error> {
    let device = Device::flex().autodiff();
    let network = Network::new(graph, &device)?;
    let samples = job.data.train.as_ref();
    let mut sums: HashMap<ValueId, Vec<f32>> = HashMap::new();
    for batch in data::sample(samples, EVIDENCE_SAMPLES, job.options.seed).chunks(BATCH) {
        let inputs = samples.batch(&SampleView::plain(batch.iter().copied()));
        let asked =
            inputs.first().filter(|_| job.data.answers == Task::Reconstruction).map(|x| x.to_f32().into_owned());
        let outputs = network.forward(inputs, &[], Mode::Train { momentum: 1.0 })?;
        let Some(logits) = outputs.outputs.into_iter().next() else { return Ok(sums) };
        let answers = logits.to_host()?;
        let logits = logits.into_float()?;
        let loss = match asked {
            Some(asked) => {
                let said: Tensor<1> = logits.reshape(&[asked.len()]).into_tensor()?;
                let count = asked.len();
                (said - Tensor::<1>::from_data(TensorData::new(asked, [count]), &device)).square().mean()
            }
            None => {
                let rows = match job.data.answers {
                    Task::Classification => batch.len(),
                    _ => answers.len() / answers.shape.last().copied().unwrap_or(1).max(1),
                };
                let classes = answers.len() / rows.max(1);
                let label = |(row, said): (usize, &[f32])| {
                    let given = if rows == batch.len() { samples.label(batch[row]) } else { None };
                    given.map_or_else(|| data::argmax(said) as i64, i64::from)
                };
                let labels: Vec<i64> = answers.to_f32().chunks(classes.max(1)).enumerate().map(label).collect();
                let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [rows]), &device.clone().inner());
                distill::cross_entropy(logits.reshape(&[rows, classes]).into_tensor::<2>()?, labels).mean()
            }
        };
        let mut gradients = loss.backward();
        for (parameter, gradient) in network.params().iter().zip(network.take_gradients(&mut gradients)) {
            let Some(gradient) = gradient else { continue };
            let numbers: Vec<f32> = gradient.into_data().iter::<f32>().collect();
            let sum = sums.entry(parameter.value).or_insert_with(|| vec![0.0; numbers.len()]);
            sum.iter_mut().zip(&numbers).for_each(|(s, n)| *s += n);
        }
    }
    Ok(sums)
}

/// Mean magnitudes along every axis with groups, of all results.
fn magnitudes(job: &Job, graph: &Graph, groups: &Groups) -> Result<HashMap<(ValueId, usize), Vec<f32>>, Error> {
    let float = |id: &ValueId| graph.value(*id).dtype.is_float();
    let results: Vec<ValueId> = graph.nodes.iter().flat_map(|n| n.outputs.clone()).filter(float).collect();
    let site = |&id: &ValueId| {
        let shape = &graph.value(id).shape;
        let axes = (0..shape.len()).filter(move |&a| !shape[a].is_batched() && !groups.on(id, a).is_empty());
        axes.map(|axis| (id, axis)).collect::<Vec<_>>()
    };
    let sites: Vec<(ValueId, usize)> = results.iter().flat_map(site).collect();
    let taps: Vec<ValueId> = sites.iter().map(|(id, _)| *id).collect();
    let extent = |&(id, axis): &(ValueId, usize)| graph.value(id).shape[axis].at(1);
    let mut sums: Vec<Vec<f64>> = sites.iter().map(|site| vec![0.0; extent(site)]).collect();
    let mut counts = vec![0usize; sites.len()];
    observe(job, graph, &taps, EVIDENCE_SAMPLES, &mut |index, values| {
        let (id, axis) = sites[index];
        let inner: usize = graph.value(id).shape[axis + 1..].iter().map(|d| d.at(1)).product();
        let places = sums[index].len();
        for (at, run) in values.chunks(inner.max(1)).enumerate() {
            sums[index][at % places] += run.iter().map(|v| f64::from(v.abs())).sum::<f64>();
        }
        counts[index] += values.len() / places.max(1);
    })?;
    let mean = |(sum, count): (Vec<f64>, usize)| sum.iter().map(|s| (s / count.max(1) as f64) as f32).collect();
    Ok(sites.into_iter().zip(sums.into_iter().zip(counts).map(mean)).collect())
}

/// What fits the network's layer normalisations best: of each feature a straight line through what goes in and what comes
/// out (least squares over samples and places).
///
/// # Errors
/// When the network cannot be run.
pub fn straight_lines(job: &Job, graph: &Graph) -> Result<HashMap<ValueId, Affine>, Error> {
    let norms = student::normalisations(graph);
    let taps: Vec<ValueId> = norms.iter().flat_map(|n| [n.x, n.y]).collect();
    let features = |id: ValueId| graph.value(id).shape.last().map_or(1, |d| d.at(1));
    // Of each feature: sums of x, y, x² and xy; and how many.
    let mut sums: Vec<(Vec<[f64; 4]>, usize)> = norms.iter().map(|n| (vec![[0.0; 4]; features(n.x)], 0)).collect();
    let mut given: Vec<f32> = vec![];
    observe(job, graph, &taps, EVIDENCE_SAMPLES, &mut |index, values| {
        if index % 2 == 0 {
            given = values.to_vec();
            return;
        }
        let (sums, count) = &mut sums[index / 2];
        let features = sums.len().max(1);
        for (i, (&x, &y)) in given.iter().zip(values).enumerate() {
            let (x, y) = (f64::from(x), f64::from(y));
            let more = [x, y, x * x, x * y];
            sums[i % features].iter_mut().zip(more).for_each(|(sum, term)| *sum += term);
        }
        *count += values.len() / features;
    })?;
    let line = |count: usize, sums: &[f64; 4]| {
        let [x, y, xx, xy] = sums.map(|s| s / count.max(1) as f64);
        let variance = xx - x * x;
        let scale = if variance > 1e-12 * xx { (xy - x * y) / variance } else { 0.0 };
        (scale as f32, (y - scale * x) as f32)
    };
    let lines = |(sums, count): &(Vec<[f64; 4]>, usize)| {
        let (scale, shift) = sums.iter().map(|s| line(*count, s)).unzip();
        Affine { scale, shift }
    };
    Ok(norms.iter().map(|n| n.y).zip(sums.iter().map(lines)).collect())
}

/// What the results of the teacher's convolutions are seen to be.
///
/// # Errors
/// When the teacher cannot be run.
pub fn moments(job: &Job, graph: &Graph, samples: usize) -> Result<HashMap<ValueId, Moments>, Error> {
    let ids = pass::to_be_normalised(graph);
    let channels = |id: &ValueId| graph.value(*id).shape[1].at(1);
    // Sums, sums of squares, and how many of each.
    let mut sums: Vec<(Vec<f64>, Vec<f64>, usize)> =
        ids.iter().map(|id| (vec![0.0; channels(id)], vec![0.0; channels(id)], 0)).collect();
    observe(job, graph, &ids, samples, &mut |index, values| {
        let id = ids[index];
        let plane: usize = graph.value(id).shape[2..].iter().map(|d| d.at(1)).product();
        let (sum, squares, count) = &mut sums[index];
        let channels = sum.len();
        for (place, plane) in values.chunks(plane).enumerate() {
            for &v in plane {
                sum[place % channels] += f64::from(v);
                squares[place % channels] += f64::from(v) * f64::from(v);
            }
        }
        *count += values.len() / channels;
    })?;
    let moments = |(sum, squares, count): (Vec<f64>, Vec<f64>, usize)| {
        let mean = |v: &[f64]| v.iter().map(|s| s / count.max(1) as f64).collect::<Vec<f64>>();
        let (mean, square) = (mean(&sum), mean(&squares));
        let variance = mean.iter().zip(&square).map(|(m, s)| (s - m * m).max(0.0) as f32).collect();
        Moments { mean: mean.iter().map(|&m| m as f32).collect(), variance }
    };
    Ok(ids.iter().copied().zip(sums.into_iter().map(moments)).collect())
}
