//! A convolution with the batch norm that follows it, the addition of a skip connection and a ReLU: the block of every
//! residual network, as one operator. The moments of the convolution's results are taken while those are in the cache,
//! and the gradient of the convolution's result is never written to memory: it is computed as the backward pass of the
//! convolution loads it.

use super::passes;
use super::{geometry, result_shape};
use crate::ops::batch_norm::{Form, Moments, Norm, Statistics, masked};
use crate::ops::kernel::{Kernel, Saved, apply_shared};
use crate::ops::{CpuTensor, numbers, tensor};
use burn::backend::DispatchTensor;
use burn::tensor::ops::ConvOptions;
use std::sync::{Arc, OnceLock};

/// What the operator's nodes fix.
#[derive(Clone, Debug)]
pub struct ConvNorm {
    pub options: ConvOptions<2>,
    pub form: Form,
}

/// Of input and weights of a convolution without bias, scale and bias of the batch norm, and a tensor of the result's
/// shape to be added if there is one; all of them such that [`super::kernel::takes`] takes them. The result and the
/// statistics of this batch.
pub fn conv_norm(form: ConvNorm, operands: Vec<DispatchTensor>) -> (DispatchTensor, Statistics) {
    let kernel = Arc::new(Fused { form, statistics: OnceLock::new() });
    let output = apply_shared(kernel.clone(), operands);
    (output, kernel.statistics.get().cloned().unwrap_or_default())
}

#[derive(Debug)]
struct Fused {
    form: ConvNorm,
    statistics: OnceLock<Statistics>,
}

const SKIP: usize = 4;

impl Kernel for Fused {
    fn forward(&self, inputs: Vec<CpuTensor>) -> (CpuTensor, Vec<CpuTensor>) {
        let inputs: Vec<CpuTensor> = inputs.iter().map(CpuTensor::to_contiguous).collect();
        let g = geometry(&inputs[0], &inputs[1], &self.form.options);
        let shape = result_shape(&g);
        let (inner, moments) = passes::forward(numbers(&inputs[0]), numbers(&inputs[1]), &g, true);
        let statistics = Moments::statistics(&moments);
        let norm = Norm::new(statistics, numbers(&inputs[2]), numbers(&inputs[3]), self.form.form);
        let y = tensor(norm.output(&inner, inputs.get(SKIP).map(numbers), shape), shape);
        _ = self.statistics.set(norm.statistics);
        let mut extra = vec![tensor(inner, shape)];
        // With an addition in between, what the ReLU cut off is known by its result alone.
        extra.extend((self.form.form.relu && inputs.len() > SKIP).then(|| y.clone()));
        (y, extra)
    }

    fn keeps(&self, input: usize) -> bool {
        input != SKIP
    }

    fn backward(&self, saved: Saved, gradient: CpuTensor, wanted: &[bool]) -> Vec<Option<CpuTensor>> {
        let [x, weights, scale, bias] = [0, 1, 2, 3].map(|i| saved.inputs[i].to_contiguous());
        let mut gradient = gradient.to_contiguous();
        let g = geometry(&x, &weights, &self.form.options);
        let shape = result_shape(&g);
        let (inner, mut form) = (numbers(&saved.extra[0]), self.form.form);
        if let Some(y) = saved.extra.get(1) {
            (gradient, form.relu) = (tensor(masked(numbers(y), numbers(&gradient)), shape), false);
        }
        let statistics = self.statistics.get().cloned().unwrap_or_default();
        let norm = Norm::new(statistics, numbers(&scale), numbers(&bias), form);
        let slopes = norm.slopes(inner, numbers(&gradient), shape);
        let plane = |image: usize, channel: usize, out: &mut [f32]| slopes.input_gradient(image, channel, out);
        let made = passes::backward(numbers(&x), numbers(&weights), &g, plane, [wanted[0], wanted[1]]);
        let shaped = |made: Option<Vec<f32>>, like: &CpuTensor| Some(tensor(made?, like.layout().shape().clone()));
        let [by_input, by_weights] = made;
        let [by_scale, by_bias] = slopes.parameters().map(|values| tensor(values, [g.output[0]]));
        let all = [shaped(by_input, &x), shaped(by_weights, &weights), Some(by_scale), Some(by_bias), Some(gradient)];
        all.into_iter().zip(wanted).map(|(made, &wanted)| made.filter(|_| wanted)).collect()
    }
}
