//! A report as a document: sections of tables, lists and lines, which each renderer shows in its own way.

use super::format::{bytes, change, count, duration, part, percent, seconds};
use super::table::{Align, Align::Left, Align::Right};
use super::{Accuracy, Arena, ClassRow, Extent, Linked, Memory, Outcome, Port, Report, Storage};
use crate::bench::Origin;
use crate::program::Precision;

/// A part of a report.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    pub title: String,
    /// Where its figures come from, in words; `None` where it has none, or each says so itself.
    pub origin: Option<String>,
    pub blocks: Vec<Block>,
}

/// What a section shows. Texts are as they are in the report: renderers escape them.
#[derive(Clone, Debug, PartialEq)]
pub enum Block {
    Table {
        columns: Vec<(String, Align)>,
        rows: Vec<Vec<String>>,
    },
    /// Names and what belongs to them.
    List(Vec<(String, String)>),
    /// A line by itself; `indent`: how far it stands in.
    Line {
        text: String,
        indent: usize,
    },
    /// A picture.
    Svg(String),
}

/// The report from top to bottom; what it has nothing of has no section.
pub fn document(report: &Report) -> Vec<Section> {
    let h = &report.header;
    let title = if h.dry_run { "plan (dry run: nothing was trained or written but the plan)" } else { "report" };
    let mut sections = vec![Section { title: format!("kdc {} {title}", h.kdc), origin: None, blocks: header(report) }];
    let mut section = |title: &str, origin: Option<&str>, blocks: Vec<Block>| {
        if !blocks.is_empty() {
            sections.push(Section { title: title.into(), origin: origin.map(String::from), blocks });
        }
    };
    section("Inputs", None, ports(&report.inputs));
    section("Outputs", None, ports(&report.outputs));
    section("Size", Some("counted"), size(report));
    if let Some(accuracy) = &report.accuracy {
        let title = format!("Accuracy on the {} samples", accuracy.split);
        section(&title, Some(&accuracy.origin.to_string()), self::accuracy(accuracy));
    }
    section("Memory of the student", Some("counted"), report.memory.as_ref().map_or_else(Vec::new, memory));
    section("Layers of the program", Some("counted; times estimated"), layers(report));
    section("Arena", None, report.arena.as_ref().map_or_else(Vec::new, arena));
    section("Linked program", Some("counted"), report.program.as_ref().map_or_else(Vec::new, linked));
    section("Flash and RAM of the target", Some("counted"), report.storage.as_ref().map_or_else(Vec::new, storage));
    for (origin, title) in [
        (Origin::Measured, "Measured: a clock or counter on the thing itself"),
        (Origin::Simulated, "Simulated: instructions counted by an emulator"),
        (Origin::Estimated, "Estimated: a model with the target's coefficients"),
    ] {
        section(title, None, measurements(report, origin));
    }
    section("The cost model beside what was observed", None, comparisons(report));
    section("Budgets and tolerances", None, verdicts(report));
    let title = "Candidates: costs estimated, accuracies after short trainings measured";
    section(title, None, candidates(report));
    section("Operators replaced, times of the teacher's network estimated", None, replaced(report));
    section("Files", None, files(report));
    section("Exported files in other engines", None, report.findings.iter().map(|text| indented(text, 2)).collect());
    section("Left out", None, skipped(report));
    section("Stages", Some("measured"), stages(report));
    sections.push(Section { title: conclusion(report), origin: None, blocks: vec![] });
    sections
}

fn table(head: &[(&str, Align)], rows: impl IntoIterator<Item = Vec<String>>) -> Vec<Block> {
    let columns = head.iter().map(|(name, align)| (name.to_string(), *align)).collect();
    let rows: Vec<Vec<String>> = rows.into_iter().collect();
    if rows.is_empty() { vec![] } else { vec![Block::Table { columns, rows }] }
}

fn indented(text: &str, indent: usize) -> Block {
    Block::Line { text: text.into(), indent }
}

