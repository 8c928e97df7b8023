use super::kernels::{Convolve, Correlate, OVERRUN};
use super::*;
use crate::ops::Form;
use burn::backend::ops::FloatTensorOps;
use burn::backend::{Dispatch, DispatchTensor};
use burn::tensor::{Device, TensorData, activation};
use pulp::{Scalar, Simd, WithSimd};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Images, input channels, height, width; output channels; kernel; the options.
type Case = (usize, usize, usize, usize, usize, [usize; 2], ConvOptions<2>);

fn options(stride: [usize; 2], pad: [usize; 2], dilation: [usize; 2], groups: usize) -> ConvOptions<2> {
    ConvOptions::new(stride, pad, dilation, groups)
}

fn cases() -> Vec<Case> {
    let plain = |pad| options([1, 1], [pad, pad], [1, 1], 1);
    vec![
        (3, 5, 9, 7, 6, [3, 3], plain(1)),
        (2, 1, 28, 28, 8, [3, 3], plain(1)),
        (40, 12, 7, 7, 20, [3, 3], plain(1)),
        (2, 9, 6, 5, 11, [1, 1], plain(0)),
        (3, 4, 11, 10, 7, [3, 3], options([2, 2], [1, 1], [1, 1], 1)),
        (3, 4, 11, 10, 7, [1, 1], options([2, 2], [0, 0], [1, 1], 1)),
        (2, 3, 13, 9, 5, [5, 3], options([3, 1], [2, 0], [1, 1], 1)),
        (2, 3, 12, 12, 4, [3, 3], options([1, 1], [2, 2], [2, 2], 1)),
        (2, 3, 14, 11, 4, [3, 2], options([2, 3], [3, 1], [3, 2], 1)),
        (3, 6, 8, 8, 6, [3, 3], options([1, 1], [1, 1], [1, 1], 6)),
        (3, 6, 9, 8, 12, [3, 3], options([2, 2], [1, 1], [1, 1], 6)),
        (2, 8, 7, 6, 12, [3, 3], options([1, 1], [1, 1], [1, 1], 4)),
        (1, 2, 3, 3, 17, [3, 3], plain(0)),
        (2, 2, 1, 16, 3, [1, 5], options([1, 2], [0, 2], [1, 1], 1)),
        (2, 3, 8, 8, 4, [2, 2], options([2, 2], [3, 3], [1, 1], 1)),
        (2, 3, 7, 8, 4, [2, 4], ConvOptions::new_with_padding([2, 1], [(0, 1), (2, 1)], [1, 1], 1)),
        (2, 4, 9, 7, 4, [4, 3], ConvOptions::new_with_padding([1, 2], [(3, 0), (0, 2)], [1, 1], 2)),
    ]
}

fn random(len: usize, random: &mut ChaCha8Rng) -> Vec<f32> {
    (0..len).map(|_| random.random_range(-1.0..1.0)).collect()
}

/// Every sum of a convolution, as `visit(y, x, w)` with flat indices, from the definition.
fn naive(case: &Case, pads: [usize; 2], out: [usize; 2], mut visit: impl FnMut(usize, usize, usize)) {
    let (images, ins, h, w, outs, [kh, kw], ref o) = *case;
    let (group_in, group_out) = (ins / o.groups, outs / o.groups);
    for n in 0..images {
        for oc in 0..outs {
            for (y, x) in (0..out[0]).flat_map(|y| (0..out[1]).map(move |x| (y, x))) {
                for c in 0..group_in {
                    for (a, b) in (0..kh).flat_map(|a| (0..kw).map(move |b| (a, b))) {
                        let row = (y * o.stride[0] + a * o.dilation[0]).wrapping_sub(pads[0]);
                        let column = (x * o.stride[1] + b * o.dilation[1]).wrapping_sub(pads[1]);
                        if row < h && column < w {
                            let ic = oc / group_out * group_in + c;
                            visit(
                                ((n * outs + oc) * out[0] + y) * out[1] + x,
                                ((n * ins + ic) * h + row) * w + column,
                                ((oc * group_in + c) * kh + a) * kw + b,
                            );
                        }
                    }
                }
            }
        }
    }
}

