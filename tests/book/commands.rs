//! Commands in pages: kdc understands them, and those that are marked so run.

use crate::pages::{self, Block, Page};
use crate::root;
use std::collections::BTreeSet;

/// The commands of a block of `console` (lines with a `$`) or `sh`. A backslash continues a line.
fn commands(block: &Block) -> Vec<String> {
    let text = block.text.replace("\\\n", " ");
    let line = |line: &str| match block.language.as_str() {
        "console" => line.strip_prefix("$ ").map(str::to_string),
        "sh" => Some(line.to_string()).filter(|l| !l.trim().is_empty() && !l.trim_start().starts_with('#')),
        _ => None,
    };
    text.lines().filter_map(line).collect()
}

/// The words of a command up to a comment, a pipe or a redirection, without variables that are set before it.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (vec![], None::<String>, None);
    for c in command.chars().chain([' ']) {
        match (c, quote) {
            (c, Some(q)) if c == q => quote = None,
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            ('#' | '|' | '>' | ';', None) if word.is_none() => break,
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    let is_assignment = |word: &String| {
        word.split_once('=').is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    };
    words.into_iter().skip_while(is_assignment).collect()
}

/// What is wrong with a command, as far as it can be told without running it.
fn fault(words: &[String]) -> Option<String> {
    let file = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    let after = |flag: &str| words.windows(2).find(|pair| pair[0] == flag).map(|pair| pair[1].as_str());
    match words.first()?.as_str() {
        "kdc" => kdc::cli::command().try_get_matches_from(words).err().filter(clap_refuses).map(|e| e.to_string()),
        "make" => {
            let targets = words[1..].iter().filter(|word| !word.contains('='));
            let makefile = file("Makefile");
            let unknown = |target: &&String| !makefile.lines().any(|l| l.starts_with(&format!("{target}:")));
            targets.clone().find(unknown).map(|target| format!("the Makefile has no target {target}"))
        }
        "cargo" => {
            let manifest = file("Cargo.toml");
            let bench = after("--bench").filter(|name| !manifest.contains(&format!("name = \"{name}\"")));
            let test = after("--test").filter(|name| !root().join("tests").join(name).join("main.rs").is_file());
            let example = after("--example").filter(|name| !root().join(format!("examples/{name}.rs")).is_file());
            bench.or(test).or(example).map(|name| format!("Cargo.toml has no {name}"))
        }
        _ => None,
    }
}

/// Help and versions come as errors too.
fn clap_refuses(error: &clap::Error) -> bool {
    error.exit_code() != 0
}

/// All flags that kdc has, of one verb or of any.
fn flags(verb: Option<&str>) -> BTreeSet<String> {
    let command = kdc::cli::command();
    let verbs = command.get_subcommands().filter(|c| verb.is_none_or(|verb| c.get_name() == verb));
    let long = verbs.flat_map(|c| c.get_arguments().filter_map(|a| Some(format!("--{}", a.get_long()?))));
    long.chain(["--help".into(), "--version".into()]).collect()
}

/// Flags of other programs that pages name.
const OTHERS: [&str; 17] = [
    "--all",
    "--bench",
    "--check",
    "--example",
    "--features",
    "--ignored",
    "--input",
    "--locked",
    "--only",
    "--path",
    "--release",
    "--runs",
    "--seed",
    "--stored",
    "--test",
    "--warmup",
    "--workspace",
];

/// What is wrong with inline code: it may be part of a command only.
fn span_fault(span: &str) -> Option<String> {
    let words = words(span);
    let first = words.first()?;
    if first == "kdc" {
        let verb = words.get(1).filter(|word| !word.starts_with('-'))?;
        let command = kdc::cli::command();
        if !command.get_subcommands().any(|c| c.get_name() == verb) {
            return Some(format!("there is no kdc {verb}"));
        }
        let known = flags(Some(verb));
        let unknown = |word: &&String| word.starts_with("--") && !known.contains(word.split('=').next().unwrap());
        return words.iter().find(unknown).map(|flag| format!("kdc {verb} has no {flag}"));
    }
    if first.starts_with("--") {
        let flag = first.split('=').next().unwrap();
        let known = flags(None).contains(flag) || OTHERS.contains(&flag);
        return (!known).then(|| format!("kdc has no {flag}"));
    }
    if ["make", "cargo"].contains(&first.as_str()) { fault(&words) } else { None }
}

fn at(page: &Page, line: usize, what: &str, command: &str) -> String {
    format!("{}:{line}: {command}\n    {}", page.path.display(), what.trim_end().replace('\n', "\n    "))
}

#[test]
fn commands_are_understood() {
    let mut faults = vec![];
    for page in pages::all() {
        for block in page.blocks.iter().filter(|block| !block.mark.starts_with("not checked")) {
            for command in commands(block) {
                let fault = fault(&words(&command));
                faults.extend(fault.map(|what| at(&page, block.line, &what, &command)));
            }
        }
        for (span, line) in &page.spans {
            faults.extend(span_fault(span).map(|what| at(&page, *line, &what, span)));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
#[ignore = "runs kdc for some minutes; make test-all does it"]
fn commands_that_are_marked_run() {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_kdc"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap_or_default());
    let cache = tempfile::tempdir().unwrap();
    let mut ran = 0;
    for page in pages::all() {
        // A page's commands may go on from each other.
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(root().join("models"), folder.path().join("models")).unwrap();
        for block in page.blocks.iter().filter(|block| block.mark == "run") {
            for command in commands(block) {
                println!("{}:{}: {command}", page.path.display(), block.line);
                let mut bash = std::process::Command::new("bash");
                bash.args(["-ec", &command]).current_dir(folder.path());
                let run = bash.env("PATH", &path).env("XDG_CACHE_HOME", cache.path()).output().unwrap();
                let said = String::from_utf8_lossy(&run.stderr);
                assert!(run.status.success(), "{}", at(&page, block.line, &said, &command));
                ran += 1;
            }
        }
    }
    assert!(ran > 0, "no command is marked");
}

#[test]
fn faults_are_found() {
    let of = |command: &str| fault(&words(command));
    assert_eq!(of("kdc compile teacher.onnx --target host # and so on"), None);
    assert_eq!(of("KDC_BLESS=1 cargo test --release --test book"), None);
    assert_eq!(of("make demo && make test").as_deref(), Some("the Makefile has no target &&"));
    for wrong in ["kdc compile", "kdc compil x", "kdc eval x --epochs 3", "make tea", "cargo test --test tea"] {
        assert!(of(wrong).is_some(), "{wrong}");
    }
    assert_eq!(span_fault("kdc distill --recipe"), None);
    assert_eq!(span_fault("--max-macs 5M"), None);
    assert!(span_fault("--max-cats").is_some() && span_fault("kdc eval --epochs").is_some());
    assert_eq!(words("a 'b c' \"d\" | e"), ["a", "b c", "d"]);
}
