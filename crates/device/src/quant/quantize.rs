//! Gives every value of a network its parameters.

use super::constants::quantize_constants;
use super::fusion::{Fusion, fusions};
use super::shared::Shared;
use super::unquantized::unquantized;
use super::{Calibration, Error, Observer, Range, watched};
use kdc_ir::graph::{Graph, ValueId};
use std::collections::{HashMap, HashSet};

/// A float network (batch norm folded) and the range of each of its activations.
#[derive(Clone, Debug)]
pub struct CalibratedModel {
    pub graph: Graph,
    ranges: HashMap<ValueId, Range>,
    unquantized: HashSet<ValueId>,
}

/// A network in which every activation and weight carries its parameters.
#[derive(Clone, Debug)]
pub struct QuantizedModel {
    pub graph: Graph,
}

impl CalibratedModel {
    /// Takes the ranges from observers, one per [`watched`] value in order.
    ///
    /// # Errors
    /// When a value was never seen.
    pub fn new(graph: Graph, observers: &[Observer], calibration: Calibration) -> Result<CalibratedModel, Error> {
        let mut ranges = HashMap::new();
        for (id, observer) in watched(&graph).into_iter().zip(observers) {
            let unseen = || Error::Unseen { value: graph.value(id).name.clone() };
            ranges.insert(id, observer.range(calibration).ok_or_else(unseen)?);
        }
        Ok(CalibratedModel { unquantized: unquantized(&graph), graph, ranges })
    }

    /// Gives every activation, weight and bias its parameters.
    ///
    /// # Errors
    /// When an operator has no integer meaning.
    pub fn quantize(&self) -> Result<QuantizedModel, Error> {
        let mut graph = self.graph.clone();
        let shared = Shared::new(&self.graph, &self.ranges);
        for id in watched(&graph) {
            graph.value_mut(id).quant = Some(shared.params(id));
        }
        // What lies inside of nodes that run as one is never stored.
        let fusions = fusions(&self.graph);
        let interior = fusions.iter().flat_map(Fusion::interior).map(|index| self.graph.nodes[index].output());
        for id in self.unquantized.iter().copied().chain(interior) {
            graph.value_mut(id).quant = None;
        }
        quantize_constants(&mut graph, &shared, &self.unquantized)?;
        Ok(QuantizedModel { graph })
    }
}
