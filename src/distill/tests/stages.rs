//! Recipes from start to end: stages, teachers that come about on the way, ways through two networks.

use super::*;
use crate::data::{Answers, Partly};
use std::path::Path;
use std::sync::Arc;

/// A network like the small one, wider, that knows the classes.
fn teacher(setting: &Setting) -> Graph {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { terms: vec![TermSpec::new("hard-label")], seed: 11, ..config() };
    setting.train(&config, &folder.path().join("c"), &mut |_| ()).unwrap().graph
}

fn follow_in(
    setting: &Setting,
    recipe: &Recipe,
    teacher: &Graph,
    folder: &Path,
    on: &mut dyn FnMut(Event),
) -> Result<Trained, Error> {
    let source = Source { name: "teacher".into(), logits: None, graph: Some(teacher), is_peer: false };
    // Whoever reads the data hides labels, as a recipe says.
    let partly = Partly::new(Arc::new(setting.samples.clone()), recipe.data.labels.unwrap_or(1e9), 0);
    let set = TrainingSet {
        samples: &partly,
        train: &setting.train,
        validation: &setting.validation,
        teachers: vec![source],
        answers: &Answers::Classes,
    };
    let config = Config { epochs: 4, ..config() };
    follow(&small_network(), recipe, &set, &config, &Device::flex(), folder, on)
}

fn followed(setting: &Setting, text: &str, teacher: &Graph) -> Trained {
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe::parse(text, Path::new("r.toml")).unwrap();
    follow_in(setting, &recipe, teacher, folder.path(), &mut |_| ()).unwrap()
}

#[test]
fn every_kind_of_recipe_teaches() {
    let setting = Setting::new();
    let teacher = teacher(&setting);
    let start = setting.accuracy(&small_network());
    let preset = |name: &str| presets::PRESETS.iter().find(|p| p.name == name).unwrap().text.to_string();
    let soft = "[[term]]\nmethod = \"soft-label\"\n";
    let recipes = [
        preset("generations"),
        preset("teacher-free"),
        preset("ensemble"),
        preset("mutual"),
        preset("unlabelled"),
        format!("[data]\nlabels = 8\nlabelled-share = 0.5\n{soft}"),
        "[data]\nlabels = 40\nlabelled-share = 1.0\n[[term]]\nmethod = \"hard-label\"\n".to_string(),
        format!("[data]\nmixup = 0.2\n{soft}"),
        "[[term]]\nmethod = \"progressive-replacement\"\n".to_string(),
        "[[term]]\nmethod = \"distilled-layer\"\n".to_string(),
        format!(
            "[[stage]]\nshare = 0.5\n[[stage.term]]\nmethod = \"distilled-module\"\n[[stage]]\n{}",
            soft.replace("[[t", "[[stage.t")
        ),
    ];
    for text in recipes {
        let end = setting.accuracy(&followed(&setting, &text, &teacher).graph);
        assert!(end > 0.9 && end > start + 0.3, "from {start} to {end} by\n{text}");
    }
}

#[test]
fn frozen_students_stay_and_their_projections_move() {
    let setting = Setting::new();
    let teacher = teacher(&setting);
    let text = "[[term]]\nmethod = \"hint\"\nalways-project = true\n";
    let mut recipe = Recipe::parse(text, Path::new("r.toml")).unwrap();
    recipe.stages[0].freeze = vec!["student".into()];
    let folder = tempfile::tempdir().unwrap();
    let trained = follow_in(&setting, &recipe, &teacher, folder.path(), &mut |_| ()).unwrap();
    assert_eq!(crate::onnx::export(&trained.graph).unwrap(), crate::onnx::export(&small_network()).unwrap());
    let (first, last) = (&trained.history[0], trained.history.last().unwrap());
    assert!(last.loss < 0.7 * first.loss, "{} to {}", first.loss, last.loss);
    assert!(trained.others.iter().any(|(name, _)| name.starts_with("hint.projection")), "{:?}", trained.others);
}

