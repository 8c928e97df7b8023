//! Functions of elements: of one, and of a pair.

use super::movement::repeated;
use super::order::Order;
use super::{Lowering, Result1, fail};
use crate::program::numbers::Bounds;
use crate::program::{Buffer, BufferId, Function, Kernel, Precision, Step, reference};
use kdc_ir::graph::{DType, Data, Node, Op, Tensor, Unary, ValueId};
use kdc_ir::host;
use kdc_ir::pass::is_mask;

/// The function of one variable that an operator is.
pub(super) fn function(op: &Op) -> Option<Function> {
    Some(match *op {
        Op::Relu => Function::Clip { min: 0.0, max: f32::INFINITY },
        Op::Clip { min, max } => Function::Clip { min, max },
        Op::LeakyRelu { alpha } => Function::LeakyRelu { alpha },
        Op::Sigmoid => Function::Sigmoid,
        Op::Tanh => Function::Tanh,
        Op::HardSwish => Function::HardSwish,
        Op::HardSigmoid { alpha, beta } => Function::HardSigmoid { alpha, beta },
        Op::Unary(Unary::Abs) => Function::Abs,
        Op::Unary(Unary::Neg) => Function::Affine { gain: -1.0, offset: 0.0 },
        Op::Unary(Unary::Exp) => Function::Exp,
        Op::Unary(Unary::Sqrt) => Function::Sqrt,
        Op::Unary(Unary::Reciprocal) => Function::Reciprocal,
        Op::Unary(Unary::Erf) => Function::Erf,
        Op::Unary(Unary::Gelu { tanh: false }) => Function::Gelu,
        Op::Unary(Unary::Gelu { tanh: true }) => Function::GeluTanh,
        Op::Unary(Unary::Not) => Function::Affine { gain: -1.0, offset: 1.0 },
        Op::Cast { to: DType::Bool } => Function::Select { yes: 1.0, no: 0.0 },
        Op::Cast { to } if to.is_float() => Function::Affine { gain: 1.0, offset: 0.0 },
        _ => return None,
    })
}

