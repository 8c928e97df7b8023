//! Networks between inputs and a few numbers: encoders, decoders, what is made of both.

use super::Error;
use kdc_ir::graph::{Builder, Conv, Dim, Graph, InferError, Op, Tensor, ValueId};

/// Numbers that stand for a sample.
pub const LATENT: usize = 64;
/// Where a decoder's last normalisation stands: inputs are of mean 0 and deviation 1 by channel, nearly.
pub const LAST: &str = "standardised";
/// The value of an autoencoder that stands for a sample.
const CODE: &str = "code";
/// Channels inside.
const CHANNELS: usize = 64;

/// From noise `[batch, LATENT]` to inputs `[batch, shape…]`. Weights are zeros: [`redraw`](crate::student::redraw) draws
/// them.
///
/// # Errors
/// When there is none for such inputs.
pub fn generator(shape: &[usize]) -> Result<Graph, Error> {
    let mut layers = Layers { b: Builder::new("generator"), count: 0 };
    let z = layers.b.input("noise", &[Dim::Batch, Dim::Fixed(LATENT)]);
    let y = layers.decoder(z, shape).map_err(|e| none(shape, &e))?;
    Ok(layers.b.finish(&[y]))
}

/// From inputs `[batch, shape…]` to themselves, through a code `[batch, LATENT]`. Weights are zeros.
///
/// # Errors
/// When there is none for such inputs.
pub fn autoencoder(name: &str, shape: &[usize]) -> Result<Graph, Error> {
    let mut layers = Layers { b: Builder::new("autoencoder"), count: 0 };
    let extents: Vec<Dim> = std::iter::once(Dim::Batch).chain(shape.iter().map(|&n| Dim::Fixed(n))).collect();
    let x = layers.b.input(name, &extents);
    let made = layers.encoder(x, shape).and_then(|code| layers.decoder(code, shape));
    Ok(layers.b.finish(&[made.map_err(|e| none(shape, &e))?]))
}

/// The half of an autoencoder that ends in its code, which is its answer then.
pub fn encoder(mut autoencoder: Graph) -> Graph {
    if let Some(code) = autoencoder.find(CODE) {
        let last = autoencoder.nodes.iter().position(|node| node.outputs.contains(&code));
        autoencoder.nodes.truncate(last.map_or(0, |last| last + 1));
        autoencoder.outputs = vec![code];
    }
    autoencoder
}

fn none(shape: &[usize], why: &InferError) -> Error {
    Error::inapplicable(
        "autoencoder",
        format!("cannot be made: no network makes inputs of the extents {shape:?}: {why}"),
    )
}

/// Channels and places of an input; no places: a vector.
fn places(shape: &[usize]) -> (usize, Vec<usize>) {
    match shape {
        [channels, places @ ..] if (1..=2).contains(&places.len()) => (*channels, places.to_vec()),
        _ => (shape.iter().product(), vec![]),
    }
}

type Made = Result<ValueId, InferError>;

struct Layers {
    b: Builder,
    count: usize,
}

impl Layers {
    /// Places are halved twice, by convolutions; vectors go through a perceptron.
    fn encoder(&mut self, x: ValueId, shape: &[usize]) -> Made {
        let (channels, mut extents) = places(shape);
        let (mut y, mut size) = (x, channels);
        if extents.is_empty() {
            y = self.reshape(y, &[channels])?;
            for _ in 0..2 {
                y = self.linear(y, size, 4 * CHANNELS)?;
                y = self.leaky(y)?;
                size = 4 * CHANNELS;
            }
        } else {
            for _ in 0..2 {
                y = self.conv(y, size, CHANNELS, extents.len(), 2)?;
                extents.iter_mut().for_each(|n| *n = n.div_ceil(2));
                y = self.norm(y, CHANNELS, "")?;
                y = self.leaky(y)?;
                size = CHANNELS;
            }
            size *= extents.iter().product::<usize>();
            y = self.reshape(y, &[size])?;
        }
        let code = self.linear(y, size, LATENT)?;
        self.b.node(CODE, Op::Identity, &[code])
    }

    /// Places are doubled twice, with convolutions between; vectors come from a perceptron.
    fn decoder(&mut self, z: ValueId, shape: &[usize]) -> Made {
        let (channels, wanted) = places(shape);
        if wanted.is_empty() {
            let mut y = self.linear(z, LATENT, 4 * CHANNELS)?;
            y = self.leaky(y)?;
            y = self.linear(y, 4 * CHANNELS, 4 * CHANNELS)?;
            y = self.leaky(y)?;
            y = self.linear(y, 4 * CHANNELS, channels)?;
            y = self.reshape(y, &[channels, 1])?;
            y = self.norm(y, channels, LAST)?;
            return self.reshape(y, shape);
        }
        let mut extents: Vec<usize> = wanted.iter().map(|n| n.div_ceil(4)).collect();
        let mut y = self.linear(z, LATENT, CHANNELS * extents.iter().product::<usize>())?;
        y = self.reshape(y, &[&[CHANNELS], &extents[..]].concat())?;
        y = self.norm(y, CHANNELS, "")?;
        for _ in 0..2 {
            for axis in 0..extents.len() {
                y = self.doubled(y, CHANNELS, &mut extents, axis)?;
            }
            y = self.conv(y, CHANNELS, CHANNELS, extents.len(), 1)?;
            y = self.norm(y, CHANNELS, "")?;
            y = self.leaky(y)?;
        }
        for (axis, (&has, &wants)) in extents.iter().zip(&wanted).enumerate() {
            if has != wants {
                let name = self.name("cut");
                let (starts, ends, steps) = (vec![0], vec![wants as i64], vec![1]);
                y = self.b.node(&name, Op::Slice { starts, ends, axes: vec![axis + 2], steps }, &[y])?;
            }
        }
        y = self.conv(y, CHANNELS, channels, wanted.len(), 1)?;
        self.norm(y, channels, LAST)
    }

