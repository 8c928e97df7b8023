//! Folders of images.

use super::*;
use image::{GrayImage, Luma, Rgb, RgbImage};
use std::fs;

/// A network for images of one extent.
fn network_for(channels: usize, side: usize, classes: usize) -> Graph {
    let mut b = Builder::new("net");
    let dims = [Dim::Batch, Dim::Fixed(channels), Dim::Fixed(side), Dim::Fixed(side)];
    let x = b.input("image", &dims);
    let weights = Tensor::f32([classes, channels, side, side], vec![0.0; classes * channels * side * side]);
    let y = b.conv2d("conv", x, weights, vec![0.0; classes], (1, 0, 1)).unwrap();
    let y = b.node("flat", Op::Flatten { axis: 1 }, &[y]).unwrap();
    b.finish(&[y])
}

fn load_with(folder: &Path, more: &str, network: &Graph) -> Result<Splits, Error> {
    let text = format!("[data]\npath = \"x\"\nformat = \"images\"\n{more}\n[input]\nlayout = \"nchw\"\n");
    load(&Sidecar::parse(Path::new("net.toml"), &text).unwrap(), folder, network)
}

fn message(folder: &Path, more: &str, network: &Graph) -> String {
    load_with(folder, more, network).unwrap_err().to_string()
}

fn rgb(color: [u8; 3], [height, width]: [u32; 2]) -> RgbImage {
    RgbImage::from_pixel(width, height, Rgb(color))
}

fn put(path: PathBuf, image: &RgbImage) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image.save(path).unwrap();
}

/// A JPEG stream of the best quality.
fn jpeg(image: &RgbImage) -> Vec<u8> {
    let mut stream = mozjpeg::Compress::new(mozjpeg::ColorSpace::JCS_RGB);
    stream.set_size(image.width() as usize, image.height() as usize);
    stream.set_quality(100.0);
    let mut stream = stream.start_compress(Vec::new()).unwrap();
    stream.write_scanlines(image).unwrap();
    stream.finish().unwrap()
}

const RED: [u8; 3] = [200, 10, 20];
const BLUE: [u8; 3] = [5, 15, 250];

/// Two classes, one sample each in train and test.
fn small_set() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for part in ["train", "test"] {
        put(folder.path().join(part).join("red/1.png"), &rgb(RED, [2, 2]));
        put(folder.path().join(part).join("blue/1.png"), &rgb(BLUE, [2, 2]));
    }
    folder
}

fn first_pixel(part: &Arc<dyn Dataset>, sample: usize) -> Vec<u8> {
    let samples = part.images().unwrap().samples();
    samples.sample(sample)[..samples.shape[2]].to_vec()
}

#[test]
fn folders_are_classes_in_alphabetical_order() {
    let folder = small_set();
    let set = load_with(folder.path(), "", &network_for(3, 2, 2)).unwrap();
    assert_eq!(set.class_names, ["blue", "red"]);
    assert_eq!((set.train.len(), set.train.label(0), set.train.label(1)), (2, Some(0), Some(1)));
    assert_eq!((first_pixel(&set.test, 0), first_pixel(&set.test, 1)), (BLUE.to_vec(), RED.to_vec()));
    // Names in the sidecar say the order.
    let set = load_with(folder.path(), "classes = [\"red\", \"blue\"]", &network_for(3, 2, 2)).unwrap();
    assert_eq!((set.train.label(0), set.train.label(1)), (Some(1), Some(0)));
}

#[test]
fn a_network_of_one_channel_sees_grey_as_pillow_makes_it() {
    let folder = small_set();
    GrayImage::from_pixel(2, 2, Luma([77])).save(folder.path().join("train/red/2.png")).unwrap();
    let set = load_with(folder.path(), "", &network_for(1, 2, 2)).unwrap();
    // Pillow 13: Image.new("RGB", (1, 1), RED).convert("L").getpixel((0, 0)) is 68, BLUE's is 39.
    assert_eq!([0, 1, 2].map(|i| first_pixel(&set.train, i)[0]), [39, 68, 77]);
    // And one of three sees grey three times.
    let set = load_with(folder.path(), "", &network_for(3, 2, 2)).unwrap();
    assert_eq!(first_pixel(&set.train, 2), [77; 3]);
}

