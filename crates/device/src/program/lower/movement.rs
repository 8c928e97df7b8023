//! Operators that move or select elements, and means along axes.

use super::order::{Order, image_order};
use super::{Lowering, Result1, fail};
use crate::program::{AverageParams, BufferId, Kernel, Window};
use kdc_ir::graph::{Node, Op, ValueId};

/// The distance of neighbours along each axis of a value whose axes lie in this order.
fn strides(shape: &[usize], order: &[usize]) -> Vec<usize> {
    let mut strides = vec![0; shape.len()];
    let mut stride = 1;
    for &axis in order.iter().rev() {
        strides[axis] = stride;
        stride *= shape[axis];
    }
    strides
}

/// Start, step and count of indices at equal distances.
fn regular(indices: &[i64], extent: usize) -> Option<(usize, i64, usize)> {
    let extent = extent as i64;
    let at = |i: i64| if i < 0 { i + extent } else { i };
    let first = at(*indices.first()?);
    let step = indices.get(1).map_or(1, |&second| at(second) - first);
    let mut wanted = (0..).map(|i| first + i * step);
    let fits = indices.iter().all(|&i| wanted.next() == Some(at(i)) && (0..extent).contains(&at(i)));
    fits.then_some((first as usize, step, indices.len()))
}

impl Lowering<'_> {
    /// The same value under another name.
    pub(super) fn renamed(&mut self, node: &Node, x: ValueId, out: ValueId) -> Result1<()> {
        let mut held = self.held(node, x)?.clone();
        held.table = self.carried(x, held.layouts[0].1, out);
        self.held.insert(out, held);
        if let Some(&shape) = self.unordered.get(&x) {
            self.unordered.insert(out, shape);
        }
        Ok(())
    }

    /// Axes in another order: the buffers stay as they are.
    pub(super) fn transposed(&mut self, node: &Node, x: ValueId, perm: &[usize]) -> Result1<()> {
        let mut held = self.held(node, x)?.clone();
        let place = |axis: usize| perm.iter().position(|&p| p == axis).unwrap_or(0);
        held.layouts.iter_mut().for_each(|(order, _)| order.iter_mut().for_each(|axis| *axis = place(*axis)));
        held.table = self.carried(x, held.layouts[0].1, node.output());
        self.held.insert(node.output(), held);
        Ok(())
    }

    /// The same elements under other extents; where the order is not the network's own, they move as well.
    pub(super) fn reshape(&mut self, node: &Node, x: ValueId, out: ValueId) -> Result1<()> {
        let (from, to) = (self.shape(x), self.shape(out));
        let plain = |shape: &[usize]| (0..shape.len()).collect::<Order>();
        let order = self.held(node, x)?.layouts[0].0.clone();
        let wide = |order: &[usize]| order.iter().copied().filter(|&axis| from[axis] > 1).collect::<Vec<_>>();
        let moved = !wide(&order).is_sorted();
        let image = moved && from.len() > 2 && wide(&order) == wide(&image_order(from.len()));
        if image && to.len() > 2 && to[..2] == from[..2] {
            // Pixels are only counted in another way.
            let (order, buffer) = self.held(node, x)?.layouts[0].clone();
            self.moving(node, Kernel::Reshape, (x, buffer), out, image_order(to.len()));
            debug_assert_eq!(order.len(), from.len());
            return Ok(());
        }
        let readers: Vec<&Node> = self.graph.nodes.iter().filter(|n| n.inputs.contains(&Some(out))).collect();
        let matrices = |n: &&Node| {
            let constant = n.input(1).is_some_and(|w| self.is_constant(w));
            constant && n.input(0) == Some(out) && matches!(n.op, Op::Gemm { trans_a: false, .. } | Op::MatMul)
        };
        let absorbed = !readers.is_empty() && readers.iter().all(matrices) && !self.graph.outputs.contains(&out);
        if image && absorbed && to.len() == 2 && to[0] == 1 && from[0] == 1 {
            self.unordered.insert(out, [from[2..].iter().product(), from[1]]);
            let buffer = self.materialize(node, x, &image_order(from.len()))?;
            self.moving(node, Kernel::Reshape, (x, buffer), out, plain(&to));
            return Ok(());
        }
        let buffer = self.raw(node, x, &plain(&from))?;
        self.moving(node, Kernel::Reshape, (x, buffer), out, plain(&to));
        Ok(())
    }

    /// Elements at equal distances along every axis: `picked` are start and step by axis of the operand, whose axes the
    /// result has as well.
    fn selected(&mut self, node: &Node, x: ValueId, out: ValueId, picked: &[(usize, i64)]) -> Result1<()> {
        let (order, input) = self.held(node, x)?.layouts[0].clone();
        let (from, to) = (self.shape(x), self.shape(out));
        let distance = strides(&from, &order);
        let offset = picked.iter().zip(&distance).map(|((start, _), stride)| start * stride).sum();
        let wide: Vec<usize> = order.iter().copied().filter(|&axis| to[axis] > 1).collect();
        let step = |axis: usize| usize::try_from(picked[axis].1).ok().map(|step| step * distance[axis]);
        let steps = wide.iter().map(|&axis| step(axis)).collect::<Option<Vec<_>>>();
        let strides = steps.ok_or_else(|| fail(node, "a negative step has no kernel"))?;
        let kernel = Kernel::View { offset, shape: wide.iter().map(|&axis| to[axis]).collect(), strides };
        self.moving(node, kernel, (x, input), out, order);
        Ok(())
    }

    pub(super) fn slice(
        &mut self,
        node: &Node,
        x: ValueId,
        starts: &[i64],
        axes: &[usize],
        steps: &[i64],
    ) -> Result1<()> {
        let mut picked = vec![(0, 1); self.shape(x).len()];
        for ((&start, &axis), &step) in starts.iter().zip(axes).zip(steps) {
            picked[axis] =
                (usize::try_from(start).map_err(|_| fail(node, "it starts before the first element"))?, step);
        }
        self.selected(node, x, node.output(), &picked)
    }

    pub(super) fn split(&mut self, node: &Node, x: ValueId, axis: usize, sizes: &[usize]) -> Result1<()> {
        let mut start = 0;
        for (&out, size) in node.outputs.iter().zip(sizes) {
            let mut picked = vec![(0, 1); self.shape(x).len()];
            picked[axis].0 = start;
            self.selected(node, x, out, &picked)?;
            start += size;
        }
        Ok(())
    }

    pub(super) fn expand(&mut self, node: &Node, x: ValueId, out: ValueId) -> Result1<()> {
        let (from, to) = (self.shape(x), self.shape(out));
        let input = self.raw(node, x, &(0..from.len()).collect::<Vec<_>>())?;
        let kernel = Kernel::View { offset: 0, shape: to.clone(), strides: repeated(&from, &to) };
        self.moving(node, kernel, (x, input), out, (0..to.len()).collect());
        Ok(())
    }

    /// Elements at constant indices.
    pub(super) fn gather(&mut self, node: &Node, axis: usize, x: ValueId) -> Result1<()> {
        let out = node.output();
        let indices = node.input(1).and_then(|id| self.graph.constant(id));
        let indices = indices.and_then(|t| t.as_i64()).ok_or_else(|| fail(node, "its indices are not constant"))?;
        let shape = self.shape(x);
        let irregular = || fail(node, "indices at unequal distances have no kernel");
        let (start, step, count) = regular(indices, shape[axis]).ok_or_else(irregular)?;
        let step = usize::try_from(step).map_err(|_| fail(node, "a negative step has no kernel"))?;
        let inner: usize = shape[axis + 1..].iter().product();
        let outer: usize = shape[..axis].iter().product();
        let input = self.raw(node, x, &(0..shape.len()).collect::<Vec<_>>())?;
        let order = (0..self.graph.value(out).shape.len()).collect();
        let kernel = match (outer, count) {
            (1, n) if n == shape[axis] && start == 0 => Kernel::Reshape,
            _ => Kernel::View {
                offset: start * inner,
                shape: vec![outer, count, inner],
                strides: vec![shape[axis] * inner, step * inner, 1],
            },
        };
        self.moving(node, kernel, (x, input), out, order);
        Ok(())
    }

    pub(super) fn concat(&mut self, node: &Node, axis: usize) -> Result1<()> {
        let out = node.output();
        let ids: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
        let computed = ids.iter().copied().find(|id| !self.is_constant(*id));
        let order = self.order(computed.ok_or_else(|| fail(node, "all its operands are constants"))?);
        if ids.iter().any(|id| self.unordered.contains_key(id)) {
            return Err(fail(node, "an operand is a flattened image"));
        }
        let place = order.iter().position(|&a| a == axis).unwrap_or(0);
        let (mut inputs, mut inner) = (vec![], vec![]);
        for &id in &ids {
            let shape = self.shape(id);
            inner.push(order[place..].iter().map(|&axis| shape[axis]).product());
            inputs.push(match self.graph.constant(id) {
                Some(tensor) => {
                    let tensor = tensor.clone();
                    self.constant(id, &tensor, &order, self.quant(out))
                }
                None => self.materialize_as(node, id, &order, out)?,
            });
        }
        let shape = self.shape(out);
        let outer = order[..place].iter().map(|&axis| shape[axis]).product();
        self.step(node, Kernel::Concat { outer, inner }, inputs, out, order)
    }

    /// Means and sums along axes.
    pub(super) fn reduce(&mut self, node: &Node, axes: &[usize], x: ValueId, out: ValueId) -> Result1<()> {
        let from = self.shape(x);
        let mut order = self.order(x);
        let lies = |axis: &usize| axes.contains(axis);
        let wide: Vec<usize> = order.iter().copied().filter(|&axis| from[axis] > 1).collect();
        let first = wide.iter().position(lies).unwrap_or(0);
        let together = wide[first..].iter().skip_while(|axis| lies(axis)).all(|axis| !lies(axis));
        if !together {
            order.retain(|axis| !lies(axis));
            order.extend(axes);
        }
        let input = self.materialize(node, x, &order)?;
        let count = |axes: &mut dyn Iterator<Item = &usize>| axes.map(|&axis| from[axis]).product::<usize>();
        let n = count(&mut axes.iter());
        let before = order.iter().position(|axis| lies(axis) && from[*axis] > 1).unwrap_or(0);
        let outer = count(&mut order[..before].iter().filter(|axis| !lies(axis)));
        let channels = count(&mut order[before..].iter().filter(|axis| !lies(axis)));
        // Rows of a picture: all of what is averaged, for each of what lies outside.
        let window = Window {
            input: [outer, n],
            output: [outer, 1],
            kernel: [1, n],
            strides: [1, 1],
            pads: [0, 0],
            dilations: [1, 1],
        };
        let params = self.numbers.average(x, out, n);
        let kernel = match (&node.op, params) {
            (Op::ReduceMean { .. }, params) => Kernel::AveragePool { window, channels, count_pads: false, params },
            (_, AverageParams::Int8 { input_zero, output_zero, requant }) => {
                // The sum of n elements is scaled as the mean of one is.
                let requant = vec![requant[0]; n];
                let params = AverageParams::Int8 { input_zero, output_zero, requant };
                Kernel::AveragePool { window, channels, count_pads: false, params }
            }
            (_, AverageParams::F32) => return self.sum(node, window, channels, input, out, (axes, order)),
        };
        let order = self.reduced(out, axes, order);
        self.step(node, kernel, vec![input], out, order)
    }

    /// A sum in `f32`: a product with ones.
    fn sum(
        &mut self,
        node: &Node,
        window: Window,
        channels: usize,
        input: BufferId,
        out: ValueId,
        (axes, order): (&[usize], Order),
    ) -> Result1<()> {
        let n = window.kernel[1];
        let ones = kdc_ir::graph::Tensor::f32([1, n], vec![1.0; n]);
        let order = self.reduced(out, axes, order);
        if window.output[0] != 1 {
            return Err(fail(node, "sums along an inner axis have no kernel"));
        }
        let ones = self.constant(out, &ones, &[0, 1], None);
        let params = crate::program::MatMulParams::F32;
        let kernel = Kernel::MatMul { batch: 1, rows: 1, inner: n, columns: channels, params };
        self.step(node, kernel, vec![ones, input], out, order)
    }

    /// The order of a result that lacks some axes, or has one element along them.
    fn reduced(&self, out: ValueId, axes: &[usize], mut order: Order) -> Order {
        if self.graph.value(out).shape.len() != order.len() {
            order.retain(|axis| !axes.contains(axis));
            order.iter_mut().for_each(|axis| *axis -= axes.iter().filter(|&&a| a < *axis).count());
        }
        order
    }
}

/// Strides that repeat an operand of one shape, in its own order, to another.
pub(super) fn repeated(from: &[usize], to: &[usize]) -> Vec<usize> {
    let missing = to.len() - from.len();
    let own = strides(from, &(0..from.len()).collect::<Vec<_>>());
    let stride = |axis: usize| match axis.checked_sub(missing) {
        Some(axis) if from[axis] > 1 => own[axis],
        _ => 0,
    };
    (0..to.len()).map(stride).collect()
}
