//! What each term of an objective reads of whom, and how those values come to a step.

use super::forward::{NetworkOutputs, classes};
use super::layers::{self, Point};
use super::objective::TermSpec;
use super::probe::Probe;
use super::step::{Feature, Pair, Plan, extents};
use super::terms::{Pairs, Reads, Route};
use super::weighing::Weigher;
use super::{AuxParams, Engine, Error, TeacherSource, TrainingSet};
use burn::tensor::{Int, Tensor};
use kdc_exec::Value;
use kdc_ir::graph::{Graph, ValueId, shape_at};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// What the terms read at a step, and from which networks.
pub struct TermInputs {
    bindings: Vec<Binding>,
    student_taps: Vec<ValueId>,
    /// By source.
    taps: Vec<Vec<ValueId>>,
}

/// What one term reads.
struct Binding {
    reads: Reads,
    /// The first is meant where only one can be.
    sources: Vec<usize>,
    weigher: Option<Weigher>,
    /// Indices into the student's taps and the source's, with where the channels are.
    pairs: Vec<(usize, Point, usize, Point)>,
}

impl TermInputs {
    /// Finds out what each term compares; a plan for each.
    ///
    /// # Errors
    /// When a term names somebody or something that is not there, or needs a network that cannot be run.
    pub fn new(
        student: &Graph,
        set: &TrainingSet,
        specs: &[TermSpec],
        reads: &[Reads],
        aux: &mut AuxParams,
    ) -> Result<(TermInputs, Vec<Plan>), Error> {
        let (sources, samples) = (&set.teachers, set.samples.len());
        let mut probes = Probes { student, set, own: None, of: HashMap::new() };
        let mut term_inputs = TermInputs { bindings: vec![], student_taps: vec![], taps: vec![vec![]; sources.len()] };
        let mut plans = vec![];
        for (index, (spec, &reads)) in specs.iter().zip(reads).enumerate() {
            let asks = reads.asks_teacher();
            let whom = whom(sources, spec, asks)?;
            let source = whom[0];
            let own = reads.pairs == Pairs::Own;
            let network = if own { Some(student) } else { sources.get(source).and_then(|s| s.graph) };
            let pairs = match (reads.pairs, network) {
                (Pairs::None, _) => vec![],
                // Where values go from one network into the other, they do so at the ends of stages.
                (Pairs::Stages, Some(teacher)) if spec.layers.is_empty() && spec.term()?.route(0.0) == Route::Plain => {
                    let pairs = compared(student, teacher, spec, reads.pairs)?;
                    probes.probed(pairs, (teacher, sources[source].engine), source)?
                }
                (_, Some(teacher)) => compared(student, teacher, spec, reads.pairs)?,
                (_, None) => {
                    let why = format!(
                        "compares activations, and of the teacher '{}' there is no network; use a term that compares \
                         answers, as 'soft-label' does",
                        sources[source].name
                    );
                    return Err(Error::inapplicable(&spec.method, why));
                }
            };
            let size = |graph: &Graph, p: &Point| extents(&shape_at(&graph.value(p.value).shape, 1), p.layout);
            plans.push(Plan {
                // A later stage's term of the same method goes on with what an earlier one's has trained.
                prefix: match specs[..index].iter().filter(|other| other.method == spec.method).count() {
                    0 => spec.method.clone(),
                    n => format!("{}.{n}", spec.method),
                },
                classes: classes(student),
                teacher_classes: sources.get(source).map_or(0, TeacherSource::classes),
                samples,
                spells: false,
                numbers: false,
                hides: false,
                named: !spec.layers.is_empty(),
                pairs: pairs.iter().map(|(s, t)| (size(student, s), size(network.unwrap_or(student), t))).collect(),
            });
            let pairs = pairs.into_iter().map(|(s, t)| {
                let at = place(&mut term_inputs.student_taps, s.value);
                let taps = if own { &mut term_inputs.student_taps } else { &mut term_inputs.taps[source] };
                (at, s, place(taps, t.value), t)
            });
            let pairs = pairs.collect();
            if let Some(other) = whom.iter().find(|&&w| asks && sources[w].classes() != sources[source].classes()) {
                let (a, b) = (&sources[source], &sources[*other]);
                let why = format!(
                    "takes the mean of '{}', which gives {} numbers, and '{}', which gives {}; give each a term of its own",
                    a.name,
                    a.classes(),
                    b.name,
                    b.classes()
                );
                return Err(Error::inapplicable(&spec.method, why));
            }
            let weigher = match whom.len() {
                1 => None,
                several => Some(Weigher::new(&spec.weighing, several, format!("{index}.weighing"), aux)?),
            };
            term_inputs.bindings.push(Binding { reads, sources: whom, weigher, pairs });
        }
        Ok((term_inputs, plans))
    }

    /// The values of the student that terms read.
    pub fn student_taps(&self) -> &[ValueId] {
        &self.student_taps
    }

    /// Whether a source's answers, and which of its activations, are read.
    pub fn reads_of(&self, source: usize) -> (bool, &[ValueId]) {
        let logits = self.bindings.iter().any(|w| w.sources.contains(&source) && w.reads.teacher_logits);
        (logits, self.taps.get(source).map_or(&[], Vec::as_slice))
    }

    /// The places of the student that a term compares, with what the teacher has there.
    pub fn taught(&self, term: usize, said: &[NetworkOutputs]) -> Vec<(Point, Feature)> {
        let binding = &self.bindings[term];
        let one = |(_, student, tap, teacher): &(usize, Point, usize, Point)| {
            let value = said[binding.sources[0]].taps[*tap].clone();
            (student.clone(), Feature { value, layout: teacher.layout })
        };
        binding.pairs.iter().map(one).collect()
    }

