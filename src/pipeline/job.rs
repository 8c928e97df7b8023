//! What is asked for, read and checked before any work is done: everything that can be refused early is refused here.

use super::options::{Start, name};
use super::{Cache, Error, Options, Progress, cache, opaque};
use crate::data::{self, Dataset, Sidecar, Splits, Task};
use crate::distill::{self, TeacherKind, TermSpec};
use crate::files;
use crate::graph::{Graph, Op};
use crate::onnx;
use crate::student::{self, Budgets};
use crate::target::{self, Profile};
use crate::teacher;
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A student is at most this share of its teacher, in MACs and in parameters, where no budget is given.
const DEFAULT_SHARE: u64 = 8;

/// One compilation, ready to run.
pub struct Job {
    pub options: Options,
    pub profile: Profile,
    pub cache: Cache,
    /// Where the results go.
    pub out: PathBuf,
    /// The one of the teacher's outputs that is meant, where it was named.
    pub output: Option<String>,
    pub teacher: Graph,
    /// Hash of the teacher's file (and of what lies outside it).
    pub teacher_hash: String,
    pub data: Splits,
    /// The training samples with all of their labels: what the teacher is asked about does not depend on those.
    pub asked_about: Arc<dyn Dataset>,
    pub data_dir: PathBuf,
    /// Hash of all samples, their labels, and how they become inputs.
    pub data_hash: String,
    pub training: distill::Config,
    /// How the student is trained, stage by stage.
    pub recipe: distill::Recipe,
    /// The recipe's own teachers, beside the one that is compiled.
    pub others: Vec<OtherTeacher>,
    /// The student is all that is wanted: it may have operators that no board runs.
    pub is_without_program: bool,
    /// What was read, and is looked at again before anything made of it is kept.
    sources: Vec<Source>,
}

/// A file that results are made of, as it was when it was read.
struct Source {
    path: PathBuf,
    /// Of the file, and of the files of weights that a model names.
    hash: String,
    /// It, and what it names.
    files: Vec<PathBuf>,
    is_model: bool,
}

impl Source {
    fn model(path: &Path) -> Result<Source, Error> {
        let (hash, files) = (contents(path)?, teacher::files(path)?);
        Ok(Source { path: path.into(), hash, files, is_model: true })
    }

    fn text(path: &Path) -> Result<Source, Error> {
        let hash = files::hash_file(path).map_err(|e| Error::read(path, e))?;
        Ok(Source { path: path.into(), hash, files: vec![path.into()], is_model: false })
    }

    fn is_as_it_was(&self) -> bool {
        let now =
            if self.is_model { teacher::content_hash(&self.path).ok() } else { files::hash_file(&self.path).ok() };
        now.is_some_and(|now| now == self.hash)
    }
}

/// The hash of a model's contents; where it is none, in the words of who reads it.
pub(super) fn contents(path: &Path) -> Result<String, Error> {
    teacher::content_hash(path).map_err(Error::from).or_else(|why| onnx::load(path).map_err(Error::from).and(Err(why)))
}

/// Refuses to go on with a model that is not the one of this hash any more.
pub(super) fn same_model(path: &Path, hash: &str) -> Result<(), Error> {
    match teacher::content_hash(path).is_ok_and(|now| now == hash) {
        true => Ok(()),
        false => Err(Error::Changed { path: path.into() }),
    }
}

/// A network that a recipe brings to learn from.
pub struct OtherTeacher {
    pub name: String,
    pub path: PathBuf,
    /// Hash of its file.
    pub hash: String,
    /// With logits at its end.
    pub network: Graph,
    /// The value of its file that holds the logits, where its output is something else.
    pub logits_value: Option<String>,
    /// Whether it learns along.
    pub is_peer: bool,
}

/// Reads the networks that a recipe names.
fn others(recipe: &distill::Recipe) -> Result<Vec<OtherTeacher>, Error> {
    let read = |spec: &distill::TeacherSpec| {
        let path = spec.model.clone()?;
        let one = || {
            let (name, hash) = (spec.name.clone(), contents(&path)?);
            let loaded = onnx::load(&path)?;
            let (network, _) = student::prepare(&loaded)?;
            let (logits_value, is_peer) = (logits_name(&loaded), spec.kind == TeacherKind::Peer);
            Ok(OtherTeacher { name, path: path.clone(), hash, network, logits_value, is_peer })
        };
        Some(one())
    };
    recipe.teachers.iter().filter_map(read).collect()
}

