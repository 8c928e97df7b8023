//! A graph with its numbers on a device.

use super::ops::Statistics;
use super::plan::Plan;
use super::{Datum, Error, Mode, Value};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use kdc_ir::graph::{Data, Graph, Op, Tensor as HostTensor, ValueId, shape_at, shape_text};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// A trainable constant.
#[derive(Clone, Debug)]
pub struct Parameter {
    pub value: ValueId,
    /// The value's name in the graph.
    pub name: String,
    /// The extents in the graph.
    pub shape: Vec<usize>,
    /// All elements, row-major, as a leaf of the gradient graph.
    pub tensor: Tensor<1>,
}

/// A graph that runs.
pub struct Network {
    pub(super) graph: Graph,
    /// Nodes that are computed as one.
    pub(super) plan: Plan,
    params: Vec<Parameter>,
    param_of: HashMap<ValueId, usize>,
    /// Constants that do not train, on the plain device.
    constants: HashMap<ValueId, Datum>,
    /// Running statistics by index of the batch-norm node, on the host: they are small, and must be kept to the last bit.
    pub(super) statistics: Mutex<HashMap<usize, Statistics>>,
    device: Device,
}

impl Network {
    /// Puts a graph's numbers on a device. On an autodiff device its parameters are tracked.
    ///
    /// # Errors
    /// When a node cannot be run, by name.
    pub fn new(graph: &Graph, device: &Device) -> Result<Network, Error> {
        let mut statistics = HashMap::new();
        let mut frozen = Vec::new();
        for (index, node) in graph.nodes.iter().enumerate() {
            match &node.op {
                Op::Opaque(opaque) => {
                    let (node, op, why) = (node.name.clone(), opaque.op_type.clone(), opaque.why.clone());
                    return Err(Error::Unsupported { node, op, why });
                }
                Op::BatchNormalization { .. } => {
                    let read = |i: usize| {
                        let constant = node.input(i).and_then(|id| graph.constant(id));
                        let wrong = || Error::Unsupported {
                            node: node.name.clone(),
                            op: node.op.name().into(),
                            why: "its statistics are computed by the network itself".into(),
                        };
                        constant.map(|t| t.to_f32().into_owned()).ok_or_else(wrong)
                    };
                    statistics.insert(index, Statistics { mean: read(3)?, variance: read(4)? });
                    frozen.extend([node.input(3), node.input(4)].into_iter().flatten());
                }
                _ => (),
            }
        }
        let plain = device.clone().inner();
        let (mut params, mut param_of, mut constants) = (Vec::new(), HashMap::new(), HashMap::new());
        let read = graph.nodes.iter().flat_map(|n| n.inputs.iter().flatten());
        for &id in read.chain(&graph.outputs) {
            let Some(tensor) = graph.constant(id) else { continue };
            if param_of.contains_key(&id) || constants.contains_key(&id) || frozen.contains(&id) {
                continue;
            }
            if matches!(tensor.data, Data::F32(_)) && !tensor.shape.is_empty() {
                param_of.insert(id, params.len());
                let (name, shape) = (graph.value(id).name.clone(), tensor.shape.clone());
                let tensor = leaf(&tensor.to_f32(), device);
                params.push(Parameter { value: id, name, shape, tensor });
            } else if tensor.dtype().is_float() {
                constants.insert(id, Value::from_host(tensor, &plain)?.into());
            } else {
                constants.insert(id, Datum::Host(graph.value(id).data.clone().expect("it is a constant")));
            }
        }
        let statistics = Mutex::new(statistics);
        let (graph, plan) = (graph.clone(), Plan::new(graph));
        Ok(Network { graph, plan, params, param_of, constants, statistics, device: device.clone() })
    }

    /// The same network with parameters that nobody asks the gradients of: gradients go through it, and cost half.
    #[must_use]
    pub fn untrained(mut self) -> Network {
        for param in self.params.iter_mut().filter(|_| self.device.is_autodiff()) {
            param.tensor = Tensor::from_inner(param.tensor.clone().inner());
        }
        self
    }

    /// The graph, with the numbers it was made with.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The trainable constants.
    pub fn params(&self) -> &[Parameter] {
        &self.params
    }

    /// The parameters' gradients, taken out.
    pub fn take_gradients(&self, gradients: &mut Gradients) -> Vec<Option<Tensor<1>>> {
        self.params.iter().map(|p| p.tensor.grad_remove(gradients)).collect()
    }

    /// Replaces a parameter's elements, after an optimizer's step.
    pub fn set_param(&mut self, index: usize, tensor: Tensor<1>) {
        let tensor = tensor.detach();
        self.params[index].tensor = match self.device.is_autodiff() {
            true => Tensor::from_inner(tensor.inner()).require_grad(),
            false => tensor,
        };
    }

    /// Every number that training changes, by name: parameters, then batch-norm statistics.
    pub fn snapshot(&self) -> Vec<(String, Vec<f32>)> {
        let mut all: Vec<(String, Vec<f32>)> =
            self.params.iter().map(|p| (p.name.clone(), elements(&p.tensor))).collect();
        let statistics = self.lock();
        for (index, node) in self.graph.nodes.iter().enumerate() {
            if let Some(s) = statistics.get(&index) {
                all.push((format!("{}#mean", node.name), s.mean.clone()));
                all.push((format!("{}#variance", node.name), s.variance.clone()));
            }
        }
        all
    }

