//! Time and memory.

use std::hint::black_box;
use std::time::Instant;

use student_model::{ARENA_BYTES, Arena, INPUT_LEN, INPUTS, OUTPUT_LEN, RAW_INPUT, STEPS, Stored, load_f32, store_f32};

/// Pseudo-random samples, the same ones everywhere (xorshift64*, Vigna 2016).
pub struct Samples(pub u64);

impl Samples {
    fn byte(&mut self) -> u8 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 56) as u8
    }
}

/// One sample as the network is fed in use: raw bytes where it takes them.
pub enum Sample {
    Raw(fn(&mut Arena, &[u8; INPUT_LEN]), Box<[u8; INPUT_LEN]>),
    F32(Box<[f32; INPUT_LEN]>),
}

impl Sample {
    pub fn next(samples: &mut Samples) -> Sample {
        match RAW_INPUT {
            Some(load) => Sample::Raw(load, boxed(|| samples.byte())),
            None => {
                let mut tokens = INPUTS.iter().flat_map(|port| std::iter::repeat_n(port.tokens, port.shape.iter().product()));
                Sample::F32(boxed(|| match tokens.next() {
                    Some(true) => f32::from(samples.byte()),
                    _ => f32::from(samples.byte()) / 127.5 - 1.0,
                }))
            }
        }
    }

    fn load(&self, arena: &mut Arena) {
        match self {
            Sample::Raw(load, bytes) => load(arena, bytes),
            Sample::F32(elements) => load_f32(arena, elements),
        }
    }

    pub fn infer(&self, arena: &mut Arena, output: &mut [f32; OUTPUT_LEN]) {
        self.load(arena);
        student_model::run(arena);
        store_f32(arena, output);
    }
}

pub fn boxed<T: Default + Clone, const N: usize>(mut next: impl FnMut() -> T) -> Box<[T; N]> {
    let elements: Box<[T]> = (0..N).map(|_| next()).collect();
    elements.try_into().unwrap_or_else(|_| unreachable!("N elements were collected"))
}

/// Nanoseconds from input to output of each of `runs` inferences, and the most memory the process ever had.
pub fn bench(arena: &mut Arena, runs: usize, warmup: usize) -> String {
    let sample = Sample::next(&mut Samples(0x9E37_79B9_7F4A_7C15));
    let mut output = boxed(|| 0.0);
    let mut nanoseconds = Vec::with_capacity(runs);
    for run in 0..warmup.saturating_add(runs) {
        let start = Instant::now();
        black_box(&sample).infer(arena, black_box(&mut output));
        let elapsed = start.elapsed().as_nanos();
        if run >= warmup {
            nanoseconds.push(elapsed.to_string());
        }
    }
    let peak = peak_rss().map_or("null".into(), |bytes| bytes.to_string());
    format!(r#"{{"nanoseconds":[{}],"peak_rss_bytes":{peak}}}"#, nanoseconds.join(","))
}

/// Nanoseconds of `runs` calls of each step (or of the one at position `only`) by itself, after `warmup` untimed ones,
/// and of taking in a sample and giving out the result. Before each timed call the arena is filled with small numbers:
/// that is how a step finds its operands in a network, and its weights, in the caches but not in the nearest one, and
/// no value ever becomes infinite or denormal.
pub fn steps(arena: &mut Arena, runs: usize, warmup: usize, only: Option<usize>) -> String {
    let mut samples = Samples(0x9E37_79B9_7F4A_7C15);
    let contents: Vec<Stored> = arena.elements().iter().map(|_| stored(samples.byte())).collect();
    let sample = Sample::next(&mut samples);
    let mut output = boxed(|| 0.0);
    // What reading the clock itself takes.
    let clock = (0..100).map(|_| Instant::now().elapsed().as_nanos()).min().unwrap_or(0);
    let mut time = |work: &mut dyn FnMut(&mut Arena)| {
        arena.elements().copy_from_slice(&contents);
        (0..warmup).for_each(|_| work(black_box(arena)));
        let timed = (0..runs).map(|_| {
            arena.elements().copy_from_slice(&contents);
            let start = Instant::now();
            work(black_box(arena));
            start.elapsed().as_nanos().saturating_sub(clock).to_string()
        });
        timed.collect::<Vec<_>>().join(",")
    };
    let chosen = STEPS.iter().filter(|(position, ..)| only.is_none_or(|only| only == *position));
    let steps: Vec<String> = chosen
        .map(|(position, _, step)| format!(r#"{{"step":{position},"nanoseconds":[{}]}}"#, time(&mut |arena| step(arena))))
        .collect();
    let (mut input, mut result) = (String::new(), String::new());
    if only.is_none() {
        input = time(&mut |arena| black_box(&sample).load(arena));
        result = time(&mut |arena| store_f32(arena, black_box(&mut output)));
    }
    format!(r#"{{"input":[{input}],"output":[{result}],"steps":[{}]}}"#, steps.join(","))
}

/// A byte as an element: the integer, or a number between −1 and 1.
fn stored(byte: u8) -> Stored {
    match size_of::<Stored>() {
        1 => byte as i8 as Stored,
        _ => (f32::from(byte) / 127.5 - 1.0) as Stored,
    }
}

/// The kernel's high-water mark of resident memory.
fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok().map(|kilobytes: u64| kilobytes * 1024)
}

/// Paints the arena, runs, and looks how far it changed. An element that happens to equal one paint differs from the
/// other.
pub fn arena(arena: &mut Arena) -> String {
    let mut samples = Samples(1);
    let mut output = boxed(|| 0.0);
    let mut used = 0;
    for paint in [0x55, 0xAA].repeat(3) {
        let paint = Stored::from_le_bytes([paint; size_of::<Stored>()]);
        arena.elements().fill(paint);
        Sample::next(&mut samples).infer(arena, &mut output);
        let changed = arena.elements().iter().rposition(|x| x.to_le_bytes() != paint.to_le_bytes());
        used = used.max(changed.map_or(0, |last| (last + 1) * size_of::<Stored>()));
    }
    format!(r#"{{"planned_bytes":{ARENA_BYTES},"used_bytes":{used}}}"#)
}
