//! What kdc leaves alone, what it believes, and what it does not ship.

use crate::workshop::{SIDE, Workshop, contents, report, reproducible, said, succeed};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Everything below a folder but what kdc keeps for itself.
fn users(workshop: &Workshop) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = contents(&workshop.path(""));
    files.retain(|path, _| !path.starts_with("cache") && !path.starts_with("config"));
    files
}

#[test]
fn files_that_kdc_did_not_write_are_left_alone_whatever_they_are_called() {
    let workshop = Workshop::new();
    fs::rename(workshop.path("teacher.onnx"), workshop.path("student.onnx")).unwrap();
    fs::rename(workshop.path("teacher.toml"), workshop.path("student.toml")).unwrap();
    fs::create_dir_all(workshop.path("theirs/crate/src")).unwrap();
    fs::write(workshop.path("theirs/crate/src/lib.rs"), "mine").unwrap();
    fs::create_dir_all(workshop.path("plan")).unwrap();
    fs::write(workshop.path("plan/plan.toml"), "mine").unwrap();
    fs::write(workshop.path("again.onnx"), "mine").unwrap();
    let before = users(&workshop);
    let compile = ["compile", "student.onnx", "--target", "host", "--no-build", "--engine", "tract"];
    let distill = ["distill", "student.onnx", "--engine", "tract"];
    let export = ["export", "student.onnx", "--emit", "onnx"];
    let cases: [(&[&str], &str, &str); 7] = [
        (&compile, ".", "./student."),
        (&compile, "theirs", "crate/src/lib.rs"),
        (&[&compile[..], &["--dry-run"]].concat(), "plan", "plan.toml"),
        (&distill, ".", "student.onnx"),
        (&export, "student.onnx", "holds the model"),
        (&[&export[..], &["--force"]].concat(), "./data/../student.onnx", "holds the model"),
        (&export, "again.onnx", "--force"),
    ];
    for (arguments, out, words) in cases {
        let output = workshop.kdc(arguments).args(["--out", out]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {out}\n{}", said(&output));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(error.contains(words) && error.contains("--out"), "{arguments:?} {out}\n{error}");
        assert!(users(&workshop) == before, "{arguments:?} {out} changed something\n{error}");
        assert!(!error.contains("distill"), "it had worked before\n{error}");
    }
    succeed(workshop.kdc(&[&export[..], &["--force", "--out", "again.onnx"]].concat()));
    assert!(kdc::onnx::load(&workshop.path("again.onnx")).is_ok());
}

#[test]
fn a_student_of_an_earlier_run_is_not_overwritten_while_it_is_read() {
    let workshop = Workshop::new();
    let plain = ["--no-build", "--emit", "onnx", "--precision", "f32", "--no-search", "--recipe", "labelled"];
    succeed(workshop.compile("host", &[&plain[..], &["--out", "out"]].concat()));
    let before = fs::read(workshop.path("out/student.onnx")).unwrap();
    for read in [["--student", "out/student.onnx"], ["--student-spec", "out/student.toml"]] {
        let output = workshop.compile("host", &[&plain[..], &["--out", "out"], &read].concat()).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains("which this run reads"), "{}", said(&output));
    }
    assert_eq!(fs::read(workshop.path("out/student.onnx")).unwrap(), before);
}

/// Runs until a line of standard error has `sign` in it, changes something, and lets it end.
fn changed_at(workshop: &Workshop, arguments: &[&str], sign: &str, change: impl FnOnce()) -> (Option<i32>, String) {
    let mut command = workshop.compile("host", arguments);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut text, mut change) = (String::new(), Some(change));
    for line in BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap) {
        if line.contains(sign) {
            change.take().into_iter().for_each(|change| change());
        }
        text += &(line + "\n");
    }
    let code = child.wait().unwrap().code();
    assert!(change.is_none(), "'{sign}' never came\n{text}");
    (code, text)
}