    /// The places that a term compares, student and teacher, and which source the latter is of.
    pub fn places(&self, term: usize) -> (Vec<(Point, Point)>, usize) {
        let binding = &self.bindings[term];
        let pairs = binding.pairs.iter().map(|(_, student, _, teacher)| (student.clone(), teacher.clone()));
        (pairs.collect(), binding.sources[0])
    }

    /// What each term reads of what was said.
    pub fn views(&self, student: &[Value], said: &[NetworkOutputs], labels: &Labels, aux: &AuxParams) -> Vec<TermView> {
        let one = |binding: &Binding| {
            let pair = |(s, sp, t, tp): &(usize, Point, usize, Point)| {
                let taps = if binding.reads.pairs == Pairs::Own { student } else { &said[binding.sources[0]].taps };
                Pair {
                    student: Feature { value: student[*s].clone(), layout: sp.layout },
                    teacher: Feature { value: taps[*t].clone(), layout: tp.layout },
                }
            };
            let pairs = binding.pairs.iter().map(pair).collect();
            let logits = binding.sources.iter().filter_map(|&s| said.get(s)?.logits.clone());
            let mut logits: Vec<Tensor<2>> = logits.filter(|_| binding.reads.teacher_logits).collect();
            match &binding.weigher {
                Some(weigher) if !logits.is_empty() => {
                    let (mean, teaches) = weigher.mean(&logits, &labels.classes, labels.weights.as_ref(), aux);
                    TermView { logits: Some(mean), pairs, teaches_weights: teaches }
                }
                _ => TermView { logits: logits.pop(), pairs, teaches_weights: None },
            }
        };
        self.bindings.iter().map(one).collect()
    }
}

/// What one term sees of the networks at a step.
pub struct TermView {
    /// `[N, K]`
    pub logits: Option<Tensor<2>>,
    pub pairs: Vec<Pair>,
    /// A loss that the weights of several teachers learn from.
    pub teaches_weights: Option<Tensor<1>>,
}

/// The labels of a step.
#[derive(Clone)]
pub struct Labels {
    /// `[N]`
    pub classes: Tensor<1, Int>,
    /// How much each counts, `[N]`.
    pub weights: Option<Tensor<1>>,
}

/// The sources that a term names; the first where it names none.
fn whom(sources: &[TeacherSource], spec: &TermSpec, asks: bool) -> Result<Vec<usize>, Error> {
    if asks && sources.is_empty() {
        return Err(Error::inapplicable(&spec.method, "learns from the teacher, and there is none"));
    }
    let find = |name: &String| {
        sources.iter().position(|s| s.name == *name).ok_or_else(|| {
            let names: Vec<&str> = sources.iter().map(|s| s.name.as_str()).collect();
            let what = format!("'{}' learns from '{name}', and there is only {}", spec.method, names.join(", "));
            Error::Config(what)
        })
    };
    if spec.teachers.is_empty() { Ok(vec![0]) } else { spec.teachers.iter().map(find).collect() }
}

/// What a term compares: what it names, or what corresponds.
fn compared(student: &Graph, teacher: &Graph, spec: &TermSpec, kind: Pairs) -> Result<Vec<(Point, Point)>, Error> {
    let named = |graph: &Graph, of: &str, name: &str| {
        layers::named(graph, name).ok_or_else(|| {
            let all = layers::names(graph);
            let some: Vec<&str> = all.iter().rev().take(12).rev().copied().collect();
            let what =
                format!("'{}': the {of} has no value '{name}'; the last ones are {}", spec.method, some.join(", "));
            Error::Config(what)
        })
    };
    if !spec.layers.is_empty() {
        let pair = |(s, t): &(String, String)| Ok((named(student, "student", s)?, named(teacher, "teacher", t)?));
        return spec.layers.iter().map(pair).collect();
    }
    let pairs = layers::matched(&layers::points(student, kind), &layers::points(teacher, kind));
    if pairs.is_empty() {
        let what = match kind {
            Pairs::Attention => "attention (a softmax over tokens)",
            _ => "stages that correspond",
        };
        let why = format!(
            "found no {what} in student and teacher; name what it is to compare with layers = [[\"student's value\", \
             \"teacher's value\"]]"
        );
        return Err(Error::inapplicable(&spec.method, why));
    }
    Ok(pairs)
}

/// Looks at the student and at those it learns from, each once.
struct Probes<'a> {
    student: &'a Graph,
    set: &'a TrainingSet<'a>,
    own: Option<Probe>,
    /// By source.
    of: HashMap<usize, Probe>,
}

impl Probes<'_> {
    /// The pairs of stages, by what the networks make of some samples.
    fn probed(
        &mut self,
        pairs: Vec<(Point, Point)>,
        (teacher, engine): (&Graph, Option<Engine>),
        source: usize,
    ) -> Result<Vec<(Point, Point)>, Error> {
        let look = |graph: &Graph, engine| Probe::new(graph, engine, &layers::probes(graph), self.set);
        if self.own.is_none() {
            self.own = Some(look(self.student, None)?);
        }
        if let Entry::Vacant(place) = self.of.entry(source) {
            place.insert(look(teacher, engine)?);
        }
        let (Some(own), Some(other)) = (&self.own, self.of.get(&source)) else { return Ok(pairs) };
        Ok(layers::probed(pairs, teacher, |s, t| own.similarity(s.value, other, t.value)))
    }
}

/// Where something is in a list, added if it is not.
fn place(list: &mut Vec<ValueId>, id: ValueId) -> usize {
    list.iter().position(|other| *other == id).unwrap_or_else(|| {
        list.push(id);
        list.len() - 1
    })
}
