//! What a model is: read, not run, unless there is data to run it on.

use super::evaluation::{SampleSource, predicted, samples_for, scored};
use super::{Error, job};
use crate::data::{Preview, SampleView};
use crate::graph::{self, Cost, Graph, Op, shape_text};
use crate::report::Port;
use crate::student::{self, Groups};
use crate::target::Profile;
use crate::{onnx, pass, program, teacher};
use serde::Serialize;
use std::path::Path;

/// What `kdc inspect` shows.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    pub model: String,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    /// Of one sample.
    pub cost: Cost,
    /// Bytes of the parameters as f32.
    pub parameter_bytes: u64,
    /// The most bytes of f32 activations alive at once, node by node in the file's order: a lower bound for an arena
    /// without operators that work in place.
    pub activation_bytes: u64,
    /// What a program would need for them.
    pub arena: Arena,
    pub layers: Vec<LayerLine>,
    /// Nodes that kdc has no operator for. Such a teacher still teaches through an engine that knows them; a student
    /// cannot be derived from it.
    pub unknown: Vec<Unsupported>,
    /// Nodes that have no kernel on the target, where one was named.
    pub without_kernel: Option<Vec<Unsupported>>,
    pub sample: Option<Sample>,
    /// Why there is none although there are data: what the network is for is not supported.
    pub no_sample: Option<String>,
    /// What is cut together, where it was asked for.
    pub groups: Option<Coupling>,
}

/// What is cut together in a student of this model.
#[derive(Clone, Debug, Serialize)]
pub struct Coupling {
    pub groups: Vec<CoupledGroup>,
    /// Extents of weights that cannot become less.
    pub fixed: Vec<FixedExtent>,
}

/// Channels, heads, hidden units that must stay equal in number wherever they appear.
#[derive(Clone, Debug, Serialize)]
pub struct CoupledGroup {
    /// Named after the node that makes them.
    pub name: String,
    pub extent: usize,
    /// The group each of whose indices holds all of this one's.
    pub within: Option<String>,
    /// How a cut spreads from the first weights on.
    pub triggers: Vec<String>,
}

/// An extent that stays, and why.
#[derive(Clone, Debug, Serialize)]
pub struct FixedExtent {
    pub name: String,
    pub extent: usize,
    pub why: String,
}

/// Memory for the activations of one sample as f32.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Arena {
    pub bytes: u64,
    /// By the planner that compiles; else, where the network is no program, estimated as what is alive at once.
    pub planned: bool,
}

/// The most parameters of a network that is lowered only to plan its arena: its weights are copied for that.
const PLANNED_PARAMETERS: u64 = 1 << 24;

/// The same of nodes: planning takes the square of their number.
const PLANNED_NODES: usize = 8192;

/// One node.
#[derive(Clone, Debug, Serialize)]
pub struct LayerLine {
    pub operator: String,
    pub name: String,
    /// Of its results.
    pub shapes: Vec<String>,
    pub params: u64,
    pub macs: u64,
    /// Of its results as f32, for one sample.
    pub activation_bytes: u64,
}

/// A node, and why it is not supported.
#[derive(Clone, Debug, Serialize)]
pub struct Unsupported {
    pub node: String,
    pub operator: String,
    pub why: String,
}

/// The first test sample as the network gets it, and how right the network is: a wrong normalisation shows here.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    pub class: String,
    /// `None` where answers are no classes.
    pub predicted: Option<String>,
    pub shown: Preview,
    /// The network's inputs for it.
    pub inputs: Vec<Range>,
    pub engine: String,
    pub samples: usize,
    /// What the share below is: accuracy, where answers are classes.
    pub judged_by: &'static str,
    /// Measured on so many test samples; `None` where none of them has a label.
    pub accuracy: Option<f64>,
    /// What to look into where that is no more than chance, or too little for another reason.
    pub doubt: Option<String>,
    /// What to know about how the data were read.
    pub notes: Vec<String>,
}

