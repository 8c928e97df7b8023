//! Files as other programs write them, and files that should not be read at all.

use super::*;
use serde::Deserialize;
use std::fs;
use std::time::{Duration, Instant};

/// `[batch, …]` to `[batch,classes]`.
fn network_for(shape: &[usize], classes: usize) -> Graph {
    let mut b = Builder::new("net");
    let dims: Vec<Dim> = std::iter::once(Dim::Batch).chain(shape.iter().map(|&n| Dim::Fixed(n))).collect();
    let x = b.input("x", &dims);
    let size = shape.iter().product();
    let x = b.node("flat", Op::Flatten { axis: 1 }, &[x]).unwrap();
    let weights = b.constant("w", Tensor::f32([size, classes], vec![0.0; size * classes]));
    let y = b.node("product", Op::MatMul, &[x, weights]).unwrap();
    b.finish(&[y])
}

fn parsed(text: &str) -> Sidecar {
    Sidecar::parse(Path::new("net.toml"), text).unwrap()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect()
}

fn put(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn values(part: &Arc<dyn Dataset>) -> Vec<f32> {
    part.batch(&SampleView::plain(0..part.len())).remove(0).to_f32().into_owned()
}

/// A case of `wav.json`, which `wav.py` made with SciPy.
#[derive(Deserialize)]
struct Sound {
    name: String,
    file: String,
    values: Vec<f32>,
}

#[test]
fn sounds_are_what_scipy_reads() {
    let cases: Vec<Sound> = serde_json::from_str(include_str!("wav.json")).unwrap();
    assert!(cases.len() > 60);
    for case in &cases {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "train/a.wav", &bytes(&case.file));
        put(folder.path(), "test/a.wav", &bytes(&case.file));
        let length = case.values.len();
        let seconds = length as f64 / 8000.0;
        let text = format!(
            "[data]\npath = \"x\"\nformat = \"wav\"\n[audio]\nrate = 8000\nseconds = {seconds}\nfeatures = \"waveform\"\n"
        );
        let splits =
            load(&parsed(&text), folder.path(), &network_for(&[length], 2)).map_err(|e| format!("{}: {e}", case.name));
        let read = values(&splits.unwrap().train);
        let worst = read.iter().zip(&case.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= 1e-6, "{}: {read:?} instead of {:?}", case.name, case.values);
    }
}

#[test]
fn sounds_that_are_cut_or_coded_otherwise_are_named() {
    let cases: Vec<Sound> = serde_json::from_str(include_str!("wav.json")).unwrap();
    let text =
        "[data]\npath = \"x\"\nformat = \"wav\"\n[audio]\nrate = 8000\nseconds = 0.0005\nfeatures = \"waveform\"\n";
    let message = |file: &[u8]| {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "train/a.wav", file);
        put(folder.path(), "test/a.wav", &bytes(&cases[0].file));
        load(&parsed(text), folder.path(), &network_for(&[4], 2)).unwrap_err().to_string()
    };
    let good = bytes(&cases[0].file);
    let changed = |at: usize, to: &[u8]| {
        let mut file = good.clone();
        file[at..at + to.len()].copy_from_slice(to);
        message(&file)
    };
    // Format, channels, block and bits of the chunk "fmt " start at the byte 20.
    assert!(changed(20, &[7, 0]).contains("0x0007 (µ-law)"));
    assert!(changed(20, &[6, 0]).contains("A-law"));
    assert!(changed(22, &[0, 0]).contains("0 channels"));
    assert!(changed(32, &[3, 0]).contains("8 bits in frames of 3 bytes"), "{}", changed(32, &[3, 0]));
    assert!(changed(36, b"LIST").contains("ends before a chunk"));
    assert!(message(&good[..good.len() - 2]).contains("ends too early"));
    assert!(message(b"fLaC\0\0\0\x22aaaa").contains("FLAC") && message(b"ID3\x04aaaaaaaaa").contains("MP3"));
    for length in 0..good.len() - 1 {
        // Wherever it is cut.
        assert!(message(&good[..length]).contains("a.wav"), "{length}");
    }
}

/// A case of `pictures.json`, which `pictures.py` made with Pillow.
#[derive(Deserialize)]
struct Picture {
    name: String,
    file: String,
    rgb: String,
    turned: bool,
}

