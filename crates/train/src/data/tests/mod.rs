mod arrays;
mod images;
mod names;
mod odd;
mod sounds;
mod tables;
mod texts;

use super::readers::idx;
use super::*;
use flate2::{Compression, write::GzEncoder};
use kdc_ir::graph::{Builder, DType, Dim, Op, Tensor};
use std::io::Write;
use std::path::{Path, PathBuf};

/// An IDX file of unsigned bytes.
fn idx(extents: &[u32], contents: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0x08, extents.len() as u8];
    extents.iter().for_each(|n| bytes.extend(n.to_be_bytes()));
    bytes.extend(contents);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A folder with a good set of 4 and 2 images of 2 x 3, except for one file.
fn folder_with(name: &str, bytes: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    put("train-images-idx3-ubyte", &idx(&[4, 2, 3], &(0..24).collect::<Vec<u8>>()));
    put("train-labels-idx1-ubyte", &idx(&[4], &[0, 1, 2, 1]));
    put("t10k-images-idx3-ubyte", &idx(&[2, 2, 3], &[7; 12]));
    put("t10k-labels-idx1-ubyte", &idx(&[2], &[2, 0]));
    put(name, bytes);
    folder
}

/// What the IDX reader gives.
#[derive(Debug, PartialEq)]
struct Set {
    train: Samples,
    test: Samples,
    class_names: Vec<String>,
}

fn idx_set(folder: &Path, classes: Option<&[String]>) -> Result<Set, Error> {
    idx::load(folder, classes).map(|(train, test, class_names)| Set { train, test, class_names })
}

fn failure(name: &str, bytes: &[u8]) -> String {
    idx_set(folder_with(name, bytes).path(), None).unwrap_err().to_string()
}

#[test]
fn reads_plain_and_gzipped_files_alike() {
    let folder = folder_with("readme", b"");
    let plain = idx_set(folder.path(), None).unwrap();
    assert_eq!(plain.train.shape, [2, 3, 1]);
    assert_eq!(plain.train.sample(1), [6, 7, 8, 9, 10, 11]);
    assert_eq!(
        (&plain.train.labels, &plain.test.labels),
        (&[0, 1, 2, 1].map(Some).to_vec(), &[2, 0].map(Some).to_vec())
    );
    assert_eq!(plain.class_names, ["0", "1", "2"]);

    for entry in std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).collect::<Vec<_>>() {
        std::fs::write(format!("{}.gz", entry.display()), gzip(&std::fs::read(&entry).unwrap())).unwrap();
        std::fs::remove_file(entry).unwrap();
    }
    assert_eq!(idx_set(folder.path(), None).unwrap(), plain);
}

#[test]
fn reads_colour_images() {
    let folder = folder_with("train-images-idx4-ubyte", &idx(&[4, 1, 2, 3], &(0..24).collect::<Vec<u8>>()));
    std::fs::remove_file(folder.path().join("train-images-idx3-ubyte")).unwrap();
    std::fs::write(folder.path().join("t10k-images-idx3-ubyte"), idx(&[2, 1, 2, 3], &[7; 12])).unwrap();
    let set = idx_set(folder.path(), None).unwrap();
    assert_eq!((set.train.shape, set.test.shape), ([1, 2, 3], [1, 2, 3]));
}

