//! What file names and columns say about samples: fields by a pattern, and rules over fields.

use serde::Deserialize;
use std::cmp::Ordering;

/// A pattern for file names without their extension, such as `{class}_{speaker}_{take}`. A field is at least one
/// character and ends where the text after it first appears; the last one takes the rest. With a `/` in it the pattern
/// is for the path below the data folder.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern {
    text: String,
    /// The text before the first field.
    head: String,
    /// The name of each field, and the text after it.
    fields: Vec<(String, String)>,
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Pattern, String> {
        let fail = |what: &str| Err(format!("\"{text}\" is no pattern: {what}, as in {{class}}_{{speaker}}_{{take}}"));
        let mut parts = text.split('{');
        let head = parts.next().unwrap_or_default().to_string();
        let mut fields: Vec<(String, String)> = vec![];
        for part in parts {
            let Some((name, after)) = part.split_once('}') else { return fail("a { has no }") };
            if name.is_empty() || fields.iter().any(|(other, _)| other == name) {
                return fail("every field has a name of its own");
            }
            if fields.last().is_some_and(|(_, between)| between.is_empty()) {
                return fail("there is text between two fields");
            }
            fields.push((name.into(), after.into()));
        }
        if fields.is_empty() {
            return fail("fields stand in braces");
        }
        Ok(Pattern { text, head, fields })
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Pattern {
    /// Whether it is for paths rather than file names.
    pub(super) fn is_for_paths(&self) -> bool {
        self.text.contains('/')
    }

    /// The fields of a name, in the pattern's order; `None` where it does not match.
    pub(super) fn fields(&self, name: &str) -> Option<Fields> {
        let mut rest = name.strip_prefix(self.head.as_str())?;
        let mut found = vec![];
        for (index, (field, after)) in self.fields.iter().enumerate() {
            let last = index + 1 == self.fields.len();
            let (value, next) = match last {
                true => (rest.strip_suffix(after.as_str())?, ""),
                false => rest.split_once(after.as_str())?,
            };
            if value.is_empty() {
                return None;
            }
            found.push((field.clone(), value.to_string()));
            rest = next;
        }
        Some(Fields(found))
    }
}

/// Named values of one sample.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

/// One comparison, such as `take < 5` or `fold == test`: by size where both sides are numbers, else as text.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Rule {
    /// The field of a name, or the column of a table.
    pub field: String,
    comparison: Comparison,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    AtMost,
    More,
    AtLeast,
    Equal,
    Other,
}

impl TryFrom<String> for Rule {
    type Error = String;

    fn try_from(text: String) -> Result<Rule, String> {
        use Comparison::*;
        // Two characters first: `<` is the beginning of `<=`.
        let signs = [("<=", AtMost), (">=", AtLeast), ("==", Equal), ("!=", Other), ("<", Less), (">", More)];
        let found = signs.iter().find_map(|(sign, comparison)| Some((text.split_once(sign)?, *comparison)));
        let Some(((field, value), comparison)) = found else {
            return Err(format!("\"{text}\" is no rule: write FIELD < VALUE, or one of <= > >= == !="));
        };
        let (field, value) = (field.trim(), value.trim().trim_matches(['\'', '"']));
        if field.is_empty() || value.is_empty() {
            return Err(format!("\"{text}\" is no rule: one side of the comparison is empty"));
        }
        Ok(Rule { field: field.into(), comparison, value: value.into() })
    }
}

impl Rule {
    /// Whether a value of the field obeys.
    pub(super) fn holds(&self, value: &str) -> bool {
        let (value, bound) = (value.trim(), self.value.as_str());
        // Identifiers of 64 bits do not fit into f64.
        let order = match (value.parse::<i128>(), bound.parse::<i128>(), value.parse::<f64>(), bound.parse::<f64>()) {
            (Ok(a), Ok(b), _, _) => Some(a.cmp(&b)),
            (_, _, Ok(a), Ok(b)) => a.partial_cmp(&b),
            _ => Some(value.cmp(bound)),
        };
        match self.comparison {
            Comparison::Less => order == Some(Ordering::Less),
            Comparison::AtMost => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Comparison::More => order == Some(Ordering::Greater),
            Comparison::AtLeast => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            Comparison::Equal => order == Some(Ordering::Equal),
            Comparison::Other => order != Some(Ordering::Equal),
        }
    }
}
