//! Rust as tokens, as far as imports need it.

/// Identifiers, `::`, and single characters of punctuation; no comments, no literals, no attributes of tests. What stands
/// under `#[cfg(test)]` at the end of a file is left out.
pub fn tokens(text: &str) -> Vec<String> {
    let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let chars: Vec<char> = text.chars().collect();
    let (mut at, mut found) = (0, vec![]);
    let is = |at: usize, what: &str| what.chars().enumerate().all(|(i, c)| chars.get(at + i) == Some(&c));
    while let Some(&c) = chars.get(at) {
        if is(at, "//") {
            while chars.get(at).is_some_and(|&c| c != '\n') {
                at += 1;
            }
        } else if is(at, "/*") {
            while at < chars.len() && !is(at, "*/") {
                at += 1;
            }
            at += 2;
        } else if let Some(end) = raw_string(&chars, at) {
            at = end;
        } else if c == '"' {
            at += 1;
            while chars.get(at).is_some_and(|&c| c != '"') {
                at += 1 + usize::from(chars[at] == '\\');
            }
            at += 1;
        } else if c == '\'' {
            // A character, or a lifetime.
            let escaped = chars.get(at + 1) == Some(&'\\');
            match (escaped, chars.get(at + 2)) {
                (true, _) => {
                    at += 3;
                    while chars.get(at).is_some_and(|&c| c != '\'') {
                        at += 1;
                    }
                    at += 1;
                }
                (false, Some('\'')) => at += 3,
                _ => at += 1,
            }
        } else if c.is_alphanumeric() || c == '_' {
            let start = at;
            while chars.get(at).is_some_and(|&c| c.is_alphanumeric() || c == '_') {
                at += 1;
            }
            found.push(chars[start..at].iter().collect());
        } else if is(at, "::") {
            found.push("::".into());
            at += 2;
        } else {
            if !c.is_whitespace() {
                found.push(c.into());
            }
            at += 1;
        }
    }
    found
}

/// The end of a raw string that begins here.
fn raw_string(chars: &[char], at: usize) -> Option<usize> {
    let mut end = at + usize::from(chars.get(at) == Some(&'b'));
    let part_of_a_name = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    if part_of_a_name || chars.get(end) != Some(&'r') {
        return None;
    }
    end += 1;
    let marks = chars[end..].iter().take_while(|c| **c == '#').count();
    end += marks;
    if chars.get(end) != Some(&'"') {
        return None;
    }
    loop {
        end += 1;
        let closes = *chars.get(end)? == '"' && (1..=marks).all(|i| chars.get(end + i) == Some(&'#'));
        if closes {
            return Some(end + marks + 1);
        }
    }
}

/// The paths of a `use` tree, each with the name it is known by; `*` for all. `tokens` begin behind the word `use`.
pub fn used(tokens: &[String]) -> Vec<(Vec<String>, String)> {
    let mut found = vec![];
    tree(tokens, &mut 0, &[], &mut found);
    found
}

fn tree(tokens: &[String], at: &mut usize, before: &[String], found: &mut Vec<(Vec<String>, String)>) {
    let mut path = before.to_vec();
    while let Some(token) = tokens.get(*at) {
        match token.as_str() {
            ";" | "," | "}" => break,
            "::" => *at += 1,
            "{" => {
                *at += 1;
                while tokens.get(*at).is_some_and(|t| t != "}" && t != ";") {
                    tree(tokens, at, &path, found);
                    *at += usize::from(tokens.get(*at).is_some_and(|t| t == ","));
                }
                *at += 1;
                return;
            }
            "as" => {
                found.push((path, tokens.get(*at + 1).cloned().unwrap_or_default()));
                *at += 2;
                return;
            }
            name => {
                path.push(name.into());
                *at += 1;
            }
        }
    }
    if path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    if let Some(last) = path.last().cloned() {
        found.push((path, last));
    }
}

#[test]
fn what_is_no_code_is_no_token() {
    let text = "a::b(\"c \\\" d\", 'e', '\\n', r#\"f \" g\"#) // h\n/* i */ &'j k\n#[cfg(test)]\nmod tests { l }";
    assert_eq!(tokens(text).join(" "), "a :: b ( , , , ) & j k");
    let tree = used(&tokens("super::{self as up, a::{B, C as D}, e::*, f::{self}};"));
    let shown: Vec<String> = tree.iter().map(|(path, name)| format!("{} {name}", path.join("."))).collect();
    assert_eq!(shown, ["super.self up", "super.a.B B", "super.a.C D", "super.e.* *", "super.f f"]);
}
