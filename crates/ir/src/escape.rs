//! Names and messages from files, fit for a kind of text: one function for each kind.
//!
//! Names come from models, sidecars and paths, and may hold anything: line breaks that forge lines, control characters
//! that move a terminal's cursor, marks that reverse the order of what follows, the end of a comment or of a string.
//! Each writer escapes where it writes, so that what hands it a name need not know about it. What is written for machines
//! (ONNX, JSON, strings of generated code) keeps the whole name.

use std::borrow::Cow;

/// Characters of a name that people are shown; what is longer is cut in the middle.
const SHOWN: usize = 160;

/// On one line, for a terminal or a table: control and format characters, line breaks and unassigned code points as
/// Rust writes them (`\n`, `\u{202e}`). Quotes and backslashes stay.
pub fn line(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut escaped = text.escape_debug();
    while let Some(c) = escaped.next() {
        match c {
            '\\' => match escaped.next() {
                Some(plain @ ('\\' | '\'' | '"')) => out.push(plain),
                other => out.extend(['\\'].into_iter().chain(other)),
            },
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// A message that may have several lines: each as by [`line()`], those after the first set off so that none can pass for a
/// line of kdc's own.
pub fn message(text: &str) -> String {
    text.trim_end().lines().map(line).collect::<Vec<_>>().join("\n  | ")
}

/// A finished text of many lines: what is between its line breaks as by [`line()`].
pub fn block(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.split('\n').map(line).collect::<Vec<_>>().join("\n"))
}

/// A name as people are shown it: [`line()`], cut in the middle where it is very long.
pub fn shown(name: &str) -> Cow<'_, str> {
    let count = if name.len() > SHOWN { name.chars().count() } else { 0 };
    if count <= SHOWN {
        return line(name);
    }
    let cut = |skip: usize, take: usize| name.chars().skip(skip).take(take).collect::<String>();
    let ends = format!("{}…{}", cut(0, SHOWN / 2), cut(count - SHOWN / 2, SHOWN / 2));
    Cow::Owned(line(&ends).into_owned())
}

/// In a comment of a TOML file, from a `#` on.
pub fn toml_comment(name: &str) -> String {
    shown(name).into_owned()
}

/// Between backticks, in a doc comment of Rust or in Markdown.
pub fn code_span(name: &str) -> String {
    shown(name).replace('`', "\\u{60}")
}

/// In a comment of C, between `/*` and `*/`.
pub fn c_comment(name: &str) -> String {
    shown(name).replace("*/", "*\\u{2f}").replace("/*", "/\\u{2a}")
}

/// The whole name as a string of Rust.
pub fn rust_string(name: &str) -> String {
    format!("\"{}\"", name.escape_default())
}

/// The whole name as a string of JSON, in ASCII.
pub fn json_string(name: &str) -> String {
    json(&serde_json::Value::from(name).to_string())
}

/// A JSON text, in which all but ASCII stands in strings, with that escaped where [`line()`] would escape it.
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\u{7f}' || (!c.is_ascii() && line(c.encode_utf8(&mut [0; 4])).starts_with('\\')) {
            let mut units = [0; 2];
            out.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
    }
    out
}

/// In the text of a picture; its writer escapes the characters of XML itself, and knows nothing of those that XML
/// forbids.
pub fn svg(name: &str) -> String {
    shown(name).into_owned()
}

/// Characters of an identifier, less a prefix.
const IDENTIFIER: usize = 48;

