//! Operators of our own: the two that decide how long training on a CPU takes.
//!
//! burn's CPU backend runs a convolution's weight gradient as a convolution on swapped dimensions and batch norm as a
//! chain of element-wise passes; together they are most of a training step of a small network. Here both are single
//! operators with kernels made for the purpose ([`conv`], [`batch_norm`]), reached through burn's *backend extension*:
//! a trait that is implemented for the CPU backend with our kernels and for autodiff over any backend with a backward
//! pass. A tensor on another device (CUDA, wgpu) goes to burn's own operators. Further operators need none of that:
//! each is a [`kernel::Kernel`], and [`kernel::apply`] does the rest.
//!
//! Results do not depend on the number of threads: work is cut into blocks by the geometry alone, and partial sums are
//! added in the order of the blocks.

mod attention;
mod batch_norm;
mod buffer;
mod conv;
mod function;
pub mod kernel;
mod layer_norm;
mod linear;
mod math;
mod matmul;
#[cfg(test)]
mod tests;

pub use attention::attention;
pub use batch_norm::{Form, Statistics, batch_norm_train};
pub use buffer::keep_memory;
pub use conv::{ConvNorm, conv_norm, conv2d};
pub use function::Function;
pub use layer_norm::layer_norm;
pub use linear::linear;

use burn::backend::tensor::FloatTensor;
use burn::backend::{DType, DispatchTensor, DispatchTensorKind, Flex, Shape, TensorData};

/// A tensor of the CPU backend.
type CpuTensor = FloatTensor<Flex>;

/// Whether a tensor is on burn's CPU backend, tracked or not.
fn on_cpu(tensor: &DispatchTensor) -> bool {
    let flex = |kind: &DispatchTensorKind| matches!(kind, DispatchTensorKind::Flex(_));
    match &tensor.kind {
        DispatchTensorKind::Autodiff(inner) => flex(inner),
        kind => flex(kind),
    }
}

/// The numbers of a contiguous tensor; none if they are not f32.
fn f32_slice(tensor: &CpuTensor) -> Option<&[f32]> {
    (tensor.dtype() == DType::F32).then(|| tensor.as_slice::<f32>())?
}

/// The numbers of a contiguous tensor that [`kernel::takes`] has let pass.
fn numbers(tensor: &CpuTensor) -> &[f32] {
    f32_slice(tensor).expect("kernels are given f32")
}

fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> CpuTensor {
    CpuTensor::from_data(TensorData::new(values, shape.into()))
}
