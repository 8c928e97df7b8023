//! What tests of several crates share.

/// Says that a check is left out for want of a tool, and why. Where `KDC_REQUIRE=all`, which says that every tool is there,
/// that is a failure: a check that quietly stopped running is none.
///
/// # Panics
/// If the environment says `KDC_REQUIRE=all`.
pub fn skipped(why: impl std::fmt::Display) {
    let all = std::env::var("KDC_REQUIRE").is_ok_and(|what| what == "all");
    assert!(!all, "left out, and KDC_REQUIRE=all: {why}");
    eprintln!("skipped: {why}");
}

/// A name of each class that has broken a writer.
pub fn nasty() -> Vec<String> {
    let mut names: Vec<String> = [
        "сonv0",
        "/layers//conv0",
        "é",
        "e\u{301}",
        "مرحبا",
        "#3",
        ".1",
        "..",
        ".",
        "a b",
        "a\tb",
        "it's",
        "\"",
        "\\",
        "a\\",
        "a\nb",
        "a\r\nb",
        "a\0b",
        "\u{1b}[31mred",
        "\u{202e}reversed",
        "\u{2066}x\u{2069}",
        "\u{200b}",
        "\u{feff}x",
        "\u{2028}",
        "\u{7f}",
        "\u{85}",
        "fn",
        "self",
        "type",
        "crate",
        "int",
        "*/",
        "/*",
        "/**/",
        "//",
        "\"##",
        "r#\"",
        "`",
        "``` x",
        "{}",
        "{0}",
        "%s",
        "$x",
        "<b>&amp;",
        "]]>",
        "--",
        "'''",
        "\"\"\"",
        "?\u{3f}/",
        "true",
        "false",
        "inf",
        "information",
        "truely",
        "i\"x\"",
        "graph",
        "version",
        "external",
        "variable",
        "batch",
        "n0_",
        "N",
        "-1",
        "1",
        "1e5",
        "a;b",
        "a=b",
        "a,b",
        "(a)",
        "[a]",
        "a:b",
        "../../etc/passwd",
        "C:\\x",
        "con",
        "error: forged",
        "\u{10ffff}",
        "\u{e000}",
        "😀",
        "x\\u{202e}",
    ]
    .map(String::from)
    .to_vec();
    names.extend(["x".repeat(10_000), "я".repeat(10_000), String::new()]);
    names
}