#[test]
fn a_model_that_changes_while_kdc_runs_poisons_nothing() {
    let workshop = Workshop::new();
    let plain = ["--no-build", "--no-search", "--recipe", "labelled", "--emit", "onnx", "--out"];
    let run = |out: &str| succeed(workshop.compile("host", &[&plain[..], &[out]].concat()));
    let model = workshop.path("teacher.onnx");
    let original = fs::read(&model).unwrap();
    // The same network with every weight turned round: as long, and wrong about everything.
    let mut other = kdc::onnx::load(&model).unwrap();
    for data in other.values.iter_mut().filter_map(|value| value.data.as_mut()) {
        let turned: Vec<f32> = data.to_f32().iter().map(|x| -x).collect();
        *data = std::sync::Arc::new(kdc::graph::Tensor::f32(data.shape.clone(), turned));
    }
    let other = kdc::onnx::export(&other).unwrap();
    run("clean");
    let clean = reproducible(&workshop.path("clean"));
    // In place, as a writer that starts over does; or cut short, which must not end in a signal.
    let changes: [(&str, &dyn Fn()); 4] = [
        ("import", &|| fs::write(&model, &other).unwrap()),
        ("import", &|| fs::write(&model, &original[..original.len() / 3]).unwrap()),
        ("label", &|| fs::write(&model, &other).unwrap()),
        ("epoch 1/4", &|| fs::write(&model, &original[..original.len() / 3]).unwrap()),
    ];
    for (index, (sign, change)) in changes.iter().enumerate() {
        fs::remove_dir_all(workshop.path("cache")).unwrap();
        let out = format!("changed-{index}");
        let (code, text) = changed_at(&workshop, &[&plain[..], &[&out]].concat(), sign, change);
        assert_eq!(code, Some(2), "{sign}\n{text}");
        assert!(text.contains("teacher.onnx was changed while kdc ran"), "{sign}\n{text}");
        assert!(!workshop.path(&out).join("student.onnx").exists(), "{sign}\n{text}");
        fs::write(&model, &original).unwrap();
        run(&out);
        assert!(reproducible(&workshop.path(&out)) == clean, "after '{sign}' a later run came to something else");
    }
}

#[test]
fn data_that_change_while_kdc_runs_are_noticed_before_anything_is_sealed() {
    let workshop = Workshop::new();
    let plain = ["--no-build", "--no-search", "--recipe", "labelled", "--emit", "onnx", "--out", "out"];
    let images = workshop.path("data/train-images-idx3-ubyte");
    let original = fs::read(&images).unwrap();
    let (code, text) = changed_at(&workshop, &plain, "epoch 1/4", || {
        let mut other = original.clone();
        other[20..].reverse();
        fs::write(&images, other).unwrap();
    });
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("data was changed while kdc ran"), "{text}");
    assert!(!workshop.path("out/student.onnx").exists(), "{text}");
}

/// Changes the middle of a file without changing its length: a digit where it is text.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    let digit = bytes.iter().position(u8::is_ascii_digit);
    match (std::str::from_utf8(&bytes).is_ok(), digit) {
        (true, Some(at)) => bytes[at] = if bytes[at] == b'7' { b'3' } else { b'7' },
        _ => bytes[middle] ^= 0x10,
    }
    fs::write(path, bytes).unwrap();
}

/// One file of every kind in the cache: of every stage, every name.
fn kinds(cache: &Path) -> Vec<PathBuf> {
    let mut kinds = BTreeMap::new();
    for path in contents(cache).into_keys().filter(|path| path.extension().is_none_or(|e| e != "lock")) {
        let parts: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        // kdc/STAGE/KEY/…; of sources and of labels one stands for all.
        let rest = match parts[1].as_str() {
            "labels" => "logits".into(),
            "emit" if parts[3..].concat().ends_with(".rs") => "source".into(),
            _ => parts[3..].join("/"),
        };
        kinds.entry((parts[1].clone(), rest)).or_insert(path);
    }
    kinds.into_values().collect()
}

/// What is done to a file.
type Damage = fn(&Path);

