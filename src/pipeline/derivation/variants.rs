//! Candidates by the cost model: which kinds of student there are, and the widest of each kind that fits.

use super::super::options::{Replace, Start};
use super::super::stages::{CALIBRATION_SAMPLES, choose_precision, observe};
use super::super::{Error, Job};
use super::{Found, evidence};
use crate::graph::{self, Graph};
use crate::pass;
use crate::pipeline::prepared::Prepared;
use crate::program::{self, Precision, Program};
use crate::quant::{CalibratedModel, Calibration, Observer, watched};
use crate::report::{CandidateRow, Outcome, Replaced};
use crate::student::{self, Allocation, Budgets, Factoring, Groups, Measured, Spec, Template, Variant};
use crate::target::cost;
use std::collections::HashMap;

/// Samples on which a kind of student other than the plain one is seen.
const FEW_SAMPLES: usize = 128;

/// Makes candidates.
pub struct CandidateBuilder<'a> {
    job: &'a Job,
    teacher: &'a Prepared,
    /// What a candidate may cost.
    pub budgets: Budgets,
}

/// A candidate that fits, untrained.
pub struct Candidate {
    pub graph: Graph,
    pub found: Found,
}

impl Candidate {
    /// Whether two kinds came to one network: of all channels there is one choice.
    pub fn is_same(&self, other: &Candidate) -> bool {
        let whole = |candidate: &Candidate| {
            let spec = candidate.found.spec.clone()?;
            Some(Spec { kind: Variant { allocation: Allocation::default(), ..spec.kind }, widths: spec.widths })
        };
        whole(self).is_some_and(|mine| Some(mine) == whole(other))
    }
}

