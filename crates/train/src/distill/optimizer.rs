//! burn's optimizers over flat parameters.
//!
//! Parameters are rank-1 tensors whatever their shape in the network, so one instance of a burn optimizer serves all of
//! them. Weight decay applies to matrices and kernels only, not to biases and batch-norm vectors (as usual since He et
//! al. 2018, <https://arxiv.org/abs/1812.01187>). Gradients are clipped by their global norm (Pascanu et al. 2013,
//! <https://arxiv.org/abs/1211.5063>); burn clips per tensor, so that is done here.

use super::OptimizerConfig;
use super::trainables::Trainables;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{
    AdamW, AdamWConfig, AdamWState, Optimizer as _, RecordState, Sgd, SgdConfig, SgdState, StateSink, StateSource,
};
use burn::tensor::{Device, Tensor, TensorData};
use std::collections::BTreeMap;

/// One of burn's optimizers with its state per parameter.
pub struct Optimizer {
    kind: Kind,
    clip_norm: f64,
}

enum Kind {
    Sgd { decayed: Sgd, plain: Sgd, states: Vec<Option<SgdState<1>>> },
    AdamW { decayed: AdamW, plain: AdamW, states: Vec<Option<AdamWState<1>>> },
}

/// The optimizer's state as named numbers, for checkpoints.
pub struct StateParts {
    pub tensors: Vec<(String, Vec<f32>)>,
    /// Step counters.
    pub counters: Vec<(String, u64)>,
}

impl Optimizer {
    /// A fresh optimizer for `params` parameters.
    pub fn new(config: OptimizerConfig, clip_norm: f64, params: usize) -> Optimizer {
        let kind = match config {
            OptimizerConfig::Sgd { momentum, weight_decay } => {
                let momentum = MomentumConfig::new().with_momentum(momentum).with_dampening(0.0).with_nesterov(true);
                let plain = SgdConfig::new().with_momentum(Some(momentum));
                let decay = WeightDecayConfig::new(weight_decay as f32);
                let decayed = plain.clone().with_weight_decay(Some(decay));
                Kind::Sgd { decayed: decayed.build(), plain: plain.build(), states: vec![None; params] }
            }
            OptimizerConfig::AdamW { weight_decay } => {
                let with = |decay: f32| AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(decay).build();
                Kind::AdamW { decayed: with(weight_decay as f32), plain: with(0.0), states: vec![None; params] }
            }
        };
        Optimizer { kind, clip_norm }
    }

    /// One step at the learning rate `lr`: clips, then moves every parameter that has a gradient. Returns the gradient's
    /// norm before clipping; nothing moves when that is not finite.
    pub fn step(&mut self, trainables: &mut Trainables, mut gradients: Vec<Option<Tensor<1>>>, lr: f64) -> f64 {
        let squares = gradients.iter().flatten().map(|g| scalar(g.clone().square().sum())).sum::<f64>();
        let norm = squares.sqrt();
        if !norm.is_finite() {
            return norm;
        }
        if norm > self.clip_norm {
            let factor = self.clip_norm / norm;
            gradients = gradients.into_iter().map(|g| g.map(|g| g.mul_scalar(factor))).collect();
        }
        for (index, (gradient, (param, is_matrix))) in gradients.into_iter().zip(trainables.params()).enumerate() {
            let Some(gradient) = gradient else { continue };
            let tensor = param.inner();
            let moved = match &mut self.kind {
                Kind::Sgd { decayed, plain, states } => {
                    let optimizer = if is_matrix { decayed } else { plain };
                    let (moved, state) = optimizer.step(lr, tensor, gradient, states[index].take());
                    states[index] = state;
                    moved
                }
                Kind::AdamW { decayed, plain, states } => {
                    let optimizer = if is_matrix { decayed } else { plain };
                    let (moved, state) = optimizer.step(lr, tensor, gradient, states[index].take());
                    states[index] = state;
                    moved
                }
            };
            trainables.set(index, moved);
        }
        norm
    }

    /// The state, to be kept in a checkpoint.
    pub fn state(&self) -> StateParts {
        match &self.kind {
            Kind::Sgd { states, .. } => StateParts::of(states),
            Kind::AdamW { states, .. } => StateParts::of(states),
        }
    }

    /// Takes a state back; parameters without one start afresh.
    pub fn set_state(&mut self, parts: StateParts, device: &Device) {
        match &mut self.kind {
            Kind::Sgd { states, .. } => *states = parts.into_states(states.len(), device),
            Kind::AdamW { states, .. } => *states = parts.into_states(states.len(), device),
        }
    }
}

impl StateParts {
    /// Of one of burn's optimizers, by parameter.
    pub fn of<S: RecordState>(states: &[Option<S>]) -> StateParts {
        let mut sink = StateSink::default();
        for (index, state) in states.iter().enumerate() {
            if let Some(state) = state {
                state.state_flatten(&index.to_string(), &mut sink);
            }
        }
        let tensors = sink.tensors.into_iter();
        let counters = sink.scalars.into_iter();
        StateParts {
            tensors: tensors.map(|(name, data)| (name, data.iter::<f32>().collect())).collect(),
            counters: counters.filter_map(|(name, value)| Some((name, u64::try_from(value).ok()?))).collect(),
        }
    }

    /// For so many parameters; `None` for those that had no state.
    pub fn into_states<S: RecordState>(self, params: usize, device: &Device) -> Vec<Option<S>> {
        let scalars: BTreeMap<String, _> = self.counters.into_iter().map(|(name, n)| (name, n.into())).collect();
        let mut source = StateSource::new(scalars);
        for (name, values) in self.tensors {
            let count = values.len();
            source.insert_tensor(name, TensorData::new(values, [count]));
        }
        let mut state = |index: usize| {
            let prefix = index.to_string();
            source.has_under(&prefix).then(|| S::state_unflatten(&prefix, &mut source, device)).flatten()
        };
        (0..params).map(&mut state).collect()
    }
}

fn scalar(tensor: Tensor<1>) -> f64 {
    tensor.into_data().iter::<f64>().next().unwrap_or(0.0)
}
