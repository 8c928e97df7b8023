//! Networks that spell: words by CTC and a symbol a position, of a table whose labels are numbers.

use crate::workshop::{Workshop, succeed};
use kdc::graph::{Builder, Dim, Graph, Op, Tensor, ValueId};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::fmt::Write;
use std::fs;

const WORDS: [&[usize]; 5] = [&[1], &[1, 2], &[3], &[2, 3, 1], &[3, 2]];
/// More than the longest word and its end.
const POSITIONS: usize = 5;
const SYMBOLS: usize = 4;
const FEATURES: usize = POSITIONS * SYMBOLS;

/// A sample's features are the symbols of its word, one by one, in noise; blanks after.
fn table(count: usize, seed: u64) -> String {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut text = (0..FEATURES).map(|i| format!("x{i},")).collect::<String>() + "word\n";
    for sample in 0..count {
        let word = sample % WORDS.len();
        for feature in 0..FEATURES {
            let symbol = WORDS[word].get(feature / SYMBOLS).copied().unwrap_or(0);
            let level = if symbol == feature % SYMBOLS { 1.0 } else { 0.0 };
            _ = write!(text, "{:.3},", level + random.random_range(-0.3..0.3));
        }
        _ = writeln!(text, "{word}");
    }
    text
}

fn linear(b: &mut Builder, name: &str, x: ValueId, (from, to): (usize, usize), w: Vec<f32>) -> ValueId {
    let w = b.constant(&format!("{name}.weight"), Tensor::f32([from, to], w));
    b.node(name, Op::MatMul, &[x, w]).unwrap()
}

fn finish(mut b: Builder, x: ValueId) -> Graph {
    let shape = vec![Dim::Batch, Dim::Fixed(POSITIONS), Dim::Fixed(SYMBOLS)];
    let y = b.node("letters", Op::Reshape { shape }, &[x]).unwrap();
    b.finish(&[y])
}

/// Answers with its features, which are right, and with `last` times them at the last position, which is after every
/// word's end.
fn teacher(last: f32) -> Graph {
    let mut b = Builder::new("reader");
    let x = b.input("x", &[Dim::Batch, Dim::Fixed(FEATURES)]);
    let gain = |i: usize| if i / SYMBOLS == POSITIONS - 1 { last } else { 8.0 };
    let own = (0..FEATURES * FEATURES).map(|at| if at % (FEATURES + 1) == 0 { gain(at / FEATURES) } else { 0.0 });
    let x = linear(&mut b, "read", x, (FEATURES, FEATURES), own.collect());
    finish(b, x)
}

/// A student that has to press all of it through fewer numbers.
fn student() -> Graph {
    let mut b = Builder::new("small");
    let x = b.input("x", &[Dim::Batch, Dim::Fixed(FEATURES)]);
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut some = |count: usize| (0..count).map(|_| random.random_range(-0.3..0.3)).collect::<Vec<f32>>();
    let x = linear(&mut b, "press", x, (FEATURES, 12), some(FEATURES * 12));
    let x = b.node("relu", Op::Relu, &[x]).unwrap();
    let x = linear(&mut b, "spell", x, (12, FEATURES), some(FEATURES * 12));
    finish(b, x)
}

/// What `kdc distill` makes of a recipe, or of none, and the losses of each epoch.
fn distilled(reading: &str, last: f32, recipe: Option<&str>) -> (Value, String) {
    let workshop = Workshop::new();
    fs::create_dir(workshop.path("words")).unwrap();
    fs::write(workshop.path("words/train.csv"), table(400, 1)).unwrap();
    fs::write(workshop.path("words/test.csv"), table(100, 2)).unwrap();
    let sidecar = format!(
        "[data]\npath = \"words\"\nformat = \"csv\"\n[table]\nlabel = \"word\"\n[sequence]\nalphabet = \"_abc\"\n\
         reading = \"{reading}\"\nwords = [\"a\", \"ab\", \"c\", \"bca\", \"cb\"]\n"
    );
    fs::write(workshop.path("reader.toml"), sidecar).unwrap();
    fs::write(workshop.path("reader.onnx"), kdc::onnx::export(&teacher(last)).unwrap()).unwrap();
    fs::write(workshop.path("small.onnx"), kdc::onnx::export(&student()).unwrap()).unwrap();
    let command = ["distill", "reader.onnx", "--student", "small.onnx", "--engine", "tract"];
    let mut more = vec!["--epochs", "8", "--batch-size", "20", "--lr", "0.05", "--out", "out", "--json"];
    if let Some(recipe) = recipe {
        fs::write(workshop.path("recipe.toml"), recipe).unwrap();
        more.extend(["--recipe", "recipe.toml"]);
    }
    let output = succeed(workshop.kdc(&[&command[..], &more].concat()));
    let log = fs::read_to_string(workshop.path("out/train/log.csv")).unwrap();
    (serde_json::from_slice(&output.stdout).unwrap(), log)
}

#[test]
fn students_learn_to_spell_by_ctc_and_by_position() {
    let ctc = "[[term]]\nmethod = \"ctc\"\n[[term]]\nmethod = \"soft-label\"\nalpha = 1.0\n";
    for (reading, recipe) in [("ctc", Some(ctc)), ("positions", None)] {
        let (told, _) = distilled(reading, 8.0, recipe);
        assert_eq!(told["teacher"]["accuracy"].as_f64(), Some(1.0), "{reading}: {told}");
        assert!(told["distilled"]["accuracy"].as_f64().unwrap() > 0.8, "{reading}: {told}");
        // What the trials of a default compare is made for classes.
        assert!(told["trials"].as_array().unwrap().is_empty(), "{reading}: {told}");
    }
}

#[test]
fn what_a_teacher_says_after_the_end_of_a_word_teaches_nothing() {
    for labels in ["", "[data]\nlabels = 0\n"] {
        let recipe = format!("{labels}[[term]]\nmethod = \"soft-label\"\nalpha = 1.0\n");
        let [plain, other] = [8.0, -3.0].map(|last| distilled("positions", last, Some(&recipe)).1);
        let losses = |log: &str| -> Vec<String> {
            log.lines().map(|line| line.split(',').skip(1).take(3).collect::<Vec<_>>().join(",")).collect()
        };
        assert_eq!(losses(&plain), losses(&other), "{labels}");
    }
}