fn header(report: &Report) -> Vec<Block> {
    let h = &report.header;
    let precision = match h.precision {
        Precision::Int8 => "int8",
        Precision::F32 => "f32",
    };
    let mut rows = vec![
        ("model", h.model.clone()),
        ("model hash", format!("blake3 {}", h.teacher_hash)),
        ("teacher runs on", h.teacher_engine.clone().unwrap_or_else(|| "nothing: not needed".into())),
        ("target", format!("{}: {}", h.target, h.target_description)),
        ("precision", precision.into()),
        ("seed", h.seed.to_string()),
        ("data", h.plan.data.clone()),
        ("student", h.plan.student.clone()),
        ("training", h.plan.training.clone()),
    ];
    rows.extend(h.plan.quantization.clone().map(|q| ("quantization", q)));
    vec![Block::List(rows.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())]
}

fn shape<T: ToString>(extents: &[T]) -> String {
    extents.iter().map(T::to_string).collect::<Vec<_>>().join("×")
}

fn ports(ports: &[Port]) -> Vec<Block> {
    let head = [("name", Left), ("type", Left), ("shape", Left), ("bytes a sample", Right), ("stored as", Left)];
    let rows = ports.iter().map(|p| {
        let stored = p.quantization.as_ref().map_or_else(
            || p.dtype.clone(),
            |q| format!("{}, scale {}, zero point {}", q.dtype, q.scale, q.zero_point),
        );
        vec![p.name.clone(), p.dtype.clone(), shape::<Extent>(&p.shape), count(p.bytes as f64), stored]
    });
    table(&head, rows)
}

fn size(report: &Report) -> Vec<Block> {
    let (teacher, student) = (&report.size.teacher, &report.size.student);
    let head = [("", Left), ("teacher", Right), ("student", Right), ("student / teacher", Right), ("budget", Right)];
    let row = |name: &str, option: &str, teacher: u64, student: u64| {
        let budget = report.verdicts.iter().find(|v| v.name == option).map_or("-".into(), |v| count(v.limit));
        let ratio = match (teacher, student) {
            (0, _) | (_, 0) => "-".into(),
            (t, s) => format!("1 / {:.2}", t as f64 / s as f64),
        };
        vec![name.into(), count(teacher as f64), count(student as f64), ratio, budget]
    };
    let rows = [
        row("MACs an inference", "--max-macs", teacher.macs, student.macs),
        row("parameters", "--max-params", teacher.params, student.params),
    ];
    table(&head, rows)
}

fn replaced(report: &Report) -> Vec<Block> {
    let head = [("operator", Left), ("nodes", Right), ("by", Left), ("with it", Right), ("replaced", Right)];
    let time = |t: Option<f64>| t.map_or("no program".into(), seconds);
    let rows = report
        .replaced
        .iter()
        .map(|r| vec![r.operator.clone(), count(r.nodes as f64), r.by.clone(), time(r.before_s), time(r.after_s)]);
    table(&head, rows)
}

/// Nothing where there was no choice.
fn candidates(report: &Report) -> Vec<Block> {
    if report.candidates.len() < 2 {
        return vec![];
    }
    let head = [
        ("candidate", Left),
        ("MACs", Right),
        ("parameters", Right),
        ("RAM", Right),
        ("latency", Right),
        ("accuracy by round", Left),
        ("outcome", Left),
    ];
    let rows = report.candidates.iter().map(|c| {
        let made = c.macs > 0;
        let number = |v: u64| if made { count(v as f64) } else { "-".into() };
        let accuracies: Vec<String> = c.accuracies.iter().map(|&a| percent(a)).collect();
        let outcome: String = match &c.outcome {
            Outcome::Chosen => "chosen".into(),
            Outcome::Behind { round } => format!("behind in round {round}"),
            Outcome::Untried => "not trained".into(),
            Outcome::Larger => "a smaller one may do".into(),
            Outcome::Short => "expected to fall short".into(),
            Outcome::Impossible { why } => why.clone(),
        };
        let outcome = match c.expected {
            Some(share) => format!("{outcome}; {} expected (estimated)", percent(share)),
            None => outcome,
        };
        let latency = if made { seconds(c.latency_s) } else { "-".into() };
        let ram = if made { bytes(c.ram_bytes as f64) } else { "-".into() };
        vec![c.name.clone(), number(c.macs), number(c.params), ram, latency, accuracies.join(" "), outcome]
    });
    table(&head, rows)
}

