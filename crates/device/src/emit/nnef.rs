//! A float student as NNEF, the Khronos exchange format, in the dialect of tract.
//!
//! In: the student's ONNX file. Out: a gzipped tar that tract-core and tract-nnef read without any ONNX code, which is
//! what a small program on a board wants. tract's *decluttered* model is written: normalised, but without the
//! operators that its optimiser makes for one machine.

mod names;

use flate2::{Compression, GzBuilder};
use kdc_ir::graph::{Data, Dim, Tensor};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tract_nnef::internal::{TractResult, format_err};
use tract_nnef::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;

/// Why there is no NNEF file, or none that works.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NnefError {
    /// tract does not take the ONNX file, or has no NNEF for an operator.
    #[error("the student cannot be written as NNEF: {what}; leave nnef out of --emit")]
    Write { what: String },
    /// The file does not load or run.
    #[error("the NNEF file does not run: {what}")]
    Run { what: String },
}

/// The ONNX model as `.nnef.tgz`. Inputs and outputs keep the names that NNEF can spell; the others get new ones, which a
/// comment at the start of `graph.nnef` sets beside the old. The same model gives the same bytes.
///
/// `inputs` are the inputs' shapes; [`Dim::Batch`] stays symbolic.
///
/// # Errors
/// Names the operator that tract cannot read or write.
pub fn nnef(onnx_model: &[u8], inputs: &[Vec<Dim>]) -> Result<Vec<u8>, NnefError> {
    let write = || -> TractResult<Vec<u8>> {
        use tract_onnx::prelude::{Framework, InferenceFact, InferenceModelExt};
        let mut bytes = onnx_model;
        let onnx = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
        let mut model = onnx.model_for_read(&mut bytes)?;
        let batch = model.symbols.sym("batch");
        let extent = |dim: &Dim| match dim {
            Dim::Fixed(n) => TDim::from(*n as i64),
            Dim::Batch => batch.clone().into(),
            Dim::Batches(times) => TDim::from(batch.clone()) * *times,
        };
        for (index, input) in inputs.iter().enumerate() {
            let shape: TVec<TDim> = input.iter().map(extent).collect();
            let element = model.input_fact(index)?.datum_type.concretize().unwrap_or(DatumType::F32);
            model.set_input_fact(index, InferenceFact::dt_shape(element, shape))?;
        }
        let mut model = model.into_typed()?.into_decluttered()?;
        let renamed = names::rename(&mut model)?;
        // Who made the ONNX file is said elsewhere, and would be all that differs between two equal students.
        model.properties.clear();
        let mut tar = Vec::new();
        tract_nnef::nnef().write_to_tar_with_config(&model, &mut tar, false, true)?;
        let tar = names::with_table(&tar, &renamed)?;
        // No time and no name in the header.
        let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
        std::io::Write::write_all(&mut gzip, &tar)?;
        Ok(gzip.finish()?)
    };
    // tract checks most of a model, but not all, before it relies on it.
    let written = catch_unwind(AssertUnwindSafe(write)).unwrap_or_else(|_| Err(format_err!("tract panicked")));
    written.map_err(|e| NnefError::Write { what: format!("{e:#}") })
}

