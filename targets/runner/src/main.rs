//! Runs a generated student on a Linux-class board. Results go to standard output, errors to standard error.
//!
//! Exit codes: 0 fine, 2 any error.

mod files;
mod measure;
mod stack;

use std::process::ExitCode;
use std::sync::Mutex;

use student_model::{Arena, INPUTS, OUTPUT, Port, RAW_INPUT, Stored};

const USAGE: &str = "\
usage: student info                                         describe the network, one line of JSON
       student run --input f32|u8|i8 [--stored] IN OUT      samples back to back in IN, outputs back to back to OUT
       student classify FILE...                             the class of each file of raw bytes
       student bench [--runs N] [--warmup K]                nanoseconds of each inference, one line of JSON
       student steps [--runs N] [--warmup K] [--only STEP]  the same of each step by itself
       student arena                                        bytes of the arena that are used, one line of JSON
       student stack                                        bytes of the stack that are used, one line of JSON

  --input f32   the network's own inputs, one after the other: their layout, preprocessed, little-endian; tokens by number
  --input u8    raw bytes, height x width x channels
  --input i8    the int8 network's stored input, height x width x channels
  --stored      write the network's stored output instead of f32 in its own layout";

/// Not on the stack: it may be large.
static ARENA: Mutex<Arena> = Mutex::new(Arena::new());

/// What went wrong, for the user.
type Failure = String;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("student: {}", escaped(&failure));
            ExitCode::from(2)
        }
    }
}

fn dispatch(arguments: &[&str]) -> Result<(), Failure> {
    let mut guard = ARENA.lock().map_err(|e| e.to_string())?;
    let arena = &mut *guard;
    match arguments {
        ["-h" | "--help" | "help"] => print(USAGE),
        ["info"] => print(&info()),
        ["arena"] => print(&measure::arena(arena)),
        ["stack"] => print(&stack::stack(arena)?),
        ["run", rest @ ..] => run(arena, rest),
        ["classify", files @ ..] if !files.is_empty() => files.iter().try_for_each(|file| files::classify(arena, file)),
        ["bench", rest @ ..] => bench(arena, rest),
        ["steps", rest @ ..] => steps(arena, rest),
        [] => Err(format!("no command\n{USAGE}")),
        _ => Err(format!("cannot understand `{}`\n{USAGE}", arguments.join(" "))),
    }
}

fn run(arena: &mut Arena, arguments: &[&str]) -> Result<(), Failure> {
    let (mut input, mut stored, mut paths) = (None, false, Vec::new());
    let mut rest = arguments.iter();
    while let Some(&argument) = rest.next() {
        match argument {
            "--input" => input = Some(*rest.next().ok_or("--input needs f32, u8 or i8")?),
            "--stored" => stored = true,
            option if option.starts_with('-') => return Err(format!("unknown option {option}\n{USAGE}")),
            path => paths.push(path),
        }
    }
    let load = match input {
        Some("f32") => files::Load::F32,
        Some("u8") => files::Load::Raw(RAW_INPUT.ok_or("this network does not know how raw bytes are preprocessed")?),
        Some("i8") if student_model::PRECISION == "int8" => files::Load::Stored,
        Some("i8") => return Err("this network stores f32, not i8".into()),
        Some(other) => return Err(format!("--input {other}: it is f32, u8 or i8")),
        None => return Err("--input f32, u8 or i8 is missing".into()),
    };
    match paths[..] {
        [from, to] => files::run(arena, load, stored, from, to),
        _ => Err(format!("run needs two files, IN and OUT\n{USAGE}")),
    }
}

fn bench(arena: &mut Arena, arguments: &[&str]) -> Result<(), Failure> {
    let [runs, warmup] = numbers(arguments, [("--runs", Some(100)), ("--warmup", Some(10))])?;
    print(&measure::bench(arena, runs.unwrap_or(0), warmup.unwrap_or(0)))
}

fn steps(arena: &mut Arena, arguments: &[&str]) -> Result<(), Failure> {
    let [runs, warmup, only] =
        numbers(arguments, [("--runs", Some(100)), ("--warmup", Some(10)), ("--only", None)])?;
    print(&measure::steps(arena, runs.unwrap_or(0), warmup.unwrap_or(0), only))
}

/// The most that a number may be: times of so many inferences still fit into memory.
const MOST: usize = 10_000_000;

/// The numbers that options are given, or else their defaults.
fn numbers<const N: usize>(
    arguments: &[&str],
    options: [(&str, Option<usize>); N],
) -> Result<[Option<usize>; N], Failure> {
    let mut numbers = options.map(|(_, default)| default);
    for pair in arguments.chunks(2) {
        let [name, text] = pair else {
            return Err(format!("{} needs a number\n{USAGE}", pair.join(" ")));
        };
        let Some(at) = options.iter().position(|(option, _)| option == name) else {
            return Err(format!("cannot understand `{}`\n{USAGE}", pair.join(" ")));
        };
        let number = text.parse().ok().filter(|number| *number <= MOST);
        numbers[at] = Some(number.ok_or_else(|| format!("{name}: `{text}` is not a number of at most {MOST}"))?);
    }
    Ok(numbers)
}

/// A line on standard output; a closed pipe is no reason to panic.
fn print(line: &str) -> Result<(), Failure> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{line}").map_err(|e| format!("standard output: {e}"))
}

fn info() -> String {
    format!(
        r#"{{"name":{},"precision":"{}","inputs":[{}],"output":{},"arena_bytes":{},"weights_bytes":{},"raw_input":{}}}"#,
        quoted(student_model::NAME),
        student_model::PRECISION,
        INPUTS.iter().map(port).collect::<Vec<_>>().join(","),
        port(&OUTPUT),
        student_model::ARENA_BYTES,
        student_model::WEIGHTS_BYTES,
        RAW_INPUT.is_some(),
    )
}

fn port(port: &Port) -> String {
    let quantization = match port.quantization {
        Some((scale, zero)) => format!(r#","scale":{scale},"zero_point":{zero}"#),
        None => String::new(),
    };
    format!(
        r#"{{"name":{},"shape":{:?},"dtype":"f32","stored_shape":{:?},"stored_dtype":"{}"{quantization}}}"#,
        quoted(port.name),
        port.shape,
        port.stored_shape,
        std::any::type_name::<Stored>(),
    )
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut json = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            c if is_mark(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    json += &format!("\\u{unit:04x}");
                }
            }
            c => json.push(c),
        }
    }
    json + "\""
}

/// Control characters, and marks that change the direction or the look of what stands around them.
fn is_mark(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A text without marks but its line breaks.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            c if is_mark(c) && c != '\n' => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}
