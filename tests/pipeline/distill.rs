//! `kdc distill` and `kdc methods`: a student alone, by a recipe.

use crate::workshop::{Workshop, autoencoder, reproducible, said, succeed};
use serde_json::Value;
use std::process::Command;

fn distill(workshop: &Workshop, more: &[&str]) -> Command {
    let mut command = workshop.kdc(&["distill", "teacher.onnx", "--engine", "tract", "--no-search"]);
    command.args(["--batch-size", "32"]).args(more);
    if !more.contains(&"--epochs") {
        command.args(["--epochs", "4"]);
    }
    command
}

fn json(workshop: &Workshop, more: &[&str]) -> Value {
    let output = succeed(distill(workshop, &[more, &["--json"]].concat()));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}\n{}", said(&output)))
}

#[test]
fn a_student_is_trained_judged_and_held_against_labels_alone() {
    let workshop = Workshop::new();
    let output = succeed(distill(&workshop, &["--baseline", "--out", "s"]));
    let text = said(&output);
    for part in ["On 128 test samples, measured", "teacher", "labels only", "distilled", "checks", "gain"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let told: Value = serde_json::from_slice(&std::fs::read(workshop.path("s/distilled.json")).unwrap()).unwrap();
    let of = |who: &str| told[who]["accuracy"].as_f64().unwrap();
    assert!(of("distilled") > 0.7 && of("baseline") > 0.5 && of("teacher") > 0.9, "{told}");
    // So few images are soon known as well as the teacher does, and then there is no gap.
    let gap = of("teacher") - of("baseline");
    let closed = (gap != 0.0).then(|| (of("distilled") - of("baseline")) / gap);
    assert_eq!(told["gap_closed"].as_f64(), closed);
    let student = kdc::onnx::load(&workshop.path("s/student.onnx")).unwrap();
    let teacher = kdc::onnx::load(&workshop.path("teacher.onnx")).unwrap();
    assert!(kdc::graph::cost(&student).0.macs * 8 <= kdc::graph::cost(&teacher).0.macs);
    // The recipe that was used, and the same bytes from it.
    let again = json(&workshop, &["--recipe", "s/recipe.toml", "--out", "t", "--force"]);
    assert_eq!(again["distilled"]["accuracy"].as_f64(), Some(of("distilled")));
    let kept = |folder: &str| std::fs::read(workshop.path(folder).join("student.onnx")).unwrap();
    assert_eq!(kept("s"), kept("t"));
    assert!(reproducible(&workshop.path("t")).len() >= 4);
}

#[test]
fn labels_that_are_not_shown_are_not_used() {
    let workshop = Workshop::new();
    let recipe = |text: &str| std::fs::write(workshop.path("r.toml"), text).unwrap();
    // Without labels nobody chooses an epoch by them, and the student agrees with the teacher all the same.
    recipe("[data]\nlabels = 0\n[[term]]\nmethod = \"soft-label\"\nalpha = 1.0\n");
    let told = json(&workshop, &["--recipe", "r.toml"]);
    assert!(told["distilled"]["accuracy"].as_f64().unwrap() > 0.7, "{told}");
    let log = std::fs::read_to_string(workshop.path("teacher-student/train/log.csv")).unwrap();
    let last = log.lines().last().unwrap();
    assert!(last.ends_with(','), "a validation accuracy without a label: {last}");
    // Two that learn at once, of which one does not.
    recipe("[[term]]\nmethod = \"mutual\"\nteacher = \"teacher\"\n");
    let output = distill(&workshop, &["--recipe", "r.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("'teacher' does not learn along"), "{}", said(&output));
    // Labels alone, and none of them.
    recipe("[data]\nlabels = 0\n[[term]]\nmethod = \"hard-label\"\n");
    let output = distill(&workshop, &["--recipe", "r.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("has no label"), "{}", said(&output));
}

#[test]
fn the_best_of_a_trial_goes_on() {
    let workshop = Workshop::new();
    // It is what is done where nobody says how.
    let told = json(&workshop, &[]);
    let trials = told["trials"].as_array().unwrap();
    assert_eq!(trials.iter().filter(|t| t["chosen"] == true).count(), 1, "{told}");
    let longest = trials.iter().map(|t| t["epochs"].as_u64().unwrap()).max();
    let last = trials.iter().filter(|t| t["epochs"].as_u64() == longest);
    let best = last.map(|t| t["accuracy"].as_f64().unwrap()).fold(0.0, f64::max);
    let chosen = trials.iter().find(|t| t["chosen"] == true).unwrap();
    // No other is clearly better, by more than a standard error on the few samples that judge.
    assert_eq!(chosen["epochs"].as_u64(), longest);
    assert!(chosen["accuracy"].as_f64().unwrap() > best - 0.08, "{told}");
    let used = std::fs::read_to_string(workshop.path("teacher-student/recipe.toml")).unwrap();
    assert!(used.contains(chosen["name"].as_str().unwrap()) && !used.contains("[[choice]]"), "{used}");
    // Labels alone teach nothing of samples that have none.
    let best = kdc::distill::presets::PRESETS.iter().find(|preset| preset.name == "best").unwrap();
    let recipe = best.text.replacen("\n[[choice]]", "\n[data]\nlabels = 20\n\n[[choice]]", 1);
    std::fs::write(workshop.path("few.toml"), recipe).unwrap();
    let told = json(&workshop, &["--recipe", "few.toml"]);
    let names = |told: &Value| -> Vec<String> {
        told["trials"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap().to_string()).collect()
    };
    assert!(!names(&told).contains(&"labels alone".to_string()), "{told}");
    assert!(names(&told).contains(&"dist".to_string()), "{told}");
    // One that is left alone is taken without a trial.
    let choice = |method: &str| format!("[[choice]]\nname = \"{method}\"\n[[choice.term]]\nmethod = \"{method}\"\n");
    let two = format!("[data]\nlabels = 20\n{}{}", choice("hard-label"), choice("soft-label"));
    std::fs::write(workshop.path("few.toml"), two).unwrap();
    assert!(names(&json(&workshop, &["--recipe", "few.toml"])).is_empty());
    let used = std::fs::read_to_string(workshop.path("teacher-student/recipe.toml")).unwrap();
    assert!(used.contains("soft-label") && !used.contains("[[choice]]"), "{used}");
    // Who says how soft has said how.
    assert!(names(&json(&workshop, &["--temperature", "2"])).is_empty());
}

#[test]
fn what_is_wrong_with_a_recipe_is_told_by_file_and_line() {
    let workshop = Workshop::new();
    std::fs::write(workshop.path("r.toml"), "[[term]]\nmethod = \"dkd\"\nbta = 2\n").unwrap();
    let refused = |more: &[&str]| {
        let output = distill(&workshop, more).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        said(&output)
    };
    assert!(refused(&["--recipe", "r.toml"]).contains("r.toml:3: 'dkd': unknown field `bta`"));
    assert!(refused(&["--recipe", "bst"]).contains("the presets are best, labelled"));
    assert!(refused(&["--recipe", "none.toml"]).contains("none.toml"));
    assert!(refused(&["--recipe", "best", "--alpha", "0.5"]).contains("cannot be used with"));
    let text = "[data.synthetic]\nby = \"statistics\"\n[[term]]\nmethod = \"soft-label\"\nalpha = 1.0\n";
    std::fs::write(workshop.path("s.toml"), text).unwrap();
    assert!(refused(&["--recipe", "s.toml"]).contains("what batch normalisations remember, and this teacher has none"));
}

#[test]
fn a_student_learns_without_data_of_a_teacher_that_remembers_none() {
    let workshop = Workshop::new();
    let preset = said(&succeed(workshop.kdc(&["methods", "data-free"])));
    let sizes = "samples = 6000\nrounds = 150\nbatch = 64";
    let recipe = preset[preset.find("title").unwrap()..].replace("samples = 2000\nsteps = 150", sizes);
    std::fs::write(workshop.path("free.toml"), recipe).unwrap();
    let free = ["distill", "teacher.onnx", "--engine", "tract", "--no-search", "--recipe", "free.toml", "--json"];
    let output = succeed(workshop.kdc(&free));
    assert!(said(&output).contains("no batch normalisations that remember its data"), "{}", said(&output));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    // How long suits the samples that are made, and not those that are there.
    assert_eq!(told["epochs"], 20, "{told}");
    let share = |of: &str| told[of]["accuracy"].as_f64().unwrap();
    // Four classes: a quarter would be luck.
    assert!(share("teacher") > 0.95 && share("distilled") > 0.6, "{told}");
}

#[test]
fn every_method_is_listed_and_told() {
    let workshop = Workshop::new();
    let list = said(&succeed(workshop.kdc(&["methods"])));
    for entry in kdc::distill::METHODS {
        assert!(list.contains(entry.name), "{}", entry.name);
        let full = said(&succeed(workshop.kdc(&["methods", entry.name])));
        assert!(full.contains(entry.source) && full.contains("[[term]]"), "{full}");
    }
    let output = workshop.kdc(&["methods", "nothing"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("there is no method or preset 'nothing'"));
}

#[test]
fn a_teacher_of_other_classes_learns_those_of_the_data_first() {
    let workshop = Workshop::new();
    let sidecar = std::fs::read_to_string(workshop.path("teacher.toml")).unwrap();
    // A class that the teacher does not have, and one less of its own.
    let other = sidecar.replace("[\"rows\", ", "[\"none\", \"rows\", ");
    std::fs::write(workshop.path("other.toml"), other).unwrap();
    let output = distill(&workshop, &["--sidecar", "other.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("but the data has 5 classes"), "{}", said(&output));
    let told = json(&workshop, &["--sidecar", "other.toml", "--recipe", "transfer", "--baseline", "--epochs", "8"]);
    assert!(told["teacher"].is_null() && told["agreement"].is_null() && told["gap_closed"].is_null(), "{told}");
    assert!(told["distilled"]["accuracy"].as_f64().unwrap() > 0.7, "{told}");
    let student = kdc::onnx::load(&workshop.path("teacher-student/student.onnx")).unwrap();
    assert_eq!(kdc::graph::elements(&student.value(student.outputs[0]).shape), 5);
}

#[test]
fn a_teacher_that_sees_what_it_was_not_trained_on_is_doubted_before_it_teaches() {
    let workshop = Workshop::new();
    let sidecar = std::fs::read_to_string(workshop.path("teacher.toml")).unwrap();
    let doubted = |command: Command| said(&succeed(command)).contains("which chance explains: look at scale");
    let all = || {
        let looks = [&["eval", "teacher.onnx"][..], &["eval", "teacher.onnx", "--json"], &["inspect", "teacher.onnx"]];
        looks.map(|look| workshop.kdc(look)).into_iter().chain([distill(&workshop, &["--epochs", "1"])])
    };
    assert!(!all().any(doubted));
    std::fs::write(workshop.path("teacher.toml"), sidecar.replace("std = [0.5]", "std = [1e9]")).unwrap();
    assert!(all().all(doubted));
}

#[test]
fn an_autoencoder_teaches_numbers() {
    let workshop = Workshop::new();
    std::fs::write(workshop.path("teacher.onnx"), kdc::onnx::export(&autoencoder()).unwrap()).unwrap();
    let sidecar = std::fs::read_to_string(workshop.path("teacher.toml")).unwrap();
    let classes = sidecar.lines().find(|line| line.starts_with("classes")).unwrap();
    std::fs::write(workshop.path("teacher.toml"), sidecar.replace(classes, "answers = \"input\"")).unwrap();
    let told = json(&workshop, &["--baseline", "--epochs", "12", "--optimizer", "adamw", "--max-macs", "2k"]);
    let of = |who: &str| told[who]["explained_variance"].as_f64().unwrap();
    // All but the noise; a student of a third of the units comes near.
    assert!(of("teacher") > 0.85 && of("distilled") > 0.6 && of("baseline") > 0.4, "{told}");
    assert!(told["distilled"]["accuracy"].is_null() && told["agreement"].is_null(), "{told}");
    assert_eq!(told["classes"].as_array().unwrap().len(), 0);
    let log = std::fs::read_to_string(workshop.path("teacher-student/train/log.csv")).unwrap();
    assert!(log.contains("loss by targets,loss by teacher") && log.contains("validation explained variance"), "{log}");
    assert!(log.contains("loss by teacher") && !log.lines().last().unwrap().ends_with(','), "{log}");
    for (arguments, word) in [
        (
            &["eval", "teacher.onnx", "--against", "teacher-student/student.onnx"][..],
            "% explained variance on 128 test",
        ),
        (&["inspect", "teacher.onnx"], "Explained variance, measured: "),
    ] {
        let output = succeed(workshop.kdc(arguments));
        assert!(said(&output).contains(word), "{}", said(&output));
    }
    let recipe = "[data]\nlabels = 10\n[[term]]\nmethod = \"regression\"\n";
    std::fs::write(workshop.path("r.toml"), recipe).unwrap();
    let output = distill(&workshop, &["--recipe", "r.toml"]).output().unwrap();
    assert!(output.status.code() == Some(2) && said(&output).contains("these samples have none"), "{}", said(&output));
    // What learns classes has nothing to learn here, and a program of it is not judged yet.
    std::fs::write(workshop.path("r.toml"), "[[term]]\nmethod = \"soft-label\"\n").unwrap();
    for (command, word) in [
        (distill(&workshop, &["--recipe", "r.toml"]), "'regression' learns numbers"),
        (workshop.compile("host", &[]), "its input again"),
    ] {
        let mut command = command;
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(word), "{}", said(&output));
    }
}

#[test]
fn several_teachers_are_named_on_the_command_line() {
    let workshop = Workshop::new();
    std::fs::copy(workshop.path("teacher.onnx"), workshop.path("other.onnx")).unwrap();
    let output = distill(&workshop, &["--recipe", "several-teachers"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("--teacher FILE"), "{}", said(&output));
    let told = json(&workshop, &["--recipe", "several-teachers", "--teacher", "other.onnx"]);
    assert!(told["distilled"]["accuracy"].as_f64().unwrap() > 0.7, "{told}");
    let kept = std::fs::read_to_string(workshop.path("teacher-student/recipe.toml")).unwrap();
    // Written down, it is the same recipe from there.
    let again = json(&workshop, &["--recipe", "teacher-student/recipe.toml", "--out", "again"]);
    assert_eq!(again["distilled"], told["distilled"]);
    assert!(kept.contains("teacher = [\"teacher\", \"second\"]") && kept.contains("other.onnx"), "{kept}");
}
