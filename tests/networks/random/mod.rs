//! Random networks, small and valid, of every operator that has a kernel, with weights such as trained files have them: dead
//! channels, tiny, huge, constant and tied ones. The same seed gives the same network.

mod heads;
mod images;
mod sequences;
mod vectors;
mod weights;

use kdc::graph::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The network of a seed.
pub fn network(seed: u64) -> Graph {
    let mut m = Maker::new(seed);
    let features = match m.rng.random_range(0..10) {
        0..5 => images::features(&mut m),
        5 => images::series(&mut m),
        6..8 => vectors::features(&mut m),
        _ => sequences::features(&mut m),
    };
    let out = heads::head(&mut m, features);
    m.graph.outputs = vec![out];
    // What was made and is read by nobody is no part of the network.
    kdc::pass::drop_dead_code(&mut m.graph);
    m.graph
}

/// Random inputs of a network, one sample each: real numbers of a spread of 1, tokens below the size of their table.
pub fn samples(graph: &Graph, count: usize, seed: u64) -> Vec<Vec<Tensor>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let tokens = |id: ValueId| {
        let table = |n: &&Node| matches!(n.op, Op::Gather { .. }) && n.input(1) == Some(id);
        let table = graph.nodes.iter().find(table).and_then(|n| n.input(0));
        table.map_or(1, |table| graph.value(table).shape[0].at(1)) as i64
    };
    let mut one = |&id: &ValueId| {
        let value = graph.value(id);
        let shape = shape_at(&value.shape, 1);
        let len: usize = shape.iter().product();
        match value.dtype {
            DType::I64 => Tensor::i64(shape, (0..len).map(|_| rng.random_range(0..tokens(id))).collect()),
            _ => {
                // Samples differ in size and offset, as pictures in brightness.
                let (size, offset) = (rng.random_range(0.3..1.5f32), rng.random_range(-0.5..0.5f32));
                Tensor::f32(shape, (0..len).map(|_| offset + size * rng.random_range(-1.0f32..1.0)).collect())
            }
        }
    };
    (0..count).map(|_| graph.inputs.iter().map(&mut one).collect()).collect()
}

/// `[batch, …]`
fn batched(shape: &[usize]) -> Vec<Dim> {
    std::iter::once(Dim::Batch).chain(shape.iter().map(|&n| Dim::Fixed(n))).collect()
}

/// Adds nodes, and keeps names and numbers coming.
struct Maker {
    graph: Graph,
    rng: ChaCha8Rng,
    count: usize,
    /// How often a tensor of weights is peculiar: never in half of the networks.
    peculiar: f64,
    /// Weights so far, for layers that share them.
    weights: Vec<ValueId>,
}

impl Maker {
    fn new(seed: u64) -> Maker {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let peculiar = if rng.random_bool(0.5) { 0.0 } else { rng.random_range(0.1..0.6) };
        let graph = Graph { name: format!("random_{seed}"), ..Graph::default() };
        Maker { graph, rng, count: 0, peculiar, weights: vec![] }
    }

    fn name(&mut self, what: &str) -> String {
        self.count += 1;
        format!("{what}{}", self.count)
    }

