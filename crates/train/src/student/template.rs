//! Students with a network of their own, for teachers that cannot be taken apart or do not suit a board. What a template
//! makes is wide; the search narrows it like any teacher, so that its width is a knob, and its depth another.

use super::Error;
use kdc_ir::graph::{Builder, Conv, DType, Dim, Graph, Op, Pool, Tensor, Value, ValueId};
use serde::{Deserialize, Serialize};

/// A family of networks, by what goes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Template {
    /// Images: a stem, then depthwise separable convolutions in stages (Howard et al. 2017,
    /// <https://arxiv.org/abs/1704.04861>).
    ImageSeparable,
    /// Images: a stem, then residual blocks in stages (He et al. 2016, <https://arxiv.org/abs/1512.03385>).
    ImageResidual,
    /// Features over time `[batch, features, length]`: separable 1-D convolutions (Kriman et al., QuartzNet, 2020,
    /// <https://arxiv.org/abs/1910.10261>).
    Signal,
    /// Token ids `[batch, length]`: embeddings, separable convolutions, the mean over the sequence.
    Tokens,
    /// Token ids `[batch, length]`: embeddings and positions, a small encoder (Vaswani et al. 2017,
    /// <https://arxiv.org/abs/1706.03762>; normalised before each part, Xiong et al. 2020,
    /// <https://arxiv.org/abs/2002.04745>), the mean over the sequence.
    Transformer,
    /// Vectors `[batch, features]`: a perceptron with two hidden layers.
    Vector,
}

/// Channels of an image's stages at full width; each but the first halves the extents.
const STAGES: [usize; 4] = [32, 64, 128, 256];
/// Channels of a signal's layers.
const SIGNAL: usize = 192;
/// Layers of a signal.
const LAYERS: usize = 4;
/// Features of a token.
const EMBEDDED: usize = 64;
/// Heads of an encoder's attention, of which each has as many of the features.
const HEADS: usize = 4;
/// Layers of an encoder.
const ENCODER: usize = 2;
/// Hidden units.
const HIDDEN: usize = 512;
/// Extents below this are not halved any more.
const SMALL: usize = 4;

impl Template {
    /// The templates that take what a teacher takes.
    pub fn suiting(teacher: &Graph) -> Vec<Template> {
        let [input] = teacher.inputs[..] else { return vec![] };
        let value = teacher.value(input);
        match (value.shape.len(), value.dtype) {
            (4, DType::F32) => vec![Template::ImageSeparable, Template::ImageResidual],
            (3, DType::F32) => vec![Template::Signal],
            (2, DType::I32 | DType::I64) => vec![Template::Tokens, Template::Transformer],
            (2, DType::F32) => vec![Template::Vector],
            _ => vec![],
        }
    }

    /// As on the command line and in a file.
    pub fn name(self) -> &'static str {
        match self {
            Template::ImageSeparable => "image-separable",
            Template::ImageResidual => "image-residual",
            Template::Signal => "signal",
            Template::Tokens => "tokens",
            Template::Transformer => "transformer",
            Template::Vector => "vector",
        }
    }

    /// The network at full width, with the teacher's input and output, their names, types and extents. Its weights are
    /// zeros: [`redraw`](super::redraw) draws them.
    ///
    /// # Errors
    /// When the teacher does not have one input of the template's kind and one output `[batch, classes]`.
    pub fn network(self, teacher: &Graph) -> Result<Graph, Error> {
        let unsuitable = |why: String| Error::Template { template: self.name(), why };
        if !Template::suiting(teacher).contains(&self) {
            return Err(unsuitable("it takes another kind of input than the teacher".into()));
        }
        let output = teacher.outputs.first().map(|&id| teacher.value(id));
        let Some(Value { shape, name, .. }) = output.filter(|v| v.shape.len() == 2 && teacher.outputs.len() == 1)
        else {
            return Err(unsuitable("it has one result of [batch, classes]".into()));
        };
        let (classes, result) = (shape[1].at(1), name.clone());
        let input = teacher.value(teacher.inputs[0]).clone();
        let known = |d: &Dim| if d.is_batched() { None } else { Some(d.at(1)) };
        let extents: Option<Vec<usize>> = input.shape[1..].iter().map(known).collect();
        let extents = extents.ok_or_else(|| unsuitable("the input has an open extent".into()))?;
        let mut layers = Layers { b: Builder::new(format!("{}-student", teacher.name)), count: 0 };
        let x = layers.b.input_like(&input);
        let made = match self {
            Template::ImageSeparable | Template::ImageResidual => layers.image(self, x, &extents, classes),
            Template::Signal => layers.signal(x, &extents, classes),
            Template::Tokens => layers.tokens(x, extents[0], vocabulary(teacher), classes),
            Template::Transformer => layers.transformer(x, extents[0], vocabulary(teacher), classes),
            Template::Vector => layers.vector(x, extents[0], classes),
        };
        let y = made.map_err(|e| unsuitable(e.to_string()))?;
        let mut graph = layers.b.finish(&[y]);
        // The teacher's names of inputs and outputs may be those of layers made here.
        let input = graph.value(x).name.clone();
        for id in (0..graph.values.len() as u32).map(ValueId).filter(|&id| id != x && id != y) {
            let name = &graph.value(id).name;
            if *name == input || *name == result {
                graph.value_mut(id).name = graph.fresh_name(&format!("{name}_inside"));
            }
        }
        graph.value_mut(y).name = result;
        Ok(graph)
    }
}