    fn name(&mut self, what: &str) -> String {
        self.count += 1;
        format!("{what}{}", self.count)
    }

    fn filled(&mut self, name: String, shape: &[usize], value: f32) -> ValueId {
        self.b.constant(&name, Tensor::f32(shape.to_vec(), vec![value; shape.iter().product()]))
    }

    fn linear(&mut self, x: ValueId, from: usize, to: usize) -> Made {
        let name = self.name("linear");
        let operands = [
            x,
            self.filled(format!("{name}.weight"), &[to, from], 0.0),
            self.filled(format!("{name}.bias"), &[to], 0.0),
        ];
        self.b.node(&name, Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true }, &operands)
    }

    fn conv(&mut self, x: ValueId, from: usize, to: usize, places: usize, stride: usize) -> Made {
        let name = self.name("conv");
        let kernel = vec![3; places];
        let weight = self.filled(format!("{name}.weight"), &[&[to, from], &kernel[..]].concat(), 0.0);
        let conv = Conv {
            kernel,
            strides: vec![stride; places],
            pads: vec![1; 2 * places],
            dilations: vec![1; places],
            group: 1,
        };
        self.b.node(&name, Op::Conv(conv), &[x, weight])
    }

    fn norm(&mut self, x: ValueId, channels: usize, name: &str) -> Made {
        let name = if name.is_empty() { self.name("norm") } else { name.to_string() };
        let mut operands = vec![x];
        for (what, value) in [("weight", 1.0), ("bias", 0.0), ("mean", 0.0), ("variance", 1.0)] {
            operands.push(self.filled(format!("{name}.{what}"), &[channels], value));
        }
        self.b.node(&name, Op::BatchNormalization { epsilon: 1e-5 }, &operands)
    }

    fn leaky(&mut self, x: ValueId) -> Made {
        let name = self.name("leaky");
        self.b.node(&name, Op::LeakyRelu { alpha: 0.2 }, &[x])
    }

    fn reshape(&mut self, x: ValueId, shape: &[usize]) -> Made {
        let name = self.name("shaped");
        let shape = std::iter::once(Dim::Batch).chain(shape.iter().map(|&n| Dim::Fixed(n))).collect();
        self.b.node(&name, Op::Reshape { shape }, &[x])
    }

    /// Every place of an axis twice.
    fn doubled(&mut self, x: ValueId, channels: usize, extents: &mut [usize], axis: usize) -> Made {
        let outer = channels * extents[..=axis].iter().product::<usize>();
        let inner = extents[axis + 1..].iter().product::<usize>();
        let rows = self.reshape(x, &[outer, 1, inner])?;
        let name = self.name("twice");
        let twice = self.b.node(&name, Op::Concat { axis: 2 }, &[rows, rows])?;
        extents[axis] *= 2;
        self.reshape(twice, &[&[channels], &extents[..]].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::student;
    use burn::tensor::Device;
    use kdc_exec::{Mode, Network};

    #[test]
    fn a_generator_gives_inputs_of_any_extents_of_one_scale() {
        for shape in [&[3, 10, 7][..], &[2, 40], &[16], &[2, 3, 4, 5]] {
            let mut graph = generator(shape).unwrap();
            student::redraw(&mut graph, 1);
            let network = Network::new(&graph, &Device::flex().autodiff()).unwrap();
            let noise: Vec<f32> = (0..32 * LATENT).map(|i| (i as f32 * 0.7).sin()).collect();
            let noise = Tensor::f32([32, LATENT], noise);
            let outputs = network.forward(vec![noise], &[], Mode::Train { momentum: 0.9 }).unwrap().outputs;
            let host = outputs[0].to_host().unwrap();
            assert_eq!(host.shape, [&[32], shape].concat());
            let values = host.to_f32();
            let mean = values.iter().sum::<f32>() / values.len() as f32;
            let variance = values.iter().map(|x| x * x).sum::<f32>() / values.len() as f32;
            assert!(mean.abs() < 1e-3 && (variance - 1.0).abs() < 0.05, "{shape:?}: {mean} {variance}");
        }
    }

    #[test]
    fn an_autoencoder_gives_what_it_takes_and_has_a_code() {
        for shape in [&[1, 9, 6][..], &[2, 40], &[16]] {
            let graph = autoencoder("x", shape).unwrap();
            let extents = |id: ValueId| kdc_ir::graph::shape_at(&graph.value(id).shape, 5);
            assert_eq!(extents(graph.outputs[0]), [&[5], shape].concat());
            assert_eq!(extents(graph.find(CODE).unwrap()), [5, LATENT]);
            let half = encoder(graph);
            assert_eq!(half.value(half.outputs[0]).name, CODE);
            assert!(half.find(LAST).is_some() && half.nodes.iter().all(|node| node.name != LAST));
        }
    }
}
