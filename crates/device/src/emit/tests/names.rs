//! Names from files, through every writer of this module.

use super::*;
use crate::program::{BufferId, Precision};
use burn::tensor::Device;
use kdc_exec::Network;
use kdc_ir::graph::{Builder, Dim, Graph, Op, Tensor};
use kdc_ir::testing::nasty;

/// Whether a text has nothing in it that changes how the rest is read.
fn is_plain(text: &str) -> bool {
    text.chars()
        .all(|c| c == '\n' || (!c.is_control() && !"\u{202e}\u{2066}\u{2069}\u{200b}\u{feff}\u{2028}".contains(c)))
}

/// A program with a step of each name, and with this name for itself and its ports.
fn named(name: &str, steps: &[String]) -> Program {
    let mut maker = corpus::Maker::new(name, Precision::Int8, [2, 2, 1], 3);
    for step in steps {
        let last = maker.add(maker.last(), BufferId(0));
        maker.program.steps.last_mut().unwrap().name.clone_from(step);
        maker.program.buffers[last.index()].name.clone_from(step);
    }
    let mut program = maker.finish();
    program.inputs[0].name = name.into();
    program.output.name = format!("{name}{name}");
    program
}

#[test]
fn a_crate_with_names_of_every_class_builds_and_says_them_again() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("crate");
    // The longest would make the compiler slow, not wrong; they are in the test below.
    let names: Vec<String> = nasty().into_iter().filter(|name| name.len() < 1000).collect();
    let whole = names.concat();
    let program = named(&whole, &names);
    let options = CrateOptions { name: whole.clone(), source: Some(whole.clone()) };
    write_crate(&program, &program::plan(&program).unwrap(), &dir, &options).unwrap();
    output(&mut cargo(&dir, "runner"));
    let info: serde_json::Value =
        serde_json::from_str(&output(Command::new(dir.join("target/release/student")).arg("info"))).unwrap();
    assert_eq!((info["name"].as_str(), info["inputs"][0]["name"].as_str()), (Some(&*whole), Some(&*whole)));
    assert_eq!(info["output"]["name"].as_str(), Some(&*format!("{whole}{whole}")));
    let mut doc = Command::new(env!("CARGO"));
    doc.current_dir(&dir).env("CARGO_TARGET_DIR", dir.join("target")).env("RUSTDOCFLAGS", "-Dwarnings");
    output(doc.args(["doc", "--offline", "--no-deps", "--manifest-path", "Cargo.toml"]));
    if Command::new("cc").arg("--version").output().is_err() {
        return eprintln!("skipped: the header, for want of a C compiler");
    }
    let header = format!("include/{}.h", kdc_ir::escape::identifier(&whole));
    let mut cc = Command::new("cc");
    output(cc.current_dir(&dir).args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-xc"]).arg(header));
}

#[test]
fn no_file_of_a_crate_has_a_mark_from_a_name() {
    for name in nasty() {
        let program = named(&name, std::slice::from_ref(&name));
        let options = CrateOptions { name: name.clone(), source: Some(name.clone()) };
        for (path, contents) in files(&program, &program::plan(&program).unwrap(), &options).unwrap() {
            assert!(path.to_str().is_some_and(|p| p.is_ascii() && p.len() < 100 && !p.contains("..")), "{path:?}");
            let Ok(text) = String::from_utf8(contents) else { continue };
            assert!(path.ends_with("weights.bin") || is_plain(&text), "{name:?} in {}", path.display());
            let manifest = path.ends_with("Cargo.toml") || path.ends_with("Cargo.lock");
            assert!(!manifest || toml::from_str::<toml::Value>(&text).is_ok(), "{name:?}: {text}");
            let ends = text.matches("*/").count();
            assert!(path.extension().is_none_or(|e| e != "h") || ends == text.matches("/*").count(), "{text}");
        }
    }
}

