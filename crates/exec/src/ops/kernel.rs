//! The seam: one operator that burn dispatches, behind which every operator of ours is a [`Kernel`].
//!
//! burn's *backend extension* wants a trait with the operator, an implementation for the CPU backend, and one for
//! autodiff over it that registers a backward step. All of that is here, once, for any number of operands. A kernel
//! sees tensors of the CPU backend and knows nothing of dispatch or of the gradient graph.

use super::{CpuTensor, on_cpu};
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{
    Autodiff, AutodiffBackend, Backend, BackendTensor, BackendTypes, DType, Dispatch, DispatchAutodiffContext,
    DispatchTensor, DispatchTensorKind, ExtensionType, Flex, Shape, TensorMetadata, backend_extension,
};
use std::fmt::Debug;
use std::sync::Arc;

/// The most operands of a kernel.
pub const MOST_OPERANDS: usize = 8;

/// A differentiable operator on the CPU: plain functions of f32 tensors, which may be strided views.
pub trait Kernel: Debug + Send + Sync + 'static {
    /// The result, and what the backward pass wants beside the operands. Operands are owned, so that one that nobody
    /// else holds can be written in place.
    fn forward(&self, inputs: Vec<CpuTensor>) -> (CpuTensor, Vec<CpuTensor>);

    /// Whether the backward pass reads an operand. One that it does not is freed early, and is empty there.
    fn keeps(&self, _input: usize) -> bool {
        true
    }

    /// By operand the gradient, where it is wanted, with the operand's shape.
    fn backward(&self, saved: Saved, gradient: CpuTensor, wanted: &[bool]) -> Vec<Option<CpuTensor>>;
}

/// What a backward pass is given.
#[derive(Debug)]
pub struct Saved {
    /// The operands.
    pub inputs: Vec<CpuTensor>,
    /// What the forward pass returned beside its result.
    pub extra: Vec<CpuTensor>,
}

/// Whether [`apply`] takes these operands: f32 on the CPU, all of them.
pub fn takes<'a>(inputs: impl IntoIterator<Item = &'a DispatchTensor>) -> bool {
    inputs.into_iter().all(|t| on_cpu(t) && t.dtype() == DType::F32)
}

/// Runs a kernel. Operands that are not tracked count as constants.
///
/// # Panics
/// With operands that [`takes`] refuses, without any, or with more than [`MOST_OPERANDS`].
pub fn apply(kernel: impl Kernel, inputs: impl IntoIterator<Item = DispatchTensor>) -> DispatchTensor {
    apply_shared(Arc::new(kernel), inputs)
}

/// As [`apply`], for a kernel that the caller goes on to ask.
pub fn apply_shared(kernel: Arc<dyn Kernel>, inputs: impl IntoIterator<Item = DispatchTensor>) -> DispatchTensor {
    let tracked = |t: &DispatchTensor| matches!(t.kind, DispatchTensorKind::Autodiff(_));
    let mut inputs: Vec<DispatchTensor> = inputs.into_iter().collect();
    if inputs.iter().any(tracked) {
        let lifted = |t| if tracked(&t) { t } else { <Dispatch as AutodiffBackend>::from_inner(t) };
        inputs = inputs.into_iter().map(lifted).collect();
    }
    <Dispatch as Custom>::custom(Operands(inputs), kernel)
}

/// Any number of tensors of a backend.
#[derive(Debug)]
pub struct Operands<B: BackendTypes>(Vec<FloatTensor<B>>);