#[test]
fn malformed_files_are_named_with_what_is_wrong() {
    let images = "train-images-idx3-ubyte";
    let cases: &[(&str, Vec<u8>, &str)] = &[
        (images, vec![], "ends within its header"),
        (images, vec![0, 0, 8], "ends within its header"),
        (images, vec![0, 0, 8, 3, 0, 0], "ends within its header"),
        (images, b"this is a text file, not images".to_vec(), "two zero bytes"),
        (
            images,
            {
                let mut b = idx(&[4, 2, 3], &[0; 24]);
                b[2] = 0x0d;
                b
            },
            "type 0x0d",
        ),
        (images, vec![0, 0, 8, 0], "0 extents"),
        (images, vec![0, 0, 8, 200], "200 extents"),
        (images, idx(&[4, 6], &[0; 24]), "2 extents, images have 3"),
        (images, idx(&[4, 2, 3], &[0; 23]), "promise 24 bytes, it holds 23"),
        (images, idx(&[4, 2, 3], &[0; 25]), "promise 24 bytes, it holds 25"),
        (images, idx(&[0, 2, 3], &[]), "leave no elements"),
        (images, idx(&[4, 0, 3], &[]), "leave no elements"),
        // More than there is: nothing like this much may be allocated.
        (images, idx(&[u32::MAX, 2, 1], &[0; 24]), "it holds 24"),
        (images, idx(&[u32::MAX, u32::MAX, u32::MAX], &[0; 24]), "more than memory can hold"),
        ("train-labels-idx1-ubyte", idx(&[4, 1], &[0; 4]), "labels have 1"),
        ("train-labels-idx1-ubyte", idx(&[3], &[0; 3]), "4 images but"),
        ("t10k-labels-idx1-ubyte", idx(&[2], &[0, 3]), "label 3 of sample 1 is outside the 3 classes"),
        ("t10k-images-idx3-ubyte", idx(&[2, 3, 2], &[0; 12]), "test images are 3 x 2 x 1"),
    ];
    for (name, bytes, expected) in cases {
        let message = failure(name, bytes);
        assert!(message.contains(expected), "{name}: {message:?} should say {expected:?}");
        // The other file of a disagreement is named as well, hence the stem.
        assert!(message.contains(&name[..5]) || message.contains("training images"), "{message}");
    }
}

#[test]
fn malformed_gzip_files_are_named_with_what_is_wrong() {
    let name = "train-images-idx3-ubyte";
    let whole = gzip(&idx(&[4, 2, 3], &(0..24u8).map(|i| i * 7).collect::<Vec<u8>>()));
    let mut flipped = whole.clone();
    let check = flipped.len() - 6;
    flipped[check] ^= 1;
    let cases: &[(Vec<u8>, &str)] = &[
        (vec![], "ends within its header"),
        (b"not gzip at all".to_vec(), "gzip stream is damaged"),
        (whole[..whole.len() - 12].to_vec(), "gzip stream is damaged"),
        (flipped, "gzip stream is damaged"),
        (gzip(&idx(&[4, 2, 3], &[5; 25])), "bytes follow after"),
        (gzip(&idx(&[4, 2, 3], &[5; 20])), "it holds 20"),
        (gzip(&idx(&[60_000, 30_000, 1000], &[5; 20])), "expand to 1800000000000"),
    ];
    for (bytes, expected) in cases {
        let folder = folder_with(&format!("{name}.gz"), bytes);
        std::fs::remove_file(folder.path().join(name)).unwrap();
        let message = idx_set(folder.path(), None).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains(".gz"), "{message:?} should say {expected:?}");
    }
}

#[test]
fn absent_files_and_folders_are_named() {
    let folder = folder_with("readme", b"");
    std::fs::remove_file(folder.path().join("t10k-images-idx3-ubyte")).unwrap();
    let message = idx_set(folder.path(), None).unwrap_err().to_string();
    assert!(message.contains("has no t10k-images-idx3-ubyte"), "{message}");
    let message = idx_set(Path::new("/nowhere"), None).unwrap_err().to_string();
    assert!(message.contains("/nowhere has no train-images-idx3-ubyte"), "{message}");
}

#[test]
fn labels_must_name_a_class() {
    let two = ["a".to_string(), "b".to_string()];
    let message = idx_set(folder_with("readme", b"").path(), Some(&two)).unwrap_err().to_string();
    assert!(message.contains("label 2 of sample 2 is outside the 2 classes"), "{message}");
}

fn fashion_preprocess() -> Preprocess {
    Preprocess { layout: Layout::Nchw, scale: 1.0 / 255.0, mean: vec![0.2860], std: vec![0.3530] }
}

#[test]
fn the_table_is_rounded_once() {
    let table = fashion_preprocess().table(1);
    for (byte, x) in table[0].iter().enumerate() {
        let exact = (byte as f64 / 255.0 - 0.2860) / 0.3530;
        // Half a unit in the last place of an f32, and what f64 itself may err.
        let bound = f64::from(f32::EPSILON) * exact.abs() / 2.0 + 1e-12;
        assert!((f64::from(*x) - exact).abs() <= bound, "byte {byte}: {x} against {exact}");
    }
    assert_eq!(table[0][0], (-0.2860f64 / 0.3530) as f32);
}