#[test]
fn images_cover_the_network_and_their_middle_is_cut_out() {
    let folder = small_set();
    // 4 × 12, red, blue in the middle third: the middle 4 × 4 is blue, at half the size as well.
    let mut wide = rgb(RED, [4, 12]);
    (4..8).for_each(|x| (0..4).for_each(|y| wide.put_pixel(x, y, Rgb(BLUE))));
    put(folder.path().join("train/red/0.png"), &wide);
    let at = |more: &str, side: usize| {
        let set = load_with(folder.path(), more, &network_for(3, side, 2)).unwrap();
        set.train.images().unwrap().samples().sample(1).to_vec()
    };
    assert_eq!(at("", 4), BLUE.repeat(16));
    // Squeezed to 2 × 2 without regard to its shape, the middle column of blue is between the two.
    let squeezed = at("[images]\nresize = [2, 2]\n", 2);
    assert!(squeezed.chunks(3).all(|p| p[0] > BLUE[0] && p[0] < RED[0]), "{squeezed:?}");
    // A shorter side of 8 leaves only blue in the middle 2 × 2.
    assert_eq!(at("[images]\nresize = 8\n", 2), BLUE.repeat(4));
    let text = message(folder.path(), "[images]\nresize = 1\n", &network_for(3, 2, 2));
    assert!(text.contains("blue/1.png") && text.contains("1×1, the network wants 2×2"), "{text}");
}

#[test]
fn jpeg_files_are_read_whatever_their_extension() {
    let folder = small_set();
    fs::write(folder.path().join("train/red/2.png"), jpeg(&rgb(RED, [16, 16]))).unwrap();
    let set = load_with(folder.path(), "", &network_for(3, 2, 2)).unwrap();
    let pixel = first_pixel(&set.train, 2);
    assert!(pixel.iter().zip(RED).all(|(a, b)| a.abs_diff(b) <= 3), "{pixel:?}");
}

#[test]
fn what_cannot_be_used_is_named() {
    let network = network_for(3, 2, 2);
    let case = |name: &str, change: &dyn Fn(&Path), expected: &str| {
        let folder = small_set();
        change(folder.path());
        let text = message(folder.path(), "", &network);
        assert!(text.contains(name) && text.contains(expected), "{text:?} should say {name:?} and {expected:?}");
    };
    let png = |folder: &Path| fs::read(folder.join("train/red/1.png")).unwrap();
    let cut = |folder: &Path, to: usize| {
        let bytes = png(folder);
        fs::write(folder.join("train/red/1.png"), &bytes[..bytes.len().min(to)]).unwrap();
    };
    case("train/red/1.png", &|f| cut(f, 40), "cannot be decoded");
    case("train/red/1.png", &|f| cut(f, 0), "cannot be decoded");
    case("train/red/1.png", &|f| fs::write(f.join("train/red/1.png"), "no image").unwrap(), "cannot be decoded");
    let noise = |x: u32, y: u32| Rgb([(x * 37 + y * 91) as u8, (x * y) as u8, (x * 13) as u8]);
    let stream = jpeg(&RgbImage::from_fn(64, 64, noise));
    let half = |f: &Path| fs::write(f.join("test/red/2.jpg"), &stream[..stream.len() / 2]).unwrap();
    case("test/red/2.jpg", &half, "ends too early");
    // Damaged, with its end in place.
    let mut damaged = stream.clone();
    damaged[4..200].fill(0);
    case("test/red/2.jpg", &|f| fs::write(f.join("test/red/2.jpg"), &damaged).unwrap(), "cannot be decoded");
    case("train/green", &|f| fs::create_dir(f.join("train/green")).unwrap(), "holds no PNG or JPEG file");
    case("train", &|f| fs::remove_dir_all(f.join("train")).unwrap(), "no folders train and test");
    case("train/stray.png", &|f| put(f.join("train/stray.png"), &rgb(RED, [2, 2])), "beside the class folders");
    case("train/red/notes.txt", &|f| fs::write(f.join("train/red/notes.txt"), "x").unwrap(), "no PNG or JPEG file");
    case("test/green/1.png", &|f| put(f.join("test/green/1.png"), &rgb(RED, [2, 2])), "\"green\" names none of the 2");
    let empty = |f: &Path| {
        fs::remove_dir_all(f.join("train")).unwrap();
        fs::create_dir(f.join("train")).unwrap();
    };
    case("train", &empty, "holds no PNG or JPEG file");
    let text = message(Path::new("/nowhere"), "", &network);
    assert!(text.contains("/nowhere") && text.contains("no such folder"), "{text}");
    let text = message(small_set().path(), "", &network_for(3, 2, 7));
    assert!(text.contains("7") && text.contains("2 classes"), "{text}");
    let text = message(small_set().path(), "", &network_for(4, 2, 2));
    assert!(text.contains("has 4 channels"), "{text}");
}

