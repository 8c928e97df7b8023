//! One node of the file while it is converted: its attributes and what is known about its operands.

use super::super::proto::{AttributeProto, NodeProto, TensorProto, ValueInfoProto, data_type};
use super::super::tensor;
use super::Importer;
use super::fault::Fault;
use super::symbolic::{Element, Symbolic};
use crate::graph::{DType, Shape, Tensor, Unread};

/// The largest kernel, stride, pad, … taken for real.
const MAX_ATTRIBUTE: i64 = 1 << 24;

pub struct Call<'a, 'm> {
    pub proto: &'m NodeProto,
    pub opset: i64,
    pub importer: &'a Importer<'m>,
}

impl<'m> Call<'_, 'm> {
    pub fn attribute(&self, name: &str) -> Option<&'m AttributeProto> {
        self.proto.attribute.iter().find(|a| a.name == name)
    }

    pub fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).map_or(default, |a| a.i.unwrap_or(0))
    }

    pub fn flag(&self, name: &str) -> bool {
        self.int(name, 0) != 0
    }

    pub fn float(&self, name: &str, default: f32) -> f32 {
        self.attribute(name).map_or(default, |a| a.f.unwrap_or(0.0))
    }

    pub fn ints(&self, name: &str) -> Option<&'m [i64]> {
        self.attribute(name).map(|a| a.ints.as_slice())
    }

    pub fn text(&self, name: &str, default: &'static str) -> String {
        let bytes = self.attribute(name).and_then(|a| a.s.as_ref());
        bytes.map_or(default.to_string(), |s| String::from_utf8_lossy(s).into_owned())
    }

    /// A list of `count` extents, at least `least` each; `default` where the attribute is missing.
    pub fn sizes(&self, name: &str, count: usize, default: usize, least: i64) -> Result<Vec<usize>, Fault> {
        let Some(list) = self.ints(name).filter(|l| !l.is_empty()) else { return Ok(vec![default; count]) };
        if list.len() != count || list.iter().any(|&n| !(least..=MAX_ATTRIBUTE).contains(&n)) {
            return Err(Fault::Invalid(format!("{name} {list:?}, expected {count} numbers of {least} or more")));
        }
        Ok(list.iter().map(|&n| n as usize).collect())
    }

    /// An axis that may count from the end, among `rank`.
    pub fn resolve_axis(axis: i64, rank: usize) -> Result<usize, Fault> {
        let resolved = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
        match resolved.and_then(|a| usize::try_from(a).ok()).filter(|&a| a < rank) {
            Some(axis) => Ok(axis),
            None => Err(Fault::Invalid(format!("axis {axis} of a rank-{rank} operand"))),
        }
    }

    /// The axis that the attribute `axis` names, among those of the first operand.
    pub fn axis(&self, default: i64) -> Result<usize, Fault> {
        Self::resolve_axis(self.int("axis", default), self.rank(0)?)
    }

    /// Axes that may count from the end, sorted; repeated ones are an error.
    pub fn resolve_axes(axes: &[i64], rank: usize) -> Result<Vec<usize>, Fault> {
        let mut resolved: Vec<usize> = axes.iter().map(|&a| Self::resolve_axis(a, rank)).collect::<Result<_, _>>()?;
        resolved.sort_unstable();
        match resolved.windows(2).any(|w| w[0] == w[1]) {
            true => Err(Fault::Invalid(format!("axes {axes:?} repeat"))),
            false => Ok(resolved),
        }
    }

    /// The name of an operand that is there.
    pub fn operand(&self, index: usize) -> Option<&'m str> {
        self.proto.input.get(index).map(String::as_str).filter(|n| !n.is_empty())
    }

    /// Whether any result beyond the first is asked for.
    pub fn has_side_results(&self) -> bool {
        self.proto.output.iter().skip(1).any(|n| {
            let read = self.importer.readers.get(n.as_str()).is_some_and(|r| !r.is_empty());
            !n.is_empty() && (read || self.importer.output_names.contains(n.as_str()))
        })
    }

    fn wanted(&self, index: usize) -> Result<&'m str, Fault> {
        self.operand(index).ok_or_else(|| Fault::Invalid(format!("operand {index} is missing")))
    }

    /// The shape of an operand; unsupported when an operator before it hides it.
    pub fn shape(&self, index: usize) -> Result<Shape, Fault> {
        let name = self.wanted(index)?;
        if let Some(value) = self.importer.symbolic.get(name) {
            return Ok(value.shape.iter().map(|&n| crate::graph::Dim::Fixed(n)).collect());
        }
        match self.importer.ids.get(name) {
            Some(id) if !self.importer.unknown.contains(id) => Ok(self.importer.graph.value(*id).shape.clone()),
            _ => Err(Fault::Unsupported(format!("the shape of '{name}' is not known").into())),
        }
    }

    /// How many runs of the batch an operand has (see [`super::rebatch`]).
    pub fn runs(&self, index: usize) -> usize {
        let id = self.operand(index).and_then(|name| self.importer.ids.get(name));
        id.and_then(|id| self.importer.runs.get(id)).copied().unwrap_or(1)
    }

    pub fn rank(&self, index: usize) -> Result<usize, Fault> {
        self.shape(index).map(|s| s.len())
    }

    pub fn dtype(&self, index: usize) -> Result<DType, Fault> {
        let name = self.wanted(index)?;
        match (self.importer.symbolic.get(name), self.importer.ids.get(name)) {
            (Some(value), _) => Ok(value.dtype),
            (None, Some(id)) => Ok(self.importer.graph.value(*id).dtype),
            (None, None) => Err(Fault::Invalid(format!("'{name}' is not defined"))),
        }
    }

    /// The ONNX code of an operand's element type, as far as the file says.
    pub fn stated_type(&self, index: usize) -> Option<i32> {
        let named = |v: &&ValueInfoProto| Some(v.name.as_str()) == self.operand(index);
        let mut values = self.importer.file.input.iter().chain(&self.importer.file.value_info);
        let stated = values.find(named).and_then(|v| v.r#type.as_ref()?.tensor_type.as_ref());
        let initializer = self.operand(index).and_then(|name| self.importer.initializers.get(name));
        stated.map(|t| t.elem_type).or(initializer.map(|t| t.data_type))
    }

    /// The contents of a constant operand.
    pub fn tensor(&self, index: usize) -> Option<&Tensor> {
        self.importer.graph.constant(*self.importer.ids.get(self.operand(index)?)?)
    }

    /// Integers known before the network runs, some of which may be the batch.
    pub fn symbolic(&self, index: usize) -> Option<Symbolic> {
        match self.importer.symbolic.get(self.operand(index)?) {
            Some(value) => Some(value.clone()),
            None => Symbolic::from_tensor(self.tensor(index)?),
        }
    }

    /// The elements of an integer operand that has to be known; `what` names it for messages.
    pub fn elements(&self, index: usize, what: &str) -> Result<Vec<Element>, Fault> {
        let known = self.symbolic(index).map(|s| s.elements);
        known.ok_or_else(|| Fault::Unsupported(format!("its {what} are computed while the network runs").into()))
    }

    /// As [`Self::elements`], where the batch will not do.
    pub fn known_ints(&self, index: usize, what: &str) -> Result<Vec<i64>, Fault> {
        let known = self.elements(index, what)?.into_iter().map(Element::known).collect::<Option<_>>();
        known.ok_or_else(|| Fault::Unsupported(format!("its {what} depend on the batch").into()))
    }

    /// Integers that are an attribute in older opsets and an operand since `opset`; `None` when left out.
    pub fn moved_ints(&self, name: &str, index: usize, since: i64) -> Result<Option<Vec<i64>>, Fault> {
        match self.opset < since {
            true => Ok(self.ints(name).map(<[i64]>::to_vec)),
            false if self.operand(index).is_none() => Ok(None),
            false => self.known_ints(index, name).map(Some),
        }
    }

    /// A number that is an operand and has to be constant; `default` when left out.
    pub fn scalar(&self, index: usize, what: &str, default: f32) -> Result<f32, Fault> {
        if self.operand(index).is_none() {
            return Ok(default);
        }
        let unsupported = || Fault::Unsupported(format!("its {what} is computed while the network runs").into());
        let tensor = self.tensor(index).ok_or_else(unsupported)?;
        tensor.to_f32().first().copied().ok_or_else(|| Fault::Invalid(format!("{what} is empty")))
    }

    /// Whether a Dropout drops anything: exported for training, at a rate that is not zero.
    pub fn drops(&self) -> Result<bool, Fault> {
        Ok(self.scalar(2, "training mode", 0.0)? != 0.0 && self.scalar(1, "ratio", 0.5)? != 0.0)
    }

    /// What a `Constant` node holds.
    pub fn constant(&self) -> Result<TensorProto, Fault> {
        let Some(a) = self.proto.attribute.first() else { return Err(Fault::Invalid("has no value".into())) };
        let list = |dims: Vec<i64>, data_type| TensorProto { dims, data_type, ..Default::default() };
        Ok(match (a.name.as_str(), &a.t) {
            ("value", Some(t)) => t.clone(),
            ("value_float", _) => {
                TensorProto { float_data: vec![a.f.unwrap_or(0.0)], ..list(vec![], data_type::FLOAT) }
            }
            ("value_int", _) => TensorProto { int64_data: vec![a.i.unwrap_or(0)], ..list(vec![], data_type::INT64) },
            ("value_floats", _) => {
                TensorProto { float_data: a.floats.clone(), ..list(vec![a.floats.len() as i64], data_type::FLOAT) }
            }
            ("value_ints", _) => {
                TensorProto { int64_data: a.ints.clone(), ..list(vec![a.ints.len() as i64], data_type::INT64) }
            }
            (other, _) => return Err(Fault::Unsupported(format!("a constant given as {other}").into())),
        })
    }

    /// The element type that an attribute names by its ONNX code.
    pub fn dtype_attribute(&self, name: &str) -> Result<DType, Fault> {
        Self::dtype_of(self.int(name, 0) as i32)
    }

    /// The element type of an ONNX code.
    pub fn dtype_of(code: i32) -> Result<DType, Fault> {
        tensor::graph_dtype(code).ok_or_else(|| Fault::Unsupported(Unread::Element(code).into()))
    }
}
