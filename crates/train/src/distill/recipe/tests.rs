//! Recipes as they are written and read.

use super::*;
use crate::distill::{Error, Schedule};
use std::path::Path;

fn parse(text: &str) -> Result<Recipe, Error> {
    Recipe::parse(text, Path::new("r.toml"))
}

#[test]
fn a_recipe_is_written_as_it_is_read() {
    let text = r#"
title = "all of it"
[[teacher]]
name = "second"
model = "b.onnx"
[[teacher]]
name = "pal"
kind = "peer"
[data]
labels = 100
labelled-share = 0.5
mixup = 0.2
[[stage]]
name = "first"
share = 0.25
lr = 0.5
freeze = ["student"]
samples = 0.5
until = { accuracy = 0.9 }
keep = "young"
[[stage.term]]
method = "soft-label"
teacher = ["teacher", "second"]
weighing = [0.25, 0.75]
temperature = { linear = { from = 8.0, to = 2.0 } }
[[stage]]
anew = true
[[stage.term]]
method = "hard-label"
[[stage.term]]
method = "dkd"
teacher = "young"
weight = { warmup = { to = 1.0, over = 0.1 } }
beta = 8.0
"#;
    let recipe = parse(text).unwrap();
    assert_eq!(recipe.stages.len(), 2);
    assert_eq!(recipe.stages[0].terms[0].teachers, ["teacher", "second"]);
    assert_eq!(recipe.epochs(8), [2, 6]);
    assert_eq!(recipe.stages[1].terms[1].weight, Schedule::Warmup { to: 1.0, over: 0.1 });
    assert_eq!(parse(&recipe.text()).unwrap(), recipe);
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    let cases = [
        ("[[term]]\nmethod = \"dkd\"\nalpha = 1\nbta = 2\n", 4, "bta"),
        ("[[term]]\nmethod = \"dkd\"\nbeta = \"two\"\n", 3, "dkd"),
        ("[[term]]\nmethod = \"magic\"\n", 2, "there is no method 'magic'; there are soft-label, dkd"),
        ("\n[[term]]\nweight = 1\n", 2, "method"),
        ("title = \"x\"\n[dta]\nlabels = 3\n", 2, "dta"),
        ("[data]\nlabels = \"many\"\n", 2, "invalid type"),
        ("title = \"x\"\n", 1, "it has no term"),
        ("[[term]]\nmethod = \"dkd\"\nteacher = \"B\"\n", 1, "learns from 'B', and there is teacher then"),
        ("[[term]]\nmethod = \"dkd\"\n[[teacher]]\nname = \"B\"\n", 1, "'B' has no model"),
        ("[[term]]\nmethod = \"dkd\"\nweight = nan\n", 3, "weight"),
        ("[[term]]\nmethod = \"dkd\"\ntemperature = { step = { from = 1.0, at = [0.5], values = [] } }\n", 3, "dkd"),
        (
            "[[term]]\nmethod = \"dkd\"\nteacher = \"*\"\nweighing = \"odd\"\n",
            4,
            "a number for each teacher, as [0.8, 0.2]",
        ),
        ("[[term]]\nmethod = \"dkd\"\nweight = { falling = 1.0 }\n", 3, "there are linear, cosine, step, warmup"),
        ("[data]\nlabels = -5\n[[term]]\nmethod = \"dkd\"\n", 1, "labels -5 is no count"),
        ("[data.synthetic]\nbound = -1\n[[term]]\nmethod = \"dkd\"\n", 1, "lr, bound and rate above 0"),
        ("[[stage]]\nlr = 0.0\n[[stage.term]]\nmethod = \"dkd\"\n", 1, "lr 0"),
        ("[[stage]]\nkeep = \"teacher\"\n[[stage.term]]\nmethod = \"dkd\"\n", 1, "there is one of that name"),
        ("[data]\nnew-classes = true\n[[term]]\nmethod = \"dkd\"\n", 1, "'dkd' reads the teacher's answers"),
        ("[[teacher]]\nname = \"t\"\nkind = \"tuned\"\nmodel = \"m\"\n[[term]]\nmethod = \"dkd\"\n", 1, "'t' is tuned"),
        (
            "[[teacher]]\nname = \"a\"\nkind = \"autoencoder\"\n[[term]]\nmethod = \"dkd\"\nteacher = \"a\"\n",
            1,
            "'dkd' reads the answers of 'a', which is an autoencoder",
        ),
        ("[[teacher]]\nname = \"a\"\nkind = \"peer\"\nepochs = 2\n[[term]]\nmethod = \"dkd\"\n", 1, "'a' has epochs"),
        ("[[stage]]\nepochs = 2\nshare = 0.5\n[[stage.term]]\nmethod = \"dkd\"\n", 1, "either epochs"),
    ];
    for (text, line, word) in cases {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.starts_with(&format!("r.toml:{line}: ")) && error.contains(word), "{text}: {error}");
    }
}

#[test]
fn a_star_stands_for_all_trained_networks() {
    let text = "[[teacher]]\nname = \"p\"\nkind = \"peer\"\n[[term]]\nmethod = \"dkd\"\nteacher = \"*\"\n";
    let recipe = parse(text).unwrap();
    let error = recipe.clone().with_teachers(&[]).unwrap_err().to_string();
    assert!(error.contains("name the others with --teacher FILE"), "{error}");
    let recipe = recipe.with_teachers(&["a.onnx".into(), "b.onnx".into()]).unwrap();
    assert_eq!(recipe.stages[0].terms[0].teachers, ["teacher", "second", "third"]);
    let model = recipe.teachers[2].model.as_deref().unwrap();
    assert!(model.is_absolute() && model.ends_with("b.onnx"), "{}", model.display());
    assert!(recipe.with_teachers(&["c.onnx".into()]).unwrap_err().to_string().contains("'second'"));
}
