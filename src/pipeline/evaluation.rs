//! How right a model is, class by class, and where two models disagree.

use super::answers::labels;
use super::{Error, job};
use crate::data::{SampleView, Score, Splits};
use crate::graph::{Graph, Tensor};
use crate::{onnx, teacher};
use serde::Serialize;
use std::path::Path;

/// What `kdc eval` shows. All shares are measured on the test samples.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    pub model: String,
    pub engine: String,
    pub samples: usize,
    /// What the share below is: accuracy, where answers are classes.
    pub judged_by: &'static str,
    /// Of the labelled samples, or by what else answers are judged; `None` where nothing says.
    pub accuracy: Option<f64>,
    /// What to look into where that is no more than chance, or too little for another reason.
    pub doubt: Option<String>,
    /// What to know about how the data were read.
    pub notes: Vec<String>,
    pub classes: Vec<ClassResult>,
    /// `confusion[label][predicted]`: how many samples.
    pub confusion: Vec<Vec<usize>>,
    /// With a second model: its name, its accuracy, and the samples that the two put into different classes.
    pub other: Option<Other>,
}

/// One class.
#[derive(Clone, Debug, Serialize)]
pub struct ClassResult {
    pub name: String,
    /// Samples with this label.
    pub samples: usize,
    /// The share of them that is found.
    pub recall: f64,
    /// The share of what is said to be of this class that is.
    pub precision: f64,
}

/// A second model.
#[derive(Clone, Debug, Serialize)]
pub struct Other {
    pub model: String,
    pub accuracy: Option<f64>,
    /// Index of the test sample, its label, what the first model says, what the second says.
    pub disagreements: Vec<(usize, Option<u16>, u16, u16)>,
}

/// A model, and the one of its outputs that is meant, where that was named.
#[derive(Clone, Copy)]
struct Judged<'a> {
    model: &'a Path,
    output: Option<&'a str>,
}

impl Judged<'_> {
    fn open(&self, probe: &[Tensor]) -> Result<Box<dyn teacher::Teacher>, Error> {
        Ok(teacher::open_output(self.model, self.output, &[], teacher::EngineChoice::Auto, probe)?)
    }
}

/// Another model, with the output of the first one's name where it has several.
fn beside<'a>(model: &'a Path, output: &'a str) -> Result<Judged<'a>, Error> {
    let several = onnx::load(model)?.outputs.len() > 1;
    if several {
        job::load_one_output(model, &onnx::Given { output: Some(output.into()), ..Default::default() })?;
    }
    Ok(Judged { model, output: several.then_some(output) })
}

/// Where the samples of a model are; by default where the sidecar beside it says.
#[derive(Clone, Copy, Debug, Default)]
pub struct SampleSource<'a> {
    /// The sidecar that is meant, in place of the one beside the model.
    pub sidecar: Option<&'a Path>,
    /// File or folder with the samples.
    pub data: Option<&'a Path>,
}

/// The data that goes with a model, checked against it.
pub(super) fn samples_for(model: &Path, samples: &SampleSource, network: &Graph) -> Result<Splits, Error> {
    let (sidecar, path) = job::locate_data(model, samples.sidecar, samples.data)?;
    job::load_data(model, &sidecar, &path, network)
}

/// The class that a model gives each test sample; one that there is not where its answer spells none.
pub(super) fn predicted(engine: &dyn teacher::Teacher, data: &Splits) -> Result<Vec<u16>, Error> {
    let Some(sequence) = data.answers.words() else { return Ok(teacher::predict(engine, data.test.as_ref())?) };
    let logits = teacher::logits(engine, data.test.as_ref())?;
    let row = (logits.len() / data.test.len().max(1)).max(1);
    Ok(logits.to_f32().chunks(row).map(|row| sequence.class(row).unwrap_or(u16::MAX)).collect())
}

/// How good a model is whose answers are no classes.
pub(super) fn scored(engine: &dyn teacher::Teacher, data: &Splits) -> Result<Option<f64>, Error> {
    let mut score = Score::new(&data.answers);
    let all: Vec<usize> = (0..data.test.len()).collect();
    for part in all.chunks(score.batch()) {
        let looks = SampleView::plain(part.iter().copied());
        let inputs = data.test.batch(&looks);
        let answers = engine.run(&inputs)?;
        let values = answers.outputs.first().map(|output| output.to_f32().into_owned()).unwrap_or_default();
        score.add(data.test.as_ref(), &looks, &inputs, &values);
    }
    Ok(score.share())
}