/// The operand of a softmax at the end.
pub(super) fn logits_name(network: &Graph) -> Option<String> {
    let out = *network.outputs.first()?;
    let last = network.nodes.iter().find(|n| n.outputs.contains(&out))?;
    if !matches!(last.op, Op::Softmax { .. } | Op::LogSoftmax { .. }) {
        return None;
    }
    Some(network.value(last.input(0)?).name.clone())
}

/// What names a compilation without reading all of its data: the hashes of its files, and its settings.
pub fn fingerprint(options: &Options, profile: &Profile) -> Result<String, Error> {
    let (sidecar, data_dir) = locate(options)?;
    let mut parts = vec![env!("CARGO_PKG_VERSION").to_string(), cache::CODE.to_string()];
    parts.push(teacher::content_hash(&options.model)?);
    parts.push(files::hash_file(&sidecar.path).map_err(|e| Error::read(&sidecar.path, e))?);
    let paths = data::files(&sidecar, &data_dir)?;
    // Thousands of small files: as many at once as there are processors.
    let hashes: Vec<_> = paths.par_iter().map(|path| files::hash_file(path)).collect();
    for (path, hash) in paths.iter().zip(hashes) {
        parts.push(path.strip_prefix(&data_dir).unwrap_or(path).to_string_lossy().into_owned());
        parts.push(hash.map_err(|e| Error::read(path, e))?);
    }
    for path in [&options.derivation.student, &options.derivation.spec].into_iter().flatten() {
        parts.push(files::hash_file(path).map_err(|e| Error::read(path, e))?);
    }
    for path in options.recipe().teachers.iter().filter_map(|t| t.model.as_ref()) {
        parts.push(teacher::content_hash(path)?);
    }
    parts.push(format!("{profile:?}"));
    parts.push(options.cache_key());
    Ok(files::hash(parts.join("\0").as_bytes()))
}

/// The sidecar and the folder of the data.
fn locate(options: &Options) -> Result<(Sidecar, PathBuf), Error> {
    locate_data(&options.model, options.sidecar.as_deref(), options.data.as_deref())
}

/// The sidecar of a model, the one named or the one beside it, and the folder of its data: the one named, or the one
/// that the sidecar names.
pub(super) fn locate_data(
    model: &Path,
    sidecar: Option<&Path>,
    data: Option<&Path>,
) -> Result<(Sidecar, PathBuf), Error> {
    let sidecar = match sidecar {
        Some(path) => Sidecar::load(path)?,
        None => Sidecar::find(model)?
            .ok_or_else(|| Error::NoSidecar { model: model.to_path_buf(), wanted: model.with_extension("toml") })?,
    };
    let data = data.map(Path::to_path_buf).or_else(|| sidecar.data.clone());
    let data = data.ok_or_else(|| Error::NoData { sidecar: sidecar.path.clone() })?;
    Ok((sidecar, data))
}

/// Reads a model that answers with one output: its only one, or the one that is named.
pub(super) fn load_one_output(model: &Path, given: &onnx::Given) -> Result<Graph, Error> {
    let network = onnx::load_with(model, given)?;
    if network.outputs.len() > 1 {
        let names = network.outputs.iter().map(|&id| network.value(id).name.clone()).collect();
        return Err(Error::Outputs { model: model.into(), names });
    }
    Ok(network)
}

/// Names what a model answers: the hash of its file, and the output that was chosen.
pub(super) fn teacher_hash(model: &Path, output: Option<&str>) -> Result<String, Error> {
    let hash = teacher::content_hash(model)?;
    Ok(output.map_or(hash.clone(), |output| files::hash(format!("{hash} answers with {output}").as_bytes())))
}

/// The data of a model, checked against its network.
pub(super) fn load_data(model: &Path, sidecar: &Sidecar, path: &Path, network: &Graph) -> Result<Splits, Error> {
    data::load(sidecar, path, network).map_err(|source| misfit(source, model, path))
}

/// Names both sides where data and model do not go together.
fn misfit(source: data::Error, model: &Path, data: &Path) -> Error {
    match source {
        data::Error::Mismatch { .. } | data::Error::Channels { .. } => {
            Error::Fit { model: model.to_path_buf(), data: data.to_path_buf(), source }
        }
        data::Error::Unsupported { .. } => Error::NotSupported { model: model.to_path_buf(), source },
        other => other.into(),
    }
}

