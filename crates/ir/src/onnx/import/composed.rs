//! Nodes that become several of the graph: those with further results, and those that are short for others.

use super::super::proto::{NodeProto, data_type};
use super::Importer;
use super::call::Call;
use super::fault::Fault;
use crate::graph::{Binary, DType, Data, Dim, Node, Op, Tensor, Unary, Unread, Value, ValueId};
use crate::host::cast;

impl<'m> Importer<'m> {
    /// A node of which more than the graph's operator gives is used, or for which it has none; `false` for any other.
    pub(super) fn composed(&mut self, proto: &'m NodeProto, name: &str) -> Result<bool, Fault> {
        let call = self.call(proto)?;
        let side = call.has_side_results();
        // Before opset 14 it was the number of results that said so.
        let results = proto.output.iter().filter(|n| !n.is_empty()).count();
        let training = call.flag("training_mode") || (call.opset < 14 && results > 1 && !side);
        let unsigned = call.stated_type(0).and_then(|code| match code {
            data_type::UINT16 => Some(i64::from(u16::MAX)),
            data_type::UINT32 => Some(i64::from(u32::MAX)),
            _ => None,
        });
        match proto.op_type.as_str() {
            "LayerNormalization" if side => self.layer_norm_statistics(proto, name)?,
            "BatchNormalization" if training => self.training_batch_norm(proto, name)?,
            "Dropout" if side => self.dropout_mask(proto, name)?,
            "RMSNormalization" => self.rms_norm(proto, name)?,
            "Swish" => self.swish(proto, name)?,
            "Einsum" => self.einsum(proto, name)?,
            "BitwiseNot" => match unsigned {
                Some(bits) => self.flipped(proto, name, bits)?,
                None => return Ok(false),
            },
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Also the mean, and one over the standard deviation.
    fn layer_norm_statistics(&mut self, proto: &'m NodeProto, name: &str) -> Result<(), Fault> {
        let call = self.call(proto)?;
        let rank = call.rank(0)?;
        let (axis, epsilon) = (Call::resolve_axis(call.int("axis", -1), rank)?, call.float("epsilon", 1e-5));
        let axes: Vec<usize> = (axis..rank).collect();
        let operands = self.operands(proto)?;
        let x = operands[0];
        self.made(Op::LayerNormalization { axis, epsilon }, &operands, name, proto.output.first())?;
        let mean = Op::ReduceMean { axes: axes.clone(), keepdims: true };
        let mean = self.made(mean, &[x], name, proto.output.get(1))?;
        let variance = self.variance(x, mean, axes, name)?;
        let deviation = self.deviation(variance, epsilon, name)?;
        self.made(Op::Unary(Unary::Reciprocal), &[deviation], name, proto.output.get(2))?;
        Ok(())
    }

    /// Over the root of the mean square of the last axes, then scaled.
    fn rms_norm(&mut self, proto: &'m NodeProto, name: &str) -> Result<(), Fault> {
        let call = self.call(proto)?;
        let rank = call.rank(0)?;
        let (axis, epsilon) = (Call::resolve_axis(call.int("axis", -1), rank)?, call.float("epsilon", 1e-5));
        let [x, scale] = self.operands(proto)?[..] else { return Err(Fault::Invalid("wants two operands".into())) };
        let square = self.mean_square(x, (axis..rank).collect(), name)?;
        let root = self.deviation(square, epsilon, name)?;
        let normal = self.made(Op::Div, &[x, root], name, None)?;
        self.made(Op::Mul, &[normal, scale], name, proto.output.first())?;
        Ok(())
    }

    /// x · sigmoid(α x).
    fn swish(&mut self, proto: &'m NodeProto, name: &str) -> Result<(), Fault> {
        let alpha = self.call(proto)?.float("alpha", 1.0);
        let x = self.operands(proto)?[0];
        let mut inner = x;
        if alpha != 1.0 {
            let alpha = self.number(name, alpha);
            inner = self.made(Op::Mul, &[x, alpha], name, None)?;
        }
        let gate = self.made(Op::Sigmoid, &[inner], name, None)?;
        self.made(Op::Mul, &[x, gate], name, proto.output.first())?;
        Ok(())
    }

    /// By the statistics of the operand itself; further results are the running statistics, moved towards them.
    fn training_batch_norm(&mut self, proto: &'m NodeProto, name: &str) -> Result<(), Fault> {
        let call = self.call(proto)?;
        let (rank, epsilon, momentum) = (call.rank(0)?, call.float("epsilon", 1e-5), call.float("momentum", 0.9));
        let operands = self.operands(proto)?;
        let [x, scale, bias, old_mean, old_variance] = operands[..] else {
            return Err(Fault::Invalid("wants five operands".into()));
        };
        if rank < 2 {
            return Err(Fault::Invalid("wants [batch, channels, …]".into()));
        }
        let axes: Vec<usize> = (0..rank).filter(|&d| d != 1).collect();
        let mean = self.made(Op::ReduceMean { axes: axes.clone(), keepdims: true }, &[x], name, None)?;
        let variance = self.variance(x, mean, axes.clone(), name)?;
        let deviation = self.deviation(variance, epsilon, name)?;
        let centred = self.made(Op::Sub, &[x, mean], name, None)?;
        let normal = self.made(Op::Div, &[centred, deviation], name, None)?;
        // One number a channel, before as many ones as there are spatial axes.
        let spatial: Vec<usize> = (1..rank - 1).collect();
        let lifted = |this: &mut Self, id| match spatial.is_empty() {
            true => Ok(id),
            false => this.made(Op::Unsqueeze { axes: spatial.clone() }, &[id], name, None),
        };
        let (scale, bias) = (lifted(self, scale)?, lifted(self, bias)?);
        let scaled = self.made(Op::Mul, &[normal, scale], name, None)?;
        self.made(Op::Add, &[scaled, bias], name, proto.output.first())?;
        for (index, now, old) in [(1, mean, old_mean), (2, variance, old_variance)] {
            let Some(result) = proto.output.get(index).filter(|n| !n.is_empty()) else { continue };
            let now = self.made(Op::Squeeze { axes: axes.clone() }, &[now], name, None)?;
            let (kept, moved) = (self.number(name, momentum), self.number(name, 1.0 - momentum));
            let kept = self.made(Op::Mul, &[old, kept], name, None)?;
            let moved = self.made(Op::Mul, &[now, moved], name, None)?;
            self.made(Op::Add, &[kept, moved], name, Some(result))?;
        }
        Ok(())
    }

    /// Nothing is dropped, and the mask says so.
    fn dropout_mask(&mut self, proto: &'m NodeProto, name: &str) -> Result<(), Fault> {
        let call = self.call(proto)?;
        if call.drops()? {
            return Err(Fault::Unsupported(Unread::Training.into()));
        }
        let (shape, all) = match call.opset < 10 {
            true => (call.shape(0)?, Tensor::f32([0; 0], vec![1.0])),
            false => (call.shape(0)?, Tensor::new([0; 0], Data::Bool(vec![true]))),
        };
        let x = self.operands(proto)?[0];
        self.made(Op::Dropout, &[x], name, proto.output.first())?;
        let stem = self.value_names.fresh(&format!("{name}_kept"));
        let all = self.graph.add_constant(stem, all);
        self.made(Op::Expand { shape }, &[all], name, proto.output.get(1))?;
        Ok(())
    }

    /// Only these bits of a number that is kept in a wider type.
    fn flipped(&mut self, proto: &'m NodeProto, name: &str, bits: i64) -> Result<(), Fault> {
        let x = self.operands(proto)?[0];
        let stem = self.value_names.fresh(&format!("{name}_bits"));
        let mut bits = Tensor::i64([0; 0], vec![bits]);
        bits.data = cast(&bits.data, self.graph.value(x).dtype);
        let bits = self.graph.add_constant(stem, bits);
        self.made(Op::Binary(Binary::BitwiseXor), &[x, bits], name, proto.output.first())?;
        Ok(())
    }

    fn variance(&mut self, x: ValueId, mean: ValueId, axes: Vec<usize>, name: &str) -> Result<ValueId, Fault> {
        let centred = self.made(Op::Sub, &[x, mean], name, None)?;
        self.mean_square(centred, axes, name)
    }

    fn mean_square(&mut self, x: ValueId, axes: Vec<usize>, name: &str) -> Result<ValueId, Fault> {
        let squares = self.made(Op::Mul, &[x, x], name, None)?;
        self.made(Op::ReduceMean { axes, keepdims: true }, &[squares], name, None)
    }

    fn deviation(&mut self, variance: ValueId, epsilon: f32, name: &str) -> Result<ValueId, Fault> {
        let epsilon = self.number(name, epsilon);
        let sum = self.made(Op::Add, &[variance, epsilon], name, None)?;
        self.made(Op::Unary(Unary::Sqrt), &[sum], name, None)
    }

    fn number(&mut self, name: &str, number: f32) -> ValueId {
        let name = self.value_names.fresh(&format!("{name}_number"));
        self.graph.add_constant(name, Tensor::f32([0; 0], vec![number]))
    }

    /// The operands that are there, in order.
    pub(super) fn operands(&mut self, proto: &'m NodeProto) -> Result<Vec<ValueId>, Fault> {
        let named = proto.input.iter().filter(|n| !n.is_empty());
        let ids = named.map(|n| self.materialise(n, 0)).collect::<Result<Vec<_>, _>>()?;
        match ids.iter().any(|id| self.unknown.contains(id)) {
            _ if ids.is_empty() => Err(Fault::Invalid("operand 0 is missing".into())),
            true => Err(Fault::Unsupported("follows an operator whose result has no known shape".into())),
            false => Ok(ids),
        }
    }

    /// Adds one of the nodes that a node called `name` becomes; `result` is its name if it is a result of that.
    pub(super) fn made(
        &mut self,
        op: Op,
        inputs: &[ValueId],
        name: &str,
        result: Option<&'m String>,
    ) -> Result<ValueId, Fault> {
        let result = result.filter(|n| !n.is_empty());
        let inputs: Vec<Option<ValueId>> = inputs.iter().copied().map(Some).collect();
        // The node's own name goes to the one that makes the first result.
        let own = self.graph.nodes.iter().all(|n| n.name != name) && result.is_some();
        let node_name = if own { name.to_string() } else { self.fresh_node(&format!("{name}_{}", op.name())) };
        let mut node = Node { name: node_name, op, inputs, outputs: vec![] };
        let (dtype, shape): (DType, Vec<Dim>) = self.infer(&node)?.swap_remove(0);
        let value_name = match result {
            Some(result) => result.clone(),
            None => self.value_names.fresh(&node.name),
        };
        let id = self.graph.add_value(Value { name: value_name, dtype, shape, data: None, quant: None });
        if let Some(result) = result {
            self.ids.insert(result, id);
        }
        node.outputs.push(id);
        self.graph.nodes.push(node);
        Ok(id)
    }
}
