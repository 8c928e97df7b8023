//! What layers with weights, and windows, say about the axes of their operands and results.

use super::axis::{Axis, Reason, known};
use super::relate::Coupler;
use kdc_ir::graph::{Node, Op};

impl Coupler<'_> {
    /// Weights `[out, in / group, kernel…]`.
    pub(super) fn conv(&mut self, node: &Node, x: &[Axis], group: usize) -> Vec<Axis> {
        let mut result: Vec<Axis> = self.shape(node.output()).iter().map(|&n| known(n)).collect();
        let Some(id) = node.input(1) else { return result };
        let (w, shape) = (self.of(id), self.shape(id));
        w[2..].iter().for_each(|axis| self.book.fix(axis, Reason::Kernel));
        // Channels that a Transpose made pixels.
        x[2..].iter().for_each(|axis| self.book.fix(axis, "a window slides over it"));
        if group == 1 {
            self.book.unify(&x[1], &w[1], &self.why);
        } else {
            let parts = self.book.split(&x[1], &[group, shape[1]], &self.why);
            self.book.unify(&parts[1], &w[1], &self.why);
            let filters = self.book.fresh(shape[0] / group);
            let out = self.book.product(&[parts[0].clone(), filters]);
            self.book.unify(&out, &w[0], &self.why);
        }
        result[0] = x[0].clone();
        result[1] = w[0].clone();
        self.along(node, 2, Some(&w[0]));
        result
    }

    /// Weights `[in, out / group, kernel…]`; groups stay as they are.
    pub(super) fn conv_transpose(&mut self, node: &Node, x: &[Axis], group: usize) -> Vec<Axis> {
        let mut result: Vec<Axis> = self.shape(node.output()).iter().map(|&n| known(n)).collect();
        let Some(id) = node.input(1) else { return result };
        let w = self.of(id);
        w[2..].iter().for_each(|axis| self.book.fix(axis, Reason::Kernel));
        // Channels that a Transpose made pixels.
        x[2..].iter().for_each(|axis| self.book.fix(axis, "a window slides over it"));
        self.book.unify(&x[1], &w[0], &self.why);
        if group > 1 {
            let extent = self.shape(id)[0];
            let parts = self.book.split(&w[0], &[group, extent / group], &self.why);
            self.book.fix(&parts[0], &format!("'{}' has {group} groups of filters", node.name));
        }
        result[0] = x[0].clone();
        result[1] = self.book.product(&[known(group), w[1].clone()]);
        let out = result[1].clone();
        self.along(node, 2, Some(&out));
        result
    }

    pub(super) fn matmul(&mut self, node: &Node) -> Vec<Axis> {
        let (Some(a), Some(b)) = (node.input(0), node.input(1)) else { return vec![] };
        let ((a, sa), (b, sb)) = ((self.of(a), self.shape(a)), (self.of(b), self.shape(b)));
        let (ra, rb) = (a.len(), b.len());
        self.book.unify(&a[ra - 1], &b[rb - 2], &self.why);
        let outer =
            |axes: &[Axis], shape: &[usize], rank: usize| (axes[..rank - 2].to_vec(), shape[..rank - 2].to_vec());
        let mut result = self.broadcast(&[outer(&a, &sa, ra), outer(&b, &sb, rb)]);
        result.extend([a[ra - 2].clone(), b[rb - 1].clone()]);
        result
    }

    /// Gates are stacked in the weights: `w [directions, gates · hidden, in]`, `r [directions, gates · hidden, hidden]`,
    /// `b [directions, 2 · gates · hidden]`, `p [directions, 3 · hidden]`.
    pub(super) fn recurrent(&mut self, node: &Node, x: &[Axis], op: &kdc_ir::graph::Recurrent) -> Vec<Vec<Axis>> {
        let hidden = self.book.fresh(op.hidden);
        let gates = op.cell.gates();
        let directions = known(op.direction.count());
        let (sequence, batch) = if op.batch_first { (&x[1], &x[0]) } else { (&x[0], &x[1]) };
        let times = |s: &mut Self, n: usize| s.book.product(&[known(n), hidden.clone()]);
        let (stacked, biases, peepholes) = (times(self, gates), times(self, 2 * gates), times(self, 3));
        let state = match op.batch_first {
            true => vec![batch.clone(), directions.clone(), hidden.clone()],
            false => vec![directions.clone(), batch.clone(), hidden.clone()],
        };
        let wanted: [(usize, Vec<Axis>); 6] = [
            (1, vec![directions.clone(), stacked.clone(), x[2].clone()]),
            (2, vec![directions.clone(), stacked, hidden.clone()]),
            (3, vec![directions.clone(), biases]),
            (5, state.clone()),
            (6, state.clone()),
            (7, vec![directions.clone(), peepholes]),
        ];
        for (operand, axes) in wanted {
            let Some(id) = node.input(operand) else { continue };
            for (own, axis) in self.of(id).iter().zip(&axes) {
                self.book.unify(own, axis, &self.why);
            }
        }
        let y = match op.batch_first {
            true => vec![batch.clone(), sequence.clone(), directions, hidden],
            false => vec![sequence.clone(), directions, batch.clone(), hidden],
        };
        vec![y, state.clone(), state]
    }

    /// Batch and channels pass; pixels are known.
    pub(super) fn spatial(&self, node: &Node, x: Vec<Axis>) -> Vec<Axis> {
        let shape = self.shape(node.output());
        x.into_iter().take(2).chain(shape.into_iter().skip(2).map(known)).collect()
    }

    /// An axis that an operator makes longer or shorter. Zeros added around channels (a shortcut that is wider than what
    /// it leaves out) are channels of their own, which stay or go with those they meet.
    pub(super) fn grown(&mut self, node: &Node, axis: &Axis, from: usize, to: usize, d: usize) -> Axis {
        if let Op::Pad { pads, mode: kdc_ir::graph::PadMode::Constant(_) } = &node.op {
            let (before, after) = (pads[d], pads[d + pads.len() / 2]);
            if before >= 0 && after >= 0 {
                let (before, after) = (before as usize, after as usize);
                return [self.book.fresh(before), axis.clone(), self.book.fresh(after)]
                    .into_iter()
                    .zip([before, from, after])
                    .filter(|(_, n)| *n > 0)
                    .flat_map(|(axis, _)| axis)
                    .collect();
            }
        }
        self.book.fix(axis, &format!("'{}' makes {to} of {from}", node.name));
        known(to)
    }
}