    fn chance(&mut self, of: f64) -> bool {
        self.rng.random_bool(of)
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.rng.random_range(0..of.len())]
    }

    /// From `low` to `high`, both among them.
    fn within(&mut self, low: usize, high: usize) -> usize {
        self.rng.random_range(low..=high.max(low))
    }

    fn input(&mut self, shape: &[usize], dtype: DType) -> ValueId {
        let name = self.name("input");
        let id = self.graph.add_value(Value { name, dtype, shape: batched(shape), data: None, quant: None });
        self.graph.inputs.push(id);
        id
    }

    /// The extents of a value, less the batch's.
    fn shape(&self, id: ValueId) -> Vec<usize> {
        shape_at(&self.graph.value(id).shape, 1)[1..].to_vec()
    }

    fn len(&self, id: ValueId) -> usize {
        self.shape(id).iter().product()
    }

    fn constant(&mut self, tensor: Tensor) -> ValueId {
        let name = self.name("constant");
        self.graph.add_constant(name, tensor)
    }

    fn scalar(&mut self, number: f32) -> ValueId {
        self.constant(Tensor::f32([], vec![number]))
    }

    /// All results of a new node.
    fn results(&mut self, op: Op, inputs: &[ValueId]) -> Vec<ValueId> {
        let name = self.name(op.name());
        let inputs = inputs.iter().map(|&id| Some(id)).collect();
        let mut node = Node { name: name.clone(), op, inputs, outputs: vec![] };
        let results = infer_node(&self.graph, &node).unwrap_or_else(|e| panic!("the generator: {e}"));
        for (i, (dtype, shape)) in results.into_iter().enumerate() {
            let name = if i == 0 { name.clone() } else { format!("{name}.{i}") };
            node.outputs.push(self.graph.add_value(Value { name, dtype, shape, data: None, quant: None }));
        }
        self.graph.nodes.push(node.clone());
        node.outputs
    }

    /// The first result of a new node.
    fn push(&mut self, op: Op, inputs: &[ValueId]) -> ValueId {
        self.results(op, inputs)[0]
    }

    fn reshape(&mut self, x: ValueId, shape: &[usize]) -> ValueId {
        self.push(Op::Reshape { shape: batched(shape) }, &[x])
    }

    fn slice(&mut self, x: ValueId, axis: usize, (start, end, step): (usize, usize, usize)) -> ValueId {
        let op = Op::Slice {
            starts: vec![start as i64],
            ends: vec![end as i64],
            axes: vec![axis],
            steps: vec![step as i64],
        };
        self.push(op, &[x])
    }

    /// A function of every element.
    fn activation(&mut self, x: ValueId) -> ValueId {
        let ops = [
            Op::Relu,
            Op::Relu,
            Op::Relu,
            Op::Clip { min: 0.0, max: 6.0 },
            Op::Clip { min: -1.0, max: 1.0 },
            Op::Clip { min: 0.25, max: 1.5 },
            Op::Clip { min: f32::NEG_INFINITY, max: 0.5 },
            Op::LeakyRelu { alpha: 0.1 },
            Op::LeakyRelu { alpha: -0.5 },
            Op::Sigmoid,
            Op::Tanh,
            Op::HardSwish,
            Op::HardSigmoid { alpha: 0.2, beta: 0.5 },
            Op::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 },
            Op::Unary(Unary::Abs),
            Op::Unary(Unary::Neg),
            Op::Unary(Unary::Erf),
            Op::Unary(Unary::Gelu { tanh: false }),
            Op::Unary(Unary::Gelu { tanh: true }),
            Op::Identity,
            Op::Dropout,
        ];
        match self.rng.random_range(0..26) {
            i @ 0..21 => self.push(ops[i].clone(), &[x]),
            // Swish and Gelu as exporters write them.
            21 => {
                let gate = self.push(Op::Sigmoid, &[x]);
                self.push(Op::Mul, &[x, gate])
            }
            22 => {
                let [root, one, half] = [2f32.sqrt(), 1.0, 0.5].map(|number| self.scalar(number));
                let y = self.push(Op::Div, &[x, root]);
                let y = self.push(Op::Unary(Unary::Erf), &[y]);
                let y = self.push(Op::Add, &[y, one]);
                let y = self.push(Op::Mul, &[x, y]);
                self.push(Op::Mul, &[y, half])
            }
            // Functions of what is positive, or negative.
            23 => {
                let y = self.push(Op::Relu, &[x]);
                self.push(Op::Unary(Unary::Sqrt), &[y])
            }
            24 => {
                let y = self.push(Op::Unary(Unary::Abs), &[x]);
                let y = self.push(Op::Unary(Unary::Neg), &[y]);
                self.push(Op::Unary(Unary::Exp), &[y])
            }
            _ => {
                let y = self.push(Op::Sigmoid, &[x]);
                let half = self.scalar(0.5);
                let y = self.push(Op::Add, &[y, half]);
                self.push(Op::Unary(Unary::Reciprocal), &[y])
            }
        }
    }

    /// No function of every element, one, or one of another.
    fn perhaps_activation(&mut self, x: ValueId) -> ValueId {
        let mut y = x;
        for _ in 0..self.one(&[0, 1, 1, 1, 2]) {
            y = self.activation(y);
        }
        y
    }

    /// Two values of equal extents.
    fn joined(&mut self, a: ValueId, b: ValueId) -> ValueId {
        let (a, b) = if self.chance(0.5) { (a, b) } else { (b, a) };
        let op = self.one(&[0, 0, 0, 1, 2]);
        let sum = self.push([Op::Add, Op::Sub, Op::Mul][op].clone(), &[a, b]);
        if self.chance(0.4) { self.push(Op::Relu, &[sum]) } else { sum }
    }

    /// Arithmetic with a constant of some extents that broadcast: the numbers are about 1.
    fn scaled(&mut self, x: ValueId, extents: &[usize]) -> ValueId {
        let len = extents.iter().product();
        let op = self.one(&[0, 1, 2, 3]);
        let numbers = (0..len).map(|_| self.rng.random_range(0.5..1.5f32)).collect();
        let constant = self.constant(Tensor::f32(extents, numbers));
        let first = self.chance(0.3) && op != 3;
        let operands = if first { [constant, x] } else { [x, constant] };
        self.push([Op::Add, Op::Sub, Op::Mul, Op::Div][op].clone(), &operands)
    }

    /// Something that is positive and not near zero, of a value.
    fn positive(&mut self, x: ValueId) -> ValueId {
        let y = self.push(Op::Sigmoid, &[x]);
        let offset = self.scalar(0.5);
        self.push(Op::Add, &[y, offset])
    }
}