impl<'a> CandidateBuilder<'a> {
    pub fn new(job: &'a Job, teacher: &'a Prepared) -> CandidateBuilder<'a> {
        CandidateBuilder { job, teacher, budgets: job.budgets(&teacher.cost) }
    }

    /// Nobody asked for a student that costs more than its teacher: proposals stay within what the teacher's own network costs
    /// in the form that students have.
    ///
    /// # Errors
    /// When a rewrite breaks the graph.
    pub fn within_teacher(mut self) -> Result<CandidateBuilder<'a>, Error> {
        if self.teacher.graph.has_opaque() {
            // What kdc does not know, it cannot count.
            return Ok(self);
        }
        let mut whole = self.teacher.graph.clone();
        pass::apply(&mut whole, "insert batch norm", |graph| pass::insert_batch_norm(graph, &HashMap::new()))?;
        pass::run(&mut whole, &[("fold batch norm", pass::fold_batch_norm)])?;
        let (cost, _) = graph::cost(&whole);
        let least = |asked: Option<u64>, own: u64| Some(asked.map_or(own, |asked| asked.min(own)));
        self.budgets.macs = least(self.budgets.macs, cost.macs);
        self.budgets.params = least(self.budgets.params, cost.params);
        Ok(self)
    }

    /// The kinds of student that a teacher has.
    pub fn variants(&self) -> Vec<Variant> {
        let graph = &self.teacher.graph;
        let templates = Template::suiting(graph).into_iter();
        let templates = templates.map(|t| Variant { template: Some(t), ..Variant::default() });
        if let Some(template) = self.job.options.derivation.template {
            return vec![Variant { template: Some(template), ..Variant::default() }];
        }
        // Weights that were drawn say nothing before they are trained.
        let templates = templates.filter(|_| self.job.trains());
        if student::check_suitable(graph).is_err() {
            let all: Vec<Variant> = templates.collect();
            return if all.is_empty() { vec![Variant::default()] } else { all };
        }
        let plain = self.plain();
        let mut all = vec![plain.clone(), Variant { allocation: Allocation::Ranked, ..plain.clone() }];
        // A teacher that cannot be run says so of every candidate that is made of it; others may remain.
        let blocks = self.blocks_by_agreement().unwrap_or_default();
        // A quarter of them, and half.
        for share in [4, 2] {
            let count = blocks.len() / share;
            if count > 0 && all.iter().all(|v| v.without.len() != count) {
                all.push(Variant { without: blocks[..count].to_vec(), ..plain.clone() });
            }
        }
        if !student::factorable(graph).is_empty() {
            for how in [Factoring::Separable, Factoring::LowRank] {
                all.push(Variant { factoring: Some(how), ..plain.clone() });
            }
        }
        if self.job.options.derivation.replace == Replace::Auto && plain.replace.is_empty() {
            let worth = worth(&self.replacements());
            if !worth.is_empty() {
                all.push(Variant { replace: worth, ..plain });
            }
        }
        all.extend(templates);
        all
    }

    /// The teacher's network, narrower. Operators are replaced where that was asked for, or is the only way to a program.
    pub fn plain(&self) -> Variant {
        let replace = match self.job.options.derivation.replace {
            Replace::Never => vec![],
            Replace::Always => worth(&self.replacements()),
            Replace::Auto if candidate_cost(self.job, &self.teacher.graph).is_ok() => vec![],
            Replace::Auto => worth(&self.replacements()),
        };
        Variant { replace, ..Variant::default() }
    }

    /// The operators that others can stand for, and what the teacher's network would take with these.
    fn replacements(&self) -> Vec<Replaced> {
        let graph = &self.teacher.graph;
        let seconds = |graph: &Graph| candidate_cost(self.job, graph).ok().map(|cost| cost.latency_s);
        let before_s = seconds(graph);
        let kinds = student::replaceable(graph);
        let simpler = |operators: &[String]| {
            let graph = student::replaced(graph, operators, &HashMap::new()).ok()?;
            seconds(&graph)
        };
        let alone = |kind: &student::Replacement| simpler(std::slice::from_ref(&kind.operator));
        let mut after: Vec<Option<f64>> = kinds.iter().map(alone).collect();
        if before_s.is_none() && after.iter().all(Option::is_none) {
            // It may take all of them to a network that has a program.
            let all: Vec<String> = kinds.iter().map(|kind| kind.operator.clone()).collect();
            after.fill(simpler(&all));
        }
        let row = |(kind, after_s): (student::Replacement, Option<f64>)| Replaced {
            operator: kind.operator,
            by: kind.by,
            nodes: kind.nodes.len(),
            before_s,
            after_s,
        };
        kinds.into_iter().zip(after).map(row).collect()
    }

    /// The blocks that may be left out, those first whose result is most like what they are given: by the mean cosine of
    /// the two over some samples.
    fn blocks_by_agreement(&self) -> Result<Vec<String>, Error> {
        let graph = &self.teacher.graph;
        let blocks = student::droppable(graph);
        if blocks.is_empty() {
            return Ok(vec![]);
        }
        let taps: Vec<_> = blocks.iter().flat_map(|b| [b.input, b.output]).collect();
        let mut cosines = vec![0.0; blocks.len()];
        let mut given: Vec<f32> = vec![];
        observe(self.job, graph, &taps, FEW_SAMPLES, &mut |index, values| {
            if index % 2 == 0 {
                given = values.to_vec();
                return;
            }
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
            let norm = (dot(&given, &given) * dot(values, values)).sqrt();
            cosines[index / 2] += if norm > 0.0 { dot(&given, values) / norm } else { 1.0 };
        })?;
        let mut order: Vec<usize> = (0..blocks.len()).collect();
        order.sort_by(|&a, &b| cosines[b].total_cmp(&cosines[a]).then(a.cmp(&b)));
        Ok(order.into_iter().map(|i| blocks[i].name.clone()).collect())
    }

    /// The candidate of a specification: the widths it names, or the widest inside the budgets.
    ///
    /// # Errors
    /// When it cannot be made, or does not fit.
    pub fn candidate(&mut self, spec: &Spec) -> Result<Candidate, Error> {
        let asked = &self.job.options.derivation;
        let variant = &spec.kind;
        if variant.template.is_none() {
            student::check_suitable(&self.teacher.graph)?;
        }
        let mut graph = variant.of(&self.teacher.graph)?;
        let own_weights = variant.template.is_some() || asked.start == Start::Random;
        if !variant.replace.is_empty() {
            let lines = if own_weights { HashMap::new() } else { evidence::straight_lines(self.job, &graph)? };
            graph = student::replaced(&graph, &variant.replace, &lines)?;
        }
        self.normalise(&mut graph, own_weights, variant == &Variant::default())?;
        let groups = Groups::find(&graph);
        if own_weights {
            student::redraw(&mut graph, self.job.options.seed);
        }
        let evidence = evidence::gather(self.job, &graph, &groups, asked.criterion)?;
        let importance = student::importance(&graph, &groups, asked.criterion, &evidence, self.job.options.seed);
        let whole = student::Teacher { graph: &graph, groups: &groups, importance: &importance };
        let job = self.job;
        let mut measure = |graph: &Graph| candidate_cost(job, graph).map_err(|e| student::Error::Measure(Box::new(e)));
        let found = if spec.widths.is_empty() {
            let allocation = if asked.allocation == Allocation::Ranked { asked.allocation } else { variant.allocation };
            student::widest(&whole, allocation, &self.budgets, &mut measure)?
        } else {
            let (graph, kept) = whole.narrowed(&spec.widths_of(&groups)?)?;
            let cost = measure(&graph)?;
            student::Candidate { graph, kept, cost, tried: 1 }
        };
        let mut graph = found.graph.clone();
        if own_weights {
            // Of the right size for the widths that are left.
            student::redraw(&mut graph, self.job.options.seed);
        }
        let widths = groups.groups.iter().map(|g| g.name.clone()).zip(found.widths()).collect();
        let is_whole = *variant == Variant { allocation: variant.allocation, ..Variant::default() }
            && found.widths() == groups.extents();
        let name = if is_whole { "the teacher's network".to_string() } else { variant.to_string() };
        let spec = Spec { kind: variant.clone(), widths };
        let candidates = vec![row(&name, &found.cost, Outcome::Chosen)];
        let mut replaced = if variant.replace.is_empty() { vec![] } else { self.replacements() };
        replaced.retain(|row| variant.replace.contains(&row.operator));
        Ok(Candidate { graph, found: Found { name, spec: Some(spec), cost: found.cost, candidates, replaced } })
    }

    /// A network as it is.
    ///
    /// # Errors
    /// When it cannot run, or has no program.
    pub fn whole(&mut self, mut graph: Graph, name: String) -> Result<Candidate, Error> {
        // Weights that were drawn compute nothing that would have to be kept.
        let own_weights = self.job.options.derivation.start == Start::Random;
        self.normalise(&mut graph, own_weights, true)?;
        let cost = candidate_cost(self.job, &graph)?;
        let candidates = vec![row(&name, &cost, Outcome::Chosen)];
        Ok(Candidate { graph, found: Found { name, spec: None, cost, candidates, replaced: vec![] } })
    }

    /// Puts batch norm after every convolution, such that the network computes what it did.
    fn normalise(&self, graph: &mut Graph, own_weights: bool, plain: bool) -> Result<(), Error> {
        if !self.job.trains() {
            // Only training needs it: what is not trained keeps its weights to the bit.
            return Ok(());
        }
        let moments = match own_weights {
            true => HashMap::new(),
            false => evidence::moments(self.job, graph, if plain { CALIBRATION_SAMPLES } else { FEW_SAMPLES })?,
        };
        pass::apply(graph, "insert batch norm", |graph| pass::insert_batch_norm(graph, &moments))?;
        Ok(())
    }
}

