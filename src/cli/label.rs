//! `kdc label`: the teacher's answers, ahead of compilations and on as many machines as there are.

use super::progress::Terminal;
use super::training::{EngineName, MOST_CLASSES};
use super::values;
use crate::distill::{self, VIEWS_LIMIT};
use crate::pipeline::{self, LabelOptions, Outcome, Progress};
use crate::report::count;
use crate::teacher::Shard;
use clap::Args;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Ask a teacher about every training sample, and keep the answers for compilations to come
///
/// Parts of the work may be done on several machines: run `--shard 1/3`, `2/3` and `3/3` on the same model and data, put
/// the folders together, and name the result with `kdc compile --labels DIR`. A part can be run again at any time: what
/// is there and sound is kept.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The teacher, an ONNX file with a sidecar beside it
    model: PathBuf,

    /// Extents of an input that the file leaves open, e.g. x=1x3x224x224
    #[arg(long = "input", value_name = "NAME=SHAPE", value_parser = values::input)]
    inputs: Vec<(String, Vec<usize>)>,

    /// The one of its outputs that is meant, where it has several [default: the one that the sidecar names]
    #[arg(long, value_name = "NAME")]
    output: Option<String>,

    /// Folder with the samples [default: where the model's sidecar says]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Folder for the answers [default: in the cache]
    #[arg(long, value_name = "DIR")]
    labels: Option<PathBuf>,

    /// Label this part only, e.g. 2/4
    #[arg(long, value_name = "I/N", value_parser = values::shard, default_value = "1/1")]
    shard: Shard,

    /// Augmented views of each sample
    #[arg(long, value_name = "K", value_parser = values::up_to::<VIEWS_LIMIT>)]
    views: Option<usize>,

    /// Keep only the K largest logits of each answer, and one for the others [default: all]
    #[arg(long, value_name = "K", value_parser = values::up_to::<MOST_CLASSES>)]
    top_k: Option<usize>,

    /// Decides how views differ from their samples
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// What runs the teacher; auto takes the built-in tract, and ONNX Runtime, which is faster, where tract cannot
    #[arg(long, value_enum, default_value = "auto")]
    engine: EngineName,
}

/// Labels, and says what is there.
pub fn run(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let options = LabelOptions {
        model: arguments.model,
        inputs: arguments.inputs.into_iter().collect(),
        output: arguments.output,
        data: arguments.data,
        labels: arguments.labels,
        shard: arguments.shard,
        seed: arguments.seed,
        views: arguments.views.unwrap_or(distill::Config::default().views),
        top_k: arguments.top_k,
        engine: arguments.engine.into(),
    };
    let (progress, start) = (Terminal::new(), Instant::now());
    progress.start("label");
    let labelled = pipeline::label(&options, &progress)?;
    progress.finish("label", Outcome::Ran { seconds: start.elapsed().as_secs_f64() });
    let Shard { index, of } = options.shard;
    let mut text = format!(
        "{} samples in part {index}/{of}, {} of them labelled now, {} views each, in {}\n",
        count(labelled.samples as f64),
        count(labelled.asked as f64),
        options.views,
        crate::escape::line(&labelled.folder.display().to_string())
    );
    text += &match labelled.missing {
        0 => "All parts are there.\n".to_string(),
        missing => format!("{} samples of other parts are not there yet.\n", count(missing as f64)),
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
