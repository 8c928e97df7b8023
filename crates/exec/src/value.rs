//! Tensors without a rank in their type.

use super::Error;
use burn::backend::{Dispatch, DispatchTensor, TensorMetadata, ops::FloatTensorOps};
use burn::tensor::{Device, Shape, Tensor, TensorData};
use kdc_ir::graph::{self, Data};
use std::sync::Arc;

/// A float tensor of any rank on a burn device, tracked for gradients when it comes from an autodiff device.
///
/// burn's `Tensor<D>` carries its rank in the type, a graph's values do not. This holds burn's dispatch tensor, and
/// becomes a `Tensor<D>` where an operator wants one.
#[derive(Clone, Debug)]
pub struct Value(DispatchTensor);

impl Value {
    /// Copies a host tensor to a device; elements of other types become `f32`.
    ///
    /// # Errors
    /// For element types a network cannot compute with.
    pub fn from_host(tensor: &graph::Tensor, device: &Device) -> Result<Value, Error> {
        let floats = match &tensor.data {
            Data::F32(v) => v.to_vec(),
            _ => tensor.to_f32().into_owned(),
        };
        let flat = Tensor::<1>::from_data(TensorData::new(floats, [tensor.len()]), device);
        Ok(Value::from_tensor(flat).reshape(&tensor.shape))
    }

    /// Copies to the host.
    ///
    /// # Errors
    /// When the device fails.
    pub fn to_host(&self) -> Result<graph::Tensor, Error> {
        let shape = self.shape();
        let data =
            Tensor::<1>::from_dispatch(self.0.clone()).try_into_data().map_err(|e| Error::Device(e.to_string()))?;
        Ok(graph::Tensor::f32(shape, data.iter::<f32>().collect()))
    }

    /// Takes a tensor of any rank.
    pub fn from_tensor<const D: usize>(tensor: Tensor<D>) -> Value {
        Value(tensor.into_dispatch())
    }

    /// As a tensor of rank `D`.
    ///
    /// # Errors
    /// When the rank is another.
    pub fn into_tensor<const D: usize>(self) -> Result<Tensor<D>, Error> {
        let shape = self.shape();
        match shape.len() == D {
            true => Ok(Tensor::from_dispatch(self.0)),
            false => Err(Error::Rank { wanted: D, shape }),
        }
    }

    /// The extents.
    pub fn shape(&self) -> Vec<usize> {
        self.0.shape().to_vec()
    }

    /// The same elements under other extents of the same product.
    pub fn reshape(self, shape: &[usize]) -> Value {
        Value(Dispatch::float_reshape(self.0, Shape::from(shape.to_vec())))
    }

    /// All elements in a row.
    pub(super) fn flattened(self) -> Tensor<1> {
        let count = self.shape().iter().product();
        Tensor::from_dispatch(self.reshape(&[count]).0)
    }

    /// A row of elements under extents of the same product.
    pub(super) fn flat(row: Tensor<1>, shape: &[usize]) -> Value {
        Value::from_tensor(row).reshape(shape)
    }

    /// As rows of so many elements.
    pub(super) fn rows(self, length: usize) -> Tensor<2> {
        let count: usize = self.shape().iter().product();
        Tensor::from_dispatch(self.reshape(&[count / length.max(1), length]).0)
    }

    /// As `[before, axis, after]`.
    pub(super) fn around(self, axis: usize) -> Tensor<3> {
        let shape = self.shape();
        let (before, after): (usize, usize) = (shape[..axis].iter().product(), shape[axis + 1..].iter().product());
        Tensor::from_dispatch(self.reshape(&[before, shape[axis], after]).0)
    }

    /// The same tensor, on the autodiff side of its device, as a constant.
    pub fn autodiff(self) -> Value {
        Value::from_tensor(Tensor::<1>::from_dispatch(self.0).autodiff())
    }

    /// Applies one of burn's rank-free operations.
    pub(super) fn map(self, f: impl FnOnce(DispatchTensor) -> DispatchTensor) -> Value {
        Value(f(self.0))
    }

    /// Gives burn's own handle.
    pub(super) fn into_dispatch(self) -> DispatchTensor {
        self.0
    }

    /// Takes burn's own handle.
    pub(super) fn from_dispatch(tensor: DispatchTensor) -> Value {
        Value(tensor)
    }
}

/// What flows through a network: floats on a device, or integers and truth values on the host.
#[derive(Clone, Debug)]
pub enum Datum {
    Float(Value),
    Host(Arc<graph::Tensor>),
}

impl Datum {
    /// The extents.
    pub fn shape(&self) -> Vec<usize> {
        match self {
            Datum::Float(value) => value.shape(),
            Datum::Host(tensor) => tensor.shape.clone(),
        }
    }

    /// On the host.
    ///
    /// # Errors
    /// When the device fails.
    pub fn to_host(&self) -> Result<graph::Tensor, Error> {
        match self {
            Datum::Float(value) => value.to_host(),
            Datum::Host(tensor) => Ok(tensor.as_ref().clone()),
        }
    }

    /// The floats.
    ///
    /// # Errors
    /// When it is something else.
    pub fn into_float(self) -> Result<Value, Error> {
        match self {
            Datum::Float(value) => Ok(value),
            Datum::Host(tensor) => {
                Err(Error::Input { wanted: "floats".into(), given: format!("a tensor of {}", tensor.dtype()) })
            }
        }
    }
}

impl From<Value> for Datum {
    fn from(value: Value) -> Datum {
        Datum::Float(value)
    }
}

impl From<graph::Tensor> for Datum {
    fn from(tensor: graph::Tensor) -> Datum {
        Datum::Host(Arc::new(tensor))
    }
}