fn accuracy(accuracy: &Accuracy) -> Vec<Block> {
    let head =
        [("network", Left), ("run by", Left), ("samples", Right), ("accuracy", Right), ("as the teacher", Right)];
    let rows = accuracy.rows.iter().map(|r| {
        let agreement = r.agreement.map_or("-".into(), percent);
        vec![r.network.to_string(), r.engine.clone(), count(r.samples as f64), percent(r.accuracy), agreement]
    });
    let mut blocks = table(&head, rows);
    if let Some(e) = &accuracy.equality {
        let verdict = match e.differing {
            0 => "all equal bit for bit".to_owned(),
            n => format!("{} DIFFER", count(n as f64)),
        };
        let (values, samples) = (count(e.values as f64), count(e.samples as f64));
        let all = accuracy.rows.first().map_or(e.samples, |row| row.samples);
        let spread = match e.classes {
            classes if e.samples < all && classes > 0 => format!(", spread evenly over {classes} classes"),
            _ => String::new(),
        };
        let text =
            format!("program and reference interpreter: {values} values of {samples} samples{spread}, {verdict}");
        blocks.push(indented(&text, 2));
    }
    if let Some(c) = &accuracy.quantization {
        let [lost, gained] = [c.lost, c.gained].map(|n| count(n as f64));
        let chance = c.by_chance();
        let text = format!("int8 beside f32: {lost} samples lost, {gained} gained; chance explains {chance:.2} points");
        blocks.push(indented(&text, 2));
    }
    blocks.extend(by_class(&accuracy.classes));
    blocks
}

/// Classes that are shown; report.json has them all.
const CLASSES: usize = 10;

/// What the student finds of each class; where there are many, of those that it loses most of.
fn by_class(classes: &[ClassRow]) -> Vec<Block> {
    if classes.is_empty() {
        return vec![];
    }
    let gain = |c: &ClassRow| c.student - c.teacher.unwrap_or(1.0);
    let mut shown: Vec<&ClassRow> = classes.iter().collect();
    if shown.len() > CLASSES {
        shown.sort_by(|a, b| gain(a).total_cmp(&gain(b)));
        shown.truncate(CLASSES);
    }
    let head = [("class", Left), ("samples", Right), ("teacher", Right), ("student", Right), ("gain", Right)];
    let rows = shown.iter().map(|c| {
        let teacher = c.teacher.map_or("-".into(), percent);
        let gain = c.teacher.map_or("-".into(), |_| format!("{:+.2}", 100.0 * gain(c)));
        vec![c.name.clone(), count(c.samples as f64), teacher, percent(c.student), gain]
    });
    let what = match classes.len() {
        n if n > CLASSES => format!("the {CLASSES} of {n} classes that lost most"),
        _ => "by class".into(),
    };
    let mut blocks = vec![indented("", 0), indented(&format!("found of the samples, {what}:"), 2)];
    blocks.extend(table(&head, rows));
    blocks
}

fn memory(memory: &Memory) -> Vec<Block> {
    let head = [("", Left), ("bytes", Right), ("as f32", Right), ("change", Right)];
    let row = |name: &str, now: u64, float: u64| {
        vec![name.into(), bytes(now as f64), bytes(float as f64), change(float as f64, now as f64)]
    };
    let (weights, activations) = (memory.weights, memory.activations);
    let rows = [
        row("weights (read-only)", weights.bytes.0, weights.float_bytes.0),
        row("activations (read-write)", activations.bytes.0, activations.float_bytes.0),
    ];
    table(&head, rows)
}