impl Lowering<'_> {
    fn scalar(&self, id: ValueId) -> Option<f32> {
        self.graph.constant(id).filter(|t| t.len() == 1).map(|t| t.to_f32()[0])
    }

    pub(super) fn unary(&mut self, node: &Node, x: ValueId, out: ValueId) -> Result1<()> {
        // A truth value or whole number stays the number it is.
        let kept = matches!(node.op, Op::Cast { to } if to != DType::Bool || self.graph.value(x).dtype == DType::Bool);
        if kept && (self.is_whole(x) || self.graph.value(x).dtype == self.graph.value(out).dtype) {
            return self.renamed(node, x, out);
        }
        match function(&node.op) {
            Some(function) => self.mapped(node, x, out, function),
            None if self.program.precision == Precision::Int8 => self.tabled(node, out),
            None => Err(fail(node, "there is no kernel for it in f32, which int8 programs need too")),
        }
    }

    /// One function of every element.
    fn mapped(&mut self, node: &Node, x: ValueId, out: ValueId, function: Function) -> Result1<()> {
        if self.program.precision == Precision::Int8 {
            let table = self.table(x).ok_or_else(|| fail(node, "its operand is a constant; fold it first"))?;
            let layouts = self.held(node, x)?.layouts.clone();
            let table = self.rounded(out, table.map(|v| reference::apply(function, v)));
            let table = Some(table).filter(|table| !self.is_stored(out, layouts[0].1, table));
            self.hold(out, layouts, table, &node.name);
        } else {
            let order = self.order(x);
            let input = self.materialize(node, x, &order)?;
            self.step(node, Kernel::Map(function), vec![input], out, order)?;
        }
        if let Some(&shape) = self.unordered.get(&x) {
            self.unordered.insert(out, shape);
        }
        Ok(())
    }

    /// In an `i8` program: any function of the numbers of one buffer, by evaluating the operator.
    fn tabled(&mut self, node: &Node, out: ValueId) -> Result1<()> {
        let unknown = || fail(node, "there is no kernel for it");
        let root = self.root(node).ok_or_else(unknown)?;
        let mut operands = vec![];
        for id in node.inputs.iter().map(|id| id.ok_or_else(unknown)) {
            let id = id?;
            let data = match self.graph.constant(id) {
                Some(tensor) => vec![tensor.to_f32()[0]; 256],
                None => self.table(id).ok_or_else(unknown)?.to_vec(),
            };
            operands.push(match self.graph.value(id).dtype {
                DType::F32 => Tensor::f32([256], data),
                DType::Bool => Tensor::new([256], Data::Bool(data.iter().map(|&v| v != 0.0).collect())),
                _ => Tensor::i64([256], data.iter().map(|&v| v as i64).collect()),
            });
        }
        let operands: Vec<Option<&Tensor>> = operands.iter().map(Some).collect();
        let result = host::compute(&node.op, &operands, &[(self.graph.value(out).dtype, vec![256])]);
        let result = result.map_err(|why| fail(node, why))?.remove(0);
        let table = <[f32; 256]>::try_from(result.to_f32().to_vec()).map_err(|_| unknown())?;
        let layouts = self.held(node, root)?.layouts.clone();
        let table = self.rounded(out, table);
        self.hold(out, layouts, Some(table), &node.name);
        Ok(())
    }

    /// The operand that all others are functions of: they share its buffer, or are single numbers.
    fn root(&self, node: &Node) -> Option<ValueId> {
        let computed: Vec<ValueId> =
            node.inputs.iter().flatten().copied().filter(|id| !self.is_constant(*id)).collect();
        let buffer =
            |id: &ValueId| self.held.get(id).and_then(|held| held.layouts.first()).map(|(order, b)| (order, *b));
        let first = buffer(computed.first()?)?;
        let alike = computed.iter().all(|id| buffer(id) == Some(first));
        let scalars = node.inputs.iter().flatten().filter(|id| self.is_constant(**id));
        (alike && scalars.into_iter().all(|id| self.scalar(*id).is_some())).then(|| computed[0])
    }

    /// Comparisons and choices.
    pub(super) fn choice(&mut self, node: &Node, out: ValueId) -> Result1<()> {
        if self.program.precision == Precision::Int8 && self.root(node).is_some() {
            return self.tabled(node, out);
        }
        let operand = |i: usize| node.input(i).ok_or_else(|| fail(node, "an operand is missing"));
        match (&node.op, operand(0)?, operand(1)?) {
            (Op::Where, condition, yes) => match (self.scalar(yes), self.scalar(operand(2)?)) {
                (Some(yes), Some(no)) => self.mapped(node, condition, out, Function::Select { yes, no }),
                (Some(number), None) => self.chosen(node, condition, operand(2)?, out, (number, true)),
                (None, Some(number)) => self.chosen(node, condition, yes, out, (number, false)),
                _ => Err(fail(node, "only choices of which one is a number have a kernel")),
            },
            (Op::Binary(kdc_ir::graph::Binary::And), a, b) => self.pair(node, &Op::Mul, a, b, out, Bounds::of(None)),
            _ => Err(fail(node, "there is no kernel for it")),
        }
    }

    /// A number or another value.
    fn chosen(
        &mut self,
        node: &Node,
        condition: ValueId,
        other: ValueId,
        out: ValueId,
        (number, when): (f32, bool),
    ) -> Result1<()> {
        if self.program.precision == Precision::Int8 {
            return Err(fail(node, "there is no kernel for it in int8"));
        }
        let order: Order = (0..self.shape(out).len()).collect();
        let inputs =
            vec![self.aligned(node, condition, out, &order, true)?, self.aligned(node, other, out, &order, true)?];
        self.step(node, Kernel::Choose { number, when }, inputs, out, order)
    }

    pub(super) fn arithmetic(&mut self, node: &Node, out: ValueId, bounds: Bounds) -> Result1<()> {
        let (Some(a), Some(b)) = (node.input(0), node.input(1)) else {
            return Err(fail(node, "an operand is missing"));
        };
        let affine = match (&node.op, self.scalar(a), self.scalar(b)) {
            (Op::Add, Some(c), None) => Some((b, 1.0, c)),
            (Op::Add, None, Some(c)) => Some((a, 1.0, c)),
            (Op::Sub, Some(c), None) => Some((b, -1.0, c)),
            (Op::Sub, None, Some(c)) => Some((a, 1.0, -c)),
            (Op::Mul, Some(c), None) => Some((b, c, 0.0)),
            (Op::Mul, None, Some(c)) => Some((a, c, 0.0)),
            (Op::Div, None, Some(c)) if c != 0.0 => Some((a, 1.0 / c, 0.0)),
            _ => None,
        };
        if let (Some((x, gain, offset)), true) = (affine, bounds.is_open()) {
            return self.mapped(node, x, out, Function::Affine { gain, offset });
        }
        let int8 = self.program.precision == Precision::Int8;
        if int8 && bounds.is_open() && self.quant(out).is_none() {
            // Inside a function of one variable, or a mask in front of a softmax.
            if self.root(node).is_some() {
                return self.tabled(node, out);
            }
            let large = |id: ValueId| {
                let constant = self.graph.constant(id).is_some_and(is_mask);
                self.graph.value(id).quant.is_none() && (constant || self.table(id).is_some())
            };
            match (&node.op, large(a), large(b)) {
                (Op::Add, false, true) => return Ok(_ = self.masked.insert(out, (a, b))),
                (Op::Add, true, false) => return Ok(_ = self.masked.insert(out, (b, a))),
                _ => (),
            }
        }
        let function = |id: ValueId| self.held.get(&id).is_some_and(|held| held.table.is_some());
        if int8 && bounds.is_open() && self.root(node).is_some() && (function(a) || function(b)) {
            return self.tabled(node, out);
        }
        self.pair(node, &node.op.clone(), a, b, out, bounds)
    }

    /// An operation on two values, of which one may be repeated over the other.
    fn pair(&mut self, node: &Node, op: &Op, a: ValueId, b: ValueId, out: ValueId, bounds: Bounds) -> Result1<()> {
        if self.unordered.get(&a) != self.unordered.get(&b) {
            return Err(fail(node, "its operands lie in different orders"));
        }
        let whole = self.shape(out);
        let full = |id: ValueId| self.shape(id).iter().product::<usize>() == whole.iter().product::<usize>();
        // What is repeated comes second; a difference is a sum with one sign changed.
        let swap = !matches!(op, Op::Div) && full(b) && (!full(a) || self.is_constant(a));
        let (first, second) = if swap { (b, a) } else { (a, b) };
        let order = match self.shape(first).len() == whole.len() {
            true => self.order(first),
            false => (0..whole.len()).collect(),
        };
        let x = self.aligned(node, first, out, &order, true)?;
        let y = self.aligned(node, second, out, &order, matches!(op, Op::Div))?;
        let signs = match op {
            Op::Sub if swap => [-1.0, 1.0],
            Op::Sub => [1.0, -1.0],
            _ => [1.0, 1.0],
        };
        let (x, y) = match self.program.precision {
            Precision::Int8 => (x, y),
            Precision::F32 => (self.signed(node, x, signs[0]), self.signed(node, y, signs[1])),
        };
        let kernel = match op {
            Op::Add | Op::Sub => Kernel::Add(self.numbers.add(first, second, out, bounds, signs)),
            Op::Mul => {
                let broadcast = self.program.buffer(x).len() != self.program.buffer(y).len();
                Kernel::Mul { params: self.numbers.mul(first, second, out, bounds), broadcast }
            }
            _ => Kernel::Div(self.numbers.div(first, second, out, bounds)),
        };
        if let Some(&shape) = self.unordered.get(&a) {
            self.unordered.insert(out, shape);
        }
        self.step(node, kernel, vec![x, y], out, order)
    }

    /// A buffer of `f32`, or a new one with its elements negated.
    fn signed(&mut self, node: &Node, input: BufferId, sign: f64) -> BufferId {
        if sign > 0.0 {
            return input;
        }
        let kernel = Kernel::Map(Function::Affine { gain: -1.0, offset: 0.0 });
        self.like(node, kernel, input, self.program.buffer(input).shape.clone())
    }

    /// A step that makes a buffer with the parameters of its operand's.
    pub(super) fn like(&mut self, node: &Node, kernel: Kernel, input: BufferId, shape: Vec<usize>) -> BufferId {
        let buffer = Buffer { shape, order: vec![], constant: None, ..self.program.buffer(input).clone() };
        self.program.buffers.push(buffer);
        let output = BufferId(self.program.buffers.len() as u32 - 1);
        self.program.steps.push(Step { name: node.name.clone(), kernel, inputs: vec![input], output });
        output
    }

    /// An operand in the order of the result: as long as that, or, unless `full` is asked for, so that it can be repeated
    /// as a whole.
    fn aligned(&mut self, node: &Node, id: ValueId, out: ValueId, order: &[usize], full: bool) -> Result1<BufferId> {
        let (own, whole) = (self.shape(id), self.shape(out));
        let missing = whole.len() - own.len();
        let padded: Vec<usize> = std::iter::repeat_n(1, missing).chain(own.iter().copied()).collect();
        let restricted: Order = order.iter().filter(|&&axis| axis >= missing).map(|axis| axis - missing).collect();
        let input = self.materialize(node, id, &restricted)?;
        let ordered = |shape: &[usize]| order.iter().map(|&axis| shape[axis]).collect::<Vec<_>>();
        let (padded, whole) = (ordered(&padded), ordered(&whole));
        let outer = padded.iter().take_while(|&&n| n == 1).count();
        let repeats = padded[outer..] == whole[outer..];
        if padded == whole || repeats && !full {
            return Ok(input);
        }
        let kernel = Kernel::View { offset: 0, strides: repeated(&padded, &whole), shape: whole.clone() };
        Ok(self.like(node, kernel, input, whole))
    }
}