/// How many token ids the teacher knows: the rows of the table it looks its input up in.
fn vocabulary(teacher: &Graph) -> usize {
    let looked_up = teacher.nodes.iter().filter(|n| matches!(n.op, Op::Gather { axis: 0 }));
    let table =
        |n: &kdc_ir::graph::Node| teacher.constant(n.input(0)?).filter(|t| t.shape.len() == 2).map(|t| t.shape[0]);
    looked_up.filter_map(table).max().unwrap_or(1)
}

/// Positions as sines and cosines (Vaswani et al. 2017, section 3.5), as large as the embeddings that are drawn.
fn waves(length: usize, features: usize) -> Tensor {
    let wave = |i: usize| {
        let (place, feature) = (i / features, i % features);
        let angle = place as f32 / 10_000f32.powf((feature / 2 * 2) as f32 / features as f32);
        let wave = if feature % 2 == 0 { angle.sin() } else { angle.cos() };
        wave / (features as f32).sqrt()
    };
    Tensor::f32([length, features], (0..length * features).map(wave).collect::<Vec<_>>())
}

type Made = Result<ValueId, kdc_ir::graph::InferError>;

struct Layers {
    b: Builder,
    count: usize,
}

impl Layers {
    fn name(&mut self, what: &str) -> String {
        self.count += 1;
        format!("{what}{}", self.count)
    }

    fn zeros(&mut self, name: &str, shape: &[usize]) -> ValueId {
        self.b.constant(name, Tensor::f32(shape.to_vec(), vec![0.0; shape.iter().product()]))
    }

    /// A convolution that keeps the extents, or divides them by its stride, and a rectifier where one is wanted.
    fn conv(
        &mut self,
        x: ValueId,
        (from, to): (usize, usize),
        kernel: &[usize],
        stride: usize,
        group: usize,
        relu: bool,
    ) -> Made {
        let name = self.name("conv");
        let w = self.zeros(&format!("{name}.weight"), &[&[to, from / group], kernel].concat());
        let bias = self.zeros(&format!("{name}.bias"), &[to]);
        let half: Vec<usize> = kernel.iter().map(|k| k / 2).collect();
        let conv = Conv {
            kernel: kernel.to_vec(),
            strides: vec![stride; kernel.len()],
            pads: [half.clone(), half].concat(),
            dilations: vec![1; kernel.len()],
            group,
        };
        let y = self.b.node(&name, Op::Conv(conv), &[x, w, bias])?;
        if relu { self.relu(y) } else { Ok(y) }
    }

    fn relu(&mut self, x: ValueId) -> Made {
        let name = self.name("relu");
        self.b.node(&name, Op::Relu, &[x])
    }

    fn linear(&mut self, x: ValueId, from: usize, to: usize) -> Made {
        let name = self.name("linear");
        let w = self.zeros(&format!("{name}.weight"), &[to, from]);
        let bias = self.zeros(&format!("{name}.bias"), &[to]);
        let gemm = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
        self.b.node(&name, gemm, &[x, w, bias])
    }