#[test]
fn one_mean_serves_all_channels_and_each_may_have_its_own() {
    let one = Preprocess { layout: Layout::Nhwc, scale: 1.0, mean: vec![1.0], std: vec![2.0] };
    assert_eq!(one.table(3)[2][5], 2.0);
    let each = Preprocess { mean: vec![0.0, 1.0, 2.0], std: vec![1.0, 2.0, 4.0], ..one };
    assert_eq!([0, 1, 2].map(|c| each.table(3)[c][6]), [6.0, 2.5, 1.0]);
    assert!(each.check(3).is_ok());
    assert!(each.check(1).unwrap_err().to_string().contains("3 values of mean and std, the data has 1"));
}

#[test]
fn impossible_numbers_are_refused() {
    let good = fashion_preprocess();
    for bad in [
        Preprocess { scale: 0.0, ..good.clone() },
        Preprocess { scale: f64::NAN, ..good.clone() },
        Preprocess { std: vec![0.0], ..good.clone() },
        Preprocess { std: vec![-1.0], ..good.clone() },
        Preprocess { mean: vec![f64::INFINITY], ..good.clone() },
        Preprocess { mean: vec![], std: vec![], ..good.clone() },
        Preprocess { mean: vec![0.0, 0.0], ..good.clone() },
    ] {
        assert!(bad.check(1).is_err(), "{bad:?}");
    }
}

/// Three samples of 2 x 2 with 2 channels; every byte differs.
fn small() -> Samples {
    Samples { shape: [2, 2, 2], pixels: (0..24).collect(), labels: [0, 1, 0].map(Some).to_vec() }
}

fn plain(layout: Layout) -> Preprocess {
    Preprocess { layout, scale: 1.0, mean: vec![0.0], std: vec![1.0] }
}

#[test]
fn layouts() {
    let samples = small();
    let nchw = plain(Layout::Nchw).batch(&samples, &[1], None);
    assert_eq!(nchw.shape, [1, 2, 2, 2]);
    assert_eq!(nchw.as_f32().unwrap(), [8., 10., 12., 14., 9., 11., 13., 15.]);
    let nhwc = plain(Layout::Nhwc).batch(&samples, &[2, 0], None);
    assert_eq!(nhwc.shape, [2, 2, 2, 2]);
    assert_eq!(nhwc.as_f32().unwrap()[..9], [16., 17., 18., 19., 20., 21., 22., 23., 0.]);
    let flat = plain(Layout::Flat).batch(&samples, &[2, 0], None);
    assert_eq!((flat.shape.as_slice(), flat.as_f32()), (&[2, 8][..], nhwc.as_f32()));
    assert_eq!(plain(Layout::Nchw).batch(&samples, &[], None).shape, [0, 2, 2, 2]);
}

#[test]
fn views_shift_then_mirror() {
    let sample: Vec<u8> = (1..=6).collect(); // 1 2 3 / 4 5 6
    let view = |dx, dy, flip| Move { dx, dy, flip }.apply(&sample, [2, 3, 1]);
    assert_eq!(view(0, 0, false), sample);
    assert_eq!(view(1, 0, false), [0, 1, 2, 0, 4, 5]);
    assert_eq!(view(-1, 0, false), [2, 3, 0, 5, 6, 0]);
    assert_eq!(view(0, 1, false), [0, 0, 0, 1, 2, 3]);
    assert_eq!(view(0, -1, false), [4, 5, 6, 0, 0, 0]);
    assert_eq!(view(0, 0, true), [3, 2, 1, 6, 5, 4]);
    assert_eq!(view(1, 0, true), [2, 1, 0, 5, 4, 0]);
    assert_eq!(view(9, -9, true), [0; 6]);
    // Channels of a pixel stay together.
    assert_eq!(Move { dx: 1, dy: 0, flip: true }.apply(&sample, [1, 2, 3]), [1, 2, 3, 0, 0, 0]);
}

