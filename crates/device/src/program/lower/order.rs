//! Where the elements of the network's values lie: buffers, in which order, and standing for what.

use super::{LowerError, Lowering, Result1, fail};
use crate::program::reference::transpose;
use crate::program::{Buffer, BufferId, Constant, Element, Kernel, Precision, Quant, Step};
use crate::quant::{dequantize, quantize};
use kdc_ir::graph::{DType, Node, Tensor, ValueId, shape_at};

/// The axes of a value in the order in which a buffer has them, outermost first. Axes of one element may stand anywhere.
pub(super) type Order = Vec<usize>;

/// What each stored number of an `i8` buffer stands for, from −128 on.
pub(super) type Table = Box<[f32; 256]>;

/// Behind a value's name: its buffer holds what the value is a function of.
const UNSETTLED: &str = " before its function";

/// A value that has been computed.
#[derive(Clone)]
pub(super) struct ValueLayouts {
    /// The same elements in one order or several.
    pub layouts: Vec<(Order, BufferId)>,
    /// In an `i8` program: the value is a function of what the buffers hold. Functions of functions are one table, which
    /// is written out when somebody wants the value itself.
    pub table: Option<Table>,
    /// The node that made it.
    pub node: String,
}

/// Channels innermost: `[batch, height, width, channels]`.
pub(super) fn image_order(rank: usize) -> Order {
    let spatial = 2..rank;
    std::iter::once(0).chain(spatial).chain((rank > 1).then_some(1)).collect()
}

/// Whether two orders arrange a value of this shape in the same way.
fn same(shape: &[usize], a: &[usize], b: &[usize]) -> bool {
    let wide = |order: &[usize]| order.iter().copied().filter(|&axis| shape[axis] > 1).collect::<Vec<_>>();
    wide(a) == wide(b)
}