/// One input of the network for a sample: smallest, mean and largest number.
#[derive(Clone, Debug, Serialize)]
pub struct Range {
    pub name: String,
    pub smallest: f32,
    pub mean: f32,
    pub largest: f32,
}

/// Reads a model (`given` says what its file leaves open), and runs it where data is named or its sidecar names some.
///
/// # Errors
/// When the model or the data cannot be read, or do not fit each other.
pub fn inspect(
    model: &Path,
    given: &onnx::Given,
    target: Option<&Profile>,
    samples: &SampleSource,
    groups: bool,
) -> Result<Inspection, Error> {
    let located = job::locate_data(model, samples.sidecar, samples.data).ok();
    let of_sidecar = || located.as_ref().and_then(|(sidecar, _)| sidecar.output.clone());
    let given = &onnx::Given { output: given.output.clone().or_else(of_sidecar), ..given.clone() };
    let mut network = onnx::load_with(model, given)?;
    pass::normalize(&mut network).map_err(Error::Pass)?;
    let (cost, layers) = graph::cost(&network);
    let port = |&id: &graph::ValueId| Port::of(network.value(id));
    let unknown = network.nodes.iter().filter_map(|node| match &node.op {
        Op::Opaque(kept) => {
            Some(Unsupported { node: node.name.clone(), operator: kept.op_type.clone(), why: kept.why.clone() })
        }
        _ => None,
    });
    let lines = layers.iter().map(|layer| {
        let node = &network.nodes[layer.node];
        LayerLine {
            operator: node.op.name().into(),
            name: node.name.clone(),
            shapes: node.outputs.iter().map(|&id| shape_text(&network.value(id).shape)).collect(),
            params: layer.params,
            macs: layer.macs,
            activation_bytes: 4 * layer.activations,
        }
    });
    let mut folded = network.clone();
    pass::run(&mut folded, pass::DEPLOY).map_err(Error::Pass)?;
    // A student ends in no LogSoftmax.
    if folded.nodes.last().is_some_and(|last| matches!(last.op, Op::LogSoftmax { .. })) {
        pass::apply(&mut folded, "strip softmax", pass::strip_softmax).map_err(Error::Pass)?;
    }
    let without_kernel = target.map(|_| {
        let one = |e: program::LowerError| match e {
            program::LowerError::NoKernel { node, op, why } => Unsupported { node, operator: op, why },
            whole => Unsupported { node: network.name.clone(), operator: "the network".into(), why: whole.to_string() },
        };
        program::obstacles(&folded).into_iter().map(one).collect()
    });
    let (mut shown, mut no_sample) = (None, None);
    // Nobody can tell which of several outputs the data are about.
    if (samples.data.is_some() || samples.sidecar.is_some() || located.is_some()) && network.outputs.len() == 1 {
        match sample(model, given.output.as_deref(), samples, &network) {
            // Its layers are worth a look all the same.
            Err(Error::NotSupported { source, .. }) => no_sample = Some(source.to_string()),
            other => shown = Some(other?),
        }
    }
    Ok(Inspection {
        model: model.display().to_string(),
        inputs: network.inputs.iter().map(port).collect(),
        outputs: network.outputs.iter().map(port).collect(),
        cost,
        parameter_bytes: 4 * cost.params,
        activation_bytes: alive(&network),
        arena: arena(&folded, cost.params),
        layers: lines.collect(),
        unknown: unknown.collect(),
        without_kernel,
        groups: if groups { Some(coupling(&network)?) } else { None },
        sample: shown,
        no_sample,
    })
}

