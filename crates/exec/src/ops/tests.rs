//! Each kernel against burn's own operators: results and gradients, over random extents, of operands that are views.

use super::*;
use burn::backend::Dispatch;
use burn::tensor::{Device, Tensor, TensorData, activation};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn random(len: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..len).map(|_| rng.random_range(-2.0..2.0)).collect()
}

/// Runs two ways of computing the same on the same operands, and compares results and gradients.
fn agree<const N: usize, const D: usize>(
    what: &str,
    rng: &mut ChaCha8Rng,
    shapes: [Vec<usize>; N],
    ours: impl Fn([DispatchTensor; N]) -> DispatchTensor,
    burns: impl Fn([DispatchTensor; N]) -> DispatchTensor,
) {
    let device = Device::flex().autodiff();
    let numbers: Vec<Vec<f32>> = shapes.iter().map(|s| random(s.iter().product(), rng)).collect();
    let leaves = || -> [Tensor<1>; N] {
        std::array::from_fn(|i| {
            Tensor::from_data(TensorData::new(numbers[i].clone(), [numbers[i].len()]), &device).require_grad()
        })
    };
    let shaped = |leaves: &[Tensor<1>; N]| -> [DispatchTensor; N] {
        std::array::from_fn(|i| {
            let shape = Shape::from(shapes[i].clone());
            <Dispatch as burn::backend::ops::FloatTensorOps<Dispatch>>::float_reshape(
                leaves[i].clone().into_dispatch(),
                shape,
            )
        })
    };
    let mut weights = None;
    let mut run = |f: &dyn Fn([DispatchTensor; N]) -> DispatchTensor| -> Vec<Vec<f32>> {
        let leaves = leaves();
        let y = Tensor::<D>::from_dispatch(f(shaped(&leaves)));
        let dims = y.dims();
        let count = dims.iter().product();
        let weights = weights.get_or_insert_with(|| random(count, rng));
        let w = Tensor::<D>::from_data(TensorData::new(weights.clone(), dims), &device);
        let gradients = (y.clone() * w).sum().backward();
        let values = |data: TensorData| data.iter::<f32>().collect::<Vec<f32>>();
        let mut all = vec![values(y.into_data())];
        all.extend(leaves.iter().map(|leaf| values(leaf.grad(&gradients).expect("a gradient").into_data())));
        all
    };
    let (ours, burns) = (run(&ours), run(&burns));
    for (which, (ours, burns)) in ours.iter().zip(&burns).enumerate() {
        assert_eq!(ours.len(), burns.len());
        let scale = burns.iter().fold(1.0f32, |most, x| most.max(x.abs()));
        for (i, (a, b)) in ours.iter().zip(burns).enumerate() {
            assert!((a - b).abs() <= 1e-4 * scale, "{what} {shapes:?}, {which}[{i}]: {a} against {b}");
        }
    }
}

fn t<const D: usize>(x: &DispatchTensor) -> Tensor<D> {
    Tensor::from_dispatch(x.clone())
}

#[test]
fn linear_layers() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..40 {
        let [a, b, k, n] = [9, 60, 70, 80].map(|most| rng.random_range(1..most));
        let turned = rng.random_bool(0.5);
        let w_shape = if turned { vec![n, k] } else { vec![k, n] };
        let weights = |w: &DispatchTensor| if turned { t::<2>(w).transpose() } else { t::<2>(w) };
        // Rows that are a view, every other time.
        let x_of = |x: &DispatchTensor| if turned { t::<3>(x).swap_dims(0, 1) } else { t::<3>(x) };
        agree::<3, 3>(
            "linear",
            &mut rng,
            [vec![a, b, k], w_shape, vec![n]],
            |[x, w, bias]| linear(x_of(&x).into_dispatch(), weights(&w).into_dispatch(), Some(bias)),
            |[x, w, bias]| {
                let y = x_of(&x).matmul(weights(&w).unsqueeze::<3>());
                (y + t::<1>(&bias).unsqueeze::<3>()).into_dispatch()
            },
        );
    }
    agree::<2, 2>(
        "many weights",
        &mut rng,
        [vec![40, 300], vec![300, 260]],
        |[x, w]| linear(x, w, None),
        |[x, w]| t::<2>(&x).matmul(t(&w)).into_dispatch(),
    );
}