fn layers(report: &Report) -> Vec<Block> {
    let head = [
        ("id", Right),
        ("kernel", Left),
        ("node", Left),
        ("output", Left),
        ("parameters", Right),
        ("MACs", Right),
        ("bytes", Right),
        ("estimated time", Right),
    ];
    let rows = report.layers.iter().map(|l| {
        let numbers = [l.params, l.macs, l.bytes].map(|n| count(n as f64));
        let mut row = vec![l.id.to_string(), l.kernel.clone(), l.name.clone(), shape(&l.output_shape)];
        row.extend(numbers);
        row.push(seconds(l.estimated_s));
        row
    });
    table(&head, rows)
}

fn arena(arena: &Arena) -> Vec<Block> {
    let mut rows = vec![
        ("planned".to_owned(), format!("{}, counted", bytes(arena.planned.0 as f64))),
        ("lower bound of any plan".to_owned(), format!("{}, counted", bytes(arena.lower_bound.0 as f64))),
    ];
    let used = match arena.used {
        Some(used) => format!("{}, measured", bytes(used.0 as f64)),
        None => "not measured: no program ran".into(),
    };
    rows.push(("used by the running program".to_owned(), used));
    rows.push(("alignment".to_owned(), format!("{} B", arena.alignment)));
    vec![Block::List(rows)]
}

fn linked(linked: &Linked) -> Vec<Block> {
    let s = &linked.sections;
    let sections = [
        ("text", linked.text),
        ("data", s.data),
        ("bss", s.bss),
        ("of text: code", s.code),
        ("of text: constants", s.rodata),
    ];
    let mut rows = vec![
        ("program".to_owned(), format!("{} for {}", linked.path, linked.triple)),
        ("built by".to_owned(), linked.rustc.clone()),
    ];
    rows.extend(sections.map(|(name, n)| (name.to_owned(), bytes(n as f64))));
    let libraries = if linked.libraries.is_empty() { "none: static".into() } else { linked.libraries.join(", ") };
    rows.push(("shared libraries".to_owned(), libraries));
    rows.extend(linked.glibc.iter().map(|v| ("needs glibc".to_owned(), format!("{v} or newer"))));
    let mut blocks = vec![Block::List(rows)];
    let unsuited = |finding: &String| indented(&format!("DOES NOT SUIT THE TARGET: {finding}"), 2);
    blocks.extend(linked.findings.iter().map(unsuited));
    blocks
}

fn storage(s: &Storage) -> Vec<Block> {
    let head = [("", Left), ("bytes", Right), ("of the target", Right)];
    let known_or = |name: &str, n: Option<u64>, whole: u64, unknown: &str| match n {
        Some(n) => vec![name.into(), bytes(n as f64), part(n as f64, whole as f64)],
        None => vec![name.into(), format!("unknown: {unknown}"), "-".into()],
    };
    let row = |name: &str, n: Option<u64>, whole: u64| known_or(name, n, whole, "not linked");
    let (flash, ram) = (s.flash.0, s.ram.0);
    let known = |all: bool| if all { "" } else { ", what is known" };
    let alone = match s.stack {
        Some(_) => "RAM: the student alone, stack included",
        None => "RAM: the student alone, without its stack",
    };
    let rows = [
        row("flash: weights", Some(s.weights.0), flash),
        row("flash: code and constants", s.code.map(|c| c.0), flash),
        row("flash: the student alone, code included", s.own_flash.map(|c| c.0), flash),
        row(&format!("flash: used{}", known(s.code.is_some())), Some(s.flash_used().0), flash),
        row("flash: target", Some(flash), flash),
        row("RAM: activations", Some(s.activations.0), ram),
        row("RAM: static data of the runtime", s.runtime.map(|r| r.0), ram),
        known_or("RAM: stack of an inference, measured", s.stack.map(|r| r.0), ram, "not run"),
        row(alone, s.own_ram.map(|c| c.0), ram),
        row(&format!("RAM: used{}", known(s.runtime.is_some() && s.stack.is_some())), Some(s.ram_used().0), ram),
        row("RAM: target", Some(ram), ram),
    ];
    table(&head, rows)
}

