//! The same cases on tract.

use kdc::graph::{Data, Tensor};
use prost::Message;
use std::fs;
use std::path::Path;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::GenericFactoid;

/// The outputs by tract: with the inputs' shapes, and if that is not enough with what is an integer or a scalar given
/// beforehand, as for kdc.
///
/// # Errors
/// Why tract cannot run it.
pub fn on_tract(path: &Path, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, String> {
    let stored = |i: usize| {
        let bytes = fs::read(path.join("test_data_set_0").join(format!("input_{i}.pb"))).map_err(|e| e.to_string())?;
        let proto = tract_onnx::pb::TensorProto::decode(&*bytes).map_err(|e| e.to_string())?;
        tract_onnx::tensor::load_tensor(&tract_onnx::data_resolver::MmapDataResolver, &proto, None)
            .map_err(|e| format!("{e:#}"))
    };
    let stored: Vec<tract_onnx::prelude::Tensor> = (0..inputs.len()).map(stored).collect::<Result<_, _>>()?;
    let said = |fixed: bool| outputs(path, &stored, fixed).map_err(|e| format!("{e:#}"));
    said(false).or_else(|_| said(true))?.iter().map(read).collect()
}

fn outputs(
    path: &Path,
    inputs: &[tract_onnx::prelude::Tensor],
    fixed: bool,
) -> TractResult<Vec<tract_onnx::prelude::Tensor>> {
    // Shapes of inner values may have been stated for another batch.
    let onnx = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
    let mut model = onnx.model_for_path(path.join("model.onnx"))?;
    let mut given = tvec!();
    for (i, tensor) in inputs.iter().enumerate() {
        let constant = fixed && i > 0 && (tensor.datum_type().is_integer() || tensor.len() <= 1);
        let mut fact = InferenceFact::dt_shape(tensor.datum_type(), tensor.shape());
        if constant {
            fact.value = GenericFactoid::Only(tensor.clone().into_arc_tensor());
        }
        model.set_input_fact(i, fact)?;
        given.push(tensor.clone().into_tvalue());
    }
    let outputs = model.into_optimized()?.into_runnable()?.run(given)?;
    Ok(outputs.into_iter().map(|o| o.into_tensor()).collect())
}

fn read(tensor: &tract_onnx::prelude::Tensor) -> Result<Tensor, String> {
    let cast = |to: DatumType| tensor.cast_to_dt(to).map_err(|e| format!("{e:#}"));
    let data = match tensor.datum_type() {
        DatumType::Bool => Data::Bool(slice(tensor)?),
        dtype if dtype.is_float() => Data::F32(slice(&*cast(DatumType::F32)?)?.into()),
        _ => Data::I64(slice(&*cast(DatumType::I64)?)?),
    };
    Ok(Tensor::new(tensor.shape().to_vec(), data))
}

fn slice<T: tract_onnx::prelude::Datum + Copy>(tensor: &tract_onnx::prelude::Tensor) -> Result<Vec<T>, String> {
    let view = tensor.to_plain_array_view::<T>().map_err(|e| format!("{e:#}"))?;
    Ok(view.iter().copied().collect())
}
