//! Operators that a board runs badly, replaced by ones that it runs well, before the student is trained.
//!
//! Which are worth it is the caller's to say, by what the networks cost; here is what can stand for what:
//!
//! - A function of each element, of one operator or several (an exporter's Div, Erf, Add, Mul, Mul is a Gelu), by the one
//!   of Relu, HardSigmoid and Clip that it is most like, where it is never far from it.
//! - A LayerNormalization by a factor and a summand for each feature, those that fit best what it is seen to do. Training
//!   finds better ones (as batch normalisation may stand for it: Yao et al. 2021, <https://arxiv.org/abs/2109.02980>).

use super::Error;
use kdc_ir::graph::{DType, Graph, Names, Node, Op, Tensor, Unary, Value, ValueId, verify};
use kdc_ir::host;
use kdc_ir::pass;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};

/// An operator of a network, and what can stand for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    /// By name, or the names of those that make it up.
    pub operator: String,
    pub by: String,
    /// The nodes that give its results.
    pub nodes: Vec<String>,
}

/// What stands for a normalisation: `y = scale · x + shift`, a number for each feature.
#[derive(Clone, Debug, PartialEq)]
pub struct Affine {
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
}

/// A layer normalisation over the last axis: its operand and result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Normalisation {
    pub x: ValueId,
    pub y: ValueId,
}

/// How far from an operator what stands for it may be, anywhere.
const FAR: f64 = 0.4;

const LAYER_NORM: &str = "LayerNormalization";

/// What can be replaced in a network, in the order of the first of each kind.
pub fn replaceable(graph: &Graph) -> Vec<Replacement> {
    let mut kinds: Vec<Replacement> = vec![];
    for place in places(graph) {
        let node = graph.nodes[place.index].name.clone();
        match kinds.iter_mut().find(|kind| kind.operator == place.operator) {
            Some(kind) => kind.nodes.push(node),
            None => {
                let by = match &place.stand_in {
                    Some((op, _)) => op.name().to_string(),
                    None => "Mul, Add".into(),
                };
                kinds.push(Replacement { operator: place.operator, by, nodes: vec![node] });
            }
        }
    }
    kinds
}

/// The layer normalisations that can be replaced.
pub fn normalisations(graph: &Graph) -> Vec<Normalisation> {
    graph.nodes.iter().filter_map(|node| normalisation(graph, node)).collect()
}

/// The network with these operators, by the names that [`replaceable`] gives them, replaced. `fits` says what stands for
/// a normalisation, by its result; where it says nothing, the normalisation's own factors and summands do.
///
/// # Errors
/// When an operator is none that can be replaced.
pub fn replaced(graph: &Graph, operators: &[String], fits: &HashMap<ValueId, Affine>) -> Result<Graph, Error> {
    let known = replaceable(graph);
    if let Some(operator) = operators.iter().find(|o| known.iter().all(|kind| &kind.operator != *o)) {
        let known: Vec<&str> = known.iter().map(|kind| kind.operator.as_str()).collect();
        return Err(Error::Replace { operator: operator.clone(), known: known.join(", ") });
    }
    let mut result = graph.clone();
    let (mut values, mut names) = (graph.value_names(), graph.node_names());
    let places = places(graph).into_iter().filter(|place| operators.contains(&place.operator));
    let mut places: HashMap<usize, Option<(Op, ValueId)>> = places.map(|place| (place.index, place.stand_in)).collect();
    result.nodes.clear();
    for (index, node) in graph.nodes.iter().cloned().enumerate() {
        match places.remove(&index) {
            Some(Some((op, x))) => result.nodes.push(Node { op, inputs: vec![Some(x)], ..node }),
            Some(None) => {
                let both = scale_and_shift(&mut result, (&mut values, &mut names), node, fits);
                result.nodes.extend(both);
            }
            None => result.nodes.push(node),
        }
    }
    pass::drop_dead_code(&mut result);
    verify(&result)?;
    Ok(result)
}

/// A node whose result something else can give.
struct Place {
    index: usize,
    operator: String,
    /// A function of a value; `None`: a factor and a summand for each feature.
    stand_in: Option<(Op, ValueId)>,
}