fn measurements(report: &Report, origin: Origin) -> Vec<Block> {
    let of: Vec<_> = report.measurements.iter().filter(|m| m.figure.origin == origin).collect();
    let rows = of.iter().map(|m| vec![m.figure.label.clone(), m.figure.to_string(), origin.to_string(), m.on.clone()]);
    let head = [("what", Left), ("value", Right), ("origin", Left), ("on", Left)];
    table(&head, rows)
}

/// What the cost model says of things that were observed too: keys of the estimate and of the observation.
const COMPARED: [(&str, &str); 2] =
    [("host.latency.estimated", "student.latency.median"), ("student.instructions.estimated", "student.instructions")];

fn comparisons(report: &Report) -> Vec<Block> {
    let head = [
        ("what", Left),
        ("estimated", Right),
        ("measured", Right),
        ("simulated", Right),
        ("estimate is off by", Right),
    ];
    let find = |key: &str| report.measurements.iter().find(|m| m.key == key).map(|m| &m.figure);
    let rows: Vec<Vec<String>> = COMPARED
        .iter()
        .filter_map(|(estimated, observed)| Some((find(estimated)?, find(observed)?)))
        .map(|(estimated, observed)| {
            let only = |origin| if observed.origin == origin { observed.to_string() } else { "-".into() };
            let (measured, simulated) = (only(Origin::Measured), only(Origin::Simulated));
            let off = change(observed.value, estimated.value);
            vec![estimated.label.clone(), estimated.to_string(), measured, simulated, off]
        })
        .collect();
    table(&head, rows)
}

fn verdicts(report: &Report) -> Vec<Block> {
    let head =
        [("limit", Left), ("set by", Left), ("at most", Right), ("is", Right), ("origin", Left), ("verdict", Left)];
    let rows = report.verdicts.iter().map(|v| {
        let breached = if v.decides() { "BREACHED" } else { "differs" };
        let verdict = v.excess().map_or("met".into(), |excess| format!("{breached}, {excess}"));
        let origin = v.origin.map_or("counted".into(), |o| o.to_string());
        vec![v.name.clone(), v.source.to_string(), v.quantity.show(v.limit), v.quantity.show(v.value), origin, verdict]
    });
    table(&head, rows)
}

fn files(report: &Report) -> Vec<Block> {
    let rows = report.files.iter().map(|f| vec![f.path.clone(), bytes(f.bytes as f64), f.what.clone()]);
    let head = [("path", Left), ("bytes", Right), ("what", Left)];
    table(&head, rows)
}

fn skipped(report: &Report) -> Vec<Block> {
    let one = |s: &super::Skipped| {
        let enable = s.enable.as_ref().map(|command| indented(&format!("to have it: {command}"), 4));
        [indented(&format!("{}: {}", s.what, s.why), 2)].into_iter().chain(enable)
    };
    report.skipped.iter().flat_map(one).collect()
}

fn stages(report: &Report) -> Vec<Block> {
    let rows = report.stages.iter().map(|s| {
        let how = if s.cached { "cached" } else { "ran" };
        vec![s.name.clone(), how.into(), duration(s.seconds)]
    });
    let total: f64 = report.stages.iter().map(|s| s.seconds).sum();
    if report.stages.is_empty() {
        return vec![];
    }
    let rows = rows.chain([vec!["all".into(), String::new(), duration(total)]]);
    table(&[("stage", Left), ("", Left), ("time", Right)], rows)
}

fn conclusion(report: &Report) -> String {
    let breaches: Vec<&str> = report.breaches().map(|v| v.name.as_str()).collect();
    match (breaches.as_slice(), report.verdicts.is_empty()) {
        ([], true) => "No budget or tolerance was judged.".into(),
        ([], false) => "All budgets and tolerances that were judged are met.".into(),
        (names, _) => format!("NOT MET: {}.", names.join(", ")),
    }
}