fn close(got: &[f32], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(*g) - w).abs() <= 2e-6 * scale, "{what}[{i}]: {g} against {w}");
    }
}

/// Through autodiff, as a network runs it: the output and the gradients of both operands.
#[test]
fn output_and_gradients_are_those_of_the_definition() {
    let device = Device::flex().autodiff();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for case in cases() {
        let (images, ins, h, w, outs, [kh, kw], ref o) = case;
        let weight_shape = [outs, ins / o.groups, kh, kw];
        let xs = random(images * ins * h * w, &mut rng);
        let ws = random(weight_shape.iter().product(), &mut rng);
        let tensor = |v: &[f32], shape: [usize; 4]| Tensor::<4>::from_data(TensorData::new(v.to_vec(), shape), &device);
        let x = tensor(&xs, [images, ins, h, w]).require_grad();
        let weights = tensor(&ws, weight_shape).require_grad();
        let y = conv2d(x.clone(), weights.clone(), o.clone());
        let [_, _, oh, ow] = y.dims();
        let gs = random(images * outs * oh * ow, &mut rng);
        let gradients = (y.clone() * tensor(&gs, y.dims())).sum().backward();

        let (mut want_y, mut want_x, mut want_w) = (vec![0f64; gs.len()], vec![0f64; xs.len()], vec![0f64; ws.len()]);
        naive(&case, o.padding_begin(), [oh, ow], |y, x, w| {
            want_y[y] += f64::from(xs[x]) * f64::from(ws[w]);
            want_x[x] += f64::from(gs[y]) * f64::from(ws[w]);
            want_w[w] += f64::from(gs[y]) * f64::from(xs[x]);
        });
        let numbers = |t: Tensor<4>| t.into_data().try_to_vec::<f32>().unwrap();
        close(&numbers(y), &want_y, &format!("output of {case:?}"));
        close(&numbers(x.grad(&gradients).unwrap()), &want_x, &format!("gradient of the input of {case:?}"));
        close(&numbers(weights.grad(&gradients).unwrap()), &want_w, &format!("gradient of the weights of {case:?}"));
    }
}

#[test]
fn shapes_are_those_of_burn_and_an_operand_that_is_not_tracked_stays_out() {
    let device = Device::flex().autodiff();
    let x = Tensor::<4>::ones([2, 3, 10, 9], &device);
    let weights = Tensor::<4>::ones([4, 3, 3, 3], &device).require_grad();
    let o = options([2, 1], [1, 0], [1, 2], 1);
    let y = conv2d(x.clone(), weights.clone(), o.clone());
    assert_eq!(y.dims(), module::conv2d(x.clone(), weights.clone(), None, o).dims());
    let gradients = y.sum().backward();
    assert!(x.grad(&gradients).is_none());
    assert!(weights.grad(&gradients).is_some());
}

#[test]
fn a_view_counts_by_its_own_order() {
    let device = Device::flex();
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let x = Tensor::<4>::from_data(TensorData::new(random(2 * 5 * 6 * 3, &mut rng), [2, 5, 6, 3]), &device);
    let weights = Tensor::<4>::from_data(TensorData::new(random(4 * 3 * 9, &mut rng), [4, 3, 3, 3]), &device);
    let view = x.permute([0, 3, 1, 2]);
    let copy = Tensor::<4>::from_data(view.clone().into_data(), &device);
    let o = || options([1, 1], [1, 1], [1, 1], 1);
    let [a, b] = [view, copy].map(|x| conv2d(x, weights.clone(), o()).into_data());
    assert_eq!(a, b);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let o = options([1, 1], [1, 1], [1, 1], 1);
    let g = Geometry::new([64, 16, 14, 14], [16, 16, 3, 3], &o);
    assert!(g.images > 3 * g.block, "the work is in several blocks");
    let [x, dy, w] = [64 * 16 * 14 * 14, 64 * 16 * 14 * 14, 16 * 16 * 9].map(|len| random(len, &mut rng));
    let plane = |image: usize, channel: usize, out: &mut [f32]| {
        out.copy_from_slice(&dy[(image * 16 + channel) * 196..][..196]);
    };
    let all = || (passes::forward(&x, &w, &g, true).0, passes::backward(&x, &w, &g, plane, [true; 2]));
    let [one, three] =
        [1, 3].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(all));
    assert!(one == three);
}

