//! NumPy's arrays.

use super::*;
use std::fs;

/// `[batch,1,points]` to `[batch,classes]`.
fn network_for(shape: &[usize], classes: usize) -> Graph {
    let mut b = Builder::new("net");
    let dims: Vec<Dim> = std::iter::once(Dim::Batch).chain(shape.iter().map(|&n| Dim::Fixed(n))).collect();
    let x = b.input("signal", &dims);
    let size = shape.iter().product();
    let y = b.node("flat", Op::Flatten { axis: 1 }, &[x]).unwrap();
    let weights = b.constant("w", Tensor::f32([size, classes], vec![0.0; size * classes]));
    let y = b.node("product", Op::MatMul, &[y, weights]).unwrap();
    b.finish(&[y])
}

/// A file as `numpy.save` writes it.
fn npy(descr: &str, fortran: bool, shape: &str, contents: &[u8]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({shape}), }}");
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(contents);
    bytes
}

fn floats(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

fn npz(arrays: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in arrays {
        let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
        zip.start_file(format!("{name}.npy"), options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// Three signals of four points, and two to test with.
fn good() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("x", npy("<f4", false, "3, 4", &floats((0..12).map(|i| i as f32)))),
        ("y", npy("<i8", false, "3,", &[0i64, 2, 1].map(i64::to_le_bytes).concat())),
        ("x_test", npy("<f4", false, "2, 4", &floats((0..8).map(|i| -i as f32)))),
        ("y_test", npy("|u1", false, "2,", &[1, 1])),
    ]
}

fn read(arrays: &[(&str, Vec<u8>)], more: &str, network: &Graph) -> Result<Splits, Error> {
    read_bytes(&npz(arrays), more, network)
}

fn read_bytes(bytes: &[u8], more: &str, network: &Graph) -> Result<Splits, Error> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("set.npz");
    fs::write(&path, bytes).unwrap();
    load(&parsed(more), &path, network)
}

fn parsed(more: &str) -> Sidecar {
    Sidecar::parse(Path::new("net.toml"), &format!("[data]\npath = \"x\"\nformat = \"npz\"\n{more}")).unwrap()
}

fn values(part: &Arc<dyn Dataset>) -> Vec<f32> {
    part.batch(&SampleView::plain(0..part.len())).remove(0).to_f32().into_owned()
}

#[test]
fn an_archive_and_a_folder_of_arrays_are_alike() {
    let network = network_for(&[1, 4], 3);
    let set = read(&good(), "", &network).unwrap();
    assert_eq!(set.train.batch(&SampleView::plain([1]))[0], Tensor::f32([1, 1, 4], vec![4.0, 5.0, 6.0, 7.0]));
    assert_eq!((set.train.len(), set.test.len(), set.train.extents()), (3, 2, "4".into()));
    assert_eq!([0, 1, 2].map(|i| set.train.label(i)), [Some(0), Some(2), Some(1)]);
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in good() {
        fs::write(folder.path().join(format!("{name}.npy")), bytes).unwrap();
    }
    let again = load(&parsed(""), folder.path(), &network).unwrap();
    assert_eq!((again.train.hash(), again.test.hash()), (set.train.hash(), set.test.hash()));
}

#[test]
fn every_type_of_number_is_read() {
    let network = network_for(&[4], 3);
    let numbers = [0.0, 1.0, 2.0, 100.0f64];
    let of = |descr: &str, bytes: Vec<u8>| {
        let mut arrays = good();
        arrays[0].1 = npy(descr, false, "1, 4", &bytes);
        arrays[1].1 =
            npy("<U3", false, "1,", &"one".chars().flat_map(|c| (c as u32).to_le_bytes()).collect::<Vec<_>>());
        let set = read(&arrays, "classes = [\"one\", \"two\", \"three\"]", &network).unwrap();
        assert_eq!(values(&set.train), [0.0, 1.0, 2.0, 100.0], "{descr}");
        assert_eq!(set.train.label(0), Some(0));
    };
    of("<f8", numbers.map(f64::to_le_bytes).concat());
    of(">f8", numbers.map(f64::to_be_bytes).concat());
    of("<f2", numbers.map(|x| half::f16::from_f64(x).to_le_bytes()).concat());
    of(">i2", numbers.map(|x| (x as i16).to_be_bytes()).concat());
    of("|i1", numbers.map(|x| x as u8).to_vec());
    of("<u4", numbers.map(|x| (x as u32).to_le_bytes()).concat());
    of("<i8", numbers.map(|x| (x as i64).to_le_bytes()).concat());
    of("|u1", numbers.map(|x| x as u8).to_vec());
    let mut negative = good();
    negative[0].1 = npy("<i2", false, "1, 4", &[-1i16, -2, -3, -300].map(i16::to_le_bytes).concat());
    negative[1].1 = npy("|u1", false, "1,", &[0]);
    assert_eq!(values(&read(&negative, "", &network).unwrap().train), [-1.0, -2.0, -3.0, -300.0]);
}

#[test]
fn columns_first_is_turned_to_rows_first() {
    let mut arrays = good();
    // Element (row, column) is 4 · row + column, written column by column.
    let columns = (0..4).flat_map(|column| (0..3).map(move |row| (4 * row + column) as f32));
    arrays[0].1 = npy("<f4", true, "3, 4", &floats(columns));
    let network = network_for(&[4], 3);
    assert_eq!(
        values(&read(&arrays, "", &network).unwrap().train),
        values(&read(&good(), "", &network).unwrap().train)
    );
}

#[test]
fn bytes_of_images_are_images() {
    let pixels: Vec<u8> = (0..24).collect();
    let labels = |n: usize| npy("|u1", false, &format!("{n},"), &vec![0; n]);
    let set = |shape: &str, n: usize, network: &Graph| {
        let x = npy("|u1", false, shape, &pixels);
        let arrays = [("x_train", x.clone()), ("y_train", labels(n)), ("x_test", x), ("y_test", labels(n))];
        read(&arrays, "[input]\nlayout = \"nchw\"\n", network).unwrap()
    };
    let grey = set("4, 2, 3", 4, &network_for(&[1, 2, 3], 2));
    assert_eq!((grey.train.extents(), grey.train.images().is_some()), ("2×3×1".into(), true));
    let rows = set("4, 1, 2, 3", 4, &network_for(&[3, 1, 2], 2));
    assert_eq!(rows.train.images().unwrap().samples().sample(1), [6, 7, 8, 9, 10, 11]);
    let planes = set("2, 3, 2, 2", 2, &network_for(&[3, 2, 2], 2));
    assert_eq!(planes.train.images().unwrap().samples().sample(0)[..6], [0, 4, 8, 1, 5, 9]);
}

#[test]
fn names_and_splits_may_be_given() {
    let mut arrays = good();
    arrays[0].0 = "signals";
    arrays.truncate(2);
    let network = network_for(&[1, 4], 3);
    let set = read(&arrays, "[arrays]\nsamples = \"signals\"\n[split]\nratio = 0.5\nseed = 3\n", &network);
    // Three samples: on which sides they are is a matter of their bytes.
    match set {
        Ok(set) => assert_eq!(set.train.len() + set.test.len(), 3),
        Err(error) => assert!(error.to_string().contains("samples; see [split]"), "{error}"),
    }
    let unlabelled: Vec<_> = good().into_iter().filter(|(name, _)| *name != "y").collect();
    let set = read(&unlabelled, "", &network).unwrap();
    assert_eq!((set.train.label(0), set.test.label(0), set.class_names.len()), (None, Some(1), 3));
}

#[test]
fn what_cannot_be_used_is_named() {
    let network = network_for(&[1, 4], 3);
    let with = |name: &str, bytes: Vec<u8>| {
        let mut arrays = good();
        arrays.iter_mut().filter(|(n, _)| *n == name).for_each(|(_, b)| *b = bytes.clone());
        arrays
    };
    let without = |name: &str| good().into_iter().filter(|(n, _)| *n != name).collect::<Vec<_>>();
    let x = good()[0].1.clone();
    let nan = npy("<f4", false, "3, 4", &floats((0..12).map(|i| if i == 9 { f32::NAN } else { 0.0 })));
    let cases = [
        (with("x", npy("<c8", false, "3, 4", &[0; 96])), "array \"x\": elements of the type '<c8' are not read"),
        (with("x", npy("|O", false, "3, 4", &[0; 96])), "elements of the type '|O' are not read"),
        (with("x", npy("<M8[ns]", false, "3, 4", &[0; 96])), "'<M8[ns]' are not read"),
        (with("x", npy("<U2", false, "3, 4", &[0; 96])), "array \"x\" holds texts"),
        (with("y", npy("<f4", false, "3,", &floats([0.0, 1.5, 2.0]))), "set.npz, y[1]: it is no label"),
        (with("y", npy("|u1", false, "2,", &[0, 1])), "3 samples in \"x\", but 2 labels"),
        (with("y_test", npy("|u1", false, "2,", &[0, 9])), "set.npz, y_test[1]: label \"9\" names none"),
        (with("x", nan), "set.npz, x[2]: a value is NaN"),
        (with("x_test", npy("<f4", false, "2, 5", &[0; 40])), "samples of \"x\" are [4], those of \"x_test\" [5]"),
        (with("x", npy("<f4", false, "3, 4", &[0; 47])), "promise 48 bytes, it holds 47"),
        (with("x", npy("<f4", false, "3, 4", &[0; 49])), "it holds more"),
        (with("x", npy("<f4", false, "0, 4", &[])), "none of them 0"),
        (with("x", npy("<f4", false, "12,", &[0; 48])), "samples are [count, …]"),
        (with("x", npy("<f4", false, "99999999999, 99999999999", &[0; 48])), "are too large"),
        (with("x", npy("<f4", false, "9999999, 4", &[0; 48])), "it holds 48"),
        (with("x", npy("<f4", false, "3, q", &[0; 48])), "no usable shape"),
        (with("x", x[..9].to_vec()), "it ends too early"),
        (with("x", b"no array at all".to_vec()), "it does not begin with"),
        (without("x"), "there is no array x_train or x; there are x_test, y, y_test"),
        (without("x_test"), "there is no array x_test"),
    ];
    for (arrays, expected) in cases {
        let message = read(&arrays, "", &network).unwrap_err().to_string();
        assert!(message.contains("set.npz") && message.contains(expected), "{message:?} should say {expected:?}");
    }
    let message = read_bytes(b"PK, but no archive", "", &network).unwrap_err().to_string();
    assert!(message.contains("set.npz: it is no npz file"), "{message}");
    let whole = npz(&good());
    let message = read_bytes(&whole[..whole.len() / 2], "", &network).unwrap_err().to_string();
    assert!(message.contains("set.npz: it is no npz file"), "{message}");
    let message = read(&good(), "[arrays]\nlabels = \"kinds\"\n", &network).unwrap_err().to_string();
    assert!(message.contains("there is no array \"kinds\"; there are x, x_test, y, y_test"), "{message}");
    let message = read(&good(), "", &network_for(&[5], 3)).unwrap_err().to_string();
    assert!(message.contains("[batch,5]") && message.contains("[batch,4]"), "{message}");
}

/// Views of one sample, as the network gets them.
fn views(part: &Arc<dyn Dataset>, sample: usize, count: usize) -> Vec<Vec<f32>> {
    let look = |number| [SampleView { sample, view: Some(View { seed: 5, number }) }];
    (0..count).map(|number| part.batch(&look(number)).remove(0).to_f32().into_owned()).collect()
}

#[test]
fn signals_are_shifted_along_time_and_repeat_their_edge() {
    let network = network_for(&[2, 3], 3);
    let pairs = [("x", npy("<f4", false, "3, 2, 3", &floats((0..18).map(|i| i as f32)))), good()[1].clone()];
    let tests = [("x_test", npy("<f4", false, "2, 2, 3", &floats((0..12).map(|i| i as f32)))), good()[3].clone()];
    let set = read(&[pairs, tests].concat(), "[augment]\nshift = 1\n", &network).unwrap();
    let right: [&[f32]; 3] = [&[0., 1., 2., 3., 4., 5.], &[0., 0., 1., 3., 3., 4.], &[1., 2., 2., 4., 5., 5.]];
    let seen = views(&set.train, 0, 60);
    assert!(right.iter().all(|right| seen.iter().any(|view| view == right)), "{seen:?}");
    assert!(seen.iter().all(|view| right.contains(&&view[..])), "{seen:?}");
    // As it is where no view is asked for, and the same view is the same.
    assert_eq!(values(&set.train)[..6], *right[0]);
    assert_eq!(seen, views(&set.train, 0, 60));
}

#[test]
fn signals_become_louder_and_noisy() {
    let network = network_for(&[4], 3);
    let plain = read(&good(), "", &network).unwrap();
    let set = read(&good(), "[augment]\ngain = 0.5\n", &network).unwrap();
    let factors: Vec<f32> = views(&set.train, 1, 400).iter().map(|view| view[3] / 7.0).collect();
    let (low, high) = factors.iter().fold((2.0f32, 0.0f32), |(a, b), &x| (a.min(x), b.max(x)));
    assert!((0.5..0.52).contains(&low) && (1.48..1.5).contains(&high), "{low} {high}");
    assert_ne!(plain.train.augmentation(), set.train.augmentation());
    assert_eq!(plain.train.hash(), set.train.hash());

    let set = read(&good(), "[augment]\nnoise = 0.25\n", &network).unwrap();
    let added: Vec<f32> = views(&set.train, 0, 1000).iter().flat_map(|v| [v[0], v[1] - 1.0, v[2] - 2.0]).collect();
    let mean = added.iter().sum::<f32>() / added.len() as f32;
    let deviation = (added.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / added.len() as f32).sqrt();
    assert!(mean.abs() < 0.03 && (deviation - 0.25).abs() < 0.02, "{mean} {deviation}");
}

#[test]
fn augmentation_of_other_kinds_and_out_of_range_is_refused() {
    let refused = |more: &str, expected: &str| {
        let message = read(&good(), &format!("[augment]\n{more}\n"), &network_for(&[4], 3)).unwrap_err().to_string();
        assert!(message.contains(expected), "{message:?} should say {expected:?}");
    };
    refused(
        "flip = true",
        "flip in [augment] is not for these samples, which are signals or arrays of numbers; for them: shift, gain, noise",
    );
    refused("token_dropout = 0.1", "token_dropout in [augment] is not for");
    refused("gain = 1.0", "gain 1 in [augment] is no share");
    refused("noise = -0.1", "noise -0.1 in [augment] is no standard deviation");
    refused("noise = nan", "noise NaN in [augment]");
}
