//! A run that is killed goes on where it stopped, and ends with the same bytes.

use crate::workshop::{SIDE, Workshop, contents, reproducible, said, succeed};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const LONG: [&str; 3] = ["--no-build", "--epochs", "12"];

#[test]
fn a_killed_training_goes_on_from_its_checkpoint_to_the_same_bytes() {
    let workshop = Workshop::new();
    let compile = |cache: &str, out: &str| {
        let mut command = workshop.kdc(&["compile", "teacher.onnx", "--target", "raspberry-pi", "--engine", "tract"]);
        command.args(LONG).args(["--batch-size", "32", "--max-quant-drop", "5", "--out", out]);
        command.env("XDG_CACHE_HOME", workshop.path(cache));
        command
    };

    let whole = compile("cache-whole", "whole").output().unwrap();
    assert_eq!(whole.status.code(), Some(0), "{}", said(&whole));

    let killed_at = |sign: &str| {
        let mut child = compile("cache", "resumed").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let said = lines.find(|line| line.contains(sign));
        // `kill` is SIGKILL: nothing can be tidied up.
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(said.is_some(), "'{sign}' was over before it could be killed");
    };
    // Once among the trials of objectives, of which those that are done are not made again, and once in the training.
    killed_at("after a trial of 3 epochs");
    let mut left = std::fs::read_dir(workshop.path("cache/kdc/choose")).unwrap().map(|e| e.unwrap().path());
    let left = left.find(|path| path.extension().is_some_and(|e| e == "partial")).unwrap();
    let done = std::fs::read_dir(left.join("tried")).unwrap().map(|e| e.unwrap().path());
    assert!(done.filter(|path| path.extension().is_some_and(|e| e == "txt")).count() >= 10);
    killed_at("epoch 3/12");
    assert!(!workshop.path("resumed/student.onnx").exists(), "an unfinished run left a model");

    let resumed = compile("cache", "resumed").output().unwrap();
    assert_eq!(resumed.status.code(), Some(0), "{}", said(&resumed));
    let log = String::from_utf8_lossy(&resumed.stderr);
    assert!(!log.contains("epoch 1/12") && log.contains("epoch 12/12"), "it started over:\n{log}");

    let (whole, resumed) = (reproducible(&workshop.path("whole")), reproducible(&workshop.path("resumed")));
    assert_eq!(whole.keys().collect::<Vec<_>>(), resumed.keys().collect::<Vec<_>>());
    let differing: Vec<_> =
        whole.iter().filter(|(path, bytes)| resumed.get(*path) != Some(bytes)).map(|(p, _)| p).collect();
    assert!(differing.is_empty(), "{differing:?} differ from an uninterrupted run's");
}

/// Kills a command at random moments until it has been killed `times` times, or was done before that; then lets it end.
/// A command that took `whole` gets a quarter of that at most, and often far less: it may have been timed beside other tests
/// and be much faster when they are done.
fn killed(times: usize, whole: Duration, command: impl Fn() -> Command) {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut kills = 0;
    for _ in 0..times * 2 {
        let mut child = command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(whole.mul_f64(0.25 * 10f64.powf(rng.random_range(-2.0..0.0))));
        // SIGKILL: nothing can be tidied up.
        child.kill().unwrap();
        kills += usize::from(!child.wait().unwrap().success());
        if kills == times {
            break;
        }
    }
    assert!(kills > 0, "it was always done before it could be killed");
    succeed(command());
}

/// Lets a command write files of at most so many bytes, as a disk that fills up would.
fn on_a_small_disk(mut command: Command, bytes: u64) -> std::process::Output {
    // SAFETY: both calls are allowed between fork and exec, and touch this process alone.
    unsafe {
        command.pre_exec(move || {
            let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
            libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit);
            // Without its signal, a write beyond the limit fails as one on a full disk does.
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            Ok(())
        })
    };
    command.output().unwrap()
}

#[test]
fn labels_survive_being_killed_and_a_full_disk_and_shards_give_the_bytes_of_one() {
    let workshop = Workshop::new();
    workshop.write_data_of("data", SIDE, 20_000);
    let label = |folder: &str, shard: &str| {
        workshop.kdc(&["label", "teacher.onnx", "--engine", "tract", "--labels", folder, "--shard", shard])
    };
    let start = Instant::now();
    let whole = succeed(label("whole", "1/1"));
    let took = start.elapsed();
    assert!(said(&whole).contains("20,000 of them labelled now"), "{}", said(&whole));

    let full = on_a_small_disk(label("parts", "1/2"), 1500);
    assert_eq!(full.status.code(), Some(2), "{}", said(&full));
    assert!(said(&full).contains("cannot write"), "{}", said(&full));
    assert!(contents(&workshop.path("parts")).is_empty(), "half a file under its final name");

    // Two processes at once, both killed again and again.
    std::thread::scope(|scope| {
        for shard in ["1/2", "2/2"] {
            scope.spawn(move || killed(10, took, || label("parts", shard)));
        }
    });
    let mut parts = contents(&workshop.path("parts"));
    // What a killed process was writing lies beside, under a name of its own.
    parts.retain(|path, _| path.extension().is_some_and(|e| e == "logits"));
    assert!(parts == contents(&workshop.path("whole")), "two shards differ from one labelling");

    let again = succeed(label("parts", "1/1"));
    assert!(said(&again).contains(", 0 of them labelled now"), "{}", said(&again));
}

#[test]
fn training_survives_being_killed_at_random_moments_and_a_full_disk() {
    let workshop = Workshop::new();
    let compile = |cache: &str, out: &str| {
        let mut command = workshop.kdc(&["compile", "teacher.onnx", "--target", "raspberry-pi", "--engine", "tract"]);
        command.args(LONG).args(["--batch-size", "32", "--max-quant-drop", "5", "--ema", "0.9", "--out", out]);
        command.env("XDG_CACHE_HOME", workshop.path(cache));
        command
    };
    let start = Instant::now();
    succeed(compile("cache-whole", "whole"));
    let took = start.elapsed();
    // Enough for labels, too little for a checkpoint.
    let full = on_a_small_disk(compile("cache", "resumed"), 16 * 1024);
    assert_eq!(full.status.code(), Some(2), "{}", said(&full));
    killed(20, took, || compile("cache", "resumed"));
    let (whole, resumed) = (reproducible(&workshop.path("whole")), reproducible(&workshop.path("resumed")));
    assert_eq!(whole.keys().collect::<Vec<_>>(), resumed.keys().collect::<Vec<_>>());
    for (path, bytes) in whole {
        assert!(bytes == resumed[&path], "{} differs from an uninterrupted run's", path.display());
    }
}
