//! Recipes from start to end: stages, teachers that come about on the way, partial forward passes.

use super::*;
use crate::data::{LabelSubset, Task};
use kdc_exec::{Mode, Network};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
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
    let source =
        TeacherSource { name: "teacher".into(), logits: None, graph: Some(teacher), engine: None, is_peer: false };
    // Whoever reads the data hides labels, as a recipe says.
    let partly = LabelSubset::new(Arc::new(setting.samples.clone()), recipe.data.labels.unwrap_or(1e9), 0);
    let set = TrainingSet {
        samples: &partly,
        train: &setting.train,
        validation: &setting.validation,
        teachers: vec![source],
        answers: &Task::Classification,
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
        "[[teacher]]\nname = \"seen\"\nkind = \"autoencoder\"\nepochs = 2\n[[term]]\nmethod = \"hard-label\"\n\
         [[term]]\nmethod = \"similarity\"\nteacher = \"seen\"\nweight = 1.0\n"
            .to_string(),
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
fn what_training_makes_worse_is_not_kept() {
    let setting = Setting::new();
    let knows = teacher(&setting);
    let start = setting.accuracy(&knows);
    assert!(start > 0.9, "{start}");
    // A teacher that knows nothing is believed.
    let mut fool = small_network();
    crate::student::redraw(&mut fool, 99);
    let fools =
        TeacherSource { name: "teacher".into(), logits: None, graph: Some(&fool), engine: None, is_peer: false };
    let set = TrainingSet {
        samples: &setting.samples,
        train: &setting.train,
        validation: &setting.validation,
        teachers: vec![fools],
        answers: &Task::Classification,
    };
    let bytes = |graph: &Graph| kdc_ir::onnx::export(graph).unwrap();
    let believe = "[[stage]]\n[[stage.term]]\nmethod = \"soft-label\"\nalpha = 1.0\n";
    for (stages, epochs) in [(1, 4), (2, 4), (1, 0)] {
        let recipe = Recipe::parse(&believe.repeat(stages), Path::new("r.toml")).unwrap();
        let config = Config { epochs, ..config() };
        let folder = tempfile::tempdir().unwrap();
        let trained = follow(&knows, &recipe, &set, &config, &Device::flex(), folder.path(), &mut |_| ()).unwrap();
        assert!(trained.history.iter().all(|epoch| epoch.accuracy < start), "{:?}", trained.history);
        assert_eq!((trained.best, trained.history.len()), (0, epochs));
        assert_eq!(bytes(&trained.graph), bytes(&knows));
    }
}

#[test]
fn an_autoencoder_learns_from_samples_without_labels_and_lends_its_activations() {
    let setting = Setting::new();
    let teacher = teacher(&setting);
    let hint = |epochs: usize| {
        format!(
            "[[teacher]]\nname = \"seen\"\nkind = \"autoencoder\"\nepochs = {epochs}\n[data]\nlabels = 0\n\
             [[term]]\nmethod = \"hint\"\nteacher = \"seen\"\nweight = 1.0\n"
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let recipe = Recipe::parse(&hint(3), Path::new("r.toml")).unwrap();
    let trained = follow_in(&setting, &recipe, &teacher, folder.path(), &mut |_| ()).unwrap();
    let (first, last) = (&trained.history[0], trained.history.last().unwrap());
    assert!(last.loss < first.loss, "{} to {}", first.loss, last.loss);
    // Its own training is found done, and is the same each time.
    assert!(folder.path().join("checkpoint.autoencoder.0").is_file());
    let again = follow_in(&setting, &recipe, &teacher, folder.path(), &mut |_| ()).unwrap();
    let anew = followed(&setting, &hint(3), &teacher);
    let bytes = |t: &Trained| kdc_ir::onnx::export(&t.graph).unwrap();
    assert_eq!(bytes(&trained), bytes(&again));
    assert_eq!(bytes(&trained), bytes(&anew));
    assert_ne!(bytes(&trained), bytes(&followed(&setting, &hint(1), &teacher)));
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
    assert_eq!(kdc_ir::onnx::export(&trained.graph).unwrap(), kdc_ir::onnx::export(&small_network()).unwrap());
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
    assert_eq!(kdc_ir::onnx::export(&resumed.graph).unwrap(), kdc_ir::onnx::export(&trained.graph).unwrap());
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
    let error = follow_in(&setting, &recipe, &small_network(), folder.path(), &mut |_| ()).unwrap_err();
    assert!(matches!(&error, Error::Inapplicable { method, .. } if method == "attention-map"), "{error}");
    assert!(error.to_string().contains("found no attention"), "{error}");
    let mut spec = TermSpec::new("soft-label");
    spec.teachers = vec!["teacher".into(), "other".into()];
    let other = TeacherSource { name: "other".into(), logits: Some(&Three), graph: None, engine: None, is_peer: false };
    let oracle = Oracle(&setting.samples);
    let set = TrainingSet {
        samples: &setting.samples,
        train: &setting.train,
        validation: &[],
        teachers: vec![kept(&oracle), other],
        answers: &Task::Classification,
    };
    let config = Config { terms: vec![spec], ..config() };
    let file = folder.path().join("several");
    let error = train(&(&small_network()).into(), &set, &config, &Device::flex(), &file, &mut |_| ()).unwrap_err();
    assert!(error.to_string().contains("'teacher', which gives 4 numbers, and 'other', which gives 3"), "{error}");
    let mut spec = TermSpec::new("hint");
    spec.layers = vec![("relu".into(), "nowhere".into())];
    let error = follow_in(&setting, &Recipe::of("", vec![spec]), &small_network(), folder.path(), &mut |_| ());
    // A name that is wrong is a mistake, and no method that another could stand for.
    let error = error.unwrap_err();
    assert!(matches!(&error, Error::Config(what) if what.contains("the teacher has no value 'nowhere'")), "{error}");
}

#[test]
fn samples_are_made_of_what_a_teacher_remembers() {
    let setting = Setting::new();
    let teacher = teacher(&setting);
    let how = Synthesis { samples: 24, steps: 60, batch: 12, ..Synthesis::default() };
    let none = || -> Result<Graph, Error> { panic!("nobody asks for a critic") };
    let make = |folder: &Path| synthesize(&teacher, none, &how, 3, &Device::flex(), folder, &mut |_, _| ()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let made = make(folder.path());
    assert_eq!((made.shape.as_slice(), made.values.len()), (&[1, 6, 6][..], 24 * 36));
    let known = made.note.split("it knows ").nth(1).and_then(|rest| rest.split('%').next()).unwrap();
    assert!(known.parse::<f64>().unwrap() > 90.0, "{}", made.note);
    assert!(made.values.iter().all(|v| v.abs() <= 3.0));
    assert_eq!(made, make(tempfile::tempdir().unwrap().path()));

    // A batch that is there is taken, one that is damaged, cut short or missing is made again.
    let batch = |index: usize| folder.path().join(format!("batch-{index}.f32"));
    kdc_ir::files::write_sealed(&batch(0), &[0; 12 * 36 * 4]).unwrap();
    std::fs::write(batch(1), [0; 12]).unwrap();
    let resumed = make(folder.path());
    assert!(resumed.values[..12 * 36].iter().all(|x| *x == 0.0));
    assert_eq!(resumed.values[12 * 36..], made.values[12 * 36..]);
    std::fs::remove_file(batch(0)).unwrap();
    let mut damaged = std::fs::read(batch(1)).unwrap();
    damaged[100] ^= 1;
    std::fs::write(batch(1), damaged).unwrap();
    assert_eq!(make(folder.path()), made);
}

#[test]
fn a_generator_makes_samples_where_nothing_is_remembered() {
    let setting = Setting::new();
    let mut teacher = teacher(&setting);
    kdc_ir::pass::fold_batch_norm(&mut teacher);
    let device = Device::flex();
    let synthesize_in = |how: &Synthesis, folder: &Path, progress: &mut dyn FnMut(usize, usize)| {
        synthesize(&teacher, || Ok::<_, Error>(small_network()), how, 3, &device, folder, progress)
    };
    let how = |by: Maker| Synthesis { by, samples: 200, batch: 32, rounds: 60, ..Synthesis::default() };
    let make = |by: Maker, disagreement: f64| {
        let folder = tempfile::tempdir().unwrap();
        synthesize_in(&Synthesis { disagreement, ..how(by) }, folder.path(), &mut |_, _| ())
    };
    let error = make(Maker::Statistics, 1.0).unwrap_err().to_string();
    assert!(error.contains("this teacher has none; export it again"), "{error}");
    let made = make(Maker::Auto, 1.0).unwrap();
    assert_eq!((made.shape.as_slice(), made.values.len()), (&[1, 6, 6][..], 200 * 36));
    assert_eq!(made, make(Maker::Generator, 1.0).unwrap());

    // A synthesis that is interrupted goes on where it was written down last.
    let folder = tempfile::tempdir().unwrap();
    let interrupted = std::panic::AssertUnwindSafe(|| {
        let mut rounds = 0;
        synthesize_in(&how(Maker::Generator), folder.path(), &mut |_, _| {
            rounds += 1;
            assert!(rounds < 45, "interrupted");
        })
    });
    assert!(std::panic::catch_unwind(interrupted).is_err());
    let mut rounds = 0;
    assert_eq!(synthesize_in(&how(Maker::Generator), folder.path(), &mut |_, _| rounds += 1).unwrap(), made);
    assert_eq!(rounds, 60 - 44);
    // A damaged one is made again; one that is sound, and of something else, is named.
    let state = folder.path().join("game.safetensors");
    std::fs::write(&state, "half a file").unwrap();
    let mut rounds = 0;
    assert_eq!(synthesize_in(&how(Maker::Generator), folder.path(), &mut |_, _| rounds += 1).unwrap(), made);
    assert_eq!(rounds, 60);
    kdc_ir::files::write_sealed(&state, b"half a file").unwrap();
    let foreign = synthesize_in(&how(Maker::Generator), folder.path(), &mut |_, _| ()).unwrap_err().to_string();
    assert!(foreign.contains("game.safetensors") && foreign.contains("remove it"), "{foreign}");

    let folder = tempfile::tempdir().unwrap();
    let wild = Synthesis { rate: 1e30, rounds: 20, batch: 8, ..how(Maker::Generator) };
    assert!(matches!(synthesize_in(&wild, folder.path(), &mut |_, _| ()), Err(Error::Generator { .. })));

    // The teacher is surer of them than of noise, and they are of all classes.
    let judge = |values: Vec<f32>| {
        let network = Network::new(&teacher, &device).unwrap();
        let x = HostTensor::f32(vec![values.len() / 36, 1, 6, 6], values);
        let outputs = network.forward(vec![x], &[], Mode::Infer).unwrap().outputs;
        let logits = outputs[0].to_host().unwrap().to_f32().into_owned();
        let mut counts = [0; 4];
        let sure = logits.chunks(4).map(|z| {
            let best = z.iter().copied().fold(f32::MIN, f32::max);
            counts[z.iter().position(|x| *x == best).unwrap()] += 1;
            1.0 / z.iter().map(|x| (x - best).exp()).sum::<f32>()
        });
        (sure.sum::<f32>() / (logits.len() / 4) as f32, counts)
    };
    let calm = make(Maker::Generator, 0.0).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let noise: Vec<f32> = (0..200 * 36).map(|_| StandardNormal.sample(&mut rng)).collect();
    let ((of_noise, _), (of_made, counts)) = (judge(noise), judge(calm.values));
    assert!(of_made > of_noise && counts.iter().all(|&count| count > 20), "{of_noise} {of_made} {counts:?}");
}
