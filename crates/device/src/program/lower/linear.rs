//! Matrix products, and what stands between them in attention.

use super::{Lowering, Result1, fail};
use crate::program::numbers::Bounds;
use crate::program::reference::transpose;
use crate::program::{BufferId, Kernel, LONGEST_SUM, Precision, Quant};
use kdc_ir::graph::{Node, Op, Tensor, ValueId};
use kdc_ir::host::elements::broadcast;
use kdc_ir::pass::MASKED;

impl Lowering<'_> {
    /// The buffer of a value with this axis innermost, the others as they are.
    fn innermost(&mut self, node: &Node, x: ValueId, axis: usize) -> Result1<(BufferId, Vec<usize>)> {
        let mut order = self.order(x);
        order.retain(|&a| a != axis);
        order.push(axis);
        Ok((self.materialize(node, x, &order)?, order))
    }

    /// A product with a constant matrix.
    pub(super) fn fully_connected(
        &mut self,
        node: &Node,
        x: ValueId,
        bias: Option<ValueId>,
        out: ValueId,
        bounds: Bounds,
    ) -> Result1<()> {
        let (alpha, beta, trans_b) = match node.op {
            Op::Gemm { trans_a: true, .. } => return Err(fail(node, "its first operand is transposed")),
            Op::Gemm { alpha, beta, trans_b, .. } => (alpha, beta, trans_b),
            _ => (1.0, 1.0, false),
        };
        let weights = node.input(1).and_then(|w| self.graph.constant(w)).filter(|t| t.shape.len() == 2);
        let weights = weights.ok_or_else(|| fail(node, "its second operand is not a constant matrix"))?;
        let (rows, columns) = (weights.shape[0], weights.shape[1]);
        let (out_features, in_features) = if trans_b { (rows, columns) } else { (columns, rows) };
        let image = self.unordered.get(&x).copied();
        let arrange = |w: &[f32]| {
            let w = if trans_b { w.to_vec() } else { transpose(&[rows, columns], &[1, 0], w) };
            match image {
                None => w,
                // Columns in the network's order, [channels][height · width], to the buffer's.
                Some([pixels, c]) => transpose(&[out_features, c, pixels], &[0, 2, 1], &w),
            }
        };
        let rank = self.graph.value(x).shape.len();
        let (input, order) = match image {
            Some(_) => (self.raw(node, x, &self.order(x))?, self.order(x)),
            None => self.innermost(node, x, rank - 1)?,
        };
        let axis = usize::from(!trans_b);
        let bias = bias.or(node.input(2));
        let linear = self.numbers.linear(node, x, bias, out, axis, alpha, beta, bounds, &arrange);
        let linear = linear.map_err(|why| fail(node, why))?;
        let rows = self.program.buffer(input).len() / in_features.max(1);
        self.step(node, Kernel::FullyConnected { rows, in_features, out_features, linear }, vec![input], out, order)
    }

    /// A product of two matrices, or stacks of them, that the network computes.
    pub(super) fn matmul(&mut self, node: &Node, out: ValueId) -> Result1<()> {
        let (Some(a), Some(b)) = (node.input(0), node.input(1)) else {
            return Err(fail(node, "an operand is missing"));
        };
        let (sa, sb) = (self.shape(a), self.shape(b));
        let ([stack_a @ .., rows, inner], [stack_b @ .., _, columns]) = (&sa[..], &sb[..]) else {
            return Err(fail(node, "products with vectors have no kernel"));
        };
        let (count_a, count_b): (usize, usize) = (stack_a.iter().product(), stack_b.iter().product());
        let aligned = |a: &[usize], b: &[usize]| a.iter().rev().zip(b.iter().rev()).all(|(a, b)| a == b);
        let (batch, rows) = match count_b {
            1 => (1, count_a * rows),
            _ if count_a == count_b && aligned(stack_a, stack_b) => (count_a, *rows),
            _ => return Err(fail(node, format!("there is no kernel for operands of {sa:?} and {sb:?}"))),
        };
        let (inner, columns) = (*inner, *columns);
        if self.program.precision == Precision::Int8 && inner > LONGEST_SUM {
            return Err(fail(node, format!("a sum of {inner} products does not fit into 32 bits")));
        }
        let plain = |n: usize| (0..n).collect::<Vec<_>>();
        let inputs = vec![self.materialize(node, a, &plain(sa.len()))?, self.materialize(node, b, &plain(sb.len()))?];
        let params = self.numbers.matmul(a, b, out);
        let order = plain(self.graph.value(out).shape.len());
        self.step(node, Kernel::MatMul { batch, rows, inner, columns, params }, inputs, out, order)
    }

    pub(super) fn softmax(&mut self, node: &Node, axis: usize, x: ValueId, out: ValueId) -> Result1<()> {
        let len = self.shape(x)[axis];
        let (scores, mask) = self.masked.get(&x).copied().map_or((x, None), |(scores, mask)| (scores, Some(mask)));
        let (input, order) = self.innermost(node, scores, axis)?;
        let kernel = Kernel::Softmax {
            rows: self.program.buffer(input).len() / len.max(1),
            len,
            exp: self.numbers.exponentials(scores),
        };
        let inputs = match mask {
            None => vec![input],
            Some(mask) => vec![input, self.mask(node, mask, scores, &order)?],
        };
        self.step(node, kernel, inputs, out, order)
    }

    /// Which elements a softmax keeps: 0 for those to which the network adds a large negative number, 1 for the others.
    fn mask(&mut self, node: &Node, mask: ValueId, scores: ValueId, order: &[usize]) -> Result1<BufferId> {
        let (shape, whole) = (self.shape(mask), self.shape(scores));
        if node.input(0).is_none_or(|sum| self.shape(sum) != whole) {
            return Err(fail(node, "one operand's rows are masked in several ways, which has no kernel"));
        }
        let missing = whole.len().saturating_sub(shape.len());
        let own: Vec<usize> = order.iter().filter(|&&axis| axis >= missing).map(|axis| axis - missing).collect();
        // Repeated as a whole over the rows: its outer axes have one element, its inner ones all of theirs.
        let wide = own.iter().position(|&axis| shape[axis] > 1).unwrap_or(own.len());
        let repeats = own[wide..].iter().all(|&axis| shape[axis] == whole[axis + missing]);
        if let Some(tensor) = self.graph.constant(mask) {
            let keep = tensor.to_f32().iter().map(|&v| f32::from(u8::from(v > MASKED))).collect();
            let mut keep = Tensor::f32(tensor.shape.clone(), keep);
            if !repeats {
                let from = broadcast(&shape, &whole);
                keep = Tensor::f32(whole, from.into_iter().map(|i| keep.to_f32()[i]).collect());
            }
            let (quant, order) = (Quant { scale: 1.0, zero_point: 0 }, if repeats { &own } else { order });
            return Ok(self.constant(mask, &keep, order, Some(quant)));
        }
        if !repeats {
            return Err(fail(node, "its mask is repeated along an inner axis, which has no kernel"));
        }
        let table = self.table(mask).ok_or_else(|| fail(node, "its mask is not computed from whole numbers"))?;
        // Whole numbers are stored from −128 on; a mask says 0 or 1.
        if table[..2].iter().any(|&v| v < 0.0 && v > MASKED) {
            return Err(fail(node, "what is added to its operand is neither nothing nor so much that nothing is left"));
        }
        let input = self.raw(node, mask, &own)?;
        let keep = Box::new(table.map(|v| i8::from(v > MASKED)));
        let shape = self.program.buffer(input).shape.clone();
        Ok(self.like(node, Kernel::Lookup { table: keep }, input, shape))
    }

    pub(super) fn layer_norm(
        &mut self,
        node: &Node,
        axis: usize,
        epsilon: f32,
        x: ValueId,
        out: ValueId,
    ) -> Result1<()> {
        let shape = self.shape(x);
        let len: usize = shape[axis..].iter().product();
        let constant = |id: Option<ValueId>, missing: f32| match id.map(|id| self.graph.constant(id)) {
            None => Ok(vec![missing; len]),
            Some(Some(tensor)) if tensor.len() == len => Ok(tensor.to_f32().into_owned()),
            Some(_) => Err(fail(node, "its scale and bias are not constants of one number for each element")),
        };
        let (scale, bias) = (constant(node.input(1), 1.0)?, constant(node.input(2), 0.0)?);
        // The normalised axes innermost, in the network's order.
        let mut order = self.order(x);
        order.retain(|&a| a < axis);
        order.extend(axis..shape.len());
        let input = self.materialize(node, x, &order)?;
        let params = self.numbers.layer_norm(x, out, scale, bias, epsilon, len);
        let kernel = Kernel::LayerNorm { rows: self.program.buffer(input).len() / len.max(1), len, params };
        self.step(node, kernel, vec![input], out, order)
    }

    /// The rows of a constant table that tokens name.
    pub(super) fn embedding(&mut self, node: &Node, axis: usize, out: ValueId) -> Result1<()> {
        let (Some(table), Some(tokens)) = (node.input(0), node.input(1)) else {
            return Err(fail(node, "an operand is missing"));
        };
        let Some(tensor) = self.graph.constant(table).filter(|t| t.shape.len() == 2 && axis == 0 && !t.is_empty())
        else {
            return Err(fail(node, "only rows of a constant matrix are looked up by token"));
        };
        let tensor = tensor.clone();
        let width = tensor.shape[1];
        let input = self.raw(node, tokens, &self.order(tokens))?;
        let table = self.constant(table, &tensor, &[0, 1], self.quant(out));
        let order = (0..self.graph.value(out).shape.len()).collect();
        self.step(node, Kernel::Embedding { width }, vec![input, table], out, order)
    }
}