#[test]
fn training_images_without_class_folders_have_no_labels() {
    let folder = small_set();
    fs::remove_dir_all(folder.path().join("train")).unwrap();
    put(folder.path().join("train/1.png"), &rgb(RED, [2, 2]));
    let set = load_with(folder.path(), "classes = [\"red\", \"blue\"]", &network_for(3, 2, 2)).unwrap();
    assert_eq!((set.train.label(0), set.test.label(1)), (None, Some(0)));
}

#[test]
fn names_may_say_class_and_side() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["7_ann_0", "7_ann_1", "7_bob_10", "3_bob_0", "3_bob_2"] {
        put(folder.path().join(format!("{name}.png")), &rgb(RED, [2, 2]));
    }
    let scheme = "names = \"{class}_{speaker}_{take}\"\n[split]\nrule = \"take < 2\"\n";
    let set = load_with(folder.path(), scheme, &network_for(3, 2, 2)).unwrap();
    assert_eq!((set.class_names.clone(), set.train.len(), set.test.len()), (vec!["3".into(), "7".into()], 2, 3));
    assert_eq!([0, 1].map(|i| set.train.label(i)), [Some(0), Some(1)]);
    let text = message(folder.path(), &scheme.replace("take <", "day <"), &network_for(3, 2, 2));
    assert!(text.contains(".png") && text.contains("reads \"day\""), "{text}");
    put(folder.path().join("7-ann.png"), &rgb(RED, [2, 2]));
    let text = message(folder.path(), scheme, &network_for(3, 2, 2));
    assert!(
        text.contains("7-ann.png") && text.contains("does not match the pattern {class}_{speaker}_{take}"),
        "{text}"
    );
}

#[test]
fn a_ratio_depends_on_contents_and_seed_alone() {
    let folder = tempfile::tempdir().unwrap();
    let image = |i: u8| rgb([i, 255 - i, i ^ 90], [2, 2]);
    for i in 0..100u8 {
        put(folder.path().join(format!("{}/{i:03}.png", i % 2)), &image(i));
    }
    let network = network_for(3, 2, 2);
    let pixels = |more: &str| {
        let set = load_with(folder.path(), &format!("[split]\nratio = 0.3\n{more}"), &network).unwrap();
        let of = |part: &Arc<dyn Dataset>| (0..part.len()).map(|i| first_pixel(part, i)[0]).collect::<Vec<_>>();
        (of(&set.train), of(&set.test))
    };
    let (train, test) = pixels("");
    assert!(train.len() + test.len() == 100 && (18..=42).contains(&test.len()), "{}", test.len());
    assert_eq!(pixels(""), (train.clone(), test.clone()));
    assert_ne!(pixels("seed = 1").1, test);
    // A copy goes where the original is, and nothing else moves.
    let copied = test[0];
    put(folder.path().join(format!("{}/copy.png", copied % 2)), &image(copied));
    let (train_after, test_after) = pixels("");
    assert_eq!((train_after, test_after.len()), (train, test.len() + 1));
}