#[test]
fn a_damaged_cache_is_made_again_and_never_shipped() {
    let workshop = Workshop::new();
    let compile = |cache: &str, out: &str| {
        let more = ["--out", out, "--epochs", "2"];
        let mut command = workshop.kdc(&["compile", "teacher.onnx", "--target", "host", "--engine", "tract"]);
        command.args(["--batch-size", "32", "--max-quant-drop", "50"]).args(more);
        // Where the cache is decides nothing.
        command.env("XDG_CACHE_HOME", workshop.path(cache));
        command
    };
    succeed(compile("whole", "reference"));
    let reference = reproducible(&workshop.path("reference"));
    let kinds = kinds(&workshop.path("whole"));
    assert!(kinds.len() >= 15, "{kinds:?}");
    let damages: [(&str, Damage); 4] = [
        ("flipped", flip),
        ("cut short", |path| {
            let bytes = fs::read(path).unwrap();
            fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("emptied", |path| fs::write(path, "").unwrap()),
        ("removed", |path| fs::remove_file(path).unwrap()),
    ];
    // All of one damage at once: every stage that is believed is believed wrongly.
    for (index, (how, damage)) in damages.iter().enumerate() {
        let (cache, out) = (format!("cache {index}"), format!("out-{index}"));
        copy(&workshop.path("whole"), &workshop.path(&cache));
        kinds.iter().for_each(|file| damage(&workshop.path(&cache).join(file)));
        let output = succeed(compile(&cache, &out));
        let log = said(&output);
        assert!(reproducible(&workshop.path(&out)) == reference, "{how}\n{log}");
        for stage in ["search", "choose", "distill", "emit", "build", "measure"] {
            let line = format!("what the cache has of '{stage}' is damaged");
            assert!(log.contains(&line), "{how} {stage}\n{log}");
        }
    }
}

fn copy(from: &Path, to: &Path) {
    for (path, bytes) in contents(from) {
        let to = to.join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, bytes).unwrap();
    }
    // Programs stay programs.
    let programs = contents(from).into_keys().filter(|path| path.ends_with("student"));
    for path in programs {
        fs::set_permissions(to.join(&path), fs::metadata(from.join(&path)).unwrap().permissions()).unwrap();
    }
}

#[test]
fn a_program_that_differs_from_the_reference_does_not_get_its_name() {
    let workshop = Workshop::new();
    let plain = ["--no-search", "--recipe", "labelled", "--precision", "int8", "--json"];
    let made = report(&succeed(workshop.compile("host", &plain)));
    let out = workshop.path("teacher-host");
    assert!(out.join("bin/student").is_file());
    assert_eq!(made.accuracy.unwrap().equality.unwrap().differing, 0);
    // As if the compiler had made something else of it: another weight in the built program, which the cache vouches for.
    const PIECE: usize = 32;
    let weights = fs::read(out.join("crate/src/weights.bin")).unwrap();
    // Pieces that are found nowhere else.
    let varied = |piece: &&[u8]| piece.iter().collect::<std::collections::BTreeSet<_>>().len() > PIECE / 2;
    let some: Vec<&[u8]> = weights.windows(PIECE).step_by(8).filter(varied).collect();
    let builds = workshop.path("cache/kdc/build");
    for built in fs::read_dir(&builds).unwrap().map(|e| e.unwrap().path()).filter(|path| path.is_dir()) {
        let program = built.join("student");
        let mut bytes = fs::read(&program).unwrap();
        let start = some.iter().find_map(|some| bytes.windows(PIECE).position(|window| window == *some)).unwrap();
        bytes[start..start + PIECE].iter_mut().for_each(|byte| *byte ^= 0x40);
        fs::write(&program, &bytes).unwrap();
        let seal = fs::read_to_string(built.join("kdc.hashes")).unwrap();
        let hash = |line: &str| match line.strip_suffix("  student") {
            Some(_) => format!("{}  student\n", kdc::files::hash(&bytes)),
            None => format!("{line}\n"),
        };
        fs::write(built.join("kdc.hashes"), seal.lines().map(hash).collect::<String>()).unwrap();
    }
    fs::remove_file(out.join("plan.toml")).unwrap();
    for _ in 0..2 {
        let output = workshop.compile("host", &plain).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        let made = report(&output);
        assert!(made.accuracy.unwrap().equality.unwrap().differing > 0);
        assert!(made.skipped.iter().any(|s| s.what == "bin/student" && s.why.contains("differ")), "{:?}", made.skipped);
        assert!(made.files.iter().all(|file| file.path != "bin/student"));
        assert!(!out.join("bin/student").exists(), "it has the name of a program that is right");
        assert!(out.join("bin/student.refuted").is_file());
        assert!(said(&output).contains("not met: values that differ from the reference"), "{}", said(&output));
    }
}

#[test]
fn samples_in_folders_sorted_by_class_are_judged_whole() {
    let workshop = Workshop::new();
    // 320 test samples a class, one class after the other: the first 256 would be of one.
    let sorted = |prefix: &str, each: usize| {
        let path = |kind: &str| workshop.path(&format!("data/{prefix}-{kind}"));
        let pixels = fs::read(path("images-idx3-ubyte")).unwrap()[16..].to_vec();
        let labels = fs::read(path("labels-idx1-ubyte")).unwrap()[8..].to_vec();
        let order = repeated(&labels, each);
        let pixels = order.iter().flat_map(|&i| pixels[i * SIDE * SIDE..][..SIDE * SIDE].to_vec()).collect::<Vec<_>>();
        let labels = order.iter().map(|&i| labels[i]).collect::<Vec<_>>();
        fs::write(path("images-idx3-ubyte"), crate::workshop::idx(&[order.len(), SIDE, SIDE], &pixels)).unwrap();
        fs::write(path("labels-idx1-ubyte"), crate::workshop::idx(&[order.len()], &labels)).unwrap();
    };
    sorted("t10k", 320);
    let made = report(&succeed(
        workshop.compile("host", &["--no-search", "--recipe", "labelled", "--precision", "int8", "--json"]),
    ));
    let accuracy = made.accuracy.unwrap();
    let equality = accuracy.equality.unwrap();
    assert_eq!((equality.samples, equality.classes, equality.differing), (256, 4, 0));
    let [int8, program] = [kdc::report::Network::StudentInt8, kdc::report::Network::Program].map(|n| {
        let row = accuracy.row(n).unwrap();
        (row.samples, row.accuracy)
    });
    assert_eq!(int8, program);
    assert_eq!(program.0, 4 * 320);
}

/// The samples of each class again and again until there are `each` of it, class after class.
fn repeated(labels: &[u8], each: usize) -> Vec<usize> {
    let of = |class: u8| (0..labels.len()).filter(move |&i| labels[i] == class).cycle().take(each);
    (0..4).flat_map(of).collect()
}