#[test]
fn a_batch_of_views_is_the_batch_of_moved_bytes() {
    let samples = small();
    let views = [Move { dx: 1, dy: 0, flip: false }, Move { dx: 0, dy: -1, flip: true }];
    let moved = Samples {
        pixels: [views[0].apply(samples.sample(2), [2, 2, 2]), views[1].apply(samples.sample(0), [2, 2, 2])].concat(),
        labels: vec![Some(0); 2],
        ..samples
    };
    let preprocess = Preprocess { mean: vec![0.5, 0.25], std: vec![0.5, 3.0], ..plain(Layout::Nchw) };
    let of_views = preprocess.batch(&small(), &[2, 0], Some(&views));
    assert_eq!(of_views, preprocess.batch(&moved, &[0, 1], None));
}

#[test]
fn views_are_pure_and_spread_evenly() {
    let augment = Augment { shift: 2, flip: true, ..Augment::default() };
    // Fixed for ever: caches of teacher answers hang on these numbers.
    let first: Vec<Move> = (0..3).map(|k| augment.of(7, 11, k)).collect();
    assert_eq!(first, (0..3).map(|k| augment.of(7, 11, k)).collect::<Vec<_>>());
    assert_ne!(first, (0..3).map(|k| augment.of(8, 11, k)).collect::<Vec<_>>());
    assert_ne!(first, (0..3).map(|k| augment.of(7, 12, k)).collect::<Vec<_>>());

    let mut counts = [[0u32; 2]; 25];
    let n = 50_000;
    for i in 0..n {
        let Move { dx, dy, flip } = augment.of(1, i, i % 2);
        counts[((dx + 2) * 5 + dy + 2) as usize][usize::from(flip)] += 1;
    }
    // 1000 expected in each of 50 cells; six standard deviations.
    assert!(counts.iter().flatten().all(|&c| (810..1190).contains(&c)), "{counts:?}");
    assert!((0..100).all(|i| Augment::default().of(1, i, 0).is_plain()));
}

#[test]
fn a_split_is_stratified_and_fixed() {
    let labels: Vec<Option<u16>> = (0..1000).map(|i| Some(u16::from(i % 10 == 0))).collect();
    let samples = Samples { shape: [1, 1, 1], pixels: vec![0; 1000], labels: labels.clone() };
    let samples = Images::new(samples, plain(Layout::Nhwc), Augment::default()).unwrap();
    let (train, validation) = split(&samples, &Task::Classification, 0.1, 3);
    assert_eq!((train.len(), validation.len()), (900, 100));
    assert_eq!(validation.iter().filter(|&&i| labels[i] == Some(1)).count(), 10);
    let mut all = [train.clone(), validation.clone()].concat();
    all.sort_unstable();
    assert_eq!(all, (0..1000).collect::<Vec<_>>());
    assert_eq!(split(&samples, &Task::Classification, 0.1, 3), (train, validation.clone()));
    assert_ne!(split(&samples, &Task::Classification, 0.1, 4).1, validation);
    assert!(split(&samples, &Task::Classification, 0.0, 3).1.is_empty());
    assert!(split(&samples, &Task::Classification, 2.0, 3).0.is_empty());
    // Without labels nothing is judged, unless samples are what is asked for.
    let unlabelled = LabelSubset::new(Arc::new(samples), 0.0, 0);
    assert_eq!(split(&unlabelled, &Task::Classification, 0.1, 3).1.len(), 0);
    assert_eq!(split(&unlabelled, &Task::Reconstruction, 0.1, 3).1.len(), 100);
}

#[test]
fn the_hash_tells_samples_apart() {
    let samples = small();
    assert_eq!(samples.hash(), small().hash());
    let relabelled = Samples { labels: [0, 1, 1].map(Some).to_vec(), ..small() };
    let reshaped = Samples { shape: [4, 1, 2], ..small() };
    assert!(samples.hash() != relabelled.hash() && samples.hash() != reshaped.hash());
    assert_ne!(samples.hash(), samples.select(&[0, 2, 1]).hash());
}

const SIDECAR: &str = "[data]\npath = \"data\"\nformat = \"idx\"\nclasses = [\"a\", \"b\"]\n\n[input]\nlayout = \"nchw\"\nscale = \"1/255\"\nmean = [0.5]\nstd = [0.25]\n";

fn sidecar(text: &str) -> Result<Sidecar, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.toml");
    std::fs::write(&path, text).unwrap();
    Sidecar::find(&folder.path().join("net.onnx")).map(Option::unwrap)
}