#[test]
fn pictures_are_what_pillow_reads() {
    let cases: Vec<Picture> = serde_json::from_str(include_str!("pictures.json")).unwrap();
    assert!(cases.len() > 15);
    let text = "[data]\npath = \"x\"\nformat = \"images\"\n[input]\nlayout = \"nchw\"\n";
    for case in &cases {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "train/a.png", &bytes(&case.file));
        put(folder.path(), "test/a.png", &bytes(&case.file));
        let splits = load(&parsed(text), folder.path(), &network_for(&[3, 5, 6], 2));
        let splits = splits.map_err(|e| format!("{}: {e}", case.name)).unwrap();
        assert_eq!(splits.train.images().unwrap().samples().pixels, bytes(&case.rgb), "{}", case.name);
        let said = splits.notes.iter().any(|note| note.contains("2 of 2 images say by EXIF"));
        assert_eq!(said, case.turned, "{}: {:?}", case.name, splits.notes);
    }
}

#[test]
fn what_systems_leave_in_folders_is_not_seen() {
    let cases: Vec<Picture> = serde_json::from_str(include_str!("pictures.json")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for part in ["train", "val"] {
        for class in ["a", "b"] {
            put(folder.path(), &format!("{part}/{class}/1.jpg"), &bytes(&cases[0].file));
            for litter in
                ["Thumbs.db", "thumbs.db", "desktop.ini", ".DS_Store", "._1.jpg", "__MACOSX/x.jpg", "@eaDir/1.jpg"]
            {
                put(folder.path(), &format!("{part}/{class}/{litter}"), b"no image");
                put(folder.path(), &format!("{part}/{litter}"), b"no image");
            }
        }
    }
    let text = "[data]\npath = \"x\"\nformat = \"images\"\n[input]\nlayout = \"nchw\"\n";
    let splits = load(&parsed(text), folder.path(), &network_for(&[3, 5, 6], 2)).unwrap();
    assert_eq!((splits.train.len(), splits.test.len(), splits.class_names), (2, 2, vec!["a".to_string(), "b".into()]));
}

/// A table of one feature with these labels, as CSV; each is in both parts.
fn labelled(labels: &[&str], outputs: usize) -> Result<(Vec<u16>, Vec<String>), Error> {
    let folder = tempfile::tempdir().unwrap();
    let rows: String = labels.iter().map(|label| format!("1.5,{label}\n")).collect();
    put(folder.path(), "train.csv", format!("x,y\n{rows}").as_bytes());
    put(folder.path(), "validation.csv", format!("x,y\n{rows}").as_bytes());
    let text = "[data]\npath = \"x\"\nformat = \"csv\"\n[table]\nlabel = \"y\"\n";
    let splits = load(&parsed(text), folder.path(), &network_for(&[1], outputs))?;
    let classes = (0..splits.test.len()).map(|i| splits.test.label(i).unwrap()).collect();
    Ok((classes, splits.notes))
}

#[test]
fn labels_that_are_numbers_are_classes_by_their_size() {
    // As pandas writes them when one is missing somewhere.
    for suffix in ["", ".0", ".00", "e0"] {
        for count in [2, 11, 12, 101] {
            let labels: Vec<String> = (0..count).map(|k| format!("{k}{suffix}")).collect();
            let labels: Vec<&str> = labels.iter().rev().map(String::as_str).collect();
            let (classes, notes) = labelled(&labels, count).unwrap();
            assert_eq!(classes, (0..count as u16).rev().collect::<Vec<_>>(), "{suffix}");
            assert_eq!(notes.iter().any(|note| note.contains("read as numbers")), !suffix.is_empty(), "{notes:?}");
        }
    }
    assert_eq!(labelled(&["10.5", "9.5", "-1"], 3).unwrap().0, [2, 1, 0]);
    assert_eq!(labelled(&["3", "3.0", "1", "2", "4"], 4).unwrap().0, [2, 2, 0, 1, 3]);
    // Beyond what f64 tells apart.
    let large = ["9007199254740993", "9007199254740992", "-9223372036854775808", "18446744073709551615"];
    assert_eq!(labelled(&large, 4).unwrap().0, [2, 1, 0, 3]);
    // One word makes them all words.
    assert_eq!(labelled(&["10", "9", "x"], 3).unwrap().0, [0, 1, 2]);
}

#[test]
fn a_label_that_is_no_class_is_named_with_its_row() {
    let message = labelled(&["0", "1", "7", "1", "2"], 3).unwrap_err().to_string();
    assert!(message.contains("train.csv:4: label \"7\""), "{message}");
    let message = labelled(&["0", "-1", "1"], 2).unwrap_err().to_string();
    assert!(message.contains("train.csv:3: label \"-1\""), "{message}");
}

#[test]
fn a_row_fills_the_extents_of_its_network() {
    let folder = tempfile::tempdir().unwrap();
    let head: Vec<String> = (0..12).map(|i| format!("f{i}")).collect();
    let row: Vec<String> = (0..12).map(|i| i.to_string()).collect();
    let table = format!("{},y\n{},0\n{},1\n", head.join(","), row.join(","), row.join(","));
    put(folder.path(), "train.csv", table.as_bytes());
    put(folder.path(), "val.csv", table.as_bytes());
    let text = "[data]\npath = \"x\"\nformat = \"csv\"\n[table]\nlabel = \"y\"\n";
    let read =
        |more: &str, shape: &[usize]| load(&parsed(&format!("{text}{more}")), folder.path(), &network_for(shape, 2));
    for shape in [&[3, 4][..], &[12], &[1, 12], &[2, 3, 2], &[12, 1, 1]] {
        let splits = read("", shape).unwrap();
        assert_eq!(splits.train.inputs()[0].shape, shape);
        assert_eq!(values(&splits.train)[..12], (0..12).map(|i| i as f32).collect::<Vec<_>>());
    }
    // A mean for each channel of three.
    let splits = read("[input]\nmean = [0.0, 4.0, 8.0]\nstd = [1.0, 1.0, 2.0]\n", &[3, 4]).unwrap();
    assert_eq!(values(&splits.train)[..12], [0., 1., 2., 3., 0., 1., 2., 3., 0., 0.5, 1., 1.5]);
    let error = read("", &[5, 2]).unwrap_err().to_string();
    assert!(error.contains("[batch,5,2]") && error.contains("[batch,12]"), "{error}");
}

#[test]
fn networks_that_are_no_classifiers_are_refused_by_what_they_are() {
    let text = "[data]\npath = \"x\"\nformat = \"csv\"\n[table]\nlabel = \"y\"\n";
    // There is no such folder: the network is looked at first.
    let refusal = |network: &Graph| match load(&parsed(text), Path::new("/nowhere"), network) {
        Err(Error::Unsupported { what }) => what,
        other => panic!("{other:?}"),
    };
    let one = network_for(&[4], 1);
    assert!(refusal(&one).contains("a single number"));
    let after = |ops: &[Op]| {
        let mut b = Builder::new("net");
        let mut y = b.input("x", &[Dim::Batch, Dim::Fixed(1)]);
        for (i, op) in ops.iter().enumerate() {
            y = b.node(&format!("more{i}"), op.clone(), &[y]).unwrap();
        }
        b.finish(&[y])
    };
    assert!(refusal(&after(&[Op::Sigmoid])).contains("a single sigmoid"));
    let moved = [Op::Sigmoid, Op::Squeeze { axes: vec![1] }, Op::Identity];
    assert!(refusal(&after(&moved)).contains("a single sigmoid"));
    // The identity of what a network takes, in these extents.
    let shaped = |input: &[usize], output: &[usize]| {
        let mut b = Builder::new("net");
        let dims = |extents: &[usize]| -> Vec<Dim> {
            std::iter::once(Dim::Batch).chain(extents.iter().map(|&n| Dim::Fixed(n))).collect()
        };
        let x = b.input("x", &dims(input));
        let y = b.node("shaped", Op::Reshape { shape: dims(output) }, &[x]).unwrap();
        b.finish(&[y])
    };
    for output in [&[3, 16, 16][..], &[1, 16, 48], &[16, 16, 3], &[2, 2, 192]] {
        assert!(refusal(&shaped(&[3, 16, 16], output)).contains("each place of an image"), "{output:?}");
    }
    assert!(refusal(&shaped(&[1, 16, 16], &[16, 16])).contains("each place of an image"));
    assert!(refusal(&shaped(&[3, 16, 16], &[128, 6])).contains("a detector's boxes"));
    assert!(refusal(&shaped(&[24], &[6, 4])).contains("several positions"));
    for output in [&[48][..], &[48, 1, 1], &[1, 48], &[1, 1, 48]] {
        let error = load(&parsed(text), Path::new("/nowhere"), &shaped(&[3, 16], output)).unwrap_err();
        assert!(!matches!(error, Error::Unsupported { .. }), "{output:?}: {error}");
    }
}

#[test]
fn what_is_no_regular_file_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let name = std::ffi::CString::new(pipe.as_os_str().as_encoded_bytes()).unwrap();
    // SAFETY: the name is a string with its end.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let start = Instant::now();
    for (path, kind) in
        [(pipe.as_path(), "a named pipe"), (Path::new("/dev/zero"), "a device"), (folder.path(), "a folder")]
    {
        let named = |error: String| assert!(error.contains(kind), "{error}");
        named(kdc_ir::files::open(path).unwrap_err().to_string());
        named(Sidecar::load(path).unwrap_err().to_string());
        named(kdc_ir::onnx::load(path).unwrap_err().to_string());
        named(crate::teacher::content_hash(path).unwrap_err().to_string());
        let table =
            |format: &str| parsed(&format!("[data]\npath = \"x\"\nformat = \"{format}\"\n[split]\nratio = 0.5\n"));
        for format in ["csv", "jsonl", "parquet"] {
            if !path.is_dir() {
                named(load(&table(format), path, &network_for(&[1], 2)).unwrap_err().to_string());
            }
        }
        if !path.is_dir() {
            named(load(&table("npz"), path, &network_for(&[1], 2)).unwrap_err().to_string());
        }
    }
    for (format, name, more) in [
        ("images", "1.png", "[input]\nlayout = \"nchw\"\n"),
        ("wav", "1.wav", "[audio]\nrate = 8000\nseconds = 0.1\nfeatures = \"waveform\"\n"),
    ] {
        let samples = tempfile::tempdir().unwrap();
        for part in ["train", "test"] {
            fs::create_dir(samples.path().join(part)).unwrap();
            fs::rename(&pipe, samples.path().join(part).join(name))
                .or_else(|_| std::os::unix::fs::symlink("/dev/zero", samples.path().join(part).join(name)))
                .unwrap();
        }
        let shape: &[usize] = if format == "images" { &[3, 4, 4] } else { &[800] };
        let text = format!("[data]\npath = \"x\"\nformat = \"{format}\"\n{more}");
        let error = load(&parsed(&text), samples.path(), &network_for(shape, 2)).unwrap_err().to_string();
        assert!(error.contains("only regular files are read"), "{error}");
    }
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn small_files_that_promise_gigabytes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let start = Instant::now();
    // 4 GB of zeros as gzip would be 4 MB: the header alone decides.
    let header = [0, 0, 8, 3, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0];
    for name in ["train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz"] {
        put(folder.path(), name, &gzip(&header));
    }
    for name in ["train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"] {
        put(folder.path(), name, &idx(&[1], &[0]));
    }
    let error = idx_set(folder.path(), None).unwrap_err().to_string();
    assert!(error.contains("expand to 4294967296"), "{error}");
    // A PNG of 60,000 × 60,000.
    let chunk = |kind: &[u8], data: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(kind);
        crc.update(data);
        [&(data.len() as u32).to_be_bytes(), kind, data, &crc.sum().to_be_bytes()].concat()
    };
    let head = [&60_000u32.to_be_bytes()[..], &60_000u32.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
    let png = [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR", &head), &chunk(b"IDAT", &[0x78, 0x9c]), &chunk(b"IEND", b"")]
        .concat();
    put(folder.path(), "train/a.png", &png);
    put(folder.path(), "test/a.png", &png);
    let text = "[data]\npath = \"x\"\nformat = \"images\"\n[input]\nlayout = \"nchw\"\n";
    let error = load(&parsed(text), folder.path(), &network_for(&[3, 5, 6], 2)).unwrap_err().to_string();
    assert!(error.contains("60000×60000 pixels are more than are read"), "{error}");
    // An array of 16 GB in an archive.
    let file = fs::File::create(folder.path().join("a.npz")).unwrap();
    let mut archive = zip::ZipWriter::new(file);
    let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 1), }\n";
    for name in ["x_train.npy", "x_test.npy"] {
        archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(b"\x93NUMPY\x01\0").unwrap();
        archive.write_all(&(header.len() as u16).to_le_bytes()).unwrap();
        archive.write_all(header.as_bytes()).unwrap();
        archive.write_all(&[0; 1000]).unwrap();
    }
    archive.finish().unwrap();
    let sidecar = parsed("[data]\npath = \"x\"\nformat = \"npz\"\n");
    let error = load(&sidecar, &folder.path().join("a.npz"), &network_for(&[1], 2)).unwrap_err().to_string();
    assert!(error.contains("expand to 17179869184"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
}
