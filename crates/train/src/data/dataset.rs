//! What every consumer of samples knows of them.

use super::views::{Input, Preview, SampleView};
use super::{Error, Images, MaskedTokens, Task};
use kdc_ir::graph::{Dim, Graph, Tensor, elements, shape_text};
use std::fmt::Debug;
use std::sync::Arc;

/// Samples of any kind, and how they become the inputs of a network.
///
/// What a batch holds depends on its arguments alone: the same on every machine, however many threads work on it.
pub trait Dataset: Debug + Send + Sync {
    /// How many samples there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class of a sample; `None` where nobody said it.
    ///
    /// # Panics
    /// If there is no such sample.
    fn label(&self, sample: usize) -> Option<u16>;

    /// What [`Dataset::batch`] makes, input by input.
    fn inputs(&self) -> &[Input];

    /// The inputs of a network for these samples, in the order of [`Dataset::inputs`]: the first extent of each is the
    /// number of looks.
    ///
    /// # Panics
    /// If a look names no sample.
    fn batch(&self, looks: &[SampleView]) -> Vec<Tensor>;

    /// What these looks hide from a language model; `None` where nothing is hidden from anybody.
    fn hidden(&self, _looks: &[SampleView]) -> Option<MaskedTokens> {
        None
    }

    /// Names the samples, their labels, and how they become inputs: two sets of the same hash make the same batches of
    /// plain looks.
    fn hash(&self) -> String;

    /// How views differ from the samples, complete: with [`Dataset::hash`] it decides every batch.
    fn augmentation(&self) -> String;

    /// One sample, to be shown to people.
    ///
    /// # Panics
    /// If there is no such sample.
    fn show(&self, sample: usize) -> Preview;

    /// The extents of a sample for people, e.g. `28×28×1`.
    fn extents(&self) -> String;

    /// The bytes that stand for the input, where the samples are images: a generated program takes them as they are.
    fn images(&self) -> Option<&Images> {
        None
    }
}

/// What a model is trained on and judged by.
#[derive(Clone, Debug)]
pub struct Splits {
    /// What training (and its validation split) may see.
    pub train: Arc<dyn Dataset>,
    /// What only final figures see. The same inputs as `train`.
    pub test: Arc<dyn Dataset>,
    /// The name of each class, by label.
    pub class_names: Vec<String>,
    /// What the network's answers stand for.
    pub answers: Task,
    /// What to say about how the data were read, for people.
    pub notes: Vec<String>,
}

/// Checks that a network takes what the samples become.
///
/// # Errors
/// Names both sides of what does not go together.
pub(super) fn fits_inputs(graph: &Graph, data: &Splits) -> Result<(), Error> {
    let fail = |what: String| Err(Error::Mismatch { what });
    let made = data.train.inputs();
    if graph.inputs.len() != made.len() {
        return fail(format!("the network has {} inputs, samples have {}", graph.inputs.len(), parts(made.len())));
    }
    for (&id, made) in graph.inputs.iter().zip(made) {
        let input = graph.value(id);
        let same = |(dim, &n): (&Dim, &usize)| matches!(dim, Dim::Fixed(m) if *m == n);
        if input.shape.len() != made.shape.len() + 1 || !input.shape[1..].iter().zip(&made.shape).all(same) {
            let dims: Vec<Dim> = std::iter::once(Dim::Batch).chain(made.shape.iter().map(|&n| Dim::Fixed(n))).collect();
            return fail(format!(
                "its input {} is {}, but samples of {} become {}; see layout and sizes in the sidecar",
                input.name,
                shape_text(&input.shape),
                data.train.extents(),
                shape_text(&dims),
            ));
        }
        if input.dtype != made.dtype {
            return fail(format!("its input {} is of type {}, samples are {}", input.name, input.dtype, made.dtype));
        }
    }
    Ok(())
}

/// Checks that a network answers with one number per class, or what else its answers are.
///
/// # Errors
/// As [`fits_inputs`].
pub(super) fn fits_answers(graph: &Graph, data: &Splits) -> Result<(), Error> {
    let fail = |what: String| Err(Error::Mismatch { what });
    let Some(&output) = graph.outputs.first() else {
        return fail("the network has no output".into());
    };
    let output = graph.value(output);
    if data.answers == Task::Reconstruction {
        let numbers: usize = data.train.inputs().iter().map(|input| input.shape.iter().product::<usize>()).sum();
        let one = data.train.inputs().len() == 1 && output.dtype == data.train.inputs()[0].dtype;
        return match elements(&output.shape) == numbers && one && output.dtype.is_float() {
            true => Ok(()),
            false => fail(format!(
                "its output {} is {} of type {}, and answers = \"input\" wants its input again: {numbers} numbers",
                output.name,
                shape_text(&output.shape),
                output.dtype
            )),
        };
    }
    if data.answers == Task::MaskedLm {
        // How many tokens there are, the tokenizer knows: the reader of texts has looked.
        let positions = data.train.inputs().first().map(|input| input.shape.iter().product::<usize>());
        return match output.shape[..] {
            [_, Dim::Fixed(l), Dim::Fixed(_)] if Some(l) == positions && output.dtype.is_float() => Ok(()),
            _ => fail(format!(
                "its output {} is {}, and answers = \"tokens\" wants [batch,{},vocabulary]",
                output.name,
                shape_text(&output.shape),
                positions.unwrap_or(0)
            )),
        };
    }
    if let Task::Sequence(sequence) = &data.answers {
        return match output.shape[..] {
            [_, Dim::Fixed(_), Dim::Fixed(symbols)] if symbols == sequence.symbols => Ok(()),
            _ => fail(format!(
                "its output {} is {}, and [sequence] has an alphabet of {} symbols; it has to be [batch,positions,{}]",
                output.name,
                shape_text(&output.shape),
                sequence.symbols,
                sequence.symbols
            )),
        };
    }
    let classes = data.class_names.len();
    if elements(&output.shape) != classes {
        return fail(format!(
            "its output {} is {}, but the data has {classes} classes",
            output.name,
            shape_text(&output.shape)
        ));
    }
    Ok(())
}

fn parts(count: usize) -> String {
    if count == 1 { "one part".into() } else { format!("{count} parts") }
}