/// A name in lower case as an identifier of Rust and C and the name of a package: ASCII letters, digits and `_`, a letter
/// first, no word that either language keeps for itself. Names of other scripts become the hash of their letters.
pub fn identifier(name: &str) -> String {
    let mut made = String::new();
    for c in name.chars().map(|c| c.to_ascii_lowercase()) {
        match c {
            'a'..='z' | '0'..='9' => made.push(c),
            _ if made.ends_with('_') || made.is_empty() => {}
            _ => made.push('_'),
        }
    }
    let made = made.trim_end_matches('_');
    let lost = !name.is_ascii() || made.is_empty() || made.len() > IDENTIFIER;
    let mut made: String = made.chars().take(if lost { IDENTIFIER - 9 } else { IDENTIFIER }).collect();
    if lost {
        let hash = &crate::files::hash(name.as_bytes())[..8];
        made = if made.is_empty() { hash.to_string() } else { format!("{made}_{hash}") };
    }
    if !made.starts_with(|c: char| c.is_ascii_lowercase()) || RESERVED.contains(&made.as_str()) {
        made = format!("student_{made}");
    }
    made
}

/// Words of Rust and C, crates that come with Rust, and names that cargo or Windows refuse.
#[rustfmt::skip]
const RESERVED: [&str; 93] = [
    "abstract", "alloc", "as", "async", "auto", "aux", "await", "become", "bool", "box", "break", "build", "case",
    "char", "com1", "con", "const", "continue", "core", "crate", "default", "deps", "do", "double", "dyn", "else", "enum",
    "examples", "extern", "false", "ffi", "final", "float", "fn", "for", "gen", "goto", "if", "impl", "in", "incremental",
    "inline", "int", "kdc_kernels", "let", "long", "loop", "lpt1", "macro", "main", "match", "mod", "move", "mut", "nul",
    "override", "panic", "priv", "prn", "proc_macro", "pub", "ref", "register", "restrict", "return", "self", "short",
    "signed", "sizeof", "static", "std", "struct", "student_model", "super", "switch", "test", "tests", "trait", "true",
    "try", "type", "typedef", "typeof", "union", "unsafe", "unsized", "use", "virtual", "void", "volatile", "weights",
    "where", "while",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::nasty;

    fn is_plain(text: &str) -> bool {
        text.chars().all(|c| !c.is_control() && !"\u{202e}\u{2066}\u{2069}\u{200b}\u{feff}\u{2028}".contains(c))
    }

    #[test]
    fn what_people_are_shown_is_one_line_without_marks() {
        for name in nasty() {
            for made in [line(&name).into_owned(), code_span(&name), c_comment(&name), toml_comment(&name), svg(&name)]
            {
                assert!(is_plain(&made), "{name:?} → {made:?}");
            }
            assert!(shown(&name).chars().count() <= 8 * SHOWN && !code_span(&name).contains('`'));
            assert!(!c_comment(&name).contains("*/") && !c_comment(&name).contains("/*"), "{name:?}");
            assert_eq!(serde_json::from_str::<String>(&json_string(&name)).unwrap(), name);
            assert!(is_plain(&json_string(&name)), "{name:?}");
        }
        assert_eq!(line("a\n'\"\\é\u{202e}e\u{301}"), "a\\n'\"\\é\\u{202e}e\u{301}");
        assert_eq!(message("a\nerror: b\n"), "a\n  | error: b");
        assert_eq!(block("a\tb\n\u{1b}c\n"), "a\\tb\n\\u{1b}c\n");
    }

    #[test]
    fn identifiers_are_words_of_no_language_and_differ_where_names_do() {
        let mut seen = std::collections::BTreeMap::new();
        for name in nasty() {
            let made = identifier(&name);
            assert!(
                made.starts_with(|c: char| c.is_ascii_lowercase()) && made.len() <= IDENTIFIER + 8,
                "{name:?} → {made}"
            );
            assert!(made.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{made}");
            assert!(!RESERVED.contains(&made.as_str()), "{made}");
            if !name.is_ascii() || name.len() > 100 {
                assert_eq!(seen.insert(made.clone(), name.clone()), None, "{made}");
            }
        }
        assert_eq!(
            ["teacher", "My Net-2", "3d", "fn"].map(identifier),
            ["teacher", "my_net_2", "student_3d", "student_fn"]
        );
        assert!(RESERVED.is_sorted());
    }
}