    /// The mean over all places, and a number for each class.
    fn head(&mut self, x: ValueId, channels: usize, classes: usize) -> Made {
        let (mean, flat) = (self.name("mean"), self.name("flat"));
        let y = self.b.node(&mean, Op::GlobalAveragePool, &[x])?;
        let y = self.b.node(&flat, Op::Flatten { axis: 1 }, &[y])?;
        self.linear(y, channels, classes)
    }

    fn image(&mut self, kind: Template, x: ValueId, extents: &[usize], classes: usize) -> Made {
        let [channels, height, width] = extents[..] else { unreachable!("an image has three extents") };
        let mut side = height.min(width);
        // A large image is halved before anything else.
        let stride = if side >= 64 { 2 } else { 1 };
        let mut y = self.conv(x, (channels, STAGES[0]), &[3, 3], stride, 1, true)?;
        side = side.div_ceil(stride);
        let mut from = STAGES[0];
        for (stage, &to) in STAGES.iter().enumerate() {
            let stride = if stage > 0 && side >= 2 * SMALL { 2 } else { 1 };
            side = side.div_ceil(stride);
            y = match kind {
                Template::ImageResidual => {
                    let first = self.conv(y, (from, to), &[3, 3], stride, 1, true)?;
                    let second = self.conv(first, (to, to), &[3, 3], 1, 1, false)?;
                    let around = match stride > 1 || from != to {
                        true => self.conv(y, (from, to), &[1, 1], stride, 1, false)?,
                        false => y,
                    };
                    let name = self.name("add");
                    let sum = self.b.node(&name, Op::Add, &[second, around])?;
                    self.relu(sum)?
                }
                _ => {
                    let mut y = self.conv(y, (from, from), &[3, 3], stride, from, true)?;
                    y = self.conv(y, (from, to), &[1, 1], 1, 1, true)?;
                    y = self.conv(y, (to, to), &[3, 3], 1, to, true)?;
                    self.conv(y, (to, to), &[1, 1], 1, 1, true)?
                }
            };
            from = to;
        }
        self.head(y, from, classes)
    }

    fn signal(&mut self, x: ValueId, extents: &[usize], classes: usize) -> Made {
        let (features, length) = (extents[0], extents[1]);
        let kernel = [length.min(9) | 1];
        let mut y = self.conv(x, (features, SIGNAL), &kernel, 1, 1, true)?;
        let mut left = length;
        for _ in 0..LAYERS {
            let stride = if left >= 4 * SMALL { 2 } else { 1 };
            left = left.div_ceil(stride);
            y = self.conv(y, (SIGNAL, SIGNAL), &kernel, stride, SIGNAL, true)?;
            y = self.conv(y, (SIGNAL, SIGNAL), &[1], 1, 1, true)?;
        }
        self.head(y, SIGNAL, classes)
    }

    fn tokens(&mut self, x: ValueId, length: usize, vocabulary: usize, classes: usize) -> Made {
        let table = self.zeros("embedding.weight", &[vocabulary, EMBEDDED]);
        let y = self.b.node("embedding", Op::Gather { axis: 0 }, &[table, x])?;
        let mut y = self.b.node("features_first", Op::Transpose { perm: vec![0, 2, 1] }, &[y])?;
        let kernel = [length.min(5) | 1];
        for _ in 0..2 {
            y = self.conv(y, (EMBEDDED, EMBEDDED), &kernel, 1, EMBEDDED, true)?;
            y = self.conv(y, (EMBEDDED, EMBEDDED), &[1], 1, 1, true)?;
        }
        let pool = Pool {
            kernel: vec![2],
            strides: vec![2],
            pads: vec![0; 2],
            dilations: vec![1],
            ceil_mode: false,
            count_include_pad: false,
        };
        if length >= 2 * SMALL {
            let name = self.name("pool");
            y = self.b.node(&name, Op::MaxPool(pool), &[y])?;
        }
        self.head(y, EMBEDDED, classes)
    }

