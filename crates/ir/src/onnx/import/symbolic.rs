//! Small tensors of integers that are known before the network runs, but for the batch.

use super::fault::Fault;
use crate::graph::{DType, Data, Dim, Tensor};

/// The largest tensor that is taken for shape arithmetic.
pub const MAX_ELEMENTS: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    Known(i64),
    /// So many times the batch, at least once.
    Batch(i64),
}

impl Element {
    pub fn known(self) -> Option<i64> {
        match self {
            Element::Known(n) => Some(n),
            Element::Batch(_) => None,
        }
    }
}

impl From<Dim> for Element {
    fn from(dim: Dim) -> Element {
        match dim {
            Dim::Fixed(n) => Element::Known(n as i64),
            Dim::Batch => Element::Batch(1),
            Dim::Batches(times) => Element::Batch(times as i64),
        }
    }
}

/// A small tensor of integers or truth values (0 and 1).
#[derive(Clone, Debug)]
pub struct Symbolic {
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub elements: Vec<Element>,
}

impl Symbolic {
    /// `None` for what is not integer, or too large to be a shape.
    pub fn from_tensor(tensor: &Tensor) -> Option<Symbolic> {
        let numbers: Vec<i64> = match &tensor.data {
            _ if tensor.len() > MAX_ELEMENTS => return None,
            Data::I64(v) => v.clone(),
            Data::I32(v) => v.iter().map(|&x| x.into()).collect(),
            Data::Bool(v) => v.iter().map(|&x| x.into()).collect(),
            Data::F32(_) | Data::I8(_) | Data::U8(_) => return None,
        };
        let elements = numbers.into_iter().map(Element::Known).collect();
        Some(Symbolic { dtype: tensor.dtype(), shape: tensor.shape.clone(), elements })
    }

    /// The constant, if the batch is not in it.
    pub fn tensor(&self) -> Option<Tensor> {
        let numbers: Vec<i64> = self.elements.iter().map(|e| e.known()).collect::<Option<_>>()?;
        let data = match self.dtype {
            DType::Bool => Data::Bool(numbers.iter().map(|&n| n != 0).collect()),
            DType::I32 => Data::I32(numbers.iter().map(|&n| n as i32).collect()),
            _ => Data::I64(numbers),
        };
        Some(Tensor { shape: self.shape.clone(), data })
    }

    pub fn vector(elements: Vec<Element>) -> Symbolic {
        Symbolic { dtype: DType::I64, shape: vec![elements.len()], elements }
    }

    pub fn pick(&self, shape: Vec<usize>, positions: &[usize]) -> Option<Symbolic> {
        let elements = positions.iter().map(|&p| self.elements.get(p).copied()).collect::<Option<_>>()?;
        Some(Symbolic { dtype: self.dtype, shape, elements })
    }

    pub fn reshaped(&self, shape: Vec<usize>) -> Symbolic {
        Symbolic { shape, ..self.clone() }
    }
}

/// Extents as the graph has them.
pub fn dims(elements: &[Element]) -> Result<Vec<Dim>, Fault> {
    let dim = |e: &Element| match *e {
        Element::Known(n) => usize::try_from(n).ok().map(Dim::Fixed),
        Element::Batch(times) => usize::try_from(times).ok().map(Dim::batches),
    };
    let dims: Option<Vec<Dim>> = elements.iter().map(dim).collect();
    dims.ok_or_else(|| Fault::Invalid(format!("impossible extents {elements:?}")))
}