/// The operator that burn dispatches.
#[backend_extension(Flex, Autodiff)]
pub trait Custom: Backend {
    fn custom(#[extension_type] inputs: Operands<Self>, kernel: Arc<dyn Kernel>) -> FloatTensor<Self>;
}

impl Custom for Flex {
    fn custom(inputs: Operands<Flex>, kernel: Arc<dyn Kernel>) -> CpuTensor {
        kernel.forward(inputs.0).0
    }
}

impl<C: CheckpointStrategy> Custom for Autodiff<Flex, C> {
    fn custom(inputs: Operands<Self>, kernel: Arc<dyn Kernel>) -> FloatTensor<Self> {
        match inputs.0.len() {
            1 => record::<C, 1>(inputs.0, kernel),
            2 => record::<C, 2>(inputs.0, kernel),
            3 => record::<C, 3>(inputs.0, kernel),
            4 => record::<C, 4>(inputs.0, kernel),
            5 => record::<C, 5>(inputs.0, kernel),
            6 => record::<C, 6>(inputs.0, kernel),
            7 => record::<C, 7>(inputs.0, kernel),
            8 => record::<C, MOST_OPERANDS>(inputs.0, kernel),
            count => panic!("a kernel takes 1 to {MOST_OPERANDS} operands, not {count}"),
        }
    }
}

type Tracked<C> = FloatTensor<Autodiff<Flex, C>>;

/// Runs a kernel and writes it into the gradient graph, if any operand is there.
fn record<C: CheckpointStrategy, const N: usize>(inputs: Vec<Tracked<C>>, kernel: Arc<dyn Kernel>) -> Tracked<C> {
    let inputs: [Tracked<C>; N] = inputs.try_into().expect("counted before");
    let nodes = inputs.each_ref().map(|input| input.node());
    let plain = |inputs: [Tracked<C>; N]| inputs.into_iter().map(|input| input.into_primitive()).collect();
    match Step.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(mut tracked) => {
            let mut index = 0;
            let nodes = inputs.each_ref().map(|input| {
                index += 1;
                kernel.keeps(index - 1).then(|| tracked.checkpoint(input))
            });
            let (output, extra) = kernel.forward(plain(inputs));
            tracked.finish(State { kernel, nodes, extra }, output)
        }
        OpsKind::UnTracked(untracked) => untracked.finish(kernel.forward(plain(inputs)).0),
    }
}

/// What is kept from the forward to the backward pass.
#[derive(Clone, Debug)]
struct State<const N: usize> {
    kernel: Arc<dyn Kernel>,
    nodes: [Option<NodeId>; N],
    extra: Vec<CpuTensor>,
}

/// The step of the gradient graph.
#[derive(Debug)]
struct Step;

impl<const N: usize> Backward<Flex, N> for Step {
    type State = State<N>;

    fn backward(self, ops: Ops<State<N>, N>, gradients: &mut Gradients, checkpointer: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node);
        let State { kernel, nodes, extra } = ops.state;
        let empty = || CpuTensor::zeros(Shape::from([0]), DType::F32);
        let inputs = nodes.map(|node| node.map_or_else(empty, |node| checkpointer.retrieve_node_output(node)));
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let made = kernel.backward(Saved { inputs: inputs.into(), extra }, gradient, &wanted);
        for (node, gradient) in ops.parents.into_iter().zip(made) {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                gradients.register::<Flex>(node.id, gradient);
            }
        }
    }
}

impl<B: Backend> ExtensionType<B> for Operands<B> {
    type Target = Operands<Dispatch>;

    fn map_to_dispatch<F>(self, map_kind: F, autodiff: DispatchAutodiffContext) -> Operands<Dispatch>
    where
        F: Fn(BackendTensor<B>) -> DispatchTensorKind,
    {
        let one = |tensor| DispatchTensor { kind: map_kind(BackendTensor::Float(tensor)), autodiff };
        Operands(self.0.into_iter().map(one).collect())
    }

    fn map_from_dispatch<F>(target: Operands<Dispatch>, unwrap_kind: F) -> Self
    where
        F: Fn(DispatchTensor) -> BackendTensor<B>,
    {
        Operands(target.0.into_iter().map(|tensor| unwrap_kind(tensor).float()).collect())
    }

    fn routing_tensor(target: &Operands<Dispatch>) -> Option<&DispatchTensor> {
        target.0.first()
    }

    fn routing_float_tensor(target: &Operands<Dispatch>) -> Option<&DispatchTensor> {
        target.0.first()
    }