/// The loops on every kind of vector this machine has, whichever it would choose.
#[test]
fn kernels_agree_on_all_vectors() {
    fn both<S: Simd>(simd: S, rows: usize) -> (Vec<f32>, Vec<f32>) {
        let (channels, offsets, len, pitch) = (3, [0, 1, 2, 30, 31, 32, 60, 61, 62, 63], 200, 400);
        let mut rng = ChaCha8Rng::seed_from_u64(rows as u64);
        let source = random(channels * pitch + 63 + OVERRUN, &mut rng);
        let weights = random(channels * offsets.len() * rows, &mut rng);
        let out_pitch = len + OVERRUN;
        let mut out = vec![0.0; rows * out_pitch];
        let convolve = Convolve {
            source: &source,
            pitch,
            offsets: &offsets,
            weights: &weights,
            out: &mut out,
            out_pitch,
            len,
            rows,
        };
        convolve.with_simd(simd);
        let out: Vec<f32> = out.chunks_exact(out_pitch).flat_map(|row| row[..len].to_vec()).collect();
        let want: Vec<f64> = (0..rows * len)
            .map(|i| {
                let (j, q) = (i / len, i % len);
                let terms = (0..channels).flat_map(|c| (0..offsets.len()).map(move |t| (c, t)));
                let product = |(c, t): (usize, usize)| {
                    f64::from(weights[(c * offsets.len() + t) * rows + j])
                        * f64::from(source[c * pitch + offsets[t] + q])
                };
                terms.map(product).sum()
            })
            .collect();
        close(&out, &want, &format!("{rows} rows on {simd:?}"));

        let mut gradient = random(rows * pitch, &mut rng);
        gradient.chunks_exact_mut(pitch).for_each(|row| row[len..].fill(0.0));
        let mut sums = vec![0.0; rows * offsets.len()];
        Correlate { gradient: &gradient, pitch, source: &source, offsets: &offsets, len, rows, sums: &mut sums }
            .with_simd(simd);
        let want: Vec<f64> = (0..sums.len())
            .map(|i| {
                let (j, t) = (i / offsets.len(), i % offsets.len());
                (0..len).map(|q| f64::from(gradient[j * pitch + q]) * f64::from(source[offsets[t] + q])).sum()
            })
            .collect();
        close(&sums, &want, &format!("correlation of {rows} rows on {simd:?}"));
        (out, sums)
    }
    for rows in [1, 2, 4, 8] {
        both(Scalar, rows);
        #[cfg(target_arch = "x86_64")]
        {
            pulp::x86::V3::try_new().inspect(|&v3| _ = both(v3, rows));
            pulp::x86::V4::try_new().inspect(|&v4| _ = both(v4, rows));
        }
        #[cfg(target_arch = "aarch64")]
        pulp::aarch64::Neon::try_new().inspect(|&neon| _ = both(neon, rows));
    }
}

/// Random extents, strides, paddings, dilations, groups; by definition no kernel is larger than its padded input.
fn any_case(rng: &mut ChaCha8Rng) -> Case {
    let mut up_to = |most: usize| rng.random_range(1..=most);
    let groups = [1, 1, 2, 3][up_to(4) - 1];
    let (images, ins, outs) = (up_to(5), groups * up_to(5), groups * up_to(9));
    let [kernel, dilation, stride] = [(); 3].map(|()| [up_to(4), up_to(3)]);
    let least = [0, 1].map(|d| dilation[d] * (kernel[d] - 1) + 1);
    let pads = [0, 1].map(|_| (up_to(4) - 1, up_to(4) - 1));
    let extent = [0, 1].map(|d| least[d].saturating_sub(pads[d].0 + pads[d].1).max(1) + up_to(12) - 1);
    let options = ConvOptions::new_with_padding(stride, pads, dilation, groups);
    (images, ins, extent[0], extent[1], outs, kernel, options)
}

