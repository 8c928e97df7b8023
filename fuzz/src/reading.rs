//! Reads what somebody may have damaged, for the fuzzer and for the tests that replay its findings.

use kdc::data::{self, Sidecar};
use kdc::distill::Recipe;
use kdc::graph::{Builder, DType, Dim, Graph, Op, Tensor};
use std::fs;
use std::path::Path;

/// A format of samples, by how its files begin; what begins like none may be a table.
fn format(file: &[u8]) -> &'static str {
    match file {
        [0x89, b'P', b'N', b'G', ..] | [0xff, 0xd8, ..] => "images",
        [b'R', b'I' | b'F', b'F' | b'6', ..] => "wav",
        [b'P', b'K', ..] => "npz",
        [0x93, b'N', b'U', b'M', ..] => "npy",
        [b'P', b'A', b'R', b'1', ..] => "parquet",
        [0x1f, 0x8b, ..] | [0, 0, 8, ..] => "idx",
        [b'{', ..] if file.windows(7).any(|part| part == b"\"model\"") => "tokenizer",
        [b'{', ..] => "jsonl",
        _ => "csv",
    }
}

/// `[batch, …]` of this type to two classes.
fn network(name: &str, shape: &[usize], dtype: DType) -> Graph {
    let mut b = Builder::new("net");
    let dims: Vec<Dim> = std::iter::once(Dim::Batch).chain(shape.iter().map(|&n| Dim::Fixed(n))).collect();
    let x = b.input(name, &dims);
    let size = shape.iter().product();
    let flat = b.node("flat", Op::Flatten { axis: 1 }, &[x]).expect("any extents are flattened");
    let weights = b.constant("w", Tensor::f32([size, 2], vec![0.0; 2 * size]));
    let y = b.node("product", Op::MatMul, &[flat, weights]).expect("the extents agree");
    let mut graph = b.finish(&[y]);
    graph.value_mut(x).dtype = dtype;
    graph
}

const TEXTS: &str = "text,y\ngood film,0\n\"schlecht, sehr\u{301} 🦀\",1\n,0\nverylongwordwithoutanyend,1\n";

/// Writes a file below a folder.
fn put(root: &Path, name: &str, contents: &[u8]) {
    let path = root.join(name);
    path.parent().map(fs::create_dir_all).transpose().and_then(|_| fs::write(path, contents)).expect("room for files");
}

/// Reads a file of samples, or a tokenizer and some texts.
pub fn samples(file: &[u8]) {
    let Ok(folder) = tempfile::tempdir() else { return };
    let root = folder.path();
    let put = |name: &str, contents: &[u8]| put(root, name, contents);
    let format = format(file);
    let split = "[split]\nratio = 0.5\n";
    let (more, path, shape): (String, &str, &[usize]) = match format {
        "images" | "wav" => {
            put("a.png", file);
            put("train/a.png", file);
            put("train/a.wav", file);
            put("test/a.png", file);
            put("test/a.wav", file);
            match format {
                "wav" => ("[audio]\nrate = 8000\nseconds = 0.001\nfeatures = \"waveform\"\n".into(), "", &[8]),
                _ => ("[input]\nlayout = \"nchw\"\n".into(), "", &[3, 5, 6]),
            }
        }
        "idx" => {
            for name in [
                "train-images-idx3-ubyte",
                "t10k-images-idx3-ubyte",
                "train-labels-idx1-ubyte",
                "t10k-labels-idx1-ubyte",
            ] {
                put(&format!("{name}{}", if file[0] == 0 { "" } else { ".gz" }), file);
            }
            ("[input]\nlayout = \"nchw\"\n".into(), "", &[1, 2, 2])
        }
        "npy" => {
            put("x.npy", file);
            put("y.npy", file);
            (split.into(), "", &[3])
        }
        "npz" => {
            put("a.npz", file);
            (split.into(), "a.npz", &[3])
        }
        "tokenizer" => {
            put("tokenizer.json", file);
            put("a.csv", TEXTS.as_bytes());
            let text = "[text]\ncolumn = \"text\"\ntokenizer = \"tokenizer.json\"\n[table]\nlabel = \"y\"\n";
            (format!("{text}{split}"), "a.csv", &[6])
        }
        table => {
            put("a", file);
            put(&format!("a.{table}"), file);
            (
                format!("[table]\nlabel = \"y\"\n{split}"),
                ["a.csv", "a.jsonl", "a.parquet"][match table {
                    "csv" => 0,
                    "jsonl" => 1,
                    _ => 2,
                }],
                &[2],
            )
        }
    };
    let said = match format {
        "npy" => "npz",
        "tokenizer" => "csv",
        other => other,
    };
    let sidecar = root.join("net.toml");
    put("net.toml", format!("[data]\npath = \"x\"\nformat = \"{said}\"\n{more}").as_bytes());
    let sidecar = Sidecar::load(&sidecar).expect("a sidecar that is sound");
    let dtype = if format == "tokenizer" { DType::I64 } else { DType::F32 };
    if let Ok(splits) = data::load(&sidecar, &root.join(path), &network("x", shape, dtype)) {
        used(&splits);
    }
}

