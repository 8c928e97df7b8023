//! A teacher's file, run by an engine where it has operators that kdc cannot run.

use crate::distill::Error;
use crate::teacher::{self, EngineChoice, Teacher};
use kdc_ir::graph::{Graph, Tensor as HostTensor, ValueId};
use std::path::Path;

/// A network's file, for an engine that runs what kdc cannot: what happens inside is asked for by name.
#[derive(Clone, Copy)]
pub struct Engine<'a> {
    pub model: &'a Path,
    /// The one of its outputs that is meant; `None`: its only one.
    pub output: Option<&'a str>,
    /// The value that holds the logits; `None`: the first output does.
    pub logits: Option<&'a str>,
    pub choice: EngineChoice,
}

impl Engine<'_> {
    /// Opens the network for some of its values.
    ///
    /// # Errors
    /// When no engine runs it, or the file has no such value.
    pub fn open(&self, graph: &Graph, values: &[ValueId]) -> Result<Box<dyn Teacher>, Error> {
        let names = values.iter().map(|&id| graph.value(id).name.clone());
        let names: Vec<String> = self.logits.iter().map(|name| name.to_string()).chain(names).collect();
        // It is asked because kdc cannot run the network, and so cannot compare.
        Ok(teacher::open_output(self.model, self.output, &names, self.choice, teacher::UNCOMPARED)?)
    }

    /// The values of some samples, in the order asked for.
    ///
    /// # Errors
    /// As [`Engine::open`]; also when an output is NaN.
    pub fn values(&self, graph: &Graph, values: &[ValueId], inputs: &[HostTensor]) -> Result<Vec<HostTensor>, Error> {
        let taps = self.open(graph, values)?.run(inputs)?.taps;
        Ok(taps.into_iter().skip(self.logits.iter().len()).collect())
    }
}