    /// Takes a snapshot back.
    ///
    /// # Errors
    /// When it is of another network; nothing has changed then.
    pub fn restore(&mut self, snapshot: &[(String, Vec<f32>)]) -> Result<(), Error> {
        let saved: HashMap<&str, &Vec<f32>> = snapshot.iter().map(|(name, v)| (name.as_str(), v)).collect();
        for (name, values) in self.snapshot() {
            let what = match saved.get(name.as_str()) {
                Some(v) if v.len() == values.len() => continue,
                Some(v) => format!("'{name}' has {} elements, not {}", v.len(), values.len()),
                None => format!("'{name}' is not there"),
            };
            return Err(Error::Restore { what });
        }
        for index in 0..self.params.len() {
            let tensor = leaf(saved[self.params[index].name.as_str()], &self.device);
            self.params[index].tensor = tensor;
        }
        let mut statistics = self.lock();
        for (index, node) in self.graph.nodes.iter().enumerate() {
            if let Some(s) = statistics.get_mut(&index) {
                s.mean.clone_from(saved[format!("{}#mean", node.name).as_str()]);
                s.variance.clone_from(saved[format!("{}#variance", node.name).as_str()]);
            }
        }
        drop(statistics);
        Ok(())
    }

    /// The graph with the numbers as they are now.
    pub fn to_graph(&self) -> Graph {
        let mut graph = self.graph.clone();
        for param in &self.params {
            let tensor = HostTensor::f32(param.shape.clone(), elements(&param.tensor));
            graph.value_mut(param.value).data = Some(Arc::new(tensor));
        }
        for (index, s) in self.lock().iter() {
            let node = &self.graph.nodes[*index];
            for (operand, values) in [(3, &s.mean), (4, &s.variance)] {
                if let Some(id) = node.input(operand) {
                    let tensor = HostTensor::f32([values.len()], values.clone());
                    graph.value_mut(id).data = Some(Arc::new(tensor));
                }
            }
        }
        graph
    }

    /// A constant or parameter as an operand.
    pub(super) fn operand(&self, id: ValueId, mode: Mode) -> Option<Datum> {
        if let Some(&index) = self.param_of.get(&id) {
            let param = &self.params[index];
            let tensor = param.tensor.clone();
            let value = |tensor: Tensor<1>| Value::from_tensor(tensor).reshape(&param.shape);
            return Some(match mode {
                Mode::Train { .. } => value(tensor).into(),
                Mode::Infer => value(tensor.inner()).into(),
                Mode::Frozen => value(tensor.inner()).autodiff().into(),
            });
        }
        Some(match self.constants.get(&id)?.clone() {
            Datum::Float(value) if self.tracks(mode) => value.autodiff().into(),
            other => other,
        })
    }

    /// A constant that does not train.
    pub(super) fn fixed(&self, id: ValueId) -> Option<&HostTensor> {
        if self.param_of.contains_key(&id) { None } else { self.graph.constant(id) }
    }

    /// Copies to where a pass computes.
    pub(super) fn upload(&self, tensor: &HostTensor, mode: Mode) -> Result<Value, Error> {
        let value = Value::from_host(tensor, &self.device.clone().inner())?;
        Ok(if self.tracks(mode) { value.autodiff() } else { value })
    }

    /// Whether tensors of a pass are on the autodiff side.
    fn tracks(&self, mode: Mode) -> bool {
        mode != Mode::Infer && self.device.is_autodiff()
    }

    /// Moves a batch norm's running statistics towards those of a batch with `count` elements per channel. The running
    /// variance is the unbiased one, as PyTorch keeps it.
    pub(super) fn move_statistics(&self, node: usize, batch: &Statistics, count: usize, mode: Mode) {
        let mut all = self.lock();
        let (Mode::Train { momentum }, Some(running)) = (mode, all.get_mut(&node)) else { return };
        let unbiased = count as f64 / (count as f64 - 1.0).max(1.0);
        let blend = |old: &mut Vec<f32>, new: &[f32], factor: f64| {
            for (old, new) in old.iter_mut().zip(new) {
                *old = (momentum * f64::from(*old) + (1.0 - momentum) * f64::from(*new) * factor) as f32;
            }
        };
        blend(&mut running.mean, &batch.mean, 1.0);
        blend(&mut running.variance, &batch.variance, unbiased);
    }

    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<usize, Statistics>> {
        // A panic elsewhere leaves whole vectors behind: there is nothing half-written to fear.
        self.statistics.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn check(&self, inputs: &[Datum]) -> Result<(), Error> {
        let shapes: Vec<Vec<usize>> = inputs.iter().map(Datum::shape).collect();
        let batch = shapes.first().and_then(|s| s.first()).copied().unwrap_or(1);
        let wanted = |&id: &ValueId| shape_at(&self.graph.value(id).shape, batch);
        if self.graph.inputs.iter().map(wanted).eq(shapes.iter().cloned()) {
            return Ok(());
        }
        let wanted: Vec<String> = self.graph.inputs.iter().map(|&id| shape_text(&self.graph.value(id).shape)).collect();
        Err(Error::Input { wanted: wanted.join(", "), given: format!("{shapes:?}") })
    }
}

fn leaf(values: &[f32], device: &Device) -> Tensor<1> {
    let tensor = Tensor::<1>::from_data(TensorData::new(values.to_vec(), [values.len()]), device);
    if device.is_autodiff() { tensor.require_grad() } else { tensor }
}

fn elements(tensor: &Tensor<1>) -> Vec<f32> {
    tensor.clone().detach().inner().into_data().iter::<f32>().collect()
}
