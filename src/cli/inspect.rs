//! `kdc inspect`: what a model is.

use super::values;
use crate::data::Preview;
use crate::escape::{line, shown as shown_name};
use crate::onnx::Given;
use crate::pipeline::{self, Coupling, Inspection, Range, Sample, SampleSource, Unsupported};
use crate::report::{Align, Port, bytes, count, list, table};
use crate::target;
use clap::Args;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// Show a model layer by layer: operators, sizes, costs, and what kdc or a target cannot do with it
///
/// With data (named, or by the model's sidecar) also one sample as the network gets it, and the accuracy, so that a
/// wrong normalisation is seen before an hour is spent.
#[derive(Debug, Args)]
pub struct Arguments {
    /// An ONNX file
    model: PathBuf,

    /// Extents of an input that the file leaves open, e.g. tokens=1x24; the first is the batch. Repeatable
    #[arg(long = "input", value_name = "NAME=SHAPE", value_parser = values::input)]
    inputs: Vec<(String, Vec<usize>)>,

    /// The one of its outputs that is meant, where it has several [default: the one that the sidecar names]
    #[arg(long, value_name = "NAME")]
    output: Option<String>,

    /// Also list the nodes that have no kernel on this board
    #[arg(short, long, value_name = "NAME")]
    target: Option<String>,

    /// What the samples are, e.g. the teacher's for its student [default: the TOML file beside MODEL]
    #[arg(long, value_name = "FILE")]
    sidecar: Option<PathBuf>,

    /// File or folder with the samples [default: where the model's sidecar says]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Also show which channels, heads and hidden units are cut together in a student, and why
    #[arg(long)]
    groups: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Folder with target profiles of your own, before those that come with kdc
    #[arg(long, value_name = "DIR")]
    targets: Vec<PathBuf>,
}