/// Output, and gradients by every operand, of a function of tensors with these extents.
fn run(inputs: &[(Vec<f32>, Vec<usize>)], f: impl Fn(&[DispatchTensor]) -> Tensor<4>) -> Vec<Vec<f32>> {
    let device = Device::flex().autodiff();
    let leaf = |(values, shape): &(Vec<f32>, Vec<usize>)| {
        let tensor = Tensor::<1>::from_data(TensorData::new(values.clone(), [values.len()]), &device).require_grad();
        (tensor.clone(), Dispatch::float_reshape(tensor.into_dispatch(), shape.clone().into()))
    };
    let (leaves, operands): (Vec<_>, Vec<_>) = inputs.iter().map(leaf).unzip();
    let y = f(&operands);
    let weights: Vec<f32> = (0..y.shape().num_elements()).map(|i| (i as f32 * 0.7).sin()).collect();
    let gradients = (y.clone() * Tensor::<4>::from_data(TensorData::new(weights, y.dims()), &device)).sum().backward();
    let of_leaf = |leaf: Tensor<1>| leaf.grad(&gradients).unwrap().into_data().try_to_vec().unwrap();
    std::iter::once(y.into_data().try_to_vec().unwrap()).chain(leaves.into_iter().map(of_leaf)).collect()
}

fn agree(ours: Vec<Vec<f32>>, theirs: Vec<Vec<f32>>, tolerance: f32, what: &str) {
    for (index, (a, b)) in ours.iter().zip(&theirs).enumerate() {
        let scale = b.iter().fold(1.0f32, |m, v| m.max(v.abs()));
        let worst = a.iter().zip(b).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
        assert!(a.len() == b.len() && worst <= tolerance * scale, "{index} of {what}: {worst} of {scale}");
    }
}

fn t<const D: usize>(tensor: &DispatchTensor) -> Tensor<D> {
    Tensor::from_dispatch(tensor.clone())
}

#[test]
fn gradients_are_those_of_burn_over_random_extents() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for _ in 0..300 {
        let case = any_case(&mut rng);
        let (images, ins, h, w, outs, [kh, kw], ref o) = case;
        let shapes = [vec![images, ins, h, w], vec![outs, ins / o.groups, kh, kw]];
        let inputs = shapes.map(|shape| (random(shape.iter().product(), &mut rng), shape));
        let ours = run(&inputs, |v| conv2d(t(&v[0]), t(&v[1]), o.clone()));
        let theirs = run(&inputs, |v| module::conv2d(t::<4>(&v[0]), t::<4>(&v[1]), None, o.clone()));
        agree(ours, theirs, 1e-5, &format!("{case:?}"));
    }
}

/// As one operator, and as a convolution, burn's batch norm, an addition and a ReLU.
#[test]
fn with_batch_norm_addition_and_relu_it_is_the_same_as_apart() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    for round in 0..200 {
        let case = any_case(&mut rng);
        let (images, ins, h, w, outs, [kh, kw], ref o) = case;
        let (add, relu, images) = (round % 2 == 0, round % 4 < 2, images + 1);
        let x_shape = [images, ins, h, w];
        let g = Geometry::new(x_shape, [outs, ins / o.groups, kh, kw], o);
        let mut shapes = vec![x_shape.to_vec(), vec![outs, ins / o.groups, kh, kw], vec![outs], vec![outs]];
        shapes.extend(add.then(|| result_shape(&g).to_vec()));
        let random = |shape: Vec<usize>| (random(shape.iter().product(), &mut rng), shape);
        let inputs: Vec<(Vec<f32>, Vec<usize>)> = shapes.into_iter().map(random).collect();
        let form = Form { epsilon: 1e-2, relu };
        let ours = run(&inputs, |v| {
            let form = ConvNorm { options: o.clone(), form };
            let (y, statistics) = conv_norm(form, v.to_vec());
            assert_eq!(statistics.mean.len(), outs);
            Tensor::from_dispatch(y)
        });
        let theirs = run(&inputs, |v| {
            let y = module::conv2d(t::<4>(&v[0]), t::<4>(&v[1]), None, o.clone());
            let mut y = module::batch_norm_train(y, t(&v[2]), t(&v[3]), 1e-2).output;
            y = if add { y + t::<4>(&v[4]) } else { y };
            if relu { activation::relu(y) } else { y }
        });
        agree(ours, theirs, 1e-4, &format!("{case:?}, add: {add}, relu: {relu}"));
    }
}
