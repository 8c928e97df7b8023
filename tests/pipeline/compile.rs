//! What a compilation makes.

use crate::workshop::{SIDE, Workshop, report, said, succeed};
use kdc::graph::{Graph, Node, Op, Tensor, Unary, Value, ValueId};
use kdc::report::{Network, Outcome, SCHEMA};
use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

#[test]
fn a_teacher_becomes_a_program_that_runs_here() {
    let workshop = Workshop::new();
    let first = succeed(workshop.compile("host", &["--json"]));
    let made = report(&first);
    let out = workshop.path("teacher-host");
    for file in
        ["student.onnx", "student.nnef.tgz", "report.txt", "report.json", "plan.toml", "manifest.json", "bin/student"]
    {
        assert!(fs::metadata(out.join(file)).is_ok_and(|m| m.len() > 0), "{file} is missing\n{}", said(&first));
    }
    for folder in ["crate", "train"] {
        assert!(out.join(folder).is_dir(), "{folder}/ is missing");
    }
    assert_eq!(made.schema, SCHEMA);
    let saved = fs::read_to_string(out.join("report.json")).unwrap();
    assert_eq!(saved, String::from_utf8(first.stdout).unwrap(), "printed and saved reports differ");

    // The defaults of the contract: at most 1/8 of the teacher's size, and every limit met.
    assert!(made.size.student.macs * 8 <= made.size.teacher.macs, "{:?}", made.size);
    assert!(made.size.student.params * 8 <= made.size.teacher.params, "{:?}", made.size);
    assert!(made.is_met() && !made.verdicts.is_empty());

    // It has learned: chance is 0.25.
    let accuracy = made.accuracy.unwrap();
    assert!(accuracy.row(Network::Teacher).unwrap().accuracy > 0.95, "{accuracy:?}");
    assert!(accuracy.row(Network::StudentF32).unwrap().accuracy > 0.6, "{accuracy:?}");
    assert!(accuracy.row(Network::Program).unwrap().accuracy > 0.6, "{accuracy:?}");
    let equality = accuracy.equality.unwrap();
    assert!(equality.values > 0 && equality.differing == 0, "{equality:?}");
    let arena = made.arena.unwrap();
    assert_eq!(arena.used, Some(arena.planned), "the planner's arena is what the program uses");

    // Names and types are the teacher's.
    assert_eq!((made.inputs[0].name.as_str(), made.outputs[0].name.as_str()), ("image", "logits"));

    // The program answers about a raw image.
    let sample = workshop.path("sample");
    let rows: Vec<u8> = (0..SIDE * SIDE).map(|i| if (i / SIDE).is_multiple_of(2) { 215 } else { 40 }).collect();
    fs::write(&sample, rows).unwrap();
    let mut program = Command::new(out.join("bin/student"));
    program.arg("classify").arg(&sample);
    let answer = said(&succeed(program));
    assert!(answer.contains("class"), "{answer}");
}

#[test]
fn a_second_run_does_nothing_and_force_does_it_all() {
    let workshop = Workshop::new();
    let arguments = ["--no-build", "--json"];
    succeed(workshop.compile("raspberry-pi", &arguments));
    let out = workshop.path("teacher-raspberry-pi-4");
    let modified = |name: &str| fs::metadata(out.join(name)).unwrap().modified().unwrap();
    let (onnx, manifest) = (modified("student.onnx"), modified("manifest.json"));

    let start = Instant::now();
    let again = succeed(workshop.compile("raspberry-pi", &arguments));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!(report(&again).stages.iter().all(|s| s.cached), "{}", said(&again));
    assert_eq!((modified("student.onnx"), modified("manifest.json")), (onnx, manifest), "files were touched");

    // A damaged file is noticed and made again, without training.
    let whole = fs::read(out.join("student.onnx")).unwrap();
    fs::write(out.join("student.onnx"), "damaged").unwrap();
    let repaired = report(&succeed(workshop.compile("raspberry-pi", &arguments)));
    assert_eq!(fs::read(out.join("student.onnx")).unwrap(), whole);
    assert!(repaired.stages.iter().any(|s| s.name == "distill" && s.cached), "{:?}", repaired.stages);

    let forced = report(&succeed(workshop.compile("raspberry-pi", &["--no-build", "--json", "--force"])));
    assert!(forced.stages.iter().all(|s| !s.cached), "{:?}", forced.stages);
    assert_eq!(fs::read(out.join("student.onnx")).unwrap(), whole, "the same inputs give the same bytes");
}

