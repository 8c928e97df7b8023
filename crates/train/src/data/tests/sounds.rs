//! Folders of sounds, and their features.

use super::*;
use crate::data::spectrum::Extractor;
use hound::{SampleFormat, WavSpec, WavWriter};
use serde::Deserialize;
use std::fs;

/// A case of `spectrum.json`, which `spectrum.py` made with NumPy (and compared with librosa).
#[derive(Deserialize)]
struct Case {
    kind: String,
    window: usize,
    hop: usize,
    fft: usize,
    bands: usize,
    low: f64,
    high: f64,
    scale: String,
    area: bool,
    log: String,
    coefficients: usize,
    center: bool,
    shape: Vec<usize>,
    values: Vec<f32>,
}

const RATE: u32 = 8000;

/// The sound of `spectrum.py`.
fn chirp() -> Vec<f32> {
    let tau = 2.0 * std::f64::consts::PI;
    let at = |t: f64| 0.5 * (tau * (200.0 * t + 4000.0 * t * t)).sin() + 0.1 * (tau * 3000.0 * t).sin();
    (0..1600).map(|n| at(f64::from(n) / f64::from(RATE)) as f32).collect()
}

fn options(case: &Case) -> AudioOptions {
    let seconds = |samples: usize| samples as f64 / f64::from(RATE);
    let Case { kind, fft, bands, low, high, scale, area, log, coefficients, center, .. } = case;
    let (window, hop) = (seconds(case.window), seconds(case.hop));
    let text = format!(
        "rate = {RATE}\nseconds = 0.2\nfeatures = \"{kind}\"\nwindow = {window}\nhop = {hop}\nfft = {fft}\n\
         bands = {bands}\nlow = {low:?}\nhigh = {high:?}\nscale = \"{scale}\"\narea = {area}\nlog = \"{log}\"\n\
         coefficients = {coefficients}\ncenter = {center}\n"
    );
    toml::from_str(&text).unwrap()
}

#[test]
fn features_are_those_of_the_reference() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("spectrum.json")).unwrap();
    assert_eq!(cases.len(), 4);
    for case in &cases {
        let options = options(case);
        options.check().unwrap();
        let extractor = Extractor::new(&options);
        assert_eq!(extractor.shape(), case.shape);
        let ours = extractor.features(&chirp());
        let worst = ours.iter().zip(&case.values).map(|(a, b)| (a - b).abs() / b.abs().max(1.0)).fold(0.0, f32::max);
        assert!(worst <= 1e-4, "{} on the {} scale differs by {worst}", case.kind, case.scale);
        // The other order is the transposed matrix.
        let turned = AudioOptions { first: First::Frames, ..options };
        let turned = Extractor::new(&turned);
        let [rows, columns] = case.shape[..] else { panic!() };
        assert_eq!(turned.shape(), [columns, rows]);
        assert_eq!(turned.features(&chirp())[rows], ours[1]);
    }
}

fn network_for(shape: &[usize], classes: usize) -> Graph {
    let mut b = Builder::new("net");
    let dims: Vec<Dim> = std::iter::once(Dim::Batch).chain(shape.iter().map(|&n| Dim::Fixed(n))).collect();
    let x = b.input("sound", &dims);
    let size = shape.iter().product();
    let y = b.node("flat", Op::Flatten { axis: 1 }, &[x]).unwrap();
    let weights = b.constant("w", Tensor::f32([size, classes], vec![0.0; size * classes]));
    let y = b.node("product", Op::MatMul, &[y, weights]).unwrap();
    b.finish(&[y])
}

fn wav(channels: u16, rate: u32, samples: &[i16]) -> Vec<u8> {
    let spec = WavSpec { channels, sample_rate: rate, bits_per_sample: 16, sample_format: SampleFormat::Int };
    let mut bytes = std::io::Cursor::new(Vec::new());
    let mut writer = WavWriter::new(&mut bytes, spec).unwrap();
    samples.iter().for_each(|&x| writer.write_sample(x).unwrap());
    writer.finalize().unwrap();
    bytes.into_inner()
}

fn float_wav(samples: &[f32]) -> Vec<u8> {
    let spec = WavSpec { channels: 1, sample_rate: RATE, bits_per_sample: 32, sample_format: SampleFormat::Float };
    let mut bytes = std::io::Cursor::new(Vec::new());
    let mut writer = WavWriter::new(&mut bytes, spec).unwrap();
    samples.iter().for_each(|&x| writer.write_sample(x).unwrap());
    writer.finalize().unwrap();
    bytes.into_inner()
}