/// A teacher of other classes as the teacher of the data's: with a last layer that knows nothing yet.
fn transferred(options: &Options, teacher: &Graph, sidecar: &Sidecar, path: &Path) -> Result<(Graph, Splits), Error> {
    let data = data::load_for_body(sidecar, path, teacher).map_err(|e| misfit(e, &options.model, path))?;
    Error::unless_classes(&data.answers, &options.model)?;
    let network = student::with_head(teacher, data.class_names.len(), options.seed)?;
    Ok((network, data))
}

impl Job {
    /// Reads and checks the teacher, the data and the settings.
    ///
    /// # Errors
    /// The first thing that cannot work; names the file and what to do.
    pub fn prepare(options: Options, profile: Profile, out: PathBuf) -> Result<Job, Error> {
        let mut training = options.training();
        training.check()?;
        let mut recipe = options.recipe();
        if let Some(what) = untaught(&options, &recipe) {
            return Err(Error::Untaught { what });
        }
        let mut others = others(&recipe)?;
        options.device.open()?;
        let located = locate(&options);
        let of_sidecar = located.as_ref().ok().and_then(|(sidecar, _)| sidecar.output.clone());
        let output = options.output.clone().or(of_sidecar);
        let given = onnx::Given { shapes: options.inputs.clone(), output: output.clone(), ..Default::default() };
        // Hashed before it is read: what is read later than this hash is noticed.
        let mut sources = vec![Source::model(&options.model)?];
        for other in &others {
            sources.push(Source { hash: other.hash.clone(), ..Source::model(&other.path)? });
        }
        if let Some(student) = &options.derivation.student {
            sources.push(Source::model(student)?);
        }
        if let Some(spec) = &options.derivation.spec {
            sources.push(Source::text(spec)?);
        }
        let teacher = load_one_output(&options.model, &given)?;
        let mut teacher_hash = teacher_hash(&options.model, output.as_deref())?;
        let (sidecar, data_dir) = located?;
        let (teacher, mut data) = match recipe.data.new_classes {
            true => transferred(&options, &teacher, &sidecar, &data_dir)?,
            false => {
                let data = load_data(&options.model, &sidecar, &data_dir, &teacher)?;
                let samples = data.train.as_ref();
                let teacher = opaque::with_shapes(teacher, &options.model, &given, samples, options.engine)?;
                for other in others.iter_mut().filter(|other| other.network.has_opaque()) {
                    let loaded = onnx::load(&other.path)?;
                    let loaded =
                        opaque::with_shapes(loaded, &other.path, &onnx::Given::default(), samples, options.engine)?;
                    (other.network, _) = student::prepare(&loaded)?;
                }
                (teacher, data)
            }
        };
        if recipe.data.new_classes {
            // What was found out about the file's own classes does not hold.
            teacher_hash = files::hash(format!("{teacher_hash} with a new head by {}", options.seed).as_bytes());
        }
        let asked_about = data.train.clone();
        if data.answers != Task::Classification && options.training.recipe.is_none() {
            recipe = match (options.training.labels_only, &data.answers) {
                (true, answers) => labels_only(answers),
                (_, Task::Sequence(_)) => options.soft_labels(),
                (_, Task::MaskedLm) => {
                    let teacher = TermSpec::new("soft-label").with("alpha", 1.0).with("temperature", 2.0);
                    distill::Recipe::of("hidden tokens", vec![TermSpec::new("masked-lm"), teacher])
                }
                _ => distill::Recipe::of("numbers", vec![TermSpec::new("regression")]),
            };
            training.terms = recipe.for_search();
        }
        if !data.answers.are_classes() && (recipe.data.labels.is_some() || recipe.data.labelled_share.is_some()) {
            let what = "[data] labels and labelled-share of the recipe choose among labels, and these samples have none; leave \
                        them out";
            return Err(distill::Error::Config(what.into()).into());
        }
        if let Some(labels) = recipe.data.labels {
            data.train = Arc::new(data::LabelSubset::new(data.train, labels, options.seed));
        }
        let samples = recipe.data.synthetic.map_or(data.train.len(), |how| how.samples);
        training.resolve_defaults(samples, options.training.epochs, options.training.batch_size);
        let data_hash = files::hash(format!("{}{}", data.train.hash(), data.test.hash()).as_bytes());
        let cache = Cache::open(options.force)?;
        Ok(Job {
            options,
            profile,
            cache,
            out,
            output,
            teacher,
            teacher_hash,
            data,
            asked_about,
            data_dir,
            data_hash,
            training,
            recipe,
            others,
            is_without_program: false,
            sources,
        })
    }