#[test]
fn without_a_build_there_is_a_crate_and_no_program() {
    let workshop = Workshop::new();
    let made = report(&succeed(workshop.compile("raspberry-pi", &["--no-build", "--json", "--out", "here"])));
    assert!(workshop.path("here/crate/Cargo.toml").is_file());
    assert!(!workshop.path("here/bin").exists());
    assert!(made.program.is_none());
    assert!(made.layers.len() >= 4, "{:?}", made.layers);
    assert!(made.skipped.iter().any(|s| s.why.contains("--no-build")), "{:?}", made.skipped);
}

/// Set by `make test-all`, which installs the library.
#[test]
fn onnx_runtime_agrees_with_the_int8_export() {
    if std::env::var_os("ORT_DYLIB_PATH").is_none() {
        return kdc::testing::skipped("ORT_DYLIB_PATH names no library of ONNX Runtime; make test-all installs one");
    }
    let workshop = Workshop::new();
    let made = report(&succeed(workshop.compile("raspberry-pi", &["--no-build", "--json"])));
    let judged: Vec<_> = made.verdicts.iter().filter(|v| v.name.contains("QDQ")).collect();
    assert!(judged.len() == 2 && judged.iter().all(|v| v.met), "{judged:?}");
}

#[test]
fn only_what_is_asked_for_is_written() {
    let workshop = Workshop::new();
    succeed(workshop.compile("host", &["--emit", "onnx", "--out", "here"]));
    assert!(workshop.path("here/student.onnx").is_file());
    for name in ["student.int8.onnx", "student.nnef.tgz", "crate", "bin"] {
        assert!(!workshop.path("here").join(name).exists(), "{name} was written");
    }
}

#[test]
fn a_dry_run_plans_and_trains_nothing() {
    let workshop = Workshop::new();
    let planned = succeed(workshop.compile("raspberry-pi", &["--dry-run", "--json", "--out", "here"]));
    let plan = report(&planned);
    assert!(plan.header.dry_run && plan.accuracy.is_none());
    assert!(plan.size.student.macs * 8 <= plan.size.teacher.macs, "{:?}", plan.size);
    assert!(workshop.path("here/plan.toml").is_file());
    for name in ["student.onnx", "crate", "report.json"] {
        assert!(!workshop.path("here").join(name).exists(), "{name} was written");
    }
}

#[test]
fn few_samples_are_trained_on_longer_where_nobody_says_how_long() {
    let workshop = Workshop::new();
    let planned = |more: &[&str]| {
        let plain = ["compile", "teacher.onnx", "--target", "host", "--engine", "tract", "--dry-run", "--out", "here"];
        succeed(workshop.kdc(&[&plain[..], more].concat()));
        let plan: toml::Table = fs::read_to_string(workshop.path("here/plan.toml")).unwrap().parse().unwrap();
        ["epochs", "batch_size"].map(|name| plan["training"][name].as_integer().unwrap())
    };
    assert_eq!(planned(&[]), [60, 32]);
    assert_eq!(planned(&["--epochs", "3"]), [3, 32], "a plan that is there already is not taken for this one");
    assert_eq!(planned(&["--batch-size", "128"]), [60, 128]);
}

#[test]
fn a_breached_tolerance_exits_1_and_says_by_how_much() {
    let workshop = Workshop::new();
    // One step on labels leaves the student far behind its teacher.
    let more = [
        "--epochs",
        "1",
        "--batch-size",
        "400",
        "--lr",
        "0.000001",
        "--labels-only",
        "--max-accuracy-drop",
        "0.1",
        "--min-accuracy",
        "99%",
        "--no-build",
    ];
    let mut command = workshop.kdc(&["compile", "teacher.onnx", "--target", "host", "--engine", "tract"]);
    let output = command.args(more).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("--max-accuracy-drop") && error.contains("over by"), "{error}");
    assert!(error.contains("--min-accuracy 99%: points short of it"), "{error}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("NOT MET"), "{}", said(&output));
}