/// What is cut together in what is left of a teacher when a student is made of it.
fn coupling(network: &Graph) -> Result<Coupling, Error> {
    let (graph, _) = student::prepare(network).map_err(Error::Pass)?;
    let found = Groups::find(&graph);
    let group = |(index, group): (usize, &student::Group)| CoupledGroup {
        name: group.name.clone(),
        extent: group.extent,
        within: group.within.map(|outer| found.groups[outer].name.clone()),
        triggers: found.triggers(&graph, index).iter().map(ToString::to_string).collect(),
    };
    let fixed = |f: &student::Fixed| FixedExtent { name: f.name.clone(), extent: f.extent, why: f.why.clone() };
    Ok(Coupling {
        groups: found.groups.iter().enumerate().map(group).collect(),
        fixed: found.fixed.iter().map(fixed).collect(),
    })
}

fn arena(network: &Graph, params: u64) -> Arena {
    let small = params <= PLANNED_PARAMETERS && network.nodes.len() <= PLANNED_NODES;
    let program = small.then(|| program::lower_f32(network, None).ok()).flatten();
    match program.and_then(|program| program::plan(&program).ok()) {
        Some(plan) => Arena { bytes: plan.arena_bytes as u64, planned: true },
        None => Arena { bytes: alive(network), planned: false },
    }
}

/// The most bytes of f32 that are alive at once when nodes run in order, batch 1.
fn alive(network: &Graph) -> u64 {
    let consumers = network.consumers();
    let last = |id: &graph::ValueId| {
        let read = consumers.get(id).and_then(|c| c.last().copied());
        if network.outputs.contains(id) { Some(network.nodes.len()) } else { read }
    };
    let bytes = |id: &graph::ValueId| 4 * graph::elements(&network.value(*id).shape) as u64;
    // By node, the bytes that nobody reads after it; those of outputs stay.
    let mut ending = vec![0; network.nodes.len() + 1];
    let (mut alive, mut most) = (0, 0);
    for (bytes, last) in network.inputs.iter().filter_map(|id| Some((bytes(id), last(id)?))) {
        alive += bytes;
        ending[last] += bytes;
    }
    for (index, node) in network.nodes.iter().enumerate() {
        for id in &node.outputs {
            alive += bytes(id);
            ending[last(id).unwrap_or(index)] += bytes(id);
        }
        most = most.max(alive);
        alive -= ending[index];
    }
    most
}

fn sample(model: &Path, output: Option<&str>, samples: &SampleSource, network: &Graph) -> Result<Sample, Error> {
    let dataset = samples_for(model, samples, network)?;
    let test = dataset.test.as_ref();
    let engine = teacher::open_output(model, output, &[], teacher::EngineChoice::Auto, &teacher::probe(test))?;
    let said = match dataset.answers.are_classes() {
        true => Some(predicted(engine.as_ref(), &dataset)?),
        false => None,
    };
    let range = |(id, part): (&graph::ValueId, graph::Tensor)| {
        let values = part.to_f32();
        let fold = |f: fn(f32, f32) -> f32| values.iter().copied().reduce(f).unwrap_or(0.0);
        let mean = values.iter().sum::<f32>() / values.len().max(1) as f32;
        Range { name: network.value(*id).name.clone(), smallest: fold(f32::min), mean, largest: fold(f32::max) }
    };
    let inputs = network.inputs.iter().zip(test.batch(&SampleView::plain([0]))).map(range).collect();
    let name = |label: u16| dataset.class_names.get(usize::from(label)).cloned().unwrap_or_default();
    Ok(Sample {
        notes: dataset.notes.clone(),
        class: test.label(0).map_or("nothing".into(), name),
        predicted: said.as_ref().map(|said| name(said[0])),
        shown: test.show(0),
        inputs,
        engine: engine.engine().into(),
        samples: test.len(),
        judged_by: dataset.answers.score(),
        accuracy: match &said {
            Some(said) => teacher::accuracy(said, test),
            None => scored(engine.as_ref(), &dataset)?,
        },
        doubt: said.as_ref().and_then(|said| teacher::doubt(said, test, &dataset.class_names)),
    })
}