    /// A stage of the cache, made of what was read: nothing is kept that may have been made of something else.
    pub fn stage(
        &self,
        name: &str,
        inputs: &[&str],
        progress: &dyn Progress,
        make: impl FnOnce(&Path) -> Result<(), Error>,
    ) -> Result<cache::Stage, Error> {
        self.cache.stage(name, inputs, progress, |folder| {
            make(folder)?;
            self.unchanged().inspect_err(|_| {
                // Best effort: what is left is only gone on from by a run of the same inputs.
                _ = files::remove_folder(folder);
            })
        })
    }

    /// Looks again at the files that were read.
    ///
    /// # Errors
    /// When one is not as it was.
    pub fn unchanged(&self) -> Result<(), Error> {
        match self.sources.iter().find(|source| !source.is_as_it_was()) {
            None => Ok(()),
            Some(Source { path, .. }) => Err(Error::Changed { path: path.clone() }),
        }
    }

    /// What went wrong may have done so because a file was changed: then that is the reason.
    pub fn explained<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.or_else(|error| self.unchanged().and(Err(error)))
    }

    /// Every file that is read: none of them may be an output.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn inputs(&self) -> Result<Vec<PathBuf>, Error> {
        let (sidecar, data_dir) = locate(&self.options)?;
        let mut inputs = data::files(&sidecar, &data_dir)?;
        inputs.push(sidecar.path);
        inputs.extend(self.options.read.iter().cloned());
        inputs.extend(self.sources.iter().flat_map(|source| source.files.iter().cloned()));
        Ok(inputs)
    }

    /// Whether the student is trained: not where `--epochs 0` takes it as it is.
    pub fn trains(&self) -> bool {
        self.options.training.epochs != Some(0)
    }

    /// The budgets that were asked for; where none was, the default share of the teacher, but for a student that is brought:
    /// its size was chosen. The profile's limits always hold.
    pub fn budgets(&self, teacher: &crate::graph::Cost) -> Budgets {
        let asked = &self.options.budgets;
        let profile = &self.profile.budgets;
        let share = |whole: u64| self.options.derivation.student.is_none().then_some(whole / DEFAULT_SHARE);
        Budgets {
            macs: asked.macs.or_else(|| share(teacher.macs)),
            params: asked.params.or_else(|| share(teacher.params)),
            ram_bytes: asked.ram_bytes.or(Some(profile.ram.0)),
            flash_bytes: asked.flash_bytes.or(Some(profile.flash.0)),
            latency_s: asked.latency_s.or(Some(profile.latency_s)),
        }
    }

    /// A short name for the network: the model's file stem.
    pub fn name(&self) -> String {
        name(&self.options.model)
    }
}

/// What `--epochs 0` would leave as it was drawn.
fn untaught(options: &Options, recipe: &distill::Recipe) -> Option<&'static str> {
    let derivation = &options.derivation;
    let drawn = [
        (derivation.start == Start::Random, "weights drawn at random"),
        (derivation.student.is_none() && derivation.template.is_some(), "the random weights of a template"),
        (recipe.data.new_classes, "a new last layer"),
    ];
    drawn.into_iter().find(|(is, _)| options.training.epochs == Some(0) && *is).map(|(_, what)| what)
}

/// What a student is trained by without a teacher: the labels, or the numbers that it should answer with.
pub(super) fn labels_only(answers: &Task) -> distill::Recipe {
    let term = match answers {
        Task::Reconstruction => TermSpec::new("regression").with("alpha", 0.0),
        Task::MaskedLm => TermSpec::new("masked-lm"),
        _ => TermSpec::new("hard-label"),
    };
    distill::Recipe::of("labels only", vec![term])
}

/// Where the results go when nothing is said: `./NAME-TARGET/`.
pub fn default_out(options: &Options, profile: &target::Profile) -> PathBuf {
    options.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}-{}", name(&options.model), profile.id)))
}