/// The share of the network's time that a replacement has to save.
const WORTHWHILE: f64 = 0.1;

/// The operators that the target runs badly: what stands for them saves a good part of the network's time, or gives it a
/// program.
fn worth(replacements: &[Replaced]) -> Vec<String> {
    let saves = |row: &&Replaced| match (row.before_s, row.after_s) {
        (Some(before), Some(after)) => after <= (1.0 - WORTHWHILE) * before,
        (before, after) => before.is_none() && after.is_some(),
    };
    replacements.iter().filter(saves).map(|row| row.operator.clone()).collect()
}

/// A line of the table of candidates.
pub fn row(name: &str, cost: &Measured, outcome: Outcome) -> CandidateRow {
    CandidateRow {
        name: name.into(),
        macs: cost.macs,
        params: cost.params,
        ram_bytes: cost.ram_bytes,
        flash_bytes: cost.flash_bytes,
        latency_s: cost.latency_s,
        accuracies: vec![],
        expected: None,
        outcome,
    }
}

/// What a student would cost on the target: of the program that it becomes. Its weights are not trained yet, and what they
/// are does not matter here.
fn candidate_cost(job: &Job, graph: &Graph) -> Result<Measured, Error> {
    let mut folded = graph.clone();
    pass::run(&mut folded, &[("fold batch norm", pass::fold_batch_norm)])?;
    let (total, _) = graph::cost(&folded);
    pass::run(&mut folded, pass::DEPLOY)?;
    let float = match program::lower_f32(&folded, None) {
        Ok(float) => float,
        // A student that becomes no program costs what it computes and stores.
        Err(_) if job.is_without_program => {
            let (macs, params) = (total.macs, total.params);
            return Ok(Measured { macs, params, ram_bytes: 0, flash_bytes: 4 * params, latency_s: 0.0 });
        }
        Err(first) => {
            let all = program::obstacles(&folded);
            return Err(Error::NoProgram { obstacles: if all.is_empty() { vec![first] } else { all } });
        }
    };
    let program = match choose_precision(job, &float) {
        Precision::F32 => float,
        Precision::Int8 => match (integer_program(folded), job.options.precision) {
            // It is compiled in floats then.
            (Err(_), None) => float,
            (made, _) => made?,
        },
    };
    let latency_s = cost::estimate(&program, &job.profile).latency_s;
    let ram_bytes = program::plan(&program)?.arena_bytes as u64 + cost::beside_arena_bytes(&program);
    let flash_bytes = crate::report::constant_bytes(&program) + cost::code_bytes(&program);
    Ok(Measured { macs: total.macs, params: total.params, ram_bytes, flash_bytes, latency_s })
}

/// A network in integers, as if all its values were seen to be from −1 to 1: what it takes does not depend on that.
fn integer_program(graph: Graph) -> Result<Program, Error> {
    let seen = |_| {
        let mut observer = Observer::default();
        observer.see(&[-1.0, 1.0]).expect("these are numbers");
        observer
    };
    let observers: Vec<Observer> = watched(&graph).into_iter().map(seen).collect();
    let quantized = CalibratedModel::new(graph, &observers, Calibration::MinMax)?.quantize()?;
    Ok(program::lower_int8(&quantized, None)?)
}
