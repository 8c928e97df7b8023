use super::*;
use burn::tensor::{Device, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn random(len: usize, offset: f32, random: &mut ChaCha8Rng) -> Vec<f32> {
    (0..len).map(|_| offset + random.random_range(-1.0f32..1.0)).collect()
}

/// Everything that the operator computes, from the definitions, in f64.
struct Naive {
    output: Vec<f64>,
    mean: Vec<f64>,
    variance: Vec<f64>,
    dx: Vec<f64>,
    dscale: Vec<f64>,
    dbias: Vec<f64>,
}

fn naive(x: &[f32], shape: [usize; 4], scale: &[f32], bias: &[f32], dy: &[f32], epsilon: f64, relu: bool) -> Naive {
    let [images, channels, h, w] = shape;
    let count = (images * h * w) as f64;
    let (mut output, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    let (mut mean, mut variance) = (vec![0.0; channels], vec![0.0; channels]);
    let (mut dscale, mut dbias) = (vec![0.0; channels], vec![0.0; channels]);
    for c in 0..channels {
        let of_channel: Vec<usize> = (0..x.len()).filter(|i| i / (h * w) % channels == c).collect();
        let at = |i: usize| f64::from(x[i]);
        mean[c] = of_channel.iter().map(|&i| at(i)).sum::<f64>() / count;
        variance[c] = of_channel.iter().map(|&i| (at(i) - mean[c]).powi(2)).sum::<f64>() / count;
        let sigma = (variance[c] + epsilon).sqrt();
        let normal = |i: usize| (at(i) - mean[c]) / sigma;
        let affine = |i: usize| normal(i) * f64::from(scale[c]) + f64::from(bias[c]);
        let passed = |i: usize| if relu && affine(i) <= 0.0 { 0.0 } else { f64::from(dy[i]) };
        dbias[c] = of_channel.iter().map(|&i| passed(i)).sum();
        dscale[c] = of_channel.iter().map(|&i| passed(i) * normal(i)).sum();
        for &i in &of_channel {
            output[i] = if relu { affine(i).max(0.0) } else { affine(i) };
            let inner = passed(i) - dbias[c] / count - normal(i) * dscale[c] / count;
            dx[i] = f64::from(scale[c]) / sigma * inner;
        }
    }
    Naive { output, mean, variance, dx, dscale, dbias }
}

fn close<const D: usize>(got: Tensor<D>, want: &[f64], tolerance: f64, what: &str) {
    let got = got.into_data().try_to_vec::<f32>().unwrap();
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1.0f64, |m, v| m.max(v.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(*g) - w).abs() <= tolerance * scale, "{what}[{i}]: {g} against {w}");
    }
}

#[test]
fn output_statistics_and_gradients_are_those_of_the_definition() {
    let device = Device::flex().autodiff();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    // Planes shorter than a vector, with a rest, and of many vectors; a mean far from zero.
    let shapes = [([6, 3, 2, 2], 0.0), ([4, 5, 7, 7], 0.5), ([2, 2, 28, 28], 0.0), ([5, 1, 9, 11], 300.0)];
    for ((shape, offset), relu) in shapes.into_iter().flat_map(|s| [(s, false), (s, true)]) {
        let channels = shape[1];
        let xs = random(shape.iter().product(), offset, &mut rng);
        let (scales, biases) = (random(channels, 1.5, &mut rng), random(channels, 0.0, &mut rng));
        let dys = random(xs.len(), 0.0, &mut rng);
        let tensor = |v: &[f32]| Tensor::<4>::from_data(TensorData::new(v.to_vec(), shape), &device);
        let vector =
            |v: &[f32]| Tensor::<1>::from_data(TensorData::new(v.to_vec(), [channels]), &device).require_grad();
        let (x, scale, bias) = (tensor(&xs).require_grad(), vector(&scales), vector(&biases));
        let form = Form { epsilon: 1e-3, relu };
        let (output, statistics) = batch_norm_train(x.clone(), scale.clone(), bias.clone(), form);
        let gradients = (output.clone() * tensor(&dys)).sum().backward();

        let want = naive(&xs, shape, &scales, &biases, &dys, 1e-3, relu);
        // The mean is an f32: around 300 its own rounding, 1.5e-5, is the error of everything.
        let tolerance = if offset > 100.0 { 1e-4 } else { 3e-6 };
        let what = |name: &str| format!("{name} of {shape:?}, relu: {relu}");
        let [mean, variance] = [&statistics.mean, &statistics.variance].map(|v| vector(v));
        close(output, &want.output, tolerance, &what("output"));
        close(mean, &want.mean, 1e-6, &what("mean"));
        close(variance, &want.variance, 1e-5, &what("variance"));
        close(x.grad(&gradients).unwrap(), &want.dx, tolerance, &what("gradient of the input"));
        close(scale.grad(&gradients).unwrap(), &want.dscale, tolerance, &what("gradient of the scale"));
        close(bias.grad(&gradients).unwrap(), &want.dbias, tolerance, &what("gradient of the bias"));
    }
}

#[test]
fn a_number_that_is_none_is_not_hidden_by_the_relu() {
    let device = Device::flex();
    let mut xs = vec![1.0f32; 2 * 5 * 5];
    xs[7] = f32::NAN;
    let x = Tensor::<4>::from_data(TensorData::new(xs, [1, 2, 5, 5]), &device);
    let ones = Tensor::<1>::ones([2], &device);
    let form = Form { epsilon: 1e-5, relu: true };
    let y = batch_norm_train(x, ones.clone(), ones, form).0.into_data().try_to_vec::<f32>().unwrap();
    assert!(y[..25].iter().all(|v| v.is_nan()), "the first channel's mean is not a number");
    assert!(y[25..].iter().all(|v| v.is_finite()));
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let shape = [33, 5, 9, 9];
    let (x, dy) = (random(33 * 5 * 81, 0.2, &mut rng), random(33 * 5 * 81, 0.0, &mut rng));
    let (scale, bias) = (random(5, 1.0, &mut rng), random(5, 0.0, &mut rng));
    let form = Form { epsilon: 1e-5, relu: true };
    let all = || {
        let norm = Norm::new(Moments::statistics(&moments(&x, shape)), &scale, &bias, form);
        let slopes = norm.slopes(&x, &dy, shape);
        let mut dx = vec![0.0; 81];
        slopes.input_gradient(7, 3, &mut dx);
        (
            norm.output(&x, None, shape),
            norm.statistics.mean.clone(),
            norm.statistics.variance.clone(),
            slopes.parameters(),
            dx,
        )
    };
    let [one, three] =
        [1, 3].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(all));
    assert!(one == three);
}