    fn transformer(&mut self, x: ValueId, length: usize, vocabulary: usize, classes: usize) -> Made {
        let table = self.zeros("embedding.weight", &[vocabulary, EMBEDDED]);
        let y = self.b.node("embedding", Op::Gather { axis: 0 }, &[table, x])?;
        let positions = self.b.constant("positions", waves(length, EMBEDDED));
        let mut y = self.b.node("positioned", Op::Add, &[y, positions])?;
        for _ in 0..ENCODER {
            let normalised = self.layer_norm(y)?;
            let attended = self.attention(normalised, length)?;
            let name = self.name("add");
            y = self.b.node(&name, Op::Add, &[y, attended])?;
            let normalised = self.layer_norm(y)?;
            let wide = self.features(normalised, EMBEDDED, 2 * EMBEDDED)?;
            let wide = self.relu(wide)?;
            let narrow = self.features(wide, 2 * EMBEDDED, EMBEDDED)?;
            let name = self.name("add");
            y = self.b.node(&name, Op::Add, &[y, narrow])?;
        }
        let y = self.layer_norm(y)?;
        let name = self.name("mean");
        let y = self.b.node(&name, Op::ReduceMean { axes: vec![1], keepdims: false }, &[y])?;
        self.linear(y, EMBEDDED, classes)
    }

    /// Multi-head attention of a sequence to itself.
    fn attention(&mut self, x: ValueId, length: usize) -> Made {
        let (heads, each) = (HEADS, EMBEDDED / HEADS);
        let split = [Dim::Batch, Dim::Fixed(length), Dim::Fixed(heads), Dim::Fixed(each)];
        let apart = |layers: &mut Layers, perm: [usize; 4]| -> Made {
            let y = layers.features(x, EMBEDDED, EMBEDDED)?;
            let (heads, first) = (layers.name("heads"), layers.name("heads_first"));
            let y = layers.b.node(&heads, Op::Reshape { shape: split.to_vec() }, &[y])?;
            layers.b.node(&first, Op::Transpose { perm: perm.to_vec() }, &[y])
        };
        let (q, k) = (apart(self, [0, 2, 1, 3])?, apart(self, [0, 2, 3, 1])?);
        let v = apart(self, [0, 2, 1, 3])?;
        let name = self.name("scores");
        let scores = self.b.node(&name, Op::MatMul, &[q, k])?;
        let name = self.name("scaled");
        let root = self.b.constant(&format!("{name}.factor"), Tensor::f32([], vec![1.0 / (each as f32).sqrt()]));
        let scores = self.b.node(&name, Op::Mul, &[scores, root])?;
        let name = self.name("weights");
        let weights = self.b.node(&name, Op::Softmax { axis: 3 }, &[scores])?;
        let name = self.name("attended");
        let y = self.b.node(&name, Op::MatMul, &[weights, v])?;
        let name = self.name("places_first");
        let y = self.b.node(&name, Op::Transpose { perm: vec![0, 2, 1, 3] }, &[y])?;
        let name = self.name("together");
        let whole = vec![Dim::Batch, Dim::Fixed(length), Dim::Fixed(EMBEDDED)];
        let y = self.b.node(&name, Op::Reshape { shape: whole }, &[y])?;
        self.features(y, EMBEDDED, EMBEDDED)
    }

    /// A linear layer for each place of a sequence.
    fn features(&mut self, x: ValueId, from: usize, to: usize) -> Made {
        let (product, sum) = (self.name("features"), self.name("bias"));
        let w = self.zeros(&format!("{product}.weight"), &[from, to]);
        let bias = self.zeros(&format!("{product}.bias"), &[to]);
        let y = self.b.node(&product, Op::MatMul, &[x, w])?;
        self.b.node(&sum, Op::Add, &[y, bias])
    }

    fn layer_norm(&mut self, x: ValueId) -> Made {
        let name = self.name("norm");
        let gamma = self.b.constant(&format!("{name}.weight"), Tensor::f32([EMBEDDED], vec![1.0; EMBEDDED]));
        let beta = self.zeros(&format!("{name}.bias"), &[EMBEDDED]);
        self.b.node(&name, Op::LayerNormalization { axis: 2, epsilon: 1e-5 }, &[x, gamma, beta])
    }

    fn vector(&mut self, x: ValueId, features: usize, classes: usize) -> Made {
        let y = self.linear(x, features, HIDDEN)?;
        let y = self.relu(y)?;
        let y = self.linear(y, HIDDEN, HIDDEN)?;
        let y = self.relu(y)?;
        self.linear(y, HIDDEN, classes)
    }
}