/// The first output for some inputs, computed from the NNEF file by tract-core and tract-nnef alone, as a board would.
///
/// # Errors
/// When the file does not load, or does not take these inputs.
pub fn reload_and_run(nnef: &[u8], inputs: &[Tensor]) -> Result<Tensor, NnefError> {
    let run = || -> TractResult<Tensor> {
        let mut bytes = nnef;
        let mut model = tract_nnef::nnef().model_for_read(&mut bytes)?;
        for (index, input) in inputs.iter().enumerate() {
            let shape: TVec<TDim> = input.shape.iter().map(|&n| TDim::from(n as i64)).collect();
            let declared = model.input_fact(index)?.shape.to_tvec();
            if declared.len() == shape.len() && declared.iter().zip(&shape).any(|(d, s)| d != s) {
                let symbols = declared.iter().zip(&shape).filter_map(|(d, s)| match d {
                    TDim::Sym(symbol) => Some((symbol.clone(), s.clone())),
                    _ => None,
                });
                model = model.set_symbols(&symbols.collect())?;
            }
        }
        let plan = model.into_optimized()?.into_runnable()?;
        let value = |input: &Tensor| -> TractResult<TValue> {
            let value = match &input.data {
                Data::I64(v) => tract_nnef::prelude::Tensor::from_shape(&input.shape, v)?,
                Data::I32(v) => tract_nnef::prelude::Tensor::from_shape(&input.shape, v)?,
                _ => tract_nnef::prelude::Tensor::from_shape(&input.shape, &input.to_f32())?,
            };
            Ok(value.into())
        };
        let outputs = plan.run(inputs.iter().map(value).collect::<TractResult<TVec<TValue>>>()?)?;
        let output = outputs[0].cast_to::<f32>()?;
        let values = output.to_plain_array_view::<f32>()?.iter().copied().collect();
        Ok(Tensor::f32(output.shape(), values))
    };
    let run = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(format_err!("tract panicked")));
    run.map_err(|e| NnefError::Run { what: format!("{e:#}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kdc_train::data::{SampleView, Sidecar};
    use kdc_train::teacher::{self, EngineChoice};
    use std::path::Path;

    fn images(n: usize) -> Tensor {
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/fashion/teacher.onnx");
        let sidecar = Sidecar::find(&model).unwrap().unwrap();
        let data = kdc_train::data::load(&sidecar, &model.with_file_name("data"), &kdc_ir::onnx::load(&model).unwrap());
        data.unwrap().test.batch(&SampleView::plain(0..n)).remove(0)
    }

    fn shape(batch: Dim) -> [Vec<Dim>; 1] {
        [vec![batch, Dim::Fixed(1), Dim::Fixed(28), Dim::Fixed(28)]]
    }

    #[test]
    fn the_reloaded_network_answers_as_the_onnx_file() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/fashion/teacher.onnx");
        let model = std::fs::read(&path).unwrap();
        let teacher = teacher::open(&path, &[], EngineChoice::Tract, teacher::UNCOMPARED).unwrap();
        for (dim, n) in [(Dim::Batch, 5), (Dim::Fixed(1), 1)] {
            let file = nnef(&model, &shape(dim)).unwrap();
            assert_eq!(file, nnef(&model, &shape(dim)).unwrap(), "two runs, other bytes");
            let (input, wanted) = (images(n), teacher.run(&[images(n)]).unwrap().outputs.remove(0));
            let got = reload_and_run(&file, std::slice::from_ref(&input)).unwrap();
            assert_eq!(got.shape, wanted.shape);
            let worst = got.to_f32().iter().zip(wanted.to_f32().iter()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-4, "they differ by {worst}");

            let mut bytes = file.as_slice();
            let reloaded = tract_nnef::nnef().model_for_read(&mut bytes).unwrap();
            assert_eq!(reloaded.node(reloaded.input_outlets().unwrap()[0].node).name, "image");
            let output = reloaded.output_outlets().unwrap()[0];
            assert_eq!(reloaded.outlet_label(output), Some("logits"));
        }
    }

    #[test]
    fn other_networks_survive_as_well() {
        let Some(folder) = std::env::var_os("KDC_DATA") else {
            return eprintln!("skipped: set KDC_DATA to a folder that has models/");
        };
        let networks: [(&str, &[usize]); 5] = [
            ("cifar10-resnet56", &[3, 32, 32]),
            ("mlperf-tiny-ic-resnet8", &[32, 32, 3]),
            ("mlperf-tiny-kws-dscnn", &[49, 10, 1]),
            ("mlperf-tiny-vww-mobilenetv1", &[96, 96, 3]),
            ("mlperf-tiny-ad-autoencoder", &[640]),
        ];
        for (name, sample) in networks {
            let path = Path::new(&folder).join("models").join(name).with_extension("onnx");
            let model = std::fs::read(&path).unwrap();
            let dims: Vec<Dim> = std::iter::once(Dim::Batch).chain(sample.iter().map(|&n| Dim::Fixed(n))).collect();
            let file = nnef(&model, &[dims]).unwrap_or_else(|e| panic!("{name}: {e}"));
            let shape = [&[1], sample].concat();
            let n = shape.iter().product();
            let input = Tensor::f32(shape, (0..n).map(|i| ((i * 7919) % 255) as f32 / 255.0).collect());
            let got = reload_and_run(&file, std::slice::from_ref(&input)).unwrap_or_else(|e| panic!("{name}: {e}"));
            let teacher = teacher::open(&path, &[], EngineChoice::Tract, teacher::UNCOMPARED).unwrap();
            let wanted = teacher.run(std::slice::from_ref(&input)).unwrap().outputs.remove(0);
            assert_eq!(got.shape, wanted.shape, "{name}");
            let worst = got.to_f32().iter().zip(wanted.to_f32().iter()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-3, "{name} differs by {worst}");
        }
    }

    #[test]
    fn what_cannot_be_written_or_run_is_an_error() {
        assert!(matches!(nnef(b"no model", &shape(Dim::Batch)), Err(NnefError::Write { .. })));
        assert!(matches!(reload_and_run(b"no file", &[images(1)]), Err(NnefError::Run { .. })));
        assert!(matches!(reload_and_run(&[], &[images(1)]), Err(NnefError::Run { .. })));
    }
}