/// Inspects and prints.
pub fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let folders = target::folders(&arguments.targets);
    let profile = arguments.target.as_ref().map(|name| target::find(name, &folders)).transpose()?;
    let shapes = arguments.inputs.iter().cloned().collect();
    let given = Given { shapes, output: arguments.output.clone(), ..Given::default() };
    let samples = SampleSource { sidecar: arguments.sidecar.as_deref(), data: arguments.data.as_deref() };
    let inspection = pipeline::inspect(&arguments.model, &given, profile.as_ref(), &samples, arguments.groups)?;
    match arguments.json {
        true => super::print_json(&(serde_json::to_string_pretty(&inspection)? + "\n"))?,
        false => super::print(&shown(&inspection, profile.map(|p| p.id).as_deref()))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(inspection: &Inspection, target: Option<&str>) -> String {
    let ports = |ports: &[Port]| {
        let one = |p: &Port| {
            let shape: Vec<String> = p.shape.iter().map(ToString::to_string).collect();
            format!("{} {} {}", p.name, p.dtype, shape.join("×"))
        };
        ports.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let arena = match inspection.arena.planned {
        true => format!("{}, planned", bytes(inspection.arena.bytes as f64)),
        false => format!("{}, estimated: what is alive at once", bytes(inspection.arena.bytes as f64)),
    };
    let head = list([
        ("inputs".into(), ports(&inspection.inputs)),
        ("outputs".into(), ports(&inspection.outputs)),
        ("MACs an inference".into(), count(inspection.cost.macs as f64)),
        ("parameters".into(), count(inspection.cost.params as f64)),
        ("parameters as f32".into(), bytes(inspection.parameter_bytes as f64)),
        ("activations as f32".into(), format!("{} alive at once", bytes(inspection.activation_bytes as f64))),
        ("arena as f32".into(), arena),
    ]);
    let columns = [
        ("id", Align::Right),
        ("operator", Align::Left),
        ("node", Align::Left),
        ("output", Align::Left),
        ("parameters", Align::Right),
        ("MACs", Align::Right),
        ("bytes", Align::Right),
    ];
    let rows = inspection.layers.iter().enumerate().map(|(i, layer)| {
        vec![
            i.to_string(),
            layer.operator.clone(),
            layer.name.clone(),
            layer.shapes.join(" "),
            count(layer.params as f64),
            count(layer.macs as f64),
            count(layer.activation_bytes as f64),
        ]
    });
    let mut text =
        format!("{}\n{head}\nLayers, counted; bytes of results as f32, one sample\n", line(&inspection.model));
    text += &table(&columns, rows);
    if !inspection.unknown.is_empty() {
        text += "\nNot known to kdc: such a teacher teaches, but no student can be derived from it\n";
        text += &unsupported(&inspection.unknown);
    }
    match (&inspection.without_kernel, target) {
        (Some(none), Some(target)) if none.is_empty() => text += &format!("\nEvery node has a kernel on {target}.\n"),
        (Some(nodes), Some(target)) => text += &format!("\nWithout a kernel on {target}\n{}", unsupported(nodes)),
        _ => {}
    }
    if let Some(coupling) = &inspection.groups {
        text += &of_coupling(coupling);
    }
    if let Some(why) = &inspection.no_sample {
        text += &format!("\nnote: {}\n", line(why));
    }
    if inspection.outputs.len() > 1 {
        text += "\nIt has several outputs: data, students and accuracy are about one, which --output NAME says.\n";
    }
    if let Some(sample) = &inspection.sample {
        text += &of_sample(sample);
    }
    text
}

/// Each group with all that a cut of it reaches, and what cannot be cut.
fn of_coupling(coupling: &Coupling) -> String {
    let mut text = String::from("\nCut together in a student\n");
    for group in &coupling.groups {
        let within =
            group.within.as_ref().map_or(String::new(), |outer| format!(", in each of '{}'", shown_name(outer)));
        text += &format!("  '{}': {}{within}\n", shown_name(&group.name), group.extent);
        text.extend(group.triggers.iter().map(|t| format!("    {}\n", line(t))));
    }
    if coupling.groups.is_empty() {
        text += "  nothing: every extent stays\n";
    }
    if !coupling.fixed.is_empty() {
        text += "\nNot cut\n";
        let head = [("node", Align::Left), ("extent", Align::Right), ("why", Align::Left)];
        let rows = coupling.fixed.iter().map(|f| vec![f.name.clone(), f.extent.to_string(), f.why.clone()]);
        text += &table(&head, rows);
    }
    text
}

fn unsupported(nodes: &[Unsupported]) -> String {
    let head = [("operator", Align::Left), ("node", Align::Left), ("why", Align::Left)];
    table(&head, nodes.iter().map(|n| vec![n.operator.clone(), n.node.clone(), n.why.clone()]))
}

/// Bytes as a picture of characters, two to a pixel.
fn picture(pixels: &[u8], width: usize) -> String {
    const SHADES: &[u8] = b" .:-=+*#%@";
    let shade = |&p: &u8| char::from(SHADES[usize::from(p) * SHADES.len() / 256]);
    let line = |row: &[u8]| row.iter().flat_map(|p| [shade(p); 2]).collect::<String>();
    pixels.chunks(width.max(1)).map(|row| format!("  {}", line(row)).trim_end().to_string() + "\n").collect()
}

/// Numbers with their names, or in lines of eight.
fn numbers(names: &[String], values: &[f32]) -> String {
    if names.is_empty() {
        let line = |row: &[f32]| row.iter().map(|x| format!("{x:>9.3}")).collect::<String>() + "\n";
        return values.chunks(8).map(line).collect();
    }
    list(names.iter().zip(values).map(|(name, x)| (format!("  {name}"), format!("{x:.3}"))))
}

/// The first test sample, and what the network makes of it.
fn of_sample(sample: &Sample) -> String {
    let range =
        |r: &Range| format!("{} from {:.3} to {:.3}, mean {:.3}", shown_name(&r.name), r.smallest, r.largest, r.mean);
    let judged = sample.predicted.as_ref().map_or_else(String::new, |predicted| {
        format!(", labelled {}, said to be {}", shown_name(&sample.class), shown_name(predicted))
    });
    let inputs = sample.inputs.iter().map(range).collect::<Vec<_>>().join("; ");
    let mut text = format!("\nThe first test sample{judged}; as the network gets it: {inputs}\n");
    match &sample.shown {
        Preview::Image { shape: [_, width, _], pixels } => text += &picture(pixels, *width),
        Preview::Tokens { tokens } => text += &format!("  {}\n", line(&tokens.join(" "))),
        Preview::Numbers { names, values } => text += &numbers(names, values),
    }
    let samples = count(sample.samples as f64);
    text + &match sample.accuracy {
        Some(share) => {
            let (name, of) = (sample.judged_by, if sample.predicted.is_some() { "of" } else { "on" });
            let name = name[..1].to_uppercase() + &name[1..];
            format!("\n{name}, measured: {:.2}% {of} {samples} test samples, by {}\n", 100.0 * share, sample.engine)
        }
        None => format!("\nNone of the {samples} test samples has a label: there is no accuracy.\n"),
    } + &super::eval::notes(&sample.notes, sample.doubt.as_deref())
}
