//! A folder with everything that a compilation takes, small enough to train in seconds: a teacher that tells stripes
//! from checks, its sidecar, and images. The teacher's weights are written down, not trained, so that it is right on
//! nearly every image and the same on every machine.

use kdc::graph::{Builder, Conv, Dim, Graph, Op, Tensor, ValueId};
use kdc::report::Report;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Extent of the square images.
pub const SIDE: usize = 8;
/// Horizontal stripes, vertical stripes, checks, grey.
pub const CLASSES: usize = 4;
const TRAINING: usize = 512;
const TEST: usize = 128;

pub struct Workshop {
    folder: tempfile::TempDir,
}

impl Workshop {
    /// With a teacher, a sidecar and data that go together.
    pub fn new() -> Workshop {
        let workshop = Workshop { folder: tempfile::tempdir().unwrap() };
        let model = kdc::onnx::export(&teacher()).unwrap();
        fs::write(workshop.path("teacher.onnx"), model).unwrap();
        workshop.write_sidecar(Some("data"));
        workshop.write_data("data", SIDE);
        workshop
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Says what the teacher's input means, and where the data is.
    pub fn write_sidecar(&self, data: Option<&str>) {
        let data = data.map_or(String::new(), |path| {
            format!(
                "[data]\npath = \"{path}\"\nformat = \"idx\"\nclasses = [\"rows\", \"columns\", \"checks\", \"grey\"]\n"
            )
        });
        let input = "[input]\nlayout = \"nchw\"\nscale = \"1/255\"\nmean = [0.5]\nstd = [0.5]\n";
        fs::write(self.path("teacher.toml"), format!("{data}{input}[augment]\nshift = 1\nflip = true\n")).unwrap();
    }

    /// A data set of `side` times `side` images in `folder`.
    pub fn write_data(&self, folder: &str, side: usize) {
        self.write_data_of(folder, side, TRAINING);
    }

    /// The same with so many training images.
    pub fn write_data_of(&self, folder: &str, side: usize, training: usize) {
        let folder = self.path(folder);
        fs::create_dir_all(&folder).unwrap();
        for (prefix, count, seed) in [("train", training, 1), ("t10k", TEST, 2)] {
            let (pixels, labels) = images(count, side, seed);
            let extents = [count, side, side];
            fs::write(folder.join(format!("{prefix}-images-idx3-ubyte")), idx(&extents, &pixels)).unwrap();
            fs::write(folder.join(format!("{prefix}-labels-idx1-ubyte")), idx(&[count], &labels)).unwrap();
        }
    }

    /// `kdc` with a cache of this workshop's own, started in its folder.
    pub fn kdc(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kdc"));
        command.args(arguments).current_dir(self.folder.path());
        command.env("XDG_CACHE_HOME", self.path("cache")).env("XDG_CONFIG_HOME", self.path("config"));
        command
    }

    /// `kdc compile teacher.onnx --target TARGET`, with settings that train in seconds, and `more`.
    pub fn compile(&self, target: &str, more: &[&str]) -> Command {
        let mut command = self.kdc(&["compile", "teacher.onnx", "--target", target, "--engine", "tract"]);
        // The least step of accuracy on so few images is 0.8 points: the default tolerance would judge luck.
        command.args(["--epochs", "4", "--batch-size", "32", "--max-quant-drop", "5"]).args(more);
        command
    }
}

/// Runs a command that must end well; its output is shown if it does not.
pub fn succeed(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{command:?}\n{}", said(&output));
    output
}

/// Both streams, for messages.
pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The report on standard output, which must hold nothing else.
pub fn report(output: &Output) -> Report {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}\n{}", said(output)))
}

/// Every file below a folder with its contents, by path.
pub fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(folder: &Path, root: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, root, found);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

/// What must be the same from run to run: everything but measured figures.
pub fn reproducible(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = contents(folder);
    files.retain(|path, _| !path.starts_with("report.txt") && !path.starts_with("report.json"));
    files
}

