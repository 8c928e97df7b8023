//! Teachers that run at every step and do not learn: networks that kdc runs, and others that an engine does.

use super::TeacherSource;
use crate::distill::Error;
use crate::distill::forward::{self, NetworkOutputs, rows};
use crate::teacher::Teacher;
use burn::tensor::Device;
use kdc_exec::{Mode, Network, Value};
use kdc_ir::graph::{Tensor as HostTensor, ValueId};

/// A teacher that runs at every step.
pub enum LiveTeacher {
    /// kdc runs its network.
    Here(Box<Network>),
    /// An engine runs it; its answers are copied to the device.
    Elsewhere { teacher: Box<dyn Teacher>, has_logits_tap: bool, device: Device },
}

impl LiveTeacher {
    /// A source's network, where it has to run at every step: for activations, `taps`, and for answers, `logits`, that
    /// nobody kept or that are to inputs which change (`mixes`).
    ///
    /// # Errors
    /// When nobody can run it.
    pub fn by(
        source: &TeacherSource,
        (logits, taps): (bool, &[ValueId]),
        mixes: bool,
        device: &Device,
    ) -> Result<Option<LiveTeacher>, Error> {
        let kept = source.logits.is_some() && !mixes;
        if taps.is_empty() && !(logits && (source.is_peer || !kept)) {
            return Ok(None);
        }
        let graph = source.graph.ok_or_else(|| {
            Error::inapplicable(
                source.name.as_ref(),
                "is a teacher that has to run at every step, and there is no network of it",
            )
        })?;
        match &source.engine {
            Some(engine) if !source.is_peer => Ok(Some(LiveTeacher::Elsewhere {
                teacher: engine.open(graph, taps)?,
                has_logits_tap: engine.logits.is_some(),
                device: device.clone().autodiff(),
            })),
            _ => {
                let device = if source.is_peer { device.clone().autodiff() } else { device.clone() };
                Ok(Some(LiveTeacher::Here(Box::new(Network::new(graph, &device)?))))
            }
        }
    }

    /// What it says of a batch, as constants of the gradient graph.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn ask(&self, inputs: Vec<HostTensor>, taps: &[ValueId]) -> Result<NetworkOutputs, Error> {
        match self {
            LiveTeacher::Here(network) => forward::ask(network, inputs, &[], taps, Mode::Infer),
            LiveTeacher::Elsewhere { teacher, has_logits_tap, device } => {
                let reply = teacher.run(&inputs)?;
                let here = |tensor: &HostTensor| Ok::<_, Error>(Value::from_host(tensor, device)?);
                let mut taps = reply.taps.iter();
                let logits = if *has_logits_tap { taps.next() } else { reply.outputs.first() };
                let logits = logits.map(|logits| here(logits).and_then(rows)).transpose()?;
                Ok(NetworkOutputs { logits, taps: taps.map(here).collect::<Result<_, _>>()? })
            }
        }
    }
}
