//! Elements of any type as two kinds of numbers.

use crate::graph::{DType, Data, Tensor};

/// Elements widened: integers and truth values as `i64`, floats as `f64`. A sum, product, quotient or root of two `f32`
/// computed in `f64` and rounded once is the correctly rounded `f32`.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    Whole(Vec<i64>),
    Real(Vec<f64>),
}

impl Numbers {
    /// The elements of a tensor.
    pub fn of(tensor: &Tensor) -> Numbers {
        fn whole<T: Copy + Into<i64>>(v: &[T]) -> Numbers {
            Numbers::Whole(v.iter().map(|&x| x.into()).collect())
        }
        match &tensor.data {
            Data::F32(v) => Numbers::Real(v.iter().map(|&x| x.into()).collect()),
            Data::I8(v) => whole(v),
            Data::U8(v) => whole(v),
            Data::I32(v) => whole(v),
            Data::I64(v) => whole(v),
            Data::Bool(v) => whole(v),
        }
    }

    /// The integers.
    ///
    /// # Errors
    /// When they are no integers.
    pub fn whole(self) -> Result<Vec<i64>, String> {
        match self {
            Numbers::Whole(v) => Ok(v),
            Numbers::Real(_) => Err("integers are wanted, not floats".into()),
        }
    }

    /// As floats.
    pub fn real(self) -> Vec<f64> {
        match self {
            Numbers::Whole(v) => v.into_iter().map(|x| x as f64).collect(),
            Numbers::Real(v) => v,
        }
    }

    /// As many zeros of the same kind.
    pub fn zeros(&self) -> Numbers {
        match self {
            Numbers::Whole(v) => Numbers::Whole(vec![0; v.len()]),
            Numbers::Real(v) => Numbers::Real(vec![0.0; v.len()]),
        }
    }

    /// Those at these positions.
    pub fn pick(&self, at: &[usize]) -> Numbers {
        match self {
            Numbers::Whole(v) => Numbers::Whole(at.iter().map(|&i| v[i]).collect()),
            Numbers::Real(v) => Numbers::Real(at.iter().map(|&i| v[i]).collect()),
        }
    }

    /// Elements of several operands of one kind: which operand, and where in it.
    pub fn gather(from: &[Numbers], at: &[(usize, usize)]) -> Numbers {
        if from.iter().all(|n| matches!(n, Numbers::Whole(_))) {
            let whole = |&(s, i): &(usize, usize)| match &from[s] {
                Numbers::Whole(v) => v[i],
                Numbers::Real(v) => v[i] as i64,
            };
            return Numbers::Whole(at.iter().map(whole).collect());
        }
        let real: Vec<Vec<f64>> = from.iter().map(|n| n.clone().real()).collect();
        Numbers::Real(at.iter().map(|&(s, i)| real[s][i]).collect())
    }

    /// Narrowed to an element type; integers wrap, as they do in every engine.
    pub fn into_data(self, dtype: DType) -> Data {
        match self {
            Numbers::Real(v) if dtype.is_float() => Data::F32(v.into_iter().map(|x| x as f32).collect()),
            Numbers::Real(v) if dtype == DType::Bool => Data::Bool(v.into_iter().map(|x| x != 0.0).collect()),
            Numbers::Real(v) => Numbers::Whole(v.into_iter().map(|x| x as i64).collect()).into_data(dtype),
            Numbers::Whole(v) => match dtype {
                DType::Bool => Data::Bool(v.into_iter().map(|x| x != 0).collect()),
                DType::I8 => Data::I8(v.into_iter().map(|x| x as i8).collect()),
                DType::U8 => Data::U8(v.into_iter().map(|x| x as u8).collect()),
                DType::I16 | DType::U16 | DType::I32 => Data::I32(v.into_iter().map(|x| x as i32).collect()),
                DType::F32 | DType::F64 | DType::F16 | DType::BF16 => {
                    Data::F32(v.into_iter().map(|x| x as f32).collect())
                }
                DType::I64 | DType::U32 | DType::U64 => Data::I64(v),
            },
        }
    }
}

/// Conversion of elements (ONNX Cast): floats are cut towards zero.
pub fn cast(data: &Data, to: DType) -> Data {
    let tensor = Tensor { shape: vec![data.len()], data: data.clone() };
    Numbers::of(&tensor).into_data(to)
}