const SCHEME: &str = "names = \"{class}_{speaker}_{take}\"\n[split]\nrule = \"take < 5\"\n";
const WAVEFORM: &str = "[audio]\nrate = 8000\nseconds = 0.001\nfeatures = \"waveform\"\n";

fn read(files: &[(&str, Vec<u8>)], more: &str, network: &Graph) -> Result<Splits, Error> {
    let folder = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, bytes)| fs::write(folder.path().join(name), bytes).unwrap());
    let text = format!("[data]\npath = \"x\"\nformat = \"wav\"\n{more}");
    load(&Sidecar::parse(Path::new("net.toml"), &text)?, folder.path(), network)
}

fn good() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("7_ann_0.wav", wav(1, RATE, &[16384; 20])),
        ("7_ann_5.wav", wav(1, RATE, &[-32768, 0, 8192])),
        ("3_bob_12.wav", wav(2, RATE, &[16384, 0, -16384, 16384])),
        ("3_bob_4.wav", float_wav(&[0.25; 8])),
    ]
}

#[test]
fn sounds_are_cut_and_filled_up_and_channels_are_averaged() {
    let set = read(&good(), &format!("{SCHEME}{WAVEFORM}"), &network_for(&[1, 8], 2)).unwrap();
    assert_eq!((set.train.len(), set.test.len(), set.class_names.clone()), (2, 2, vec!["3".into(), "7".into()]));
    let values = |part: &Arc<dyn Dataset>| part.batch(&SampleView::plain(0..2)).remove(0).to_f32().into_owned();
    let silence = [0.0; 6];
    assert_eq!(values(&set.train), [&[0.25, 0.0][..], &silence, &[-1.0, 0.0, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0]].concat());
    assert_eq!(values(&set.test), [[0.25; 8], [0.5; 8]].concat());
    assert_eq!([0, 1].map(|i| (set.train.label(i), set.test.label(i))), [(Some(0), Some(0)), (Some(1), Some(1))]);
}

#[test]
fn labels_of_spelled_answers_number_the_words() {
    let mut b = Builder::new("net");
    let x = b.input("sound", &[Dim::Batch, Dim::Fixed(1), Dim::Fixed(8)]);
    let weights = b.constant("w", Tensor::f32([8, 12], vec![0.0; 96]));
    let y = b.node("product", Op::MatMul, &[x, weights]).unwrap();
    let shape = vec![Dim::Batch, Dim::Fixed(4), Dim::Fixed(3)];
    let y = b.node("positions", Op::Reshape { shape }, &[y]).unwrap();
    let speller = b.finish(&[y]);
    let spelled = |words: &str| {
        let more = format!("[sequence]\nalphabet = \"_ab\"\nreading = \"ctc\"\nwords = [{words}]\n");
        read(&good(), &format!("{SCHEME}{WAVEFORM}{more}"), &speller).unwrap()
    };
    // Ten words, of which the samples have two; and a word for each label that there is.
    let letters = ["a", "b", "aa", "ab", "ba", "bb", "aaa", "aab", "aba", "abb"].map(|w| format!("\"{w}\""));
    for (words, classes) in [(letters.join(","), [3, 7]), ("\"a\", \"b\"".into(), [0, 1])] {
        let set = spelled(&words);
        assert_eq!([0, 1].map(|i| set.train.label(i)), classes.map(Some), "{words}");
    }
}

#[test]
fn features_take_the_networks_extents() {
    let audio =
        "[audio]\nrate = 8000\nseconds = 0.1\nfeatures = \"mfcc\"\nhop = 0.02\n[input]\nmean = [-5.0]\nstd = [3.0]\n";
    // 1 + (800 − 256) / 160 frames.
    let set = read(&good(), &format!("{SCHEME}{audio}"), &network_for(&[1, 13, 4], 2)).unwrap();
    assert_eq!((set.train.inputs()[0].shape.clone(), set.train.extents()), (vec![1, 13, 4], "13×4".into()));
    assert!(matches!(set.train.show(0), Preview::Image { shape: [13, 4, 1], .. }));
    let message = read(&good(), &format!("{SCHEME}{audio}"), &network_for(&[13, 5], 2)).unwrap_err().to_string();
    assert!(message.contains("[batch,13,5]") && message.contains("[batch,13,4]"), "{message}");
}