#[test]
fn the_smallest_student_that_is_expected_to_reach_an_accuracy_is_made() {
    let workshop = Workshop::new();
    let more = ["--no-build", "--emit", "onnx", "--json", "--batch-size", "8", "--epochs", "24", "--precision", "f32"];
    let with = |accuracy: &str, out: &str| {
        let mut command = workshop.kdc(&["compile", "teacher.onnx", "--target", "host", "--engine", "tract"]);
        command.args(more).args(["--min-accuracy", accuracy, "--out", out]);
        report(&command.output().unwrap())
    };
    let easy = with("35%", "easy");
    let rated: Vec<_> = easy.candidates.iter().filter(|c| c.expected.is_some()).collect();
    assert!(rated.len() > 1, "{:?}", easy.candidates);
    let chosen = rated.iter().find(|c| c.outcome == Outcome::Chosen).unwrap();
    assert_eq!(chosen.macs, rated.iter().map(|c| c.macs).min().unwrap(), "chance is 25%: the smallest will do");
    assert!(rated.iter().any(|c| c.outcome == Outcome::Larger && c.macs > chosen.macs), "{rated:?}");
    assert!(easy.verdicts.iter().any(|v| v.name.starts_with("--min-accuracy 35%") && v.met), "{:?}", easy.verdicts);
    let hard = with("100%", "hard");
    assert!(hard.size.student.macs > easy.size.student.macs, "{:?} {:?}", hard.size, easy.size);
}

#[test]
fn operators_that_the_target_runs_badly_are_replaced_before_training() {
    let workshop = Workshop::new();
    let mut teacher = kdc::onnx::load(&workshop.path("teacher.onnx")).unwrap();
    // A Gelu of numbers so large that it is nearly the Relu that the teacher was made with.
    for index in (0..teacher.nodes.len()).rev().filter(|&i| teacher.nodes[i].op == Op::Relu).collect::<Vec<_>>() {
        let relu = teacher.nodes[index].clone();
        let mut step = |op: Op, name: &str, from: ValueId, by: f32| {
            let name = format!("{}.{name}", relu.name);
            let value = teacher.value(relu.output()).clone();
            let to = teacher.add_value(Value { name: teacher.fresh_name(&name), ..value });
            let factor = (op == Op::Mul).then(|| {
                let factor = teacher.fresh_name(&format!("{name}.factor"));
                Some(teacher.add_constant(factor, Tensor::f32([1], vec![by])))
            });
            let inputs = [Some(from)].into_iter().chain(factor).collect();
            Node { name, op, inputs, outputs: vec![to] }
        };
        let large = step(Op::Mul, "large", relu.inputs[0].unwrap(), 16.0);
        let gelu = step(Op::Unary(Unary::Gelu { tanh: false }), "gelu", large.output(), 0.0);
        let mut small = step(Op::Mul, "small", gelu.output(), 1.0 / 16.0);
        small.outputs = relu.outputs.clone();
        teacher.nodes.splice(index..=index, [large, gelu, small]);
    }
    kdc::pass::normalize(&mut teacher).unwrap();
    fs::write(workshop.path("teacher.onnx"), kdc::onnx::export(&teacher).unwrap()).unwrap();
    let gelus = |graph: &Graph| graph.nodes.iter().filter(|n| n.op.name() == "Gelu").count();
    assert!(gelus(&teacher) > 0);
    let plain = ["--json", "--precision", "f32", "--no-search", "--no-build", "--emit", "onnx"];
    let with = |replace: &str, more: &[&str]| {
        let arguments = [&plain[..], &["--replace", replace, "--out", replace], more].concat();
        report(&succeed(workshop.compile("host", &arguments)))
    };
    let never = with("never", &["--dry-run"]);
    assert_eq!(never.replaced, []);
    let planned = with("always", &["--dry-run"]);
    let [row] = &planned.replaced[..] else { panic!("{:?}", planned.replaced) };
    assert_eq!((row.operator.as_str(), row.by.as_str(), row.nodes), ("Mul·Gelu·Mul", "Relu", gelus(&teacher)));
    assert!(row.after_s < row.before_s, "{row:?}");
    assert!(fs::read_to_string(workshop.path("always/plan.toml")).unwrap().contains("replace = [\"Mul·Gelu·Mul\"]"));
    let made = with("always", &[]);
    assert_eq!(made.replaced, planned.replaced);
    assert_eq!(gelus(&kdc::onnx::load(&workshop.path("always/student.onnx")).unwrap()), 0);
    let accuracy = made.accuracy.unwrap();
    let [teachers, students] = [Network::Teacher, Network::StudentF32].map(|n| accuracy.row(n).unwrap().accuracy);
    assert!(students > 0.5, "chance is 0.25; {students}, the teacher {teachers}");
    // Eight-bit numbers look functions up in a table: there is less to gain there.
    let integers = ["--json", "--no-search", "--dry-run", "--precision", "int8", "--replace", "always"];
    let looked_up = report(&succeed(workshop.compile("host", &[&integers[..], &["--out", "int8"]].concat())));
    let left = |r: &kdc::report::Replaced| r.after_s.unwrap() / r.before_s.unwrap();
    assert!(looked_up.replaced.first().map_or(1.0, left) > 1.2 * left(row), "{:?} {row:?}", looked_up.replaced);
}