#[test]
fn a_recipe_that_is_picked_up_between_and_within_stages_ends_with_the_same_bytes() {
    let setting = Setting::new();
    let teacher = teacher(&setting);
    let text = presets::PRESETS.iter().find(|p| p.name == "teacher-free").unwrap().text;
    let recipe = Recipe::parse(text, Path::new("r.toml")).unwrap();
    let (whole, again) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut seen = vec![];
    // What is there after the first epoch of the second stage.
    let mut on = |event: Event| {
        if let Event::Epoch(epoch) = event {
            seen.push(epoch.epoch);
            if epoch.epoch == 6 {
                for name in ["checkpoint", "checkpoint.1"] {
                    std::fs::copy(whole.path().join(name), again.path().join(name)).unwrap();
                }
            }
        }
    };
    let trained = follow_in(&setting, &recipe, &teacher, whole.path(), &mut on).unwrap();
    assert_eq!(seen, (1..=8).collect::<Vec<_>>(), "epochs are counted through");
    let resumed = follow_in(&setting, &recipe, &teacher, again.path(), &mut |_| ()).unwrap();
    assert_eq!(crate::onnx::export(&resumed.graph).unwrap(), crate::onnx::export(&trained.graph).unwrap());
    assert_eq!((trained.history.len(), trained.steps), (8, 8 * 16));
}

/// Knows three classes.
struct Three;

impl TeacherLogits for Three {
    fn classes(&self) -> usize {
        3
    }

    fn read(&self, _: usize, _: usize, out: &mut [f32]) {
        out.fill(0.0);
    }
}

#[test]
fn peers_go_on_from_stage_to_stage() {
    let setting = Setting::new();
    let teacher = teacher(&setting);
    let stage = "[[stage]]\n[[stage.term]]\nmethod = \"mutual\"\nteacher = \"pal\"\n";
    let text = format!("[[teacher]]\nname = \"pal\"\nkind = \"peer\"\n{stage}{stage}");
    let trained = followed(&setting, &text, &teacher);
    let peers: Vec<f64> = trained.history.iter().map(|e| e.parts[2].loss).collect();
    assert_eq!(trained.history[0].parts[2].name, "the peer's labels");
    // The first epoch of the second stage begins where the first stage ended, and not where it began.
    assert!(peers[2] < 0.5 * peers[0], "{peers:?}");
}

#[test]
fn who_is_not_there_cannot_teach() {
    let setting = Setting::new();
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe::of("", vec![TermSpec::new("attention-map")]);
    let error = follow_in(&setting, &recipe, &small_network(), folder.path(), &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("found no attention"), "{error}");
    let mut spec = TermSpec::new("soft-label");
    spec.teachers = vec!["teacher".into(), "other".into()];
    let other = Source { name: "other".into(), logits: Some(&Three), graph: None, is_peer: false };
    let oracle = Oracle(&setting.samples);
    let set = TrainingSet {
        samples: &setting.samples,
        train: &setting.train,
        validation: &[],
        teachers: vec![kept(&oracle), other],
        answers: &Answers::Classes,
    };
    let config = Config { terms: vec![spec], ..config() };
    let file = folder.path().join("several");
    let error = train(&(&small_network()).into(), &set, &config, &Device::flex(), &file, &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("'teacher', which gives 4 numbers, and 'other', which gives 3"), "{error}");
    let mut spec = TermSpec::new("hint");
    spec.layers = vec![("relu".into(), "nowhere".into())];
    let error = follow_in(&setting, &Recipe::of("", vec![spec]), &small_network(), folder.path(), &mut |_| ());
    let error = error.unwrap_err().to_string();
    assert!(error.contains("the teacher has no value 'nowhere'"), "{error}");
}

#[test]
fn samples_are_made_of_what_a_teacher_remembers() {
    let setting = Setting::new();
    let mut teacher = teacher(&setting);
    let how = Synthesis { samples: 24, steps: 60, batch: 12, ..Synthesis::default() };
    let make = |teacher: &Graph| synthesize(teacher, &how, 3, &Device::flex(), &mut |_, _| ());
    let made = make(&teacher).unwrap();
    assert_eq!((made.shape.as_slice(), made.values.len()), (&[1, 6, 6][..], 24 * 36));
    assert!(made.recognised > 0.9, "{}", made.recognised);
    assert!(made.values.iter().all(|v| v.abs() <= 3.0));
    assert_eq!(made, make(&teacher).unwrap());
    crate::pass::fold_batch_norm(&mut teacher);
    let error = make(&teacher).unwrap_err().to_string();
    assert!(error.contains("this teacher has none; export it again"), "{error}");
}