/// What can be replaced, in the network's order: of functions within functions the outermost that can.
fn places(graph: &Graph) -> Vec<Place> {
    let functions = functions(graph);
    let mut needed: HashSet<ValueId> = graph.outputs.iter().copied().collect();
    let mut places = vec![];
    for (index, node) in graph.nodes.iter().enumerate().rev() {
        if !node.outputs.iter().any(|id| needed.contains(id)) {
            continue;
        }
        let function = node.outputs.first().and_then(|y| functions.get(y)).filter(|f| f.costly);
        let place = match function.and_then(|f| Some((f, f.stand_in()?))) {
            Some((function, op)) => Some(Place { index, operator: function.name(), stand_in: Some((op, function.of)) }),
            None => normalisation(graph, node).map(|_| Place { index, operator: LAYER_NORM.into(), stand_in: None }),
        };
        match &place {
            Some(Place { stand_in: Some((_, x)), .. }) => needed.extend([*x]),
            _ => needed.extend(node.inputs.iter().flatten()),
        }
        places.extend(place);
    }
    places.reverse();
    places
}

/// A value as a function of each element of another.
struct Function {
    of: ValueId,
    /// Its values on [`grid`].
    values: Vec<f32>,
    /// The operators that make it up.
    operators: Vec<String>,
    /// Whether one of them is more than a comparison or a multiplication by a number.
    costly: bool,
}

/// Where functions are looked at: from −8 to 8 in sixteenths.
fn grid() -> Vec<f32> {
    (-128..=128).map(|i| i as f32 / 16.0).collect()
}

impl Function {
    fn distance(&self, other: &Op) -> f64 {
        let Some(other) = applied(other, &[grid()]) else { return f64::INFINITY };
        self.values.iter().zip(&other).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max)
    }

    /// The simple operator that it is most like, unless it is like none.
    fn stand_in(&self) -> Option<Op> {
        let simple = [Op::Relu, Op::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }, Op::Clip { min: -1.0, max: 1.0 }];
        let rated = simple.map(|op| (self.distance(&op), op));
        rated.into_iter().filter(|(far, _)| *far <= FAR).min_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, op)| op)
    }

    /// What it is called: what it is the same as, else what it is made of.
    fn name(&self) -> String {
        let known = [Op::Unary(Unary::Gelu { tanh: false }), Op::HardSwish, Op::Unary(Unary::Mish)];
        match (&self.operators[..], known.iter().find(|op| self.distance(op) < 2e-3)) {
            ([only], _) => only.clone(),
            (_, Some(op)) => op.name().to_string(),
            (many, None) => many.join("·"),
        }
    }
}

/// Every value that is a function of each element of another one, of the furthest there is.
fn functions(graph: &Graph) -> HashMap<ValueId, Function> {
    let mut functions: HashMap<ValueId, Function> = HashMap::new();
    for node in &graph.nodes {
        let [y] = node.outputs[..] else { continue };
        if let Some(function) = function(graph, &functions, node).filter(|_| plain(graph, y)) {
            functions.insert(y, function);
        }
    }
    functions
}

/// A float that is not quantized.
fn plain(graph: &Graph, id: ValueId) -> bool {
    let value = graph.value(id);
    value.dtype == DType::F32 && value.quant.is_none()
}

/// What is written out in more operators is no activation: a long chain is not looked at again and again.
const MOST_OPERATORS: usize = 32;

fn function(graph: &Graph, before: &HashMap<ValueId, Function>, node: &Node) -> Option<Function> {
    let mut of = None;
    let mut operands = vec![];
    let mut operators = vec![];
    let mut costly = !cheap(&node.op);
    let mut computed = 0;
    for id in node.inputs.iter().map(|id| id.filter(|&id| plain(graph, id))) {
        let id = id?;
        if let Some(tensor) = graph.constant(id) {
            operands.push(vec![*tensor.as_f32()?.first().filter(|_| tensor.len() == 1)?; grid().len()]);
            continue;
        }
        computed += 1;
        let (root, values) = match before.get(&id) {
            Some(function) => {
                if function.operators.len() > operators.len() {
                    operators.clone_from(&function.operators);
                }
                costly |= function.costly;
                (function.of, function.values.clone())
            }
            None => (id, grid()),
        };
        // A function of itself and of what it is a function of is a function of that.
        if *of.get_or_insert(root) != root {
            return None;
        }
        operands.push(values);
    }
    if operators.len() >= MOST_OPERATORS {
        return None;
    }
    let values = applied(&node.op, &operands).filter(|v| v.iter().all(|v| v.is_finite()))?;
    operators.push(node.op.name().to_string());
    Some(Function { of: of?, values, operators, costly: costly || computed > 1 })
}