#[test]
fn features_shift_along_their_frames_whichever_index_runs_first() {
    let audio = "[audio]\nrate = 8000\nseconds = 0.1\nfeatures = \"mfcc\"\nhop = 0.02\n";
    let chirp: Vec<i16> = chirp().iter().map(|x| (x * 32767.0) as i16).collect();
    let files = [
        ("7_ann_0.wav", wav(1, RATE, &chirp)),
        ("7_ann_5.wav", wav(1, RATE, &chirp)),
        good()[2].clone(),
        good()[3].clone(),
    ];
    for (first, shape) in [("bands", [13, 4]), ("frames", [4, 13])] {
        let more = format!("{SCHEME}{audio}first = \"{first}\"\n[augment]\nshift = 1\n");
        let set = read(&files, &more, &network_for(&shape, 2)).unwrap();
        let at = |values: &[f32], frame: usize, band: usize| match first {
            "bands" => values[band * 4 + frame],
            _ => values[frame * 13 + band],
        };
        let of = |view| set.train.batch(&[SampleView { sample: 1, view }]).remove(0).to_f32().into_owned();
        let plain = of(None);
        let mut seen = [false; 3];
        for number in 0..60 {
            let view = of(Some(View { seed: 1, number }));
            let moved = |by: isize| {
                (0..4).all(|frame: usize| {
                    let from = frame.saturating_add_signed(-by).min(3);
                    (0..13).all(|band| at(&view, frame, band) == at(&plain, from, band))
                })
            };
            let by = [-1, 0, 1].into_iter().position(moved).expect("it is shifted by a frame or not at all");
            seen[by] = true;
        }
        assert_eq!(seen, [true; 3]);
    }
}

#[test]
fn what_cannot_be_used_is_named() {
    let network = network_for(&[8], 2);
    let with = |name: &'static str, bytes: Vec<u8>| {
        let mut files = good();
        files.push((name, bytes));
        files
    };
    let whole = wav(1, RATE, &[5; 100]);
    let cases = [
        (with("7_eve_9.wav", wav(1, RATE, &[])), "7_eve_9.wav: it holds no sound: 0 samples"),
        (with("7_eve_9.wav", vec![]), "7_eve_9.wav: it is no usable WAV file"),
        (with("7_eve_9.wav", b"RIFF, but nothing else".to_vec()), "7_eve_9.wav: it is no usable WAV file"),
        (with("7_eve_9.wav", whole[..50].to_vec()), "7_eve_9.wav: it is no usable WAV file"),
        (with("7_eve_9.wav", float_wav(&[0.0, f32::NAN])), "7_eve_9.wav: sample 1 is NaN"),
        (
            with("7_eve_9.wav", wav(1, 16000, &[0; 9])),
            "7_eve_9.wav: it has 16000 samples a second, rate in [audio] is 8000",
        ),
        (with("7-eve.wav", whole.clone()), "7-eve.wav: its name does not match the pattern"),
        (with("9_eve_1.wav", whole.clone()), "9_eve_1.wav: label \"9\" names none of the 2 classes"),
        (vec![], "it holds no WAV file"),
    ];
    for (files, expected) in cases {
        let message = read(&files, &format!("{SCHEME}{WAVEFORM}"), &network).unwrap_err().to_string();
        assert!(message.contains(expected), "{message:?} should say {expected:?}");
    }
    // Hours of features would be computed before.
    let hours = "[audio]\nrate = 8000\nseconds = 8000.0\nfeatures = \"mfcc\"\n";
    let message = read(&good(), &format!("{SCHEME}{hours}"), &network).unwrap_err().to_string();
    assert!(message.contains("become [batch,13,799997]"), "{message}");
    let mel = "[audio]\nrate = 8000\nseconds = 1.0\nfeatures = \"log-mel\"\n";
    let sidecars = [
        ("", "[audio] is missing"),
        ("[audio]\nrate = 0\nseconds = 1.0\nfeatures = \"log-mel\"\n", "make 0 samples"),
        (&format!("{mel}hop = 0.0\n"), "neither may be 0"),
        (&format!("{mel}window = nan\n"), "neither may be 0"),
        (&format!("{mel}fft = 128\n"), "at least the window's 200 samples"),
        (&format!("{mel}high = 5000.0\n"), "half the rate, 4000 Hz"),
        (&format!("{mel}bands = 0\n"), "0 bands"),
        (&format!("{mel}floor = 0.0\n"), "floor is 0"),
        (&format!("{}coefficients = 41\n", mel.replace("log-mel", "mfcc")), "41 coefficients"),
        (&format!("{mel}pitch = 1\n"), "pitch"),
        (&mel.replace("1.0", "0.01"), "shorter than one frame"),
    ];
    for (audio, expected) in sidecars {
        let message = read(&good(), &format!("{SCHEME}{audio}"), &network).unwrap_err().to_string();
        assert!(message.contains("net.toml:") && message.contains(expected), "{message:?} should say {expected:?}");
    }
}