#[test]
fn sidecars_stand_beside_their_model() {
    let found = sidecar(SIDECAR).unwrap();
    assert_eq!(found.data.unwrap(), found.path.parent().unwrap().join("data"));
    assert_eq!(found.preprocess.scale, 1.0 / 255.0);
    assert_eq!(found.classes.unwrap(), ["a", "b"]);
    assert_eq!(found.augment, Augment::default());
    assert_eq!(Sidecar::find(Path::new("/nowhere/net.onnx")).unwrap(), None);
}

#[test]
fn mistakes_in_sidecars_are_named_by_line() {
    let cases = [
        ("std = [0.25]", "std = [0.0]", 6, "positive"),
        ("std = [0.25]", "std = [0.25, 1.0]", 6, "1 means but 2"),
        ("std = [0.25]", "sdt = [0.25]", 10, "sdt"),
        ("\"1/255\"", "\"1:255\"", 8, "neither a number nor a ratio"),
        ("\"1/255\"", "[1]", 8, "a number, or a ratio"),
        ("\"1/255\"", "\"1/0\"", 6, "scale is inf"),
        ("\"nchw\"", "\"ncwh\"", 7, "ncwh"),
        ("\"b\"", "\"a\"", 4, "named twice"),
        ("\"a\", \"b\"", "", 4, "empty"),
        ("\"idx\"", "\"xls\"", 3, "xls"),
        ("[input]", "[images]\n[input]", 6, "[images] says nothing about data of the format \"idx\""),
        ("[input]", "[input", 6, ""),
        ("[data]", "[dat]", 1, "dat"),
    ];
    for (good, bad, line, expected) in cases {
        let message = sidecar(&SIDECAR.replace(good, bad)).unwrap_err().to_string();
        assert!(message.contains(&format!("net.toml:{line}: ")) && message.contains(expected), "{bad}: {message}");
    }
}

/// `[batch,1,28,28]` to `[batch,classes]`, by a convolution over the whole image and a reshape.
fn network(classes: usize) -> Graph {
    let mut b = Builder::new("net");
    let x = b.input("image", &[Dim::Batch, Dim::Fixed(1), Dim::Fixed(28), Dim::Fixed(28)]);
    let weights = Tensor::f32([classes, 1, 28, 28], vec![0.0; classes * 784]);
    let y = b.conv2d("conv", x, weights, vec![0.0; classes], (1, 0, 1)).unwrap();
    let y = b.node("flat", Op::Flatten { axis: 1 }, &[y]).unwrap();
    b.finish(&[y])
}

fn fashion() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/fashion")
}

#[test]
fn the_sample_model_comes_with_its_data() {
    let sidecar = Sidecar::find(&fashion().join("teacher.onnx")).unwrap().unwrap();
    assert_eq!(sidecar.preprocess, fashion_preprocess());
    assert_eq!(sidecar.augment, Augment { shift: 2, flip: true, ..Augment::default() });
    let data = sidecar.data.clone().unwrap();
    let set = load(&sidecar, &data, &network(10)).unwrap();
    assert_eq!((set.train.len(), set.test.len(), set.train.extents().as_str()), (6_000, 2_000, "28×28×1"));
    let inputs = [Input { name: None, dtype: DType::F32, shape: vec![1, 28, 28] }];
    assert_eq!((set.train.inputs(), set.test.inputs()), (&inputs[..], &inputs[..]));
    assert_eq!(set.class_names[9], "Ankle boot");
    for class in 0..10 {
        let count = |part: &dyn Dataset| (0..part.len()).filter(|&i| part.label(i) == Some(class)).count();
        assert_eq!((count(set.train.as_ref()), count(set.test.as_ref())), (600, 200));
    }

    let message = load(&sidecar, &data, &network(7)).unwrap_err().to_string();
    assert!(message.contains("[batch,7]") && message.contains("10 classes"), "{message}");
    let flat = Sidecar { preprocess: Preprocess { layout: Layout::Flat, ..fashion_preprocess() }, ..sidecar };
    let message = load(&flat, &data, &network(10)).unwrap_err().to_string();
    assert!(message.contains("image is [batch,1,28,28]") && message.contains("[batch,784]"), "{message}");
}
