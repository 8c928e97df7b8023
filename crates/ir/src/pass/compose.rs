//! Operators that exporters write out, put together again.

use crate::graph::{Binary, Graph, Node, Op, Pool, Tensor, ValueId};

/// Local response normalisation as PyTorch exports it: the mean of the squares over a window of channels, which an average
/// pool computes with the channels as a spatial axis. Becomes one [`Op::Lrn`], so that channels are channels again.
pub fn compose_lrn(graph: &mut Graph) {
    let producers = graph.producers();
    let mut found = vec![];
    for (index, node) in graph.nodes.iter().enumerate() {
        if let Some((x, op)) = lrn(&Chain { graph, producers: &producers }, node) {
            found.push((index, x, op));
        }
    }
    for (index, x, op) in found {
        let node = &mut graph.nodes[index];
        node.op = op;
        node.inputs = vec![Some(x)];
    }
    super::drop_dead_code(graph);
}

struct Chain<'a> {
    graph: &'a Graph,
    producers: &'a std::collections::HashMap<ValueId, usize>,
}

impl<'a> Chain<'a> {
    fn maker(&self, id: ValueId) -> Option<&'a Node> {
        self.producers.get(&id).map(|&i| &self.graph.nodes[i])
    }

    fn number(&self, id: ValueId) -> Option<f32> {
        self.graph.constant(id).filter(|t: &&Tensor| t.len() == 1).map(|t| t.to_f32()[0])
    }

    /// The operands of a node as one that is computed and a number.
    fn with_number(&self, node: &Node) -> Option<(ValueId, f32)> {
        let (a, b) = (node.input(0)?, node.input(1)?);
        self.number(b).map(|n| (a, n)).or_else(|| self.number(a).map(|n| (b, n)))
    }
}

/// `x / (bias + alpha · mean(x²))^beta`
fn lrn(chain: &Chain, node: &Node) -> Option<(ValueId, Op)> {
    let (Op::Div, Some(x), Some(divisor)) = (&node.op, node.input(0), node.input(1)) else { return None };
    let power = chain.maker(divisor).filter(|n| n.op == Op::Binary(Binary::Pow))?;
    let (sum, beta) = (power.input(0)?, chain.number(power.input(1)?)?);
    let (scaled, bias) = chain.with_number(chain.maker(sum).filter(|n| n.op == Op::Add)?)?;
    let (mean, alpha) = chain.with_number(chain.maker(scaled).filter(|n| n.op == Op::Mul)?)?;
    // Back through changes of shape to the pool, and from there to the squares.
    let moves =
        |n: &&Node| matches!(n.op, Op::Squeeze { .. } | Op::Unsqueeze { .. } | Op::Reshape { .. } | Op::Flatten { .. });
    let mut at = mean;
    while let Some(n) = chain.maker(at).filter(moves) {
        at = n.input(0)?;
    }
    let pool = chain.maker(at)?;
    let Op::AveragePool(Pool { kernel, strides, pads, count_include_pad, dilations, .. }) = &pool.op else {
        return None;
    };
    let [size, rest @ ..] = kernel.as_slice() else { return None };
    let ones = |v: &[usize]| v.iter().all(|&n| n == 1);
    let channels = chain.graph.value(x).shape.get(1)?;
    let over_channels = chain.graph.value(pool.output()).shape.get(2) == Some(channels);
    if !ones(rest) || !ones(strides) || !ones(dilations) || !over_channels {
        return None;
    }
    let mut before = pads.first().copied()?;
    at = pool.input(0)?;
    let mut padded = before > 0;
    while let Some(n) = chain.maker(at) {
        match &n.op {
            Op::Pad { pads, mode: crate::graph::PadMode::Constant(0.0) } => {
                before += usize::try_from(*pads.get(2)?).ok()?;
                padded = false;
            }
            _ if moves(&n) => {}
            _ => break,
        }
        at = n.input(0)?;
    }
    let square = chain.maker(at).filter(|n| n.op == Op::Mul && n.input(0) == Some(x) && n.input(1) == Some(x))?;
    debug_assert_eq!(chain.graph.value(square.output()).shape, chain.graph.value(x).shape);
    // ONNX has ⌊(size − 1) / 2⌋ channels before the one in the middle, and divides by the window's size at the ends too.
    if before != (size - 1) / 2 || (padded && !count_include_pad) {
        return None;
    }
    Some((x, Op::Lrn { size: *size, alpha, beta, bias }))
}
