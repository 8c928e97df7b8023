//! Numbers of layers.

use super::Maker;
use kdc::graph::*;
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

impl Maker {
    /// Weights whose results lie along an axis: now and then those of an earlier layer.
    pub fn weight(&mut self, shape: &[usize], axis: usize) -> ValueId {
        if self.chance(0.15) {
            let alike = |id: &&ValueId| self.graph.constant(**id).is_some_and(|t| t.shape == shape);
            if let Some(&id) = self.weights.iter().find(alike) {
                return id;
            }
        }
        let len: usize = shape.iter().product();
        let (channels, inner): (usize, usize) = (shape[axis], shape[axis + 1..].iter().product());
        let spread = (2.0 / (len / channels.max(1)).max(1) as f32).sqrt();
        let mut numbers: Vec<f32> = (0..len).map(|_| spread * self.normal()).collect();
        if self.chance(self.peculiar) {
            self.make_peculiar(&mut numbers, channels, inner);
        }
        let id = self.constant(Tensor::f32(shape, numbers));
        self.weights.push(id);
        id
    }

    /// What trained files have, and more: channels without weights, with tiny or huge ones, all the same number.
    fn make_peculiar(&mut self, numbers: &mut [f32], channels: usize, inner: usize) {
        let chosen: Vec<bool> = (0..channels).map(|_| self.chance(0.4)).collect();
        let tiny = 10f32.powf(-self.rng.random_range(3.0..38.0));
        let huge = 10f32.powf(self.rng.random_range(0.5..3.0));
        let number = self.rng.random_range(-0.5..0.5f32);
        let uneven: Vec<f32> = (0..channels).map(|_| 10f32.powf(self.rng.random_range(-2.0..0.5))).collect();
        let kind = self.rng.random_range(0..9);
        for (i, w) in numbers.iter_mut().enumerate() {
            let channel = i / inner.max(1) % channels.max(1);
            let of = chosen[channel];
            *w = match kind {
                0 | 1 if of => 0.0,
                2 | 3 if of => *w * tiny,
                4 if of => *w * huge,
                5 => *w * uneven[channel],
                6 => number,
                7 => 0.0,
                8 => *w * tiny,
                _ => *w,
            };
        }
    }

    /// A bias: none, small ones, ones that a ReLU leaves nothing of, or far larger than all sums.
    pub fn bias(&mut self, channels: usize) -> ValueId {
        let kind = if self.chance(self.peculiar) { self.rng.random_range(1..6) } else { 0 };
        let one = |m: &mut Maker| {
            let small = 0.1 * m.normal();
            match kind {
                0 => small,
                1 => 0.0,
                2 if m.chance(0.5) => -30.0,
                3 => 3.0 * small - 3.0,
                4 if m.chance(0.3) => 1000.0 * small,
                5 => small * 1e-20,
                _ => small,
            }
        };
        let numbers = (0..channels).map(|_| one(self)).collect();
        self.constant(Tensor::f32([channels], numbers))
    }

    pub fn normal(&mut self) -> f32 {
        StandardNormal.sample(&mut self.rng)
    }

    /// A matrix product over the last axis, in one of the forms that files have it.
    pub fn linear(&mut self, x: ValueId, to: usize) -> ValueId {
        let shape = self.shape(x);
        let from = shape[shape.len() - 1];
        if shape.len() == 1 && self.chance(0.7) {
            let trans_b = self.chance(0.6);
            let (extents, axis) = if trans_b { ([to, from], 0) } else { ([from, to], 1) };
            let mut operands = vec![x, self.weight(&extents, axis)];
            if self.chance(0.8) {
                operands.push(self.bias(to));
            }
            let alpha = if self.chance(0.1) { 0.5 } else { 1.0 };
            let beta = if self.chance(0.1) { 2.0 } else { 1.0 };
            return self.push(Op::Gemm { alpha, beta, trans_a: false, trans_b }, &operands);
        }
        let w = self.weight(&[from, to], 1);
        let y = self.push(Op::MatMul, &[x, w]);
        if self.chance(0.8) {
            let bias = self.bias(to);
            let operands = if self.chance(0.7) { [y, bias] } else { [bias, y] };
            return self.push(Op::Add, &operands);
        }
        y
    }

    /// A layer normalisation over the axes from this one on.
    pub fn layer_norm(&mut self, x: ValueId, axis: usize) -> ValueId {
        let shape = self.shape(x)[axis - 1..].to_vec();
        let len: usize = shape.iter().product();
        let scale = (0..len).map(|_| self.rng.random_range(0.5..1.5f32)).collect();
        let scale = self.constant(Tensor::f32(shape.clone(), scale));
        let mut operands = vec![x, scale];
        if self.chance(0.7) {
            let bias = (0..len).map(|_| 0.2 * self.normal()).collect();
            operands.push(self.constant(Tensor::f32(shape, bias)));
        }
        self.push(Op::LayerNormalization { axis, epsilon: 1e-5 }, &operands)
    }

    /// A batch normalisation behind a convolution.
    pub fn batch_norm(&mut self, x: ValueId) -> ValueId {
        let channels = self.shape(x)[0];
        let dead = self.chance(self.peculiar);
        let vector = |m: &mut Maker, low: f32, high: f32, dead: bool| {
            let numbers = (0..channels).map(|_| {
                if dead && m.chance(0.4) { m.one(&[0.0, 1e-12, 1e-30]) } else { m.rng.random_range(low..high) }
            });
            let numbers = numbers.collect();
            m.constant(Tensor::f32([channels], numbers))
        };
        let scale = vector(self, 0.5, 1.5, dead);
        let bias = vector(self, -0.5, 0.5, false);
        let mean = vector(self, -0.5, 0.5, false);
        let variance = vector(self, 0.5, 1.5, false);
        self.push(Op::BatchNormalization { epsilon: 1e-5 }, &[x, scale, bias, mean, variance])
    }
}