/// Whether an operator takes no more than a comparison, a multiplication and an addition of a number.
fn cheap(op: &Op) -> bool {
    let simple = matches!(op, Op::Relu | Op::Clip { .. } | Op::LeakyRelu { .. } | Op::HardSigmoid { .. });
    let linear = matches!(op, Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Unary(Unary::Neg | Unary::Abs));
    simple || linear || matches!(op, Op::Identity | Op::Dropout | Op::Cast { .. })
}

/// What an operator that works element by element makes of rows of numbers; `None` for other operators.
fn applied(op: &Op, operands: &[Vec<f32>]) -> Option<Vec<f32>> {
    let x = operands.first()?;
    let map = |f: &dyn Fn(f32) -> f32| Some(x.iter().map(|&v| f(v)).collect());
    let hard = |v: f32, alpha: f32, beta: f32| (alpha * v + beta).clamp(0.0, 1.0);
    match *op {
        Op::Sigmoid => map(&|v| 1.0 / (1.0 + (-v).exp())),
        Op::Tanh => map(&f32::tanh),
        Op::HardSwish => map(&|v| v * hard(v, 1.0 / 6.0, 0.5)),
        Op::HardSigmoid { alpha, beta } => map(&|v| hard(v, alpha, beta)),
        Op::LeakyRelu { alpha } => map(&|v| if v < 0.0 { alpha * v } else { v }),
        Op::Identity | Op::Dropout => Some(x.clone()),
        Op::Relu | Op::Clip { .. } | Op::Unary(_) | Op::Binary(_) | Op::Add | Op::Sub | Op::Mul | Op::Div => {
            let tensors: Vec<Tensor> = operands.iter().map(|v| Tensor::f32([v.len()], v.clone())).collect();
            let tensors: Vec<Option<&Tensor>> = tensors.iter().map(Some).collect();
            let result = host::compute(op, &tensors, &[(DType::F32, vec![x.len()])]).ok()?;
            Some(result.first()?.as_f32()?.to_vec())
        }
        _ => None,
    }
}

/// A layer normalisation over the last axis with constant parameters.
fn normalisation(graph: &Graph, node: &Node) -> Option<Normalisation> {
    let Op::LayerNormalization { axis, .. } = node.op else { return None };
    let ([y], x) = (&node.outputs[..], node.input(0)?) else { return None };
    let last = axis + 1 == graph.value(x).shape.len() && !graph.value(x).shape.get(axis)?.is_batched();
    let known = node.inputs[1..].iter().flatten().all(|&id| graph.constant(id).is_some_and(|t| t.as_f32().is_some()));
    (last && known && plain(graph, x)).then_some(Normalisation { x, y: *y })
}

/// A normalisation as a product and a sum. The sum keeps its name and result.
fn scale_and_shift(
    graph: &mut Graph,
    (values, names): (&mut Names, &mut Names),
    node: Node,
    fits: &HashMap<ValueId, Affine>,
) -> [Node; 2] {
    let (x, y) = (node.inputs[0].expect("a normalisation has an operand"), node.output());
    let features = graph.value(x).shape.last().map_or(1, |d| d.at(1));
    let own = |graph: &Graph, i: usize, otherwise: f32| {
        let given = node.input(i).and_then(|id| graph.constant(id)).map(|t| t.to_f32().into_owned());
        given.unwrap_or_else(|| vec![otherwise; features])
    };
    let fit = fits.get(&y).cloned();
    let fit = fit.unwrap_or_else(|| Affine { scale: own(graph, 1, 1.0), shift: own(graph, 2, 0.0) });
    let mut constant = |what: &str, numbers: Vec<f32>| {
        let name = values.fresh(&format!("{}.{what}", node.name));
        graph.add_constant(name, Tensor::f32([features], numbers))
    };
    let (scale, shift) = (constant("scale", fit.scale), constant("shift", fit.shift));
    let name = names.fresh(&format!("{}.scaled", node.name));
    let value = graph.value(y).clone();
    let scaled = graph.add_value(Value { name: values.fresh(&name), ..value });
    let product = Node { name, op: Op::Mul, inputs: vec![Some(x), Some(scale)], outputs: vec![scaled] };
    [product, Node { op: Op::Add, inputs: vec![Some(scaled), Some(shift)], ..node }]
}