#[test]
fn a_student_is_found_pinned_and_brought() {
    let workshop = Workshop::new();
    let plain = ["--json", "--no-build", "--emit", "onnx", "--precision", "f32"];
    let found = report(&succeed(workshop.compile("host", &plain)));
    assert!(found.candidates.len() > 2, "{:?}", found.candidates);
    let folder = workshop.path("teacher-host");

    // The same widths without a search.
    let spec = folder.join("student.toml");
    let pinned = [&plain[..], &["--out", "pinned", "--student-spec", spec.to_str().unwrap()]].concat();
    let pinned = report(&succeed(workshop.compile("host", &pinned)));
    assert_eq!(pinned.size.student, found.size.student);
    assert_eq!(pinned.candidates.len(), 1);
    let wrong = workshop.path("wrong.toml");
    for (text, words) in [
        ("[widths]\nnobody = 3\n", ["'nobody'", "kdc inspect --groups"]),
        ("[widths]\nedges = 0\n", ["'edges'", "from 1 to"]),
        ("[kind]\nwithout = [\"edges\"]\n", ["'edges'", "no residual block"]),
        ("[kind]\nwidth = 3\n", ["wrong.toml", "width"]),
        ("[kind]\ntemplate = \"signal\"\n", ["'signal'", "another kind of input"]),
    ] {
        fs::write(&wrong, text).unwrap();
        let refused = [&plain[..], &["--out", "wrong", "--student-spec", wrong.to_str().unwrap()]].concat();
        let refused = workshop.compile("host", &refused).output().unwrap();
        let message = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{text}{message}");
        assert!(words.iter().all(|word| message.contains(word)), "{text}{message}");
    }

    // A plan has the kind that is asked for.
    let template = ["--json", "--dry-run", "--template", "image-residual", "--max-params", "20k", "--out", "planned"];
    let planned = report(&succeed(workshop.compile("host", &template)));
    assert!(planned.header.plan.student.starts_with("template image-residual"), "{}", planned.header.plan.student);

    // What one run made is where another one starts: it knows already what the teacher knows.
    let student = folder.join("student.onnx");
    let brought = [&plain[..], &["--out", "brought", "--epochs", "1", "--lr", "1e-6"]].concat();
    let brought = [&brought[..], &["--student", student.to_str().unwrap()]].concat();
    let mut command = workshop.kdc(&["compile", "teacher.onnx", "--target", "host", "--engine", "tract"]);
    command.args(&brought).args(["--batch-size", "32"]);
    let brought = report(&succeed(command));
    assert!(brought.header.plan.student.starts_with("brought"), "{}", brought.header.plan.student);
    let accuracy = |r: &kdc::report::Report| r.accuracy.clone().unwrap().row(Network::StudentF32).unwrap().accuracy;
    assert!(accuracy(&brought) > 0.6 && accuracy(&found) > 0.6, "{} {}", accuracy(&brought), accuracy(&found));
}