/// Looks at what was read as a training does.
fn used(splits: &data::Splits) {
    for part in [&splits.train, &splits.test] {
        let looks = data::SampleView::plain(0..part.len().min(8));
        let views = data::SampleView::at(&[0], data::View { seed: 1, number: 1 });
        assert_eq!(part.batch(&looks).len(), part.inputs().len());
        _ = (part.batch(&views), part.show(0), part.hash(), part.label(0), part.augmentation());
    }
}

/// Reads a sidecar and, by it, sound samples of its format; and the same text as a recipe.
pub fn settings(file: &[u8]) {
    if let Ok(text) = std::str::from_utf8(file)
        && let Ok(recipe) = Recipe::parse(text, Path::new("recipe.toml"))
    {
        // What a compilation writes down can be read again.
        let text = recipe.text();
        assert!(Recipe::parse(&text, Path::new("recipe.toml")).is_ok(), "{text}");
    }
    let Ok(folder) = tempfile::tempdir() else { return };
    let root = folder.path();
    let put = |name: &str, contents: &[u8]| put(root, name, contents);
    put("net.toml", file);
    let Ok(sidecar) = Sidecar::load(&root.join("net.toml")) else { return };
    put("tokenizer.json", include_bytes!("../seeds/data/tokenizer.json"));
    let csv = "text,a,b,y\ngood film,1,2,0\nbad,3,4,1\nvery bad,5,6,1\ngood,7,8,0\n";
    let (wav, png) = (include_bytes!("../seeds/data/pcm16.wav"), include_bytes!("../seeds/data/rgb.png"));
    for part in ["train", "test"] {
        for class in ["0", "1"] {
            put(&format!("wav/{part}/{class}/{class}_x_2.wav"), wav);
            put(&format!("images/{part}/{class}/{class}_x_2.png"), png);
        }
        put(&format!("csv/{part}.csv"), csv.as_bytes());
    }
    put("npz/x_train.npy", include_bytes!("../seeds/data/floats.npy"));
    put("npz/x_test.npy", include_bytes!("../seeds/data/floats.npy"));
    put("one.csv", csv.as_bytes());
    let (paths, shapes): (&[&str], &[&[usize]]) = match sidecar.source.format.extension() {
        "wav" => (&["wav"], &[&[8], &[40, 1]]),
        "images" => (&["images"], &[&[3, 5, 6], &[5, 6, 3]]),
        "npz" => (&["npz"], &[&[3]]),
        "csv" | "jsonl" | "parquet" => (&["csv", "one.csv"], &[&[2], &[6]]),
        _ => return,
    };
    for path in paths {
        for shape in shapes {
            for dtype in [DType::F32, DType::I64] {
                if let Ok(splits) = data::load(&sidecar, &root.join(path), &network("input_ids", shape, dtype)) {
                    used(&splits);
                }
            }
        }
    }
}