/// Convolutions that answer to rows, columns and checks, their mean over the image, and one logit per class.
fn teacher() -> Graph {
    const FIRST: usize = 16;
    const SECOND: usize = 32;
    const GAIN: f32 = 16.0;
    // Each answers to its own pattern with a mean of 1/2 after the rectifier, and to the others with at most 1/6.
    let row = [-1.0, -1.0, -1.0, 2.0, 2.0, 2.0, -1.0, -1.0, -1.0].map(|w: f32| w / 12.0);
    let column = [-1.0, 2.0, -1.0, -1.0, 2.0, -1.0, -1.0, 2.0, -1.0].map(|w: f32| w / 12.0);
    let checks = [1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0].map(|w: f32| w / 9.0);
    let patterns = [row, column, checks];
    let kind = |channel: usize| channel % patterns.len();
    let alike = |a: usize, count: usize| (0..count).filter(|&b| kind(b) == kind(a)).count() as f32;

    let mut b = Builder::new("stripes");
    let image = b.input("image", &[Dim::Batch, Dim::Fixed(1), Dim::Fixed(SIDE), Dim::Fixed(SIDE)]);
    let weights = (0..FIRST).flat_map(|c| patterns[kind(c)]).collect();
    let x = b.conv2d("edges", image, Tensor::f32([FIRST, 1, 3, 3], weights), vec![0.0; FIRST], (1, 1, 1)).unwrap();
    let x = b.node("edges_relu", Op::Relu, &[x]).unwrap();
    let mix = |out: usize, input: usize| if kind(out) == kind(input) { 1.0 / alike(out, FIRST) } else { 0.0 };
    let weights = (0..SECOND).flat_map(|o| (0..FIRST).map(move |i| mix(o, i))).collect();
    let weights = b.constant("mix.weight", Tensor::f32([SECOND, FIRST, 1, 1], weights));
    let bias = b.constant("mix.bias", Tensor::f32([SECOND], vec![0.0; SECOND]));
    let conv = Conv { kernel: vec![1; 2], strides: vec![1; 2], pads: vec![0; 4], dilations: vec![1; 2], group: 1 };
    let x = b.node("mix", Op::Conv(conv), &[x, weights, bias]).unwrap();
    let x = b.node("mix_relu", Op::Relu, &[x]).unwrap();
    let x = b.node("mean", Op::GlobalAveragePool, &[x]).unwrap();
    let x = b.node("flat", Op::Flatten { axis: 1 }, &[x]).unwrap();
    let vote = |class: usize, c: usize| if kind(c) == class { GAIN / alike(c, SECOND) } else { 0.0 };
    let weights = (0..CLASSES).flat_map(|class| (0..SECOND).map(move |c| vote(class, c))).collect();
    let weights = b.constant("logits.weight", Tensor::f32([CLASSES, SECOND], weights));
    // Grey answers to nothing: it wins when none of the others does.
    let bias = b.constant("logits.bias", Tensor::f32([CLASSES], vec![0.0, 0.0, 0.0, GAIN / 5.0]));
    let gemm = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
    let logits = b.node("logits", gemm, &[x, weights, bias]).unwrap();
    b.finish(&[logits])
}

/// A layer of these weights, row by row.
fn linear(b: &mut Builder, name: &str, x: ValueId, (rows, columns): (usize, usize), weights: Vec<f32>) -> ValueId {
    let w = b.constant(&format!("{name}.weight"), Tensor::f32([rows, columns], weights));
    let bias = b.constant(&format!("{name}.bias"), Tensor::f32([rows], vec![0.0; rows]));
    let gemm = Op::Gemm { alpha: 1.0, beta: 1.0, trans_a: false, trans_b: true };
    b.node(name, gemm, &[x, w, bias]).unwrap()
}

/// An autoencoder of the workshop's images: what each has of rows, columns and checks, lighter or darker, and back.
pub fn autoencoder() -> Graph {
    const PIXELS: usize = SIDE * SIDE;
    const HIDDEN: usize = 48;
    let sign = |even: bool| if even { 1.0f32 } else { -1.0 };
    // Six kinds of units: a pattern, light or dark first.
    let pixel = |unit: usize, at: usize| {
        let (y, x) = (at / SIDE, at % SIDE);
        let counted = [y, x, x + y][unit % 3];
        sign(counted.is_multiple_of(2)) * sign((unit / 3).is_multiple_of(2))
    };
    let mut b = Builder::new("autoencoder");
    let image = b.input("image", &[Dim::Batch, Dim::Fixed(1), Dim::Fixed(SIDE), Dim::Fixed(SIDE)]);
    let x = b.node("flat", Op::Flatten { axis: 1 }, &[image]).unwrap();
    let encode = (0..HIDDEN).flat_map(|u| (0..PIXELS).map(move |p| pixel(u, p) / PIXELS as f32)).collect();
    let x = linear(&mut b, "encode", x, (HIDDEN, PIXELS), encode);
    let x = b.node("relu", Op::Relu, &[x]).unwrap();
    let decode = (0..PIXELS).flat_map(|p| (0..HIDDEN).map(move |u| pixel(u, p) * 6.0 / HIDDEN as f32)).collect();
    let x = linear(&mut b, "decode", x, (PIXELS, HIDDEN), decode);
    let shape = vec![Dim::Batch, Dim::Fixed(1), Dim::Fixed(SIDE), Dim::Fixed(SIDE)];
    let again = b.node("again", Op::Reshape { shape }, &[x]).unwrap();
    b.finish(&[again])
}

/// Images of the four classes in turn, light or dark first, with noise.
fn images(count: usize, side: usize, seed: u64) -> (Vec<u8>, Vec<u8>) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let labels: Vec<u8> = (0..count).map(|i| (i % CLASSES) as u8).collect();
    let mut pixels = Vec::with_capacity(count * side * side);
    for label in &labels {
        let phase = random.random_range(0..2);
        for (y, x) in (0..side).flat_map(|y| (0..side).map(move |x| (y, x))) {
            let light = match label {
                0 => (y + phase) % 2,
                1 => (x + phase) % 2,
                2 => (x + y + phase) % 2,
                _ => 2,
            };
            let level = [40, 215, 128][light];
            pixels.push((level + random.random_range(-40..=40)) as u8);
        }
    }
    (pixels, labels)
}

/// An IDX file of bytes.
pub fn idx(extents: &[usize], bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, extents.len() as u8];
    file.extend(extents.iter().flat_map(|&n| (n as u32).to_be_bytes()));
    file.extend(bytes);
    file
}
