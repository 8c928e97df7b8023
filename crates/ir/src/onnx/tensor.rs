//! `TensorProto` → [`Tensor`] and back, and contents kept in other files.

use super::Error;
use super::file::Map;
use super::proto::{EXTERNAL, TensorProto, data_type};
use crate::graph::{DType, Data, Floats, Tensor, Unread};
use bytes::Bytes;
use half::{bf16, f16};
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

/// More elements than any tensor of a network on this machine has; larger products are damage.
const MAX_ELEMENTS: usize = 1 << 38;
/// Fewer bytes are copied, so that they do not keep a whole file.
const WORTH_MAPPING: usize = 4096;
/// More axes than any operator works on.
const MAX_RANK: usize = 32;

/// The element type that values of this ONNX type have in a graph: floating point is widened or narrowed to `f32`,
/// integers that have no type of their own are widened.
pub fn graph_dtype(code: i32) -> Option<DType> {
    Some(match code {
        data_type::FLOAT | data_type::FLOAT16 | data_type::BFLOAT16 | data_type::DOUBLE => DType::F32,
        data_type::INT8 => DType::I8,
        data_type::UINT8 => DType::U8,
        data_type::INT16 | data_type::UINT16 | data_type::INT32 => DType::I32,
        data_type::UINT32 | data_type::INT64 | data_type::UINT64 => DType::I64,
        data_type::BOOL => DType::Bool,
        _ => return None,
    })
}

/// The ONNX code of an element type.
pub fn dtype_code(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => data_type::FLOAT,
        DType::F64 => data_type::DOUBLE,
        DType::F16 => data_type::FLOAT16,
        DType::BF16 => data_type::BFLOAT16,
        DType::I8 => data_type::INT8,
        DType::U8 => data_type::UINT8,
        DType::I16 => data_type::INT16,
        DType::U16 => data_type::UINT16,
        DType::I32 => data_type::INT32,
        DType::U32 => data_type::UINT32,
        DType::I64 => data_type::INT64,
        DType::U64 => data_type::UINT64,
        DType::Bool => data_type::BOOL,
    }
}

/// The number of elements, if the extents are ones a tensor can have.
pub fn element_count(dims: &[usize]) -> Option<usize> {
    let product = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    (dims.len() <= MAX_RANK && product <= MAX_ELEMENTS).then_some(product)
}

/// Where contents of tensors are: the model's own file, and those beside it, each mapped once.
pub struct External<'a> {
    folder: Option<&'a Path>,
    model: Option<Map>,
    files: HashMap<PathBuf, Map>,
}

