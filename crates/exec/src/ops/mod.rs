//! Operators of our own: those that decide how long training on a CPU takes.
//!
//! burn's CPU backend runs a convolution's weight gradient as a convolution on swapped dimensions, and batch norm, layer
//! norm, attention and GELU as chains of element-wise passes; together they are nearly all of a training step of a small
//! network. Here each is a single operator with kernels made for the purpose: a [`kernel::Kernel`] is plain functions of
//! the CPU backend's tensors, and [`kernel::apply`] meets burn's dispatch and gradient graph for all of them. A tensor on
//! another device (CUDA, wgpu) goes to burn's own operators. Vectors are chosen at run time (AVX-512, AVX2, NEON or none).
//!
//! In these kernels, loops are written out rather than given to closures: what is in a closure is compiled without the
//! vector instructions of the function around it, and called for each vector.
//! Loops over registers run over indices and not over iterators, and copy elements and not slices: with debug assertions,
//! which are on, the checks inside iterators keep such loops from being unrolled and the sums from registers (a convolution
//! took 3.4 times as long). For the same reason methods of pulp that are not always inlined, as `abs_f32s`, are spelt out
//! (a Gelu took 6.7 times as long).
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
mod pool;
mod recurrent;
#[cfg(test)]
mod tests;

pub use attention::attention;
pub use batch_norm::{Form, Statistics, batch_norm_train};
pub use buffer::keep_memory;
pub use conv::{ConvNorm, conv_norm, conv2d};
pub use function::Function;
pub use layer_norm::layer_norm;
pub use linear::linear;
pub use pool::{PoolGeometry, average_pool, max_pool};
pub use recurrent::{Recurrence, recurrent};

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