/// A model whose answers are no classes, and perhaps a second one beside it.
fn evaluate_numbers(judged: Judged<'_>, against: Option<Judged<'_>>, data: &Splits) -> Result<Evaluation, Error> {
    let probe = teacher::probe(data.test.as_ref());
    let engine = judged.open(&probe)?;
    let other = against.map(|other| -> Result<Other, Error> {
        let accuracy = scored(other.open(&probe)?.as_ref(), data)?;
        Ok(Other { model: other.model.display().to_string(), accuracy, disagreements: vec![] })
    });
    Ok(Evaluation {
        model: judged.model.display().to_string(),
        engine: engine.engine().into(),
        samples: data.test.len(),
        judged_by: data.answers.score(),
        accuracy: scored(engine.as_ref(), data)?,
        doubt: None,
        notes: data.notes.clone(),
        classes: vec![],
        confusion: vec![],
        other: other.transpose()?,
    })
}

/// Runs a model on the test samples; `output` names the one of its outputs that is meant, where it has several. The second
/// model sees them as the first one's sidecar says.
///
/// # Errors
/// When a model or the data cannot be read, do not fit each other, or no engine runs the model.
pub fn evaluate(
    model: &Path,
    output: Option<&str>,
    against: Option<&Path>,
    samples: &SampleSource,
) -> Result<Evaluation, Error> {
    let of_sidecar =
        job::locate_data(model, samples.sidecar, samples.data).ok().and_then(|(sidecar, _)| sidecar.output);
    let output = output.map(String::from).or(of_sidecar);
    let network = job::load_one_output(model, &onnx::Given { output: output.clone(), ..Default::default() })?;
    let answer = network.outputs.first().map_or("", |&id| network.value(id).name.as_str());
    let judged = Judged { model, output: output.as_deref() };
    let against = against.map(|other| beside(other, answer)).transpose()?;
    let dataset = samples_for(model, samples, &network)?;
    if !dataset.answers.are_classes() {
        return evaluate_numbers(judged, against, &dataset);
    }
    let test = dataset.test.as_ref();
    let labels = labels(test);
    let probe = teacher::probe(test);
    let engine = judged.open(&probe)?;
    let said = predicted(engine.as_ref(), &dataset)?;
    let count = dataset.class_names.len();
    let mut confusion = vec![vec![0; count]; count];
    for (&label, &predicted) in labels.iter().zip(&said) {
        if let Some(label) = label {
            // What spells no class is in no column.
            if let Some(cell) = confusion[usize::from(label)].get_mut(usize::from(predicted)) {
                *cell += 1;
            }
        }
    }
    let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
    let class = |(i, name): (usize, &String)| {
        let of_class = labels.iter().filter(|l| **l == Some(i as u16)).count();
        let (samples, named) = (of_class, confusion.iter().map(|row| row[i]).sum());
        let right = confusion[i][i];
        ClassResult { name: name.clone(), samples, recall: share(right, samples), precision: share(right, named) }
    };
    let other = against.map(|other| -> Result<Other, Error> {
        let theirs = predicted(other.open(&probe)?.as_ref(), &dataset)?;
        let pairs = said.iter().zip(&theirs).enumerate().filter(|(_, (a, b))| a != b);
        Ok(Other {
            model: other.model.display().to_string(),
            accuracy: teacher::accuracy(&theirs, test),
            disagreements: pairs.map(|(i, (&a, &b))| (i, labels[i], a, b)).collect(),
        })
    });
    Ok(Evaluation {
        model: model.display().to_string(),
        engine: engine.engine().into(),
        samples: test.len(),
        judged_by: dataset.answers.score(),
        accuracy: teacher::accuracy(&said, test),
        notes: dataset.notes.clone(),
        doubt: teacher::doubt(&said, test, &dataset.class_names),
        classes: dataset.class_names.iter().enumerate().map(class).collect(),
        confusion,
        other: other.transpose()?,
    })
}