impl<'a> External<'a> {
    /// Files are looked for in `folder`, and nowhere else; `model` is the file that tensors were decoded from, if it is
    /// mapped.
    pub fn new(folder: Option<&'a Path>, model: Option<Map>) -> External<'a> {
        External { folder, model, files: HashMap::new() }
    }

    /// Gives pages back that were copied and will not be read again.
    fn copied(&self, raw: &[u8]) {
        self.model.iter().chain(self.files.values()).for_each(|map| map.forget(raw));
    }

    fn contents(&mut self, tensor: &TensorProto) -> Result<Bytes, String> {
        let entry = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
        let number = |key: &str| match entry(key) {
            None => Ok(None),
            Some(v) => v.parse::<usize>().map(Some).map_err(|_| format!("external data with {key} '{v}'")),
        };
        let location = Path::new(entry("location").ok_or("external data without a location")?);
        let plain = location.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        if !plain || location.as_os_str().is_empty() {
            return Err(format!("external data in '{}', which is outside the model's folder", location.display()));
        }
        let folder = self.folder.ok_or("external data, and no folder to look for it; load the model from its file")?;
        let path = folder.join(location);
        if !self.files.contains_key(&path) {
            let resolve = |p: &Path| p.canonicalize().map_err(|e| format!("external data {}: {e}", p.display()));
            if !resolve(&path)?.starts_with(resolve(folder)?) {
                return Err(format!("external data in '{}', which leads outside the model's folder", path.display()));
            }
            let mapped = Map::new(&path).map_err(|e| format!("external data {e}"))?;
            self.files.insert(path.clone(), mapped);
        }
        let bytes = self.files[&path].bytes();
        let start = number("offset")?.unwrap_or(0);
        let end = match number("length")? {
            Some(length) => start.checked_add(length),
            None => Some(bytes.len()),
        };
        match end {
            Some(end) if start <= end && end <= bytes.len() => Ok(bytes.slice(start..end)),
            _ => Err(format!("external data {} is shorter than the model says", path.display())),
        }
    }
}

/// Why a tensor cannot be read.
#[derive(Debug)]
pub enum Unreadable {
    /// It is valid, of a kind that kdc does not read.
    Unread(Unread),
    /// It contradicts itself, or its elements are not where it says.
    Wrong(String),
}

impl Unreadable {
    /// As an error about the value of this name.
    pub fn of(self, value: &str) -> Error {
        match self {
            Unreadable::Unread(unread) => Error::Unread { value: value.into(), unread },
            Unreadable::Wrong(what) => Error::Value { value: value.into(), what },
        }
    }
}

impl From<String> for Unreadable {
    fn from(what: String) -> Unreadable {
        Unreadable::Wrong(what)
    }
}

/// Reads a tensor; its size is checked before anything is allocated.
///
/// # Errors
/// What is wrong with it.
pub fn read(tensor: &TensorProto, external: &mut External) -> Result<Tensor, Unreadable> {
    let dims: Option<Vec<usize>> = tensor.dims.iter().map(|&d| usize::try_from(d).ok()).collect();
    let count = dims.as_deref().and_then(element_count).ok_or_else(|| format!("impossible shape {:?}", tensor.dims))?;
    let shape = dims.unwrap_or_default();
    let raw = match tensor.data_location == EXTERNAL {
        true => Some(external.contents(tensor)?),
        false if !tensor.raw_data.is_empty() => Some(tensor.raw_data.clone()),
        false => None,
    };
    let data = match raw {
        Some(raw) => {
            let data = from_raw(tensor.data_type, &raw, count)?;
            let mapped = matches!(&data, Some(Data::F32(v)) if std::ptr::eq(v.as_ptr().cast(), raw.as_ptr()));
            if !mapped && raw.len() >= WORTH_MAPPING {
                external.copied(&raw);
            }
            data
        }
        None => from_lists(tensor),
    };
    let data = data.ok_or(Unreadable::Unread(Unread::Element(tensor.data_type)))?;
    match data.len() == count {
        true => Ok(Tensor { shape, data }),
        false => Err(format!("{} elements for shape {:?}", data.len(), tensor.dims).into()),
    }
}

fn floats(v: Vec<f32>) -> Data {
    Data::F32(v.into())
}

/// Numbers as they are in the file, where they can be; else a copy.
fn from_raw(code: i32, raw: &Bytes, count: usize) -> Result<Option<Data>, String> {
    fn each<const N: usize, T>(raw: &[u8], convert: impl Fn([u8; N]) -> T) -> Vec<T> {
        raw.as_chunks::<N>().0.iter().map(|c| convert(*c)).collect()
    }
    let size = match code {
        data_type::INT8 | data_type::UINT8 | data_type::BOOL => 1,
        data_type::INT16 | data_type::UINT16 | data_type::FLOAT16 | data_type::BFLOAT16 => 2,
        data_type::FLOAT | data_type::INT32 | data_type::UINT32 => 4,
        data_type::DOUBLE | data_type::INT64 | data_type::UINT64 => 8,
        _ => return Ok(None),
    };
    if raw.len() != count * size {
        return Err(format!("{} bytes where {} are needed", raw.len(), count * size));
    }
    Ok(Some(match code {
        data_type::FLOAT => match Floats::mapped(raw.clone()).filter(|_| raw.len() >= WORTH_MAPPING) {
            Some(mapped) => return Ok(Some(Data::F32(mapped))),
            None => floats(each(raw, f32::from_le_bytes)),
        },
        data_type::DOUBLE => floats(each(raw, |b| f64::from_le_bytes(b) as f32)),
        data_type::FLOAT16 => floats(each(raw, |b| f16::from_le_bytes(b).to_f32())),
        data_type::BFLOAT16 => floats(each(raw, |b| bf16::from_le_bytes(b).to_f32())),
        data_type::INT8 => Data::I8(each(raw, i8::from_le_bytes)),
        data_type::UINT8 => Data::U8(raw.to_vec()),
        data_type::INT16 => Data::I32(each(raw, |b| i16::from_le_bytes(b).into())),
        data_type::UINT16 => Data::I32(each(raw, |b| u16::from_le_bytes(b).into())),
        data_type::INT32 => Data::I32(each(raw, i32::from_le_bytes)),
        data_type::UINT32 => Data::I64(each(raw, |b| u32::from_le_bytes(b).into())),
        data_type::INT64 => Data::I64(each(raw, i64::from_le_bytes)),
        data_type::UINT64 => Data::I64(each(raw, |b| u64::from_le_bytes(b).cast_signed())),
        _ => Data::Bool(raw.iter().map(|&b| b != 0).collect()),
    }))
}

/// The typed lists. Types narrower than 32 bits share `int32_data`, half precision as bit patterns.
fn from_lists(tensor: &TensorProto) -> Option<Data> {
    let ints = || tensor.int32_data.iter();
    Some(match tensor.data_type {
        data_type::FLOAT => floats(tensor.float_data.clone()),
        data_type::DOUBLE => Data::F32(tensor.double_data.iter().map(|&x| x as f32).collect()),
        data_type::FLOAT16 => Data::F32(ints().map(|&x| f16::from_bits(x as u16).to_f32()).collect()),
        data_type::BFLOAT16 => Data::F32(ints().map(|&x| bf16::from_bits(x as u16).to_f32()).collect()),
        data_type::INT8 => Data::I8(ints().map(|&x| x as i8).collect()),
        data_type::UINT8 => Data::U8(ints().map(|&x| x as u8).collect()),
        data_type::INT16 | data_type::UINT16 | data_type::INT32 => Data::I32(tensor.int32_data.clone()),
        data_type::BOOL => Data::Bool(ints().map(|&x| x != 0).collect()),
        data_type::INT64 => Data::I64(tensor.int64_data.clone()),
        data_type::UINT32 | data_type::UINT64 => {
            Data::I64(tensor.uint64_data.iter().map(|&x| x.cast_signed()).collect())
        }
        _ => return None,
    })
}

/// Writes a tensor, contents as raw little-endian bytes.
pub fn write(name: impl Into<String>, tensor: &Tensor) -> TensorProto {
    let raw: Vec<u8> = match &tensor.data {
        Data::F32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::I8(v) => v.iter().map(|x| x.cast_unsigned()).collect(),
        Data::U8(v) => v.clone(),
        Data::I32(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::I64(v) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Data::Bool(v) => v.iter().map(|&x| u8::from(x)).collect(),
    };
    TensorProto {
        name: name.into(),
        dims: tensor.shape.iter().map(|&d| d as i64).collect(),
        data_type: dtype_code(tensor.dtype()),
        raw_data: raw.into(),
        ..Default::default()
    }
}