/// A small network whose nodes and values have these names, as far as they reach.
fn network(names: &[String]) -> Graph {
    let dims = [Dim::Batch, Dim::Fixed(1), Dim::Fixed(4), Dim::Fixed(4)];
    let mut b = Builder::new(names[0].clone());
    let x = b.input("x", &dims);
    let weights = Tensor::f32([2, 1, 3, 3], (0..18).map(|i| (i % 5) as f32 / 5.0 - 0.4).collect());
    let conv = b.conv2d("conv", x, weights, vec![0.1, -0.1], (1, 1, 1)).unwrap();
    let relu = b.node("relu", Op::Relu, &[conv]).unwrap();
    let pooled = b.node("pool", Op::GlobalAveragePool, &[relu]).unwrap();
    let flat = b.node("flat", Op::Flatten { axis: 1 }, &[pooled]).unwrap();
    let w = b.constant("w", Tensor::f32([3, 2], vec![1.0, -2.0, 0.5, 3.0, -1.0, 0.25]));
    let gemm = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
    let out = b.node("out", gemm, &[flat, w]).unwrap();
    let mut graph = b.finish(&[out]);
    let mut fresh = names.iter().cycle().filter(|name| !name.is_empty()).enumerate();
    let mut next =
        || fresh.next().map(|(i, name)| if i < names.len() { name.clone() } else { format!("{name}{i}") }).unwrap();
    let ports: Vec<_> = graph.inputs.iter().chain(&graph.outputs).copied().collect();
    for id in &ports {
        graph.value_mut(*id).name = next();
    }
    for i in 0..graph.values.len() {
        if !ports.contains(&kdc_ir::graph::ValueId(i as u32)) {
            graph.values[i].name = next();
        }
    }
    for node in &mut graph.nodes {
        node.name = next();
    }
    graph
}

#[test]
fn nnef_with_names_of_every_class_reads_back_and_answers_as_the_network() {
    let all = nasty();
    let input = Tensor::f32([3, 1, 4, 4], (0..48).map(|i| ((i * 37) % 11) as f32 / 3.0 - 1.0).collect());
    for first in 0..all.len() {
        let names: Vec<String> = all.iter().cycle().skip(first).take(14).cloned().collect();
        let graph = network(&names);
        let onnx = kdc_ir::onnx::export(&graph).unwrap();
        let nnef = nnef::nnef(&onnx, &[graph.value(graph.inputs[0]).shape.clone()]).unwrap();
        let theirs =
            nnef::reload_and_run(&nnef, std::slice::from_ref(&input)).unwrap_or_else(|e| panic!("{names:?}: {e}"));
        let network = Network::new(&graph, &Device::flex()).unwrap();
        let ours = network.forward(vec![input.clone()], &[], kdc_exec::Mode::Infer).unwrap();
        let ours = ours.outputs[0].to_host().unwrap();
        let off = ours.to_f32().iter().zip(theirs.to_f32().iter()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(ours.shape == theirs.shape && off < 1e-5, "{names:?}: {off}");
    }
}

#[test]
fn nnef_says_what_ports_were_called() {
    use std::io::Read;
    let text = |names: [&str; 2]| {
        let graph = network(&names.map(String::from));
        let nnef = nnef::nnef(&kdc_ir::onnx::export(&graph).unwrap(), &[graph.value(graph.inputs[0]).shape.clone()]);
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::io::Cursor::new(nnef.unwrap())));
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        text
    };
    let kept = text(["image", "logits"]);
    assert!(kept.starts_with("version") && kept.contains("(image) -> (logits)"), "{kept}");
    let made = text(["сonv\n0", "x"]);
    assert!(
        made.contains("#   kdc_input0__onv_0 = \"сonv\\n0\"\n") && made.contains("(kdc_input0__onv_0) -> (x)"),
        "{made}"
    );
    // One is the other with a suffix, which tract's writer may make of it.
    assert!(text(["x", "x_weights"]).contains("(kdc_input0_x) -> (x_weights)"));
}