    fn autodiff_context(target: &Operands<Dispatch>) -> DispatchAutodiffContext {
        target.0.iter().fold(DispatchAutodiffContext::Disabled, |all, tensor| all.merge(tensor.autodiff))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::f32_slice;
    use burn::backend::TensorData;
    use burn::tensor::{Device, Tensor};
    use std::sync::Mutex;

    /// `Σ weight · operand` by element, of which only the first two take part in the gradient.
    #[derive(Debug)]
    struct Weighted {
        kept: usize,
        seen: Arc<Mutex<Vec<Vec<usize>>>>,
    }

    impl Kernel for Weighted {
        fn forward(&self, inputs: Vec<CpuTensor>) -> (CpuTensor, Vec<CpuTensor>) {
            let mut sum = vec![0.0; inputs[0].layout().num_elements()];
            for (i, input) in inputs.iter().enumerate() {
                let input = input.to_contiguous();
                sum.iter_mut().zip(f32_slice(&input).unwrap()).for_each(|(s, x)| *s += (i + 1) as f32 * x * x);
            }
            (CpuTensor::from_data(TensorData::new(sum, inputs[0].layout().shape().clone())), inputs[..1].to_vec())
        }

        fn keeps(&self, input: usize) -> bool {
            input < self.kept
        }

        fn backward(&self, saved: Saved, gradient: CpuTensor, wanted: &[bool]) -> Vec<Option<CpuTensor>> {
            let sizes = saved.inputs.iter().map(|t| t.layout().num_elements()).collect();
            self.seen.lock().unwrap().push(sizes);
            assert_eq!(saved.extra[0].layout().num_elements(), gradient.layout().num_elements());
            let gradient = gradient.to_contiguous();
            let one = |(i, &wanted): (usize, &bool)| {
                let input = saved.inputs[i].to_contiguous();
                let pairs = f32_slice(&input).unwrap().iter().zip(f32_slice(&gradient).unwrap());
                let values: Vec<f32> = pairs.map(|(x, g)| 2.0 * (i + 1) as f32 * x * g).collect();
                wanted.then(|| CpuTensor::from_data(TensorData::new(values, gradient.layout().shape().clone())))
            };
            wanted.iter().enumerate().map(one).collect()
        }
    }

    #[test]
    fn gradients_reach_the_operands_that_are_tracked_and_no_others() {
        let device = Device::flex().autodiff();
        let tensor = |v: [f32; 4], device: &Device| Tensor::<2>::from_data(TensorData::new(v.to_vec(), [2, 2]), device);
        let a = tensor([1.0, 2.0, 3.0, 4.0], &device).require_grad();
        let b = tensor([5.0, 6.0, 7.0, 8.0], &device).require_grad();
        let untracked = tensor([1.0; 4], &device);
        let plain = tensor([2.0; 4], &Device::flex());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kernel = Weighted { kept: 2, seen: seen.clone() };
        // A view, an operand used twice in the graph, one that is not tracked, and one from the plain device.
        let inputs = [a.clone().transpose(), b.clone(), untracked.clone(), plain].map(Tensor::into_dispatch);
        assert!(takes(&inputs));
        let y = Tensor::<2>::from_dispatch(apply(kernel, inputs));
        let numbers = |t: Tensor<2>| t.into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(numbers(y.clone()), [70.0, 100.0, 121.0, 163.0]);
        let gradients = (y + b.clone()).sum().backward();
        assert_eq!(numbers(a.grad(&gradients).unwrap()), [2.0, 4.0, 6.0, 8.0]);
        assert_eq!(numbers(b.grad(&gradients).unwrap()), [21.0, 25.0, 29.0, 33.0]);
        assert!(untracked.grad(&gradients).is_none());
        assert_eq!(*seen.lock().unwrap(), [vec![4, 4, 0, 0]], "one backward pass, without what is not kept");
    }

    #[test]
    fn without_anything_tracked_it_is_a_plain_function() {
        let ones = |device: &Device| Tensor::<2>::ones([2, 3], device);
        let kernel = || Weighted { kept: 0, seen: Arc::default() };
        for device in [Device::flex(), Device::flex().autodiff()] {
            let y = apply(kernel(), [ones(&device).into_dispatch()]);
            assert_eq!(Tensor::<2>::from_dispatch(y).into_data(), ones(&Device::flex()).into_data());
        }
        let doubles = ones(&Device::flex()).cast(burn::tensor::FloatDType::F64);
        assert!(!takes(&[doubles.into_dispatch()]));
    }
}
