//! Operators of a training step: ours beside burn's, forward and with both gradients.
//!
//! `cargo bench --bench training`; layers as they occur in small image networks, 64 images. One thread, so that figures
//! of layers can be compared: `RAYON_NUM_THREADS=1 cargo bench --bench training`.

use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor, activation, module};
use divan::Bencher;
use kdc::exec::ops;
use std::fmt;

fn main() {
    divan::main();
}

const IMAGES: usize = 64;

/// A convolution: input channels and extent, output channels, kernel, stride, groups.
#[derive(Clone, Copy)]
struct Layer {
    name: &'static str,
    input: usize,
    extent: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    groups: usize,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name)
    }
}

const fn layer(
    name: &'static str,
    [input, extent, output]: [usize; 3],
    kernel: usize,
    stride: usize,
    groups: usize,
) -> Layer {
    Layer { name, input, extent, output, kernel, stride, groups }
}

const LAYERS: [Layer; 7] = [
    layer("3x3 16-16 @32", [16, 32, 16], 3, 1, 1),
    layer("1x1 64-64 @16", [64, 16, 64], 1, 1, 1),
    layer("depthwise 3x3 64 @16", [64, 16, 64], 3, 1, 64),
    layer("3x3 64-64 @8", [64, 8, 64], 3, 1, 1),
    layer("3x3 3-16 @32", [3, 32, 16], 3, 1, 1),
    layer("3x3 stride 2 16-32 @32", [16, 32, 32], 3, 2, 1),
    layer("3x3 128-128 @16", [128, 16, 128], 3, 1, 1),
];

impl Layer {
    fn operands(&self) -> (Tensor<4>, Tensor<4>, ConvOptions<2>) {
        let device = Device::flex().autodiff();
        let pad = self.kernel / 2;
        let x = Tensor::ones([IMAGES, self.input, self.extent, self.extent], &device) * 0.5;
        let weights = Tensor::ones([self.output, self.input / self.groups, self.kernel, self.kernel], &device) * 0.1;
        let options = ConvOptions::new([self.stride; 2], [pad; 2], [1, 1], self.groups);
        (x.detach().require_grad(), weights.detach().require_grad(), options)
    }
}

#[divan::bench(args = LAYERS)]
fn conv_ours(bencher: Bencher, layer: Layer) {
    let (x, weights, options) = layer.operands();
    bencher.bench_local(|| ops::conv2d(x.clone(), weights.clone(), options.clone()).sum().backward());
}

#[divan::bench(args = LAYERS)]
fn conv_burn(bencher: Bencher, layer: Layer) {
    let (x, weights, options) = layer.operands();
    bencher.bench_local(|| module::conv2d(x.clone(), weights.clone(), None, options.clone()).sum().backward());
}

/// Channels and extent.
const PLANES: [[usize; 2]; 3] = [[16, 32], [64, 16], [128, 8]];

fn normalised([channels, extent]: [usize; 2]) -> (Tensor<4>, Tensor<1>, Tensor<1>) {
    let device = Device::flex().autodiff();
    let x = Tensor::ones([IMAGES, channels, extent, extent], &device) * 0.5;
    let (scale, bias) = (Tensor::ones([channels], &device), Tensor::ones([channels], &device));
    (x.detach().require_grad(), scale.require_grad(), bias.require_grad())
}

#[divan::bench(args = PLANES)]
fn batch_norm_relu_ours(bencher: Bencher, plane: &[usize; 2]) {
    let (x, scale, bias) = normalised(*plane);
    bencher.bench_local(|| {
        let form = ops::Form { epsilon: 1e-5, relu: true };
        ops::batch_norm_train(x.clone(), scale.clone(), bias.clone(), form).0.sum().backward()
    });
}

#[divan::bench(args = PLANES)]
fn batch_norm_relu_burn(bencher: Bencher, plane: &[usize; 2]) {
    let (x, scale, bias) = normalised(*plane);
    bencher.bench_local(|| {
        activation::relu(module::batch_norm_train(x.clone(), scale.clone(), bias.clone(), 1e-5).output).sum().backward()
    });
}