#[test]
fn attention_by_head() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for _ in 0..30 {
        let [batch, heads, queries, keys, width, values] = [4, 4, 80, 40, 20, 20].map(|n| rng.random_range(1..n));
        let factor = 0.3;
        // As an encoder has them: heads split off by a reshape and a transposition.
        let split = |x: &DispatchTensor| t::<4>(x).swap_dims(1, 2);
        agree::<3, 4>(
            "attention",
            &mut rng,
            [vec![batch, queries, heads, width], vec![batch, keys, heads, width], vec![batch, keys, heads, values]],
            |[q, k, v]| {
                let (q, k, v) = (split(&q), split(&k).transpose(), split(&v));
                attention(&q.into_dispatch(), &k.into_dispatch(), &v.into_dispatch(), factor).unwrap()
            },
            |[q, k, v]| {
                let scores = split(&q).matmul(split(&k).transpose()) * factor;
                activation::softmax(scores, 3).matmul(split(&v)).into_dispatch()
            },
        );
    }
}

#[test]
fn layer_norms() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for _ in 0..30 {
        let [rows, length] = [200, 90].map(|most| rng.random_range(2..most));
        agree::<3, 2>(
            "layer norm",
            &mut rng,
            [vec![rows, length], vec![length], vec![length]],
            |operands| layer_norm(operands.into(), 1e-2),
            |[x, scale, bias]| {
                let x = t::<2>(&x);
                let centred = x.clone() - x.mean_dim(1);
                let variance = (centred.clone() * centred.clone()).mean_dim(1);
                let normal = centred / (variance + 1e-2).sqrt();
                (normal * t::<1>(&scale).unsqueeze::<2>() + t::<1>(&bias).unsqueeze::<2>()).into_dispatch()
            },
        );
    }
}

#[test]
fn functions_of_elements() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    type Burns = fn(Tensor<1>) -> Tensor<1>;
    let functions: [(Function, Burns); 10] = [
        (Function::Relu, activation::relu),
        (Function::LeakyRelu { alpha: 0.1 }, |x| activation::leaky_relu(x, 0.1)),
        (Function::Clip { min: -0.5, max: 1.0 }, |x| x.clamp(-0.5, 1.0)),
        (Function::Sigmoid, activation::sigmoid),
        (Function::Tanh, activation::tanh),
        (Function::Gelu, |x| x.clone() * ((x * std::f32::consts::FRAC_1_SQRT_2).erf() + 1.0) * 0.5),
        (Function::GeluTanh, |x| {
            let inner = (x.clone() + x.clone() * x.clone() * x.clone() * 0.044715) * 0.797_884_6;
            x * (inner.tanh() + 1.0) * 0.5
        }),
        (Function::HardSigmoid { alpha: 0.2, beta: 0.5 }, |x| (x * 0.2 + 0.5).clamp(0.0, 1.0)),
        (Function::HardSwish, |x| x.clone() * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        (Function::Silu, |x| x.clone() * activation::sigmoid(x)),
    ];
    for (function, burns) in functions {
        for count in [1, 15, 16, 1000, 40_001] {
            // Five times as wide: the tails as well.
            agree::<1, 1>(
                &format!("{function:?}"),
                &mut rng,
                [vec![count]],
                |[x]| function.of((t::<1>(&x) * 5.0).into_dispatch()),
                |[x]| burns(t::<1>(&x) * 5.0).into_dispatch(),
            );
        }
    }
}

