//! Batches in chunks of a fixed size.
//!
//! The size of a chunk depends on nothing but the batch and the model, so the engine sees the same numbers in the same
//! arrangement whatever the machine, and memory does not grow with the batch. The last chunk is filled up with zeros:
//! one execution plan does for all.

use super::{Error, Reply};
use kdc_ir::graph::{Data, Tensor};

/// The extents of one input of a model, as far as its file says.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub name: String,
    /// `None` where the file leaves it open.
    pub shape: Option<Vec<Option<usize>>>,
}

/// The inputs of a model in the file's order, and its name for messages.
#[derive(Clone, Debug)]
pub(super) struct Inputs {
    pub model: String,
    pub list: Vec<Input>,
}

impl Inputs {
    /// How many samples go through the engine at once: what the file fixes, else `preferred` or the whole batch if
    /// that is less.
    ///
    /// # Errors
    /// When the batch does not fit.
    pub fn chunk(&self, batch: &[Tensor], preferred: usize) -> Result<usize, Error> {
        if self.list.len() != batch.len() {
            return Err(Error::Inputs { model: self.model.clone(), wanted: self.list.len(), given: batch.len() });
        }
        let n = batch.first().and_then(|t| t.shape.first()).copied().unwrap_or(0);
        let mut fixed = None;
        for (input, part) in self.list.iter().zip(batch) {
            let mismatch = |expected: String| {
                let (model, input) = (self.model.clone(), input.name.clone());
                Error::Shape { model, input, expected, given: part.shape.clone() }
            };
            if n == 0 {
                return Err(mismatch("at least one sample".into()));
            }
            if part.shape.first() != Some(&n) {
                return Err(mismatch(format!("{n} samples, as the first input")));
            }
            let Some(shape) = &input.shape else { continue };
            let fits = |(want, &have): (&Option<usize>, &usize)| want.is_none_or(|want| want == have);
            if shape.len() != part.shape.len() || !shape.iter().zip(&part.shape).skip(1).all(fits) {
                let extents: Vec<String> = shape.iter().map(|d| d.map_or("?".into(), |n| n.to_string())).collect();
                return Err(mismatch(format!("[{}]", extents.join(","))));
            }
            fixed = fixed.or(shape[0].filter(|&fixed| fixed > 0));
        }
        Ok(fixed.unwrap_or(preferred.min(n)))
    }
}

/// A batch cut into chunks of `size` samples, the last one filled up with zeros.
pub(super) fn cut(batch: &[Tensor], size: usize) -> Vec<Vec<Tensor>> {
    let mut chunks: Vec<Vec<Tensor>> = Vec::new();
    for part in batch {
        for (index, piece) in cut_one(part, size).into_iter().enumerate() {
            match chunks.get_mut(index) {
                Some(chunk) => chunk.push(piece),
                None => chunks.push(vec![piece]),
            }
        }
    }
    chunks
}

fn cut_one(batch: &Tensor, size: usize) -> Vec<Tensor> {
    let row: usize = batch.shape[1..].iter().product();
    let mut shape = batch.shape.clone();
    shape[0] = size;
    macro_rules! cut {
        ($variant:ident, $v:expr, $zero:expr) => {
            $v.chunks((row * size).max(1))
                .map(|c| {
                    let mut c = c.to_vec();
                    c.resize(row * size, $zero);
                    Tensor::new(shape.clone(), Data::$variant(c.into()))
                })
                .collect()
        };
    }
    match &batch.data {
        Data::F32(v) => cut!(F32, v, 0.0),
        Data::I8(v) => cut!(I8, v, 0),
        Data::U8(v) => cut!(U8, v, 0),
        Data::I32(v) => cut!(I32, v, 0),
        Data::I64(v) => cut!(I64, v, 0),
        Data::Bool(v) => cut!(Bool, v, false),
    }
}

/// The answers to the chunks as answers to `n` samples, checked: one row per sample, every number finite.
///
/// `names` are the outputs', then the taps'; each chunk answers with as many tensors, outputs first.
pub(super) fn join(
    model: &str,
    engine: &str,
    names: &[String],
    outputs: usize,
    chunks: Vec<Vec<Tensor>>,
    size: usize,
    n: usize,
) -> Result<Reply, Error> {
    let fail = |what: String| Error::Engine { engine: engine.into(), model: model.into(), what };
    let mut joined: Vec<Option<Tensor>> = vec![None; names.len()];
    for chunk in chunks {
        if chunk.len() != names.len() {
            return Err(fail(format!("it answered with {} values instead of {}", chunk.len(), names.len())));
        }
        for ((sum, mut part), name) in joined.iter_mut().zip(chunk).zip(names) {
            // A Squeeze without axes, in a file for one sample, takes the batch away with all other extents of 1.
            if size == 1 && !part.shape.contains(&1) {
                part.shape.insert(0, 1);
            }
            if part.shape.first() != Some(&size) {
                return Err(fail(format!(
                    "\"{name}\" is {:?} for a batch of {size}: its first extent is not the batch",
                    part.shape
                )));
            }
            match sum {
                None => *sum = Some(part),
                Some(sum) if sum.shape[1..] == part.shape[1..] => {
                    if let (Data::F32(all), Data::F32(more)) = (&mut sum.data, part.data) {
                        sum.shape[0] += size;
                        all.to_mut().extend_from_slice(&more);
                    }
                }
                Some(sum) => {
                    return Err(fail(format!("\"{name}\" changes its shape: {:?}, then {:?}", sum.shape, part.shape)));
                }
            }
        }
    }
    let mut tensors = Vec::with_capacity(names.len());
    for (tensor, name) in joined.into_iter().zip(names) {
        let Some(Tensor { mut shape, data: Data::F32(values) }) = tensor else {
            return Err(fail(format!("\"{name}\" has no numbers")));
        };
        let row: usize = shape[1..].iter().product();
        let mut values = values.into_vec();
        shape[0] = n;
        values.truncate(n * row);
        if let Some(at) = values.iter().position(|x| !x.is_finite()) {
            let (model, value) = (model.to_string(), name.clone());
            return Err(Error::NotFinite { model, value, what: values[at], sample: at / row });
        }
        tensors.push(Tensor::f32(shape, values));
    }
    let taps = tensors.split_off(outputs);
    Ok(Reply { outputs: tensors, taps })
}
