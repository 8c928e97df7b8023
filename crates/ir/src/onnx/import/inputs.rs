//! What the graph's inputs are, by the file and by what the user said of them.

use super::{Importer, check_size};
use crate::graph::{Dim, Shape, Unread, Value};
use crate::onnx::proto::DimensionProto;
use crate::onnx::{Error, tensor};
use std::collections::HashSet;

impl Importer<'_> {
    /// Graph inputs, less those that only give an initializer a type (files before IR version 4).
    pub(super) fn inputs(&mut self) -> Result<(), Error> {
        let mut open = vec![];
        let names: HashSet<&str> = self.file.input.iter().map(|v| v.name.as_str()).collect();
        if let Some(name) =
            self.given.shapes.keys().chain(self.given.values.keys()).find(|n| !names.contains(n.as_str()))
        {
            let names: Vec<&str> = self.file.input.iter().map(|v| v.name.as_str()).collect();
            let what = format!("the model has no such input; its inputs are {}", names.join(", "));
            return Err(Error::Value { value: name.clone(), what });
        }
        for input in self.file.input.iter().filter(|v| !self.initializers.contains_key(v.name.as_str())) {
            let invalid = |what: &str| Error::Value { value: input.name.clone(), what: what.into() };
            if input.name.is_empty() || self.ids.contains_key(input.name.as_str()) {
                return Err(invalid("inputs need distinct names"));
            }
            if let Some(value) = self.given.values.get(&input.name) {
                let id = self.graph.add_constant(&input.name, value.clone());
                self.ids.insert(&input.name, id);
                continue;
            }
            let stated = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
            let unread = |unread| Error::Unread { value: input.name.clone(), unread };
            let stated = stated.ok_or_else(|| unread(Unread::NoTensor))?;
            let dtype =
                tensor::graph_dtype(stated.elem_type).ok_or_else(|| unread(Unread::Element(stated.elem_type)))?;
            let dims = &stated.shape.as_ref().ok_or_else(|| invalid("this input has no shape"))?.dim;
            let shape = self.input_shape(&input.name, dims, &mut open)?;
            check_size(&shape).map_err(|what| invalid(&what))?;
            let value = Value { name: input.name.clone(), dtype, shape, data: None, quant: None };
            let id = self.graph.add_value(value);
            self.ids.insert(&input.name, id);
            self.graph.inputs.push(id);
        }
        if open.is_empty() { Ok(()) } else { Err(Error::Symbolic(open)) }
    }

    /// The extents of an input, as far as the file or the user says them; the rest is noted as open.
    fn input_shape(&self, name: &str, dims: &[DimensionProto], open: &mut Vec<String>) -> Result<Shape, Error> {
        let invalid = |what: String| Error::Value { value: name.into(), what };
        let given = self.given.shapes.get(name);
        if let Some(given) = given.filter(|g| g.len() != dims.len()) {
            return Err(invalid(format!("{given:?} was given for {} extents", dims.len())));
        }
        let mut shape = Shape::new();
        for (axis, dim) in dims.iter().enumerate() {
            let said = given.map(|g| g[axis]);
            shape.push(match (dim.dim_value.filter(|&n| n > 0), said) {
                (Some(n), _) if axis == 0 && self.rebatch == usize::try_from(n).ok() => Dim::Batch,
                (Some(n), said) => match usize::try_from(n) {
                    Ok(n) if said.is_none_or(|s| s == n) => Dim::Fixed(n),
                    Ok(n) => return Err(invalid(format!("its extent {axis} is {n}, {} was given", said.unwrap_or(n)))),
                    Err(_) => return Err(invalid("an extent is too large".into())),
                },
                // Of nothing there is no batch.
                (None, Some(0)) => Dim::Fixed(0),
                (None, _) if axis == 0 => Dim::Batch,
                (None, Some(n)) => Dim::Fixed(n),
                (None, None) => {
                    let symbol = dim.dim_param.as_deref().filter(|p| !p.is_empty()).unwrap_or("unnamed");
                    open.push(format!("'{symbol}' (axis {axis} of input '{name}')"));
                    Dim::Fixed(1)
                }
            });
        }
        Ok(shape)
    }
}