#[test]
fn windows() {
    use burn::tensor::module::{avg_pool2d, max_pool2d};
    use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for case in 0..60 {
        let kernel = [0, 1].map(|_| rng.random_range(1..5));
        let stride = [0, 1].map(|_| rng.random_range(1..4));
        let dilation = [0, 1].map(|_| if case % 2 == 0 { rng.random_range(1..3) } else { 1 });
        let pads = kernel.map(|k: usize| [0, 1].map(|_| rng.random_range(0..=k / 2)));
        let span = [0, 1].map(|d| (kernel[d] - 1) * dilation[d] + 1);
        let extent = span.map(|span: usize| span + rng.random_range(0..if case % 7 == 0 { 90 } else { 9 }));
        let [images, channels] = [4, 5].map(|most| rng.random_range(1..most));
        let output = [0, 1].map(|d| (extent[d] + pads[d][0] + pads[d][1] - span[d]) / stride[d] + 1);
        let three = |v: [usize; 2], one: usize| [one, v[0], v[1]];
        let geometry = PoolGeometry {
            kernel: three(kernel, 1),
            strides: three(stride, 1),
            dilations: three(dilation, 1),
            begin: three(pads.map(|p| p[0]), 0),
            input: three(extent, 1),
            output: three(output, 1),
        };
        let shape = [images, channels, output[0], output[1]];
        let padding = pads.map(|[begin, end]| (begin, end));
        // An operand that is a view.
        let view = |x: &DispatchTensor| t::<4>(x).swap_dims(0, 1);
        let operand = vec![channels, images, extent[0], extent[1]];
        agree::<1, 4>(
            "the largest",
            &mut rng,
            [operand.clone()],
            |[x]| max_pool(view(&x).into_dispatch(), geometry.clone(), &shape),
            |[x]| {
                let options = MaxPoolOptions { kernel_size: kernel, stride, padding, dilation, ceil_mode: false };
                max_pool2d(view(&x), options).into_dispatch()
            },
        );
        if dilation == [1, 1] {
            let shares = [0, 1].map(|d| vec![1.0 / kernel[d] as f32; output[d]]);
            agree::<1, 4>(
                "the mean",
                &mut rng,
                [operand],
                |[x]| {
                    let [rows, columns] = shares.clone();
                    average_pool(view(&x).into_dispatch(), geometry.clone(), &shape, [vec![1.0], rows, columns])
                },
                |[x]| {
                    let options = AvgPoolOptions {
                        kernel_size: kernel,
                        stride,
                        padding,
                        ceil_mode: false,
                        count_include_pad: true,
                    };
                    avg_pool2d(view(&x), options).into_dispatch()
                },
            );
        }
    }
}

#[test]
fn the_largest_is_the_first_of_equals_and_a_number_that_is_none_stays() {
    let x = |values: &[f32]| {
        Tensor::<4>::from_data(TensorData::new(values.to_vec(), [1, 1, 3, 3]), &Device::flex().autodiff())
    };
    let whole = PoolGeometry {
        kernel: [1, 3, 3],
        strides: [1; 3],
        dilations: [1; 3],
        begin: [0; 3],
        input: [1, 3, 3],
        output: [1; 3],
    };
    let pooled = |x: Tensor<4>| Tensor::<4>::from_dispatch(max_pool(x.into_dispatch(), whole.clone(), &[1, 1, 1, 1]));
    let values = |t: Tensor<4>| t.into_data().iter::<f32>().collect::<Vec<f32>>();
    let equal = x(&[0.0, 0.0, 2.0, 2.0, 0.0, 2.0, 2.0, 2.0, 2.0]).require_grad();
    let gradients = pooled(equal.clone()).sum().backward();
    assert_eq!(values(equal.grad(&gradients).unwrap()), [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    let low = x(&[f32::NEG_INFINITY; 9]);
    assert_eq!(values(pooled(low)), [f32::NEG_INFINITY]);
    for place in 0..9 {
        let mut with = [1.0; 9];
        with[place] = f32::NAN;
        assert!(values(pooled(x(&with)))[0].is_nan(), "{place}");
    }
}