impl Lowering<'_> {
    pub(super) fn shape(&self, id: ValueId) -> Vec<usize> {
        shape_at(&self.graph.value(id).shape, 1)
    }

    pub(super) fn is_constant(&self, id: ValueId) -> bool {
        self.graph.constant(id).is_some()
    }

    pub(super) fn held(&self, node: &Node, id: ValueId) -> Result1<&ValueLayouts> {
        self.held.get(&id).ok_or_else(|| fail(node, "its operand is a constant; fold it first"))
    }

    /// The order of a value's first layout; the network's own for constants.
    pub(super) fn order(&self, id: ValueId) -> Order {
        let first = self.held.get(&id).and_then(|held| held.layouts.first()).map(|(order, _)| order.clone());
        first.unwrap_or_else(|| (0..self.graph.value(id).shape.len()).collect())
    }

    /// The parameters of a value that is written into a buffer.
    pub(super) fn quant(&self, id: ValueId) -> Option<Quant> {
        let quant = self.graph.value(id).quant.as_ref().filter(|_| self.program.precision == Precision::Int8)?;
        Some(Quant { scale: quant.scale[0], zero_point: quant.zero_point[0] as i8 })
    }

    fn add(&mut self, buffer: Buffer) -> BufferId {
        self.program.buffers.push(buffer);
        BufferId(self.program.buffers.len() as u32 - 1)
    }

    /// A new buffer for a value, less the axis of the batch.
    fn buffer(&mut self, id: ValueId, order: &[usize], quant: Option<Quant>, element: Element) -> BufferId {
        let (name, shape) = (self.graph.value(id).name.clone(), self.stored_shape(id, order));
        self.add(Buffer { name, shape, order: order.to_vec(), quant, element, constant: None })
    }

    fn stored_shape(&self, id: ValueId, order: &[usize]) -> Vec<usize> {
        let shape = self.shape(id);
        let stored: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
        match stored[..] {
            [1, ref rest @ ..] if order[0] == 0 && !rest.is_empty() => rest.to_vec(),
            _ => stored,
        }
    }

    /// The buffer of an input.
    pub(super) fn enter(&mut self, id: ValueId, order: Order, element: Element) -> BufferId {
        let quant = self.quant(id).filter(|_| element == Element::Real);
        let buffer = self.buffer(id, &order, quant, element);
        self.hold(id, vec![(order, buffer)], None, "");
        buffer
    }

    pub(super) fn hold(&mut self, id: ValueId, layouts: Vec<(Order, BufferId)>, table: Option<Table>, node: &str) {
        self.held.insert(id, ValueLayouts { layouts, table, node: node.into() });
    }

    /// A step that computes a value.
    pub(super) fn step(
        &mut self,
        node: &Node,
        kernel: Kernel,
        inputs: Vec<BufferId>,
        out: ValueId,
        order: Order,
    ) -> Result1<()> {
        let quant = self.quant(out);
        if quant.is_none() && self.program.precision == Precision::Int8 {
            return Err(self.unquantized(node, out));
        }
        let output = self.buffer(out, &order, quant, Element::Real);
        self.program.steps.push(Step { name: node.name.clone(), kernel, inputs, output });
        self.hold(out, vec![(order, output)], None, &node.name);
        Ok(())
    }

    /// A step that moves elements and leaves them what they are.
    pub(super) fn moving(
        &mut self,
        node: &Node,
        kernel: Kernel,
        (x, input): (ValueId, BufferId),
        out: ValueId,
        order: Order,
    ) {
        let Buffer { quant, element, .. } = *self.program.buffer(input);
        let output = self.buffer(out, &order, quant, element);
        self.program.steps.push(Step { name: node.name.clone(), kernel, inputs: vec![input], output });
        let table = self.carried(x, input, out);
        if table.is_some() {
            self.program.buffers[output.index()].name += UNSETTLED;
        }
        self.hold(out, vec![(order, output)], table, &node.name);
    }

    /// What the stored numbers of a value stand for under another name: themselves, unless it is stored in another way.
    pub(super) fn carried(&self, x: ValueId, buffer: BufferId, out: ValueId) -> Option<Table> {
        let Buffer { quant: Some(quant), element: Element::Real, .. } = *self.program.buffer(buffer) else {
            return None;
        };
        let table = self.held.get(&x).and_then(|held| held.table.clone());
        if table.is_none() && self.quant(out) == Some(quant) {
            return None;
        }
        let own = |i: usize| dequantize(i as i32 - 128, quant.scale, quant.zero_point.into());
        let table = table.map_or_else(|| std::array::from_fn(own), |table| *table);
        Some(self.rounded(out, table))
    }

    /// Whether a function of the numbers of a buffer is what they stand for already, for this value too.
    pub(super) fn is_stored(&self, out: ValueId, buffer: BufferId, table: &[f32; 256]) -> bool {
        let own = self.program.buffer(buffer).quant.filter(|own| self.quant(out) == Some(*own));
        let real = |i: usize, q: Quant| dequantize(i as i32 - 128, q.scale, q.zero_point.into());
        own.is_some_and(|q| table.iter().enumerate().all(|(i, &v)| v == real(i, q)))
    }

    /// A table of what a value is, where it is stored itself.
    pub(super) fn rounded(&self, out: ValueId, table: [f32; 256]) -> Table {
        let Some(q) = self.quant(out) else { return Box::new(table) };
        let zero = q.zero_point.into();
        let stored = |v: f32| quantize(v, q.scale, zero, -128, 127);
        Box::new(table.map(|v| dequantize(stored(v), q.scale, zero)))
    }

    /// The buffer of a value in this order, as the value's own integers.
    pub(super) fn materialize(&mut self, node: &Node, id: ValueId, order: &[usize]) -> Result1<BufferId> {
        if let Some(tensor) = self.graph.constant(id) {
            let (tensor, quant) = (tensor.clone(), self.quant(id));
            if quant.is_none() && self.program.precision == Precision::Int8 {
                return Err(self.unquantized(node, id));
            }
            return Ok(self.constant(id, &tensor, order, quant));
        }
        self.settle(node, id)?;
        self.raw(node, id, order)
    }

    /// The buffer of a value in this order, with the integers of another value: where they differ, by a step of its own.
    pub(super) fn materialize_as(
        &mut self,
        node: &Node,
        id: ValueId,
        order: &[usize],
        like: ValueId,
    ) -> Result1<BufferId> {
        let (own, wanted) = (self.quant(id), self.quant(like));
        let (Some(wanted), Some(table)) = (wanted, self.table(id)) else { return self.materialize(node, id, order) };
        if own == Some(wanted) {
            return self.materialize(node, id, order);
        }
        let input = self.raw(node, id, order)?;
        let store = |real: f32| quantize(real, wanted.scale, wanted.zero_point.into(), -128, 127) as i8;
        let output = self.like(
            node,
            Kernel::Lookup { table: Box::new(table.map(store)) },
            input,
            self.program.buffer(input).shape.clone(),
        );
        self.program.buffers[output.index()].quant = Some(wanted);
        Ok(output)
    }

    /// Writes a function of stored numbers out.
    fn settle(&mut self, node: &Node, id: ValueId) -> Result1<()> {
        let held = self.held(node, id)?.clone();
        let Some(table) = held.table else { return Ok(()) };
        let quant = self.quant(id).ok_or_else(|| self.unquantized(node, id))?;
        let store = |real: f32| quantize(real, quant.scale, quant.zero_point.into(), -128, 127) as i8;
        let table = Box::new(table.map(store));
        let (order, input) = held.layouts[0].clone();
        let output = self.buffer(id, &order, Some(quant), Element::Real);
        let kernel = Kernel::Lookup { table };
        self.program.steps.push(Step { name: held.node.clone(), kernel, inputs: vec![input], output });
        self.hold(id, vec![(order, output)], None, &held.node);
        Ok(())
    }

    fn unquantized(&self, node: &Node, id: ValueId) -> LowerError {
        let value = self.graph.value(id).name.clone();
        LowerError::Unquantized { node: node.name.clone(), op: node.op.name().into(), value }
    }

    /// The buffer of a value in this order, whatever its numbers stand for.
    pub(super) fn raw(&mut self, node: &Node, id: ValueId, order: &[usize]) -> Result1<BufferId> {
        let held = self.held(node, id)?;
        let shape = self.shape(id);
        if let Some((_, buffer)) = held.layouts.iter().find(|(layout, _)| same(&shape, layout, order)) {
            return Ok(*buffer);
        }
        let (layout, input) = held.layouts[0].clone();
        let name = if held.node.is_empty() { node.name.clone() } else { held.node.clone() };
        let wide = |order: &[usize]| order.iter().copied().filter(|&axis| shape[axis] > 1).collect::<Vec<_>>();
        let (from, to) = (wide(&layout), wide(order));
        let perm = to.iter().map(|axis| from.iter().position(|a| a == axis).unwrap_or(0)).collect();
        let kernel = Kernel::Transpose { shape: from.iter().map(|&axis| shape[axis]).collect(), perm };
        let Buffer { quant, element, .. } = *self.program.buffer(input);
        if element == Element::Token {
            return Err(fail(node, "the numbers of tokens are moved, and have no kernel for that"));
        }
        let output = self.buffer(id, order, quant, element);
        self.program.steps.push(Step { name, kernel, inputs: vec![input], output });
        if self.held(node, id)?.table.is_some() {
            self.program.buffers[output.index()].name += UNSETTLED;
        }
        if let Some(held) = self.held.get_mut(&id) {
            held.layouts.push((order.to_vec(), output));
        }
        Ok(output)
    }

    /// A buffer with the contents of a constant, in this order of its axes.
    pub(super) fn constant(&mut self, id: ValueId, tensor: &Tensor, order: &[usize], quant: Option<Quant>) -> BufferId {
        let values = transpose(&tensor.shape, order, &tensor.to_f32());
        let shape = order.iter().map(|&axis| tensor.shape[axis]).collect();
        let constant = match quant {
            // A constant with parameters is stored as the exported file stores it, one without as the result is rounded.
            Some(q) => {
                let own = self.graph.value(id).quant.as_ref().filter(|own| own.axis.is_none());
                let stored = own.and_then(|own| own.store(tensor)).map(|s| transpose(&tensor.shape, order, &s));
                let store = |v: &f32| quantize(*v, q.scale, q.zero_point.into(), -128, 127);
                let stored = stored.unwrap_or_else(|| values.iter().map(store).collect());
                Constant::Int8(stored.into_iter().map(|v| v as i8).collect())
            }
            None => Constant::F32(values),
        };
        let name = self.graph.value(id).name.clone();
        self.add(Buffer { name, shape, quant, constant: Some(constant), ..Buffer::default() })
    }

    /// What the stored numbers of a value stand for, in an `i8` program.
    pub(super) fn table(&self, id: ValueId) -> Option<Table> {
        let held = self.held.get(&id)?;
        let buffer = self.program.buffer(held.layouts.first()?.1);
        let quant = buffer.quant.filter(|_| buffer.element == Element::Real)?;
        let own = |i: usize| dequantize(i as i32 - 128, quant.scale, quant.zero_point.into());
        Some(held.table.clone().unwrap_or_else(|| Box::new(std::array::from_fn(own))))
    }

    /// Whether a value holds the numbers of tokens.
    pub(super) fn is_token(&self, id: ValueId) -> bool {
        let buffer = self.held.get(&id).and_then(|held| held.layouts.first());
        buffer.is_some_and(|(_, buffer)| self.program.buffer(*buffer).element == Element::Token)
    }

    /// Whether a value is of whole numbers or truth values.
    pub(super) fn is_whole(&self, id: ValueId) -> bool {
        self.graph.value(id).dtype != DType::F32
    }
}
