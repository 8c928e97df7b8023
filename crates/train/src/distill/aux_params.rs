//! Auxiliary parameters, which a term brings besides the student: projections, discriminators and learned numbers that
//! train along, and banks that are kept from step to step. None of it is in the student that comes out.

use super::Error;
use burn::tensor::{Device, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

/// Trainable tensors and buffers of all terms, by name.
pub struct AuxParams {
    /// With gradients.
    device: Device,
    seed: u64,
    params: Vec<AuxParam>,
    buffers: Vec<(String, Vec<f32>)>,
}

/// A trainable tensor that is not the student's.
#[derive(Clone, Debug)]
pub struct AuxParam {
    pub name: String,
    pub shape: Vec<usize>,
    /// All elements, a leaf of the gradient graph.
    pub tensor: Tensor<1>,
}

/// Names one of the trainable tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(usize);

/// Names one of the buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferSlot(usize);

/// How a trainable tensor starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All elements this.
    Constant(f32),
    /// Normal with the variance `1 / fan_in` (LeCun et al. 1998).
    Normal { fan_in: usize },
}

impl AuxParams {
    /// None yet. `device` is the plain one.
    pub fn new(device: &Device, seed: u64) -> AuxParams {
        AuxParams { device: device.clone().autodiff(), seed, params: vec![], buffers: vec![] }
    }

    /// Adds a trainable tensor. What it starts from depends on the seed and the name alone.
    pub fn add(&mut self, name: impl Into<String>, shape: &[usize], init: Init) -> Slot {
        let name = name.into();
        let count = shape.iter().product();
        let values = match init {
            Init::Constant(value) => vec![value; count],
            Init::Normal { fan_in } => self.normal(&name, count, 1.0 / (fan_in.max(1) as f32).sqrt()),
        };
        let tensor = Tensor::from_data(TensorData::new(values, [count]), &self.device).require_grad();
        self.params.push(AuxParam { name, shape: shape.into(), tensor });
        Slot(self.params.len() - 1)
    }

    /// Adds a buffer of random directions: `rows` vectors of `dim` numbers of length one.
    pub fn add_bank(&mut self, name: impl Into<String>, rows: usize, dim: usize) -> BufferSlot {
        let name = name.into();
        let mut values = self.normal(&name, rows * dim, 1.0);
        for row in values.chunks_mut(dim.max(1)) {
            let length = row.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-12);
            row.iter_mut().for_each(|v| *v /= length);
        }
        self.add_buffer(name, values)
    }

    /// Adds a buffer.
    pub fn add_buffer(&mut self, name: impl Into<String>, values: Vec<f32>) -> BufferSlot {
        self.buffers.push((name.into(), values));
        BufferSlot(self.buffers.len() - 1)
    }

    /// A trainable tensor, tracked for gradients.
    ///
    /// # Panics
    /// If its rank is not `D`.
    pub fn get<const D: usize>(&self, slot: Slot) -> Tensor<D> {
        let param = &self.params[slot.0];
        let shape: [usize; D] = param.shape.clone().try_into().expect("the rank it was added with");
        param.tensor.clone().reshape(shape)
    }

    /// A buffer.
    pub fn buffer(&self, slot: BufferSlot) -> &[f32] {
        &self.buffers[slot.0].1
    }

    /// A buffer, to be changed.
    pub fn buffer_mut(&mut self, slot: BufferSlot) -> &mut [f32] {
        &mut self.buffers[slot.0].1
    }

    /// Where terms compute, with gradients.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Decides what is drawn.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// All trainable tensors.
    pub fn params(&self) -> &[AuxParam] {
        &self.params
    }

    /// Replaces the elements of a trainable tensor, after an optimizer's step.
    pub fn set(&mut self, index: usize, tensor: Tensor<1>) {
        self.params[index].tensor = Tensor::from_inner(tensor.inner()).require_grad();
    }

    /// All numbers by name.
    pub fn snapshot(&self) -> Vec<(String, Vec<f32>)> {
        let numbers = |t: &Tensor<1>| t.clone().detach().inner().into_data().iter::<f32>().collect();
        let params = self.params.iter().map(|p| (p.name.clone(), numbers(&p.tensor)));
        params.chain(self.buffers.iter().cloned()).collect()
    }

    /// Takes over what a snapshot has of the same name and length; the rest stays as it is. An earlier stage's
    /// projections go on so.
    pub fn adopt(&mut self, snapshot: &[(String, Vec<f32>)]) {
        for (name, values) in snapshot {
            let fits = |p: &&mut AuxParam| p.name == *name && p.shape.iter().product::<usize>() == values.len();
            if let Some(param) = self.params.iter_mut().find(fits) {
                let data = TensorData::new(values.clone(), [values.len()]);
                param.tensor = Tensor::from_data(data, &self.device).require_grad();
            }
            if let Some((_, buffer)) = self.buffers.iter_mut().find(|(n, b)| n == name && b.len() == values.len()) {
                buffer.clone_from(values);
            }
        }
    }

    /// Takes back a snapshot of the same terms.
    ///
    /// # Errors
    /// When something is missing, by name.
    pub fn restore(&mut self, snapshot: &[(String, Vec<f32>)]) -> Result<(), Error> {
        let mine = self.snapshot();
        let missing = mine.iter().find(|(name, values)| {
            !snapshot.iter().any(|(other, theirs)| other == name && theirs.len() == values.len())
        });
        if let Some((name, _)) = missing {
            return Err(Error::AuxParams { name: name.clone() });
        }
        self.adopt(snapshot);
        Ok(())
    }

    fn normal(&self, name: &str, count: usize, deviation: f32) -> Vec<f32> {
        let hash = blake3::hash(format!("{} {name}", self.seed).as_bytes());
        let mut rng = ChaCha8Rng::from_seed(*hash.as_bytes());
        let normal = Normal::new(0.0, deviation).expect("a deviation is positive");
        (0..count).map(|_| normal.sample(&mut rng)).collect()
    }
}
